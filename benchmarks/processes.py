"""Start the sink and the measured processes, one at a time. This process stays small: on Linux a child's peak memory counts
from what its parent had when it was started.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.measure import Measured

PROJECT = Path(__file__).parents[1]
TIMEOUT_S = 3_600


@dataclass(frozen=True)
class SinkTotals:
    """What the sink got since it was started."""

    requests: int
    request_bytes: int
    operations: int


@dataclass(frozen=True)
class SinkProcess:
    """A running sink on 127.0.0.1."""

    port: int

    def totals(self) -> SinkTotals:
        """Ask it what arrived."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/totals", timeout=30) as answer:
            return SinkTotals(**json.load(answer))


@contextmanager
def running_sink(python: Path, *, counts_operations: bool = False) -> Iterator[SinkProcess]:
    """A sink for the block."""
    command = [str(python), "-m", "benchmarks.sink", *(["--count-operations"] if counts_operations else [])]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the sink has no standard output")
            yield SinkProcess(int(process.stdout.readline()))
        finally:
            process.terminate()


def run_measured(python: Path, module: str, arguments: list[str], sink: SinkProcess | None = None) -> Measured:
    """One measured process, with what *sink* got from it. Raises: RuntimeError when it fails."""
    if sink is None:
        return Measured(**json.loads(run(python, module, arguments)))
    before = sink.totals()
    measured = Measured(**json.loads(run(python, module, [*arguments, "--port", str(sink.port)])))
    after = sink.totals()
    return replace(
        measured,
        requests=after.requests - before.requests,
        request_bytes=after.request_bytes - before.request_bytes,
        operations=after.operations - before.operations,
    )


def run(python: Path, module: str, arguments: list[str]) -> str:
    """Standard output of `python -m benchmarks.<module>`. Raises: RuntimeError when it fails, with the end of what it said."""
    command = [str(python), "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"benchmarks.{module} {' '.join(arguments)} failed:\n{done.stderr[-2_000:]}")
    return done.stdout
