"""Run a stand-in in this process until a signal, or until the process that started this one is gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

PARENT_POLL_S = 0.3


def serve_until_ended(stand_in: AbstractContextManager[object], ready: Callable[[], str]) -> None:
    """Start *stand_in*, print the line *ready* gives, and stop it at SIGINT, SIGTERM or the end of the parent process."""
    parent = os.getppid()
    is_stopping = False

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    with stand_in:
        print(ready(), flush=True)  # noqa: T201
        while not is_stopping and os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
