"""Is a journey's campaign there, does it run, and is it started by what the contract says? Pure: the campaign is given."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rs_cio_assets.contract import Contract, Feed, Journey
from rs_cio_assets.customerio import Campaign


@dataclass(frozen=True)
class Problem:
    """What is wrong, and what to do."""

    text: str
    next_step: str


def campaign_problem(
    journey: Journey, feed: Feed, contract: Contract, campaign: Campaign | None, *, is_audience_used: bool = True
) -> Problem | None:
    """What is wrong with the campaign of *journey*; None where all is as the contract says. *feed* is the one that starts it."""
    file = f"journeys/{journey.name}.yaml"
    if campaign is None:
        return Problem(
            f"Customer.io has no campaign {journey.campaign_id}, so nobody enters this journey",
            f"make the campaign, or mend campaign_id in {file}",
        )
    if not campaign.is_running:
        was = "was switched off" if campaign.first_started else "was never started"
        return Problem(
            f"{name_of(campaign)} {was}, so nobody enters this journey",
            f"start it in Customer.io, or take {file} out of the contract",
        )
    trigger_problem = _segment_problem if journey.trigger_segment else _event_problem
    if (problem := trigger_problem(journey, feed, contract, campaign)) is not None or is_audience_used:
        return problem
    segment = next(segment for segment in contract.segments if segment.name == journey.audience)
    return Problem(
        f"{name_of(campaign)} does not use segment {segment.segment_id} ({segment.name}), so it reaches others than its audience",
        f"add the segment to the campaign as a filter, or as a condition before its message; or mend audience in {file}",
    )


def name_of(campaign: Campaign) -> str:
    """The campaign for people: its number and its name."""
    return f"Campaign {campaign.campaign_id} ({campaign.name})"


def _segment_problem(journey: Journey, _feed: Feed, contract: Contract, campaign: Campaign) -> Problem | None:
    segment = next(segment for segment in contract.segments if segment.name == journey.trigger_segment)
    if campaign.trigger_segment_ids == (segment.segment_id,):
        return None
    found = f"the event {campaign.event_name!r}" if campaign.event_name else "neither a segment nor an event"
    if campaign.trigger_segment_ids:
        found = f"segment {', '.join(map(str, campaign.trigger_segment_ids))}"
    return Problem(
        f"{name_of(campaign)} is started by {found}; the contract says segment {segment.segment_id} ({segment.name})",
        f"mend its trigger in Customer.io, or journeys/{journey.name}.yaml and segments/{segment.name}.yaml",
    )


def _event_problem(journey: Journey, feed: Feed, _contract: Contract, campaign: Campaign) -> Problem | None:
    if campaign.event_name == feed.event_name:
        return None
    choose = f"choose {feed.event_name!r} as its trigger in Customer.io"
    said = f"the feed {feed.name} sends {feed.event_name!r}"
    if campaign.event_name is None:
        return Problem(
            f"{name_of(campaign)} is not started by an event; {said}", f"{choose}, or mend journeys/{journey.name}.yaml"
        )
    waits = f"{name_of(campaign)} waits for {campaign.event_name!r}"
    if _letters(campaign.event_name) == _letters(feed.event_name or ""):
        return Problem(f"{waits}, which never comes: {said}, and case, blanks and underscores count", choose)
    return Problem(f"{waits}; {said}", f"{choose}, or mend journeys/{journey.name}.yaml")


def _letters(event_name: str) -> str:
    """What is left of a name where case, blanks, dashes and underscores do not count."""
    return re.sub(r"[\W_]+", "", event_name).casefold()
