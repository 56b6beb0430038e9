"""Delivered rows against what Customer.io's App API reads back: attributes, properties, times and how often. No Dagster here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

from rs_cio_assets.checks.compare import differing_columns, is_this_event, unix_seconds
from rs_cio_assets.checks.delivered import AT_LEAST, AT_MOST, DeliveredRows, midnight
from rs_cio_assets.checks.results import SAMPLES_SHOWN, hashed
from rs_cio_assets.contract.models import Feed, FeedKind
from rs_cio_assets.customerio import Activity, AppClient

ROWS_AT_ONCE = 100  # ids in one request for attributes
MORE = "Customer.io has more events than were delivered: doubled, or another source sends them"
FEWER = "Customer.io has fewer events than were delivered"


@dataclass(frozen=True)
class Difference:
    """What Customer.io does not hold as sent: the person (hashed), the day of the row, and what differs.

    *is_count* for a person's number of events; else it is one row.
    """

    person: str
    day: str
    problem: str
    is_count: bool = False


@dataclass(frozen=True)
class HeldReport:
    """What was asked and what differs; *people_with_other_counts* of event feeds only. *kinds*: rows (or people) by problem."""

    rows: int
    rows_that_differ: int
    people: int
    people_with_other_counts: int
    kinds: Mapping[str, int]
    examples: Sequence[Difference]
    requests: int


def compare_with_customerio(
    feed: Feed, delivered: DeliveredRows, days: Sequence[str], app: AppClient, on_progress: Callable[[int], None]
) -> HeldReport:
    """Ask for every row of *delivered*, a hundred at a time; *days* are those that it was kept of. *on_progress* gets the rows
    so far. Memory does not grow with the rows.

    Raises: CustomerioRefused, CustomerioUnavailable, MismatchError (an answer of another shape).
    """
    before = app.requests
    tally = _Tally(on_progress)
    batches = map(tally.counting, delivered.batches(ROWS_AT_ONCE))
    if feed.kind is FeedKind.PEOPLE:
        differences = (difference for rows in batches for difference in _differences_of_people(feed, rows, app, tally))
    else:
        window = (unix_seconds(midnight(min(days))), unix_seconds(midnight(max(days))))
        people = groupby(chain.from_iterable(batches), key=lambda row: row[feed.identifier])
        differences = (d for person, rows in people for d in _differences_of_person(feed, person, rows, window, app, tally))
    for difference in differences:
        tally.note(difference)
    return HeldReport(
        rows=tally.rows,
        rows_that_differ=tally.rows_that_differ,
        people=tally.people,
        people_with_other_counts=tally.people_with_other_counts,
        kinds=tally.kinds,
        examples=tally.examples,
        requests=app.requests - before,
    )


class _Tally:
    """What was counted so far."""

    def __init__(self, on_progress: Callable[[int], None]) -> None:
        self.rows = self.people = self.rows_that_differ = self.people_with_other_counts = 0
        self.kinds: Counter[str] = Counter()
        self.examples: list[Difference] = []
        self._on_progress = on_progress

    def counting(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """*rows* themselves."""
        if self.rows:
            self._on_progress(self.rows)
        self.rows += len(rows)
        return rows

    def note(self, difference: Difference) -> None:
        self.kinds[difference.problem] += 1
        if difference.is_count:
            self.people_with_other_counts += 1
        else:
            self.rows_that_differ += 1
        if len(self.examples) < SAMPLES_SHOWN:
            self.examples.append(difference)


def _differences_of_people(feed: Feed, rows: Sequence[Mapping[str, Any]], app: AppClient, tally: _Tally) -> Iterator[Difference]:
    profiles = app.attributes([row[feed.identifier] for row in rows])
    tally.people += len(rows)
    for row in rows:
        profile = profiles.get(row[feed.identifier])
        if profile is None:
            yield _difference(feed, row, "there is no profile")
        elif names := differing_columns(feed, row, profile.attributes):
            yield _difference(feed, row, f"differs in {', '.join(names)}")


def _differences_of_person(
    feed: Feed, person: str, rows: Iterator[Mapping[str, Any]], window: tuple[int, int], app: AppClient, tally: _Tally
) -> Iterator[Difference]:
    """Of one person's events: each row, and their number in the window (unix seconds, from and before)."""
    events = list(app.activities(person, "event", name=feed.event_name))
    tally.people += 1
    row: Mapping[str, Any] = {}
    for row in rows:
        if (problem := _problem_of_event(feed, row, events)) is not None:
            yield _difference(feed, row, problem)
    count = sum(window[0] <= event.timestamp < window[1] for event in events)
    if not row[AT_LEAST] <= count <= row[AT_MOST]:
        yield _difference(feed, row, FEWER if count < row[AT_LEAST] else MORE, is_count=True)


def _problem_of_event(feed: Feed, row: Mapping[str, Any], events: Sequence[Activity]) -> str | None:
    same = [event for event in events if is_this_event(feed, row, event)]
    if len(same) != 1:
        return f"Customer.io has this event {len(same)} times"
    names = list(differing_columns(feed, row, same[0].data))
    if same[0].timestamp != unix_seconds(row[feed.time_column]):
        names.insert(0, feed.time_column)
    return f"differs in {', '.join(names)}" if names else None


def _difference(feed: Feed, row: Mapping[str, Any], problem: str, *, is_count: bool = False) -> Difference:
    return Difference(hashed(row[feed.identifier]), row[feed.time_column].date().isoformat(), problem, is_count)
