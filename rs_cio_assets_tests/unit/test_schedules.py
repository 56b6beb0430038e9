"""After which syncs the checks run by themselves."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from dagster import RunRequest, SkipReason, build_schedule_context
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG

from rs_cio_assets.automation.schedules import request_after
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.settings import load_settings

TODAY = date(2026, 11, 25)


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


@pytest.mark.parametrize(("schedule", "job"), [("checks_daily", "checks"), ("canary_hourly", "canary")])
def test_a_schedule_asks_for_its_job(schedule: str, job: str):
    """Each tick is one run of the job, with its own settings."""
    repository = build_definitions(load_settings({})).get_repository_def()
    definition = repository.get_schedule_def(schedule)
    tick = definition.evaluate_tick(build_schedule_context(scheduled_execution_time=datetime(2026, 11, 25, 6, tzinfo=UTC)))
    assert definition.job_name == job
    assert tick.run_requests is not None
    assert len(tick.run_requests) == 1
