"""One staged day in a database: its files, its ledger, its rejections, and the people that its rows name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime
from functools import cached_property, partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import BATCH_BYTES
from rs_cio_assets.delivery.classify import (
    FIRST_RULE,
    REFUSED_BEFORE,
    TRIGGER_WINDOW,
    Classifier,
    Outcome,
    due_at,
    outcome_of,
    staged_rows,
)
from rs_cio_assets.delivery.database import interruptibly
from rs_cio_assets.delivery.expressions import compile_expressions, quoted, row_key
from rs_cio_assets.delivery.ledger import COMPACT_SEGMENTS, compact_ledger, latest_of, ledger_files
from rs_cio_assets.delivery.options import DeliveryOptions, Neighbours
from rs_cio_assets.delivery.packing import Body, pack
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.delivery.rejections import Rejections
from rs_cio_assets.delivery.report import DeliveryReport
from rs_cio_assets.delivery.rules import PERSON_DELETED, PERSON_MERGED
from rs_cio_assets.delivery.sending import RefusedRow, Sending
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.store import Manifest, Store

MOSTLY = 0.9  # a ledger with this share of the day's rows: little is left to send


class StagedDay:
    """Rows with their outcomes. First `find_unknown_people` where it matters, then `operations` once, then the reports.

    Raises: MismatchError when the staged files do not hold what their manifest says.
    """

    def __init__(
        self,
        feed: Feed,
        contract: Contract,
        manifest: Manifest,
        store: Store,
        scratch: Path,
        database: duckdb.DuckDBPyConnection,
        now: datetime,
        options: DeliveryOptions,
    ) -> None:
        self.feed, self.day = feed, manifest.day
        self._contract, self._manifest, self._store, self._scratch = contract, manifest, store, scratch
        self._database, self._now, self._options = database, now, options
        self._files = [store.fetch(file.key, scratch) for file in manifest.files]
        self._require_rows(sum(pq.read_metadata(path).num_rows for path in self._files))
        self._expressions = compile_expressions(feed, contract, int(manifest.read_at.timestamp()))
        day = None if options.is_of_any_day else date.fromisoformat(manifest.day)
        self._classifier = Classifier(database, feed, contract, self._expressions, self._files, day, now, options)
        self._rejections = Rejections(database, store, feed.name, manifest.day, scratch, is_kept=not options.is_of_any_day)
        self._codes = np.zeros(Outcome.REJECTED, np.int64)
        self._could_trigger = 0
        self._latest_held_us: int | None = None
        interruptibly(database, self._compare)

    @property
    def may_trigger(self) -> bool:
        """False when every row is too old to start a campaign, whatever it says."""
        end_of_day = datetime.fromisoformat(f"{self.day}T00:00:00+00:00").timestamp() + 86_400
        return self.feed.kind is not FeedKind.EVENT or end_of_day > (self._now - TRIGGER_WINDOW).timestamp()

    @cached_property
    def counts(self) -> dict[int, tuple[int, int]]:
        """Code -> rows, and how many of them could start a campaign now. A pass of its own over the rows."""
        return interruptibly(self._database, self._classifier.counts)

    @property
    def people_known(self) -> int:
        """How many people were ever delivered."""
        return max((self._count_keys(feed) for feed in self._contract.feeds_of(FeedKind.PEOPLE)), default=0)

    def find_unknown_people(self) -> pa.ChunkedArray:
        """Identifiers of rows still to be sent whose people were never delivered; none where the contract does not care."""
        people = self._contract.feeds_of(FeedKind.PEOPLE)
        if self.feed.kind is not FeedKind.EVENT or self.feed.unknown_person == "send" or not people:
            return pa.chunked_array([], pa.string())

        def find() -> pa.ChunkedArray:
            return self._classifier.note_unknown_people([(self._keys_of(feed), partial(_person_key, feed)) for feed in people])

        return interruptibly(self._database, find)

    def deliver_people_first(self, neighbours: Neighbours) -> int:
        """Have the people delivered whose events would make bare profiles, where the contract says so; how many were."""
        unknown = self.find_unknown_people()
        if not len(unknown) or self.feed.unknown_person != "deliver" or neighbours.deliver_people is None:
            return 0
        neighbours.deliver_people(unknown)
        return len(unknown) - len(self.find_unknown_people())

    def people_of_rows(self) -> dict[int, tuple[str, str]]:
        """Of a merge feed: who stays and who goes by each row's pos, in the order of the rows' times."""
        stays, goes, at = (quoted(n) for n in (self.feed.identifier, self.feed.merged_column or "", self.feed.time_column))
        found = self._database.execute(
            f'SELECT "~pos", {stays}, {goes} FROM {staged_rows(self._files)} ORDER BY {at}, "~pos"'  # noqa: S608
        )
        return {pos: (kept, gone) for pos, kept, gone in found.fetchall()}

    def operations(self) -> Iterator[pa.RecordBatch]:
        """The rows to send, with their operations, in bounded batches. Counts every row, and notes the rejected ones."""
        self._codes[Outcome.UNCHANGED] = self._classifier.rows_unchanged
        young_us = (self._now - TRIGGER_WINDOW).timestamp() * 1_000_000
        for batch in self._classifier.stream():
            codes = batch["code"].to_numpy()
            counts = np.bincount(codes)
            self._codes = _sum(self._codes, counts)
            if len(counts) > Outcome.REJECTED:
                self._rejections.add(batch)
            sent = batch if counts[Outcome.SEND] == len(codes) else batch.filter(pa.array(codes == Outcome.SEND))
            if len(counts) > Outcome.HELD and counts[Outcome.HELD]:
                held = batch["occurred_us"].to_numpy()[codes == Outcome.HELD].max()
                self._latest_held_us = max(self._latest_held_us or 0, int(held))
            if sent.num_rows:
                self._could_trigger += int((sent["occurred_us"].to_numpy() > young_us).sum())
                yield sent
        self._require_rows(int(self._codes.sum()))

    def bodies(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Body]:
        """Requests of these operations."""
        return pack(batches, BATCH_BYTES, has_ulids=self.feed.kind is FeedKind.EVENT)

    def outcomes(self) -> dict[Outcome, int]:
        """Rows by outcome, after `operations`."""
        rows = dict.fromkeys(Outcome, 0)
        for code in np.flatnonzero(self._codes):
            rows[outcome_of(int(code))] += int(self._codes[code])
        return rows

    def rejected_by_reason(self) -> dict[str, int]:
        """Rejected rows by reason, after `operations`; what Customer.io refused before stands as one."""
        rules = self._classifier.rules
        reasons = {code: rules[code - FIRST_RULE].reason for code in map(int, np.flatnonzero(self._codes)) if code >= FIRST_RULE}
        if len(self._codes) > REFUSED_BEFORE and self._codes[REFUSED_BEFORE]:
            reasons[REFUSED_BEFORE] = "refused by Customer.io before"
        by_reason: dict[str, int] = {}
        for code, reason in reasons.items():
            by_reason[reason] = by_reason.get(reason, 0) + int(self._codes[code])
        return by_reason

    def save_rejections(self, refused: Sequence[RefusedRow]) -> dict[str, int]:
        """Write the day's rejections, with those that Customer.io refused in this run; rows by reason."""
        interruptibly(self._database, partial(self._save_rejections, refused))
        return self._rejections.by_reason()

    def report(self, sending: Sending, people_first: int, seconds: float) -> DeliveryReport:
        """Everything counted, and examples with hashed keys. After `save_rejections`."""
        rows = self.outcomes()
        due = due_at(self._latest_held_us) if self._latest_held_us is not None else None
        return DeliveryReport(
            feed=self.feed.name,
            day=self.day,
            rows=self._manifest.rows,
            delivered=sending.ledger.rows,
            could_trigger=self._could_trigger,
            unchanged=rows[Outcome.UNCHANGED],
            amended=rows[Outcome.AMENDED],
            duplicates=rows[Outcome.DUPLICATE],
            held=rows[Outcome.HELD],
            superseded=rows[Outcome.SUPERSEDED],
            rejected=self._rejections.rows,
            rejected_by_reason=self._rejections.by_reason(),
            people_first=people_first,
            requests=sending.requests,
            request_bytes=sending.request_bytes,
            requests_per_s=sending.track.pace_per_second,
            seconds=seconds,
            held_until=due if due and due > self._now else None,
            examples=self._rejections.examples(),
            delivered_examples=tuple(key[:12] for key in sending.examples),
        )

    def _save_rejections(self, refused: Sequence[RefusedRow]) -> None:
        business_keys: dict[int, str] = {}
        if refused:
            self._database.register("refused_rows", pa.table({"pos": pa.array([row.pos for row in refused], pa.int64())}))
            business_keys = dict(
                self._database.execute(
                    f'SELECT "~pos", {self._expressions.business_key} FROM {staged_rows(self._files)} '  # noqa: S608
                    'WHERE "~pos" IN (SELECT pos FROM refused_rows)'
                ).fetchall()
            )
        version = self._contract.version_of(self.feed)
        self._rejections.save(self._classifier.rules, refused, business_keys, version, self._now)

    def _compare(self) -> None:
        """Tell the classifier what is known of the day's rows."""
        feed, day = self.feed, self.day
        segments = ledger_files(self._store, feed.name, day, self._scratch)
        if len(segments) > COMPACT_SEGMENTS and compact_ledger(
            self._database, self._store, feed.name, day, self._scratch, self._now
        ):
            segments = ledger_files(self._store, feed.name, day, self._scratch)
        acknowledged = sum(pq.read_metadata(path).num_rows for path in segments)
        self._classifier.note_delivered(
            latest_of(segments) if segments else "", is_complete=acknowledged >= MOSTLY * self._manifest.rows
        )
        if self._rejections.earlier:
            self._classifier.note_refused(self._rejections.earlier, self._contract.version_of(feed))
        if feed.kind.is_irreversible:
            self._classifier.note_superseded(self._keys_of(feed), day)
            return
        for kind, rule in ((FeedKind.DELETION, PERSON_DELETED), (FeedKind.MERGE, PERSON_MERGED)):
            for gone in self._contract.feeds_of(kind):
                self._classifier.note_gone(self._keys_of(gone), partial(_person_key, gone), rule)

    def _count_keys(self, feed: Feed) -> int:
        ((count,),) = self._database.execute(f"SELECT count(DISTINCT row_key) FROM {self._keys_of(feed)}").fetchall()  # noqa: S608
        return count

    def _keys_of(self, feed: Feed) -> str:
        return acknowledged_keys(self._database, self._store, feed, self._scratch)

    def _require_rows(self, found: int) -> None:
        if found != self._manifest.rows:
            raise MismatchError(
                f"the staged files hold {found:,} rows, their manifest says {self._manifest.rows:,}",
                next_step="run the export of that day again",
                feed=self.feed.name,
                day=self.day,
            )


def _person_key(feed: Feed, identifier: str) -> str:
    """The row key that *feed*, with one row per person, gives to the person *identifier*, a column."""
    return row_key(feed, f"coalesce({identifier}::VARCHAR, '')")


def _sum(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Counts by code, of any length, added up."""
    if len(counts) > len(totals):
        totals = np.pad(totals, (0, len(counts) - len(totals)))
    totals[: len(counts)] += counts
    return totals
