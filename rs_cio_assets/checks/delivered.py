"""Rows that the ledger says were delivered, as they were staged: what a check compares with Customer.io. No Dagster here.

Everything is joined on disk by DuckDB and kept as one Parquet file, so that memory stays flat however many rows there are.
"""

from __future__ import annotations

import tempfile
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
from rs_cio_assets.delivery.ledger import last_written, ledger_files
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.store import Manifest, Store, has_staged_files, load_manifest

# Columns beside the contract's, which allows no such names: the day, and how many events of the person were delivered.
DAY, AT_LEAST, AT_MOST = "~day", "~at_least", "~at_most"
KEYS_PER_PASS = 200_000  # what is grouped at once: the newest of each key's notes cannot spill
ROWS_TOGETHER = 20_000  # small days are looked at together, a large one alone
COLUMNS_PER_PASS = 100  # each day has a scan of its own, with buffers for each column


@dataclass(frozen=True)
class DeliveredRows:
    """A Parquet file of *count* rows: the contract's columns, DAY (ISO), and of event feeds AT_LEAST and AT_MOST.

    Those two say how many different events of the row's person were delivered in the finished days: AT_LEAST as they are staged
    now; AT_MOST with those that changed since, with every event that no staged row says the person of, and with those of people
    who were merged away. Rows of a person stand together in event feeds.
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
        files = [_keep_staged(database, feed, contract, store, part, scratch) for part in _parts(feed, store, days)]
        if not files:
            return DeliveredRows(target, 0)
        database.execute(f"CREATE VIEW staged AS SELECT * FROM {parquet(files)}")  # noqa: S608 - paths of our own
        _keep_latest(database, Path(tempfile.mkdtemp(dir=scratch)))
        database.execute(f"COPY ({_wanted(database, feed, contract, store, max(days), scratch, size, order)}) TO {_text(target)}")
    return DeliveredRows(target, pq.read_metadata(target).num_rows)


def _note_ledger(database: duckdb.DuckDBPyConnection, feed: Feed, store: Store, days: Sequence[str], scratch: Path) -> None:
    """The view notes: the acknowledgements of *days*; of people those too that older days got since (people before events)."""
    noted = set(days)
    if feed.kind is FeedKind.PEOPLE:
        since = min(days).replace("-", "")
        prefix = f"ledger/{feed.name}/"
        segments = (key.removeprefix(prefix).partition("/") for key in store.list(prefix) if key.endswith(".parquet"))
        noted |= {day for day, _, name in segments if last_written(name) >= since}
    parts = [
        f"SELECT {literal(day)} AS day, row_key, content_hash, acknowledged_at FROM {parquet(found)}"  # noqa: S608 - our own paths
        for day in sorted(noted)
        if (found := ledger_files(store, feed.name, day, scratch))
    ]
    columns = "day VARCHAR, row_key VARCHAR, content_hash VARCHAR, acknowledged_at TIMESTAMPTZ"
    database.execute(f"CREATE VIEW notes AS {' UNION ALL '.join(parts)}" if parts else f"CREATE TABLE notes ({columns})")
    database.execute("CREATE TABLE reads (day VARCHAR, read_at TIMESTAMPTZ)")


def _parts(feed: Feed, store: Store, days: Sequence[str]) -> Iterator[list[Manifest]]:
    """The days that are staged whole, as many at a time as may be looked at in bounded memory."""
    part: list[Manifest] = []
    most_days = max(1, COLUMNS_PER_PASS // len(feed.columns))
    for day in days:
        manifest = load_manifest(store, feed.name, day)
        if manifest is None or not has_staged_files(store, manifest):
            continue  # never exported, empty, or its files have expired
        if len(part) == most_days or (part and sum(m.rows for m in part) + manifest.rows > ROWS_TOGETHER):
            yield part
            part = []
        part.append(manifest)
    if part:
        yield part


def _keep_staged(
    database: duckdb.DuckDBPyConnection,
    feed: Feed,
    contract: Contract,
    store: Store,
    manifests: Sequence[Manifest],
    scratch: Path,
) -> Path:
    """The acknowledged rows of these staged days, with their days and keys."""
    e = compile_expressions(feed, contract, 0)
    columns = ", ".join(quoted(name) for name in feed.columns)
    days = " UNION ALL ".join(
        f"SELECT *, {literal(m.day)} AS {quoted(DAY)} "  # noqa: S608 - a literal, and paths of our own
        f"FROM {staged_rows({n: store.fetch(file.key, scratch) for n, file in enumerate(m.files)})}"
        for m in manifests
    )
    path = scratch / f"{feed.name}.{manifests[0].day}.parquet"
    database.execute(
        f"""
        COPY (
            SELECT {columns}, {quoted(DAY)}, row_key AS "~key", content_hash AS "~content"
            FROM (
                SELECT *, {e.row_key} AS row_key, {e.content_hash} AS content_hash
                FROM (SELECT *, {e.attributes} AS {ATTRIBUTES} FROM {with_texts(e, f"({days})")})
            ) AS kept SEMI JOIN (SELECT day, row_key FROM notes) AS noted
            ON noted.row_key = kept.row_key AND noted.day = kept.{quoted(DAY)}
        ) TO {_text(path)}
        """  # noqa: S608 - names and literals are quoted
    )
    for manifest in manifests:
        database.execute("INSERT INTO reads VALUES (?, ?)", [manifest.day, manifest.read_at])
    return path


def _keep_latest(database: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """The view held, kept in *folder*: of each key the staged row that Customer.io must hold by now, if it is staged at all.

    Customer.io keeps what was read from the warehouse last, not what was sent last: a note whose row is staged is as old as the
    reading; of others (people before events, rows that changed) only the acknowledgement is known.
    """
    ((notes,),) = database.execute("SELECT count(*) FROM notes").fetchall()
    passes = 1 + notes // KEYS_PER_PASS
    for number in range(passes):  # each looks at its share of the keys, so that memory stays flat
        database.execute(
            f"""
            COPY (
                WITH noted AS (SELECT * FROM notes WHERE hash(row_key) % {passes} = {number}),
                found AS (SELECT "~key", "~content", "~day" FROM staged WHERE hash("~key") % {passes} = {number}),
                latest AS (
                    SELECT n.row_key, arg_max({{'day': n.day, 'content_hash': n.content_hash}}, {{
                        'version': CASE WHEN s."~key" IS NULL THEN n.acknowledged_at ELSE least(n.acknowledged_at, r.read_at) END,
                        'acknowledged_at': n.acknowledged_at
                    }}) AS note
                    FROM noted AS n
                    LEFT JOIN found AS s ON s."~key" = n.row_key AND s."~content" = n.content_hash AND s."~day" = n.day
                    LEFT JOIN reads AS r ON r.day = n.day
                    GROUP BY n.row_key
                )
                SELECT * FROM staged SEMI JOIN latest
                ON "~key" = latest.row_key AND "~day" = latest.note.day AND "~content" = latest.note.content_hash
            ) TO {_text(folder / f"{number}.parquet")}
            """  # noqa: S608 - numbers and paths of our own
        )
    database.execute(f"CREATE VIEW held AS SELECT * FROM {parquet(sorted(folder.iterdir()))}")  # noqa: S608 - as above


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
    person = quoted(feed.identifier)
    gone = "".join(
        f" ANTI JOIN {acknowledged_keys(database, store, other, scratch)} AS {other.name} "
        f"ON {other.name}.row_key = {person_key(other, person)}"
        for other in contract.feeds_of(FeedKind.MERGE, FeedKind.DELETION, FeedKind.SUPPRESSION)
    )
    by = f"{quoted(feed.time_column)} DESC" if order == "newest" else f'md5("~key" || {literal(uuid4().hex)})'
    drawn = f"SELECT * FROM held{gone}" + ("" if size is None else f" ORDER BY {by} LIMIT {size}")  # noqa: S608 - names of our own
    columns = ", ".join(f"d.{quoted(name)}" for name in (*feed.columns, DAY))
    if feed.kind is not FeedKind.EVENT:
        return f"SELECT {columns} FROM ({drawn}) AS d"  # noqa: S608 - as above
    database.execute(f"COPY ({drawn}) TO {_text(scratch / 'drawn.parquet')}")
    finished = f'"~day" < {literal(today)}'
    moved = "".join(  # what a guest did before the merge is in Customer.io the customer's, and the ledger does not say whose
        f' + (SELECT count(DISTINCT "~key") FROM staged SEMI JOIN {acknowledged_keys(database, store, other, scratch)} AS m '  # noqa: S608
        f"ON m.row_key = {person_key(other, person)} WHERE {finished})"
        for other in contract.feeds_of(FeedKind.MERGE)
    )
    return f"""
        WITH drawn AS (SELECT * FROM {parquet([scratch / "drawn.parquet"])}),
        unknown AS (
            SELECT count(*){moved} AS events FROM (
                SELECT DISTINCT row_key FROM notes
                ANTI JOIN (SELECT "~key" AS row_key FROM staged) AS known USING (row_key) WHERE day < {literal(today)}
            )
        ),
        people AS (SELECT DISTINCT {person} AS person FROM drawn),
        staged_events AS (
            SELECT person, count(*) AS events FROM (SELECT DISTINCT {person} AS person, "~key" FROM staged WHERE {finished})
            SEMI JOIN people USING (person) GROUP BY 1
        ),
        held_events AS (
            SELECT person, count(*) AS events FROM (SELECT DISTINCT {person} AS person, "~key" FROM held WHERE {finished})
            SEMI JOIN people USING (person) GROUP BY 1
        )
        SELECT {columns}, coalesce(h.events, 0) AS "{AT_LEAST}", coalesce(s.events, 0) + u.events AS "{AT_MOST}"
        FROM drawn AS d CROSS JOIN unknown AS u
        LEFT JOIN staged_events AS s ON s.person = d.{person} LEFT JOIN held_events AS h ON h.person = d.{person}
        ORDER BY d.{person}
    """  # noqa: S608 - as above


def midnight(day: str) -> datetime:
    """The first moment of an ISO day, UTC."""
    return datetime.combine(datetime.fromisoformat(day).date(), time(), UTC)


def _text(path: Path) -> str:
    return f"{literal(str(path))} (FORMAT parquet)"


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
