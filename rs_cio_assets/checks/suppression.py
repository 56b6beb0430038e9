"""Does a journey's audience hold anybody whom it must never reach, and is anybody back who asked to go? Over everybody."""

from collections.abc import Iterator

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.checks.membership import Reached, find_reached
from rs_cio_assets.checks.results import bad, counted, good, not_ready, warned
from rs_cio_assets.checks.returned import Returned, find_returned
from rs_cio_assets.checks.segments import nothing_delivered, open_comparison, segment_obstacle
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.contract.segments import Journey, Segment
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse

WHO_LEFT_STAYS_GONE = "who_left_stays_gone"


class LeavingConfig(Config):
    """How many to ask about."""

    max_people: int = Field(default=50_000, ge=1, description="Newest first; the App API answers 900 people a second.")


def build_suppression_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """`<journey>_reaches_nobody_it_must_not` on the journey's feed (or the first people feed) for each journey with an audience;
    `who_left_stays_gone` on the first people feed where deletions or suppressions are enabled.
    """
    return list(_checks(contract))


def _checks(contract: Contract) -> Iterator[AssetChecksDefinition]:
    people = contract.feeds_of(FeedKind.PEOPLE)
    enabled = {feed.name: feed for feed in contract.enabled_feeds}
    segments = {segment.name: segment for segment in contract.segments}
    for journey in contract.journeys:
        feed = enabled.get(journey.feed or "") or (people[0] if people else None)
        if journey.audience and feed:
            yield _build_reaches(journey, segments[journey.audience], feed, contract)
    if people and contract.feeds_of(FeedKind.DELETION, FeedKind.SUPPRESSION):
        yield _build_gone(people[0], contract)


def _build_reaches(journey: Journey, audience: Segment, feed: Feed, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name=f"{journey.name}_reaches_nobody_it_must_not",
        description=check_description(
            f"Looks in the whole segment {audience.name} for people whom the journey {journey.name} must never reach, by the "
            "warehouse's tables.",
            red="the journey would write to them.",
            then="pause the journey until it is green; compare the segment's conditions with the contract's, and look up the "
            "people of the table below.",
            about=journey.description,
        ),
        pool="customerio_app",
    )
    def reaches(
        context: AssetCheckExecutionContext,
        warehouse: ResourceParam[Warehouse],
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        with open_comparison(feed, contract, warehouse, store, customerio) as (app, around):
            if said := segment_obstacle(audience, app) or nothing_delivered(contract, store, app):
                return said
            found = find_reached(journey, audience, app, around)
            if said := segment_obstacle(audience, app):
                return said
            requests = app.requests
        context.log.info("%s: %d members, %d must not be reached", journey.name, found.members, found.reached)
        return _reached_result(journey, audience, found, requests)

    return reaches


def _reached_result(journey: Journey, audience: Segment, found: Reached, requests: int) -> AssetCheckResult:
    numbers = {
        "members": found.members,
        "members without an id": found.without_id,
        "people it must not reach": found.forbidden,
        "people reached": found.reached,
        "in flight": found.in_flight,
        "not looked at": found.not_looked_at,
        "App API requests": requests,
        "own time (s)": round(found.own_s, 3),
    }
    on_their_way = (
        f" Not counted: {counted(found.in_flight)} in it whose latest rows are on their way." if found.in_flight else ""
    )
    if found.not_looked_at and not found.reached:
        return not_ready(
            f"{found.in_flight + found.not_looked_at:,} people in {audience.name} must not be reached by {journey.name}; of the "
            f"{found.in_flight:,} that were looked at the latest rows are on their way, so they may leave it yet",
            f"run this check again when the sync has delivered them and {audience.lag_minutes} minutes have passed",
            numbers,
        )
    if found.without_id and not found.reached:
        return warned(
            f"{found.without_id:,} of the {counted(found.members, 'member', 'members')} of {audience.name} have no id, so nobody "
            f"can say whether {journey.name} must not reach them. None of the others is among the {found.forbidden:,} whom it "
            f"must not reach.{on_their_way}",
            f"leave people without an id out of segment {audience.segment_id}, or find the source that makes such profiles",
            numbers,
        )
    if not found.reached:
        return good(
            f"None of the {found.members:,} people in {audience.name} is among the {found.forbidden:,} whom {journey.name} "
            f"must not reach.{on_their_way}",
            numbers,
        )
    least = "At least " if found.not_looked_at else ""
    return bad(
        f"{least}{counted(found.reached)} in {audience.name} must not be reached by {journey.name}, and would get its message "
        f"({found.members:,} in all are in it).{on_their_way}",
        f"pause campaign {journey.campaign_id}; look up one of these people in Customer.io (did the event or attribute that takes"
        f" them out arrive?) and compare the conditions of segment {audience.segment_id} with segments/{audience.name}.yaml",
        numbers,
        samples={"reached (sample, people hashed)": [{"person": person} for person in found.sample]},
    )


def _build_gone(people: Feed, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(people.name),
        name=WHO_LEFT_STAYS_GONE,
        description=check_description(
            "Asks Customer.io for everybody who asked to be deleted or blocked, newest first: none of them has a profile.",
            red="some of them have one again: another source made it, or the deletion never arrived.",
            then="find the source that makes them anew and stop it, then run their day of the feed again.",
        ),
        pool="customerio_app",
    )
    def stays_gone(
        context: AssetCheckExecutionContext,
        config: LeavingConfig,
        warehouse: ResourceParam[Warehouse],
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        with open_comparison(people, contract, warehouse, store, customerio) as (app, around):
            found = find_returned(app, around, config.max_people)
            requests = app.requests
        context.log.info("%d people who left were looked for, %d are back", found.asked, found.back)
        return _gone_result(found, requests)

    return stays_gone


def _gone_result(found: Returned, requests: int) -> AssetCheckResult:
    numbers = {
        "people asked about": found.asked,
        "people back": found.back,
        "never delivered": found.undelivered,
        "came back on purpose": found.came_back,
        "on their way out": found.on_their_way,
        "not asked about": found.not_asked,
        "App API requests": requests,
        "own time (s)": round(found.own_s, 3),
    }
    rest = f" {found.not_asked:,} who left earlier were not asked about (max_people)." if found.not_asked else ""
    if not found.back:
        none = f"None of the {found.asked:,} people who asked to go has a profile in Customer.io."
        return good(f"{none if found.asked else 'Nobody has asked to be deleted or blocked.'}{rest}", numbers)
    has = "has" if found.back == 1 else "have"
    never = (
        f"run the days of the deletion and suppression feeds that were never delivered (they hold {counted(found.undelivered)}); "
        if found.undelivered
        else ""
    )
    return bad(
        f"{found.back:,} of {found.asked:,} people who asked to be deleted or blocked {has} a profile in Customer.io.{rest}",
        f"{never}find the source that makes these profiles anew (their activity log names it), stop it, then delete them again",
        numbers,
        samples={"back (sample, people hashed)": [{"person": person} for person in found.sample]},
    )
