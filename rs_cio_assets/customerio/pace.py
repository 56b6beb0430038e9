"""How fast requests go: one budget per workspace, shared by all processes of a user on this machine, that adapts by itself.

The budget is a small file under a lock. A process that is killed leaves nothing behind but the turn it took. Nobody reserves a
turn ahead: who waits asks again when the next turn is due, so that a wait asked for by the server holds for everybody at once.

There are two lanes. A backfill has the whole budget while nobody live asks for it, and a small share of it while somebody does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import math
import os
import stat
import statistics
import struct
import tempfile
import threading
import time
import weakref
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

from rs_cio_assets.errors import SettingsError

# Choices of this project, not Customer.io's: it documents a limit, and neither how it throttles nor how it recovers.
REFUSED_FACTOR = 0.5  # after a 429
FAILED_FACTOR = 0.7  # after a 5xx, a timeout, a reset
SLOW_FACTOR = 0.9  # while answers are slow
# Cuts are whole when this share of the latest requests went wrong, and smaller in proportion: a service that drops one request
# in twenty whatever the rate is not helped by a twentieth of the rate.
WHOLE_CUT_SHARE, LATEST, LEAST_COUNTED = 0.25, 20, 4
CUT_EVERY_S = 1.0  # one cut a second, however many threads report the same trouble
DOUBLES_IN_S = 4.0  # recovery: from the floor to the maximum in less than half a minute
FLOOR_SHARE, FLOOR_PER_S = 0.01, 0.2
SLOW_FLOOR_SHARE = 0.1  # slow answers are still answers
SLOW_LEAST_S, SLOW_RATIO = 1.0, 3.0  # slow: both over a second and over three times the calm level
LATENCIES = 9  # the level is their median: one answer that hung changes nothing
CALM_DOUBLES_IN_S = 120.0  # a level that stays becomes the calm one
BACKFILL_SHARE = 0.1  # of the rate, while live callers ask: never nothing, or a busy day would stop a backfill
LIVE_LINGERS_S = 2.0  # a live caller that asked this lately is expected to ask again
LATE_S = 0.05  # a caller that woke up later than its turn by less than this is made up for
_ENOUGH_S = 1e-6  # clocks and sleeps round


class _Budget(NamedTuple):
    """What all processes share. Times are seconds of CLOCK_MONOTONIC, one clock for all processes since the machine started."""

    written_at: float
    next_turn_at: float
    held_until: float
    cut_at: float
    cut_per_s: float
    live_until: float
    backfilled_at: float

    @classmethod
    def unused(cls, now: float) -> Self:
        """One with which the first caller goes at once, at the maximum."""
        return cls(now, now, now, -math.inf, math.inf, -math.inf, -math.inf)


class Pace:
    """Lets callers through evenly spaced, at most *max_per_s*, with no burst after a pause. Thread-safe.

    Slows down on what `note_...` is told and recovers to the maximum by itself. With *file* the budget is that of all processes
    that name the same file; without one it is this object's. Callers of one that *is_backfill* step back while others ask.
    *sleep* takes the place of what callers of `wait` bring (tests).
    Raises: SettingsError when the file cannot be made or used.
    """

    def __init__(
        self,
        max_per_s: float,
        *,
        file: Path | None = None,
        is_backfill: bool = False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self._max_per_s, self._is_backfill = max_per_s, is_backfill
        self._clock, self._sleep = clock, sleep
        self._file = _BudgetFile(file) if file else None
        self._budget = _Budget.unused(clock())
        self._lock, self._queue = threading.Lock(), threading.Lock()
        self._has_trouble: deque[bool] = deque(maxlen=LATEST)
        self._latencies_s: deque[float] = deque(maxlen=LATENCIES)
        self._calm_s, self._calm_at = math.inf, -math.inf

    @property
    def per_second(self) -> float:
        """The rate at this moment, in requests per second of all processes together."""
        with self._exclusive() as now:
            return self._rate(now)

    def wait(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """Return when it is this caller's turn. One thread at a time asks; it waits by *sleep*, which may raise to give up."""
        with self._queue:
            while wait_s := self._take_turn():
                (self._sleep or sleep)(wait_s)

    def note_refused(self, hold_s: float | None = None) -> None:
        """A 429: up to half the rate, and nobody of any process goes before *hold_s* (the Retry-After) has passed."""
        self._cut(self._in_proportion(REFUSED_FACTOR), FLOOR_SHARE, hold_s)

    def note_failed(self, hold_s: float | None = None) -> None:
        """A 5xx, a timeout or a connection that broke, with the Retry-After if there was one."""
        self._cut(self._in_proportion(FAILED_FACTOR), FLOOR_SHARE, hold_s)

    def note_answered(self, latency_s: float | None = None) -> None:
        """An answer, and how long it took if the request was of the usual size. Slows down gently while that is clearly longer
        than usual."""
        with self._lock:
            self._has_trouble.append(False)
            if latency_s is None:
                return
            now = self._clock()
            self._latencies_s.append(latency_s)
            if len(self._latencies_s) < LATENCIES:
                return
            level_s = statistics.median(self._latencies_s)
            self._calm_s = min(level_s, self._calm_s * _doubled(now - self._calm_at, CALM_DOUBLES_IN_S))
            self._calm_at = now
            is_slow = level_s > max(SLOW_LEAST_S, SLOW_RATIO * self._calm_s)
        if is_slow:
            self._cut(SLOW_FACTOR, SLOW_FLOOR_SHARE)

    def _in_proportion(self, factor: float) -> float:
        with self._lock:
            self._has_trouble.append(True)
            share = sum(self._has_trouble) / max(len(self._has_trouble), LEAST_COUNTED)
        return 1 - (1 - factor) * min(1.0, share / WHOLE_CUT_SHARE)

    def _take_turn(self) -> float:
        """0 when the caller may go now, or the seconds after which it should ask again."""
        with self._exclusive() as now:
            budget, rate = self._budget, self._rate(now)
            due_in_s = max(budget.next_turn_at, budget.held_until) - now
            if self._is_backfill and budget.live_until - now > _ENOUGH_S:
                # When its share is due it does not queue with those who always ask: they wait a turn longer for it.
                share_at = budget.backfilled_at + 1 / (BACKFILL_SHARE * rate)
                due_in_s = max(min(share_at, budget.live_until), budget.held_until) - now
            elif not self._is_backfill:  # it asks again when its turn is due
                self._budget = budget = budget._replace(live_until=now + max(due_in_s, 0) + LIVE_LINGERS_S)
            if due_in_s > _ENOUGH_S:
                return due_in_s
            since = budget.next_turn_at if now - budget.next_turn_at < LATE_S else now
            backfilled_at = now if self._is_backfill else budget.backfilled_at
            self._budget = budget._replace(next_turn_at=since + 1 / rate, backfilled_at=backfilled_at)
            return 0.0

    def _cut(self, factor: float, floor_share: float, hold_s: float | None = None) -> None:
        with self._exclusive() as now:
            if hold_s:
                self._budget = self._budget._replace(held_until=max(self._budget.held_until, now + hold_s))
            if now - self._budget.cut_at >= CUT_EVERY_S:
                rate = self._rate(now)
                floor = min(rate, max(self._max_per_s * floor_share, FLOOR_PER_S))
                self._budget = self._budget._replace(cut_at=now, cut_per_s=max(rate * factor, floor))

    def _rate(self, now: float) -> float:
        quiet_s = max(0.0, now - max(self._budget.cut_at, self._budget.held_until))
        return min(self._max_per_s, self._budget.cut_per_s * _doubled(quiet_s, DOUBLES_IN_S))

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[float]:
        """The time, while self._budget is everybody's latest and nobody else can change it."""
        with self._lock, self._file or contextlib.nullcontext():
            now = self._clock()
            if self._file:
                saved = self._file.load()
                # One that was written in the future is of an earlier start of the machine.
                self._budget = saved if saved and saved.written_at <= now else _Budget.unused(now)
            yield now
            if self._file:
                self._file.save(self._budget._replace(written_at=now))


def shared_pace(max_per_s: float, *workspace: str, is_backfill: bool = False) -> Pace:
    """The pace of all processes of this user on this machine for *workspace* (an address and an id; kept only as a hash),
    whatever code location, store or DAGSTER_HOME they have.

    Raises: SettingsError when the folder cannot be made or others could read or change it.
    """
    try:
        folder = state_folder()
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
        is_private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077
    except OSError as error:
        raise _unusable(error) from None
    if not is_private:
        raise SettingsError(
            "the folder through which processes share their pace is not this user's alone",
            next_step=f"remove {folder.name} from the temporary folder, or set TMPDIR to a folder of your own",
        )
    # The layout is part of the name: a process of another release would take the other's budget for a torn one.
    name = hashlib.sha256("\0".join((_BudgetFile.LAYOUT.format, *workspace)).encode()).hexdigest()[:32]
    return Pace(max_per_s, file=folder / name, is_backfill=is_backfill)


def state_folder() -> Path:
    """Where the processes of this user keep what they share; gone with the next start of the machine, which does no harm."""
    return Path(tempfile.gettempdir()) / f"rs-cio-pace-{os.getuid()}"


class _BudgetFile:
    """A budget in a file; `with` keeps other threads' and processes' hands off it."""

    LAYOUT = struct.Struct("<7d")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise _unusable(error) from None
        self._close = weakref.finalize(self, os.close, self._fd)

    def __enter__(self) -> Self:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            while not os.fstat(self._fd).st_nlink:  # somebody tidied the temporary folder up; the others use a new file
                self._close()
                self._open()
                fcntl.flock(self._fd, fcntl.LOCK_EX)
        except OSError as error:
            raise _unusable(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def load(self) -> _Budget | None:
        """What was saved last; None when the file is new or torn."""
        try:
            data = os.pread(self._fd, self.LAYOUT.size + 4, 0)
        except OSError as error:
            raise _unusable(error) from None
        body, checksum = data[: self.LAYOUT.size], data[self.LAYOUT.size :]
        is_whole = len(body) == self.LAYOUT.size and checksum == zlib.crc32(body).to_bytes(4)
        return _Budget(*self.LAYOUT.unpack(body)) if is_whole else None

    def save(self, budget: _Budget) -> None:
        """Overwrite it in place."""
        body = self.LAYOUT.pack(*budget)
        try:
            os.pwrite(self._fd, body + zlib.crc32(body).to_bytes(4), 0)
        except OSError as error:
            raise _unusable(error) from None


def _doubled(after_s: float, every_s: float) -> float:
    return 2 ** min(after_s / every_s, 64)


def _unusable(error: OSError) -> SettingsError:
    return SettingsError(
        f"the file through which processes share their pace cannot be used: {os.strerror(error.errno or 0)}",
        next_step="make the temporary folder writable and free space in it, or set TMPDIR to another folder",
    )
