"""Run jobs of the definitions in this process: real Dagster runs in an instance, one per day, without waiting for a daemon.

The UI shows them like any other run. Production syncs go through the daemon; this is for the command line and the demo,
where waiting for the daemon would take minutes (docs/decisions/0001-runs-in-process.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

from dagster import AssetCheckKey, AssetKey, DagsterEvent, DagsterEventType, DagsterInstance, Definitions, ExecuteInProcessResult
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.events import RunFailureReason
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, PRIORITY_TAG

from rs_cio_assets.assets import delivery_log_key, export_key, feed_key, view_key
from rs_cio_assets.assets.run_config import BACKFILL, REASON_TAG
from rs_cio_assets.automation import CHECKS, CREATE_VIEWS, READ_BACK, READINESS, SYNC_DAY
from rs_cio_assets.checks.results import NOT_READY

BEHIND_LIVE = "-10"  # where steps wait for a pool, those of everyday runs (0) go first
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class CheckOutcome:
    """One evaluated check: its asset, name, whether it passed, whether a failure is an error, and what it said."""

    asset: str
    name: str
    is_passed: bool
    is_error: bool
    description: str

    @property
    def is_not_ready(self) -> bool:
        """It could not say anything yet, and says why: neither passed nor failed."""
        return not self.is_passed and self.description.startswith(NOT_READY)


@dataclass(frozen=True)
class Materialization:
    """What one asset said about one of its days (None for an asset without days)."""

    asset: AssetKey
    day: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class JobOutcome:
    """What one run did: its days (none, one, or a range), success, materializations, checks, and failures in words."""

    job: str
    days: tuple[str, ...]
    run_id: str
    is_success: bool
    materializations: tuple[Materialization, ...]
    checks: tuple[CheckOutcome, ...]
    failures: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """True when the run succeeded and no check failed that is more than a warning."""
        return self.is_success and all(check.is_passed or not check.is_error for check in self.checks)

    @property
    def label(self) -> str:
        """The run's days for people."""
        return self.days[0] if len(self.days) == 1 else f"{self.days[0]} to {self.days[-1]}" if self.days else self.job


def days_between(first: date, last: date) -> list[str]:
    """ISO days from *first* to *last*, both included."""
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def create_views(defs: Definitions, instance: DagsterInstance, *, only: str | None = None) -> JobOutcome:
    """One run that creates or replaces every export view, or that of the feed *only*."""
    return _run(defs, instance, CREATE_VIEWS, assets=(view_key(only),) if only else ())


def read_back(defs: Definitions, instance: DagsterInstance) -> JobOutcome:
    """One run of the read-back checks."""
    return _run(defs, instance, READ_BACK)


def run_checks(defs: Definitions, instance: DagsterInstance, *, only: AssetCheckKey | None = None) -> JobOutcome:
    """One run of every check that stands on its own, or of *only* one."""
    return _run(defs, instance, CHECKS, check=only)


def write_readiness(defs: Definitions, instance: DagsterInstance) -> JobOutcome:
    """One run that writes the readiness checklist anew."""
    return _run(defs, instance, READINESS)


def sync_feed(defs: Definitions, instance: DagsterInstance, feed_name: str, days: Sequence[str], *, reason: str) -> JobOutcome:
    """One run of *days* (contiguous) of one feed alone, its export and its delivery."""
    keys = (export_key(feed_name), feed_key(feed_name))
    return _run(defs, instance, SYNC_DAY, days=tuple(sorted(days)), tags={REASON_TAG: reason}, assets=keys)


def sync_days(
    defs: Definitions, instance: DagsterInstance, days: Sequence[str], *, reason: str, days_per_run: int = 1
) -> Iterator[JobOutcome]:
    """Runs of *days_per_run* of *days* (contiguous), newest first, each reported as it ends; a failed one stops no other.

    Ctrl-C ends the run under way and raises KeyboardInterrupt; what was acknowledged is recorded.

    Newest first because a person's row stands on the day of their latest change: so a person is delivered before any of
    their earlier events, and no event makes a profile without attributes.
    """
    ordered = sorted(days)
    for end in range(len(ordered), 0, -days_per_run):
        chunk = tuple(ordered[max(0, end - days_per_run) : end])
        yield _run(defs, instance, SYNC_DAY, days=chunk, tags={REASON_TAG: reason})


def backfill_days(
    defs: Definitions,
    instance: DagsterInstance,
    days: Mapping[str, Sequence[str]],
    config: Mapping[str, Any],
    *,
    days_per_run: int = 1,
) -> Iterator[JobOutcome]:
    """Runs of *days* with their feeds, export and delivery, newest first as in `sync_days`, and Ctrl-C as there.

    A run has at most *days_per_run* days, contiguous and of the same feeds. One of several that does not go well is followed by
    a run of each of its days, which tells what is wrong with which; what it had delivered is unchanged there. *config* is that
    of each feed (`FeedConfig`).
    """

    def run(chunk: Sequence[str]) -> JobOutcome:
        assets = tuple(key(feed) for feed in days[chunk[0]] for key in (export_key, feed_key))
        tags = {REASON_TAG: BACKFILL, PRIORITY_TAG: BEHIND_LIVE}
        return _run(defs, instance, SYNC_DAY, days=tuple(sorted(chunk)), tags=tags, assets=assets, config=config)

    for chunk in _alike(days, days_per_run):
        outcome = run(chunk)
        if len(chunk) == 1 or outcome.is_good:
            yield outcome
        else:
            yield from (run([day]) for day in chunk)


def _alike(days: Mapping[str, Sequence[str]], most: int) -> Iterator[list[str]]:
    """The days newest first, in groups without a gap and with the same feeds."""
    chunk: list[str] = []
    for day in sorted(days, reverse=True):
        is_next = chunk and date.fromisoformat(chunk[-1]) - date.fromisoformat(day) == timedelta(days=1)
        if chunk and not (is_next and days[day] == days[chunk[-1]] and len(chunk) < most):
            yield chunk
            chunk = []
        chunk.append(day)
    if chunk:
        yield chunk


def replay_days(
    defs: Definitions, instance: DagsterInstance, feed_name: str, days: Sequence[str], config: Mapping[str, Any]
) -> Iterator[JobOutcome]:
    """One run for each of *days*, oldest first, that delivers what is staged of the feed with *config* (`FeedConfig`).

    The export is left out. Ctrl-C as in `sync_days`.
    """
    for day in sorted(days):
        yield _run(
            defs,
            instance,
            SYNC_DAY,
            days=(day,),
            tags={REASON_TAG: "replay"},
            assets=(feed_key(feed_name),),
            config=config,
        )


def _run(
    defs: Definitions,
    instance: DagsterInstance,
    job_name: str,
    *,
    days: tuple[str, ...] = (),
    tags: Mapping[str, str] | None = None,
    assets: Sequence[AssetKey] = (),
    check: AssetCheckKey | None = None,
    config: Mapping[str, Any] | None = None,
) -> JobOutcome:
    """One run of a job; with *assets*, of these alone and the log of their feeds (where it is on), *config* being that of the
    feeds; with *check*, of that alone.
    """
    job = defs.resolve_job_def(job_name)
    feeds = [key for key in assets if key == feed_key(key.path[-1])]
    if assets:
        logs = [delivery_log_key(key.path[-1]) for key in feeds]
        assets = [*assets, *(key for key in logs if key in job.asset_layer.executable_asset_keys)]
        # Left to itself, a selection of assets brings in every check of theirs, also those that the job leaves out.
        checks = {key for key in job.asset_layer.asset_graph.asset_check_keys if key.asset_key in assets}
        job = job.get_subset(asset_selection=set(assets), asset_check_selection=checks)
    if check:
        job = job.get_subset(asset_selection=set(), asset_check_selection={check})
    tags = dict(tags or {})
    if len(days) > 1:
        tags |= {ASSET_PARTITION_RANGE_START_TAG: days[0], ASSET_PARTITION_RANGE_END_TAG: days[-1]}
    ops = {"ops": {key.to_python_identifier(): {"config": dict(config)} for key in feeds}} if config else {}
    run_id = str(uuid4())
    try:
        result = job.execute_in_process(
            instance=instance,
            partition_key=days[0] if len(days) == 1 else None,
            tags=tags,
            raise_on_error=False,
            run_config={**QUIET, **ops},
            run_id=run_id,
        )
    except KeyboardInterrupt:
        run = instance.get_run_by_id(run_id)
        if run and not run.is_finished:
            instance.report_run_canceled(run, message="Interrupted by Ctrl-C before the run began")
        raise
    if any(_was_interrupted(event) for event in result.all_events):
        raise KeyboardInterrupt  # within a run Dagster takes Ctrl-C for a failure of that run alone
    return JobOutcome(
        job=job_name,
        days=days,
        run_id=result.run_id,
        is_success=result.success,
        materializations=tuple(_materializations(result)),
        checks=tuple(_checks(result)),
        failures=tuple(failures(result)),
    )


def _was_interrupted(event: DagsterEvent) -> bool:
    return (
        event.event_type is DagsterEventType.RUN_FAILURE
        and event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION
    )


def _materializations(result: ExecuteInProcessResult) -> Iterator[Materialization]:
    for event in result.get_asset_materialization_events():
        if event.asset_key:
            metadata = {name: value.value for name, value in event.materialization.metadata.items()}
            yield Materialization(event.asset_key, event.partition, metadata)


def _checks(result: ExecuteInProcessResult) -> Iterator[CheckOutcome]:
    for evaluation in result.get_asset_check_evaluations():
        yield CheckOutcome(
            asset=evaluation.asset_key.to_user_string(),
            name=evaluation.check_name,
            is_passed=evaluation.passed,
            is_error=evaluation.severity.value == "ERROR",
            description=evaluation.description or "",
        )


def failures(result: ExecuteInProcessResult) -> Iterator[str]:
    """Each failed step in words: our own description where there is one, what its failed checks say, else the deepest cause."""
    for event in result.all_events:
        if event.is_step_failure:
            failure = event.step_failure_data
            described = failure.user_failure_data and failure.user_failure_data.description
            error = failure.error
            while error and error.cause:
                error = error.cause
            if error and error.cls_name == DagsterAssetCheckFailedError.__name__:
                yield from _failed_checks(result, event)
                continue
            yield described or f"{event.step_key}: {error.message.strip() if error else 'failed'}"


def _failed_checks(result: ExecuteInProcessResult, event: DagsterEvent) -> Iterator[str]:
    """What the checks say that stopped this step."""
    for check in result.get_asset_check_evaluations():
        is_of_step = check.asset_key.to_python_identifier() == event.step_key
        if is_of_step and not check.passed and check.severity.value == "ERROR":
            yield f"{check.asset_key.to_user_string()}: the check {check.check_name} failed: {check.description or ''}"
