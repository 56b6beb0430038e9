"""What can be said of a journey's campaign: what became of each delivery, counted. Shapes only; `firing.py` looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from rs_cio_assets.contract import Contract, Feed, FeedKind, Journey


class What(StrEnum):
    """What became of one delivery that should have started the journey, or that a message came of."""

    FIRED = "fired"
    MISSING = "did not fire"
    TWICE = "fired twice"
    LATE = "fired late"
    HISTORY_FIRED = "history that fired"
    HISTORY = "history"
    NOT_DELIVERED = "not delivered"
    NOT_DUE = "not due yet"
    BEFORE_START = "before the campaign was started"
    UNSUBSCRIBED = "unsubscribed"


FAULTS = (What.MISSING, What.TWICE, What.LATE, What.HISTORY_FIRED)
HAVE_FIRED = (What.FIRED, What.TWICE, What.LATE)
LIVE = (*HAVE_FIRED, What.MISSING, What.NOT_DUE)


@dataclass(frozen=True)
class Span:
    """The time that is looked at: *days_back* before *now* (aware UTC), and Customer.io's own delay that is allowed."""

    now: datetime
    days_back: int
    grace_minutes: int


@dataclass(frozen=True)
class Sample:
    """One delivery that a person should look at; *person* is the identifier: hash it before it is shown."""

    person: str
    what: What
    delivered_at: datetime | None


@dataclass(frozen=True)
class Evidence:
    """*rows* of those who should have got the message in the span; *faults* of any delivery that a message came of, too.

    *others*: messages whose event is none of ours; of a journey that a segment starts, to people who were not expected.
    *gone*: people who were merged away, deleted or suppressed since. *is_audience_used*: the campaign asks the journey's
    audience, or there is none. Minutes are from the acknowledgement (with a segment: from when they qualified) to the first
    message; None where nothing fired.
    """

    rows: Mapping[What, int] = field(default_factory=dict)
    faults: Mapping[What, int] = field(default_factory=dict)
    messages: int = 0
    others: int = 0
    gone: int = 0
    is_audience_used: bool = True
    median_minutes: float | None = None
    p95_minutes: float | None = None
    samples: Sequence[Sample] = ()

    def expected(self, *whats: What) -> int:
        """How many of those who should have got it."""
        return sum(self.rows.get(what, 0) for what in whats)


def feed_behind(journey: Journey, contract: Contract) -> Feed | None:
    """The feed that starts *journey*: its event feed, or the first people feed; None where that is switched off."""
    wanted = contract.feeds_of(FeedKind.EVENT) if journey.feed else contract.feeds_of(FeedKind.PEOPLE)
    return next((feed for feed in wanted if journey.feed in {None, feed.name}), None)
