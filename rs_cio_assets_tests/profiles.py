"""Profiles by hand, and days of rows that a shop would have, for the tests of the checks of exports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import numpy as np

from rs_cio_assets.store.profiles import HOURS, Profile

DAY = "2026-11-20"
# Few at night, most in the evening.
USUAL_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 10, 13, 15, 16, 14, 9, 4], float)
USUAL_LAG_S = 600.0


def day_before(days: int) -> str:
    """ISO day, so many before DAY."""
    return (date.fromisoformat(DAY) - timedelta(days=days)).isoformat()


def profile_of(
    rows: int, *, feed: str = "tested", day: str = DAY, read_after: timedelta = timedelta(hours=6), **values: Any
) -> Profile:
    """A day with so many rows, read so long after its end, with usual lags where it has rows."""
    end = datetime.combine(date.fromisoformat(day) + timedelta(days=1), time(), UTC)
    lags = {"median_lag_s": USUAL_LAG_S, "low_lag_s": USUAL_LAG_S / 2} if rows else {}
    return Profile(feed, day, end + read_after, rows, **{**lags, **values})


def days_before(rows: Sequence[int], **values: Any) -> list[Profile]:
    """A profile for each of *rows*, the last on the day before DAY."""
    return [profile_of(count, day=day_before(len(rows) - n), **values) for n, count in enumerate(rows)]


def drawn_hours(draw: np.random.Generator, rows: int, *, shift: int = 0, late_hours: int = 0) -> tuple[int, ...]:
    """*rows* over the hours as usual, moved later by *shift* hours; the last *late_hours* of the day are not loaded yet."""
    expected = np.roll(USUAL_HOURS, shift)
    expected[HOURS - late_hours :] = 0
    return tuple(int(count) for count in draw.multinomial(rows, expected / expected.sum()))
