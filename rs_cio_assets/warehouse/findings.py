"""What in a day's profile breaks the contract, so that the day must not go on; and values that are not declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from rs_cio_assets.contract.models import Feed, FeedKind
from rs_cio_assets.store.profiles import Profile

# The run config's names of what one run may accept; the definition of a view is compared elsewhere.
NAMES, ETL_TIME, DUPLICATES, CEILING, DEFINITION = ACCEPTABLE = ("names", "etl_time", "duplicates", "ceiling", "definition")
SHOWN_NAMES = 5
FEW_ROWS = 5  # fewer say nothing about the load
SOME_ROWS = 20
_DAY_S, _HOUR_US = 86_400, 3_600_000_000


@dataclass(frozen=True)
class Finding:
    """*name* is one of ACCEPTABLE; *text* says what is wrong for how many rows, *next_step* what to do."""

    name: str
    text: str
    next_step: str


def contract_findings(feed: Feed, profile: Profile) -> tuple[Finding, ...]:
    """What blocks the day."""
    return (*_names(feed, profile), *_etl_time(feed, profile), *_duplicates(feed, profile), *_ceilings(feed, profile))


def undeclared_values(profile: Profile) -> tuple[str, ...]:
    """One sentence for each column with values that the contract does not declare."""
    return tuple(
        f"{name} has {_counted(len(odd.values), 'undeclared value')}: {', '.join(odd.values)} ({_counted(odd.rows, 'row')})"
        for name, odd in profile.undeclared.items()
    )


def _names(feed: Feed, profile: Profile) -> Iterator[Finding]:
    wrong = profile.wrong_names
    if wrong.rows:
        text = f"{wrong.rows:,} of {_counted(profile.rows, 'row')} have another {feed.name_column} than {feed.event_name!r}"
        yield Finding(
            NAMES,
            f"{text}: {', '.join(wrong.values[:SHOWN_NAMES])}",
            f"mend {feed.name_column} in the view's SQL, or filter other events there",
        )


def _etl_time(feed: Feed, profile: Profile) -> Iterator[Finding]:
    if feed.kind is not FeedKind.EVENT:
        return
    rows, frequent_us, text = profile.rows, profile.frequent_us, ""
    if rows >= FEW_ROWS and profile.rows_at_load_time > rows / 2:
        text = f"{feed.time_column} equals {feed.loaded_at} in {profile.rows_at_load_time:,} of {rows:,} rows"
    elif rows >= SOME_ROWS and profile.rows_at_frequent_time > rows / 2 and frequent_us and frequent_us % _HOUR_US:
        # On a whole hour it is a source that knows the day only (midnight, noon): coarse, and no load's time.
        same = f"the same {feed.time_column} ({timedelta(seconds=frequent_us // 1_000_000 % _DAY_S)} UTC)"
        text = f"{profile.rows_at_frequent_time:,} of {rows:,} rows have {same}"
    if text:
        yield Finding(
            ETL_TIME,
            f"{text}: the time of a load in place of the time at which it happened",
            "select the time at which it happened in the view's SQL",
        )


def _duplicates(feed: Feed, profile: Profile) -> Iterator[Finding]:
    if profile.keys_different:
        key = ", ".join(feed.key_columns)
        yield Finding(
            DUPLICATES,
            f"{_counted(profile.keys_different, 'business key')} ({key}) in {_counted(profile.rows_of_keys_different, 'row')} "
            "that differ: nobody can say which one is right",
            "look for a join in the view that multiplies rows"
            + (", or add a column to business_key" if feed.business_key else "")
            + "; accepted, these rows are rejected and the others sent",
        )


def _ceilings(feed: Feed, profile: Profile) -> Iterator[Finding]:
    # What cannot be undone has a brake of its own on the same number (delivery/guards.py).
    if feed.max_rows_per_day is not None and not feed.kind.is_irreversible and profile.rows > feed.max_rows_per_day:
        yield Finding(
            CEILING,
            f"the day has {profile.rows:,} rows, and max_rows_per_day is {feed.max_rows_per_day:,}",
            "look for a join in the view that multiplies rows, or raise max_rows_per_day in the contract",
        )
    if feed.max_rows_per_person is not None and profile.most_rows_of_a_person > feed.max_rows_per_person:
        yield Finding(
            CEILING,
            f"one person has {profile.most_rows_of_a_person:,} rows, and max_rows_per_person is {feed.max_rows_per_person:,}",
            "look for a default identifier or a test account in the view, or raise max_rows_per_person in the contract",
        )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
