"""Which delivered days are not what the warehouse holds now? Pure decisions: what was found, what was delivered, what time it is.

Level-triggered: nothing is remembered between two looks, so nothing can be lost between them
(docs/decisions/0020-late-data-by-level.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from rs_cio_assets.assets.deliveries import DeliveredDay, has_changed
from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Fingerprint

# Waits before the first, second and third attempt at one state of a day; there is no fourth until something changes.
ATTEMPT_AFTER = (timedelta(0), timedelta(minutes=30), timedelta(hours=6))
LOOK_FOR_PERSON_EVERY = timedelta(hours=24)  # rows that wait for their person have no date


class Why(StrEnum):
    """What makes a day stale."""

    CHANGED = "changed"  # its rows in the view are not those that were delivered
    NEVER_DELIVERED = "never delivered"  # it has rows and lies after the feed's first delivered day: some run did not happen
    HOLD_DUE = "hold due"  # its held rows can start no journey any more
    WAITS_FOR_PERSON = "waits for a person"  # its held rows are looked at anew


@dataclass(frozen=True)
class StaleDay:
    """A day of a feed that should run. *state* names what it should run for: attempts are counted for each state."""

    feed: str
    day: str
    why: Why
    state: str


@dataclass(frozen=True)
class Attempts:
    """Runs that were requested for a stale day's state and failed: how many, and when the latest ended."""

    failed: int = 0
    latest: datetime | None = None

    @property
    def is_given_up(self) -> bool:
        """No more are made for this state."""
        return self.failed >= len(ATTEMPT_AFTER)

    def is_due(self, now: datetime) -> bool:
        """The next one may go."""
        return not self.is_given_up and (self.latest is None or now >= self.latest + ATTEMPT_AFTER[self.failed])


def stale_days(
    feed: Feed,
    found: Mapping[str, Fingerprint],
    delivered: Mapping[str, DeliveredDay],
    now: datetime,
    first_delivered: Callable[[], str | None],
) -> list[StaleDay]:
    """The stale days among those *found* (finished days, with what the view holds of them), newest first.

    A day that was never delivered counts when it is later than the feed's first delivered day, has rows, and ended more than a
    day ago (yesterday is the daily sync's). A feed that was never delivered has none: its history is a backfill's.
    """
    stale = []
    for day in sorted(found, reverse=True):
        was = delivered.get(day)
        if was is None:
            is_gap = found[day].rows > 0 and date.fromisoformat(day) < now.date() - timedelta(days=1)
            if is_gap and (first := first_delivered()) and first < day:
                stale.append(StaleDay(feed.name, day, Why.NEVER_DELIVERED, found[day].text()))
        elif has_changed(feed, found[day], was):
            stale.append(StaleDay(feed.name, day, Why.CHANGED, found[day].text()))
        elif was.held and was.held_until and was.held_until <= now:
            stale.append(StaleDay(feed.name, day, Why.HOLD_DUE, f"held until {was.held_until:%Y-%m-%dT%H:%M}"))
        elif was.held and not was.held_until and was.at + LOOK_FOR_PERSON_EVERY <= now:
            stale.append(StaleDay(feed.name, day, Why.WAITS_FOR_PERSON, f"waits since {was.at:%Y-%m-%dT%H:%M}"))
    return stale


def days_before(today: date, number: int, start: date) -> Sequence[str]:
    """The *number* finished UTC days before *today*, oldest first, none before *start*."""
    first = max(today - timedelta(days=number), start)
    return [(first + timedelta(days=n)).isoformat() for n in range((today - first).days)]
