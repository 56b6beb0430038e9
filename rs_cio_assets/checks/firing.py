"""What a journey's campaign should have done and what it did: who had to get its message (the warehouse), what was acknowledged
and when (the ledger), which messages there are (Customer.io), joined in DuckDB. No Dagster; `journeys.py` says it in words.

A message names the event that caused it, `trigger_event_id`. That this is the id that was sent is unverified for a live workspace
(customerio-api.md, section 2.1): so the report also counts the messages that cannot be joined.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.checks.evidence import FAULTS, HAVE_FIRED, Evidence, Sample, Span, What
from rs_cio_assets.checks.results import SAMPLES_SHOWN
from rs_cio_assets.contract import Contract, Feed, FeedKind, Journey
from rs_cio_assets.customerio import AppClient, Campaign
from rs_cio_assets.customerio.answers import Message
from rs_cio_assets.delivery.classify import HOLD_MARGIN, TRIGGER_WINDOW
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import compile_expressions, literal, parquet, person_key, quoted
from rs_cio_assets.delivery.ledger import ledger_files
from rs_cio_assets.delivery.packing import row_key_of
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse.sql import view_name
from rs_cio_assets.warehouse.staged_days import staged_schema

MESSAGES_WINDOW = timedelta(days=180)  # Customer.io keeps to windows of six months: App API document (read 2026-09-17)
PEOPLE_ASKED = 10_000  # of those without a message, whether they are unsubscribed: 100 a request
MESSAGES_PER_BATCH = 10_000
_TIME = pa.timestamp("us", tz="UTC")
_MESSAGES = pa.schema([("row_key", pa.string()), ("person", pa.string()), ("created_us", pa.int64()), ("action_id", pa.int64())])
_SECOND_US = 1_000_000
Ask = Callable[[str, Mapping[str, datetime], pa.Schema, Path], int]  # keep_answer of a session


@dataclass(frozen=True)
class Sources:
    """Where the evidence is: the warehouse's answers, the store with the ledger, the App API."""

    ask: Ask
    store: Store
    app: AppClient


def look_at_journey(
    journey: Journey, feed: Feed, contract: Contract, campaign: Campaign, sources: Sources, span: Span
) -> Evidence:
    """Join what should have started *campaign* with what was delivered and with its messages. Deliveries before the campaign was
    first started do not count.

    Raises: WarehouseRefused, WarehouseUnavailable, CustomerioRefused, CustomerioUnavailable, StoreRefused, MismatchError.
    """
    with tempfile.TemporaryDirectory(prefix="rs-cio-") as folder, open_database() as database:
        look = _Look(journey, feed, contract, campaign, sources, span, Path(folder), database)
        gone = look.note_expected()
        look.note_messages()
        look.note_delivered()
        look.judge()
        return look.evidence(gone)


class _Look:
    """The tables of one look: expected, messages, delivered, then judged. Times are microseconds since 1970 UTC."""

    def __init__(
        self,
        journey: Journey,
        feed: Feed,
        contract: Contract,
        campaign: Campaign,
        sources: Sources,
        span: Span,
        folder: Path,
        database: duckdb.DuckDBPyConnection,
    ) -> None:
        self._journey, self._feed, self._contract, self._campaign = journey, feed, contract, campaign
        self._sources, self._span, self._folder, self._database = sources, span, folder, database
        self._is_event = feed.kind is FeedKind.EVENT
        wait = timedelta(hours=journey.first_message_after_hours)
        self._from = span.now - timedelta(days=span.days_back)  # messages that were due from here on are judged
        self._since = self._from - wait - TRIGGER_WINDOW
        self._wait_us, self._grace_us = _us(wait), _us(timedelta(minutes=span.grace_minutes))

    def note_expected(self) -> int:
        """Ask the warehouse who should have got it. Returns how many of them are gone since."""
        feed, person = self._feed, quoted(self._feed.identifier)
        staged = staged_schema(feed)
        if self._is_event:
            query, moments = self._journey.sql, ("occurred_at",)
            names = dict.fromkeys((feed.identifier, *feed.key_columns))
            row_key, changed = compile_expressions(feed, self._contract, 0).row_key, "NULL::BIGINT"
        else:
            query, moments = self._with_change(), ("occurred_at", "changed_at")
            names = dict.fromkeys((feed.identifier,))
            row_key, changed = person_key(feed, person), "max(epoch_us(changed_at))"
        fields = [staged.field(name) for name in names] + [pa.field(name, _TIME) for name in moments if name not in names]
        path = self._folder / "expected.parquet"
        self._sources.ask(query, {"since": self._since, "now": self._span.now}, pa.schema(fields), path)
        self._database.execute(
            f"CREATE TABLE expected AS SELECT {row_key} AS row_key, any_value({person}) AS person, "  # noqa: S608 - names of ours
            f"max(epoch_us(occurred_at)) AS occurred_us, {changed} AS changed_us FROM {parquet([path])} GROUP BY 1"
        )
        gone = 0
        for other in self._contract.feeds_of(FeedKind.MERGE, FeedKind.DELETION, FeedKind.SUPPRESSION):
            keys = acknowledged_keys(self._database, self._sources.store, other, self._folder)
            condition = f"{person_key(other, 'person')} IN (SELECT row_key FROM {keys})"  # noqa: S608
            gone += self._number(f"DELETE FROM expected WHERE {condition}")  # noqa: S608
        return gone

    def note_messages(self) -> None:
        """Ask Customer.io for the campaign's messages, also those of before the span: which of our deliveries they came of."""
        start = max(self._since, self._span.now - MESSAGES_WINDOW)
        found = self._sources.app.messages(
            self._campaign.campaign_id, start_ts=int(start.timestamp()), end_ts=int(self._span.now.timestamp())
        )
        path = self._folder / "messages.parquet"
        with pq.ParquetWriter(path, _MESSAGES, compression="zstd") as writer:
            while batch := list(islice(found, MESSAGES_PER_BATCH)):
                writer.write_batch(pa.RecordBatch.from_pylist([_record(message) for message in batch], _MESSAGES))
        key = "row_key" if self._is_event else person_key(self._feed, "person")
        self._database.execute(
            f"CREATE TABLE messages AS SELECT * REPLACE ({key} AS row_key) FROM {parquet([path])}"  # noqa: S608
        )

    def note_delivered(self) -> None:
        """Read when our deliveries were acknowledged: of an event the first time, of a person the latest."""
        self._database.execute("CREATE TABLE wanted AS SELECT row_key FROM expected UNION SELECT row_key FROM messages")
        kept = "min(acked_us) AS acked_us, arg_min(occurred_us, acked_us) AS occurred_us"
        if not self._is_event:
            kept = "max(acked_us) AS acked_us, max(occurred_us) AS occurred_us"
        files = [
            file for day in sorted(self._days()) for file in ledger_files(self._sources.store, self._feed.name, day, self._folder)
        ]
        notes = (
            f"SELECT row_key, epoch_us(acknowledged_at) AS acked_us, epoch_us(occurred_at) AS occurred_us FROM {parquet(files)}"  # noqa: S608
            if files
            else "SELECT NULL::VARCHAR AS row_key, 0::BIGINT AS acked_us, 0::BIGINT AS occurred_us LIMIT 0"
        )
        self._database.execute(
            f"CREATE TABLE delivered AS SELECT row_key, {kept} FROM ({notes}) SEMI JOIN wanted USING (row_key) GROUP BY row_key"  # noqa: S608
        )

    def judge(self) -> None:
        """Say of each delivery what became of it."""
        if self._is_event:
            sent, counted_from, base, age = "", "d.acked_us", "d.acked_us", "d.acked_us - d.occurred_us"
            ours = "SEMI JOIN delivered USING (row_key)"
        else:
            promised_us = _us(timedelta(hours=self._journey.starts_within_hours))
            # Since they qualified; Customer.io tells whole seconds, and looks at segments in its own time.
            sent = f"INNER JOIN expected AS e USING (row_key) WHERE m.created_us >= e.occurred_us - {self._grace_us + _SECOND_US}"
            counted_from, base = "e.occurred_us", f"greatest(e.occurred_us + {promised_us}, coalesce(d.acked_us, 0))"
            ours, age = "", "0"
        due, span_us = f"({base} + {self._wait_us})", _us(self._from - _EPOCH)
        window_us, margin_us = _us(TRIGGER_WINDOW), _us(HOLD_MARGIN)
        cases = (
            ("s.row_key IS NULL AND (d.row_key IS NULL OR d.occurred_us < e.changed_us)", What.NOT_DELIVERED),
            (f"{due} < {span_us} AND coalesce(s.last_us < {span_us}, true)", None),
            (f"{counted_from} < {(self._campaign.first_started or 0) * _SECOND_US}", What.BEFORE_START),
            # At the very edge of 72 hours nobody can say how old it was when Customer.io looked.
            (f"s.row_key IS NULL AND {age} >= {window_us - margin_us}", What.HISTORY),
            (f"{age} >= {window_us + margin_us}", What.HISTORY_FIRED),
            ("s.most > 1", What.TWICE),
            (f"s.first_us > {due} + {self._grace_us}", What.LATE),
            ("s.row_key IS NOT NULL", What.FIRED),
            (f"{due} + {self._grace_us} >= {_us(self._span.now - _EPOCH)}", What.NOT_DUE),
        )
        chosen = " ".join(f"WHEN {condition} THEN {literal(what) if what else 'NULL'}" for condition, what in cases)
        self._database.execute(
            f"""
            CREATE TABLE sent AS
            SELECT row_key, min(first_us) AS first_us, max(last_us) AS last_us, max(messages) AS most, any_value(person) AS person
            FROM (
                SELECT m.row_key, any_value(m.person) AS person, min(m.created_us) AS first_us, max(m.created_us) AS last_us,
                       count(*) AS messages
                FROM messages AS m {sent} GROUP BY m.row_key, m.action_id
            ) WHERE row_key IS NOT NULL GROUP BY row_key;
            CREATE TABLE judged AS
            SELECT coalesce(e.person, s.person) AS person, e.row_key IS NOT NULL AS is_expected, d.acked_us, s.first_us,
                   {counted_from} AS from_us, CASE {chosen} ELSE {literal(What.MISSING)} END AS what
            FROM expected AS e
            FULL JOIN (SELECT * FROM sent {ours}) AS s USING (row_key)
            LEFT JOIN delivered AS d ON d.row_key = coalesce(e.row_key, s.row_key);
            DELETE FROM judged WHERE what IS NULL;
            """  # noqa: S608 - names and numbers of our own
        )
        self._note_unsubscribed()

    def evidence(self, gone: int) -> Evidence:
        """Everything counted."""
        known = "delivered" if self._is_event else "expected"
        messages, others = self._row(
            f"SELECT count(*), count(*) FILTER (row_key IS NULL OR row_key NOT IN (SELECT row_key FROM {known})) "  # noqa: S608
            f"FROM messages WHERE created_us >= {_us(self._from - _EPOCH)}"
        )
        fired = ", ".join(map(literal, HAVE_FIRED))
        minutes = "greatest(first_us - from_us, 0) / 60e6"
        median, p95 = self._row(
            f"SELECT median({minutes}), quantile_cont({minutes}, 0.95) FROM judged WHERE is_expected AND what IN ({fired})"  # noqa: S608
        )
        counts = self._database.execute(
            "SELECT what, count(*) FILTER (is_expected), count(*) FROM judged GROUP BY what"
        ).fetchall()
        faults = ", ".join(map(literal, FAULTS))
        samples = self._database.execute(
            f"SELECT person, what, acked_us FROM judged WHERE what IN ({faults}) ORDER BY what, md5(person) LIMIT {SAMPLES_SHOWN}"  # noqa: S608
        ).fetchall()
        return Evidence(
            rows={What(what): expected for what, expected, _ in counts},
            faults={What(what): every for what, _, every in counts if what in FAULTS},
            messages=messages,
            others=others,
            gone=gone,
            is_audience_used=self._is_audience_used(),
            median_minutes=median,
            p95_minutes=p95,
            samples=tuple(Sample(person, What(what), _moment(acked_us)) for person, what, acked_us in samples),
        )

    def _is_audience_used(self) -> bool:
        """As a trigger, a filter or a condition: Customer.io tells which campaigns use a segment, and not how."""
        audience = [segment.segment_id for segment in self._contract.segments if segment.name == self._journey.audience]
        return all(self._campaign.campaign_id in self._sources.app.segment_users(segment_id) for segment_id in audience)

    def _with_change(self) -> str:
        """The journey's query with `changed_at`: until that content of a person is delivered, Customer.io cannot know."""
        person, moment = quoted(self._feed.identifier), quoted(self._feed.time_column)
        query = self._journey.sql.rstrip().rstrip(";")
        return (
            f"SELECT j.{person}, j.occurred_at, p.{moment} AS changed_at FROM (\n{query}\n) AS j "  # noqa: S608
            f"LEFT JOIN {view_name(self._feed)} AS p ON p.{person} = j.{person}"
        )

    def _days(self) -> set[str]:
        """Days of the ledger to read: those of the span's events, and those on which a wanted key stands."""
        keys = acknowledged_keys(self._database, self._sources.store, self._feed, self._folder)
        found = self._database.execute(f"SELECT DISTINCT day FROM {keys} SEMI JOIN wanted USING (row_key)").fetchall()  # noqa: S608
        days = {day for (day,) in found}
        if self._is_event:  # a key may stand on an earlier day, too
            first, last = self._since.date(), self._span.now.date()
            days |= {(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)}
        return days

    def _note_unsubscribed(self) -> None:
        """Who does not want messages gets none: that is no fault."""
        missing = self._database.execute(
            f"SELECT DISTINCT person FROM judged WHERE what = {literal(What.MISSING)} AND person IS NOT NULL LIMIT {PEOPLE_ASKED}"  # noqa: S608
        ).fetchall()
        profiles = self._sources.app.attributes([person for (person,) in missing])
        left = [p.person_id for p in profiles.values() if p.attributes.get("unsubscribed", "").lower() in {"true", "1"}]
        if left:
            self._database.register("left_by_choice", pa.table({"person": pa.array(left, pa.string())}))
            self._database.execute(
                f"UPDATE judged SET what = {literal(What.UNSUBSCRIBED)} "  # noqa: S608
                f"WHERE what = {literal(What.MISSING)} AND person IN (SELECT person FROM left_by_choice)"
            )

    def _row(self, query: str) -> tuple:
        found = self._database.execute(query).fetchone()
        assert found is not None  # noqa: S101 - aggregates have a row
        return found

    def _number(self, statement: str) -> int:
        return self._row(statement)[0]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _record(message: Message) -> dict[str, str | int | None]:
    return {
        "row_key": row_key_of(message.trigger_event_id or ""),
        "person": message.person_id,
        "created_us": message.created * _SECOND_US,
        "action_id": message.action_id,
    }


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _moment(us: int | None) -> datetime | None:
    return None if us is None else _EPOCH + timedelta(microseconds=us)
