"""Is a feed's view fresh? By the newest `loaded_at` in its rows, never by when something ran: a run over old data looks fine."""

from datetime import UTC, datetime, timedelta

from dagster import AssetCheckResult, AssetChecksDefinition, MetadataValue, ResourceParam

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.loads import newest_load
from rs_cio_assets.checks.results import bad, good, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract import Contract, Feed, FeedKind
from rs_cio_assets.warehouse import Warehouse

AHEAD = timedelta(minutes=5)


def build_freshness_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """The check `fresh` of each people and event feed that is on and says how fresh it must be."""
    return [_build(feed) for feed in contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT) if feed.freshness_hours]


def _build(feed: Feed) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name="fresh",
        description=check_description(
            f"The newest row in {feed.view} was loaded at most {feed.freshness_hours} h ago (its {feed.loaded_at}).",
            red="the warehouse's load has stopped, and journeys wait for what it has not brought.",
            then="ask whoever runs the load of the tables behind the view. The sensor late_data, where it is on, syncs the days "
            "that come late.",
        ),
        pool="redshift",
    )
    def fresh(warehouse: ResourceParam[Warehouse]) -> AssetCheckResult:
        now = datetime.now(UTC)
        with failing_clearly(feed.name), warehouse.session() as session:
            newest = newest_load(session, feed, now)
        return freshness_result(feed, newest, now)

    return fresh


def freshness_result(feed: Feed, newest: datetime | None, now: datetime) -> AssetCheckResult:
    """The verdict on the *newest* load time of the view."""
    allowed_h = feed.freshness_hours
    assert allowed_h is not None  # noqa: S101 - a feed without has no check
    age_h = None if newest is None else (now - newest) / timedelta(hours=1)
    numbers = {
        "age of the newest row (h)": None if age_h is None else round(age_h, 2),
        "allowed (h)": allowed_h,
        "newest loaded_at (UTC)": MetadataValue.text("no rows") if newest is None else MetadataValue.timestamp(newest),
    }
    if newest is None or age_h is None:
        return not_ready(
            f"{feed.view} has no row that says when it was loaded", "load the warehouse, and look at the view's SQL", numbers
        )
    if newest > now + AHEAD:
        return bad(
            f"The newest {feed.loaded_at} of {feed.view} is {-age_h:.1f} h ahead of now: a clock is wrong, or local time is sold "
            "as UTC. How fresh the feed is, nobody can say",
            "look at the clock and the time zone of what loads the warehouse",
            numbers,
        )
    if age_h > allowed_h:
        return bad(
            f"Nothing new has been loaded into {feed.view} for {age_h:.1f} h, since {newest:%Y-%m-%d %H:%M} UTC; "
            f"{allowed_h} h are allowed. Journeys and segments act on what was true then",
            "look at what loads the warehouse (the tables behind the view); when it is back, run sync_day from then on",
            numbers,
        )
    return good(f"The newest row of {feed.view} was loaded {age_h:.1f} h ago; {allowed_h} h are allowed.", numbers)
