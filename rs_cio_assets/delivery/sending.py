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
    """One day's requests. *interrupt* ends a wait inside the bodies' iterator, from another thread."""

    track: TrackClient
    ledger: LedgerWriter
    concurrency: int
    on_progress: Callable[[DeliveryProgress], None] | None = None
    interrupt: Callable[[], None] = lambda: None
    refused: list[RefusedRow] = field(default_factory=list)
    requests: int = 0
    request_bytes: int = 0
    examples: tuple[str, ...] = ()

    def run(self, bodies: Iterable[Body]) -> None:
        """Send all *bodies*; returns when each is acknowledged and noted. Ends at the first error.

        Raises: what *bodies* and the client raise; then the client is stopped for good.
        """
        work = _Work(self.track, self.concurrency, bodies)
        try:
            while not work.is_done:
                self._note_next(work, None)
        except BaseException:
            self.track.stop()
            work.end()
            self.interrupt()
            deadline = time.monotonic() + GRACE_S
            while work.in_flight and (remaining := deadline - time.monotonic()) > 0:
                self._note_next(work, remaining, is_ending=True)
            while work.has_answer:
                self._note_next(work, 0, is_ending=True)
            work.join(max(0.0, deadline - time.monotonic()))
            raise
        finally:
            self.ledger.flush()

    def _note_next(self, work: _Work, timeout_s: float | None, *, is_ending: bool = False) -> None:
        answer = work.next(timeout_s)
        if isinstance(answer, BaseException):
            if not is_ending:
                raise answer
        elif answer is not None:
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


class _Finished:
    """A body has all its answers."""


@dataclass(frozen=True)
class _Made:
    """All bodies are made; how many there are."""

    bodies: int


class _Work:
    """The threads, what they have still to send, and what they were answered.

    One thread makes the bodies while others send them, so that neither waits for the other. All are daemons: a process that is
    told to end does not wait for an answer.
    """

    def __init__(self, track: TrackClient, concurrency: int, bodies: Iterable[Body]) -> None:
        self._track, self._concurrency, self._to_send = track, concurrency, bodies
        self._room = threading.Semaphore(concurrency * _BODIES_AHEAD)
        self._bodies: queue.SimpleQueue[Body | None] = queue.SimpleQueue()
        # An answer to a body or a part of it; how many bodies are finished or made; an error, which ends everything.
        self._answers: queue.SimpleQueue[tuple[Body, BatchAnswer] | BaseException | _Finished | _Made] = queue.SimpleQueue()
        self._finished, self._made, self._is_ended = 0, -1, False
        self._busy = [False] * concurrency
        self._maker = threading.Thread(target=self._make, name="customerio-bodies", daemon=True)
        self._maker.start()
        for number in range(concurrency):
            threading.Thread(target=self._send_all, args=(number,), name=f"customerio-{number}", daemon=True).start()

    @property
    def is_done(self) -> bool:
        """True when every body is made, sent and noted."""
        return self._finished == self._made

    @property
    def in_flight(self) -> bool:
        """True while some thread waits for an answer."""
        return any(self._busy)

    @property
    def has_answer(self) -> bool:
        """True when `next` would not wait."""
        return not self._answers.empty()

    def next(self, timeout_s: float | None) -> tuple[Body, BatchAnswer] | BaseException | None:
        """The next answer or error; None for anything else, or when nothing came in time."""
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if isinstance(answer, _Finished):
            self._finished += 1
        elif isinstance(answer, _Made):
            self._made = answer.bodies
        else:
            return answer
        return None

    def end(self) -> None:
        """Let every thread end after what it is doing."""
        self._is_ended = True
        self._room.release(self._concurrency)
        for _ in self._busy:
            self._bodies.put(None)

    def join(self, timeout_s: float) -> None:
        """Wait for the maker of bodies: what it reads from may be closed afterwards."""
        self._maker.join(timeout_s)

    def _make(self) -> None:
        try:
            made = 0
            for body in self._to_send:
                made += 1
                self._track.region()  # asked once, before the first row
                self._room.acquire()
                if self._is_ended:
                    return
                self._bodies.put(body)
            self._answers.put(_Made(made))
            for _ in self._busy:
                self._bodies.put(None)
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, which raises it
            self._answers.put(error)

    def _send_all(self, number: int) -> None:
        while (body := self._bodies.get()) is not None and not self._is_ended:
            self._busy[number] = True
            try:
                self._send(body)
            except BaseException as error:  # noqa: BLE001 - as above
                self._answers.put(error)
                return
            finally:
                self._busy[number] = False
                self._room.release()
            self._answers.put(_Finished())

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
