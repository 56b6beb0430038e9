"""Start, await and end the sandbox's processes: the two stand-ins and the Dagster UI. Each logs to a file of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx

from rs_cio_assets.errors import ConfigurationError

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0


@dataclass
class ManagedProcess:
    """One process of ours while the block runs, in a session of its own so that Ctrl-C reaches only its starter."""

    name: str
    command: list[str]
    log: Path
    environ: Mapping[str, str]
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        """Start it, with output to the log file."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    @property
    def is_running(self) -> bool:
        """True while the process lives."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait for *is_ready*. Raises: ConfigurationError with the end of the log when the process ends or is too slow."""
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if not self.is_running or time.monotonic() > deadline:
                raise ConfigurationError(
                    f"{self.name} did not start; the end of {self.log} says:\n{self.log_end()}",
                    next_step="mend what it names and run the command again",
                )
            time.sleep(0.05)

    def log_end(self, lines: int = 12) -> str:
        """The last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def _stop(self) -> None:
        """SIGTERM, then SIGKILL after STOP_TIMEOUT_S seconds."""
        if self._process is None or not self.is_running:
            return
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_TIMEOUT_S)
            return
        self._process.kill()
        self._process.wait()


def command_line(*arguments: str) -> list[str]:
    """The command that runs `rs-cio` with *arguments* in this Python."""
    return [sys.executable, "-m", "rs_cio_assets.cli", *arguments]


def require_free_ports(ports: Mapping[str, int], flags: Mapping[str, str]) -> None:
    """Raises: ConfigurationError naming every port of *ports* (what -> port) that something listens on, and its flag."""
    taken = [what for what, port in ports.items() if not is_port_free(port)]
    if taken:
        raise ConfigurationError(
            "; ".join(f"port {ports[what]} for {what} is in use" for what in taken),
            next_step="stop what uses it (perhaps another demo), or choose another port: "
            + " ".join(f"{flags[what]}=<port>" for what in taken),
        )


def is_port_free(port: int) -> bool:
    """True when nothing listens on 127.0.0.1:*port*."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts_connections(port: int) -> bool:
    """True when something accepts a connection on 127.0.0.1:*port*."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers_http(url: str) -> bool:
    """True when *url* answers 200."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
