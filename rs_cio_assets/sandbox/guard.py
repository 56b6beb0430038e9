"""Run a command that ends when its starter ends, however that happens: `python -m rs_cio_assets.sandbox.guard COMMAND ...`.

A SIGKILLed parent cannot clean up, and a web server left behind keeps its port. The guard watches its parent's process id
and ends the command's whole process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

POLL_S = 0.5
GRACE_S = 10.0


def run_guarded(command: list[str]) -> int:
    """Run *command* in a process group of its own until it exits, this process is told to stop, or the parent is gone.

    Returns the command's exit code. The group gets SIGTERM, and SIGKILL after GRACE_S seconds.
    """
    parent = os.getppid()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping and os.getppid() == parent:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(POLL_S)
    return end_group(child)


def end_group(child: subprocess.Popen[bytes]) -> int:
    """End *child* and everything in its process group; returns its exit code."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return child.wait(GRACE_S)
    return child.wait()


if __name__ == "__main__":
    sys.exit(run_guarded(sys.argv[1:]))
