"""Does each journey fire? Deliveries that should have started it, compared with the messages that Customer.io made of them.

The checks and their words. Who did what is found by `firing.py`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import CAMPAIGNS, check_description, linked
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.campaigns import campaign_problem, name_of
from rs_cio_assets.checks.evidence import FAULTS, HAVE_FIRED, LIVE, Evidence, Span, What, feed_behind
from rs_cio_assets.checks.firing import Sources, look_at_journey
from rs_cio_assets.checks.results import bad, good, hashed, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract import Contract, Feed, Journey
from rs_cio_assets.customerio import AppClient, Campaign
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse, keep_answer

SAMPLES = "deliveries (people hashed)"
# Of each fault: what a marketer reads, and what to do.
_WORDS = {
    What.MISSING: (
        "got no message",
        "look up one of them in Customer.io (samples below): did a filter, a goal or a frequency limit keep the person out?",
    ),
    What.TWICE: (
        "got a message more than once",
        "see whether the campaign has the message twice, or may be entered again at once, and stop it until that is mended",
    ),
    What.LATE: (
        "got a message too late",
        "compare the campaign's wait with first_message_after_hours, and ask Customer.io's status page about delays",
    ),
    What.HISTORY_FIRED: (
        "got a message although delivered as history (72 hours old or older)",
        "stop the campaign, and find the backfill among the feed's runs that delivered them",
    ),
}
_WHY_NOT = {
    What.NOT_DELIVERED: "not delivered to Customer.io (the day was not run, or the row is held or rejected)",
    What.HISTORY: "delivered as history (72 hours old or older)",
    What.UNSUBSCRIBED: "of people who unsubscribed",
}


class JourneyConfig(Config):
    """How much to look at."""

    days_back: int = Field(default=7, ge=1, le=29, description="Messages that were due in so many days before now are judged.")
    grace_minutes: int = Field(default=60, ge=0, le=1_440, description="Customer.io's own delay that is still in time.")


def build_journey_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """The check `journey_<name>_fires` of each journey whose feed is on; a journey without a feed cannot be delivered to."""
    feeds = ((journey, feed_behind(journey, contract)) for journey in contract.journeys)
    return [_build(journey, feed, contract) for journey, feed in feeds if feed is not None]


def _build(journey: Journey, feed: Feed, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name=f"journey_{journey.name}_fires",
        description=check_description(
            f"Compares what should have started the journey {journey.name} with the messages that campaign {journey.campaign_id} "
            "made in Customer.io: each person one, in time, and none for history.",
            red="the campaign is off or listens to something else, or people got no message, a late one, or two.",
            then="look the examples below up in Customer.io, and correct the campaign's trigger, filter or wait.",
            about=journey.description,
        ),
        pool="customerio_app",
    )
    def fires(
        context: AssetCheckExecutionContext,
        config: JourneyConfig,
        warehouse: ResourceParam[Warehouse],
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        span = Span(datetime.now(UTC), config.days_back, config.grace_minutes)
        with failing_clearly(feed.name), AppClient(customerio) as app, warehouse.session() as session:
            campaign = next((c for c in app.campaigns() if c.campaign_id == journey.campaign_id), None)
            sources = Sources(partial(keep_answer, session), store, app)
            evidence = look_at_journey(journey, feed, contract, campaign, sources, span) if campaign else Evidence()
            requests = app.requests
        context.log.info("%s: %d messages, %d deliveries looked at", journey.name, evidence.messages, sum(evidence.rows.values()))
        said = journey_result(journey, feed, contract, campaign, evidence, span, requests)
        return linked(said, customerio.ui_url, CAMPAIGNS, journey.campaign_id)

    return fires


def journey_result(
    journey: Journey, feed: Feed, contract: Contract, campaign: Campaign | None, evidence: Evidence, span: Span, requests: int
) -> AssetCheckResult:
    """The verdict on *evidence* in words. Green only where a message was seen, or where the warehouse expects nobody at all."""
    numbers, days = _numbers(evidence, requests), f"the last {span.days_back} days"
    samples = {SAMPLES: [_sample(s.person, s.what, s.delivered_at) for s in evidence.samples]}
    missing, fired = evidence.expected(What.MISSING), evidence.expected(*HAVE_FIRED)
    is_used = evidence.is_audience_used
    if (problem := campaign_problem(journey, feed, contract, campaign, is_audience_used=is_used)) is not None:
        without = f". In {days}, {_counted(missing, journey, feed)} got no message" if missing else ""
        return bad(f"{problem.text}{without}", problem.next_step, numbers, samples=samples)
    assert campaign is not None  # noqa: S101 - else there was a problem
    if missing and not fired and not journey.trigger_segment and evidence.messages == evidence.others > 0:
        return bad(
            f"{name_of(campaign)}, in {days}: {_counted(missing, journey, feed)} got no message, and none of its "
            f"{evidence.messages:,} messages names one of ours: Customer.io does not return our event ids, or another source "
            "alone starts the campaign",
            "prove it with the smoke test (send one event, read its message back), then look for the other source",
            numbers,
            samples=samples,
        )
    if faults := [(fault, n) for fault in FAULTS if (n := evidence.faults.get(fault, 0))]:
        (first, count), *others = faults
        found = ", ".join([f"{_counted(count, journey, feed)} {_WORDS[first][0]}", *(f"{n:,} {_WORDS[f][0]}" for f, n in others)])
        text = f"{name_of(campaign)}, in {days}: {found}. Expected to get one: {evidence.expected(*LIVE):,}"
        return bad(text, "; ".join(_WORDS[fault][1] for fault, _ in faults), numbers, samples=samples)
    has_others = evidence.others and not journey.trigger_segment
    of_others = f" {evidence.others:,} messages came of events that another source sent." if has_others else ""
    if fired:
        due = _counted(fired, journey, feed)
        return good(
            f"{name_of(campaign)}, in {days}: {due} got a message, once and in time; none is missing.{of_others}", numbers
        )
    reasons = [*_why_not_due(evidence)] if campaign.is_state_known else ["Customer.io does not say whether the campaign runs"]
    if not reasons:
        text = f"{name_of(campaign)} runs. Nobody was expected in {days}: journeys/{journey.name}.sql finds nobody.{of_others}"
        return good(text, numbers)
    return not_ready(
        f"nothing to judge was due in {days} ({', '.join(reasons)}).{of_others}",
        "look again when rows were delivered and the campaign's wait is over",
        numbers,
    )


def _counted(count: int, journey: Journey, feed: Feed) -> str:
    if journey.trigger_segment:
        return f"{count:,} {'person' if count == 1 else 'people'} who qualified"
    return f"{count:,} {feed.event_name} {'event' if count == 1 else 'events'}"


def _why_not_due(evidence: Evidence) -> Iterator[str]:
    for what in (What.NOT_DUE, What.BEFORE_START, What.NOT_DELIVERED, What.HISTORY, What.UNSUBSCRIBED):
        if count := evidence.expected(what):
            yield f"{count:,} {_WHY_NOT.get(what, what.value)}"
    if evidence.gone:
        yield f"{evidence.gone:,} of people who were merged, deleted or blocked since"


def _numbers(evidence: Evidence, requests: int) -> dict[str, Any]:
    counts = {f"{what}": evidence.faults.get(what, 0) for what in FAULTS}
    others = (What.HISTORY, What.NOT_DELIVERED, What.NOT_DUE, What.BEFORE_START, What.UNSUBSCRIBED)
    return {
        "expected live": evidence.expected(*LIVE),
        "fired": evidence.expected(*HAVE_FIRED),
        **counts,
        **{f"{what}": evidence.expected(what) for what in others},
        "people gone since": evidence.gone,
        "messages": evidence.messages,
        "messages of others": evidence.others,
        "acknowledged to message, median (min)": _rounded(evidence.median_minutes),
        "acknowledged to message, p95 (min)": _rounded(evidence.p95_minutes),
        "App API requests": requests,
    }


def _rounded(minutes: float | None) -> float | None:
    return None if minutes is None else round(minutes, 1)


def _sample(person: str, what: What, delivered_at: datetime | None) -> dict[str, str | int | float]:
    shown = f"{delivered_at:%Y-%m-%d %H:%M}" if delivered_at else ""
    return {"person": hashed(person), "what happened": what.value, "acknowledged (UTC)": shown}
