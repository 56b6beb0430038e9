"""Run jobs of the definitions in this process: real Dagster runs in an instance, one per day, without waiting for a daemon.

The UI shows them like any other run. Production syncs go through the daemon; this is for the command line and the demo,
where a run in process costs about a second and a launched one about five (measured, docs/decisions).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult

from rs_cio_assets.automation import CREATE_VIEWS, READ_BACK, SYNC_DAY

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class CheckOutcome:
    """One evaluated check: its asset, name, whether it passed, whether a failure is an error, and what it said."""

    asset: str
    name: str
    is_passed: bool
    is_error: bool
    description: str


@dataclass(frozen=True)
class JobOutcome:
    """What one run did: success, the metadata of each materialization by asset key, checks, and failures in words."""

    job: str
    day: str | None
    run_id: str
    is_success: bool
    metadata: Mapping[AssetKey, Mapping[str, Any]]
    checks: tuple[CheckOutcome, ...]
    failures: tuple[str, ...]


def days_between(first: date, last: date) -> list[str]:
    """ISO days from *first* to *last*, both included."""
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def create_views(defs: Definitions, instance: DagsterInstance) -> JobOutcome:
    """One run that creates or replaces every export view."""
    return _run(defs, instance, CREATE_VIEWS)


def read_back(defs: Definitions, instance: DagsterInstance) -> JobOutcome:
    """One run of the read-back checks."""
    return _run(defs, instance, READ_BACK)


def sync_days(defs: Definitions, instance: DagsterInstance, days: Sequence[str], *, reason: str) -> Iterator[JobOutcome]:
    """One run per day, newest first, each reported as it ends; a failed day does not stop the others.

    Newest first because a person's row stands on the day of their latest change: so a person is delivered before any of
    their earlier events, and no event makes a profile without attributes.
    """
    for day in sorted(days, reverse=True):
        yield _run(defs, instance, SYNC_DAY, day=day, tags={"rs_cio/reason": reason})


def _run(
    defs: Definitions,
    instance: DagsterInstance,
    job_name: str,
    *,
    day: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> JobOutcome:
    result = defs.resolve_job_def(job_name).execute_in_process(
        instance=instance, partition_key=day, tags=dict(tags or {}), raise_on_error=False, run_config=QUIET
    )
    return JobOutcome(
        job=job_name,
        day=day,
        run_id=result.run_id,
        is_success=result.success,
        metadata={
            event.asset_key: {name: value.value for name, value in event.materialization.metadata.items()}
            for event in result.get_asset_materialization_events()
            if event.asset_key
        },
        checks=tuple(_checks(result)),
        failures=tuple(_failures(result)),
    )


def _checks(result: ExecuteInProcessResult) -> Iterator[CheckOutcome]:
    for evaluation in result.get_asset_check_evaluations():
        yield CheckOutcome(
            asset=evaluation.asset_key.to_user_string(),
            name=evaluation.check_name,
            is_passed=evaluation.passed,
            is_error=evaluation.severity.value == "ERROR",
            description=evaluation.description or "",
        )


def _failures(result: ExecuteInProcessResult) -> Iterator[str]:
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            described = failure.user_failure_data and failure.user_failure_data.description
            yield described or f"{event.step_key}: {failure.error.message if failure.error else 'failed'}"
