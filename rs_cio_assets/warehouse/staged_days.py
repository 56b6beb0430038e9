"""Rows of days as staged Parquet files: the contract's columns and types, whatever way they were read."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.contract.models import Column, ColumnType, Feed
from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.store import StagedFile, Store
from rs_cio_assets.store.manifest import STAGED, staged_prefix
from rs_cio_assets.warehouse.connection import Row

ROWS_PER_FILE = 500_000
ROWS_PER_GROUP = 16_384
GROUPS_WAITING = 16  # of rows of several days that are read at once: what waits to be written stays small, whatever the days

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


@dataclass
class _OpenFile:
    path: Path
    writer: pq.ParquetWriter
    rows: int = 0


class StagedDays:
    """Writes rows to one Parquet file of each day at a time and moves each whole file into the store."""

    def __init__(self, feed: Feed, store: Store, scratch: Path, *, area: str = STAGED) -> None:
        """*area* is the first part of the files' keys."""
        self._area = area
        self.files: dict[str, list[StagedFile]] = {}
        self._feed = feed
        self._schema = staged_schema(feed)
        self._store = store
        self._scratch = scratch
        self._read_id = uuid4().hex[:12]
        self._open: dict[str, _OpenFile] = {}
        self._waiting: defaultdict[str, list[pa.RecordBatch]] = defaultdict(list)  # by day; not yet a row group
        self._waiting_rows: defaultdict[str, int] = defaultdict(int)
        self._day = ""
        self._pending: list[Row] = []  # rows of self._day that are not yet a batch

    def rows(self, day: str) -> int:
        """Rows in the store so far."""
        return sum(file.rows for file in self.files.get(day, ()))

    def add(self, rows: Sequence[Row]) -> None:
        """Write rows of (day, the contract's columns in their order), all of a day before those of the next."""
        for day, group in groupby(rows, key=lambda row: _iso(row[0])):
            if day != self._day:
                self.finish()
                self._day = day
            self._pending.extend(group)
            if len(self._pending) >= ROWS_PER_GROUP:
                self._write_pending()

    def write(self, day: str, batch: pa.RecordBatch) -> None:
        """Write rows of a day, with the columns of `staged_schema`; days may come in any order."""
        self._waiting[day].append(batch)
        self._waiting_rows[day] += batch.num_rows
        if self._waiting_rows[day] >= ROWS_PER_GROUP:
            self._write_group(day)
        elif sum(self._waiting_rows.values()) >= GROUPS_WAITING * ROWS_PER_GROUP:
            self._write_group(max(self._waiting_rows, key=self._waiting_rows.__getitem__))

    def finish(self) -> None:
        """Move the open files, if any, into the store."""
        self._write_pending()
        for day in list(self._waiting):
            self._write_group(day)
        for day in list(self._open):
            self._close(day)

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
        columns = list(zip(*self._pending, strict=True))[1:]
        arrays = [
            _to_arrow(self._feed, name, column, values)
            for (name, column), values in zip(self._feed.columns.items(), columns, strict=True)
        ]
        self._pending.clear()
        self.write(self._day, pa.record_batch(arrays, schema=self._schema))

    def _write_group(self, day: str) -> None:
        batches = self._waiting.pop(day)
        del self._waiting_rows[day]
        file = self._open.get(day)
        if file is None:
            path = self._scratch / f"{day}.parquet"
            file = self._open[day] = _OpenFile(path, pq.ParquetWriter(path, self._schema, compression="snappy"))
        file.writer.write_table(pa.Table.from_batches(batches))
        file.rows += sum(batch.num_rows for batch in batches)
        if file.rows >= ROWS_PER_FILE:
            self._close(day)

    def _close(self, day: str) -> None:
        file = self._open.pop(day)
        file.writer.close()
        number = len(self.files.get(day, ()))
        key = f"{self._area}/{self._feed.name}/{day}/{self._read_id}/part-{number:05d}.parquet"
        size = file.path.stat().st_size
        self._store.put_file(key, file.path)
        self.files.setdefault(day, []).append(StagedFile(key, file.rows, size))
        file.path.unlink()


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
