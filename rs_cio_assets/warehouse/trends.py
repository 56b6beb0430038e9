"""A day's profile beside those of the 28 days before it: is it as large as usual, and are its times true?

Numbers only; every threshold is a margin over what chance and a late load do, so that an ordinary day raises nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from rs_cio_assets.contract.models import Feed, FeedKind
from rs_cio_assets.store.profiles import HOURS, Profile

DAYS_NEEDED = 7
FRESH = timedelta(days=2)  # read so soon after its end, a day still has the people who changed on it
LOW_FACTOR, HIGH_FACTOR = 0.5, 3.0
# Rows of independent people scatter by the square root of their number: 4 of it is beyond chance. 3 rows more for tiny feeds.
NOISE_ROOTS, NOISE_ROWS = 4.0, 3
RARE_ROWS = 5  # a feed with fewer a day may as well have none
NEVER_EMPTY_ROWS = 10  # of so many a day, chance leaves none once in 20,000 days
FEW_ROWS, MANY_ROWS = 5, 50
HOUR_S, TOLERANCE_S = 3600, 900
FARTHEST_ZONE_HOURS = 14
# Natural logarithm of how much likelier the hours are when shifted back: a thousand times.
CLEARLY_LIKELIER = math.log(1000)


@dataclass(frozen=True)
class VolumeVerdict:
    """*problems* are sentences; *usual_rows* is the median of *days_compared*, None when those are too few to judge by."""

    problems: tuple[str, ...]
    usual_rows: float | None
    days_compared: int
    has_fresh_days_only: bool  # days that were read long after their end are left out


@dataclass(frozen=True)
class TimesVerdict:
    """*shift_hours*: so much later than the truth the times are, where a whole number of hours explains the problem."""

    problems: tuple[str, ...]
    shift_hours: int | None
    days_compared: int


def judge_volume(feed: Feed, profile: Profile, earlier: Sequence[Profile]) -> VolumeVerdict:
    """Is the day as large as usual? *earlier*: profiles of the days before it. Ceilings on different values hold always."""
    problems = [
        f"column {name} has {profile.distinct[name]:,} different values, and max_distinct is {column.max_distinct:,}"
        for name, column in feed.columns.items()
        if column.max_distinct and profile.distinct.get(name, 0) > column.max_distinct
    ]
    fresh = [day for day in earlier if timedelta(0) <= day.read_after_end <= FRESH]
    compared = fresh if len(fresh) >= DAYS_NEEDED else earlier
    if len(compared) < DAYS_NEEDED:
        return VolumeVerdict(tuple(problems), None, len(compared), has_fresh_days_only=False)
    usual = float(median(day.rows for day in compared))
    problems += _volume_problems(feed, profile, compared, usual)
    return VolumeVerdict(tuple(problems), usual, len(compared), has_fresh_days_only=compared is fresh)


def _volume_problems(feed: Feed, profile: Profile, compared: Sequence[Profile], usual: float) -> Iterator[str]:
    rows, noise = profile.rows, NOISE_ROOTS * math.sqrt(max(usual, 1.0)) + NOISE_ROWS
    # People move to the day of their next change: an old day shrinks, and nothing is wrong.
    is_complete = not profile.is_open and (feed.kind is not FeedKind.PEOPLE or profile.read_after_end <= FRESH)
    if rows > HIGH_FACTOR * usual and rows - usual > noise:
        yield f"{rows:,} rows are more than three times the usual {usual:,.0f}"
    elif is_complete and rows == 0 and usual >= NEVER_EMPTY_ROWS and all(day.rows for day in compared):
        yield f"there is no row of this day, and none of the {len(compared)} days before was empty (usual: {usual:,.0f} rows)"
    elif is_complete and usual >= RARE_ROWS and rows < LOW_FACTOR * usual and usual - rows > noise:
        are = "row is" if rows == 1 else "rows are"
        yield f"{rows:,} {are} less than half of the usual {usual:,.0f}"


def judge_times(feed: Feed, profile: Profile, earlier: Sequence[Profile]) -> TimesVerdict:
    """Are the times of an event feed's day those of the truth, in UTC? A load that is merely late raises nothing."""
    compared = [day for day in earlier if day.median_lag_s is not None and day.low_lag_s is not None]
    if profile.median_lag_s is None or profile.low_lag_s is None:
        return TimesVerdict((), None, len(compared))
    usual_s = _usual([day.median_lag_s for day in compared])
    if profile.rows >= FEW_ROWS and profile.rows_after_load > profile.rows / 2:
        hours = _whole_hours((usual_s or 0.0) - profile.median_lag_s)
        text = f"{feed.time_column} is later than {feed.loaded_at} in {profile.rows_after_load:,} of {profile.rows:,} rows"
        return TimesVerdict((f"{text}{_explained(hours)}",), hours, len(compared))
    usual_low_s = _usual([day.low_lag_s for day in compared])
    if profile.rows < MANY_ROWS or usual_s is None or usual_low_s is None:
        return TimesVerdict((), None, len(compared))
    hours = _whole_hours(usual_s - profile.median_lag_s)
    if not hours or hours != _whole_hours(usual_low_s - profile.low_lag_s) or not _has_shifted_hours(profile, compared, hours):
        return TimesVerdict((), None, len(compared))
    text = (
        f"{feed.time_column} is {abs(hours)} h closer to" if hours > 0 else f"{feed.time_column} is {abs(hours)} h farther from"
    )
    text += f" {feed.loaded_at} than usual, and the hours of the day at which rows happen have moved, too"
    return TimesVerdict((f"{text}{_explained(hours)}",), hours, len(compared))


def _usual(lags_s: Sequence[float | None]) -> float | None:
    known = [lag_s for lag_s in lags_s if lag_s is not None]
    return median(known) if len(known) >= DAYS_NEEDED else None


def _whole_hours(moved_s: float) -> int | None:
    """*moved_s* in hours, where it is a whole number of them that a time zone can be away from UTC, and not none."""
    hours = round(moved_s / HOUR_S)
    is_whole = abs(moved_s - hours * HOUR_S) <= TOLERANCE_S
    return hours if is_whole and 1 <= abs(hours) <= FARTHEST_ZONE_HOURS else None


def _explained(hours: int | None) -> str:
    if hours is None:
        return ""
    return f": {abs(hours)} h {'later' if hours > 0 else 'earlier'} than the truth, as if local time were sold as UTC"


def _has_shifted_hours(profile: Profile, earlier: Sequence[Profile], hours: int) -> bool:
    """True when the day's hours fit the usual ones best when they are moved back by *hours*, within one, and clearly so.

    Compared are the hours up to the last one with rows: of an open day, or when a load is late, the rest is yet to come.
    """
    usual = [1.0 + sum(day.rows_by_hour[hour] for day in earlier) for hour in range(HOURS)]
    last = max(hour for hour in range(HOURS) if profile.rows_by_hour[hour])

    def likelihood(shift: int) -> float:
        expected = [usual[(hour - shift) % HOURS] for hour in range(last + 1)]
        total = sum(expected)
        return sum(rows * math.log(e / total) for rows, e in zip(profile.rows_by_hour, expected, strict=False))

    likelihoods = {shift: likelihood(shift) for shift in range(HOURS)}
    best = max(likelihoods, key=lambda shift: likelihoods[shift])
    distance = min((best - hours) % HOURS, (hours - best) % HOURS)
    return distance <= 1 and likelihoods[hours % HOURS] > likelihoods[0] + CLEARLY_LIKELIER
