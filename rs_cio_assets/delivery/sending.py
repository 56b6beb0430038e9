"""Bodies out over a few threads, acknowledgements into the ledger from the caller's.

Whatever ends it (an error, Ctrl-C), what was acknowledged until then, or within a grace time, is in the ledger.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from rs_cio_assets.customerio import BatchAnswer, RefusedOperation, TrackClient
from rs_cio_assets.delivery.ledger import LedgerWriter
from rs_cio_assets.delivery.packing import Body
from rs_cio_assets.delivery.report import DeliveryProgress
from rs_cio_assets.errors import CustomerioBodyTooLarge

GRACE_S = 1.0  # with the rest of the ending it keeps a cancelled run within 2 s
DELIVERED_EXAMPLES = 5
_BODIES_AHEAD = 2  # per sending thread: bounds the memory
_TOO_LARGE = RefusedOperation(0, "too_large", "", "status 413 for this operation alone")
_HALF = 2


@dataclass(frozen=True)
class RefusedRow:
    """A row that Customer.io did not take: its position, row key and content, and the answer."""

    pos: int
    row_key: str
    content_hash: str
    operation: RefusedOperation


@dataclass
class Sending:
    """One day's requests. Daemon threads, so that a process that is told to end does not wait for an answer."""

    track: TrackClient
    ledger: LedgerWriter
    concurrency: int
    on_progress: Callable[[DeliveryProgress], None] | None = None
    refused: list[RefusedRow] = field(default_factory=list)
    requests: int = 0
    request_bytes: int = 0
    examples: tuple[str, ...] = ()

    def run(self, bodies: Iterable[Body]) -> None:
        """Send all *bodies*; returns when each is acknowledged and noted. Ends at the first error.

        Raises: what *bodies* and the client raise; then the client is stopped for good.
        """
        work = _Work(self.track, self.concurrency)
        try:
            for body in bodies:
                self.track.region()  # asked once, before the first row
                work.put(body)
                while work.is_full:
                    self._note_next(work)
                while work.has_answer:
                    self._note_next(work)
            while work.under_way:
                self._note_next(work)
        except BaseException:
            self.track.stop()
            work.end()
            deadline = time.monotonic() + GRACE_S
            while work.under_way and (remaining := deadline - time.monotonic()) > 0:
                if (answer := work.next(remaining)) is not None and not isinstance(answer, BaseException):
                    self._note(*answer)
            raise
        finally:
            work.end()
            self.ledger.flush()

    def _note_next(self, work: _Work) -> None:
        answer = work.next()
        if isinstance(answer, BaseException):
            raise answer
        if answer is not None:
            self._note(*answer)

    def _note(self, body: Body, answer: BatchAnswer) -> None:
        self.requests += 1
        self.request_bytes += len(body.data)
        accepted = body.rows
        if answer.refused:
            is_accepted = np.ones(accepted.num_rows, bool)
            is_accepted[[operation.index for operation in answer.refused]] = False
            for operation in answer.refused:
                (row,) = accepted.slice(operation.index, 1).to_pylist()
                self.refused.append(RefusedRow(row["pos"], row["row_key"], row["content_hash"], operation))
            accepted = accepted.filter(pa.array(is_accepted))
        if not self.examples:
            self.examples = tuple(accepted["row_key"].slice(0, DELIVERED_EXAMPLES).to_pylist())
        if self.ledger.add(accepted) and self.on_progress:
            self.on_progress(DeliveryProgress(self.ledger.rows))


class _Work:
    """The threads, what they have still to send, and what they were answered."""

    def __init__(self, track: TrackClient, concurrency: int) -> None:
        self.under_way = 0  # bodies put and not yet finished
        self._track, self._limit = track, concurrency * _BODIES_AHEAD
        self._bodies: queue.SimpleQueue[Body | None] = queue.SimpleQueue()
        # An answer to a body or a part of it; None when a body is finished; an error that ended one.
        self._answers: queue.SimpleQueue[tuple[Body, BatchAnswer] | BaseException | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._send_all, name=f"customerio-{n}", daemon=True) for n in range(concurrency)]
        self._is_ended = False
        for thread in self._threads:
            thread.start()

    @property
    def is_full(self) -> bool:
        return self.under_way >= self._limit

    @property
    def has_answer(self) -> bool:
        return not self._answers.empty()

    def put(self, body: Body) -> None:
        self.under_way += 1
        self._bodies.put(body)

    def next(self, timeout_s: float | None = None) -> tuple[Body, BatchAnswer] | BaseException | None:
        """The next answer or error; None when a body is finished, or when none came in time."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if answer is None or isinstance(answer, BaseException):
            self.under_way -= 1
        return answer

    def end(self) -> None:
        """Let every thread end after what it is sending."""
        if not self._is_ended:
            self._is_ended = True
            for _ in self._threads:
                self._bodies.put(None)

    def _send_all(self) -> None:
        while (body := self._bodies.get()) is not None:
            if self._is_ended:
                self._answers.put(None)
                continue
            try:
                self._send(body)
            except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, which raises it
                self._answers.put(error)
            else:
                self._answers.put(None)

    def _send(self, body: Body) -> None:
        count = body.rows.num_rows
        try:
            self._answers.put((body, self._track.send_batch(body.data, count)))
        except CustomerioBodyTooLarge:
            if count < _HALF:
                self._answers.put((body, BatchAnswer((_TOO_LARGE,))))
            else:
                for half in body.halves():
                    self._send(half)
