"""What is run, in which order, on which data. Every first delivery has a store of its own, so nothing is left from the last.

Staged files are linked into it, not copied; the ledger of an earlier run is copied, because a run may write to it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.measure import Measured
from benchmarks.processes import SinkProcess, run, run_measured, running_sink

DAY = "2026-11-20"  # older than 72 h at NOW: nothing of it is held
READ_AT, NOW = "2026-11-24T06:00:00+00:00", "2026-11-24T07:00:00+00:00"
READ_LATER, LATER = "2026-11-25T06:00:00+00:00", "2026-11-25T07:00:00+00:00"
EVENTS, PEOPLE = "order_completed", "people"
PROOF_ROWS = 10_000
CUSTOMERS = 400_000  # people of whom the orders are, if there are as many


@dataclass(frozen=True)
class Alternative:
    """Another way to send the same rows. *most_rows* keeps the slow ones short: they cost the same for every row."""

    name: str
    label: str
    module: str
    arguments: tuple[str, ...]
    most_rows: int


@dataclass(frozen=True)
class Result:
    """All runs of one measurement; *label* is what the tables call it."""

    name: str
    label: str
    runs: tuple[Measured, ...]

    @property
    def median(self) -> Measured:
        """The run with the median wall time."""
        return sorted(self.runs, key=lambda run: run.wall_s)[(len(self.runs) - 1) // 2]

    @property
    def peak_rss_mb(self) -> float:
        """The highest of all runs."""
        return max(run.peak_rss_mb for run in self.runs)


@dataclass(frozen=True)
class Options:
    """What to run. *large_rows* of 0 leaves the large day out; *alternatives_python* has requirements.txt installed."""

    rows: int
    large_rows: int
    concurrency: int
    repeats: int
    python: Path
    alternatives_python: Path
    folder: Path


def alternatives(concurrency: int) -> tuple[Alternative, ...]:
    """The five, fastest first. *concurrency* is for those that can have several requests under way."""
    together = ("--concurrency", str(concurrency))
    return (
        Alternative("plain", "plain script, row by row, same rules", "plain", ("--day", DAY), 100_000),
        Alternative("official_batch", "customerio SDK, batch of 700", "sdks", ("official_batch", *together), 100_000),
        Alternative("async_batch", "async-customerio, batch of 700", "sdks", ("async_batch", *together), 100_000),
        Alternative("official_per_event", "customerio SDK, one call per event", "sdks", ("official_per_event", *together), 5_000),
        Alternative("async_per_event", "async-customerio, one call per event", "sdks", ("async_per_event", *together), 5_000),
    )


class Bench:
    """The measurements over one set of staged days in *options.folder*. *say* is told what is being done."""

    def __init__(self, options: Options, say: Callable[[str], None]) -> None:
        self._options, self._say = options, say
        self._known: Path | None = None  # a store whose ledger holds the people: events of unknown people are not sent

    def run(self) -> dict[str, Result]:
        """All measurements by name, without the large day's.

        Raises: RuntimeError when one fails, or did not send what it should have sent.
        """
        self._stage()
        with running_sink(self._options.python, counts_operations=True) as sink:
            self._prove(sink)
        with running_sink(self._options.python) as sink:
            results = [*self._ours(sink), *self._alternatives(sink)]
        return {result.name: result for result in results}

    def run_large(self) -> Result:
        """The large day, once. Raises: RuntimeError when it fails."""
        self._stage_day("large", EVENTS, self._options.large_rows, ["--read-at", READ_AT])
        store = self._store("large", ledger_of=self._known)
        self._say(f"delivering {self._options.large_rows:,} events")
        with running_sink(self._options.python) as sink:
            return Result("events_large", "events, a large day", (self._deliver(EVENTS, store, sink),))

    def _stage(self) -> None:
        rows = self._options.rows
        for feed in (EVENTS, PEOPLE):
            self._stage_day(f"{feed}-first", feed, rows, ["--read-at", READ_AT])
            self._stage_day(f"{feed}-later", feed, rows, ["--read-at", READ_LATER, "--later"])
            self._stage_day(f"proof-{feed}", feed, PROOF_ROWS, ["--read-at", READ_AT])

    def _stage_day(self, name: str, feed: str, rows: int, arguments: list[str]) -> None:
        self._say(f"staging {rows:,} rows ({name})")
        store = self._options.folder / name
        customers = min(PROOF_ROWS if name.startswith("proof") else self._options.rows, CUSTOMERS)
        where = ["--store", str(store), "--day", DAY, "--rows", str(rows), "--customers", str(customers)]
        run(self._options.python, "days", [feed, *where, *arguments])

    def _prove(self, sink: SinkProcess) -> None:
        """Every way sends an operation for every row that it does not reject, and those with rules reject the same rows."""
        self._say("proving that all send the same rows")
        known, store = self._store(f"proof-{PEOPLE}"), self._options.folder / f"proof-{EVENTS}"
        sent = {"people": self._deliver(PEOPLE, known, sink)}
        sent["ours"] = self._deliver(EVENTS, self._store(f"proof-{EVENTS}", ledger_of=known), sink)
        for other in alternatives(self._options.concurrency):
            sent[other.name] = self._send(other, store, min(PROOF_ROWS, other.most_rows // 5), sink)
        for name, measured in sent.items():
            if not measured.operations or measured.operations != measured.counts["delivered"]:
                raise RuntimeError(f"{name} sent {measured.operations} operations: {dict(measured.counts)}")
        if sent["ours"].counts["rejected"] != sent["plain"].counts["rejected"]:
            raise RuntimeError("the plain script does not reject what the contract rejects")

    def _ours(self, sink: SinkProcess) -> list[Result]:
        results = []
        for feed, kind in ((PEOPLE, "people"), (EVENTS, "events")):
            if self._known:  # an earlier day's events have looked the people up: their keys are in the store's cache
                warm = self._store(f"proof-{EVENTS}", ledger_of=self._known)
                self._deliver(EVENTS, warm, sink)
                shutil.copytree(warm / "keys", self._known / "keys")
            first, unchanged, later = [], [], []
            for _ in range(self._options.repeats):
                self._say(f"delivering {kind}: first, unchanged, 0.1 % different")
                store = self._store(f"{feed}-first", ledger_of=self._known if feed == EVENTS else None)
                first.append(self._deliver(feed, store, sink))
                unchanged.append(self._deliver(feed, store, sink, now=LATER))
                renewed = self._store(f"{feed}-later", ledger_of=store)
                later.append(self._deliver(feed, renewed, sink, now=LATER))
                if feed == PEOPLE:
                    self._known = store
            results += [
                Result(kind, f"{kind}, first delivery", tuple(first)),
                Result(f"{kind}_unchanged", f"{kind}, nothing changed", tuple(unchanged)),
                Result(f"{kind}_later", f"{kind}, 0.1 % {'new' if feed == EVENTS else 'changed'}", tuple(later)),
            ]
        self._say("delivering without a network; reading alone")
        stores = [self._store(f"{EVENTS}-first", ledger_of=self._known) for _ in range(self._options.repeats)]
        offline = tuple(self._deliver(EVENTS, store, None) for store in stores)
        reading = tuple(self._deliver(EVENTS, store, None, "--read-only") for store in stores)
        return [
            *results,
            Result("offline", "without a network", offline),
            Result("reading", "reading the Parquet alone", reading),
        ]

    def _alternatives(self, sink: SinkProcess) -> list[Result]:
        results = []
        for other in alternatives(self._options.concurrency):
            self._say(f"measuring: {other.label}")
            rows, store = min(self._options.rows, other.most_rows), self._options.folder / f"{EVENTS}-first"
            runs = tuple(self._send(other, store, rows, sink) for _ in range(self._options.repeats))
            results.append(Result(other.name, other.label, runs))
        return results

    def _deliver(self, feed: str, store: Path, sink: SinkProcess | None, *more: str, now: str = NOW) -> Measured:
        arguments = [feed, "--store", str(store), "--day", DAY, "--now", now, "--concurrency", str(self._options.concurrency)]
        return run_measured(self._options.python, "ours", [*arguments, *more], sink)

    def _send(self, other: Alternative, store: Path, rows: int, sink: SinkProcess) -> Measured:
        arguments = [*other.arguments, "--store", str(store), "--limit", str(rows)]
        return run_measured(self._options.alternatives_python, other.module, arguments, sink)

    def _store(self, staged: str, *, ledger_of: Path | None = None) -> Path:
        """A new store with the staged day of *staged* and, when given, everything else of *ledger_of*."""
        store = Path(mkdtemp(prefix="store-", dir=self._options.folder))
        shutil.copytree(self._options.folder / staged, store, copy_function=os.link, dirs_exist_ok=True)
        if ledger_of is not None:
            shutil.copytree(ledger_of, store, ignore=shutil.ignore_patterns("staged"), dirs_exist_ok=True)
        return store
