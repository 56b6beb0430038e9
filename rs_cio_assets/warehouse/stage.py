"""Read days of a view into staged Parquet by DECLARE and FETCH, in constant memory.

The driver's own fetchmany buffers the whole result; a cursor on the server does not. Fingerprint and rows are read in one
transaction, from one snapshot: if they disagree, something was lost on the way and nothing is kept.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.contract.models import Column, ColumnType, Feed
from rs_cio_assets.errors import MismatchError, WarehouseRefused
from rs_cio_assets.store import Manifest, StagedFile, Store, save_manifest
from rs_cio_assets.store.manifest import STAGED, staged_prefix
from rs_cio_assets.store.objects import refused_by_disk
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Row, Session
from rs_cio_assets.warehouse.fingerprint import count_rows, read_fingerprints
from rs_cio_assets.warehouse.views import compare_columns, describe_view

ROWS_PER_FILE = 500_000
ROWS_PER_GROUP = 16_384
_CURSOR = "rs_cio_rows"

_ARROW_TYPES = {
    ColumnType.STRING: pa.string(),
    ColumnType.INTEGER: pa.int64(),
    ColumnType.DECIMAL: pa.decimal128(38, 10),
    ColumnType.FLOAT: pa.float64(),
    ColumnType.BOOLEAN: pa.bool_(),
    ColumnType.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    ColumnType.DATE: pa.date32(),
    ColumnType.JSON: pa.string(),
}


def staged_schema(feed: Feed) -> pa.Schema:
    """The Parquet schema of a staged day: the contract's columns in contract order."""
    return pa.schema([(name, _ARROW_TYPES[column.type]) for name, column in feed.columns.items()])


def stage_days(
    session: Session,
    feed: Feed,
    days: Sequence[str],
    store: Store,
    *,
    now: Callable[[], datetime],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Manifest]:
    """Read *days* (contiguous, ISO) of the feed's view into *store*; one manifest per day, also for empty days.

    Guarantees: each manifest counts exactly the rows of its fingerprint, from one snapshot; a day's earlier files stay valid
    until its new manifest stands. *on_progress* gets the rows read so far, now and then. Ends the transaction.

    Raises: WarehouseRefused (columns differ from the contract, a value does not fit its type), WarehouseUnavailable,
    MismatchError (rows read differ from rows counted), StoreRefused, StoreUnavailable.
    """
    difference = compare_columns(feed, describe_view(session, feed))
    if difference.is_blocking:
        raise WarehouseRefused(
            f"{feed.view} does not match the contract: {'; '.join(difference.sentences())}",
            next_step=f"mend the view or the contract, materialize redshift/views/{feed.name}, then run this day again",
            feed=feed.name,
        )
    session.commit()
    read_at = now()
    fingerprints = read_fingerprints(session, feed, days)
    view_rows = count_rows(session, feed) if feed.kind.is_irreversible else None
    with tempfile.TemporaryDirectory(prefix="rs-cio-stage-") as scratch:
        staged = StagedDays(feed, store, Path(scratch))
        try:
            _copy_rows(session, feed, days, staged, on_progress)
        except OSError as error:
            raise refused_by_disk(error, "the scratch folder for staged files") from None
        session.commit()
        for day in days:
            if staged.rows(day) != fingerprints[day].rows:
                staged.discard()
                raise MismatchError(
                    f"{staged.rows(day):,} rows were read and {fingerprints[day].rows:,} were counted in the same snapshot",
                    next_step="run this day again; if it repeats, the connection loses rows",
                    feed=feed.name,
                    day=day,
                )
    manifests = {}
    for day in days:
        manifests[day] = Manifest(
            feed=feed.name,
            day=day,
            view=feed.view,
            fingerprint=fingerprints[day],
            rows=staged.rows(day),
            files=tuple(staged.files.get(day, ())),
            columns=tuple((name, column.type.value) for name, column in feed.columns.items()),
            read_at=read_at,
            extra_columns=difference.extra,
            view_rows=view_rows,
        )
        save_manifest(store, manifests[day])
        staged.remove_superseded(day)
    return manifests


def _copy_rows(
    session: Session,
    feed: Feed,
    days: Sequence[str],
    staged: StagedDays,
    on_progress: Callable[[int], None] | None,
) -> None:
    names = ", ".join(sql.quoted(name) for name in feed.columns)
    start, end = (sql.timestamp_literal(moment) for moment in sql.window_of(days))
    session.run(
        f"DECLARE {_CURSOR} CURSOR FOR SELECT {sql.day_expression(feed)} AS day_of_row, {names} "  # noqa: S608
        f"FROM {sql.view_name(feed)} WHERE {sql.slice_condition(feed, start, end)}" + (" ORDER BY 1" if len(days) > 1 else "")
    )
    count = 0
    while rows := session.fetch(f"FETCH FORWARD {session.fetch_rows} FROM {_CURSOR}"):
        staged.add(rows)
        count += len(rows)
        if on_progress and count % (100 * session.fetch_rows) < session.fetch_rows:
            on_progress(count)
    staged.finish()
    session.run(f"CLOSE {_CURSOR}")


class StagedDays:
    """Writes rows, ordered by day, to one Parquet file at a time and moves each whole file into the store."""

    def __init__(self, feed: Feed, store: Store, scratch: Path, *, area: str = STAGED) -> None:
        """*area* is the first part of the files' keys."""
        self._area = area
        self.files: dict[str, list[StagedFile]] = {}
        self._feed = feed
        self._schema = staged_schema(feed)
        self._store = store
        self._path = scratch / "part.parquet"
        self._read_id = uuid4().hex[:12]
        self._writer: pq.ParquetWriter | None = None
        self._day = ""
        self._rows_in_file = 0
        self._pending: list[Row] = []  # rows of self._day that are not yet a row group

    def rows(self, day: str) -> int:
        """Rows written so far."""
        return sum(file.rows for file in self.files.get(day, ()))

    def add(self, rows: list[Row]) -> None:
        """Write rows of (day, the contract's columns in their order)."""
        for day, group in groupby(rows, key=lambda row: _iso(row[0])):
            if day != self._day or self._rows_in_file >= ROWS_PER_FILE:
                self.finish()
                self._day = day
            self._pending.extend(group)
            if len(self._pending) >= ROWS_PER_GROUP:
                self._write_pending()

    def finish(self) -> None:
        """Move the open file, if any, into the store."""
        self._write_pending()
        if self._writer is None:
            return
        self._writer.close()
        self._writer = None
        files = self.files.setdefault(self._day, [])
        key = f"{self._area}/{self._feed.name}/{self._day}/{self._read_id}/part-{len(files):05d}.parquet"
        size = self._path.stat().st_size
        self._store.put_file(key, self._path)
        self._path.unlink()
        files.append(StagedFile(key, self._rows_in_file, size))
        self._rows_in_file = 0

    def discard(self) -> None:
        """Remove what was written."""
        self._store.delete([file.key for files in self.files.values() for file in files])

    def remove_superseded(self, day: str) -> None:
        """Remove the files of earlier reads."""
        kept = {file.key for file in self.files.get(day, ())}
        stored = self._store.list(staged_prefix(self._feed.name, day))
        self._store.delete([key for key in stored if key.endswith(".parquet") and key not in kept])

    def _write_pending(self) -> None:
        if not self._pending:
            return
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, self._schema, compression="snappy")
        columns = list(zip(*self._pending, strict=True))[1:]
        arrays = [
            _to_arrow(self._feed, name, column, values)
            for (name, column), values in zip(self._feed.columns.items(), columns, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows_in_file += len(self._pending)
        self._pending.clear()


def _iso(day: Any) -> str:
    return day.isoformat() if isinstance(day, date) else str(day)


def _to_arrow(feed: Feed, name: str, column: Column, values: Sequence[Any]) -> pa.Array:
    if column.type is ColumnType.JSON:
        values = [v if v is None or isinstance(v, str) else json.dumps(v) for v in values]
    try:
        return pa.array(values, _ARROW_TYPES[column.type])
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        limits = "at most 28 digits before and 10 after the point" if column.type is ColumnType.DECIMAL else ""
        raise WarehouseRefused(
            f"column {name}: a value does not fit the type {column.type.value} {limits}".rstrip(),
            next_step=f"cast the column in the SQL of {feed.view}, for example ROUND({name}, 2)::NUMERIC(12,2)",
            feed=feed.name,
        ) from None
