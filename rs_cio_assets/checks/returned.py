"""Who asked to be deleted or blocked and is in Customer.io all the same. No Dagster here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import duckdb

from rs_cio_assets.checks.leaving import note_words
from rs_cio_assets.checks.results import SAMPLES_SHOWN, hashed
from rs_cio_assets.checks.whereabouts import ON_ITS_WAY, Around, rows_of_people
from rs_cio_assets.contract.models import FeedKind
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import literal, person_key, quoted
from rs_cio_assets.delivery.people import acknowledged_keys

PEOPLE_PER_LOOK = 1_000  # profiles in memory at a time


@dataclass(frozen=True)
class Returned:
    """Of the people whose last word is that they go: how many were *asked* about, are *back* (some of them *undelivered*: their
    wish is old and never reached Customer.io), *came_back* on purpose, are *on_their_way* out, and were *not_asked* about.
    """

    asked: int
    back: int
    undelivered: int
    came_back: int
    on_their_way: int
    not_asked: int
    own_s: float
    sample: tuple[str, ...]


def find_returned(app: AppClient, around: Around, most: int) -> Returned:
    """Ask Customer.io for everybody who left, newest first, at most *most* of them.

    Whoever was deleted and has a newer row in the people view came back on purpose. A block holds whatever else is said.
    """
    started_s = time.process_time()
    contract = around.contract
    with open_database() as database:
        database.execute("CREATE TABLE people_rows (customer_id VARCHAR, changed_at TIMESTAMPTZ)")
        with around.warehouse.session() as session:
            note_words(database, contract, session, around.scratch, around.now)
            _note_delivered(database, around)
            on_their_way, left = database.execute(
                "SELECT count(*) FILTER (is_on_its_way), count(*) FILTER (NOT is_on_its_way) FROM leaving"
            ).fetchall()[0]
            database.execute(
                "CREATE TABLE asked AS SELECT * FROM leaving WHERE NOT is_on_its_way ORDER BY said_at DESC, customer_id LIMIT ?",
                [most],
            )
            deleted = _people(database, "SELECT customer_id FROM asked WHERE NOT is_blocked")
            for feed in contract.feeds_of(FeedKind.PEOPLE):
                database.register("read_rows", rows_of_people(session, feed, deleted))
                database.execute(
                    f"INSERT INTO people_rows SELECT {quoted(feed.identifier)}, {quoted(feed.time_column)} FROM read_rows"  # noqa: S608
                )
        database.execute(
            "CREATE TABLE gone AS FROM asked AS a WHERE is_blocked OR NOT EXISTS "
            "(FROM people_rows AS p WHERE p.customer_id = a.customer_id AND p.changed_at > a.said_at)"
        )
        gone = _people(database, "SELECT customer_id FROM gone ORDER BY said_at DESC, customer_id")
        back = list(_found(app, gone))
        undelivered = set(_people(database, "SELECT customer_id FROM gone WHERE NOT is_delivered"))
        (asked,) = database.execute("SELECT count(*) FROM asked").fetchall()[0]
        return Returned(
            asked=len(gone),
            back=len(back),
            undelivered=len(undelivered.intersection(back)),
            came_back=asked - len(gone),
            on_their_way=on_their_way,
            not_asked=left - asked,
            own_s=time.process_time() - started_s,
            sample=tuple(hashed(person) for person in back[:SAMPLES_SHOWN]),
        )


def _note_delivered(database: duckdb.DuckDBPyConnection, around: Around) -> None:
    """The table leaving: words with is_delivered (this one or a later one is acknowledged) and is_on_its_way (too new)."""
    database.execute("CREATE TABLE leaving AS SELECT *, false AS is_delivered, false AS is_on_its_way FROM words LIMIT 0")
    for feed in around.contract.feeds_of(FeedKind.DELETION, FeedKind.SUPPRESSION):
        known = acknowledged_keys(database, around.store, feed, around.scratch)
        database.execute(
            f"""
            INSERT INTO leaving
            SELECT w.*, coalesce(k.at >= w.said_at, false) AS is_delivered, NOT is_delivered AND w.loaded_at > ?
            FROM words AS w LEFT JOIN (SELECT row_key, max(occurred_at) AS at FROM {known} GROUP BY row_key) AS k
            ON k.row_key = {person_key(feed, "w.customer_id")} WHERE w.feed = {literal(feed.name)}
            """,  # noqa: S608 - names of our own
            [around.now - ON_ITS_WAY],
        )


def _found(app: AppClient, people: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(people), PEOPLE_PER_LOOK):
        yield from app.attributes(people[start : start + PEOPLE_PER_LOOK])


def _people(database: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    return [person for (person,) in database.execute(query).fetchall()]
