"""Who is in a segment of Customer.io and who should be, over everybody: kept as Parquet, compared in DuckDB. No Dagster here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.checks.results import CANARY_PREFIX, SAMPLES_SHOWN, hashed
from rs_cio_assets.checks.whereabouts import Around, note_whereabouts
from rs_cio_assets.contract.models import Contract, FeedKind
from rs_cio_assets.contract.segments import Journey, Segment, times_of
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import literal, parquet, quoted
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import keep_answer

MOST_LOOKED_AT = 50_000  # of the people that differ: each is asked for in the warehouse
_MEMBERS = pa.schema([("id", pa.string())])


@dataclass(frozen=True)
class Parity:
    """A segment's members against the people who should be in it; everybody is counted once.

    *missing* and *extra* are the difference that counts: without *in_flight* (what the warehouse says of them has not arrived
    yet), without *gone* (they belong in it, and asked to be deleted or blocked), and without *not_looked_at*: those who differ
    beyond MOST_LOOKED_AT, of whom nobody knows which of these they are. *never_delivered* are some of the missing. *without_id*
    are some of the extra: members that Customer.io knows by email alone. *own_s* is the processor time of this process, so
    without waiting for anybody.
    """

    members: int
    expected: int
    missing: int
    extra: int
    never_delivered: int
    without_id: int
    in_flight: int
    gone: int
    not_looked_at: int
    own_s: float
    samples: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Reached:
    """Members of an audience who must not be in it: *reached*, without those *in_flight*, of so many whom it must not reach.

    *not_looked_at* are those beyond MOST_LOOKED_AT: reached or in flight, nobody knows. *without_id* of the members are known by
    email alone: whether they are among them nobody can say.
    """

    members: int
    without_id: int
    forbidden: int
    reached: int
    in_flight: int
    not_looked_at: int
    own_s: float
    sample: tuple[str, ...]


def has_delivered_people(contract: Contract, store: Store) -> bool:
    """True when anybody was ever delivered: before that there is nothing to compare."""
    return any(store.list(f"ledger/{feed.name}/") for feed in contract.feeds_of(FeedKind.PEOPLE))


def compare_segment(segment: Segment, app: AppClient, around: Around, target: Path) -> Parity:
    """Compare full membership with the segment's SQL. Memory stays flat whatever the size of both.

    Somebody counts as different who is so by the SQL at `around.now` and at the lag before it. *target* becomes a Parquet file
    of those who were looked at and differ (customer_id, side, is_in_flight).
    """
    started_s = time.process_time()
    lag = timedelta(minutes=segment.lag_minutes)
    answers = _keep_answers(segment.sql, "expected", lag, around)
    members, without_id = _keep_members(app, segment.segment_id, around.scratch / "members.parquet")
    with open_database() as database:
        _make_people(database, around.contract, members, answers)
        database.execute(
            """
            CREATE TABLE differing AS
            SELECT customer_id, 'missing' AS side FROM expected_now SEMI JOIN expected_before USING (customer_id)
            ANTI JOIN members USING (customer_id)
            UNION ALL
            SELECT customer_id, 'extra' FROM members ANTI JOIN expected_now USING (customer_id)
            ANTI JOIN expected_before USING (customer_id)
            """
        )
        not_looked_at = _look(database, around, lag)
        # Whoever asked to go and is gone is no loss; whoever is there although they should not be is one in any case.
        database.execute(
            """
            CREATE TABLE judged AS
            SELECT *, customer_id IN (FROM in_flight) AS is_in_flight,
                   side = 'missing' AND customer_id IN (FROM gone) AS is_gone,
                   side = 'missing' AND customer_id IN (FROM never_delivered) AS is_never_delivered
            FROM differing SEMI JOIN asked USING (customer_id)
            """
        )
        missing, extra, in_flight, gone, never_delivered = _numbers(
            database,
            """
            SELECT count(*) FILTER (side = 'missing' AND NOT is_in_flight AND NOT is_gone),
                   count(*) FILTER (side = 'extra' AND NOT is_in_flight),
                   count(*) FILTER (is_in_flight AND NOT is_gone), count(*) FILTER (is_gone),
                   count(*) FILTER (is_never_delivered AND NOT is_in_flight AND NOT is_gone)
            FROM judged
            """,
        )
        database.execute(
            f"""
            COPY (SELECT customer_id, side, is_in_flight FROM judged WHERE NOT is_gone
                  ORDER BY is_in_flight, customer_id) TO {literal(str(target))} (FORMAT parquet)
            """  # noqa: S608 - a path of our own
        )
        counted = "SELECT customer_id FROM judged WHERE NOT is_in_flight AND NOT is_gone"
        return Parity(
            members=_count(database, "members") + without_id,
            expected=_count(database, "expected_now"),
            missing=missing,
            extra=extra + without_id,
            never_delivered=never_delivered,
            without_id=without_id,
            in_flight=in_flight,
            gone=gone,
            not_looked_at=not_looked_at,
            own_s=time.process_time() - started_s,
            samples={side: _sample(database, f"{counted} AND side = '{side}'") for side in ("missing", "extra")},
        )


def find_reached(journey: Journey, audience: Segment, app: AppClient, around: Around) -> Reached:
    """Everybody in *audience* who must not be in it by the journey's never-SQL, at `around.now` and at the lag before it."""
    started_s = time.process_time()
    lag = timedelta(minutes=audience.lag_minutes)
    answers = _keep_answers(journey.never_sql or "", "expected", lag, around)
    members, without_id = _keep_members(app, audience.segment_id, around.scratch / "members.parquet")
    with open_database() as database:
        _make_people(database, around.contract, members, answers)
        database.execute(
            "CREATE TABLE differing AS SELECT customer_id, 'extra' AS side FROM members "
            "SEMI JOIN expected_now USING (customer_id) SEMI JOIN expected_before USING (customer_id)"
        )
        not_looked_at = _look(database, around, lag)
        found = "SELECT customer_id FROM asked ANTI JOIN in_flight USING (customer_id)"
        return Reached(
            members=_count(database, "members") + without_id,
            without_id=without_id,
            forbidden=_count(database, "expected_now"),
            reached=_count(database, f"({found})"),
            in_flight=_count(database, "in_flight"),
            not_looked_at=not_looked_at,
            own_s=time.process_time() - started_s,
            sample=_sample(database, found),
        )


def _keep_members(app: AppClient, segment_id: int, path: Path) -> tuple[Path, int]:
    """The members' ids, page by page, and how many have none."""
    without_id = 0
    with pq.ParquetWriter(path, _MEMBERS, compression="zstd") as writer:
        for page in app.members(segment_id):
            writer.write_batch(pa.record_batch([pa.array(page.ids, pa.string())], schema=_MEMBERS))
            without_id += page.without_id
    return path, without_id


def _keep_answers(sql: str, name: str, lag: timedelta, around: Around) -> tuple[Path, Path]:
    """The people whom *sql* names now and the lag before; the same file where time plays no part in it."""
    schema = pa.schema([(around.contract.workspace.identifier.column, pa.string())])
    paths = around.scratch / f"{name}_now.parquet", around.scratch / f"{name}_before.parquet"
    with around.warehouse.session() as session:
        keep_answer(session, sql, {"now": around.now}, schema, paths[0])
        if "now" not in times_of(sql) or not lag:
            return paths[0], paths[0]
        keep_answer(session, sql, {"now": around.now - lag}, schema, paths[1])
    return paths


def _make_people(database: duckdb.DuckDBPyConnection, contract: Contract, members: Path, answers: Sequence[Path]) -> None:
    """The tables members, expected_now and expected_before (customer_id), each person once, without canaries."""
    sources = {"members": (members, "id")}
    column = contract.workspace.identifier.column
    sources |= {name: (path, column) for name, path in zip(("expected_now", "expected_before"), answers, strict=True)}
    for name, (path, column) in sources.items():
        database.execute(
            f"CREATE TABLE {name} AS SELECT DISTINCT {quoted(column)} AS customer_id FROM {parquet([path])} "  # noqa: S608
            f"WHERE NOT starts_with({quoted(column)}, {literal(CANARY_PREFIX)})"
        )


def _look(database: duckdb.DuckDBPyConnection, around: Around, lag: timedelta) -> int:
    """Look where those who differ stand; of so many not, since they are too many."""
    database.execute(f"CREATE TABLE asked AS SELECT customer_id FROM differing LIMIT {MOST_LOOKED_AT}")  # noqa: S608
    note_whereabouts(database, around, lag)
    return _count(database, "differing") - _count(database, "asked")


def _count(database: duckdb.DuckDBPyConnection, relation: str) -> int:
    return _numbers(database, f"SELECT count(*) FROM {relation}")[0]  # noqa: S608 - tables of this file


def _numbers(database: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    return database.execute(query).fetchall()[0]


def _sample(database: duckdb.DuckDBPyConnection, people: str) -> tuple[str, ...]:
    found = database.execute(f"SELECT customer_id FROM ({people}) ORDER BY 1 LIMIT {SAMPLES_SHOWN}")  # noqa: S608
    return tuple(hashed(person) for (person,) in found.fetchall())
