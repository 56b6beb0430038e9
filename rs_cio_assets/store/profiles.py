"""What a staged day looks like in numbers: one small object for each feed and day, for checks that compare a day with others.

No row's values and no personal data: counts, times of the day, lags, and declared-value columns' values that are not declared.
Computing them is `warehouse/profile.py`'s business, judging them `warehouse/findings.py`'s and `warehouse/trends.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from pydantic import TypeAdapter, ValidationError

from rs_cio_assets.store.objects import Store

HOURS = 24
TRAILING_DAYS = 28
_READS_AT_ONCE = 8  # S3 answers one in some 15 ms


@dataclass(frozen=True)
class OddValues:
    """Rows with a value that is not declared, and at most 20 such values, cut to 64 characters, most frequent first."""

    rows: int
    values: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """One staged day of a feed. Lags are seconds from a row's time to its load time; *read_at* is the manifest's, aware UTC.

    By column: *nulls* of required ones, *distinct* values where max_distinct is declared, *undeclared* values where values are,
    *longest_bytes* of strings. *blocked_by* names the findings for which the day must not go on.
    """

    feed: str
    day: str
    read_at: datetime
    rows: int = 0
    people: int = 0
    most_rows_of_a_person: int = 0
    rows_by_hour: tuple[int, ...] = (0,) * HOURS  # of the time column, UTC
    median_lag_s: float | None = None
    low_lag_s: float | None = None  # 5 % of the rows have less
    rows_at_load_time: int = 0  # within a second
    rows_after_load: int = 0  # by more than a minute
    rows_at_frequent_time: int = 0
    frequent_us: int | None = None  # that time, since 1970; exact where more than half of the rows have it
    rows_outside_day: int = 0
    keys_equal: int = 0  # business keys that stand in several rows, which are equal
    keys_different: int = 0  # and which differ
    rows_of_keys_different: int = 0
    wrong_names: OddValues = OddValues(0, ())
    nulls: Mapping[str, int] = field(default_factory=dict)
    distinct: Mapping[str, int] = field(default_factory=dict)
    undeclared: Mapping[str, OddValues] = field(default_factory=dict)
    longest_bytes: Mapping[str, int] = field(default_factory=dict)
    blocked_by: tuple[str, ...] = ()

    @property
    def read_after_end(self) -> timedelta:
        """How long after the end of its day it was read; negative while the day was open."""
        return self.read_at - datetime.combine(date.fromisoformat(self.day) + timedelta(days=1), time(), UTC)

    @property
    def is_open(self) -> bool:
        """True when it was read before its day had ended."""
        return self.read_after_end < timedelta(0)


_JSON = TypeAdapter(Profile)


def save_profile(store: Store, profile: Profile) -> None:
    """Write it, replacing the day's earlier one."""
    store.put(_key(profile.feed, profile.day), _JSON.dump_json(profile))


def load_profile(store: Store, feed: str, day: str) -> Profile | None:
    """The day's profile; None when there is none, or none that this version reads: the day then counts as not profiled."""
    data = store.get(_key(feed, day))
    try:
        return _JSON.validate_json(data) if data is not None else None
    except ValidationError:
        return None


class ProfileHistory:
    """A feed's profiles as a run needs them: each is read once."""

    def __init__(self, store: Store, feed: str) -> None:
        self._store, self._feed = store, feed
        self._known: dict[str, Profile | None] = {}

    def add(self, profile: Profile) -> None:
        """Keep *profile*, in the store too."""
        save_profile(self._store, profile)
        self._known[profile.day] = profile

    def before(self, day: str) -> tuple[Profile, ...]:
        """The profiles of the 28 days before *day*, oldest first; days without one are left out."""
        days = [(date.fromisoformat(day) - timedelta(days=n)).isoformat() for n in range(TRAILING_DAYS, 0, -1)]
        missing = [day for day in days if day not in self._known]
        if missing:
            with ThreadPoolExecutor(_READS_AT_ONCE) as pool:
                found = pool.map(lambda day: load_profile(self._store, self._feed, day), missing)
                self._known |= dict(zip(missing, found, strict=True))
        return tuple(profile for day in days if (profile := self._known[day]))


def _key(feed: str, day: str) -> str:
    return f"profiles/{feed}/{day}.json"
