"""What each kind of feed needs and may not say. The models stand in `models.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rs_cio_assets.contract.models import Feed

# Source: Customer.io Track API document (journeys-track.json, read 2026-08-13).
MAX_EVENT_NAME_BYTES = 100
TITLE_CASE = re.compile(r"[A-Z][A-Za-z0-9]*( [A-Z0-9][A-Za-z0-9]*)*")


class FeedKind(StrEnum):
    """What a feed's rows are, in the order in which a day's feeds go out."""

    MERGE = "merge"  # two profiles of one person become one
    DELETION = "deletion"
    SUPPRESSION = "suppression"  # suppress or unsuppress
    PEOPLE = "people"  # profiles to update
    EVENT = "event"  # what happened

    @property
    def is_irreversible(self) -> bool:
        """True where Customer.io cannot undo what a row asks for: off until turned on, and with a brake."""
        return self in {FeedKind.MERGE, FeedKind.DELETION, FeedKind.SUPPRESSION}


def kind_problems(feed: Feed) -> Iterator[str]:
    """What is wrong with *feed* for its kind, as `field: text`."""
    kind = feed.kind
    yield from _event_problems(feed) if kind is FeedKind.EVENT else _problems_of_others(feed)
    if kind is not FeedKind.PEOPLE:
        for name, column in feed.columns.items():
            if column.on_null == "clear":
                yield f"columns.{name}.on_null: clear is for people; other feeds omit nulls"
    yield from _role_problems(feed, "suppressed_column", FeedKind.SUPPRESSION, "boolean")
    yield from _role_problems(feed, "merged_column", FeedKind.MERGE, "string")
    if kind.is_irreversible and feed.max_rows_per_day is None:
        yield f"max_rows_per_day: a {kind} feed needs a ceiling: a day with more rows sends none"


def _event_problems(feed: Feed) -> Iterator[str]:
    if not feed.event_name:
        yield "event_name: an event feed needs one, for example Order Completed"
    elif not TITLE_CASE.fullmatch(feed.event_name):
        yield f"event_name: {feed.event_name!r} is not Title Case, for example Order Completed"
    elif len(feed.event_name.encode()) > MAX_EVENT_NAME_BYTES:
        yield f"event_name: longer than {MAX_EVENT_NAME_BYTES} bytes"
    if feed.name_column in feed.sent_columns:
        yield f"name_column: column {feed.name_column!r} needs is_sent: false; the event's name says it already"
    if not feed.business_key:
        yield "business_key: an event feed needs the columns that make an event unique"


def _problems_of_others(feed: Feed) -> Iterator[str]:
    kind = feed.kind
    if feed.event_name:
        yield f"event_name: a {kind} feed has none"
    if feed.business_key and feed.business_key != (feed.merged_column or feed.identifier,):
        yield f"business_key: a {kind} feed has one row per {feed.merged_column or feed.identifier}; leave it out"
    if feed.live_from or feed.max_trigger_age_hours:
        yield "live_from, max_trigger_age_hours: are for event feeds"
    if feed.unknown_person != "deliver" and kind is not FeedKind.MERGE:
        yield "unknown_person: is for event and merge feeds"
    if feed.on_backfill == "hold":
        yield "on_backfill: hold is for event feeds; an attribute has no time that would make it history"
    if feed.name_column or feed.max_rows_per_person:
        yield "name_column, max_rows_per_person: are for event feeds"


def _role_problems(feed: Feed, role: str, kind: FeedKind, kind_of_column: str) -> Iterator[str]:
    """A column that one kind needs and the others may not name."""
    name = getattr(feed, role)
    if feed.kind is not kind:
        if name is not None:
            yield f"{role}: is for {kind} feeds"
    elif name is None:
        yield f"{role}: a {kind} feed needs it"
    elif name not in feed.columns:
        yield f"{role}: column {name!r} is not declared under columns; declared are {', '.join(feed.columns)}"
    elif feed.columns[name].type.value != kind_of_column:
        yield f"{role}: column {name!r} must be {kind_of_column}, not {feed.columns[name].type.value}"
    elif name == feed.identifier:
        yield f"{role}: cannot be the identifier column"
    elif feed.columns[name].until:
        yield f"columns.{name}.until: the feed needs the column ({role}); give the feed an end, or leave it out"
