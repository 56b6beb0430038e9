"""Rows that the ledger says were delivered, as they were staged: what a check compares with Customer.io. No Dagster here.

Everything is joined on disk by DuckDB and kept as one Parquet file, so that memory stays flat however many rows there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import duckdb
import pyarrow.parquet as pq

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.classify import staged_rows
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import (
    ATTRIBUTES,
    compile_expressions,
    literal,
    parquet,
    person_key,
    quoted,
    with_texts,
)
from rs_cio_assets.delivery.ledger import ledger_files
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.store import Store, load_manifest
from rs_cio_assets.store.manifest import staged_prefix

# Columns beside the contract's, which allows no such names: the day, and how many events of the person were delivered.
DAY, AT_LEAST, AT_MOST = "~day", "~at_least", "~at_most"


@dataclass(frozen=True)
class DeliveredRows:
    """A Parquet file of *count* rows: the contract's columns, DAY (ISO), and of event feeds AT_LEAST and AT_MOST.

    Those two say how many different events of the row's person were delivered in the finished days: AT_LEAST as they are staged
    now; AT_MOST with those that changed since, and with every event that no staged row says the person of. Rows of a person stand
    together in event feeds.
    """

    path: Path
    count: int

    def batches(self, rows: int) -> Iterator[list[dict[str, Any]]]:
        """At most *rows* at a time; times are aware UTC."""
        if self.count:
            with pq.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=rows):
                    yield [{name: _utc(value) for name, value in row.items()} for row in batch.to_pylist()]


def keep_delivered(
    feed: Feed,
    contract: Contract,
    store: Store,
    days: Sequence[str],
    scratch: Path,
    *,
    size: int | None = None,
    order: Literal["random", "newest"] = "random",
) -> DeliveredRows:
    """Those rows of *days* (the last of them today) that Customer.io should hold now; at most *size*, drawn anew by each call.

    That is: acknowledged, staged with the same content, of a person's several the newest version, and of nobody who was merged
    away, deleted or suppressed. Raises: StoreRefused, StoreUnavailable, MismatchError (staged files that cannot be read).
    """
    target = scratch / f"{feed.name}.delivered.parquet"
    with open_database() as database:
        _note_ledger(database, feed, store, days, scratch)
        files = [path for day in days if (path := _keep_staged(database, feed, contract, store, day, scratch)) is not None]
        if not files:
            return DeliveredRows(target, 0)
        database.execute(f"CREATE VIEW staged AS SELECT * FROM {parquet(files)}")  # noqa: S608 - paths of our own
        _find_latest(database)
        database.execute(f"COPY ({_wanted(database, feed, contract, store, max(days), scratch, size, order)}) TO {_text(target)}")
    return DeliveredRows(target, pq.read_metadata(target).num_rows)


def _note_ledger(database: duckdb.DuckDBPyConnection, feed: Feed, store: Store, days: Sequence[str], scratch: Path) -> None:
    """The table notes: the acknowledgements of *days*; of people those too that older days got since (people before events)."""
    noted = set(days)
    if feed.kind is FeedKind.PEOPLE:
        since = min(days).replace("-", "")
        prefix = f"ledger/{feed.name}/"
        segments = (key.removeprefix(prefix).partition("/") for key in store.list(prefix) if key.endswith(".parquet"))
        noted |= {day for day, _, name in segments if name >= since}  # a segment's name begins with when it was written
    database.execute("CREATE TABLE notes (day VARCHAR, row_key VARCHAR, content_hash VARCHAR, acknowledged_at TIMESTAMPTZ)")
    for day in sorted(noted):
        if found := ledger_files(store, feed.name, day, scratch):
            columns = f"{literal(day)}, row_key, content_hash, acknowledged_at"
            database.execute(f"INSERT INTO notes SELECT {columns} FROM {parquet(found)}")  # noqa: S608 - paths of our own
    database.execute("CREATE TABLE reads (day VARCHAR, read_at TIMESTAMPTZ)")


def _keep_staged(
    database: duckdb.DuckDBPyConnection, feed: Feed, contract: Contract, store: Store, day: str, scratch: Path
) -> Path | None:
    """The acknowledged rows of the staged day, with their keys; None when it was never exported, or its files have expired."""
    manifest = load_manifest(store, feed.name, day)
    stored = set(store.list(staged_prefix(feed.name, day)))
    if manifest is None or not manifest.files or not all(file.key in stored for file in manifest.files):
        return None
    e = compile_expressions(feed, contract, 0)
    rows = with_texts(e, staged_rows({n: store.fetch(file.key, scratch) for n, file in enumerate(manifest.files)}))
    columns = ", ".join(quoted(name) for name in feed.columns)
    path = scratch / f"{feed.name}.{day}.parquet"
    database.execute(
        f"""
        COPY (
            SELECT {columns}, {literal(day)} AS "{DAY}", row_key AS "~key", content_hash AS "~content"
            FROM (
                SELECT *, {e.row_key} AS row_key, {e.content_hash} AS content_hash
                FROM (SELECT *, {e.attributes} AS {ATTRIBUTES} FROM {rows})
            ) SEMI JOIN (SELECT row_key FROM notes WHERE day = {literal(day)}) AS noted USING (row_key)
        ) TO {_text(path)}
        """  # noqa: S608 - names and literals are quoted
    )
    database.execute("INSERT INTO reads VALUES (?, ?)", [day, manifest.read_at])
    return path


def _find_latest(database: duckdb.DuckDBPyConnection) -> None:
    """The table latest: of each key the day and content that Customer.io must hold by now.

    Customer.io keeps what was read from the warehouse last, not what was sent last: a note whose row is staged is as old as the
    reading; of others (people before events, rows that changed) only the acknowledgement is known.
    """
    database.execute(
        """
        CREATE TABLE latest AS
        SELECT row_key, found.day AS day, found.content_hash AS content_hash FROM (
            SELECT n.row_key, arg_max({'day': n.day, 'content_hash': n.content_hash}, {
                'version': CASE WHEN s."~key" IS NULL THEN n.acknowledged_at ELSE least(n.acknowledged_at, r.read_at) END,
                'acknowledged_at': n.acknowledged_at
            }) AS found
            FROM notes AS n
            LEFT JOIN (SELECT DISTINCT "~key", "~content", "~day" FROM staged) AS s
                ON s."~key" = n.row_key AND s."~content" = n.content_hash AND s."~day" = n.day
            LEFT JOIN reads AS r ON r.day = n.day
            GROUP BY n.row_key
        )
        """
    )


def _wanted(
    database: duckdb.DuckDBPyConnection,
    feed: Feed,
    contract: Contract,
    store: Store,
    today: str,
    scratch: Path,
    size: int | None,
    order: str,
) -> str:
    """The query of the rows to keep."""
    person, is_event = quoted(feed.identifier), feed.kind is FeedKind.EVENT
    gone = "".join(
        f" ANTI JOIN {acknowledged_keys(database, store, other, scratch)} AS {other.name} "
        f"ON {other.name}.row_key = {person_key(other, person)}"
        for other in contract.feeds_of(FeedKind.MERGE, FeedKind.DELETION, FeedKind.SUPPRESSION)
    )
    is_latest = '"~key" = latest.row_key AND "~day" = latest.day AND "~content" = latest.content_hash'
    by = f"{quoted(feed.time_column)} DESC" if order == "newest" else f'md5("~key" || {literal(uuid4().hex)})'
    drawn = f"SELECT * FROM staged SEMI JOIN latest ON {is_latest}{gone}"  # noqa: S608 - names of our own
    drawn += "" if size is None else f" ORDER BY {by} LIMIT {size}"
    columns = ", ".join(f"d.{quoted(name)}" for name in (*feed.columns, DAY))
    if not is_event:
        return f"SELECT {columns} FROM ({drawn}) AS d"  # noqa: S608 - as above
    finished = f'"~day" < {literal(today)}'
    return f"""
        WITH drawn AS MATERIALIZED ({drawn}),
        unknown AS (
            SELECT count(DISTINCT row_key) AS events FROM notes
            ANTI JOIN (SELECT "~key" AS row_key FROM staged) AS known USING (row_key) WHERE day < {literal(today)}
        ),
        counted AS (
            SELECT {person} AS person, count(DISTINCT "~key") AS events,
                   count(DISTINCT "~key") FILTER (latest.row_key IS NOT NULL) AS unchanged
            FROM staged LEFT JOIN latest ON {is_latest}
            WHERE {finished} AND {person} IN (SELECT {person} FROM drawn) GROUP BY 1
        )
        SELECT {columns}, coalesce(c.unchanged, 0) AS "{AT_LEAST}", coalesce(c.events, 0) + u.events AS "{AT_MOST}"
        FROM drawn AS d CROSS JOIN unknown AS u LEFT JOIN counted AS c ON c.person = d.{person} ORDER BY d.{person}
    """  # noqa: S608 - as above


def midnight(day: str) -> datetime:
    """The first moment of an ISO day, UTC."""
    return datetime.combine(datetime.fromisoformat(day).date(), time(), UTC)


def _text(path: Path) -> str:
    return f"{literal(str(path))} (FORMAT parquet)"


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
