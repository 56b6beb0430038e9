"""Write the delivery log: files of rows into the tables of `log_schema.py`, each set in one transaction, idempotently.

Rows reach a TEMP table first: by one INSERT with bound values where all fit into it, else by COPY from the exchange on S3 where
there is one, else by several INSERTs. Only when their number is right does one transaction replace what the log held; readers see
the former state until it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import tenacity

from rs_cio_assets.errors import MismatchError, RsCioError, WarehouseConflict, WarehouseForbidden, WarehouseRefused
from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.exchange import LOG, Exchange
from rs_cio_assets.warehouse.log_schema import CHECK_RESULTS, DELIVERIES, REJECTIONS, SCHEMA, LogTable, has_relation

BOUND_VALUES = 32_767  # of one statement: the wire counts them in 16 bits, and the driver with a sign
ATTEMPTS, WAIT_S, LONGEST_WAIT_S = 6, 0.5, 20.0  # of a transaction that another one got in the way of
COPY_WAY, INSERT_WAY = "COPY", "INSERT"
_AS_TEXT = {"TIMESTAMP", "DATE"}  # come as text, and are cast on the way from the TEMP table
_TEXT_TYPE = "VARCHAR(32)"


@dataclass(frozen=True)
class Written:
    """What was written: *rows* of all tables, by COPY or INSERT, in so many *attempts* of the transaction."""

    rows: int
    way: str
    attempts: int


def write_day(
    session: Session, feed: str, day: str, deliveries: Path, rejections: Path, *, sleep: Callable[[float], None] = time.sleep
) -> Written:
    """Replace the log of *day* (ISO) of *feed* by the rows of both files (Parquet, the tables' columns).

    Idempotent and all or nothing. A delivered row that is no longer in the view keeps the identifier and the business key that
    the log has of it.

    Raises: WarehouseRefused (a table or a grant is missing), WarehouseUnavailable, MismatchError, StoreRefused, StoreUnavailable;
    the log is then as it was.
    """

    def replace(staged: Sequence[str | None]) -> None:
        if new := staged[0]:
            session.run(
                f"UPDATE {new} SET identifier = d.identifier, business_key = d.business_key, "  # noqa: S608 - our own names
                f"loaded_at = TO_CHAR(d.loaded_at, 'YYYY-MM-DD HH24:MI:SS.US') FROM {DELIVERIES.full_name} AS d "
                f"WHERE {new}.rows_in_view = 0 AND d.row_key = {new}.row_key AND d.feed = %s AND d.day = CAST(%s AS DATE)",
                (feed, day),
            )
        for table, rows in zip((DELIVERIES, REJECTIONS), staged, strict=True):
            session.run(f"DELETE FROM {table.full_name} WHERE feed = %s AND day = CAST(%s AS DATE)", (feed, day))  # noqa: S608
            if rows:
                session.run(_insert(table, rows))

    return _write(session, {DELIVERIES: deliveries, REJECTIONS: rejections}, replace, sleep)


def write_deliveries(session: Session, deliveries: Path, *, sleep: Callable[[float], None] = time.sleep) -> Written:
    """Add the rows of the file, in place of those of the same feed, day and row key; the rest of the log stays.

    Raises: as `write_day`.
    """
    return _merge(session, DELIVERIES, deliveries, ("feed", "day", "row_key"), sleep)


def write_check_results(session: Session, results: Path, *, sleep: Callable[[float], None] = time.sleep) -> Written:
    """Add evaluations of checks; those that the table has are not doubled. Raises: as `write_day`."""
    return _merge(session, CHECK_RESULTS, results, ("run_id", "asset", "check_name", "evaluated_at"), sleep)


def _merge(session: Session, table: LogTable, path: Path, key: Sequence[str], sleep: Callable[[float], None]) -> Written:
    def replace(staged: Sequence[str | None]) -> None:
        if staged[0] is None:
            return
        same = " AND ".join(f"{table.name}.{name} = {_cast(table, name, f's.{name}')}" for name in key)
        session.run(f"DELETE FROM {table.full_name} USING {staged[0]} AS s WHERE {same}")  # noqa: S608 - our own names
        session.run(_insert(table, staged[0]))

    return _write(session, {table: path}, replace, sleep)


def _write(
    session: Session,
    files: dict[LogTable, Path],
    replace: Callable[[Sequence[str | None]], None],
    sleep: Callable[[float], None],
) -> Written:
    attempts = 0

    def transaction(staged: Sequence[str | None]) -> None:
        nonlocal attempts
        attempts += 1
        replace(staged)
        session.commit()

    session.commit()
    _require_tables(session, files)
    try:
        staged = [_stage(session, table, path) for table, path in files.items()]
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_random_exponential(multiplier=WAIT_S, max=LONGEST_WAIT_S),
            retry=tenacity.retry_if_exception_type(WarehouseConflict),
            sleep=sleep,
            reraise=True,
        )
        retrying(transaction, staged)
    except WarehouseForbidden as error:
        tables = ", ".join(table.full_name for table in files)
        error.next_step = (
            f"GRANT USAGE ON SCHEMA {SCHEMA}, and SELECT, INSERT, DELETE ON {tables}, to {session.settings.user or 'its user'} "
            "(TEMPORARY on the database, and for COPY ASSUMEROLE on REDSHIFT_ROLE, too), or set REDSHIFT_DELIVERY_LOG=false"
        )
        raise
    rows = sum(pq.read_metadata(path).num_rows for path in files.values())
    is_copied = any(_goes_by_copy(session, table, path) for table, path in files.items())
    return Written(rows, COPY_WAY if is_copied else INSERT_WAY, attempts)


def _require_tables(session: Session, tables: dict[LogTable, Path]) -> None:
    missing = [table.full_name for table in tables if not has_relation(session, table.name)]
    if missing:
        raise WarehouseRefused(
            f"Redshift has no {' and no '.join(missing)}",
            next_step="materialize redshift/log (job create_views), or have a DBA run what `rs-cio schema` prints",
        )


def _stage(session: Session, table: LogTable, path: Path) -> str | None:
    """The name of a TEMP table with the rows of *path*, committed and counted; it goes with the session. None for no rows."""
    if not (rows := pq.read_metadata(path).num_rows):
        return None
    name = f"{SCHEMA}_{table.name}_{uuid4().hex[:8]}"  # no other table's: a TEMP one would hide that
    columns = ", ".join(f"{n} {_TEXT_TYPE if kind in _AS_TEXT else kind}" for n, (kind, _) in table.columns.items())
    session.run(f"CREATE TEMP TABLE {name} ({columns}) DISTKEY ({table.dist})")
    if session.exchange and _goes_by_copy(session, table, path):
        _copy(session, name, path, session.exchange)
    else:
        for chunk in _chunks(path, BOUND_VALUES // len(table.columns)):
            marks = ", ".join([f"({', '.join(['%s'] * len(table.columns))})"] * len(chunk))
            session.run(f"INSERT INTO {name} VALUES {marks}", [value for row in chunk for value in row])  # noqa: S608 - bound
    ((found,),) = session.fetch(f"SELECT COUNT(*) FROM {name}")  # noqa: S608 - our own name
    if found != rows:
        raise MismatchError(
            f"Redshift took {found:,} of {rows:,} rows for {table.full_name}",
            next_step="run it again; if it repeats, look at the load in SYS_LOAD_HISTORY",
        )
    session.commit()
    return name


def _goes_by_copy(session: Session, table: LogTable, path: Path) -> bool:
    """True where there is a place on S3, the settings do not say that nothing goes over it, and one INSERT would not do."""
    is_allowed = session.exchange is not None and session.settings.read != "driver"
    return is_allowed and pq.read_metadata(path).num_rows > BOUND_VALUES // len(table.columns)


def _copy(session: Session, table: str, path: Path, exchange: Exchange) -> None:
    """COPY of one Parquet file, which is removed from S3 whatever happens.

    Columns go by their order. Source: Redshift developer guide, "COPY from columnar data formats", read 2026-11-26; not proven on
    a real cluster.
    """
    key = f"{LOG}{uuid4().hex}.parquet"
    try:
        exchange.store.put_file(key, path)
        session.run(f"COPY {table} FROM '{exchange.url}/{key}' {exchange.iam_role} FORMAT AS PARQUET")
    except BaseException:
        with suppress(RsCioError):  # what went wrong first is what counts
            exchange.store.delete([key])
        raise
    exchange.store.delete([key])


def _chunks(path: Path, rows: int) -> Iterator[list[tuple[Any, ...]]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(rows):
            yield list(zip(*batch.to_pydict().values(), strict=True))


def _insert(table: LogTable, staged: str) -> str:
    values = ", ".join(_cast(table, name, name) for name in table.columns)
    return f"INSERT INTO {table.full_name} ({', '.join(table.columns)}) SELECT {values} FROM {staged}"  # noqa: S608 - our own names


def _cast(table: LogTable, name: str, value: str) -> str:
    kind, _ = table.columns[name]
    return f"CAST({value} AS {kind})" if kind in _AS_TEXT else value
