"""When days are synced by themselves: yesterday every day, today every hour for the feeds that ask for it.

The day follows from the tick's own time, never from the clock: a tick that is late, or tried again, asks for the same day.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from dagster import (
    AssetsDefinition,
    DagsterInstance,
    DefaultScheduleStatus,
    RunRequest,
    RunsFilter,
    ScheduleDefinition,
    ScheduleEvaluationContext,
    SkipReason,
    schedule,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG, PRIORITY_TAG

from rs_cio_assets.assets import delivery_log_key, export_key, feed_key
from rs_cio_assets.assets.run_config import INTRADAY, REASON_TAG, SCHEDULE
from rs_cio_assets.automation.jobs import SYNC_DAY
from rs_cio_assets.contract.models import Contract, FeedKind

EVERY_HOUR = "5 * * * *"
LIVE_PRIORITY = "10"  # before backfills in the queue, which have 0 or less
HOURS_OF_YESTERDAY = 2  # after midnight: rows of the day's last minutes do not wait for the daily sync


def build_sync_daily(
    job: UnresolvedAssetJobDefinition, start_date: date, cron: str, status: DefaultScheduleStatus
) -> ScheduleDefinition:
    """`sync_daily`: the day that ended last (UTC) before the tick, every feed."""

    @schedule(
        name="sync_daily",
        job=job,
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=status,
        description="Runs the job sync_day for yesterday (UTC), every feed. RS_CIO_SYNC_CRON sets the time: after the "
        "warehouse's load.",
    )
    def sync_daily(context: ScheduleEvaluationContext) -> RunRequest | SkipReason:
        day = context.scheduled_execution_time.astimezone(UTC).date() - timedelta(days=1)
        if day < start_date:
            return _too_early(day, start_date)
        return RunRequest(partition_key=day.isoformat(), tags={REASON_TAG: SCHEDULE, PRIORITY_TAG: LIVE_PRIORITY})

    return sync_daily


def build_sync_today(
    contract: Contract,
    job: UnresolvedAssetJobDefinition,
    by_day: Sequence[AssetsDefinition],
    start_date: date,
    status: DefaultScheduleStatus,
) -> ScheduleDefinition | None:
    """`sync_today`: today's open day of the feeds that are intraday, and of the people feeds, which go first. None without any.

    *by_day* are the assets of `sync_day`: their own checks run with them, and none of those that stand on their own.
    """
    feeds = [feed for feed in contract.enabled_feeds if feed.is_intraday or feed.kind is FeedKind.PEOPLE]
    if not any(feed.is_intraday for feed in feeds):
        return None
    assets = {key(feed.name) for feed in feeds for key in (export_key, feed_key, delivery_log_key)}
    selected = [definition for definition in by_day if definition.key in assets]

    @schedule(
        name="sync_today",
        job=job,
        cron_schedule=EVERY_HOUR,
        execution_timezone="UTC",
        default_status=status,
        description="Runs the job sync_day for today (UTC) every hour, and until 02:00 for yesterday too. Only new rows are "
        f"sent. It takes the feeds that the contract marks is_intraday, and people: {', '.join(feed.name for feed in feeds)}.",
    )
    def sync_today(context: ScheduleEvaluationContext) -> list[RunRequest] | SkipReason:
        asked, left = [], []
        for day in open_days(context.scheduled_execution_time):
            if day < start_date:
                left.append(_too_early(day, start_date).skip_message or "")
            elif run_id := _open_run(context.instance, day):
                left.append(f"run {run_id} of {day} has not ended yet: what it does not send goes with the next tick")
            else:
                asked.append(
                    RunRequest(
                        run_key=day.isoformat(),
                        partition_key=day.isoformat(),
                        tags={REASON_TAG: INTRADAY, PRIORITY_TAG: LIVE_PRIORITY},
                        asset_selection=[definition.key for definition in selected],
                        asset_check_keys=[key for definition in selected for key in definition.check_keys],
                    )
                )
        return asked or SkipReason("; ".join(left))

    return sync_today


def open_days(moment: datetime) -> list[date]:
    """The UTC day of *moment* (aware), and before 02:00 UTC the day before it, which comes first."""
    moment = moment.astimezone(UTC)
    today = moment.date()
    return [today - timedelta(days=1), today] if moment.hour < HOURS_OF_YESTERDAY else [today]


def _open_run(instance: DagsterInstance, day: date) -> str | None:
    """The id of a run of sync_day for that day that is queued or under way."""
    tags = {PARTITION_NAME_TAG: day.isoformat()}
    runs = instance.get_run_records(RunsFilter(job_name=SYNC_DAY, tags=tags, statuses=NOT_FINISHED_STATUSES), limit=1)
    return runs[0].dagster_run.run_id if runs else None


def _too_early(day: date, start_date: date) -> SkipReason:
    return SkipReason(f"{day} is before the first day, {start_date} (RS_CIO_START_DATE)")
