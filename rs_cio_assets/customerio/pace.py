"""A pace that the threads of one process share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Pace:
    """Lets at most *per_second* callers through each second, evenly spaced, with no burst after a pause."""

    def __init__(
        self,
        per_second: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s = 1 / per_second
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            now = self._clock()
            turn = max(self._next, now)
            self._next = turn + self._interval_s
        if turn > now:
            self._sleep(turn - now)
