"""How soon do rows reach Customer.io, and is that soon enough for the journeys that they start? The checks and their words.

What is measured is found by `latency.py`.
"""

import math
from datetime import UTC, datetime
from typing import Any

from dagster import AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.metadata import records_table
from rs_cio_assets.checks.evidence import feed_behind
from rs_cio_assets.checks.latency import FROM_WAREHOUSE, TO_WAREHOUSE, WHOLE, Hour, Latency, measure_latency
from rs_cio_assets.checks.results import bad, counted, good, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract import Contract, Feed, FeedKind, Journey
from rs_cio_assets.store import Store

MOST_LATE = 0.05  # of the rows: p95
ROWS_MEASURED, HISTORY_ROWS = "rows measured", "left out, history (rows)"
WHOLE_P95 = f"{WHOLE}, p95 (min)"
BY_HOUR = "p95 by hour of day (UTC)"
BAR_WIDTH = 20


class TimingConfig(Config):
    """How much to measure."""

    days_back: int = Field(default=7, ge=1, le=29, description="Days before today (UTC) whose rows are measured, and today.")


def build_timing_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """`latency` of each people and event feed, and `journey_<name>_keeps_its_promise` of each journey whose feed is on."""
    journeys = ((journey, feed_behind(journey, contract)) for journey in contract.journeys)
    return [
        *(_build_latency(feed, contract) for feed in contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT)),
        *(_build_promise(journey, feed, contract) for journey, feed in journeys if feed is not None),
    ]


def _build_latency(feed: Feed, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name="latency",
        description=check_description(
            "Measures how long rows take from what happened to the warehouse, and from there to Customer.io, by hour of the day.",
            red="never, however long it is: what is too slow, each journey's promise says.",
            then="read the table before you promise a marketer a time.",
        ),
        pool="redshift",
    )
    def latency(config: TimingConfig, store: ResourceParam[Store]) -> AssetCheckResult:
        with failing_clearly(feed.name):
            measured = measure_latency(feed, contract, store, datetime.now(UTC), config.days_back)
        return latency_result(feed, measured, config.days_back)

    return latency


def _build_promise(journey: Journey, feed: Feed, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name=f"journey_{journey.name}_keeps_its_promise",
        description=check_description(
            f"The journey {journey.name} promises to start within {in_words(60 * journey.starts_within_hours)}, and 95 of 100 "
            "rows that start it are in Customer.io sooner.",
            red="what starts it reaches Customer.io later than that.",
            then="sync more often, or promise less (starts_within_hours); start what must be quicker from real-time tracking.",
            about=journey.description,
        ),
        pool="redshift",
    )
    def keeps_its_promise(config: TimingConfig, store: ResourceParam[Store]) -> AssetCheckResult:
        with failing_clearly(feed.name):
            measured = measure_latency(feed, contract, store, datetime.now(UTC), config.days_back)
        return promise_result(journey, feed, measured, config.days_back)

    return keeps_its_promise


def latency_result(feed: Feed, measured: Latency, days_back: int) -> AssetCheckResult:
    """Good when something was measured: what is too slow is for the journeys to say."""
    if not measured.rows:
        return _not_measured(measured, days_back)
    legs = {name: in_words(leg.p95) for name, leg in measured.legs.items()}
    return good(
        f"{_subject(feed)} Customer.io after {legs[WHOLE]} at p95: 95 of 100 rows are sooner. To the warehouse it is "
        f"{legs[TO_WAREHOUSE]}, from there {legs[FROM_WAREHOUSE]}; measured: {counted(measured.rows, 'row', 'rows')} of the last "
        f"{days_back} days and today.",
        _numbers(measured),
    )


def promise_result(journey: Journey, feed: Feed, measured: Latency, days_back: int) -> AssetCheckResult:
    """Bad where the whole way takes longer than the journey promises, at p95; or where too many events came as history."""
    # Held, or 72 h old by themselves: such an event starts nothing, however soon the others are there. Old people are usual.
    too_old = measured.history if feed.kind is FeedKind.EVENT else 0
    if too_old > MOST_LATE * (measured.rows + too_old):
        return bad(
            f"{journey.name.replace('_', ' ')} promises {in_words(60 * journey.starts_within_hours)}; {too_old:,} of "
            f"{counted(measured.rows + too_old, 'row', 'rows')} reached Customer.io as history, which starts no journey",
            "load the warehouse and run the sync more often, or raise the feed's max_trigger_age_hours where it held them; "
            "if days were run late once, look again when they are older than days_back",
            {"promised (min)": 60 * journey.starts_within_hours, **_numbers(measured)},
        )
    if not measured.rows:
        return _not_measured(measured, days_back)
    whole, numbers = measured.legs[WHOLE], {"promised (min)": 60 * journey.starts_within_hours, **_numbers(measured)}
    promised = f"{journey.name.replace('_', ' ')} promises {in_words(60 * journey.starts_within_hours)}"
    text = f"{promised}; {_subject(feed)} Customer.io after {in_words(whole.p95)} at p95"
    if whole.p95 <= 60 * journey.starts_within_hours:
        return good(f"{text}: 95 of 100 are sooner.", numbers)
    longer = max((TO_WAREHOUSE, FROM_WAREHOUSE), key=lambda leg: measured.legs[leg].p95)
    remedy = "load the warehouse more often" if longer == TO_WAREHOUSE else "run the sync more often"
    return bad(
        text,
        "use real-time tracking to start it and this feed to suppress it; or "
        f"{remedy} (most of the time passes {'before' if longer == TO_WAREHOUSE else 'after'} the warehouse has the row); "
        f"or promise less (starts_within_hours in journeys/{journey.name}.yaml)",
        numbers,
    )


def in_words(minutes: float) -> str:
    """A duration as people say it, in whole minutes, rounded up: 5 h 40 min."""
    hours, rest = divmod(max(math.ceil(round(minutes, 6)), 0), 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{rest} min" if rest or not hours else "") if part)


def _subject(feed: Feed) -> str:
    return f"{feed.event_name} reaches" if feed.event_name else f"{feed.name} reach"


def _not_measured(measured: Latency, days_back: int) -> AssetCheckResult:
    if measured.is_quiet:
        return good(
            f"Nothing happened in the last {days_back} days: their exports have no row, so none is late.", _numbers(measured)
        )
    seen = (
        f"{counted(measured.staged, 'row was', 'rows were')} exported, {measured.launch:,} delivered by the first backfill, "
        f"{measured.history:,} as history"
    )
    return not_ready(
        f"no row of the last {days_back} days was delivered in everyday business, so nothing can be measured ({seen})",
        "run sync_day for today or yesterday when there are new rows, then this check again",
        _numbers(measured),
    )


def _numbers(measured: Latency) -> dict[str, Any]:
    numbers: dict[str, Any] = {ROWS_MEASURED: measured.rows}
    for name in (TO_WAREHOUSE, FROM_WAREHOUSE, WHOLE):
        leg = measured.legs.get(name)
        values = {"median": leg.median, "p95": leg.p95, "max": leg.maximum} if leg else dict.fromkeys(("median", "p95", "max"))
        numbers |= {f"{name}, {which} (min)": None if value is None else round(value, 1) for which, value in values.items()}
    numbers |= {"left out, first backfill (rows)": measured.launch, HISTORY_ROWS: measured.history}
    if measured.hours:
        longest = max(hour.p95[WHOLE] for hour in measured.hours)
        numbers[BY_HOUR] = records_table([_hour(hour, longest) for hour in measured.hours])
    return numbers


def _hour(hour: Hour, longest: float) -> dict[str, str | int | float]:
    """One row of the plot: ▒ to the warehouse, █ from there, as long as their shares of the p95 of the whole way."""
    to, after, whole = (max(hour.p95[leg], 0.0) for leg in (TO_WAREHOUSE, FROM_WAREHOUSE, WHOLE))
    width = round(BAR_WIDTH * whole / longest) if longest > 0 else 0
    before = round(width * to / (to + after)) if to + after > 0 else 0
    return {
        "hour": f"{hour.hour:02}:00",
        "▒ to the warehouse, █ from there": "▒" * before + "█" * (width - before),
        "rows": hour.rows,
        **{f"{leg} (min)": round(hour.p95[leg], 1) for leg in (TO_WAREHOUSE, FROM_WAREHOUSE, WHOLE)},
    }
