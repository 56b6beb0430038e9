"""Where people stand between the warehouse and Customer.io: on their way, never delivered, or gone because they asked to be.

A check that compares both sides asks this about the people in whom they differ. No Dagster here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from rs_cio_assets.checks.leaving import note_words
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.expressions import compile_expressions, parquet, person_key, quoted
from rs_cio_assets.delivery.ledger import ledger_files
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.delivery.rejections import rejections_key
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.store import Store, load_manifest
from rs_cio_assets.warehouse import Session, Warehouse, sql
from rs_cio_assets.warehouse.staged_days import staged_schema

# What reached the warehouse longer ago and did not arrive is no longer on its way: a daily run was missed, or the row is lost.
# As long as the longest hold of an event (DeliveryOptions, 72 h).
ON_ITS_WAY = timedelta(hours=72)
PEOPLE_PER_STATEMENT = 10_000  # bound values; the wire counts them in 16 bits
_STAMP = re.compile(r"/(\d{8}T\d{6})\d*-[^/]*$")


@dataclass(frozen=True)
class Around:
    """What a comparison works with. *now* is aware; *scratch* is a folder of its own."""

    contract: Contract
    warehouse: Warehouse
    store: Store
    scratch: Path
    now: datetime


def note_whereabouts(database: duckdb.DuckDBPyConnection, around: Around, lag: timedelta) -> None:
    """For the people of the table `asked` make the tables in_flight, never_delivered and gone (customer_id, each once).

    In flight: a row of theirs was loaded in the last ON_ITS_WAY and is neither acknowledged nor rejected, or a row of theirs was
    acknowledged within *lag*. Never delivered: no people feed's ledger knows them. Gone: they asked to be deleted or blocked.
    """
    for name in ("in_flight", "never_delivered", "gone"):
        database.execute(f"CREATE TABLE {name} (customer_id VARCHAR)")
    asked = [person for (person,) in database.execute("SELECT customer_id FROM asked").fetchall()]
    if not asked:
        return
    contract = around.contract
    database.execute("CREATE TABLE arrivals (customer_id VARCHAR)")
    database.execute("CREATE TABLE people_rows (customer_id VARCHAR, changed_at TIMESTAMPTZ)")
    people = contract.feeds_of(FeedKind.PEOPLE)
    known = [acknowledged_keys(database, around.store, feed, around.scratch) for feed in people]
    with around.warehouse.session() as session:
        for feed, relation in zip(people, known, strict=True):
            _note_people(database, around, session, feed, relation, asked, lag)
        for feed in contract.feeds_of(FeedKind.EVENT, FeedKind.MERGE):
            _note_rows(database, around, session, feed, asked, lag)
        note_words(database, contract, session, around.scratch, around.now)
    database.execute("INSERT INTO in_flight SELECT DISTINCT customer_id FROM arrivals")
    unknown = " ".join(
        f"ANTI JOIN {relation} AS k{n} ON k{n}.row_key = {person_key(feed, 'a.customer_id')}"
        for n, (feed, relation) in enumerate(zip(people, known, strict=True))
    )
    database.execute(f"INSERT INTO never_delivered SELECT a.customer_id FROM asked AS a {unknown}")  # noqa: S608 - names of ours
    database.execute(
        """
        INSERT INTO gone
        SELECT customer_id FROM asked SEMI JOIN (
            SELECT customer_id FROM words AS w WHERE is_blocked OR NOT EXISTS (
                FROM people_rows AS p WHERE p.customer_id = w.customer_id AND p.changed_at > w.said_at
            )
        ) AS left_for_good USING (customer_id)
        """
    )


def rows_of_people(
    session: Session, feed: Feed, people: Iterable[str], *, person: str = "", since: datetime | None = None
) -> pa.Table:
    """Rows of *people* in the feed's view: who, key, time and load time with the contract's types, and the row's UTC `~day`.

    *person* is the column that names them, by default the identifier; *since* leaves out what was loaded before.
    """
    person = person or feed.identifier
    names = list(dict.fromkeys((person, *feed.key_columns, feed.time_column, feed.loaded_at)))
    schema = pa.schema([staged_schema(feed).field(name) for name in names]).append(pa.field("~day", pa.string()))
    where = f" AND {sql.quoted(feed.loaded_at)} > %s" if since else ""
    select = f"SELECT {', '.join(map(sql.quoted, names))} FROM {sql.view_name(feed)} WHERE {sql.quoted(person)} IN "  # noqa: S608
    time, loaded = names.index(feed.time_column), names.index(feed.loaded_at)
    tables = []
    for chunk in _chunks(list(people)):
        bound = (*chunk, since.astimezone(UTC).replace(tzinfo=None)) if since else chunk
        try:
            rows = session.fetch(f"{select}({', '.join(['%s'] * len(chunk))}){where}", bound)
        except RsCioError as error:
            raise error.at(feed.name) from None
        values = [(*row, str((row[time] or row[loaded]).date()) if row[time] or row[loaded] else None) for row in rows]
        columns = zip(*values, strict=True) if values else ((),) * len(schema)
        tables.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema))
    session.commit()
    return pa.concat_tables(tables) if tables else schema.empty_table()


def _note_people(
    database: duckdb.DuckDBPyConnection,
    around: Around,
    session: Session,
    feed: Feed,
    known: str,
    asked: Sequence[str],
    lag: timedelta,
) -> None:
    """A person's row: its version (its time) is acknowledged on whatever day; the same may have been loaded anew since."""
    rows = rows_of_people(session, feed, asked)
    who, at, loaded = map(quoted, (feed.identifier, feed.time_column, feed.loaded_at))
    database.register("read_rows", rows)
    database.execute(f"INSERT INTO people_rows SELECT {who}, {at} FROM read_rows")  # noqa: S608 - names are quoted
    key = person_key(feed, who)
    database.execute(
        f"CREATE OR REPLACE TABLE young AS SELECT {who} AS customer_id, {key} AS row_key, {at} AS at, {loaded} AS loaded_at, "  # noqa: S608
        f'"~day" AS day FROM read_rows WHERE {loaded} > ?',
        [around.now - ON_ITS_WAY],
    )
    days = _days(database)
    read = {day: manifest.read_at for day in days if (manifest := load_manifest(around.store, feed.name, day))}
    read_days = pa.schema([("day", pa.string()), ("read_at", pa.timestamp("us", tz="UTC"))])
    database.register("read_days", pa.table([list(read), list(read.values())], schema=read_days))
    database.execute(
        f"""
        INSERT INTO arrivals
        SELECT y.customer_id FROM young AS y LEFT JOIN read_days AS r USING (day)
        LEFT JOIN (SELECT row_key, max(occurred_at) AS at FROM {known} GROUP BY row_key) AS k ON k.row_key = y.row_key
        WHERE (k.at IS NULL OR k.at < y.at OR r.read_at <= y.loaded_at) AND NOT EXISTS (
            FROM {_rejected(around, feed, days)} AS x WHERE x.row_key = y.row_key
        )
        """  # noqa: S608 - relations of our own
    )
    if recent := _recent(around, feed, lag):
        database.execute(
            f"INSERT INTO arrivals SELECT customer_id FROM asked WHERE {person_key(feed, 'customer_id')} "  # noqa: S608
            f"IN (SELECT row_key FROM {parquet(recent)} WHERE acknowledged_at > ?)",
            [around.now - lag],
        )


def _note_rows(
    database: duckdb.DuckDBPyConnection, around: Around, session: Session, feed: Feed, asked: Sequence[str], lag: timedelta
) -> None:
    """Events, and the merges of those who go: each row is sent once, so what is not acknowledged is still to come."""
    recent = _recent(around, feed, lag)
    who = feed.merged_column or feed.identifier
    # What was acknowledged just now may have been loaded long ago: a backfill.
    rows = rows_of_people(session, feed, asked, person=who, since=None if recent else around.now - ON_ITS_WAY)
    if not rows.num_rows:
        return
    database.register("read_rows", rows)
    key = compile_expressions(feed, around.contract, 0).row_key
    loaded, since = quoted(feed.loaded_at), around.now - ON_ITS_WAY
    database.execute(
        f'CREATE OR REPLACE TABLE keyed AS SELECT {quoted(who)} AS customer_id, {key} AS row_key, "~day" AS day, '  # noqa: S608
        f"{loaded} > ? AS is_young FROM read_rows",
        [since],
    )
    database.execute("CREATE OR REPLACE TABLE young AS SELECT customer_id, row_key, day FROM keyed WHERE is_young")
    days = _days(database)
    ledger = [file for day in days for file in ledger_files(around.store, feed.name, day, around.scratch)]
    acknowledged = parquet(ledger) if ledger else "(SELECT NULL AS row_key LIMIT 0)"
    database.execute(
        "INSERT INTO arrivals SELECT customer_id FROM young "  # noqa: S608 - relations of our own
        f"ANTI JOIN {acknowledged} AS a USING (row_key) ANTI JOIN {_rejected(around, feed, days)} AS x USING (row_key)"
    )
    if recent:
        database.execute(
            "INSERT INTO arrivals SELECT customer_id FROM keyed "  # noqa: S608 - as above
            f"SEMI JOIN (SELECT row_key FROM {parquet(recent)} WHERE acknowledged_at > ?) AS r USING (row_key)",
            [around.now - lag],
        )


def _days(database: duckdb.DuckDBPyConnection) -> list[str]:
    return [day for (day,) in database.execute("SELECT DISTINCT day FROM young WHERE day IS NOT NULL ORDER BY day").fetchall()]


def _rejected(around: Around, feed: Feed, days: Sequence[str]) -> str:
    """A relation (row_key) of the rows of *days* that were rejected: they do not come by themselves."""
    keys = [key for day in days for key in around.store.list(rejections_key(feed.name, day))]
    if not keys:
        return "(SELECT NULL AS row_key LIMIT 0)"
    return f"(SELECT row_key FROM {parquet([around.store.fetch(key, around.scratch) for key in keys])})"  # noqa: S608


def _recent(around: Around, feed: Feed, lag: timedelta) -> list[Path]:
    """Ledger segments that may hold acknowledgements younger than *lag*: their names say when they were written."""
    since = (around.now - lag).astimezone(UTC).strftime("%Y%m%dT%H%M%S")
    keys = around.store.list(f"ledger/{feed.name}/")
    return [around.store.fetch(key, around.scratch) for key in keys if (found := _STAMP.search(key)) and found[1] >= since]


def _chunks(people: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(people), PEOPLE_PER_STATEMENT):
        yield tuple(people[start : start + PEOPLE_PER_STATEMENT])
