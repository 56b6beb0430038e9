"""A delivering process killed at any instant, again and again: every row takes effect once, and the ledger is whole."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.store import Store
from rs_cio_assets_tests.faults import Counting
from rs_cio_assets_tests.killing import (
    CONCURRENCY,
    DAY,
    FEEDS,
    NOTE,
    ROWS,
    SEGMENT_ROWS,
    Place,
    stage_day,
    start_run,
    total_of,
    warm_up,
)
from rs_cio_assets_tests.s3_stand_in import running_s3

KILLS = 100
BUCKET = "rs-cio"
PATIENCE_S = 60.0  # no run takes that long: one that does hangs
# Where a run is killed: some before its first request, the others within the next quarter of the day's work, wherever the last
# run left it. So a day takes many kills, spread over the whole of it, however slow the machine is.
SHARE_OF_STARTS = 0.2
SPAN = 0.25
DELAY_S = 0.1
IN_FLIGHT = 3 * CONCURRENCY  # bodies that are sent, or answered and not yet noted
EVENTS_COUNTED = "SELECT count(*) FROM activities WHERE type = 'event'"


@dataclass(frozen=True)
class Instant:
    """When to kill: *delay_s* after the stand-in has received *requests* requests of the round."""

    requests: int
    delay_s: float


NEVER = Instant(1_000_000, 0)


@dataclass(frozen=True)
class Round:
    """What became of the processes of one round; *stage*: before, between or after the requests that there were to make."""

    stage: str
    kills: int
    is_complete: bool


@dataclass
class Bench:
    """One day to deliver: a store, an empty workspace, and processes to kill."""

    place: Place
    feed_name: str
    counting: Counting
    database: Path
    store: Store
    segments: dict[str, pa.Table] = field(default_factory=dict)
    runs: int = 0

    def round(self, instants: list[Instant], left: int = ROWS) -> Round:
        """Start a process for each instant, kill each at its own, and see where that hit; *left* rows are to be sent."""
        requests, operations = self.counting.requests, self.counting.operations
        processes = []
        for _ in instants:
            self.runs += 1
            processes.append(start_run(self.place, self.feed_name, f"{self.runs:08d}-test"))
        begun, due = time.monotonic(), [float("inf")] * len(instants)
        while any(process.is_alive() for process in processes):
            now = time.monotonic()
            assert now < begun + PATIENCE_S, "a run hangs"
            for number, (process, instant) in enumerate(zip(processes, instants, strict=True)):
                if due[number] == float("inf") and self.counting.requests - requests >= instant.requests:
                    due[number] = now + instant.delay_s
                if now >= due[number]:
                    process.kill()
            time.sleep(0.002)
        self._settle()
        for process in processes:
            process.join()
            assert process.exitcode in {0, -signal.SIGKILL}
        kills = sum(process.exitcode != 0 for process in processes)
        received = self.counting.operations - operations
        is_through = received >= left and self.effects() == ROWS
        stage = "after" if is_through else "between" if received else "before"
        return Round(stage, kills, kills < len(processes))

    def effects(self) -> int:
        """Rows that Customer.io holds."""
        ((count,),) = self.read("SELECT count(*) FROM people WHERE attributes <> '{}'" if self._is_people else EVENTS_COUNTED)
        return count

    def noted(self) -> pa.Table:
        """The ledger's (row_key, content_hash), each pair once, read as plain Parquet."""
        keys = [key for key in self.store.list(f"ledger/{self.feed_name}/{DAY}/") if key.endswith(".parquet")]
        for key in keys:
            if key not in self.segments:  # they are immutable
                data = self.store.get(key)
                assert data is not None
                self.segments[key] = pq.read_table(pa.BufferReader(data), columns=["row_key", "content_hash"])
        tables = [self.segments[key] for key in keys]
        assert all(table.num_rows for table in tables)
        if not tables:
            return pa.table({"row_key": [], "content_hash": []})
        return pa.concat_tables(tables).group_by(["row_key", "content_hash"]).aggregate([]).sort_by("row_key")

    def check_that_every_effect_is_there_once(self) -> None:
        """Every row in Customer.io, once, with the right values."""
        wanted = {(f"C{n:07d}", f"O{n}", total_of(n)) for n in range(ROWS)}
        if self._is_people:
            values = "json_extract(attributes, '$.order_id'), json_extract(attributes, '$.total'), attributes"
            found = self.read(f"SELECT id, {values} FROM people")
            # Creating somebody and changing what he holds are activities: a second one would be a second effect.
            ((changes,),) = self.read("SELECT count(*) FROM activities WHERE type = 'attribute_change'")
            assert changes == ROWS
        else:
            values = "json_extract(data, '$.order_id'), json_extract(data, '$.total'), data"
            found = self.read(f"SELECT id, {values} FROM activities JOIN people USING (cio_id) WHERE type = 'event'")
            assert self.read("SELECT count(DISTINCT event_id) FROM activities WHERE type = 'event'") == [(ROWS,)]
        assert len(found) == ROWS
        assert {(who, order, f"{float(total):.2f}") for who, order, total, _ in found} == wanted
        assert all(f'"{NOTE}"' in data for *_, data in found)

    def read(self, sql: str) -> list[tuple]:
        """Rows of the stand-in's own database."""
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(sql).fetchall()

    @property
    def _is_people(self) -> bool:
        return self.feed_name == "folk"

    def _settle(self) -> None:
        """Wait until the stand-in is through with what dead processes sent."""
        quiet_since = time.monotonic()
        seen = self.counting.requests
        while time.monotonic() - quiet_since < 0.01:
            if self.counting.under_way or self.counting.requests != seen:
                quiet_since, seen = time.monotonic(), self.counting.requests
            time.sleep(0.002)


@contextmanager
def open_bench(folder: Path, feed_name: str, s3_url: str | None = None) -> Iterator[Bench]:
    """A staged day that nothing was sent of, and an empty workspace."""
    folder.mkdir()
    counting = Counting()
    with CustomerioStandIn(folder / "customerio", app_requests_per_s=None, wrap=counting.around) as stand_in:
        location = f"s3://{BUCKET}/{folder.name}" if s3_url else str(folder / "store")
        place = Place(location, stand_in.url, folder, s3_url)
        stage_day(place, FEEDS[feed_name])
        yield Bench(place, feed_name, counting, folder / "customerio" / "workspace.db", place.store())
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Calm:
    """What undisturbed runs are like: the time of one that has nothing to send, the requests and the ledger of a whole one."""

    idle_s: float
    requests: int
    noted: pa.Table

    def instants(self, dice: random.Random, left: int, at_once: int) -> list[Instant]:
        """A random one for each of *at_once* runs that have *left* rows to send."""
        if dice.random() < SHARE_OF_STARTS:
            return [Instant(0, dice.uniform(0, self.idle_s)) for _ in range(at_once)]
        ahead = max(1, round(self.requests * at_once * min(left / ROWS, SPAN)))
        return [Instant(dice.randint(1, ahead), dice.uniform(0, DELAY_S)) for _ in range(at_once)]


def calm_run(folder: Path, feed_name: str, s3_url: str | None) -> Calm:
    """Two runs that nobody kills: the first delivers everything, the second finds nothing to do."""
    warm_up()
    with open_bench(folder, feed_name, s3_url) as bench:
        assert bench.round([NEVER]).is_complete
        bench.check_that_every_effect_is_there_once()
        begun = time.monotonic()
        assert bench.round([NEVER]).is_complete
        idle_s = time.monotonic() - begun
        assert bench.noted().num_rows == bench.counting.operations == ROWS
        return Calm(idle_s, bench.counting.requests, bench.noted())


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """S3 on 127.0.0.1, with one bucket."""
    with running_s3(BUCKET) as url:
        yield url


def is_enough(stages: Counter[str], kills: int) -> bool:
    """So many kills, and one at least in each stage of a run; a hundred in any case."""
    return stages.total() >= KILLS or (stages.total() >= kills and min(stages[s] for s in ("before", "between", "after")) >= 1)


@pytest.mark.parametrize(
    ("feed_name", "at_once", "is_s3"),
    [("orders", 1, False), ("folk", 2, False), pytest.param("orders", 1, True, marks=pytest.mark.long)],
    ids=["one_run", "two_runs_at_once", "one_run_on_s3"],
)
def test_a_day_survives_kills_at_any_instant(
    feed_name: str, at_once: int, is_s3: bool, tmp_path: Path, request: pytest.FixtureRequest
):
    """SIGKILL at random instants of 20,000-row days, in every stage of a run: every effect once, a whole ledger, few repetitions.

    At least seventeen kills each; with --long a hundred.
    """
    kills = KILLS if request.config.getoption("--long") else ceil(KILLS / 6)
    s3_url = request.getfixturevalue("s3_url") if is_s3 else None
    dice = random.Random(f"{feed_name} {at_once} {is_s3}")  # noqa: S311 - repeatable, not secret
    calm = calm_run(tmp_path / "calm", feed_name, s3_url)
    at_most_unrecorded = SEGMENT_ROWS + (1 + IN_FLIGHT) * ceil(ROWS / calm.requests)
    stages: Counter[str] = Counter()
    days = worst = repeated = 0
    while not is_enough(stages, kills):
        days += 1
        with open_bench(tmp_path / f"day{days}", feed_name, s3_url) as bench:
            left = ROWS
            while left > SEGMENT_ROWS and not is_enough(stages, kills):
                ended = bench.round(calm.instants(dice, left, at_once), left)
                stages[ended.stage] += ended.kills
                left = ROWS - bench.noted().num_rows
                worst = max(worst, bench.effects() - (ROWS - left))
                assert worst <= at_most_unrecorded
            assert bench.round([NEVER]).is_complete
            bench.check_that_every_effect_is_there_once()
            assert bench.noted() == calm.noted
            repeated += bench.counting.operations - ROWS
    figures = f"{days} days; {repeated:,} operations repeated, at most {worst:,} unrecorded"
    print(f"{stages.total()} kills: {dict(stages)}; {figures}")  # noqa: T201 - with -s, for the curious
    assert min(stages["before"], stages["between"], stages["after"]) >= 1
    if at_once == 1:
        assert repeated <= stages.total() * at_most_unrecorded
