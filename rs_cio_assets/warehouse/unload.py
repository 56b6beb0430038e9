"""Read rows by UNLOAD: Redshift writes Parquet and a manifest to S3, and nothing of it is used before every count agrees.

Each reading has a prefix of its own, so that the files of an attempt that died are never taken for those of another. It is
removed in the end; what a dead process leaves goes with the housekeeping and the bucket's expiry rule.
Source: Redshift's UNLOAD (r_UNLOAD, read 2026-11-26): MANIFEST VERBOSE, MAXFILESIZE in steps of 32 MB for Parquet, SSE-S3 unless
a KMS key is named.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rs_cio_assets.contract.models import ColumnType, Feed
from rs_cio_assets.errors import MismatchError, RsCioError, WarehouseRefused
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.exchange import READS, Exchange
from rs_cio_assets.warehouse.staged_days import ROWS_PER_GROUP, StagedDays, staged_schema

_AGAIN = "run this day again; if it repeats, look at what else writes to or removes from REDSHIFT_UNLOAD_TO"
_DAY = "day_of_row"
_WHOLE_DIGITS = 28  # before the point of a staged decimal


@dataclass(frozen=True)
class UnloadedFile:
    """One Parquet file of the manifest, by its key in the exchange's store."""

    key: str
    rows: int
    size_bytes: int


def unload_rows(
    session: Session,
    feed: Feed,
    days: Sequence[str],
    staged: StagedDays,
    on_progress: Callable[[int], None] | None,
) -> None:
    """Read the rows of *days* (contiguous, ISO) into *staged* by UNLOAD, in the session's transaction, which it ends.

    Guarantees: the rows are those that the statement, the manifest and each file's own footer count, or an error says which
    disagree. Needs the session's exchange. Memory holds a row group of the file that is read and what waits in *staged*, the disk
    one file of MAXFILESIZE.
    Raises: MismatchError, WarehouseRefused, WarehouseUnavailable, StoreRefused, StoreUnavailable.
    """
    exchange = session.exchange
    assert exchange is not None  # noqa: S101 - the caller chose UNLOAD because there is one
    place = f"{READS}{feed.name}/{days[0]}/{uuid4().hex}/"
    try:
        session.run(unload_statement(_select(feed, days), exchange, place))
        ((unloaded,),) = session.fetch("SELECT pg_last_unload_count()")
        session.commit()
        count = 0
        with tempfile.TemporaryDirectory(prefix="rs-cio-unload-") as scratch:
            for file in read_manifest(exchange, place, int(unloaded)):
                path = exchange.store.fetch(file.key, Path(scratch))
                _stage_file(feed, days, file, path, staged)
                path.unlink()
                count += file.rows
                if on_progress:
                    on_progress(count)
            staged.finish()
    finally:
        with suppress(RsCioError):  # what stays is removed by its age; the error that led here is the one to tell
            exchange.store.delete(exchange.store.list(place))


def unload_statement(select: str, exchange: Exchange, place: str) -> str:
    """UNLOAD of *select* to *place* (ends in `/`) in the exchange. *select* holds quoted names and literals of our own only."""
    query = select.replace("\\", "\\\\")  # a backslash escapes within the query's literal
    key = f" KMS_KEY_ID {sql.literal(exchange.kms_key_id)} ENCRYPTED" if exchange.kms_key_id else ""
    return (
        f"UNLOAD ({sql.literal(query)}) TO {sql.literal(f'{exchange.url}/{place}')} {exchange.iam_role} "
        f"FORMAT AS PARQUET MANIFEST VERBOSE MAXFILESIZE {exchange.file_mb} MB{key}"
    )


def read_manifest(exchange: Exchange, place: str, unloaded: int) -> list[UnloadedFile]:
    """The files of an UNLOAD of *unloaded* rows, once the manifest, the files that are there and the statement's count agree.

    Raises: MismatchError that names what disagrees; StoreRefused, StoreUnavailable.
    """
    data = exchange.store.get(f"{place}manifest")
    if data is None and not unloaded:
        return []  # with nothing to write some versions write no manifest
    if data is None:
        raise MismatchError("UNLOAD left no manifest", next_step=_AGAIN)
    try:
        document = json.loads(data)
        files = [
            UnloadedFile(
                entry["url"].removeprefix(f"{exchange.url}/"), entry["meta"]["record_count"], entry["meta"]["content_length"]
            )
            for entry in document["entries"]
        ]
        promised = int(document["meta"]["record_count"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise MismatchError("the manifest of UNLOAD is cut off or is none", next_step=_AGAIN) from None
    there = {found.key: found.size_bytes for found in exchange.store.objects(place) if found.key != f"{place}manifest"}
    named = {file.key: file.size_bytes for file in files}
    problems = [
        f"{len(keys):,} {what}"
        for what, keys in (
            ("files of the manifest are missing", named.keys() - there.keys()),
            ("files are not in the manifest", there.keys() - named.keys()),
            ("files have another size than the manifest says", {k for k in named.keys() & there.keys() if named[k] != there[k]}),
        )
        if keys
    ]
    counted = sum(file.rows for file in files)
    if not counted == promised == unloaded:
        problems.append(
            f"the statement counts {unloaded:,} rows, the manifest {promised:,}, and the files named in it {counted:,} together"
        )
    if problems:
        raise MismatchError(f"what UNLOAD wrote does not add up: {'; '.join(problems)}", next_step=_AGAIN)
    return files


def _select(feed: Feed, days: Sequence[str]) -> str:
    start, end = (sql.timestamp_literal(moment) for moment in sql.window_of(days))
    names = ", ".join(sql.quoted(name) for name in feed.columns)
    day = f"{sql.day_expression(feed)} AS {_DAY}, " if len(days) > 1 else ""
    return f"SELECT {day}{names} FROM {sql.view_name(feed)} WHERE {sql.slice_condition(feed, start, end)}"  # noqa: S608


def _stage_file(feed: Feed, days: Sequence[str], file: UnloadedFile, path: Path, staged: StagedDays) -> None:
    try:
        parquet = pq.ParquetFile(path, coerce_int96_timestamp_unit="us")
        rows = parquet.metadata.num_rows
        if rows != file.rows:
            raise MismatchError(
                f"a file of UNLOAD holds {rows:,} rows and the manifest says {file.rows:,}", next_step=_AGAIN, feed=feed.name
            )
        for batch in parquet.iter_batches(ROWS_PER_GROUP):
            for day, part in _by_day(batch, days):
                staged.write(day, _as_staged(feed, part))
    except pa.ArrowException:
        raise MismatchError("a file of UNLOAD is no whole Parquet file", next_step=_AGAIN, feed=feed.name) from None


def _by_day(batch: pa.RecordBatch, days: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    if len(days) == 1:
        yield days[0], batch
        return
    column = batch[_DAY]
    for day in column.unique().to_pylist():
        assert isinstance(day, date)  # noqa: S101 - the statement casts it
        yield day.isoformat(), batch.filter(pc.call_function("equal", [column, pa.scalar(day, column.type)]))


def _as_staged(feed: Feed, batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with the contract's columns in their staged types. Times without a zone are UTC: the session's zone is."""
    schema = staged_schema(feed)
    return pa.record_batch([_cast(feed, field, batch) for field in schema], schema=schema)


def _cast(feed: Feed, field: pa.Field, batch: pa.RecordBatch) -> pa.Array:
    try:
        column = batch[field.name]
        if pa.types.is_decimal(column.type) and column.type.precision - column.type.scale > _WHOLE_DIGITS:
            column = column.cast(pa.decimal256(76, field.type.scale))  # without a step between, pyarrow 26 wraps around unsaid
        return column.cast(field.type)
    except (pa.ArrowException, KeyError) as error:
        kind = feed.columns[field.name].type
        limits = f"at most {_WHOLE_DIGITS} digits before and 10 after the point" if kind is ColumnType.DECIMAL else ""
        missing = (
            "is not in what UNLOAD wrote" if isinstance(error, KeyError) else f"holds a value that does not fit {kind.value}"
        )
        raise WarehouseRefused(
            f"column {field.name} {missing} {limits}".rstrip(),
            next_step=f"cast the column in the SQL of {feed.view}, for example ROUND({field.name}, 2)::NUMERIC(12,2)",
            feed=feed.name,
        ) from None
