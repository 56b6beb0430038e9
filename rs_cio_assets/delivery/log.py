"""What became of a day's rows, as two Parquet files for the warehouse: `deliveries` and `rejections`.

Outcomes are those of the delivery: the same classification, over the ledger as the delivery left it. Writing them to Redshift is
`warehouse/log.py`, which has the tables; the files' columns are those of the tables, in their order, times as text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.classify import HOLD_MARGIN, REFUSED_BEFORE, TRIGGER_WINDOW, WAITS_FOR_PERSON, Outcome
from rs_cio_assets.delivery.database import interruptibly, open_database
from rs_cio_assets.delivery.day import StagedDay
from rs_cio_assets.delivery.expressions import literal, parquet, person_key, quoted
from rs_cio_assets.delivery.ledger import latest_of, ledger_files
from rs_cio_assets.delivery.options import AS_THE_CONTRACT_SAYS
from rs_cio_assets.store import Manifest, Store
from rs_cio_assets.store.overlay import OverlayStore

# Bytes of a text in the log; a longer one is cut. Only rejected rows can have one: Customer.io takes 150 bytes of an identifier.
IDENTIFIER_BYTES, KEY_BYTES, MESSAGE_BYTES = 1_024, 4_096, 2_048
KEYS_PER_PASS = 500_000  # what is joined and grouped at once
DELIVERED, PENDING = "delivered", "pending"
# The outcome of a key is that of its first row by this order; further rows are counted beside it.
OUTCOMES = (DELIVERED, "amended", "held", "superseded", PENDING, "rejected", "duplicate")
_NO_ROWS = "(SELECT NULL::VARCHAR AS row_key, NULL::VARCHAR AS content_hash, NULL::TIMESTAMPTZ AS occurred_at, "
_NO_ROWS += "NULL::TIMESTAMPTZ AS acknowledged_at, NULL::VARCHAR AS run_id LIMIT 0)"


@dataclass(frozen=True)
class DayLog:
    """One day of a feed for the warehouse, and what is in it.

    deliveries: one row per row key that stands in the day or was acknowledged for it. *outcomes* counts them. rejections: one row
    per rejected row, *rejections_rows* of them. Of the day's *rows*, *duplicates* repeat another row of their key and *rejected*
    were rejected; every other one is the only one of its key. *left_the_view* keys were delivered and are not in the day now.
    """

    feed: str
    day: str
    deliveries: Path
    rejections: Path
    rows: int
    outcomes: Mapping[str, int]
    duplicates: int
    rejected: int
    left_the_view: int
    rejections_rows: int


def log_day(
    feed: Feed,
    contract: Contract,
    manifest: Manifest,
    store: Store,
    *,
    folder: Path,
    now: datetime,
    is_delivered: bool,
) -> DayLog:
    """Write both files of *manifest*'s day into *folder* (an existing one, of the caller's own).

    *is_delivered*: what is staged was delivered. A row that was neither sent nor rejected was held then, although it may be due
    by now; of a day that was exported anew since, it is `pending`. Changes nothing in the store.

    Raises: StoreRefused, StoreUnavailable, MismatchError when the staged files are gone or are not what the manifest says.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch, open_database() as database:
        work = _Work(feed, manifest, database, folder, now)
        above = OverlayStore(store, Path(scratch) / "store")  # what a look writes on the way (a folded ledger) stays here
        if manifest.rows:
            day = StagedDay(feed, contract, manifest, above, Path(scratch), database, now, AS_THE_CONTRACT_SAYS)
            day.find_unknown_people()
            rejections = day.rejections
            work.note_rows(day.rows_with_codes(), rejections, has_holds=is_delivered and _may_hold(feed))
        else:
            rejections = None
        segments = ledger_files(above, feed.name, manifest.day, Path(scratch))
        return work.write(segments, rejections)


def log_people_first(
    events: Manifest, feed: Feed, people: Feed, staged: Manifest | None, store: Store, *, folder: Path, now: datetime
) -> Path | None:
    """Deliveries of *people* who were acknowledged for the day of *events* because *feed*'s rows name them, and do not stand in
    that day of the people view themselves (*staged*): nothing else knows whose keys those are. None where there are none.
    """
    if not events.rows:
        return None
    with tempfile.TemporaryDirectory(dir=folder) as scratch, open_database() as database:
        segments = ledger_files(store, people.name, events.day, Path(scratch))
        if not segments:
            return None
        named = parquet([store.fetch(file.key, Path(scratch)) for file in events.files])
        own = parquet([store.fetch(f.key, Path(scratch)) for f in staged.files]) if staged and staged.files else ""
        outside = f"ANTI JOIN {own} AS own ON own.{quoted(people.identifier)}::VARCHAR = n.identifier" if own else ""
        target = folder / "people.parquet"
        key = person_key(people, "n.identifier")
        query = f"""
            SELECT {literal(people.name)} AS feed, {literal(events.day)} AS day, l.row_key,
                   {_cut("n.identifier", IDENTIFIER_BYTES)} AS identifier, {_cut("n.identifier", KEY_BYTES)} AS business_key,
                   {literal(DELIVERED)} AS outcome, 0 AS rows_in_view, 0 AS duplicates, 0 AS rejected,
                   {_text("l.occurred_at")} AS occurred_at, NULL::VARCHAR AS loaded_at,
                   {_text("l.acknowledged_at")} AS delivered_at,
                   NULL::VARCHAR AS held_until, l.content_hash, l.run_id, {_moment(now)} AS logged_at
            FROM (SELECT DISTINCT {quoted(feed.identifier)}::VARCHAR AS identifier FROM {named}) AS n {outside}
            INNER JOIN {latest_of(segments)} AS l ON l.row_key = {key}
        """  # noqa: S608 - names are quoted, paths our own
        interruptibly(database, lambda: database.execute(f"COPY ({query}) TO {literal(str(target))} (FORMAT parquet)"))
        ((rows,),) = database.execute(f"SELECT count(*) FROM {parquet([target])}").fetchall()  # noqa: S608
        return target if rows else None


class _Work:
    """The rows of one day, and the two files made of them."""

    def __init__(self, feed: Feed, manifest: Manifest, database: duckdb.DuckDBPyConnection, folder: Path, now: datetime) -> None:
        self._feed, self._day, self._database, self._now = feed.name, manifest.day, database, now
        self._rows, self._folder = manifest.rows, folder
        self._keyed = folder / "keyed.parquet"

    def note_rows(self, rows: str, rejections: str | None, *, has_holds: bool) -> None:
        """Keep *rows* (StagedDay.rows_with_codes) with their outcomes in words."""
        known = f"row_key IN (SELECT row_key FROM {rejections})" if rejections else "false"  # noqa: S608
        undecided = literal("held" if has_holds else PENDING)
        due = f"occurred_at + INTERVAL {int((TRIGGER_WINDOW + HOLD_MARGIN).total_seconds())} SECOND"
        words = {
            Outcome.UNCHANGED: DELIVERED,
            Outcome.AMENDED: "amended",
            Outcome.DUPLICATE: "duplicate",
            Outcome.HELD: "held",
            Outcome.SUPERSEDED: "superseded",
            WAITS_FOR_PERSON: "held",
        }
        cases = " ".join(f"WHEN code = {int(code)} THEN {literal(word)}" for code, word in words.items())
        outcome = f"CASE WHEN code >= {REFUSED_BEFORE} OR (code = {Outcome.SEND} AND {known}) THEN 'rejected' {cases} "
        outcome += f"ELSE {undecided} END"
        self._copy(
            f"SELECT *, CASE WHEN outcome = 'held' AND code <> {WAITS_FOR_PERSON} THEN {due} END AS held_until "  # noqa: S608
            f"FROM (SELECT *, {outcome} AS outcome FROM {rows})",
            self._keyed,
        )

    def write(self, segments: Sequence[Path], rejections: str | None) -> DayLog:
        """Both files."""
        acknowledged = sum(self._count(parquet([path])) for path in segments)
        passes = 1 + (self._rows + acknowledged) // KEYS_PER_PASS
        parts = []
        for number in range(passes):  # each takes its share of the keys, so that memory stays flat
            share = f"WHERE hash(row_key) % {passes} = {number}"
            part = self._folder / f"deliveries-{number:04d}.parquet"
            self._copy(self._deliveries(latest_of(segments, only=share) if segments else _NO_ROWS, share), part)
            parts.append(part)
        deliveries, kept = parts[0], self._folder / "rejections.parquet"
        if len(parts) > 1:
            deliveries = self._folder / "deliveries.parquet"
            self._copy(f"SELECT * FROM {parquet(parts)}", deliveries)  # noqa: S608
        self._copy(self._rejections(rejections), kept)
        log = parquet([deliveries])
        counted = self._database.execute(f"SELECT outcome, count(*) FROM {log} GROUP BY 1 ORDER BY 1").fetchall()  # noqa: S608
        ((rows, duplicates, rejected, gone),) = self._database.execute(
            "SELECT coalesce(sum(rows_in_view), 0)::BIGINT, coalesce(sum(duplicates), 0)::BIGINT, "  # noqa: S608
            f"coalesce(sum(rejected), 0)::BIGINT, count(*) FILTER (rows_in_view = 0) FROM {log}"
        ).fetchall()
        return DayLog(
            feed=self._feed,
            day=self._day,
            deliveries=deliveries,
            rejections=kept,
            rows=rows,
            outcomes=dict(counted),
            duplicates=duplicates,
            rejected=rejected,
            left_the_view=gone,
            rejections_rows=self._count(parquet([kept])),
        )

    def _deliveries(self, ledger: str, share: str) -> str:
        """One row per key: of its rows in the view the one that says most, and the ledger's latest acknowledgement."""
        order = " ".join(f"WHEN {literal(word)} THEN {rank}" for rank, word in enumerate(OUTCOMES))
        said = "{'identifier': identifier, 'business_key': business_key, 'outcome': outcome, 'occurred_at': occurred_at, "
        said += "'loaded_at': loaded_at, 'held_until': held_until}"
        rows = parquet([self._keyed]) if self._rows else self._no_rows()
        return f"""
            SELECT {literal(self._feed)} AS feed, {literal(self._day)} AS day, coalesce(k.row_key, l.row_key) AS row_key,
                   {_cut("k.said.identifier", IDENTIFIER_BYTES)} AS identifier,
                   {_cut("k.said.business_key", KEY_BYTES)} AS business_key,
                   coalesce(k.said.outcome, {literal(DELIVERED)}) AS outcome,
                   coalesce(k.rows_in_view, 0)::INTEGER AS rows_in_view, coalesce(k.duplicates, 0)::INTEGER AS duplicates,
                   coalesce(k.rejected, 0)::INTEGER AS rejected,
                   {_text("coalesce(k.said.occurred_at, l.occurred_at)")} AS occurred_at,
                   {_text("k.said.loaded_at")} AS loaded_at, {_text("l.acknowledged_at")} AS delivered_at,
                   {_text("k.said.held_until")} AS held_until, l.content_hash, l.run_id, {_moment(self._now)} AS logged_at
            FROM (
                SELECT row_key, arg_min({said}, CASE outcome {order} END) AS said, count(*) AS rows_in_view,
                       count(*) FILTER (outcome = 'duplicate') AS duplicates, count(*) FILTER (outcome = 'rejected') AS rejected
                FROM {rows} {share} GROUP BY row_key
            ) AS k FULL OUTER JOIN {ledger} AS l ON l.row_key = k.row_key
        """  # noqa: S608 - names and literals are quoted

    def _rejections(self, rejections: str | None) -> str:
        """One row per rejected row; whose it was is known where all rejected rows of its key name one person."""
        nobody = "(SELECT NULL::VARCHAR AS row_key, NULL::VARCHAR AS identifier LIMIT 0)"
        people = nobody
        if self._rows:
            people = (
                "(SELECT row_key, CASE WHEN min(identifier) = max(identifier) THEN min(identifier) END AS identifier "  # noqa: S608
                f"FROM {parquet([self._keyed])} WHERE outcome = 'rejected' GROUP BY row_key)"
            )
        columns = "row_key, business_key, reason, column_name, message, contract"
        found = rejections or (
            f"(SELECT {', '.join(f'NULL::VARCHAR AS {name}' for name in columns.split(', '))}, "
            "NULL::TIMESTAMPTZ AS first_seen, NULL::TIMESTAMPTZ AS last_seen, 0 AS attempts LIMIT 0)"
        )
        return f"""
            SELECT {literal(self._feed)} AS feed, {literal(self._day)} AS day, f.row_key,
                   {_cut("p.identifier", IDENTIFIER_BYTES)} AS identifier, {_cut("f.business_key", KEY_BYTES)} AS business_key,
                   f.reason, f.column_name, {_cut("f.message", MESSAGE_BYTES)} AS message, f.contract,
                   {_text("f.first_seen")} AS first_seen, {_text("f.last_seen")} AS last_seen, f.attempts::INTEGER AS attempts,
                   {_moment(self._now)} AS logged_at
            FROM {found} AS f LEFT JOIN {people} AS p USING (row_key)
        """  # noqa: S608 - as above

    def _no_rows(self) -> str:
        texts = ", ".join(f"NULL::VARCHAR AS {name}" for name in ("row_key", "identifier", "business_key", "outcome"))
        times = ", ".join(f"NULL::TIMESTAMPTZ AS {name}" for name in ("occurred_at", "loaded_at", "held_until"))
        return f"(SELECT {texts}, {times} LIMIT 0)"

    def _copy(self, query: str, path: Path) -> None:
        copy = f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION snappy)"
        interruptibly(self._database, lambda: self._database.execute(copy))

    def _count(self, relation: str) -> int:
        ((count,),) = self._database.execute(f"SELECT count(*) FROM {relation}").fetchall()  # noqa: S608
        return count


def _may_hold(feed: Feed) -> bool:
    """True where rows can be held: a person's attributes cannot wait."""
    return feed.kind is FeedKind.EVENT or feed.unknown_person == "hold"


def _cut(text: str, most_bytes: int) -> str:
    """*text* in at most so many bytes of UTF-8: a character has four at most."""
    return f"CASE WHEN strlen({text}) > {most_bytes} THEN left({text}, {most_bytes // 4}) ELSE {text} END"


def _text(moment: str) -> str:
    """A time as text in UTC, to the microsecond: how Parquet's timestamps come through COPY is left out of it."""
    return f"strftime(make_timestamp(epoch_us({moment})), '%Y-%m-%d %H:%M:%S.%f')"


def _moment(now: datetime) -> str:
    return literal(f"{now.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}")
