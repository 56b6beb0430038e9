"""The implementation checklist of the guide, line by line: what each needs, and what the latest checks say about it. No Dagster.

A line is ready when its facts hold, enough of its checks passed, none failed, and none of the passed ones is older than a week.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from rs_cio_assets.contract.models import Contract, FeedKind

LONGEST_AGE = timedelta(days=7)
BACKFILL_DAYS = (7, 30)  # "Import the last 7-30 days": the guide
SEGMENTS_NEEDED, JOURNEYS_NEEDED = 3, 2


class Verdict(StrEnum):
    """What a check said last."""

    PASSED = "passed"
    WARNED = "warned"  # within what is tolerated
    FAILED = "failed"
    NOT_READY = "not ready"
    NEVER_RUN = "never run"


class State(StrEnum):
    """Where a line stands."""

    READY = "ready"
    FAILING = "failing"
    NOT_READY = "not ready"


@dataclass(frozen=True)
class Evidence:
    """The latest word of one check: the asset it stands on, its name, the verdict, its text, and when (UTC; None: never)."""

    asset: str
    check: str
    verdict: Verdict
    text: str
    at: datetime | None


@dataclass(frozen=True)
class Facts:
    """What is known without asking a check. *days_delivered*: feed -> how many of the last 30 finished days were delivered."""

    contract: Contract
    days_delivered: dict[str, int]
    locked_on: str | None


@dataclass(frozen=True)
class Line:
    """One line of the checklist. *oldest* is when the oldest of its passed checks ran; *evidence* is in words."""

    item: str
    state: State
    evidence: str
    oldest: datetime | None
    next_step: str


@dataclass(frozen=True)
class _Question:
    """*checks* matches `asset: check`; *needed* of them must have passed, or all where it is None.

    Checks whose group `of` in the match is the same are one of those that are needed, and pass together.
    """

    item: str
    checks: str
    fact: Callable[[Facts], tuple[bool, str]]
    next_step: str
    needed: int | None = None


def _identifier(facts: Facts) -> tuple[bool, str]:
    identifier = facts.contract.workspace.identifier
    return True, f"every feed names people by {identifier.column}, Customer.io's {identifier.customerio}"


def _taxonomy(facts: Facts) -> tuple[bool, str]:
    events = facts.contract.feeds_of(FeedKind.EVENT)
    properties = sum(len(feed.sent_columns) for feed in events)
    lock = f"locked on {facts.locked_on}" if facts.locked_on else "not locked: a rename would go unnoticed (rs-cio lock)"
    return facts.locked_on is not None, f"{len(events)} events with {properties} properties are documented; {lock}"


def _attributes(facts: Facts) -> tuple[bool, str]:
    people = facts.contract.feeds_of(FeedKind.PEOPLE)
    count = sum(len(feed.sent_columns) for feed in people)
    return count > 0, f"{count} attributes of people have a type in the contract"


def _views(facts: Facts) -> tuple[bool, str]:
    feeds = facts.contract.enabled_feeds
    has_both = {feed.kind for feed in feeds} >= {FeedKind.PEOPLE, FeedKind.EVENT}
    return has_both, f"{len(feeds)} export views, of people and of events" if has_both else "people or events have no export view"


def _window(facts: Facts) -> tuple[bool, str]:
    least, most = BACKFILL_DAYS
    feeds = facts.contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT)
    few = [feed.name for feed in feeds if facts.days_delivered.get(feed.name, 0) < least]
    days = min((facts.days_delivered.get(feed.name, 0) for feed in feeds), default=0)
    text = f"{days} of the last {most} days are delivered for every feed"
    return not few, f"{text}; fewer than {least} of {', '.join(few)}" if few else text


def _declared(facts: Facts) -> tuple[bool, str]:
    count = len(facts.contract.segments)
    return count >= SEGMENTS_NEEDED, f"{count} segments are declared, {SEGMENTS_NEEDED} are needed"


def _journeys(facts: Facts) -> tuple[bool, str]:
    count = len(facts.contract.journeys)
    return count >= JOURNEYS_NEEDED, f"{count} journeys are declared, {JOURNEYS_NEEDED} are needed"


def _suppression(facts: Facts) -> tuple[bool, str]:
    names = [journey.name for journey in facts.contract.journeys if journey.never_sql]
    return bool(names), f"whom they must never reach is declared for {', '.join(names) or 'no journey'}"


_SYNC = "materialize the days of these feeds (job sync_day), then run the job checks"
CHECKLIST = (
    _Question(
        "Canonical person identifier chosen and enforced across all exports",
        r".*: (identities_agree|rejections_within_budget)",
        _identifier,
        "read the failing check; mend the views that name people otherwise",
    ),
    _Question(
        "Event taxonomy documented (names, required properties, timestamp field)",
        r"redshift/exports/.*: (contract|times)",
        _taxonomy,
        "lock the names with rs-cio lock, and run a day of every export",
    ),
    _Question(
        "Person attributes defined with types (string, number, boolean, timestamp)",
        r"customerio/feeds/people.*: customerio_holds_what_was_sent",
        _attributes,
        _SYNC,
    ),
    _Question(
        "Redshift export views created for people updates and events",
        r"redshift/exports/.*: contract",
        _views,
        "run the job create_views, then a day of sync_day",
    ),
    _Question(
        "Backfill window tested (7 to 30 days) and validated on real profiles",
        r".*: (customerio_holds_what_was_sent|customerio_refused_nothing_later)",
        _window,
        _SYNC,
    ),
    _Question(
        "Segment spot-check: at least 3 key segments match expectations",
        r".*: segment_.*",
        _declared,
        "read the failing segment's check: it lists who is missing and who is extra",
        needed=SEGMENTS_NEEDED,
    ),
    _Question(
        "Trigger spot-check: at least 2 journeys fire off Redshift-fed events with correct timing",
        r".*: journey_(?P<of>.*)_(fires|keeps_its_promise)",
        _journeys,
        "read the journey's check: it says what did not fire, or from when on it can be judged",
        needed=JOURNEYS_NEEDED,
    ),
    _Question(
        "Suppression rules validated (purchasers excluded from cart recovery, actives excluded from winback)",
        r".*: (.*_reaches_nobody_it_must_not|who_left_stays_gone|canary_.*)",
        _suppression,
        "read the failing check: it lists who must not be reached and is",
    ),
)


def readiness(evidence: Sequence[Evidence], facts: Facts, now: datetime) -> tuple[Line, ...]:
    """The checklist, in the guide's order."""
    return tuple(_line(question, evidence, facts, now) for question in CHECKLIST)


def _line(question: _Question, evidence: Sequence[Evidence], facts: Facts, now: datetime) -> Line:
    found = [item for item in evidence if re.fullmatch(question.checks, f"{item.asset}: {item.check}")]
    by_verdict = {verdict: [item for item in found if item.verdict is verdict] for verdict in Verdict}
    passed = by_verdict[Verdict.PASSED] + by_verdict[Verdict.WARNED]
    fresh = [item for item in passed if item.at and now - item.at <= LONGEST_AGE]
    has_facts, fact = question.fact(facts)
    proven = len({_subject(question, item) for item in fresh} - {_subject(question, item) for item in found if item not in fresh})
    is_enough = bool(found) and (len(fresh) == len(found) if question.needed is None else proven >= question.needed)
    is_failing = bool(by_verdict[Verdict.FAILED])
    state = State.FAILING if is_failing else State.READY if has_facts and is_enough else State.NOT_READY
    counts = [f"{len(items)} {verdict}" for verdict, items in by_verdict.items() if items]
    if len(fresh) < len(passed):
        counts.append(f"{len(passed) - len(fresh)} of them older than {LONGEST_AGE.days} days")
    words = [fact, f"checks: {', '.join(counts) or 'none'}"]
    told = by_verdict[Verdict.FAILED] + by_verdict[Verdict.NOT_READY]
    words += [f"{item.asset}: {item.check}: {item.text}" for item in told]
    oldest = min((item.at for item in passed if item.at), default=None)
    return Line(question.item, state, "; ".join(words), oldest, "" if state is State.READY else question.next_step)


def _subject(question: _Question, item: Evidence) -> str:
    """What the check is about: itself, or the group `of`."""
    name = f"{item.asset}: {item.check}"
    found = re.fullmatch(question.checks, name)
    return (found.groupdict().get("of") if found else None) or name
