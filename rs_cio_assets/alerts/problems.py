"""Which problems of this moment are told now: a decision over what is wrong and what has been told before.

Problems that are alike are one line, so a storm is one message. Told are: what is new, at once; what joined a told line, with the
next hour's message; what is still there, after a day; what is over, once. What was told is kept per receiver and is bounded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

AGAIN_AFTER = timedelta(hours=24)
JOINED_AFTER = timedelta(hours=1)  # a backfill of 90 days that fails alike is a message an hour, not 90
MOST_LINES = 30  # told and remembered for each receiver; more are one line
MOST_MEMBERS = 40  # of a line, remembered one by one
WHAT_LENGTH, STEP_LENGTH, REMEMBERED_LENGTH = 400, 300, 120
OTHERS = "many problems at once"
_SHAPE = re.compile(r"\d[\d.,:T-]*")


class Kind(Enum):
    """What sort of problem it is, as people read it; the most urgent first."""

    RUN = "run failed"
    REJECTED = "rejected rows"
    FRESHNESS = "freshness"
    HOLD = "hold"
    LATENCY = "latency"
    JOURNEY = "journey"
    SEGMENT = "segment"
    CHECK = "check failed"
    OTHERS = "others"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong at this moment: *what* in words, and the *next_step*, without personal data or secrets.

    *where* is an asset or a job; *day* an ISO date, or what else tells problems that are alike apart. *alike* is what they have
    in common: a check's name, or a text whose numbers and days do not count. After *followed_until* nobody looks any more, so
    its absence says nothing. *link* is a page of the Dagster UI, or empty.
    """

    kind: Kind
    where: str
    alike: str
    what: str
    next_step: str
    day: str = ""
    link: str = ""
    followed_until: datetime | None = None

    @property
    def line(self) -> str:
        """Which line it belongs to; the same for all that are alike, and tomorrow."""
        return line_of(self.kind, self.where, self.alike)


@dataclass(frozen=True)
class Moment:
    """Everything that is wrong now. About lines that begin with one of *unsure* nothing is known: neither there nor over."""

    problems: Sequence[Problem] = ()
    unsure: tuple[str, ...] = ()


@dataclass(frozen=True)
class Told:
    """A line that a receiver knows: when first and last told, for which members (hashes), and until when it is followed."""

    kind: str
    where: str
    what: str
    first: datetime
    last: datetime
    members: tuple[str, ...] = ()
    followed_until: datetime | None = None


class State(Enum):
    """Why a line is told."""

    NEW = "new"
    MORE = "more"
    STILL = "still there"
    OVER = "over"


@dataclass(frozen=True)
class Line:
    """One line of a message: *count* problems that are alike, first and last of their *days*; words and link of the last."""

    id: str
    state: State
    kind: str
    where: str
    what: str
    since: datetime
    next_step: str = ""
    link: str = ""
    days: tuple[str, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class Telling:
    """What one receiver is told now, and what it knows once it was told."""

    lines: tuple[Line, ...]
    told: Mapping[str, Told]


def line_of(kind: Kind, where: str, alike: str) -> str:
    """The name under which problems that are alike are remembered."""
    return f"{kind.value}|{where}|{_hashed(_SHAPE.sub('#', alike))}"


def decide(told: Mapping[str, Told], moment: Moment, now: datetime) -> Telling:
    """What a receiver that knows *told* is told of this *moment*."""
    present = _lines(told, moment.problems)
    lines: list[Line] = []
    known: dict[str, Told] = {}
    for name, problems in present.items():
        before = told.get(name)
        state = _state(before, problems, now)
        first = before.first if before else now
        newest = problems[-1]
        if state:
            lines.append(_line(name, state, problems, first))
            members = tuple(_hashed(problem.day) for problem in problems[-MOST_MEMBERS:])
            what = _short(newest.what, REMEMBERED_LENGTH)
            before = Told(newest.kind.value, newest.where, what, first, now, members)
        assert before is not None  # noqa: S101 - what was never told has a state
        ends = [problem.followed_until for problem in problems]
        known[name] = replace(before, followed_until=max((end for end in ends if end), default=None))
    for name, before in told.items():
        if name in present:
            continue
        if name.startswith(moment.unsure):
            known[name] = before
        elif before.followed_until is None or now < before.followed_until:
            lines.append(Line(_hashed(name), State.OVER, before.kind, before.where, before.what, before.first))
    return Telling(tuple(lines), dict(list(known.items())[: 2 * MOST_LINES]))


def _lines(told: Mapping[str, Told], problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """Problems by line, known lines first, then by urgency; members by day. What is too much becomes one line."""
    found: dict[str, list[Problem]] = {}
    for problem in sorted(problems, key=lambda p: (list(Kind).index(p.kind), p.where, p.line, p.day)):
        found.setdefault(problem.line, []).append(problem)
    names = sorted(found, key=lambda name: name not in told)
    if len(names) <= MOST_LINES:
        return {name: found[name] for name in names}
    rest = sum(len(found[name]) for name in names[MOST_LINES - 1 :])
    others = Problem(
        Kind.OTHERS, "rs_cio_assets", OTHERS, f"{rest:,} more problems of other kinds", "begin with those that are named"
    )
    return {**{name: found[name] for name in names[: MOST_LINES - 1]}, others.line: [others]}


def _state(before: Told | None, problems: Sequence[Problem], now: datetime) -> State | None:
    """Why a line is told now; None when it is not."""
    if before is None:
        return State.NEW
    if now - before.last >= AGAIN_AFTER:
        return State.STILL
    has_joined = len(before.members) < MOST_MEMBERS and any(_hashed(p.day) not in before.members for p in problems)
    return State.MORE if has_joined and now - before.last >= JOINED_AFTER else None


def _line(name: str, state: State, problems: Sequence[Problem], since: datetime) -> Line:
    newest = problems[-1]
    return Line(
        id=_hashed(name),
        state=state,
        kind=newest.kind.value,
        where=newest.where,
        what=_short(newest.what, WHAT_LENGTH),
        since=since,
        next_step=_short(newest.next_step, STEP_LENGTH),
        link=newest.link,
        days=tuple(dict.fromkeys(problem.day for problem in (problems[0], newest) if problem.day)),
        count=len(problems),
    )


def _short(text: str, length: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
