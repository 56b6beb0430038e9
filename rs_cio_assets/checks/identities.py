"""One person, one profile: where the export views and Customer.io's profiles disagree about who somebody is. No Dagster here.

Five questions, each with a part of the report; the set operations run in the warehouse and in DuckDB, never in Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.checks.activities import recent
from rs_cio_assets.checks.delivered import keep_delivered, midnight
from rs_cio_assets.checks.results import SAMPLES_SHOWN, hashed
from rs_cio_assets.checks.whereabouts import Around
from rs_cio_assets.contract.models import Feed, FeedKind
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import literal, parquet, quoted
from rs_cio_assets.store import has_staged_files, load_manifest
from rs_cio_assets.warehouse import keep_answer, sql

EMAIL = "email"
FAILED_CHANGE = "failed_attribute_change"
MERGES_BACK = timedelta(days=60)
MERGES_SETTLE = timedelta(hours=48)  # a day's run of the merges feed, and its repetition
IDS_AT_ONCE = 100


@dataclass(frozen=True)
class Part:
    """The answer to one question: how many, of how many, and samples (hashed). *not_asked* says why nothing can be said."""

    wrong: int = 0
    of: int = 0
    samples: Sequence[Mapping[str, str | int | float]] = ()
    not_asked: str = ""


@dataclass(frozen=True)
class FeedIds:
    """Of one feed: its rows in the time, and how many of them are wrong. *is_over*: more than the feed may have."""

    feed: str
    rows: int
    wrong: int
    is_over: bool

    @property
    def share(self) -> float:
        """Wrong rows as a share of all."""
        return self.wrong / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class IdentityReport:
    """All parts. *is_cut*: Customer.io's log of failed changes is longer than what was read of it."""

    people: int
    shared_emails: Part
    shapes: Sequence[FeedIds]
    unknown: Sequence[FeedIds]
    unknown_samples: Sequence[Mapping[str, str | int | float]]
    guests: Part
    emails: Part
    is_cut: bool = False
    requests: int = 0


@dataclass(frozen=True)
class Questions(Around):
    """What the questions are asked of, and with. *days* are ISO days, newest first, the first of them today (UTC)."""

    people: Feed
    app: AppClient
    days: Sequence[str]
    sample_size: int = 200
    max_pages: int = 50

    @property
    def since(self) -> datetime:
        """The first moment of the days."""
        return midnight(min(self.days))

    def keep(
        self, query: str, columns: Mapping[str, pa.DataType], name: str, *, since: datetime | None = None
    ) -> tuple[Path, int]:
        """The rows of *query* as a Parquet file, and their number."""
        path = self.scratch / f"{name}.parquet"
        times = {"now": self.now, "since": since or self.since}
        with self.warehouse.session() as session:
            return path, keep_answer(session, query, times, pa.schema(list(columns.items())), path)


def compare_identities(questions: Questions) -> IdentityReport:
    """Ask everything. Raises: WarehouseRefused, WarehouseUnavailable, StoreRefused, CustomerioRefused and others of the tree."""
    before = questions.app.requests
    with questions.warehouse.session() as session:
        ((people,),) = session.fetch(f"SELECT COUNT(*) FROM {sql.view_name(questions.people)}")  # noqa: S608 - a quoted name
    unknown, unknown_samples = _unknown_people(questions)
    emails, is_cut = _emails_that_did_not_take(questions)
    return IdentityReport(
        people=people,
        shared_emails=_shared_emails(questions, people),
        shapes=_wrong_shapes(questions),
        unknown=unknown,
        unknown_samples=unknown_samples,
        guests=_guests_with_two_profiles(questions),
        emails=emails,
        is_cut=is_cut,
        requests=questions.app.requests - before,
    )


def _shared_emails(questions: Questions, people: int) -> Part:
    """ID3: each person beside the first one of the same address."""
    feed = questions.people
    if EMAIL not in feed.columns:
        return Part(not_asked=f"the feed {feed.name} has no column {EMAIL}")
    who, view, address = sql.quoted(feed.identifier), sql.view_name(feed), f"LOWER(TRIM({sql.quoted(EMAIL)}))"
    path, pairs = questions.keep(
        f"""
        SELECT p.{who} AS person, f.first_person AS other
        FROM (SELECT {who}, {address} AS address FROM {view}) AS p
        INNER JOIN (
            SELECT {address} AS address, MIN({who}) AS first_person
            FROM {view} WHERE {address} <> '' GROUP BY 1 HAVING COUNT(DISTINCT {who}) > 1
        ) AS f ON f.address = p.address
        WHERE p.{who} <> f.first_person
        """,  # noqa: S608 - quoted names
        {"person": pa.string(), "other": pa.string()},
        "shared_emails",
    )
    samples = [{"person": hashed(row["person"]), "shares with": hashed(row["other"])} for row in _first(path)]
    return Part(pairs, people, samples)


def _wrong_shapes(questions: Questions) -> list[FeedIds]:
    """ID2: staged rows whose identifier is not of the workspace's shape, of every enabled feed that has been exported."""
    shape = literal(questions.contract.workspace.identifier.pattern)
    found = []
    for feed in questions.contract.enabled_feeds:
        paths = [path for day in questions.days for path in _staged(questions, feed, day)]
        if not paths:
            continue
        who = quoted(feed.identifier)
        with open_database() as database:
            ((rows, wrong),) = database.execute(
                f"SELECT count(*), count(*) FILTER (regexp_full_match({who}, {shape}) IS NOT TRUE) FROM {parquet(paths)}"  # noqa: S608
            ).fetchall()
        found.append(FeedIds(feed.name, rows, wrong, wrong > feed.max_rejected_share * rows))
    return found


def _staged(questions: Questions, feed: Feed, day: str) -> list[Path]:
    """The day's staged files; none where they have expired."""
    manifest = load_manifest(questions.store, feed.name, day)
    if manifest is None or not has_staged_files(questions.store, manifest):
        return []
    return [questions.store.fetch(file.key, questions.scratch) for file in manifest.files]


def _unknown_people(questions: Questions) -> tuple[list[FeedIds], list[dict[str, str]]]:
    """ID6: events of people who are in no people view. A feed that lets Customer.io make profiles may have some, not most.

    Identifiers of the wrong shape are ID2's matter as long as they are no more than the feed may have rejected.
    """
    found, samples = [], []
    odd = f"regexp_full_match(person, {literal(questions.contract.workspace.identifier.pattern)}) IS NOT TRUE"
    people = questions.contract.feeds_of(FeedKind.PEOPLE)
    for feed in questions.contract.feeds_of(FeedKind.EVENT):
        who, at, view = sql.quoted(feed.identifier), sql.quoted(feed.time_column), sql.view_name(feed)
        joins = " ".join(
            f"LEFT JOIN (SELECT DISTINCT {sql.quoted(p.identifier)} AS id FROM {sql.view_name(p)}) AS known_{n} "  # noqa: S608
            f"ON known_{n}.id = e.{who}"
            for n, p in enumerate(people)
        )
        nowhere = " AND ".join(f"known_{n}.id IS NULL" for n, _ in enumerate(people))
        window = f"e.{at} >= :since AND e.{at} < :now"
        path, _ = questions.keep(
            f"SELECT MIN(e.{who}) AS person, COUNT(*) AS events FROM {view} AS e {joins} "  # noqa: S608 - quoted names
            f"WHERE {window} AND {nowhere} GROUP BY e.{who}",
            {"person": pa.string(), "events": pa.int64()},
            f"unknown_{feed.name}",
        )
        all_rows, _ = questions.keep(
            f"SELECT COUNT(*) AS events FROM {view} AS e WHERE {window}",  # noqa: S608 - quoted names
            {"events": pa.int64()},
            f"events_{feed.name}",
        )
        with open_database() as database:
            ((wrong, rejected),) = database.execute(
                "SELECT coalesce(sum(events), 0)::BIGINT, "  # noqa: S608 - names and paths of our own
                f"coalesce(sum(events) FILTER ({odd}), 0)::BIGINT FROM {parquet([path])}"
            ).fetchall()
        rows = pq.read_table(all_rows)["events"][0].as_py()
        wrong -= rejected if rejected <= feed.max_rejected_share * rows else 0
        allowed = rows / 2 if feed.unknown_person == "send" else 0
        found.append(FeedIds(feed.name, rows, wrong, wrong > allowed))
        samples += [{"person": hashed(row["person"]), "feed": feed.name, "events": row["events"]} for row in _first(path)]
    return found, samples


def _guests_with_two_profiles(questions: Questions) -> Part:
    """ID5: whoever goes in a merge and still has a profile, beside the one who stays."""
    merges = [feed for feed in questions.contract.feeds if feed.kind is FeedKind.MERGE]
    if not merges:
        return Part(not_asked="the contract has no merges feed, so nobody knows which guests became customers")
    asked = wrong = 0
    samples: list[dict[str, str]] = []
    for feed in merges:
        kept, gone, at, loaded = map(sql.quoted, (feed.identifier, feed.merged_column or "", feed.time_column, feed.loaded_at))
        # A feed that is on gets its time; of one that is off the view does not exist: its SQL answers in both cases.
        settled = (questions.now - MERGES_SETTLE) if feed.enabled else questions.now
        path, _ = questions.keep(
            f"SELECT DISTINCT m.{kept} AS stays, m.{gone} AS goes FROM (\n{feed.sql.rstrip().rstrip(';')}\n) AS m "  # noqa: S608
            f"WHERE m.{at} >= :since AND m.{at} < :now AND m.{loaded} < {sql.timestamp_literal(settled.astimezone(UTC))}",
            {"stays": pa.string(), "goes": pa.string()},
            f"merges_{feed.name}",
            since=questions.now - MERGES_BACK,
        )
        with pq.ParquetFile(_with_chains(path)) as file:
            for batch in file.iter_batches(batch_size=IDS_AT_ONCE):
                rows = [row for row in batch.to_pylist() if row["stays"] and row["goes"]]
                asked += len(rows)
                guests = questions.app.attributes([row["goes"] for row in rows])
                left = [row for row in rows if row["goes"] in guests]
                customers = questions.app.attributes([row["stays"] for row in left]) if left else {}
                pairs = [row for row in left if row["stays"] in customers or row["is_merged_on"]]
                wrong += len(pairs)
                samples += [{"guest": hashed(row["goes"]), "customer": hashed(row["stays"])} for row in pairs[:SAMPLES_SHOWN]]
    return Part(wrong, asked, samples[:SAMPLES_SHOWN])


def _with_chains(path: Path) -> Path:
    """The merges with `is_merged_on`: who stays in one was merged into somebody else by another, who has the profile now."""
    target = path.with_suffix(".chains.parquet")
    with open_database() as database:
        merges = parquet([path])
        database.execute(
            f"COPY (SELECT *, stays IN (SELECT goes FROM {merges} WHERE goes IS NOT NULL) AS is_merged_on FROM {merges}) "  # noqa: S608
            f"TO {literal(str(target))} (FORMAT parquet)"
        )
    return target


def _emails_that_did_not_take(questions: Questions) -> tuple[Part, bool]:
    """ID4: delivered addresses that Customer.io does not hold, among the newest changed people and those whose change failed."""
    feed = questions.people
    if EMAIL not in feed.sent_columns:
        return Part(not_asked=f"the feed {feed.name} sends no column {EMAIL}"), False
    delivered = keep_delivered(
        feed, questions.contract, questions.store, questions.days, questions.scratch, size=questions.sample_size, order="newest"
    )
    wanted = {row[feed.identifier]: row[EMAIL] for rows in delivered.batches(IDS_AT_ONCE) for row in rows if row[EMAIL]}
    activities, is_cut = recent(questions.app, FAILED_CHANGE, questions.max_pages, since=questions.since)
    shape = re.compile(questions.contract.workspace.identifier.pattern)
    failed = {
        activity.person_id
        for activity in activities
        if EMAIL in {activity.name, *activity.data} and activity.timestamp >= questions.since.timestamp()
    }
    wanted |= _emails_of(questions, sorted(person for person in failed - set(wanted) if shape.fullmatch(person)))
    held = questions.app.attributes(list(wanted))
    differing = [
        person
        for person, email in wanted.items()
        if person in held and str(held[person].attributes.get(EMAIL, "")).strip().lower() != email.strip().lower()
    ]
    samples = [{"person": hashed(p), "change failed": "yes" if p in failed else "not seen"} for p in differing[:SAMPLES_SHOWN]]
    return Part(len(differing), sum(person in held for person in wanted), samples), is_cut


def _emails_of(questions: Questions, ids: Sequence[str]) -> dict[str, str]:
    """The people view's addresses of these people."""
    who, email = sql.quoted(questions.people.identifier), sql.quoted(EMAIL)
    found: dict[str, str] = {}
    with questions.warehouse.session() as session:
        for start in range(0, len(ids), IDS_AT_ONCE):
            chunk = tuple(ids[start : start + IDS_AT_ONCE])
            rows = session.fetch(
                f"SELECT {who}, {email} FROM {sql.view_name(questions.people)} "  # noqa: S608 - quoted names, bound values
                f"WHERE {email} IS NOT NULL AND {who} IN ({', '.join(['%s'] * len(chunk))})",
                chunk,
            )
            found.update((row[0], row[1]) for row in rows)
    return found


def _first(path: Path) -> list[dict[str, Any]]:
    """The first rows of a file."""
    with pq.ParquetFile(path) as file:
        batch = next(file.iter_batches(batch_size=SAMPLES_SHOWN), None)
        return batch.to_pylist() if batch else []
