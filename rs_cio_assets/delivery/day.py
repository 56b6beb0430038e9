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
    PeopleKeys,
    due_at,
    outcome_of,
    staged_rows,
)
from rs_cio_assets.delivery.database import interruptibly
from rs_cio_assets.delivery.expressions import compile_expressions, person_key, quoted
from rs_cio_assets.delivery.ledger import COMPACT_SEGMENTS, compact_ledger, ledger_files
from rs_cio_assets.delivery.options import DeliveryOptions, Neighbours
from rs_cio_assets.delivery.packing import Body, pack
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.delivery.rejections import Rejections
from rs_cio_assets.delivery.report import DeliveryReport
from rs_cio_assets.delivery.rules import PERSON_DELETED, PERSON_MERGED
from rs_cio_assets.delivery.sending import RefusedRow, Sending
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.store import Manifest, Store


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
        files = [(path, pq.read_metadata(path).num_rows) for path in (store.fetch(f.key, scratch) for f in manifest.files)]
        self._require_rows(sum(rows for _, rows in files))
        self._rows = staged_rows({number: path for number, (path, _) in enumerate(files)})
        self._segments = ledger_files(store, feed.name, manifest.day, scratch)
        self._expressions = compile_expressions(feed, contract, int(manifest.read_at.timestamp()))
        day = None if options.is_of_any_day else date.fromisoformat(manifest.day)
        self._classifier = Classifier(database, feed, contract, self._expressions, files, day, now, options)
        self._rejections = Rejections(database, store, feed.name, manifest.day, scratch, is_kept=not options.is_of_any_day)
        self._codes = np.zeros(Outcome.REJECTED, np.int64)
        self._could_trigger = 0
        self._latest_held_us: int | None = None
        interruptibly(database, self._compare)

    @property
    def may_trigger(self) -> bool:
        """False when no row can start a campaign, whatever it says."""
        end_of_day = datetime.fromisoformat(f"{self.day}T00:00:00+00:00").timestamp() + 86_400
        is_young = end_of_day > (self._now - TRIGGER_WINDOW).timestamp()
        return is_young if self.feed.kind is FeedKind.EVENT else self.feed.kind is FeedKind.PEOPLE

    @cached_property
    def counts(self) -> dict[int, tuple[int, int]]:
        """Code -> rows, and how many of them could start a campaign now. A pass of its own over the rows."""
        return interruptibly(self._database, self._classifier.counts)

    @property
    def rows_acknowledged(self) -> int:
        """Keys of the day that the ledger holds already."""
        return sum(pq.read_metadata(path).num_rows for path in self._segments)

    @property
    def people_known(self) -> int:
        """How many people were ever delivered."""
        counts = [self._count_keys(feed) for feed in self._contract.feeds_of(FeedKind.PEOPLE)]
        return max(counts, default=0)

    def find_unknown_people(self, *, is_outcome: bool = True) -> pa.ChunkedArray:
        """Identifiers of rows still to be sent whose people were never delivered; none where the contract does not care.

        Their rows wait or are rejected, unless this *is_outcome* is false.
        """
        people = self._contract.feeds_of(FeedKind.PEOPLE)
        is_asked = self.feed.kind in {FeedKind.EVENT, FeedKind.MERGE}  # a merge into nobody does nothing
        if not is_asked or self.feed.unknown_person == "send" or not people or not self._classifier.rows_left:
            return pa.chunked_array([], pa.string())

        def find() -> pa.ChunkedArray:
            known = [self._people_of(feed) for feed in people]
            deleted = [self._people_of(feed) for feed in self._contract.feeds_of(FeedKind.DELETION)]
            return self._classifier.note_unknown_people(known, deleted, is_outcome=is_outcome)

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
        rows = f'SELECT "~pos", {stays}, {goes} FROM {self._rows} ORDER BY {at}, "~pos"'  # noqa: S608
        found = interruptibly(self._database, lambda: self._database.execute(rows).fetchall())
        return {pos: (kept, gone) for pos, kept, gone in found}

    def operations(self) -> Iterator[pa.RecordBatch]:
        """The rows to send, with their operations, in bounded batches. Counts every row, and notes the rejected ones."""
        self._codes[Outcome.UNCHANGED] = self._classifier.rows_unchanged
        if not self._classifier.rows_left:
            return
        young_us = (self._now - TRIGGER_WINDOW).timestamp() * 1_000_000
        for batch in self._classifier.stream():
            codes = batch["code"].to_numpy()
            counts = np.bincount(codes)
            self._codes = _sum(self._codes, counts)
            if len(counts) > Outcome.REJECTED:
                self._rejections.add(batch)
            sent = batch if counts[Outcome.SEND] == len(codes) else batch.filter(pa.array(codes == Outcome.SEND))
            if len(counts) > Outcome.HELD and counts[Outcome.HELD]:
                held = batch["occurred_us"].filter(pa.array(codes == Outcome.HELD)).to_numpy()
                self._latest_held_us = max(self._latest_held_us or 0, int(held.max()))
            if sent.num_rows:
                self._could_trigger += int((sent["occurred_us"].to_numpy() > young_us).sum())
                yield sent
        self._require_rows(int(self._codes.sum()))

    def bodies(self, batches: Iterable[pa.RecordBatch]) -> Iterator[Body]:
        """Requests of these operations."""
        return pack(batches, BATCH_BYTES, has_ulids=self.feed.kind is FeedKind.EVENT)

    def rows_with_codes(self) -> str:
        """A DuckDB relation of every row of the day as it stands now: row_key, business_key, identifier, occurred_at, loaded_at,
        code. Sends and counts nothing."""
        interruptibly(self._database, partial(self._classifier.keep_codes, "codes"))
        e, feed = self._expressions, self.feed
        return (
            f"(SELECT {e.row_key} AS row_key, {e.business_key} AS business_key, "  # noqa: S608 - names are quoted
            f"{quoted(feed.identifier)}::VARCHAR AS identifier, "
            f"{quoted(feed.time_column)} AS occurred_at, {quoted(feed.loaded_at)} AS loaded_at, "
            f'coalesce(c.code, {Outcome.UNCHANGED}) AS code FROM {self._rows} AS r LEFT JOIN codes AS c ON c.pos = r."~pos")'
        )

    @property
    def rejections(self) -> str | None:
        """A DuckDB relation of the day's rejections as the last run left them; None where there are none."""
        return self._rejections.earlier

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
            held_until=None if self._latest_held_us is None else due_at(self._latest_held_us),
            examples=self._rejections.examples(),
            delivered_examples=tuple(key[:12] for key in sending.examples),
        )

    def _save_rejections(self, refused: Sequence[RefusedRow]) -> None:
        business_keys: dict[int, str] = {}
        if refused:
            self._database.register("refused_rows", pa.table({"pos": pa.array([row.pos for row in refused], pa.int64())}))
            business_keys = dict(
                self._database.execute(
                    f'SELECT "~pos", {self._expressions.business_key} FROM {self._rows} '  # noqa: S608
                    'WHERE "~pos" IN (SELECT pos FROM refused_rows)'
                ).fetchall()
            )
        version = self._contract.version_of(self.feed)
        self._rejections.save(self._classifier.rules, refused, business_keys, version, self._now)

    def _compare(self) -> None:
        """Tell the classifier what is known of the day's rows."""
        feed = self.feed
        if len(self._segments) > COMPACT_SEGMENTS:
            compact_ledger(self._database, self._store, feed.name, self.day, self._scratch, self._now)
            self._segments = ledger_files(self._store, feed.name, self.day, self._scratch)
        self._classifier.note_delivered(self._segments)
        if not self._classifier.rows_left:
            return
        if self._rejections.earlier:
            self._classifier.note_refused(self._rejections.earlier, self._contract.version_of(feed))
        if feed.kind.is_irreversible:
            self._classifier.note_superseded(self._keys_of(feed), self.day)
            return
        for kind, rule in ((FeedKind.DELETION, PERSON_DELETED), (FeedKind.MERGE, PERSON_MERGED)):
            for gone in self._contract.feeds_of(kind):
                self._classifier.note_gone(self._people_of(gone), rule)

    def _people_of(self, feed: Feed) -> PeopleKeys:
        return PeopleKeys(self._keys_of(feed), partial(person_key, feed))

    def _count_keys(self, feed: Feed) -> int:
        counted = f"SELECT count(DISTINCT row_key) FROM {self._keys_of(feed)}"  # noqa: S608
        return interruptibly(self._database, lambda: self._database.execute(counted).fetchall())[0][0]

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


def _sum(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Counts by code, of any length, added up."""
    if len(counts) > len(totals):
        totals = np.pad(totals, (0, len(counts) - len(totals)))
    totals[: len(counts)] += counts
    return totals
