"""From the stand-in's pages back to Dagster's UI: where a feed, and the checks of a segment or journey, stand there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rs_cio_assets.contract import Contract, FeedKind


@dataclass(frozen=True)
class WaysBack:
    """Addresses in Dagster's UI: its first page, feeds by event name, people, and checks by a segment's or campaign's number."""

    home: str = ""
    people: str = ""
    events: Mapping[str, str] = field(default_factory=dict)
    segments: Mapping[int, str] = field(default_factory=dict)
    campaigns: Mapping[int, str] = field(default_factory=dict)


def ways_back(contract: Contract, ui_url: str) -> WaysBack:
    """The ways back to the UI at *ui_url*, for what *contract* has switched on."""
    feeds = f"{ui_url.rstrip('/')}/assets/customerio/feeds"
    people = next((feed.name for feed in contract.feeds_of(FeedKind.PEOPLE)), "")
    events = {feed.event_name: f"{feeds}/{feed.name}" for feed in contract.feeds_of(FeedKind.EVENT) if feed.event_name}

    def check(feed: str, name: str) -> str:
        return f"{feeds}/{feed}?view=checks&checkDetail={name}"

    return WaysBack(
        home=ui_url,
        people=f"{feeds}/{people}" if people else "",
        events=events,
        segments={segment.segment_id: check(people, f"segment_{segment.name}") for segment in contract.segments if people},
        campaigns={
            journey.campaign_id: check(journey.feed or people, f"journey_{journey.name}_fires")
            for journey in contract.journeys
            if journey.feed or people
        },
    )
