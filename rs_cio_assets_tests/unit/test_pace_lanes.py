"""Live before backfill: two lanes of one budget, between threads, processes and code locations."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rs_cio_assets.customerio.pace import BACKFILL_SHARE, LIVE_LINGERS_S, Pace
from rs_cio_assets_tests.customerio_clients import Clock

PROJECT = Path(__file__).parents[2]
RATE = 10.0


class Lanes:
    """A live pace and a backfill's on one budget, in the test's own time; *went* are the lanes of all turns with their times."""

    def __init__(self, file: Path) -> None:
        self.clock = Clock()
        self.went: list[tuple[str, float]] = []
        self._due: dict[str, float] = {}
        self.paces = {
            name: Pace(RATE, file=file, is_backfill=name == "backfill", clock=self.clock.time, sleep=self.clock.sleep)
            for name in ("live", "backfill")
        }

    def ask(self, *lanes: str, seconds: float) -> list[str]:
        """The lanes of the turns of *seconds* in which each of *lanes* asks without end; who is due first asks first."""
        end, before = self.clock.now + seconds, len(self.went)
        due = dict.fromkeys(lanes, self.clock.now)
        while (lane := min(due, key=lambda name: due[name])) and due[lane] < end:
            self.clock.now = max(self.clock.now, due[lane])
            wait_s = self.paces[lane]._take_turn()  # two lanes at once, without threads
            if not wait_s:
                self.went.append((lane, self.clock.now))
            due[lane] = self.clock.now + wait_s
        self.clock.now = end
        return [lane for lane, _ in self.went[before:]]


@pytest.fixture
def lanes(tmp_path: Path) -> Lanes:
    """Two lanes of one file."""
    return Lanes(tmp_path / "a")


def test_a_backfill_alone_has_the_whole_budget(lanes: Lanes):
    """Nobody live asks: a hundred turns in ten seconds."""
    assert len(lanes.ask("backfill", seconds=10)) == pytest.approx(100, abs=1)


def test_beside_a_live_sync_a_backfill_has_its_small_share_and_never_nothing(lanes: Lanes):
    """Of a thousand turns a tenth are the backfill's, evenly spread; no second has more turns than the budget and one."""
    went = lanes.ask("live", "backfill", seconds=100)
    assert len(went) == pytest.approx(100 * RATE, abs=1)
    assert went.count("backfill") == pytest.approx(len(went) * BACKFILL_SHARE, rel=0.15)
    times = [at for _, at in lanes.went]
    assert max(sum(start <= at < start + 1 - 1e-9 for at in times) for start in times) <= RATE + 1
    backfilled = [at for lane, at in lanes.went if lane == "backfill"]
    assert max(later - earlier for earlier, later in itertools.pairwise(backfilled)) < 1.2 / (RATE * BACKFILL_SHARE)


def test_a_live_caller_waits_for_no_more_than_the_turn_under_way(lanes: Lanes):
    """In the midst of a backfill at full pace: its first turn is the next one, and so are its others."""
    lanes.ask("backfill", seconds=10.05)
    start = lanes.clock.now
    lanes.ask("live", "backfill", seconds=1)
    live = [at - start for lane, at in lanes.went if lane == "live"]
    assert live[0] <= 1 / RATE
    assert max(later - earlier for earlier, later in itertools.pairwise(live)) <= 2 / RATE + 1e-9


def test_a_backfill_goes_on_at_full_pace_when_the_live_sync_is_over(lanes: Lanes):
    """Two seconds after the last live turn the backfill has everything again, and no burst."""
    lanes.ask("live", "backfill", seconds=10)
    start = lanes.clock.now
    lanes.ask("backfill", seconds=LIVE_LINGERS_S + 5)
    times = [at - start for _, at in lanes.went if at >= start]
    assert sum(at > LIVE_LINGERS_S for at in times) == pytest.approx(5 * RATE, abs=1)
    assert sum(at < LIVE_LINGERS_S for at in times) <= LIVE_LINGERS_S * RATE * BACKFILL_SHARE + 1
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) == pytest.approx(1 / RATE)


def test_a_live_caller_that_waits_a_retry_after_out_goes_before_the_backfill(lanes: Lanes):
    """While Customer.io holds everybody back, the live caller keeps its precedence however long that takes."""
    lanes.ask("backfill", seconds=1)
    lanes.paces["backfill"].note_refused(hold_s=120)
    before = len(lanes.went)
    lanes.ask("live", "backfill", seconds=130)
    assert [lane for lane, _ in lanes.went[before : before + 10]].count("live") >= 8


def test_a_rate_that_was_cut_is_shared_in_the_same_way(lanes: Lanes):
    """At the trickle of a storm a live caller still goes first, and the backfill looks again every two seconds."""
    for _ in range(20):
        lanes.paces["live"].note_refused()
        lanes.clock.now += 1
    went = lanes.ask("live", "backfill", seconds=4)
    assert went[0] == "live"
    assert went.count("live") >= went.count("backfill")


SENDERS = """
import sys, time
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.settings import load_settings
site, is_backfill, seconds = sys.argv[1], sys.argv[2] == "backfill", float(sys.argv[3])
settings = load_settings({
    "RS_CIO_STORE": sys.argv[4], "CUSTOMERIO_SITE_ID": site, "CUSTOMERIO_API_KEY": "key", "CUSTOMERIO_MAX_REQUESTS_PER_S": "40"})
pace = TrackClient(settings.customerio, is_backfill=is_backfill)._http.pace
print("ready", flush=True)
sys.stdin.readline()
end, turns = time.monotonic() + seconds, 0
while time.monotonic() < end:
    pace.wait()
    turns += 1
print(turns)
"""


@pytest.mark.parametrize("second", ["live", "backfill"])
def test_two_code_locations_on_one_workspace_share_the_budget(second: str, tmp_path: Path):
    """Two processes with stores of their own and the same site id stay within one budget, and the live one goes before."""
    seconds, rate = 4.0, 40
    commands = [
        [sys.executable, "-c", SENDERS, "site", lane, str(seconds), str(tmp_path / f"store-{number}")]
        for number, lane in enumerate(("live", second))
    ]
    processes = [
        subprocess.Popen(
            command, cwd=PROJECT, env={"TMPDIR": str(tmp_path)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    turns = [int(process.communicate(timeout=120)[0]) for process in processes]
    elapsed_s = time.monotonic() - start
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(turns) <= elapsed_s * rate + 2
    assert min(turns) > 0
    if second == "backfill":
        assert turns[1] < turns[0] / 2
    assert len(list((tmp_path / f"rs-cio-pace-{os.getuid()}").iterdir())) == 1
