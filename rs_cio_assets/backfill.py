"""A backfill by hand: which days of which feeds, the trigger guard over all of them, and one Dagster run a day.

What it would take is asked of `backfill_plan.py`. Nothing is sent but by the runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

from dagster import DagsterInstance

from rs_cio_assets.assets import daily_partitions, feed_key
from rs_cio_assets.assets.deliveries import stopped_days
from rs_cio_assets.assets.feeds import REJECTIONS_CHECK, ROWS_CHECK
from rs_cio_assets.assets.neighbours import Surroundings
from rs_cio_assets.assets.run_config import BACKFILL, REASON_TAG, FeedConfig, OnBackfillChoice
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import Campaign
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.delivery import DeliveryOptions, Preview
from rs_cio_assets.delivery.classify import TRIGGER_WINDOW
from rs_cio_assets.delivery.guards import campaigns_at_risk, refuse_triggers
from rs_cio_assets.errors import DeliveryRefused
from rs_cio_assets.operations import Log, find_feed, require_days, surroundings
from rs_cio_assets.settings import Settings
from rs_cio_assets.summary import FeedTotals, add_up
from rs_cio_assets.sync import JobOutcome, backfill_days, days_between
from rs_cio_assets.warehouse import stage_days

ALL_FEEDS = "all"
DAYS_A_LOOK = 31  # read and looked at together, so that a year does not fill the disk


@dataclass(frozen=True)
class DayStates:
    """The days of one feed by what Dagster knows of them. *missing*: never delivered. *failed*: the latest run that began the day
    failed, whether or not an earlier one delivered it, or its delivery was stopped by a check. A day may be both; *delivered* is
    neither."""

    delivered: frozenset[str]
    missing: frozenset[str]
    failed: frozenset[str]

    def chosen(self, only: str) -> frozenset[str]:
        """The days that --only names."""
        return {
            "all": self.delivered | self.missing | self.failed,
            "missing": self.missing,
            "failed": self.failed,
            "missing-and-failed": self.missing | self.failed,
        }[only]


@dataclass(frozen=True)
class BackfilledDay:
    """One run and what it did."""

    outcome: JobOutcome

    @property
    def is_good(self) -> bool:
        """True when the run succeeded and no check failed that is more than a warning."""
        return self.outcome.is_good

    @property
    def feeds(self) -> list[FeedTotals]:
        """Its rows by feed."""
        return add_up([self.outcome])

    @property
    def delivered(self) -> int:
        """Rows of all its feeds that Customer.io acknowledged."""
        return sum(feed.delivered for feed in self.feeds)


def chosen_feeds(contract: Contract, name: str) -> tuple[Feed, ...]:
    """The enabled feed *name*, or all of them. Raises: ConfigurationError."""
    return contract.enabled_feeds if name == ALL_FEEDS else (find_feed(contract, name),)


def days_of_range(settings: Settings, first: date, last: date) -> list[str]:
    """ISO days from *first* to *last*. Raises: ConfigurationError where one of them is no partition."""
    require_days(settings, first, last)
    return days_between(first, last)


def states_of(settings: Settings, instance: DagsterInstance, feed: Feed, days: Sequence[str]) -> DayStates:
    """What the instance knows of *days* of *feed*."""
    key, chosen = feed_key(feed.name), frozenset(days)
    missing = chosen - instance.get_materialized_partitions(key)
    status = instance.get_status_by_partition(key, days, daily_partitions(settings.start_date)) or {}
    failed = {day for day, state in status.items() if state and state.value == "FAILED"}
    failed |= stopped_days(instance, feed.name, days, (ROWS_CHECK, REJECTIONS_CHECK))
    return DayStates(chosen - missing - failed, missing, frozenset(failed))


def feeds_by_day(
    settings: Settings, instance: DagsterInstance, feeds: Sequence[Feed], days: Sequence[str], only: str
) -> dict[str, tuple[str, ...]]:
    """Each day that has a feed to run, with those feeds in the contract's order."""
    chosen = {feed.name: states_of(settings, instance, feed, days).chosen(only) for feed in feeds}
    by_day = {day: tuple(name for name, of_feed in chosen.items() if day in of_feed) for day in days}
    return {day: names for day, names in by_day.items() if names}


def options_of(day: str, on_backfill: str) -> DeliveryOptions:
    """What a run of this backfill asks of the engine for *day*."""
    config = FeedConfig(on_backfill=OnBackfillChoice(on_backfill))
    return config.options({REASON_TAG: BACKFILL}, day, datetime.now(UTC).date())


def require_no_trigger(
    settings: Settings, contract: Contract, days: Mapping[str, Sequence[str]], on_backfill: str, log: Log
) -> None:
    """The trigger guard over *days* (with their feeds) before any run: as each run would ask, and about all of them at once.

    Days that could start nothing are not read. Raises: DeliveryRefused, naming campaigns, rows and days.
    """
    with surroundings(settings, contract, log) as around:
        for feed in contract.enabled_feeds:
            policy = feed.on_backfill if on_backfill == "contract" else on_backfill
            is_refused = policy == "refuse" or (policy == "hold" and feed.kind is FeedKind.PEOPLE)
            young = days_that_may_trigger(feed, [day for day, names in days.items() if feed.name in names])
            if not (is_refused and young):
                continue
            log(f"{feed.name}: looking for running campaigns")
            campaigns = running_campaigns(around, feed)
            if campaigns or campaigns is None:
                _refuse(around, feed, young, on_backfill)


def running_campaigns(around: Surroundings, feed: Feed) -> tuple[Campaign, ...] | None:
    """Those that rows of *feed* could start; None where nobody can be asked, because there is no App API key."""
    try:
        return campaigns_at_risk(feed, around.campaigns)
    except DeliveryRefused:
        return None


def _refuse(around: Surroundings, feed: Feed, days: Sequence[str], on_backfill: str) -> None:
    rows = {p.day: p.could_trigger for p in look_at(around, feed, days, on_backfill) if p.could_trigger}
    if rows:
        label = min(rows) if len(rows) == 1 else f"{min(rows)} to {max(rows)}, {len(rows)} days"
        refuse_triggers(feed, label, sum(rows.values()), campaigns_at_risk(feed, around.campaigns))


def days_that_may_trigger(feed: Feed, days: Sequence[str]) -> list[str]:
    """Those of *days* with rows that could still start a campaign: young ones of events, all of people, none of others."""
    if feed.kind is FeedKind.EVENT:
        oldest = (datetime.now(UTC) - TRIGGER_WINDOW).date()
        return [day for day in days if date.fromisoformat(day) >= oldest]
    return list(days) if feed.kind is FeedKind.PEOPLE else []


def look_at(
    around: Surroundings, feed: Feed, days: Sequence[str], on_backfill: str, *, is_resend: bool = False
) -> Iterator[Preview]:
    """What a run of each of *days* would do with what the view holds now, newest first. Keeps nothing."""
    for chunk in _contiguous(sorted(days, reverse=True)):
        around.log(f"{feed.name}: reading {chunk[-1]} to {chunk[0]}")
        with around.warehouse.session() as session:
            manifests = stage_days(session, feed, chunk[::-1], around.store, now=lambda: datetime.now(UTC))
        for day in chunk:
            options = replace(options_of(day, on_backfill), has_resend=is_resend)
            yield around.preview(feed, manifests[day], options, rows=0)
            around.store.delete([file.key for file in manifests[day].files])


def run_backfill(
    settings: Settings,
    contract: Contract,
    instance: DagsterInstance,
    days: Mapping[str, Sequence[str]],
    on_backfill: str,
    days_per_run: int,
) -> Iterator[BackfilledDay]:
    """Runs of *days* with their feeds, newest first. A failed day stops no other; Ctrl-C raises KeyboardInterrupt."""
    defs = build_definitions(settings, contract)
    config = {"on_backfill": on_backfill}
    return map(BackfilledDay, backfill_days(defs, instance, days, config, days_per_run=days_per_run))


def _contiguous(newest_first: Sequence[str]) -> Iterator[list[str]]:
    """Runs of days without a gap, at most DAYS_A_LOOK each."""
    numbered = ((date.fromisoformat(day) + timedelta(days=n), day) for n, day in enumerate(newest_first))
    for _, group in groupby(numbered, key=lambda item: item[0]):
        days = [day for _, day in group]
        for start in range(0, len(days), DAYS_A_LOOK):
            yield days[start : start + DAYS_A_LOOK]
