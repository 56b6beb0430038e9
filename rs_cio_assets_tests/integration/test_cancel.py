"""A delivery that is told to end: at once, whatever it waits for, and with everything acknowledged recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import DeliveryProgress, deliver_day, ledger
from rs_cio_assets.delivery.packing import ulids
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore, load_manifest
from rs_cio_assets_tests.integration.test_delivery_guards import DAY, Days, order
from rs_cio_assets_tests.staging import NOW, RecordingTrack, contract_of, feed_of, stage

PROJECT = Path(__file__).parents[2]
ROWS, NOTE = 300, "n" * 20_000  # some twenty rows a body
ORDERS = feed_of("event", {"order_id": {"type": "string"}, "note": {"type": "string"}}, name="orders", view="cio_export.orders")
CONCURRENCY = 3
HANGS_S, RETRY_AFTER_S = 30, 300
# The promise is 2 s. A loaded machine gets more, and still far less than what is being waited for.
ENDS_WITHIN_S = 12.0


def rows() -> list[dict[str, Any]]:
    """A day of several bodies."""
    return [order(number, note=NOTE) for number in range(ROWS)]


def deliver_until_interrupted(folder: str, url: str) -> None:
    """What the child process does: a usual delivery, with the client's real pace and waits."""
    store = LocalStore(Path(folder) / "store")
    manifest = load_manifest(store, ORDERS.name, DAY)
    assert manifest is not None
    settings = load_settings({"CUSTOMERIO_TRACK_URL": url, "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000"}).customerio
    begun = time.monotonic()
    with TrackClient(settings) as track:
        deliver_day(
            ORDERS,
            contract_of(ORDERS),
            manifest,
            store,
            track,
            run_id="11111111-test",
            now=lambda: NOW + timedelta(seconds=time.monotonic() - begun),
            scratch=Path(folder),
            concurrency=CONCURRENCY,
        )


class Stubborn(ThreadingHTTPServer):
    """Answers the first *answered* batches; to the others it says nothing, or that one should come back in five minutes."""

    daemon_threads = True

    def __init__(self, *, answered: int, is_hanging: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answered, self.is_hanging = answered, is_hanging
        self.lock, self.stopped = threading.Lock(), threading.Event()
        self.batches = self.waiting = 0
        self.acknowledged: set[str] = set()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def stubborn(self) -> Stubborn:
        """The server, with what it knows."""
        assert isinstance(self.server, Stubborn)
        return self.server

    def do_GET(self) -> None:
        self._answer(200, {"region": "us", "environment_id": 1})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.stubborn.lock:
            self.stubborn.batches += 1
            is_answered = self.stubborn.batches <= self.stubborn.answered
        if is_answered:
            self._answer(200, {})
            with self.stubborn.lock:
                self.stubborn.acknowledged |= {operation["id"] for operation in json.loads(body)["batch"]}
            return
        with self.stubborn.lock:
            self.stubborn.waiting += 1
        if self.stubborn.is_hanging:
            self.stubborn.stopped.wait(HANGS_S)
            self.close_connection = True
        else:
            self._answer(429, {}, {"Retry-After": str(RETRY_AFTER_S)})

    def _answer(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def stubborn(request: pytest.FixtureRequest) -> Iterator[Stubborn]:
    """A server that answers five batches."""
    server = Stubborn(answered=5, is_hanging=request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.stopped.set()
    server.shutdown()
    thread.join()
    server.server_close()


def recorded_ids(folder: Path) -> set[str]:
    """The event ids of the rows in the ledger."""
    files = sorted((folder / "store" / "ledger" / ORDERS.name / DAY).glob("*.parquet"))
    keys = pa.concat_tables([pq.read_table(file) for file in files])["row_key"].combine_chunks() if files else pa.array([])
    return {bytes(text).decode() for text in ulids(keys)} if len(keys) else set()


def wait_until(is_true: Any, what: str, at_most_s: float = 60) -> None:
    """Look again and again. Raises: AssertionError, saying *what* did not happen."""
    deadline = time.monotonic() + at_most_s
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def started(command: str, scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Python in a process of its own, with a pace of its own; it is ended with the block."""
    with subprocess.Popen(
        [sys.executable, "-c", command],
        cwd=PROJECT,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with Ctrl-C ignored, and their children inherit that; a user's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("stubborn", [True, False], ids=["hangs_30_s", "retry_after_300_s"], indirect=True)
def test_ctrl_c_ends_a_process_that_waits_for_customerio(stubborn: Stubborn, tmp_path: Path):
    """DL5: SIGINT does not sit the wait out; what was acknowledged is in the ledger, and the next run sends the rest alone."""
    days = Days(tmp_path, ORDERS)
    stage(days.store, ORDERS, DAY, rows(), tmp_path)
    command = f"from {__name__} import deliver_until_interrupted as run; run({str(tmp_path)!r}, {stubborn.url!r})"
    with started(command, tmp_path) as process:
        waiting = CONCURRENCY if stubborn.is_hanging else 1
        wait_until(lambda: stubborn.waiting >= waiting or process.poll() is not None, "nobody waits")
        time.sleep(0.2)  # the answers that went out are with the client by then
        asked = stubborn.batches
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=HANGS_S - 5)
        ended_s = time.monotonic() - begun
    print(f"ended after {ended_s:.2f} s")  # noqa: T201 - with -s, for the curious
    assert ended_s < ENDS_WITHIN_S
    assert "KeyboardInterrupt" in errors
    assert stubborn.batches == asked
    assert recorded_ids(tmp_path) == stubborn.acknowledged
    assert 0 < len(stubborn.acknowledged) < ROWS
    report = days.run(ORDERS, rows())
    assert (report.unchanged, report.delivered) == (len(stubborn.acknowledged), ROWS - len(stubborn.acknowledged))
    assert stubborn.acknowledged.isdisjoint(operation["id"] for operation in days.sent(ORDERS))


def test_ctrl_c_while_duckdb_works_is_an_interrupt(tmp_path: Path):
    """DL5: also while rows are classified, Ctrl-C ends the run as Ctrl-C and as no failure that would be tried again."""
    command = """
from pathlib import Path
from rs_cio_assets.delivery.database import interruptibly, open_database
query = "SELECT sum(a.range * b.range) FROM range(100000000) AS a, range(100000000) AS b"
with open_database() as database:
    print("begun", flush=True)
    interruptibly(database, lambda: database.execute(query))
"""
    with started(command, tmp_path) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        _, errors = process.communicate(timeout=60)
        ended_s = time.monotonic() - begun
    assert ended_s < ENDS_WITHIN_S
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


class Cancelled(BaseException):
    """What ends the run: like Dagster's own, no Exception."""


def cancelled_run(days: Days, track: RecordingTrack, on_progress: Any, scratch: Path) -> None:
    """A delivery that *on_progress* ends."""
    manifest = stage(days.store, ORDERS, DAY, rows(), scratch)
    with track.client() as client, pytest.raises(Cancelled):
        deliver_day(
            ORDERS,
            days.contract,
            manifest,
            days.store,
            client,
            run_id="99999999-test",
            now=lambda: NOW,
            scratch=scratch,
            concurrency=CONCURRENCY,
            on_progress=on_progress,
        )


def test_answers_that_are_on_their_way_are_still_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DL5: for a moment after the end, answers to what was already sent are taken; no further request is begun."""
    monkeypatch.setattr(ledger, "FLUSH_AFTER_ROWS", 1)
    monkeypatch.setattr("rs_cio_assets.delivery.sending.GRACE_S", 30.0)
    days, is_cancelled = Days(tmp_path, ORDERS), threading.Event()
    under_way = threading.Semaphore(0)
    begun_after: list[bool] = []

    def answer(_: httpx.Request) -> None:
        begun_after.append(is_cancelled.is_set())
        if len(begun_after) > 1:  # all but the first answer come after the end only
            under_way.release()
            assert is_cancelled.wait(30)
            time.sleep(0.1)

    def cancel(_: DeliveryProgress) -> None:
        if not is_cancelled.is_set():
            assert under_way.acquire(timeout=30)
            is_cancelled.set()
            raise Cancelled

    track = RecordingTrack(answer)
    cancelled_run(days, track, cancel, tmp_path)
    taken = {operation["id"] for operation in track.operations}
    assert recorded_ids(tmp_path) == taken
    assert 0 < len(taken) < ROWS
    assert len(track.bodies) <= 1 + CONCURRENCY
    report = days.run(ORDERS, rows())
    assert (report.unchanged, report.delivered) == (len(taken), ROWS - len(taken))


def test_an_answer_that_comes_too_late_is_asked_for_again_with_the_same_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DL2, DL5: what was applied and not recorded is repeated as it was, so that Customer.io knows it."""
    monkeypatch.setattr(ledger, "FLUSH_AFTER_ROWS", 1)
    monkeypatch.setattr("rs_cio_assets.delivery.sending.GRACE_S", 0.0)
    days, is_over = Days(tmp_path, ORDERS), threading.Event()
    late: list[bytes] = []

    def answer(request: httpx.Request) -> None:
        if track.bodies:
            late.append(request.content)
            assert is_over.wait(30)

    def cancel(_: DeliveryProgress) -> None:
        wait_until(lambda: late, "no second request")
        raise Cancelled

    track = RecordingTrack(answer)
    try:
        cancelled_run(days, track, cancel, tmp_path)
        recorded = recorded_ids(tmp_path)
    finally:
        is_over.set()
    lost = {operation["id"] for body in late for operation in json.loads(body)["batch"]}
    days.run(ORDERS, rows())
    again = {operation["id"] for operation in days.sent(ORDERS)}
    assert lost <= again
    assert recorded.isdisjoint(again)
    assert len(recorded | again) == ROWS
