"""The demo as a user starts it: `rs-cio demo` in a process and a folder of its own, on ports that are free."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from rs_cio_assets.sandbox.processes import is_port_free
from rs_cio_assets.settings import VARIABLES
from rs_cio_assets_tests.pipeline import free_port

PROJECT = Path(__file__).parents[1]


class DemoFolder:
    """An empty folder with the project's workspace.yaml, and four ports. *environ* goes to each demo; *printed* is of all."""

    def __init__(self, folder: Path, environ: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.environ = dict(environ or {})
        self._runs: list[DemoProcess] = []
        self.dagster_port, self.customerio_port, self.redshift_port, self.s3_port = (free_port() for _ in range(4))
        shutil.copy(PROJECT / "workspace.yaml", folder)

    def run(self, *options: str) -> DemoProcess:
        """Start `rs-cio demo` with *options* here."""
        ports = [
            f"--{name}-port={port}"
            for name, port in (
                ("dagster", self.dagster_port),
                ("customerio", self.customerio_port),
                ("redshift", self.redshift_port),
                ("s3", self.s3_port),
            )
        ]
        command = [sys.executable, "-m", "rs_cio_assets.cli", "demo", *ports, *options]
        self._runs.append(DemoProcess(command, self.folder, self.environ))
        return self._runs[-1]

    @property
    def printed(self) -> str:
        """What every demo of this folder printed so far."""
        return "\n".join(run.output for run in self._runs)

    @property
    def settings(self) -> dict[str, str]:
        """The environment in which a command reaches the demo while it runs."""
        home, customerio = self.folder / ".rs_cio", f"http://127.0.0.1:{self.customerio_port}"
        return self.environ | {
            "REDSHIFT_PORT": str(self.redshift_port),
            "RS_CIO_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.s3_port}",
            "CUSTOMERIO_TRACK_URL": customerio,
            "CUSTOMERIO_APP_URL": customerio,
            "RS_CIO_STORE": str(home / "store"),
            "DAGSTER_HOME": str(home / "dagster"),
        }

    def is_quiet(self) -> bool:
        """True when nothing listens on any of the four ports and the warehouse's server has ended."""
        ports = (self.dagster_port, self.customerio_port, self.redshift_port, self.s3_port)
        return all(is_port_free(port) for port in ports) and not list(self.folder.rglob("postmaster.pid"))


class DemoProcess:
    """A running demo whose output is kept line by line."""

    def __init__(self, command: list[str], folder: Path, more: Mapping[str, str]) -> None:
        environ = {name: value for name, value in os.environ.items() if name not in VARIABLES} | more
        environ["PYTHONPATH"] = str(PROJECT)
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # As a shell starts background jobs, with Ctrl-C ignored: it must end all the same.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happened: ask it to end, and end it if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        if self._process.stdout:
            self._process.stdout.close()

    @property
    def process_id(self) -> int:
        """Of the command; what it starts are its children."""
        return self._process.pid

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "\n".join(self._lines)

    def wait_for(self, pattern: str, timeout_s: float = 240) -> re.Match[str]:
        """The first match of *pattern* in the output; fails when the demo ends or the time is over without one."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            has_ended = self._process.poll() is not None and not self._reader.is_alive()
            if found := re.search(pattern, self.output):
                return found
            if has_ended:
                break
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} was not printed:\n{self.output}")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def wait(self, timeout_s: float = 240) -> int:
        """The exit code."""
        code = self._process.wait(timeout_s)
        self._reader.join(10)
        return code

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._lines.append(line.rstrip("\n"))
