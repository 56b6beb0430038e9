"""The pace of requests: evenly spaced, one budget for threads and processes, slower when Customer.io asks for it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from rs_cio_assets.customerio.pace import (
    CUT_EVERY_S,
    FAILED_FACTOR,
    FLOOR_PER_S,
    LATENCIES,
    REFUSED_FACTOR,
    SLOW_FACTOR,
    SLOW_FLOOR_SHARE,
    Pace,
    shared_pace,
)
from rs_cio_assets.errors import SettingsError
from rs_cio_assets_tests.customerio_clients import Clock

MONTHS_S = 10_000_000.0


def pace_of(max_per_s: float, clock: Clock, file: Path | None = None) -> Pace:
    """A pace in the test's own time."""
    return Pace(max_per_s, file=file, clock=clock.time, sleep=clock.sleep)


def turns(pace: Pace, clock: Clock, count: int) -> list[float]:
    """The seconds from now at which *count* callers, one after the other, go."""
    start, times = clock.now, []
    for _ in range(count):
        pace.wait()
        times.append(clock.now - start)
    return times


def test_callers_of_many_threads_go_evenly_spaced():
    """Twenty threads at once get twenty turns, a tenth of a second apart, whichever comes first."""
    clock = Clock()
    pace, went = pace_of(10, clock), []
    threads = [threading.Thread(target=lambda: (pace.wait(), went.append(1))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(went) == 20
    assert clock.sleeps == pytest.approx([0.1] * 19)


def test_a_pause_earns_no_burst():
    """An idle minute earns nothing: the first caller goes at once, each next one waits its interval."""
    clock = Clock()
    pace, times = pace_of(4, clock), []
    for pause in (0, 0, 0, 60, 0, 0):
        clock.now += pause
        pace.wait()
        times.append(clock.now)
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == pytest.approx([0.25, 0.25, 60, 0.25, 0.25])


def test_a_late_wake_up_is_made_up_for():
    """Sleeps that last a little too long do not lower the rate: a hundred turns take what they should."""
    clock = Clock()
    pace = Pace(100, clock=clock.time, sleep=lambda seconds: clock.sleep(seconds + 0.004))
    assert turns(pace, clock, 101)[-1] == pytest.approx(1.0, abs=0.005)


def test_clients_of_one_workspace_share_one_budget_and_others_do_not(tmp_path: Path):
    """Two clients of a file take turns with each other; a client of another file goes at once."""
    clock = Clock()
    one, two = (pace_of(10, clock, tmp_path / "a") for _ in range(2))
    for pace in (one, two, one, two):
        pace.wait()
    assert clock.sleeps == pytest.approx([0.1] * 3)
    pace_of(10, clock, tmp_path / "b").wait()
    assert len(clock.sleeps) == 3


def test_a_429_seen_by_one_holds_back_all_and_they_do_not_come_back_in_a_burst(tmp_path: Path):
    """Until Retry-After has passed nobody goes, also who waited already; then one after the other, at half the rate."""
    clock = Clock()
    one, two = (pace_of(10, clock, tmp_path / "a") for _ in range(2))
    one.wait()

    def sleep(seconds: float) -> None:
        if not clock.sleeps:
            one.note_refused(hold_s=30)  # while the other already waits for its turn
        clock.sleep(seconds)

    waiting = Pace(10, file=tmp_path / "a", clock=clock.time, sleep=sleep)
    start = clock.now
    waiting.wait()
    assert clock.now - start == pytest.approx(30)
    assert turns(two, clock, 2)[0] == pytest.approx(0.2)


def test_a_shorter_hold_does_not_end_a_longer_one():
    """Two answers with a Retry-After: the later moment counts."""
    clock = Clock()
    pace = pace_of(10, clock)
    pace.note_refused(hold_s=60)
    pace.note_failed(hold_s=5)
    assert turns(pace, clock, 1) == pytest.approx([60])


def test_trouble_cuts_the_rate_once_a_second_however_many_report_it():
    """A hundred refusals at once halve the rate once; a second later they halve it again; failures cut it less."""
    clock = Clock()
    pace = pace_of(100, clock)
    for _ in range(100):
        pace.note_refused()
    assert pace.per_second == pytest.approx(100 * REFUSED_FACTOR)
    clock.now += CUT_EVERY_S
    before = pace.per_second
    for _ in range(100):
        pace.note_refused()
    assert pace.per_second == pytest.approx(before * REFUSED_FACTOR)
    other = pace_of(100, clock)
    other.note_failed()
    assert other.per_second == pytest.approx(100 * FAILED_FACTOR)
    assert FAILED_FACTOR > REFUSED_FACTOR


def test_a_request_in_twenty_that_fails_costs_little():
    """A service that drops 5 % whatever the rate is not helped by a trickle: such cuts are small and recover in between."""
    clock = Clock()
    pace = pace_of(100, clock)
    lowest = 100.0
    for _ in range(60):
        for _ in range(19):
            pace.note_answered()
        pace.note_refused()
        lowest = min(lowest, pace.per_second)
        clock.now += CUT_EVERY_S
    assert 80 < lowest < 100


@pytest.mark.parametrize(("max_per_s", "floor"), [(1_000, 10), (10, FLOOR_PER_S), (0.1, 0.1)])
def test_an_endless_storm_leaves_a_trickle_and_a_minute_of_quiet_the_maximum(max_per_s: float, floor: float):
    """The rate never falls below its floor, and comes back by itself, also while nobody sends anything."""
    clock = Clock()
    pace = pace_of(max_per_s, clock)
    for _ in range(60):
        pace.note_refused()
        clock.now += CUT_EVERY_S
    assert floor <= pace.per_second <= 2 * floor
    clock.now += 5
    assert pace.per_second < max_per_s or max_per_s == floor
    clock.now += 55
    assert pace.per_second == max_per_s
    clock.now += MONTHS_S
    assert pace.per_second == max_per_s


def test_the_rate_recovers_only_after_the_wait_that_was_asked_for():
    """A Retry-After of minutes does not end in full speed."""
    clock = Clock()
    pace = pace_of(10, clock)
    pace.note_refused(hold_s=300)
    clock.now += 300
    assert pace.per_second == pytest.approx(5)


def answered(pace: Pace, clock: Clock, latency_s: float, count: int) -> float:
    """The rate after *count* answers, one a second."""
    for _ in range(count):
        clock.now += 1
        pace.note_answered(latency_s)
    return pace.per_second


def test_latency_that_rises_slows_down_gently_and_recovers_with_it():
    """Three times the calm level and over a second: a little slower each second, down to a tenth; calm again: the maximum."""
    clock = Clock()
    pace = pace_of(100, clock)
    assert answered(pace, clock, 0.4, 30) == 100
    rates = [answered(pace, clock, 5.0, 1) for _ in range(LATENCIES)]
    slowed = [rate for rate in rates if rate < 100]
    assert slowed[0] == pytest.approx(100 * SLOW_FACTOR)
    assert min(answered(pace, clock, 60.0, 1) for _ in range(40)) >= 100 * SLOW_FLOOR_SHARE
    assert answered(pace, clock, 0.4, 60) == 100


@pytest.mark.parametrize("latencies", [[0.02] * 30 + [0.9] * 30, [0.5] * 30 + [1.4] * 30, [0.3, 0.3, 0.3, 0.3, 30.0] * 20])
def test_latency_that_is_short_or_usual_or_one_outlier_changes_nothing(latencies: list[float]):
    """Under a second, under three times the usual, or a single answer that hung: no reason to slow down."""
    clock = Clock()
    pace = pace_of(100, clock)
    assert min(answered(pace, clock, latency, 1) for latency in latencies) == 100


def test_latency_that_stays_becomes_the_usual_one():
    """A slower line for good does not keep the rate down for ever; an idle day in between breaks nothing."""
    clock = Clock()
    pace = pace_of(100, clock)
    answered(pace, clock, 0.5, 30)
    assert answered(pace, clock, 2.0, 20) < 100
    clock.now += 86_400
    assert answered(pace, clock, 2.0, 400) == 100


@pytest.mark.parametrize("content", [b"", b"torn", b"\0" * 44, bytes(range(44)), b"x" * 4_096], ids=len)
def test_a_torn_file_starts_anew(content: bytes, tmp_path: Path):
    """Whatever stands in the file, the first caller goes at once and the next ones keep their distance."""
    (tmp_path / "a").write_bytes(content)
    clock = Clock()
    assert turns(pace_of(10, clock, tmp_path / "a"), clock, 3) == pytest.approx([0, 0.1, 0.2])


def test_a_file_of_an_earlier_start_of_the_machine_starts_anew(tmp_path: Path):
    """The clock begins at zero with the machine: a budget from the future, with its hold and its cut, is forgotten."""
    old, clock = Clock(), Clock()
    old.now = MONTHS_S
    before = pace_of(10, old, tmp_path / "a")
    before.note_refused(hold_s=300)
    pace = pace_of(10, clock, tmp_path / "a")
    assert pace.per_second == 10
    assert turns(pace, clock, 2) == pytest.approx([0, 0.1])


def test_a_temporary_folder_that_is_tidied_up_does_not_split_the_budget(tmp_path: Path):
    """When the file is removed under a running process, that process and a new one share the next file."""
    clock = Clock()
    one = pace_of(10, clock, tmp_path / "a")
    one.wait()
    (tmp_path / "a").unlink()
    two = pace_of(10, clock, tmp_path / "a")
    for pace in (one, two, one):
        pace.wait()
    assert clock.sleeps == pytest.approx([0.1] * 2)


def test_a_caller_that_gives_up_leaves_its_turn_to_the_next():
    """An exception out of the sleep comes through; the pace goes on as if nobody had asked."""
    clock = Clock()
    pace = Pace(10, clock=clock.time)
    pace.wait(clock.sleep)

    def give_up(_: float) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        pace.wait(give_up)
    pace.wait(clock.sleep)
    assert clock.sleeps == pytest.approx([0.1])


def test_the_shared_file_is_private_and_names_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The folder is its user's alone; the same workspace finds the same file, and neither address nor id stand in its name."""
    monkeypatch.setattr("rs_cio_assets.customerio.pace.state_folder", lambda: tmp_path / "paces")
    paces = [shared_pace(10, "https://track.customer.io", site) for site in ("site-a", "site-a", "site-b")]
    assert [pace.per_second for pace in paces] == [10, 10, 10]
    files = sorted((tmp_path / "paces").iterdir())
    assert len(files) == 2
    assert all(set(file.name) <= set("0123456789abcdef") for file in files)
    assert (tmp_path / "paces").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert not any(b"site" in file.read_bytes() for file in files)


def test_a_pace_that_cannot_be_shared_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that others may enter, a link, a file in its place or none to put it in: an error with what to do, no silence."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("open", "file", "link", "absent/folder"):
        monkeypatch.setattr("rs_cio_assets.customerio.pace.state_folder", lambda name=name: tmp_path / name)
        with pytest.raises(SettingsError, match="TMPDIR"):
            shared_pace(10, "https://track.customer.io", "site")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError, match="TMPDIR"):
        Pace(10, file=tmp_path / "folder")


CALLERS = """
import sys
from pathlib import Path
from rs_cio_assets.customerio.pace import Pace
pace = Pace(float(sys.argv[2]), file=Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[3])):
    pace.wait()
"""


def test_processes_together_stay_within_one_budget(tmp_path: Path):
    """Three processes with 25 turns each need the time of 75 turns: counted from before the first to after the last."""
    rate, count = 50, 25
    command = [sys.executable, "-c", CALLERS, str(tmp_path / "a"), str(rate), str(count)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    start = time.monotonic()
    outputs = [process.communicate("go\n", timeout=120) for process in processes]
    elapsed_s = time.monotonic() - start
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    assert len(processes) * count <= elapsed_s * rate + 1
