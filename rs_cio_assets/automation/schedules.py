"""When checks run by themselves: every morning, after a sync of a recent day, canaries every hour. All off until turned on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from dagster import (
    DagsterRunStatus,
    DefaultScheduleStatus,
    DefaultSensorStatus,
    RunRequest,
    RunStatusSensorContext,
    ScheduleDefinition,
    SensorDefinition,
    SkipReason,
    run_status_sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG

from rs_cio_assets.automation.jobs import CANARY, CHECKS, READINESS, SYNC_DAY

DAILY = "0 6 * * *"  # after the night's loads and the sync; the times are UTC
HOURLY = "20 * * * *"


def build_schedules(jobs: Sequence[UnresolvedAssetJobDefinition]) -> list[ScheduleDefinition]:
    """`checks_daily`, and `canary_hourly` where there is a canary."""
    by_name = {job.name: job for job in jobs}
    schedules = [_schedule("checks_daily", by_name[CHECKS], DAILY, "All checks that stand on their own, every morning.")]
    if CANARY in by_name:
        text = "The canary, every hour: a buyer must not qualify for cart recovery, a browser must."
        schedules.append(_schedule("canary_hourly", by_name[CANARY], HOURLY, text))
    return schedules


def _schedule(name: str, job: UnresolvedAssetJobDefinition, cron: str, description: str) -> ScheduleDefinition:
    return ScheduleDefinition(
        name=name,
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        description=description,
        default_status=DefaultScheduleStatus.STOPPED,
    )


def build_sensors(jobs: Sequence[UnresolvedAssetJobDefinition]) -> list[SensorDefinition]:
    """`checks_after_sync`: one run of the checks after a day's sync succeeded, for everyday business only; and
    `readiness_after_checks`: the checklist anew after each of them.
    """
    by_name = {job.name: job for job in jobs}

    @run_status_sensor(
        name="checks_after_sync",
        run_status=DagsterRunStatus.SUCCESS,
        monitored_jobs=[by_name[SYNC_DAY]],
        request_job=by_name[CHECKS],
        default_status=DefaultSensorStatus.STOPPED,
        description="Runs the checks after sync_day of today or yesterday succeeded. Backfills do not start them: their days "
        "would ask Customer.io for the same things many times over.",
    )
    def checks_after_sync(context: RunStatusSensorContext) -> RunRequest | SkipReason:
        return request_after(context.dagster_run.run_id, context.dagster_run.tags, datetime.now(UTC).date())

    @run_status_sensor(
        name="readiness_after_checks",
        run_status=DagsterRunStatus.SUCCESS,
        monitored_jobs=[by_name[CHECKS]],
        request_job=by_name[READINESS],
        default_status=DefaultSensorStatus.STOPPED,
        description="Writes the readiness checklist anew after every run of the job checks.",
    )
    def readiness_after_checks(context: RunStatusSensorContext) -> RunRequest:
        return RunRequest(run_key=context.dagster_run.run_id)

    return [checks_after_sync, readiness_after_checks]


def request_after(run_id: str, tags: Mapping[str, str], today: date) -> RunRequest | SkipReason:
    """What a sync with these *tags* asks for: checks after a single recent day, nothing after a backfill or an old day."""
    day = tags.get(PARTITION_NAME_TAG)
    if BACKFILL_ID_TAG in tags or day is None:
        return SkipReason("a backfill: run the job checks once when it is done")
    if date.fromisoformat(day) < today - timedelta(days=1):
        return SkipReason(f"{day} is an old day: run the job checks once when all of them are done")
    return RunRequest(run_key=run_id, tags={"rs_cio/after_sync_of": day})
