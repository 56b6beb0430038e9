"""What one process used for one piece of work. Standard library only: it also runs in the alternatives' environment."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

_PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Measured:
    """One piece of work, without the imports before it. *cpu_s* is user and system time of the process, all threads.

    *peak_rss_mb* is the highest memory of the whole process so far. *requests* and *request_bytes* are what the sink got.
    *counts* is what the work says about itself.
    """

    rows: int
    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    requests: int = 0
    request_bytes: int = 0
    operations: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows_per_s(self) -> float:
        """Rows per second of wall time."""
        return self.rows / self.wall_s

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds for a million rows."""
        return self.cpu_s * 1_000_000 / self.rows


def report_work(work: Callable[[], Mapping[str, int]]) -> None:
    """Do *work*, which answers its counts with `rows` among them, and write the Measured as JSON to standard output."""
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    counts = work()
    wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_rss_mb = after.ru_maxrss * _PEAK_UNIT_BYTES / 1_000_000
    sys.stdout.write(json.dumps(asdict(Measured(counts["rows"], wall_s, cpu_s, peak_rss_mb, counts=counts))) + "\n")
