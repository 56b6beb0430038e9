"""The sensor `alerts`: at each tick it looks at what is wrong, and tells who does not know yet. It starts nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from dagster import (
    AssetCheckKey,
    DagsterInstance,
    DefaultSensorStatus,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from rs_cio_assets.alerts import Moment, Notices, notify, receivers_for
from rs_cio_assets.assets import CHECK_RESULTS_KEY, LOG_KEY, UNLOGGED_KEY, delivery_log_key, export_key, feed_key, view_key
from rs_cio_assets.automation.failed_runs import Cause, Steps, failed_runs, steps_of
from rs_cio_assets.automation.housekeeping import HOUSEKEEPING_KEY
from rs_cio_assets.automation.standing import failing_checks, holds, late_rows, latest_evaluations
from rs_cio_assets.checks.results import counted
from rs_cio_assets.contract import Contract
from rs_cio_assets.readiness import READINESS_KEY
from rs_cio_assets.settings import Settings


def build_alerts(
    contract: Contract, checked: Iterable[AssetCheckKey], jobs: Sequence[UnresolvedAssetJobDefinition], settings: Settings
) -> SensorDefinition:
    """The sensor `alerts` over the *checked* and the *jobs* of these definitions."""
    checked = tuple(checked)
    kinds = (view_key, export_key, feed_key, delivery_log_key)
    assets = [key(feed.name) for feed in contract.enabled_feeds for key in kinds]
    known: dict[str, tuple[Cause, ...]] = {}
    steps = steps_of(
        [job.name for job in jobs], [*assets, LOG_KEY, CHECK_RESULTS_KEY, UNLOGGED_KEY, READINESS_KEY, HOUSEKEEPING_KEY], checked
    )

    @sensor(
        name="alerts",
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.RUNNING if settings.automation else DefaultSensorStatus.STOPPED,
        description="Says what is wrong, in the log of this sensor and, where they are set, to Slack and a webhook: a run or "
        "check "
        "failed, the warehouse's load is late, rows were rejected, held rows are about to become history. Each is told once, "
        "again after a day, and when it is over. It starts nothing.",
    )
    def alerts(context: SensorEvaluationContext) -> SensorResult:
        now = datetime.now(UTC)
        origin = context.code_location_origin
        location = origin.location_name if origin else None
        moment = look(context.instance, contract, checked, steps, settings.alerts.ui_url.rstrip("/"), now, location, known)
        notices = notify(receivers_for(settings.alerts, context.log), context.cursor, moment, now)
        for failure in notices.failures:
            context.log.error(str(failure))
        return SensorResult(skip_reason=SkipReason(_summary(moment, notices)), cursor=notices.memory)

    return alerts


def look(
    instance: DagsterInstance,
    contract: Contract,
    checked: Sequence[AssetCheckKey],
    steps: Steps,
    ui_url: str,
    now: datetime,
    location: str | None,
    known: dict[str, tuple[Cause, ...]],
) -> Moment:
    """Everything that is wrong at this moment, from what runs, checks and materializations have left in the instance."""

    def link(run_id: str) -> str:
        return f"{ui_url}/runs/{run_id}" if ui_url else ""

    records = latest_evaluations(instance, checked)
    evaluated_at = {key: record.create_timestamp for key, record in records.items()}
    runs = failed_runs(instance, steps, evaluated_at, link, now, location, known)
    checks = failing_checks(records, runs.told_checks, link)
    unsure = checks.unsure if runs.is_complete else ("",)  # while not every failure was read, nothing is over
    problems = [*runs.problems, *checks.problems, *late_rows(contract, records, link), *holds(contract, instance, ui_url, now)]
    return Moment(problems, unsure)


def _summary(moment: Moment, notices: Notices) -> str:
    """For the list of ticks: how much is wrong, and who could not be told."""
    wrong = counted(len(moment.problems), "problem", "problems") if moment.problems else "nothing is wrong"
    news = "told" if notices.told else "nothing new"
    return "; ".join([wrong, news, *(str(failure) for failure in notices.failures)])
