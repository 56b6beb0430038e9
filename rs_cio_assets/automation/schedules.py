"""What runs by itself, and when: the syncs' own rules are in `sync_schedules.py`. All off until turned on, in the UI or by
RS_CIO_AUTOMATION.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from dagster import (
    AssetsDefinition,
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
from dagster._utils.schedules import is_valid_cron_string

from rs_cio_assets.assets.run_config import INTRADAY, REASON_TAG
from rs_cio_assets.automation.jobs import CANARY, CATCH_UP_LOG, CHECKS, HOUSEKEEPING, READINESS, SYNC_DAY
from rs_cio_assets.automation.sync_schedules import build_sync_daily, build_sync_today
from rs_cio_assets.contract.models import Contract
from rs_cio_assets.errors import SettingsError
from rs_cio_assets.settings import Settings

HOURLY = "20 * * * *"
LATE_IN_THE_HOUR = "50 * * * *"  # what the hour's syncs and canary said is there
BEFORE_THE_SYNC = "30 3 * * *"


def build_schedules(
    contract: Contract,
    jobs: Sequence[UnresolvedAssetJobDefinition],
    by_day: Sequence[AssetsDefinition],
    settings: Settings,
) -> list[ScheduleDefinition]:
    """`sync_daily`, `checks_daily` and `housekeeping_daily`; `sync_today` where a feed is intraday, `canary_hourly` where there
    is a canary, `catch_up_log_hourly` with the delivery log. *by_day* are the assets of `sync_day`. All times are UTC.

    Raises: SettingsError when a cron string of the settings is none.
    """
    _require_crons(RS_CIO_SYNC_CRON=settings.sync_cron, RS_CIO_CHECKS_CRON=settings.checks_cron)
    by_name = {job.name: job for job in jobs}
    status = DefaultScheduleStatus.RUNNING if settings.automation else DefaultScheduleStatus.STOPPED

    def plain(name: str, job: str, cron: str, description: str) -> ScheduleDefinition:
        return ScheduleDefinition(
            name=name,
            job=by_name[job],
            cron_schedule=cron,
            execution_timezone="UTC",
            description=description,
            default_status=status,
        )

    schedules = [
        build_sync_daily(by_name[SYNC_DAY], settings.start_date, settings.sync_cron, status),
        plain(
            "checks_daily",
            CHECKS,
            settings.checks_cron,
            "Runs the job checks every day. RS_CIO_CHECKS_CRON sets the time: after the sync.",
        ),
        plain(
            "housekeeping_daily",
            HOUSEKEEPING,
            BEFORE_THE_SYNC,
            "Runs the job housekeeping every night, before the sync.",
        ),
    ]
    if today := build_sync_today(contract, by_name[SYNC_DAY], by_day, settings.start_date, status):
        schedules.append(today)
    if CANARY in by_name:
        text = "Runs the job canary every hour: a made-up buyer must not qualify for cart recovery, a browser must."
        schedules.append(plain("canary_hourly", CANARY, HOURLY, text))
    if CATCH_UP_LOG in by_name:
        text = "Runs the job catch_up_log every hour: what checks said goes to Redshift, and days that the delivery log lacks."
        schedules.append(plain("catch_up_log_hourly", CATCH_UP_LOG, LATE_IN_THE_HOUR, text))
    return schedules


def _require_crons(**crons: str) -> None:
    if wrong := [variable for variable, cron in crons.items() if not is_valid_cron_string(cron)]:
        raise SettingsError(
            f"{' and '.join(wrong)}: not a cron schedule of five fields (minute, hour, day, month, weekday)",
            next_step="correct it; 30 5 * * * is every day at 05:30 UTC",
        )


def build_sensors(jobs: Sequence[UnresolvedAssetJobDefinition], settings: Settings) -> list[SensorDefinition]:
    """`checks_after_sync`: one run of the checks after a day's sync succeeded, for everyday business only; and
    `readiness_after_checks`: the checklist anew after each of them.
    """
    by_name = {job.name: job for job in jobs}
    status = DefaultSensorStatus.RUNNING if settings.automation else DefaultSensorStatus.STOPPED

    @run_status_sensor(
        name="checks_after_sync",
        run_status=DagsterRunStatus.SUCCESS,
        monitored_jobs=[by_name[SYNC_DAY]],
        request_job=by_name[CHECKS],
        default_status=DefaultSensorStatus.STOPPED,  # also where RS_CIO_AUTOMATION is on: it is in place of checks_daily
        description="In place of checks_daily: runs the job checks after sync_day of today or yesterday succeeded. Not after "
        "backfills, whose days would ask Customer.io for the same things many times over, nor after the hourly sync of today.",
    )
    def checks_after_sync(context: RunStatusSensorContext) -> RunRequest | SkipReason:
        return request_after(context.dagster_run.run_id, context.dagster_run.tags, datetime.now(UTC).date())

    @run_status_sensor(
        name="readiness_after_checks",
        run_status=DagsterRunStatus.SUCCESS,
        monitored_jobs=[by_name[CHECKS]],
        request_job=by_name[READINESS],
        default_status=status,
        description="Writes the implementation checklist (asset readiness) anew after every run of the job checks.",
    )
    def readiness_after_checks(context: RunStatusSensorContext) -> RunRequest:
        return RunRequest(run_key=context.dagster_run.run_id)

    return [checks_after_sync, readiness_after_checks]


def request_after(run_id: str, tags: Mapping[str, str], today: date) -> RunRequest | SkipReason:
    """What a sync with these *tags* asks for: checks after a single recent day, nothing after a backfill, an old day or the
    hourly sync.
    """
    day = tags.get(PARTITION_NAME_TAG)
    if BACKFILL_ID_TAG in tags or day is None:
        return SkipReason("a backfill: run the job checks once when it is done")
    if tags.get(REASON_TAG) == INTRADAY:
        return SkipReason("an hourly sync: the checks run after the daily one")
    if date.fromisoformat(day) < today - timedelta(days=1):
        return SkipReason(f"{day} is an old day: run the job checks once when all of them are done")
    return RunRequest(run_key=run_id, tags={"rs_cio/after_sync_of": day})
