"""Which days are synced by themselves, when, and after which syncs the checks run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunRequest, SkipReason, build_schedule_context
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG
from dagster._utils.schedules import schedule_execution_time_iterator

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.assets.run_config import INTRADAY, REASON_TAG
from rs_cio_assets.automation import SYNC_DAY
from rs_cio_assets.automation.schedules import request_after
from rs_cio_assets.contract import load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.pipeline import instance_on_disk

TODAY = date(2026, 11, 25)
REPOSITORY = build_definitions(load_settings({"RS_CIO_START_DATE": "2024-01-01"})).get_repository_def()


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterInstance]:
    """An instance on disk: a schedule gets it by reference."""
    with instance_on_disk(tmp_path_factory.mktemp("instance")) as made:
        yield made


@pytest.mark.parametrize("day", ["2026-11-24", "2026-11-25"])
def test_a_sync_of_today_or_yesterday_asks_for_the_checks(day: str):
    """Everyday business: one run of the checks for each sync, also where the sensor looks twice."""
    asked = request_after("run-1", {PARTITION_NAME_TAG: day}, TODAY)
    assert isinstance(asked, RunRequest)
    assert (asked.run_key, asked.tags["rs_cio/after_sync_of"]) == ("run-1", day)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({PARTITION_NAME_TAG: "2026-11-23"}, "an old day"),
        ({PARTITION_NAME_TAG: "2026-11-24", BACKFILL_ID_TAG: "abc"}, "a backfill"),
        ({"dagster/asset_partition_range_start": "2026-11-01"}, "a backfill"),
    ],
)
def test_backfills_and_old_days_do_not(tags: dict[str, str], words: str):
    """Ninety days in one backfill would ask Customer.io for the same things ninety times; the reason says what to do."""
    skipped = request_after("run-1", tags, TODAY)
    assert isinstance(skipped, SkipReason)
    assert words in (skipped.skip_message or "")
    assert "run the job checks once" in (skipped.skip_message or "")


def test_the_hourly_sync_does_not_either():
    """Twenty-four times a day the checks would be a load of their own."""
    skipped = request_after("run-1", {PARTITION_NAME_TAG: "2026-11-25", REASON_TAG: INTRADAY}, TODAY)
    assert isinstance(skipped, SkipReason)
    assert "hourly" in (skipped.skip_message or "")


@pytest.mark.parametrize(
    ("schedule", "job"), [("checks_daily", "checks"), ("canary_hourly", "canary"), ("housekeeping_daily", "housekeeping")]
)
def test_a_schedule_asks_for_its_job(schedule: str, job: str):
    """Each tick is one run of the job, with its own settings."""
    definition = REPOSITORY.get_schedule_def(schedule)
    tick = definition.evaluate_tick(build_schedule_context(scheduled_execution_time=datetime(2026, 11, 25, 6, tzinfo=UTC)))
    assert definition.job_name == job
    assert tick.run_requests is not None
    assert len(tick.run_requests) == 1


@pytest.mark.parametrize(
    ("tick", "day"),
    [
        ("2024-03-01T05:00+00:00", "2024-02-29"),
        ("2024-02-29T05:00+00:00", "2024-02-28"),
        ("2026-03-01T05:00+00:00", "2026-02-28"),
        ("2025-01-01T05:00+00:00", "2024-12-31"),
        ("2024-01-02T05:00+00:00", "2024-01-01"),  # the first partition
        ("2026-11-25T00:00+00:00", "2026-11-24"),
        ("2026-11-25T01:30+02:00", "2026-11-23"),  # still the 24th in UTC
    ],
)
def test_the_daily_sync_asks_for_the_day_that_ended_last(tick: str, day: str):
    """By the tick's own time, whatever the clock says: leap days, turns of years, the first partition, one run of every feed."""
    ((request,), reason) = ticked("sync_daily", tick)
    assert reason is None
    assert (request.partition_key, request.asset_selection, request.asset_check_keys) == (day, None, None)
    assert request.tags[PARTITION_NAME_TAG] == day
    assert (request.tags["rs_cio/reason"], request.tags["dagster/priority"]) == ("schedule", "10")


@pytest.mark.parametrize(
    ("schedule", "tick"), [("sync_daily", "2024-01-01T05:00+00:00"), ("sync_today", "2023-12-31T05:05+00:00")]
)
def test_before_the_first_day_a_tick_says_why_it_asks_for_nothing(schedule: str, tick: str):
    """A start date in the future is no error of every hour."""
    assert ticked(schedule, tick) == ([], "2023-12-31 is before the first day, 2024-01-01 (RS_CIO_START_DATE)")


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("America/New_York", "2026-03-08"),  # 23 hours there
        ("America/New_York", "2026-11-01"),  # 25 hours
        ("Europe/Berlin", "2026-03-29"),
        ("Europe/Berlin", "2026-10-25"),
    ],
)
def test_clocks_that_change_elsewhere_change_nothing(zone: str, around: str):
    """Around each change of clocks: a tick every 24 hours at 05:00 UTC, each day once and none left out; an hour has one tick."""
    middle = datetime.fromisoformat(f"{around}T12:00+00:00")
    assert middle.astimezone(ZoneInfo(zone)).utcoffset() != (middle - timedelta(days=1)).astimezone(ZoneInfo(zone)).utcoffset()
    times = ticks("sync_daily", middle - timedelta(days=2), 4)
    assert {(b - a) for a, b in pairwise(times)} == {timedelta(hours=24)}
    assert {time.astimezone(UTC).hour for time in times} == {5}
    asked = [ticked("sync_daily", time.astimezone(ZoneInfo(zone)).isoformat())[0][0].partition_key for time in times]
    assert asked == [(middle.date() + timedelta(days=n)).isoformat() for n in range(-2, 2)]
    hours = ticks("sync_today", middle - timedelta(hours=24), 48)
    assert {(b - a) for a, b in pairwise(hours)} == {timedelta(hours=1)}


@pytest.mark.parametrize(
    ("tick", "days"),
    [
        ("2026-11-25T13:05+00:00", ["2026-11-25"]),
        ("2026-11-25T00:05+00:00", ["2026-11-24", "2026-11-25"]),
        ("2026-11-25T01:05+00:00", ["2026-11-24", "2026-11-25"]),
        ("2026-11-25T02:05+00:00", ["2026-11-25"]),
        ("2024-03-01T00:05+00:00", ["2024-02-29", "2024-03-01"]),
        ("2024-01-01T00:05+00:00", ["2024-01-01"]),  # the day before is no partition
        ("2026-11-25T20:05-05:00", ["2026-11-25", "2026-11-26"]),
    ],
)
def test_the_hourly_sync_asks_for_the_open_day(tick: str, days: list[str], instance: DagsterInstance):
    """Today, which is open; in its first two hours yesterday too: people and the intraday feeds, with their own checks only."""
    requests, reason = ticked("sync_today", tick, instance)
    assert ([request.partition_key for request in requests], reason) == (days, None)
    assert len({request.run_key for request in requests}) == len(days)
    feeds = ("people", "checkout_started", "order_completed")
    for request in requests:
        assert (request.tags["rs_cio/reason"], request.tags["dagster/priority"]) == ("intraday", "10")
        assert set(request.asset_selection or ()) == {key(name) for name in feeds for key in (export_key, feed_key)}
        job = REPOSITORY.get_job(SYNC_DAY)
        expected = {
            key for key in job.asset_layer.asset_graph.asset_check_keys if key.asset_key in (request.asset_selection or ())
        }
        assert set(request.asset_check_keys or ()) == expected
        subset = job.get_subset(asset_selection=set(request.asset_selection or ()), asset_check_selection=expected)
        assert subset.asset_layer.executable_asset_keys == set(request.asset_selection or ())


def test_a_day_whose_run_has_not_ended_is_left_alone(instance: DagsterInstance):
    """No pile-up: the tick says which run it waits for; another day, an ended run and another job are no reason to wait."""
    run_of(instance, SYNC_DAY, "2025-06-25", DagsterRunStatus.SUCCESS)
    run_of(instance, "checks", "2025-06-25", DagsterRunStatus.STARTED)
    of_yesterday = run_of(instance, SYNC_DAY, "2025-06-24", DagsterRunStatus.STARTED)
    assert [r.partition_key for r in ticked("sync_today", "2025-06-25T01:05+00:00", instance)[0]] == ["2025-06-25"]
    of_today = run_of(instance, SYNC_DAY, "2025-06-25", DagsterRunStatus.STARTING)
    requests, reason = ticked("sync_today", "2025-06-25T01:05+00:00", instance)
    assert requests == []
    assert f"run {of_yesterday} of 2025-06-24 has not ended yet" in (reason or "")
    assert f"run {of_today} of 2025-06-25 has not ended yet" in (reason or "")


def test_the_times_are_those_of_the_settings():
    """RS_CIO_SYNC_CRON and RS_CIO_CHECKS_CRON move the two schedules that they name, and no other."""
    given = {"RS_CIO_SYNC_CRON": "30 7 * * *", "RS_CIO_CHECKS_CRON": "@daily"}
    repository = build_definitions(load_settings(given)).get_repository_def()
    crons = {found.name: found.cron_schedule for found in repository.schedule_defs}
    assert (crons["sync_daily"], crons["checks_daily"]) == ("30 7 * * *", "@daily")
    usual = {found.name: found.cron_schedule for found in REPOSITORY.schedule_defs}
    assert {name for name in crons if crons[name] != usual[name]} == {"sync_daily", "checks_daily"}
    assert {found.execution_timezone for found in repository.schedule_defs} == {"UTC"}


def test_without_an_intraday_feed_nothing_runs_every_hour():
    """A contract that asks for no intraday feed has no such schedule, and turning it on changes nothing about a feed's rows."""
    shipped = load_contract()
    feeds = tuple(feed.model_copy(update={"is_intraday": False}) for feed in shipped.feeds)
    contract = shipped.model_copy(update={"feeds": feeds})
    repository = build_definitions(load_settings({}), contract).get_repository_def()
    assert "sync_today" not in {found.name for found in repository.schedule_defs}
    assert [shipped.version_of(a) for a in shipped.feeds] == [contract.version_of(b) for b in feeds]


def ticked(schedule: str, moment: str, instance: DagsterInstance | None = None) -> tuple[list[RunRequest], str | None]:
    """What a tick of that time asks for, and why not more."""
    at = datetime.fromisoformat(moment)
    with build_schedule_context(instance, scheduled_execution_time=at, repository_def=REPOSITORY) as context:
        tick = REPOSITORY.get_schedule_def(schedule).evaluate_tick(context)
    return list(tick.run_requests or ()), tick.skip_message


def ticks(schedule: str, since: datetime, count: int) -> list[datetime]:
    """The next times of a schedule, as the daemon counts them."""
    definition = REPOSITORY.get_schedule_def(schedule)
    zone = definition.execution_timezone
    return list(islice(schedule_execution_time_iterator(since.timestamp(), definition.cron_schedule, zone), count))


def run_of(instance: DagsterInstance, job: str, day: str, status: DagsterRunStatus) -> str:
    """A run in that state."""
    run = DagsterRun(job_name=job, status=status, tags={PARTITION_NAME_TAG: day})
    return instance.add_run(run).run_id
