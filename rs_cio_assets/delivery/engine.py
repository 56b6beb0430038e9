"""Deliver one staged day: classify its rows, send what the ledger does not hold, record what is acknowledged.

Whatever ends it (an error, Ctrl-C), every acknowledgement received so far is in the ledger; running it again completes it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.customerio import BATCH_BYTES, BatchAnswer, RefusedOperation, TrackClient
from rs_cio_assets.delivery.classify import Classified, classify, staged_rows
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import FeedExpressions, compile_expressions
from rs_cio_assets.delivery.ledger import LedgerWriter, ledger_files
from rs_cio_assets.delivery.packing import Body, pack
from rs_cio_assets.delivery.rejections import clear_rejections, save_rejections
from rs_cio_assets.delivery.report import DeliveryProgress, DeliveryReport, RejectedExample
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.store import Manifest, Store

ROWS_PER_BATCH = 8_192  # larger Arrow batches cost cache and memory (performance.md, section A)
EXAMPLES = 20
DELIVERED_EXAMPLES = 5
GRACE_S = 2.0
_BATCHES_AHEAD = 2  # bodies per sending thread that may wait: bounds the memory


def deliver_day(
    feed: Feed,
    contract: Contract,
    manifest: Manifest,
    store: Store,
    track: TrackClient,
    *,
    run_id: str,
    now: Callable[[], datetime],
    scratch: Path,
    concurrency: int,
    on_progress: Callable[[DeliveryProgress], None] | None = None,
) -> DeliveryReport:
    """Send the rows of *manifest*'s day that Customer.io has not acknowledged with this content.

    Idempotent: run again it sends only what is new, and without anything to send it makes no request. A row is delivered
    only when its operation was acknowledged. A bad row is rejected with its reason and the others go on. Before the first row
    is sent, Customer.io is asked whether the credentials belong to the region of the settings.

    Raises: CustomerioRefused, CustomerioUnavailable, StoreRefused, StoreUnavailable, MismatchError; what was acknowledged
    until then is recorded.
    """
    started = time.monotonic()
    if not manifest.rows:
        clear_rejections(store, feed.name, manifest.day)
        return DeliveryReport(feed.name, manifest.day, 0, seconds=time.monotonic() - started)
    with tempfile.TemporaryDirectory(dir=scratch) as folder, open_database(Path(folder)) as database:
        day = _Day(feed, contract, manifest, store, Path(folder), database, now())
        classified = day.classify()
        sending = _Sending(
            track, LedgerWriter(store, feed.name, manifest.day, run_id, Path(folder), now), concurrency, on_progress
        )
        if classified.rows.get("send"):
            track.region()
            sending.run(pack(day.operations(), BATCH_BYTES))
        if sending.refused:
            day.note_refused(sending.refused)
        return day.report(classified, sending, time.monotonic() - started)


class _Day:
    """The staged rows of one day in a database."""

    def __init__(
        self,
        feed: Feed,
        contract: Contract,
        manifest: Manifest,
        store: Store,
        scratch: Path,
        database: duckdb.DuckDBPyConnection,
        now: datetime,
    ) -> None:
        self._feed, self._contract, self._manifest = feed, contract, manifest
        self._store, self._scratch, self._database, self._now = store, scratch, database, now
        self._files = [store.fetch(file.key, scratch) for file in manifest.files]
        self._expressions: FeedExpressions = compile_expressions(feed, contract, int(manifest.read_at.timestamp()))

    def classify(self) -> Classified:
        """Make the outcomes, save the rejections, and count."""
        feed, day = self._feed, self._manifest.day
        classified = classify(
            self._database,
            feed,
            self._contract,
            self._expressions,
            self._files,
            ledger_files(self._store, feed.name, day, self._scratch),
            date.fromisoformat(day),
            self._now,
        )
        if sum(classified.rows.values()) != self._manifest.rows:
            raise MismatchError(
                f"the staged files hold {sum(classified.rows.values()):,} rows, their manifest says {self._manifest.rows:,}",
                next_step="run the export of that day again",
                feed=feed.name,
                day=day,
            )
        self._save_rejections()
        return classified

    def operations(self) -> Iterator[pa.RecordBatch]:
        """The operations to send with their row_key, content_hash and pos, in bounded batches."""
        e = self._expressions
        reader = self._database.sql(
            f"SELECT pos, {e.row_key} AS row_key, {e.content_hash} AS content_hash, {e.operation} AS operation "  # noqa: S608
            f"FROM {staged_rows(self._files)} WHERE pos IN (SELECT pos FROM outcomes WHERE outcome = 'send')"
        ).to_arrow_reader(ROWS_PER_BATCH)
        yield from reader

    def note_refused(self, refused: Sequence[tuple[int, RefusedOperation]]) -> None:
        """Add what Customer.io refused (row position, its answer) to the rejections."""
        columns = {
            "pos": pa.array([pos for pos, _ in refused], pa.int64()),
            "reason": pa.array([f"customerio_{o.reason or 'refused'}" for _, o in refused], pa.string()),
            "column_name": pa.array([o.field.removeprefix("attributes.") or None for _, o in refused], pa.string()),
            "message": pa.array([f"Customer.io refused it: {o.message or 'no message'}" for _, o in refused], pa.string()),
        }
        self._database.register("refused", pa.table(columns))
        self._database.execute(
            f"""
            INSERT INTO rejections
            SELECT {self._expressions.row_key}, {self._expressions.business_key}, r.reason, r.column_name, r.message
            FROM {staged_rows(self._files)} AS s INNER JOIN refused AS r ON r.pos = s.pos
            """  # noqa: S608
        )
        self._save_rejections()

    def report(self, classified: Classified, sending: _Sending, seconds: float) -> DeliveryReport:
        """Everything counted, and examples with hashed keys."""
        reasons = dict(
            self._database.execute("SELECT reason, count(*) AS n FROM rejections GROUP BY reason ORDER BY n DESC").fetchall()
        )
        examples = []
        if reasons:
            examples = self._database.execute(
                "SELECT row_key, reason, column_name, message FROM rejections "
                "QUALIFY row_number() OVER (PARTITION BY reason, column_name ORDER BY row_key) <= 3 "
                "ORDER BY reason, column_name LIMIT ?",
                [EXAMPLES],
            ).fetchall()
        rows = classified.rows
        return DeliveryReport(
            feed=self._feed.name,
            day=self._manifest.day,
            rows=self._manifest.rows,
            delivered=sending.ledger.rows,
            unchanged=rows.get("unchanged", 0),
            amended=rows.get("amended", 0),
            duplicates=rows.get("duplicate", 0),
            held=rows.get("held", 0),
            rejected=rows.get("rejected", 0) + len(sending.refused),
            rejected_by_reason=reasons,
            requests=sending.requests,
            request_bytes=sending.request_bytes,
            seconds=seconds,
            held_until=classified.held_until,
            examples=tuple(RejectedExample(key[:12], *rest) for key, *rest in examples),
            delivered_examples=tuple(key[:12] for key in sending.examples),
        )

    def _save_rejections(self) -> None:
        save_rejections(self._database, self._store, self._feed.name, self._manifest.day, self._now, self._scratch)


@dataclass
class _Sending:
    """Bodies out over a few threads, acknowledgements into the ledger from this one."""

    track: TrackClient
    ledger: LedgerWriter
    concurrency: int
    on_progress: Callable[[DeliveryProgress], None] | None
    refused: list[tuple[int, RefusedOperation]] = field(default_factory=list)
    requests: int = 0
    request_bytes: int = 0
    examples: tuple[str, ...] = ()

    def run(self, bodies: Iterator[Body]) -> None:
        """Send all *bodies*. Ends at the first error, after noting what was acknowledged."""
        pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="customerio")
        under_way: dict[Future[BatchAnswer], Body] = {}
        try:
            for body in bodies:
                while len(under_way) >= self.concurrency * _BATCHES_AHEAD:
                    self._settle(under_way)
                under_way[pool.submit(self.track.send_batch, body.data, body.rows.num_rows)] = body
            while under_way:
                self._settle(under_way)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # After an error some requests are still on their way: what they bring within the grace time counts.
            finished, _ = wait(under_way, timeout=GRACE_S)
            for future in finished:
                if not future.cancelled() and future.exception() is None:
                    self._note(under_way[future], future.result())
            self.ledger.flush()

    def _settle(self, under_way: dict[Future[BatchAnswer], Body]) -> None:
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            body = under_way.pop(future)
            self._note(body, future.result())

    def _note(self, body: Body, answer: BatchAnswer) -> None:
        self.requests += 1
        self.request_bytes += len(body.data)
        accepted = body.rows
        if answer.refused:
            is_accepted = np.ones(body.rows.num_rows, bool)
            positions = body.rows["pos"].to_pylist()
            for operation in answer.refused:
                is_accepted[operation.index] = False
                self.refused.append((positions[operation.index], operation))
            accepted = body.rows.filter(pa.array(is_accepted))
        if not self.examples:
            self.examples = tuple(accepted["row_key"].slice(0, DELIVERED_EXAMPLES).to_pylist())
        if self.ledger.add(accepted) and self.on_progress:
            self.on_progress(DeliveryProgress(self.ledger.rows))
