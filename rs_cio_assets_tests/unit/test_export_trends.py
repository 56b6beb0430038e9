"""Volume and times of a day beside the days before it: red just beyond each edge, green at it, and never for a late load."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_cio_assets.contract import Feed
from rs_cio_assets.store.profiles import Profile
from rs_cio_assets.warehouse.trends import TimesVerdict, judge_times, judge_volume
from rs_cio_assets_tests.profiles import USUAL_LAG_S, days_before, drawn_hours, profile_of
from rs_cio_assets_tests.staging import feed_of

EVENTS = feed_of("event", {"order_id": {"type": "string"}, "code": {"type": "string", "max_distinct": 3}})
PEOPLE = feed_of("people", {"tier": {"type": "string"}})
OPEN = timedelta(hours=-3)
HOUR_S = 3600


def volume_problem(rows: int, earlier: list[int], feed: Feed = EVENTS, **values: Any) -> str:
    """What the check says of a day with *rows*; nothing when it passes."""
    return "; ".join(judge_volume(feed, profile_of(rows, **values), days_before(earlier)).problems)


@pytest.mark.parametrize(
    ("rows", "earlier", "says"),
    [
        (50, [100] * 28, ""),  # half, not less
        (49, [100] * 28, "49 rows are less than half of the usual 100"),
        (300, [100] * 28, ""),  # three times, not more
        (301, [100] * 28, "301 rows are more than three times the usual 100"),
        (49, [100] * 6, ""),  # too few days
        (49, [100] * 7, "less than half"),
        (4, [20] * 7, ""),  # 16 fewer, and chance alone explains 20
        (37, [9] * 7, "more than three times"),
        (24, [6] * 7, "more than three times"),
        (15, [4] * 7, ""),  # 11 more, and 4 * 2 + 3 are 11
        (16, [4] * 7, "more than three times"),
        (0, [4] * 28, ""),  # rare enough to have none
        (7, [0] * 28, ""),
        (9, [0] * 28, "9 rows are more than three times the usual 0"),
        (0, [10] * 28, "there is no row of this day, and none of the 28 days before was empty"),
        (0, [9] * 28, ""),  # chance leaves none now and then
        (0, [10] * 27 + [0], ""),  # has been empty before
    ],
)
def test_volume_at_its_edges(rows: int, earlier: list[int], says: str):
    """SZ2, SZ3: half, three times, what chance explains, and how many days it takes: the day is red beyond, green at the edge."""
    problem = volume_problem(rows, earlier)
    assert says in problem
    assert bool(says) == bool(problem)


def test_an_open_day_is_not_too_small_yet_and_may_be_too_large():
    """Half a day has half the rows; more than three times the usual is wrong at any hour."""
    assert volume_problem(1, [100] * 28, read_after=OPEN) == ""
    assert volume_problem(0, [100] * 28, read_after=OPEN) == ""
    assert "more than three times" in volume_problem(301, [100] * 28, read_after=OPEN)


def test_an_old_day_of_people_may_have_shrunk():
    """People move to the day of their next change: only a day that was read soon after its end is too small; events stay."""
    late = timedelta(days=30)
    assert volume_problem(10, [100] * 28, PEOPLE, read_after=late) == ""
    assert "less than half" in volume_problem(10, [100] * 28, PEOPLE)
    assert "less than half" in volume_problem(10, [100] * 28, EVENTS, read_after=late)


def test_days_that_were_read_late_are_left_out_where_there_are_enough_others():
    """A first export of old days does not lower the usual once seven days were read in time; before that all count."""
    old = days_before([10] * 28, read_after=timedelta(days=20))
    fresh = days_before([100] * 7)
    judged = judge_volume(PEOPLE, profile_of(100), [*old[:-7], *fresh])
    assert (judged.usual_rows, judged.days_compared, judged.has_fresh_days_only, judged.problems) == (100, 7, True, ())
    judged = judge_volume(PEOPLE, profile_of(20), [*old[:-6], *fresh[1:]])
    assert (judged.usual_rows, judged.days_compared, judged.has_fresh_days_only) == (10, 28, False)


def test_too_few_days_are_said_and_not_judged():
    """Six days pass any volume, and the verdict tells that there are six; a ceiling on different values needs none."""
    judged = judge_volume(EVENTS, profile_of(9_999, distinct={"code": 4}), days_before([1] * 6))
    assert (judged.usual_rows, judged.days_compared) == (None, 6)
    assert judged.problems == ("column code has 4 different values, and max_distinct is 3",)
    assert judge_volume(EVENTS, profile_of(9_999, distinct={"code": 3}), []).problems == ()


@given(st.floats(0, 500), st.integers(0, 2**32 - 1))
def test_days_that_differ_by_chance_alone_raise_nothing(mean: float, seed: int):
    """Any feed whose rows are independent of each other, however small: 28 days and one more are green."""
    rows = [int(count) for count in np.random.default_rng(seed).poisson(mean, 29)]
    assert volume_problem(rows[-1], rows[:-1]) == ""


def usual_days(draw: np.random.Generator, rows: int, count: int = 28) -> list[Profile]:
    """Days with the usual hours and lags, drawn anew."""
    return [
        profile_of(rows, day=day.day, median_lag_s=lag, low_lag_s=lag / 2, rows_by_hour=drawn_hours(draw, rows))
        for day, lag in zip(days_before([rows] * count), draw.normal(USUAL_LAG_S, 30, count), strict=True)
    ]


def verdict(
    rows: int,
    moved_h: float,
    *,
    shift: int = 0,
    late_hours: int = 0,
    seed: int = 1,
    low_moved_h: float | None = None,
    days: int = 28,
) -> TimesVerdict:
    """Judge a day whose lags are *moved_h* longer than usual and whose hours are moved by *shift*."""
    draw = np.random.default_rng(seed)
    earlier = usual_days(draw, rows, days)
    low_h = moved_h if low_moved_h is None else low_moved_h
    day = profile_of(
        rows,
        median_lag_s=USUAL_LAG_S + moved_h * HOUR_S,
        low_lag_s=USUAL_LAG_S / 2 + low_h * HOUR_S,
        rows_by_hour=drawn_hours(draw, rows, shift=shift, late_hours=late_hours),
    )
    return judge_times(EVENTS, day, earlier)


@pytest.mark.parametrize("rows", [50, 200, 2_000, 100_000])
@pytest.mark.parametrize("seed", range(5))
def test_a_load_that_is_merely_late_raises_nothing(rows: int, seed: int):
    """All lags longer by whole hours, the last hours not loaded yet or loaded later: the hours of the day stay, so no shift."""
    for late_hours in range(1, 12):
        assert verdict(rows, late_hours, late_hours=late_hours, seed=seed).problems == ()
        assert verdict(rows, late_hours, seed=seed).problems == ()
        assert verdict(rows, -late_hours, seed=seed).problems == ()


@pytest.mark.parametrize("hours", [1, 2, 5, 8, -2, -5, -11])
def test_times_moved_by_whole_hours_are_found(hours: int):
    """TM4 where the lag does not become negative: lags and hours of the day moved by the same whole hours, either way."""
    found = verdict(5_000, -hours, shift=hours)
    assert found.shift_hours == hours
    (problem,) = found.problems
    assert f"{abs(hours)} h {'later' if hours > 0 else 'earlier'} than the truth" in problem


@pytest.mark.parametrize(
    "given",
    [
        {"rows": 5_000, "moved_h": 5, "shift": 0},  # the hours of the day stayed
        {"rows": 5_000, "moved_h": 5.3, "shift": -5},  # no whole hours
        {"rows": 5_000, "moved_h": 5, "shift": -5, "low_moved_h": 0},  # only a part is late
        {"rows": 5_000, "moved_h": 0, "shift": -5},  # a busy night, and the lags are usual
        {"rows": 49, "moved_h": 6, "shift": -6},
        {"rows": 5_000, "moved_h": 5, "shift": -5, "days": 6},
        {"rows": 5_000, "moved_h": 24, "shift": 0},  # a day late
    ],
)
def test_one_sign_of_a_shift_alone_raises_nothing(given: dict[str, Any]):
    """Lags and hours must agree, over enough rows and days."""
    assert verdict(**given).problems == ()


@pytest.mark.parametrize(
    ("rows", "after", "lag_h", "shift", "is_red"),
    [
        (4, 4, -2, None, False),  # too few rows
        (5, 3, -2, 2, True),
        (6, 3, -2, None, False),  # half is not more than half
        (100, 100, -2.2, 2, True),
        (100, 100, -2.5, None, True),  # wrong, and by no whole hours
    ],
)
def test_times_after_their_load(rows: int, after: int, lag_h: float, shift: int | None, is_red: bool):
    """TM4: more than half of at least five rows are later than their load; whole hours beside the usual lag are named."""
    earlier = days_before([100] * 7)
    lag_s = lag_h * HOUR_S + USUAL_LAG_S
    found = judge_times(EVENTS, profile_of(rows, rows_after_load=after, median_lag_s=lag_s, low_lag_s=lag_s), earlier)
    assert (bool(found.problems), found.shift_hours) == (is_red, shift)
    if is_red:
        assert f"occurred_at is later than loaded_at in {after} of {rows} rows" in found.problems[0]


def test_an_empty_day_has_no_times_to_judge():
    """No row, no verdict; and days without rows are none to compare with."""
    found = judge_times(EVENTS, profile_of(0), days_before([0] * 20 + [5] * 8))
    assert (found.problems, found.days_compared) == ((), 8)
