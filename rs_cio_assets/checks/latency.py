"""How long rows take from what happened to the warehouse and on to Customer.io, measured from staged rows and the ledger.

Only everyday delivery says something about the pipe. Left out and counted: rows that were history when they were delivered, and
those of days that were over before the feed's first delivery (the backfill of its launch). No Dagster here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb

from rs_cio_assets.contract import Contract, Feed
from rs_cio_assets.delivery.classify import TRIGGER_WINDOW, staged_rows
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import compile_expressions, parquet, quoted
from rs_cio_assets.delivery.ledger import first_delivery_day, ledger_files
from rs_cio_assets.store import Manifest, Store, has_staged_files, load_manifest

TO_WAREHOUSE, FROM_WAREHOUSE, WHOLE = "occurred to loaded", "loaded to delivered", "occurred to delivered"
_US = {TO_WAREHOUSE: "loaded_us - occurred_us", FROM_WAREHOUSE: "acked_us - loaded_us", WHOLE: "acked_us - occurred_us"}
_MINUTE_US = 60_000_000
_HISTORY_US = TRIGGER_WINDOW // timedelta(microseconds=1)


@dataclass(frozen=True)
class Leg:
    """Minutes that a part of the way takes."""

    median: float
    p95: float
    maximum: float


@dataclass(frozen=True)
class Hour:
    """Rows of one hour of the day (UTC, by when they happened), and the p95 of each leg in minutes."""

    hour: int
    rows: int
    p95: Mapping[str, float]


@dataclass(frozen=True)
class Latency:
    """What was measured over *rows*; without rows there are no legs. *staged* are all rows of the days that were looked at.

    *history*: rows that were 72 h old or older when they were delivered. *launch*: rows of days before the feed's first delivery,
    and from before its `live_from`. *is_quiet*: the feed has been delivered before, its days were exported, and there is no row
    in them.
    """

    staged: int = 0
    rows: int = 0
    history: int = 0
    launch: int = 0
    legs: Mapping[str, Leg] = field(default_factory=dict)
    hours: Sequence[Hour] = ()
    is_quiet: bool = False


def measure_latency(feed: Feed, contract: Contract, store: Store, now: datetime, days_back: int) -> Latency:
    """The latency of rows of the last *days_back* days and today (UTC days), by the first acknowledgement of each.

    Of a person's row, the first one of the content that was acknowledged last. A row that was loaded anew after its delivery is
    not measured: when it came first is not known. Raises: StoreRefused, StoreUnavailable, MismatchError.
    """
    first_day = first_delivery_day(store, feed.name)
    days = [now.date() - timedelta(days=n) for n in range(days_back, -1, -1)]
    manifests = [m for m in (load_manifest(store, feed.name, day.isoformat()) for day in days) if m is not None]
    staged = sum(manifest.rows for manifest in manifests)
    if first_day is None or not staged:
        return Latency(staged, is_quiet=first_day is not None and bool(manifests))
    with tempfile.TemporaryDirectory(prefix="rs-cio-") as folder, open_database() as database:
        database.execute("CREATE TABLE measured (occurred_us BIGINT, loaded_us BIGINT, acked_us BIGINT, is_launch BOOLEAN)")
        for manifest in manifests:
            if has_staged_files(store, manifest):
                is_launch = date.fromisoformat(manifest.day) < first_day
                _measure_day(database, feed, contract, store, manifest, Path(folder), is_launch=is_launch)
        return _latency(database, staged)


def _measure_day(
    database: duckdb.DuckDBPyConnection,
    feed: Feed,
    contract: Contract,
    store: Store,
    manifest: Manifest,
    folder: Path,
    *,
    is_launch: bool,
) -> None:
    notes = ledger_files(store, feed.name, manifest.day, folder)
    if not notes:
        return
    rows = staged_rows({number: store.fetch(file.key, folder) for number, file in enumerate(manifest.files)})
    database.execute(
        f"""
        INSERT INTO measured
        WITH contents AS (
            SELECT row_key, content_hash, min(acknowledged_at) AS first_at, max(acknowledged_at) AS last_at,
                   arg_min(occurred_at, acknowledged_at) AS occurred_at
            FROM {parquet(notes)} GROUP BY row_key, content_hash
        ), delivered AS (
            SELECT row_key, epoch_us(arg_max(first_at, last_at)) AS acked_us,
                   epoch_us(arg_max(occurred_at, last_at)) AS occurred_us
            FROM contents GROUP BY row_key
        ), staged AS (
            SELECT {compile_expressions(feed, contract, 0).row_key} AS row_key,
                   epoch_us(min({quoted(feed.time_column)})) AS occurred_us, epoch_us(min({quoted(feed.loaded_at)})) AS loaded_us
            FROM {rows} GROUP BY 1
        )
        SELECT s.occurred_us, s.loaded_us, d.acked_us, {is_launch} OR s.occurred_us < {_live_us(feed)}
        FROM staged AS s INNER JOIN delivered AS d USING (row_key, occurred_us) WHERE s.loaded_us <= d.acked_us
        """  # noqa: S608 - names and paths of our own
    )


def _live_us(feed: Feed) -> int:
    """From when on the feed's events may trigger, in microseconds since 1970; what is older is held on purpose."""
    live_from = feed.live_from and (feed.live_from if feed.live_from.tzinfo else feed.live_from.replace(tzinfo=UTC))
    return (live_from - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) if live_from else 0


def _latency(database: duckdb.DuckDBPyConnection, staged: int) -> Latency:
    everyday = f"NOT is_launch AND acked_us - occurred_us < {_HISTORY_US}"
    counted = f"SELECT count(*) FILTER ({everyday}), count(*) FILTER (is_launch), count(*) FROM measured"  # noqa: S608
    rows, launch, every = _row(database, counted)
    history = every - rows - launch
    if not rows:
        return Latency(staged, 0, history, launch)
    names = tuple(_US)
    minutes = {name: f"({us}) / {_MINUTE_US}" for name, us in _US.items()}
    legs = ", ".join(f"median({leg}), quantile_cont({leg}, 0.95), max({leg})" for leg in minutes.values())
    found = _row(database, f"SELECT {legs} FROM measured WHERE {everyday}")  # noqa: S608
    p95s = ", ".join(f"quantile_cont({leg}, 0.95)" for leg in minutes.values())
    hours = database.execute(
        f"SELECT occurred_us // {60 * _MINUTE_US} % 24 AS hour, count(*), {p95s} FROM measured WHERE {everyday} "  # noqa: S608
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return Latency(
        staged,
        rows,
        history,
        launch,
        legs={name: Leg(*found[3 * n : 3 * n + 3]) for n, name in enumerate(names)},
        hours=tuple(Hour(int(hour), count, dict(zip(names, p95, strict=True))) for hour, count, *p95 in hours),
    )


def _row(database: duckdb.DuckDBPyConnection, query: str) -> tuple:
    found = database.execute(query).fetchone()
    assert found is not None  # noqa: S101 - aggregates have a row
    return found
