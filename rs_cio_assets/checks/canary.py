"""Does a purchase take somebody out of a journey's audience? Proven with two made-up people, where RS_CIO_CANARY is on."""

from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.canaries import Flight, fly_canaries
from rs_cio_assets.checks.results import bad, good, not_ready
from rs_cio_assets.checks.segments import segment_obstacle
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.contract.segments import Journey, Segment
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Store


class CanaryConfig(Config):
    """How long to wait for Customer.io, and what counts as a purchase."""

    wait_s: float = Field(default=120, ge=0, le=3_600, description="Seconds until Customer.io must show both people as they are.")
    poll_s: float = Field(default=2, ge=0, le=60, description="Seconds between looks; a look is 5 App API requests.")
    purchase_feed: str = Field(default="order_completed", description="The event feed whose event takes a buyer out.")


def build_canary_checks(contract: Contract, *, is_on: bool) -> list[AssetChecksDefinition]:
    """`canary_<journey>` on the journey's feed, for each journey with an enabled feed and an audience; none unless *is_on*."""
    return list(_checks(contract)) if is_on else []


def _checks(contract: Contract) -> Iterator[AssetChecksDefinition]:
    events = {feed.name: feed for feed in contract.feeds_of(FeedKind.EVENT)}
    segments = {segment.name: segment for segment in contract.segments}
    for journey in contract.journeys:
        if journey.audience and journey.feed in events:
            yield _build(journey, events[journey.feed], segments[journey.audience], contract)


def _build(journey: Journey, feed: Feed, audience: Segment, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name=f"canary_{journey.name}",
        description=check_description(
            f"Sends two made-up people who each do {feed.event_name}, one of whom then buys, and looks whether only the other one"
            f" is in the segment {audience.name}. Both are marked is_canary, have no address, and are deleted in the end.",
            red=f"the journey {journey.name} would write to buyers, or to nobody.",
            then=f"pause the journey, compare the conditions of the segment {audience.name} with the contract's, and run this "
            "again.",
            about=journey.description,
        ),
        pool="customerio_app",
        silent_with=(BACKFILL_ID_TAG, PARTITION_NAME_TAG),  # it sends: no day that somebody runs asks for that
    )
    def fly(
        context: AssetCheckExecutionContext,
        config: CanaryConfig,
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        with failing_clearly(feed.name), AppClient(customerio) as app, TrackClient(customerio) as track:
            if said := segment_obstacle(audience, app):
                return said
            flight = fly_canaries(
                feed,
                _purchase(contract, config.purchase_feed),
                audience.segment_id,
                contract,
                track,
                app,
                store,
                now=lambda: datetime.now(UTC),
                wait_s=config.wait_s,
                poll_s=config.poll_s,
            )
            if said := segment_obstacle(audience, app):  # somebody changed it meanwhile: who is in it says nothing
                return said
            requests = app.requests
        context.log.info("%s: both canaries are deleted after %.1f s", journey.name, flight.waited_s)
        return _result(journey, audience, flight, requests)

    return fly


def _purchase(contract: Contract, name: str) -> Feed:
    found = [feed for feed in contract.feeds if feed.name == name and feed.kind is FeedKind.EVENT]
    if not found:
        raise ConfigurationError(
            f"the contract has no event feed {name}, which the canary's purchase needs",
            next_step="name the feed of purchases in this check's config: purchase_feed",
        )
    return found[0]


def _result(journey: Journey, audience: Segment, flight: Flight, requests: int) -> AssetCheckResult:
    numbers = {
        "waited (s)": round(flight.waited_s, 1),
        "browser qualifies": int(flight.is_browser_in),
        "buyer qualifies": int(flight.is_buyer_in),
        "leftovers removed": flight.leftovers_removed,
        "App API requests": requests,
    }
    waited = f"after {flight.waited_s:.0f} s"
    if flight.is_good:
        return good(f"The canary who bought is not in {audience.name}, the one who did not is. Both are deleted again.", numbers)
    if not flight.is_visible:
        return not_ready(
            f"Customer.io does not show everything that the canaries did {waited}",
            "run it again with a longer wait_s; if it stays so, look for failed_event in Customer.io's activity logs",
            numbers,
        )
    if flight.is_buyer_in:
        return bad(
            f"The canary who bought is still in {audience.name} {waited}: {journey.name} would write to people who have bought",
            f"pause campaign {journey.campaign_id}; let segment {audience.segment_id} leave out who did the purchase's event",
            numbers,
        )
    return bad(
        f"The canary who did not buy is not in {audience.name} {waited}: {journey.name} would reach nobody",
        f"compare segment {audience.segment_id}'s conditions with segments/{audience.name}.yaml: the event's name, its window",
        numbers,
    )
