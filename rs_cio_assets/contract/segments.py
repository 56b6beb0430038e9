"""What a team declares about Customer.io's side: segments, journeys, and queries that recompute what feeds say.

Each is a YAML file with SQL beside it. The SQL is a SELECT in the portable Redshift subset; `:now` and `:since` in it stand for
UTC times that the check gives (`warehouse/questions.py`). Models only; the checks ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, StringConstraints

from rs_cio_assets.contract.fields import Owner, SnakeName, Strict
from rs_cio_assets.contract.kinds import FeedKind

if TYPE_CHECKING:
    from rs_cio_assets.contract.models import Contract, Feed

# A time's name is its group; texts, comments and casts (`::`) match without one, or not at all.
TIME = re.compile(r"'[^']*'|--[^\n]*|/\*.*?\*/|(?<!:):([a-z_]+)", re.DOTALL)
Text = Annotated[str, StringConstraints(min_length=1)]


class Declared(Strict):
    """What all of them say."""

    name: SnakeName
    description: Text
    owner: Owner = Field(default="team:retention", description="A Dagster owner: team:<name> or an email address.")
    sql: str = Field(description="From the .sql file beside the YAML.")


class Segment(Declared):
    """A segment of Customer.io and the SQL that says who should be in it: one row per person, the identifier's column.

    *lag_minutes*: how long Customer.io may take to notice a change or the passing of time; differences that are younger do
    not count. The tolerances say how many people may differ after that.
    """

    segment_id: int = Field(ge=1, description="The segment's number in Customer.io (in its address).")
    lag_minutes: int = Field(default=30, ge=0, description="Differences younger than this do not count.")
    tolerance_people: int = Field(default=0, ge=0, description="So many people may differ.")
    tolerance_share: float = Field(default=0.0, ge=0, le=1, description="Or this share of those who should be in it.")

    def tolerated(self, expected: int) -> int:
        """How many people may differ where *expected* should be in the segment."""
        return max(self.tolerance_people, int(self.tolerance_share * expected))


class Journey(Declared):
    """A campaign of Customer.io: what starts it, how soon, and whom it must never reach.

    *sql* says who should have got its first message: the identifier's column, the business key of *feed* where one starts it, and
    `occurred_at`, when it was due to start; for times from `:since` to `:now`. *never_sql* says, one row per person, who must not
    be in *audience* now.
    """

    campaign_id: int = Field(ge=1, description="The campaign's number in Customer.io (in its address).")
    feed: SnakeName | None = Field(default=None, description="The event feed whose rows start it.")
    trigger_segment: SnakeName | None = Field(default=None, description="Or the declared segment that starts it.")
    starts_within_hours: float = Field(gt=0, description="The promise: so soon after it happened the journey starts.")
    first_message_after_hours: float = Field(default=0.0, ge=0, description="What the campaign itself waits before its message.")
    audience: SnakeName | None = Field(default=None, description="The declared segment of those whom it may reach.")
    never_sql: str | None = Field(default=None, description="From <name>.never.sql: who must not be in the audience.")


class Logic(Declared):
    """A query that recomputes what a feed says, by other means. One row per mistake: the identifier's column, and `problem`,
    a fixed phrase without values. No row: all is well.
    """

    feed: SnakeName = Field(description="The feed that it checks.")


def declared_problems(contract: Contract) -> Iterator[tuple[str, str, str]]:
    """What segments, journeys and queries say of feeds and each other that is not so: file, field, what is wrong."""
    by_folder = {"segments": contract.segments, "journeys": contract.journeys, "logic": contract.logic}
    for folder, items in by_folder.items():
        for item in items:
            for name in sorted(times_of(item.sql) - {"now", "since"}):
                yield f"{folder}/{item.name}", "sql", f":{name} is not known; :now and :since are"
    yield from _repeated("segments", "segment_id", contract.segments)
    yield from _repeated("journeys", "campaign_id", contract.journeys)
    feeds = {feed.name: feed for feed in contract.feeds}
    for logic in contract.logic:
        if logic.feed not in feeds:
            yield f"logic/{logic.name}", "feed", f"there is no feed {logic.feed!r}"
    for journey in contract.journeys:
        for field, problem in _journey_problems(journey, feeds, {segment.name for segment in contract.segments}):
            yield f"journeys/{journey.name}", field, problem


def _repeated(folder: str, field: str, items: Sequence[Declared]) -> Iterator[tuple[str, str, str]]:
    seen: dict[int, str] = {}
    for item in items:
        number = getattr(item, field)
        if number in seen:
            yield f"{folder}/{item.name}", field, f"{number} is already used by {seen[number]}"
        seen[number] = item.name


def _journey_problems(journey: Journey, feeds: Mapping[str, Feed], segments: set[str]) -> Iterator[tuple[str, str]]:
    if (journey.feed is None) == (journey.trigger_segment is None):
        yield "feed", "exactly one of feed and trigger_segment says what starts the journey"
    if journey.feed is not None and journey.feed not in feeds:
        yield "feed", f"there is no feed {journey.feed!r}"
    elif journey.feed is not None and feeds[journey.feed].kind is not FeedKind.EVENT:
        yield "feed", f"{journey.feed} is not an event feed; a change of people starts a journey by a segment"
    elif journey.feed is not None and feeds[journey.feed].until:
        yield "feed", f"{journey.feed} ends on {feeds[journey.feed].until}; name the feed that takes its place"
    for field in ("trigger_segment", "audience"):
        if getattr(journey, field) not in {None, *segments}:
            yield field, f"there is no segment {getattr(journey, field)!r} in segments/"
    if (journey.audience is None) != (journey.never_sql is None):
        yield "audience", f"audience and {journey.name}.never.sql belong together"


def times_of(sql: str) -> set[str]:
    """The names that stand as `:name` in *sql*, outside of texts and comments; a cast (`::DATE`) is none."""
    return {found[1] for found in TIME.finditer(sql) if found[1]}
