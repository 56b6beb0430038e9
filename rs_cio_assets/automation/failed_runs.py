"""Runs that failed and are not made good yet: why, in our own words, and until when that is so.

A driver's own text may quote a row: of an error that is not ours only its type and its step are told. What stopped a day because
a blocking check said no is told as that check's problem.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    RunRecord,
    RunsFilter,
)
from dagster._core.definitions.assets.job.asset_job import IMPLICIT_ASSET_JOB_NAME
from dagster._core.execution.plan.objects import StepFailureData
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    WILL_RETRY_TAG,
)

from rs_cio_assets.alerts import Kind, Problem
from rs_cio_assets.automation.words import is_failed, kind_of, said

LOOK_BACK = timedelta(days=7)
MOST_RUNS = 400
MOST_READ = 50  # runs that are read at a tick; what a finished run said does not change, and is kept
MOST_DAYS = 100  # of one run, looked at one by one; of a longer range only a success of the same range makes good
DAY_TAGS = (PARTITION_NAME_TAG, ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)


@dataclass(frozen=True)
class Cause:
    """Why a step failed; *step* is empty where the run ended without one. *check* is the blocking check that said no."""

    step: str
    what: str
    next_step: str
    check: AssetCheckKey | None = None


@dataclass(frozen=True)
class FailedRuns:
    """The problems, what is told by them (check and run), and whether every failure of the time was looked at."""

    problems: Sequence[Problem]
    told_checks: frozenset[tuple[AssetCheckKey, str]]
    is_complete: bool


@dataclass(frozen=True)
class Steps:
    """The code location's jobs, and what its steps make: assets, and checks that stand on their own."""

    jobs: frozenset[str]
    assets: Mapping[str, AssetKey]
    checks: Mapping[str, AssetCheckKey]

    def has(self, run: DagsterRun, location: str | None) -> bool:
        """True for a run of these jobs, or of assets alone, from the code *location*; a run in process names none."""
        origin = run.remote_job_origin
        is_elsewhere = origin and location and origin.location_name != location
        return run.job_name in self.jobs | {IMPLICIT_ASSET_JOB_NAME} and not is_elsewhere


def steps_of(jobs: Sequence[str], assets: Sequence[AssetKey], checks: Sequence[AssetCheckKey]) -> Steps:
    """Steps by the names that Dagster gives them."""
    return Steps(
        frozenset(jobs),
        {key.to_python_identifier(): key for key in assets},
        {f"{key.asset_key.to_python_identifier()}_{key.name}": key for key in checks},
    )


def failed_runs(
    instance: DagsterInstance,
    steps: Steps,
    evaluated_at: Mapping[AssetCheckKey, float],
    link: Callable[[str], str],
    now: datetime,
    location: str | None,
    known: dict[str, tuple[Cause, ...]],
) -> FailedRuns:
    """Failures of the code *location* in the last days that nothing has made good since.

    A later run of the same job, assets and days takes a failure's place. An asset is made good when it was materialized for those
    days since, a check when it was evaluated since (*evaluated_at*, in seconds since 1970), anything else by a success. *known*
    are the causes of runs read before; it is kept up to date.
    """
    filters = RunsFilter(statuses=[DagsterRunStatus.FAILURE], updated_after=now - LOOK_BACK)
    records = instance.get_run_records(filters, limit=MOST_RUNS)
    for run_id in known.keys() - {record.dagster_run.run_id for record in records}:
        del known[run_id]
    newest: dict[tuple[object, ...], RunRecord] = {}
    for record in records:
        run = record.dagster_run
        if steps.has(run, location) and run.tags.get(WILL_RETRY_TAG) != "true":
            newest.setdefault(_identity(run), record)
    unread = [record for record in newest.values() if record.dagster_run.run_id not in known]
    for record in unread[:MOST_READ]:
        known[record.dagster_run.run_id] = causes_of(instance, record.dagster_run.run_id)
    failures = [(record, known[record.dagster_run.run_id]) for record in newest.values() if record.dagster_run.run_id in known]
    made_at = _made_at(instance, steps, failures)
    problems: list[Problem] = []
    told: set[tuple[AssetCheckKey, str]] = set()
    for record, causes in failures:
        run, until = record.dagster_run, datetime.fromtimestamp(_ended_at(record), UTC) + LOOK_BACK
        open_causes = [c for c in causes if not _is_made_good(c, record, instance, steps, evaluated_at, made_at)]
        problems += _problems(run, open_causes, steps, link(run.run_id), until)
        told |= {(cause.check, run.run_id) for cause in open_causes if cause.check}
    return FailedRuns(problems, frozenset(told), len(records) < MOST_RUNS and len(unread) <= MOST_READ)


def causes_of(instance: DagsterInstance, run_id: str) -> tuple[Cause, ...]:
    """Why a run failed: one cause for each failed step; one without a step where there is none."""
    failed: dict[str, StepFailureData] = {}
    refused: dict[str, AssetCheckEvaluation] = {}
    of_type = {DagsterEventType.STEP_FAILURE, DagsterEventType.ASSET_CHECK_EVALUATION}
    for record in instance.get_records_for_run(run_id, of_type=of_type).records:
        event = record.event_log_entry.dagster_event
        if event is None or event.step_key is None:
            continue
        if event.is_step_failure:
            failed[event.step_key] = event.step_failure_data
        elif is_failed(event.asset_check_evaluation_data) and event.asset_check_evaluation_data.blocking:
            refused[event.step_key] = event.asset_check_evaluation_data
    causes = tuple(_cause(step, data, refused.get(step)) for step, data in failed.items())
    return causes or (
        Cause("", "it ended without a word of a step: its process died, or could not start", "open the run, and run it again"),
    )


def _cause(step: str, data: StepFailureData, refusal: AssetCheckEvaluation | None) -> Cause:
    check = refusal.asset_check_key if refusal else None
    ours = data.user_failure_data
    if ours and ours.description:
        what, next_step = said(ours.description)
        values = {name: value.value for name, value in ours.metadata.items()}
        return Cause(step, str(values.get("problem", what)), str(values.get("next step", next_step)), check)
    if refusal:
        return Cause(step, *said(refusal.description or f"the check {refusal.check_name} failed"), check)
    error = data.error
    while error and error.cause:
        error = error.cause
    kind = (error.cls_name if error else None) or "an error"
    return Cause(step, f"{kind} in the step {step}", "open the run: its log has the whole error, which may hold personal data")


def _identity(run: DagsterRun) -> tuple[object, ...]:
    return run.job_name, run.asset_selection, run.asset_check_selection, *(run.tags.get(tag) for tag in DAY_TAGS)


def _ended_at(record: RunRecord) -> float:
    return record.end_time or record.update_timestamp.timestamp()


def _days(run: DagsterRun) -> list[str]:
    """The days of a run (ISO), oldest first; none for a run without days."""
    day, first, last = (run.tags.get(tag) for tag in DAY_TAGS)
    if day or not first or not last:
        return [day] if day else []
    start, count = date.fromisoformat(first), (date.fromisoformat(last) - date.fromisoformat(first)).days + 1
    return [(start + timedelta(days=n)).isoformat() for n in range(count)]


def _made_at(
    instance: DagsterInstance, steps: Steps, failures: Sequence[tuple[RunRecord, Sequence[Cause]]]
) -> Mapping[tuple[AssetKey, str | None], float]:
    """When the assets that failed were last made since, by asset and day (None without days): one query for each asset."""
    wanted: dict[AssetKey, tuple[set[str], float]] = {}
    for record, causes in failures:
        for asset in {steps.assets[cause.step] for cause in causes if cause.step in steps.assets}:
            days, since = wanted.get(asset, (set(), math.inf))
            wanted[asset] = days.union(_days(record.dagster_run)[:MOST_DAYS]), min(since, _ended_at(record))
    made: dict[tuple[AssetKey, str | None], float] = {}
    for asset, (days, since) in wanted.items():
        filters = AssetRecordsFilter(asset, asset_partitions=sorted(days) or None, after_timestamp=since)
        for event in instance.fetch_materializations(filters, limit=3 * len(days) + 10).records:  # the newest first
            made.setdefault((asset, event.partition_key), event.timestamp)
    return made


def _is_made_good(
    cause: Cause,
    record: RunRecord,
    instance: DagsterInstance,
    steps: Steps,
    evaluated_at: Mapping[AssetCheckKey, float],
    made_at: Mapping[tuple[AssetKey, str | None], float],
) -> bool:
    since, days = _ended_at(record), _days(record.dagster_run)
    if (asset := steps.assets.get(cause.step)) and len(days) <= MOST_DAYS:
        return all(made_at.get((asset, day), 0.0) > since for day in days or [None])
    if check := steps.checks.get(cause.step):
        return evaluated_at.get(check, 0.0) > since
    run = record.dagster_run
    tags = {tag: run.tags[tag] for tag in DAY_TAGS if tag in run.tags}
    later = RunsFilter(
        job_name=run.job_name, statuses=[DagsterRunStatus.SUCCESS], tags=tags, created_after=record.create_timestamp
    )
    return any(_identity(other) == _identity(run) for other in instance.get_runs(later, limit=10))


def _problems(run: DagsterRun, causes: Sequence[Cause], steps: Steps, link: str, followed_until: datetime) -> list[Problem]:
    """One problem for each check that stopped the run, and one for all other steps of it together."""
    day, first, last = (run.tags.get(tag) for tag in DAY_TAGS)
    days = day or (f"{first} to {last}" if first and last else "")
    problems = [
        Problem(
            kind_of(cause.check.name),
            cause.check.asset_key.to_user_string(),
            cause.check.name,
            f"{cause.check.name}: {cause.what}",
            cause.next_step,
            days,
            link,
            followed_until,
        )
        for cause in causes
        if cause.check
    ]
    others = [cause for cause in causes if not cause.check]
    if others:
        cause, more = others[0], len(others) - 1
        asset = steps.assets.get(cause.step)
        where = asset.to_user_string() if asset and run.job_name == IMPLICIT_ASSET_JOB_NAME else run.job_name
        what = f"{cause.what.rstrip('.')}{f' (and {more} more steps failed)' if more else ''}"
        problems.append(Problem(Kind.RUN, where, cause.what, what, cause.next_step, days, link, followed_until))
    return problems
