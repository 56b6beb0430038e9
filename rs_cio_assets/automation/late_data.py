"""The sensor `late_data`: one look at all feeds, one query each, and runs for exactly the days that differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from dagster import (
    AssetCheckKey,
    AssetKey,
    AssetsDefinition,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    ResourceParam,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import PRIORITY_TAG

from rs_cio_assets.assets import delivery_log_key, export_key, feed_key
from rs_cio_assets.assets.deliveries import delivered_days, first_delivered_day
from rs_cio_assets.assets.run_config import LATE_DATA, REASON_TAG
from rs_cio_assets.automation.jobs import SYNC_DAY
from rs_cio_assets.automation.stale_days import Attempts, StaleDay, Why, days_before, stale_days
from rs_cio_assets.automation.under_way import days_under_way
from rs_cio_assets.checks.results import counted
from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Fingerprint
from rs_cio_assets.warehouse import Session, Warehouse, read_fingerprints

REQUESTS_PER_TICK = 20
PRIORITY = "5"  # behind the day's own sync, before backfills
DAYS_NAMED = 5


@dataclass
class Look:
    """What one look found: days that should run now, and why others do not."""

    requested: dict[str, list[StaleDay]] = field(default_factory=dict)  # day -> its stale feeds, newest day first
    under_way: list[StaleDay] = field(default_factory=list)
    waiting: list[StaleDay] = field(default_factory=list)  # for the time of the next attempt
    given_up: list[StaleDay] = field(default_factory=list)
    later: int = 0  # days of feeds beyond what one tick requests
    unread: dict[str, str] = field(default_factory=dict)  # feed -> why nobody could say
    feeds: int = 0
    days: int = 0

    def sentence(self) -> str:
        """For people: what was asked for and what was not."""
        said = [f"{counted(len(self.requested), 'day', 'days')} requested ({_whys(self.requested)})"] if self.requested else []
        said += (
            [f"{counted(self.later, 'more day of a feed goes', 'more days of feeds go')} with the next ticks"]
            if self.later
            else []
        )
        for stale, what in (
            (self.under_way, "a run or backfill is under way"),
            (self.waiting, "the last run failed, the next attempt waits"),
            (self.given_up, "runs failed again and again, not tried again until something changes: read the latest of them"),
        ):
            said += [f"{what}: {_named(stale)}"] if stale else []
        said += [f"{feed} could not be read: {why}" for feed, why in self.unread.items()]
        looked = f"{self.feeds} feeds, the {self.days} days before today"
        return f"{looked}: {'; '.join(said) or 'what was delivered is what the warehouse holds'}"


def build_late_data_sensor(
    contract: Contract,
    jobs: Sequence[UnresolvedAssetJobDefinition],
    by_day: Sequence[AssetsDefinition],
    settings: Settings,
) -> SensorDefinition:
    """The sensor over the enabled feeds of *contract*; *by_day* are the assets of `sync_day`, whose own checks run with them."""
    assets = {definition.key for definition in by_day}
    checks = [key for definition in by_day for key in definition.check_keys]

    @sensor(
        name="late_data",
        job=next(job for job in jobs if job.name == SYNC_DAY),
        minimum_interval_seconds=settings.late_data_every_s,
        default_status=DefaultSensorStatus.RUNNING if settings.automation else DefaultSensorStatus.STOPPED,
        description=f"Looks at the last {settings.lateness_days} days in Redshift and runs sync_day for those that are not as "
        "they "
        "were delivered, newest first: rows came late or changed, no run delivered them, or held rows are due. Only what is new "
        "is sent.",
    )
    def late_data(context: SensorEvaluationContext, warehouse: ResourceParam[Warehouse]) -> SensorResult:
        now = datetime.now(UTC)
        days = days_before(now.date(), settings.lateness_days, settings.start_date)
        look = look_for_stale_days(contract, warehouse, context.instance, days, now)
        for feed, why in look.unread.items():
            context.log.error(f"{feed}: {why}")
        if look.unread and len(look.unread) == look.feeds:
            raise RuntimeError(look.sentence())  # a red tick: nobody looks at late data now
        context.log.info(look.sentence())
        requests = [_request(day, stale, assets, checks) for day, stale in look.requested.items()]
        return SensorResult(run_requests=requests) if requests else SensorResult(skip_reason=look.sentence())

    return late_data


def look_for_stale_days(
    contract: Contract, warehouse: Warehouse, instance: DagsterInstance, days: Sequence[str], now: datetime
) -> Look:
    """What the warehouse holds of *days* (contiguous, oldest first) beside what was delivered last, for every enabled feed.

    A feed that cannot be read stands in `unread` and stops no other.
    """
    feeds = contract.enabled_feeds
    look = Look(feeds=len(feeds), days=len(days))
    if not days:
        return look
    # Deliveries first: one that lands between the two reads costs a run that sends nothing, and is never missed.
    delivered = {feed.name: delivered_days(instance, feed.name, days) for feed in feeds}
    stale: list[StaleDay] = []
    for feed, found in _read(warehouse, feeds, days, look):
        first = partial(first_delivered_day, instance, feed.name)
        stale += stale_days(feed, found, delivered[feed.name], now, first)
    busy = days_under_way(instance, [feed.name for feed in feeds], days)
    for found in sorted(stale, key=lambda s: s.day, reverse=True):
        if (found.feed, found.day) in busy:
            look.under_way.append(found)
        elif found.day not in look.requested and len(look.requested) >= REQUESTS_PER_TICK:
            look.later += 1
        elif (attempts := _attempts(instance, found)).is_due(now):
            look.requested.setdefault(found.day, []).append(found)
        else:
            (look.given_up if attempts.is_given_up else look.waiting).append(found)
    return look


def _read(
    warehouse: Warehouse, feeds: Sequence[Feed], days: Sequence[str], look: Look
) -> Iterator[tuple[Feed, Mapping[str, Fingerprint]]]:
    """Each feed with what its view holds of *days*, over one connection; another one where an error may have spoiled it."""
    with ExitStack() as connections:
        session: Session | None = None
        for number, feed in enumerate(feeds):
            try:
                session = session or connections.enter_context(warehouse.session())
            except RsCioError as error:  # nobody answers: the others would only wait as long
                look.unread |= {left.name: str(error) for left in feeds[number:]}
                return
            try:
                found = read_fingerprints(session, feed, days)
                session.commit()
            except RsCioError as error:
                look.unread[feed.name] = str(error)
                session = None
                continue
            yield feed, found


def _attempts(instance: DagsterInstance, stale: StaleDay) -> Attempts:
    failed = (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    runs = instance.get_run_records(RunsFilter(tags=dict([_state_tag(stale)]), statuses=list(failed)))
    ends = [run.end_time for run in runs if run.end_time]
    return Attempts(len(runs), datetime.fromtimestamp(max(ends), UTC) if ends else None)


def _request(day: str, stale: Sequence[StaleDay], by_day: Collection[AssetKey], checks: Sequence[AssetCheckKey]) -> RunRequest:
    """One run of the day for its stale feeds. Without a run key: what is under way is seen, and Dagster would refuse a key for
    ever that a state of the day comes back to."""
    wanted = [key(s.feed) for s in stale for key in (export_key, feed_key, delivery_log_key)]
    assets = [key for key in wanted if key in by_day]  # the delivery log may be off
    return RunRequest(
        partition_key=day,
        asset_selection=assets,
        asset_check_keys=[check for check in checks if check.asset_key in assets],
        tags={
            REASON_TAG: LATE_DATA,
            PRIORITY_TAG: PRIORITY,
            "rs_cio/why": ", ".join(sorted({s.why.value for s in stale})),
            **dict(_state_tag(s) for s in stale),
        },
    )


def _state_tag(stale: StaleDay) -> tuple[str, str]:
    return f"rs_cio/state.{stale.feed}", f"{stale.day} {stale.state}"


def _whys(requested: Mapping[str, Sequence[StaleDay]]) -> str:
    counts = Counter(s.why for stale in requested.values() for s in stale)
    return ", ".join(f"{why.value}: {counts[why]}" for why in Why if counts[why])


def _named(stale: Sequence[StaleDay]) -> str:
    names = ", ".join(f"{s.feed} {s.day}" for s in stale[:DAYS_NAMED])
    return f"{names} and {len(stale) - DAYS_NAMED} more" if len(stale) > DAYS_NAMED else names
