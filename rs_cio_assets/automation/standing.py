"""What is wrong although no run failed: checks that say no, rows near the 72 h after which nothing starts, holds that come due.

Of a check its latest word counts, also while it runs anew. One that can say nothing at the moment is neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta

from dagster import AssetCheckEvaluation, AssetCheckKey, DagsterInstance
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from rs_cio_assets.alerts import Kind, Moment, Problem
from rs_cio_assets.alerts.problems import line_of
from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.deliveries import delivered_days
from rs_cio_assets.automation.words import is_failed, kind_of, said
from rs_cio_assets.checks.results import NOT_READY
from rs_cio_assets.checks.timing import HISTORY_ROWS, MOST_LATE, ROWS_MEASURED, WHOLE_P95, in_words
from rs_cio_assets.contract import Contract, FeedKind
from rs_cio_assets.readiness.evidence import SAID

NEAR_72_H = timedelta(hours=48)
HOLD_WARNING = timedelta(hours=6)
HOLD_GRACE = timedelta(hours=2)
HOLD_DAYS = 7  # before today; a row is due at the latest four days after it happened
LATENCY = "latency"


def latest_evaluations(
    instance: DagsterInstance, keys: Iterable[AssetCheckKey]
) -> Mapping[AssetCheckKey, AssetCheckExecutionRecord]:
    """The latest record of each check in which it said something; none for those that never did."""
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    found = {}
    for key, record in latest.items():
        if record.status not in SAID:  # it was planned, and is running, or ended without a word
            earlier = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=SAID)
            record = next(iter(earlier), None)  # noqa: PLW2901 - the one that counts
        if record is not None:
            found[key] = record
    return found


def failing_checks(
    records: Mapping[AssetCheckKey, AssetCheckExecutionRecord],
    told: frozenset[tuple[AssetCheckKey, str]],
    link: Callable[[str], str],
) -> Moment:
    """Checks whose latest word is an error, without those that a failed run has *told*; unsure of those that are not ready."""
    problems, unsure = [], []
    for key, record in records.items():
        evaluation = record.evaluation
        if not isinstance(evaluation, AssetCheckEvaluation):
            continue
        asset, what = key.asset_key.to_user_string(), evaluation.description or ""
        if what.startswith(NOT_READY) and not evaluation.passed:
            unsure.append(line_of(kind_of(key.name), asset, key.name))
        elif is_failed(evaluation) and (key, record.run_id) not in told:
            text, next_step = said(what)
            problems.append(
                Problem(
                    kind_of(key.name),
                    asset,
                    key.name,
                    f"{key.name}: {text}",
                    next_step,
                    record.partition or "",
                    link(record.run_id),
                )
            )
    return Moment(problems, tuple(unsure))


def late_rows(
    contract: Contract, records: Mapping[AssetCheckKey, AssetCheckExecutionRecord], link: Callable[[str], str]
) -> Iterator[Problem]:
    """Event feeds of which one row in twenty comes near the 72 h, or after them, by their latest `latency`."""
    for feed in contract.feeds_of(FeedKind.EVENT):
        key = AssetCheckKey(feed_key(feed.name), LATENCY)
        record = records.get(key)
        if record is None or not isinstance(record.evaluation, AssetCheckEvaluation):
            continue
        numbers = {name: value.value for name, value in record.evaluation.metadata.items()}
        p95, history, rows = (_number(numbers.get(name)) for name in (WHOLE_P95, HISTORY_ROWS, ROWS_MEASURED))
        if history > MOST_LATE * (rows + history):
            what = f"{history:,.0f} of {rows + history:,.0f} rows came after 72 h, as history: they started no journey"
        elif p95 > NEAR_72_H / timedelta(minutes=1):
            what = (
                f"5 of 100 rows take {in_words(p95)} or more from happening to Customer.io; after 72 h nothing starts a journey"
            )
        else:
            continue
        step = "load the warehouse and run the sync more often; the check latency shows where the time goes"
        yield Problem(Kind.LATENCY, key.asset_key.to_user_string(), "near 72 h", what, step, link=link(record.run_id))


def holds(contract: Contract, instance: DagsterInstance, ui_url: str, now: datetime) -> Iterator[Problem]:
    """Held rows that become history within hours, and those that are history and that nobody has delivered."""
    for feed in contract.feeds_of(FeedKind.EVENT):
        days = [(now.date() - timedelta(days=n)).isoformat() for n in range(HOLD_DAYS + 1)]
        for day, was in delivered_days(instance, feed.name, days).items():
            held, due = was.held, was.held_until
            if not held or not due:
                continue
            asset = feed_key(feed.name).to_user_string()
            link = f"{ui_url}/assets/{asset}?view=partitions&partition={day}" if ui_url else ""
            if now < due < now + HOLD_WARNING:
                yield Problem(
                    Kind.HOLD,
                    asset,
                    "about to pass",
                    f"{held:,} rows are held until {due:%Y-%m-%d %H:%M} UTC; then they are history and start no journey",
                    "nothing, if that is meant; otherwise, before then, raise the feed's max_trigger_age_hours and run the day "
                    "again, with on_backfill: accept where a backfill held them",
                    day,
                    link,
                    followed_until=due,
                )
            elif now >= due + HOLD_GRACE:
                yield Problem(
                    Kind.HOLD,
                    asset,
                    "overdue",
                    f"{held:,} rows are still held; the last of them was due at {due:%Y-%m-%d %H:%M} UTC",
                    "turn on the sensor late_data, or run sync_day for that day: both deliver them as history",
                    day,
                    link,
                    followed_until=datetime.combine(date.fromisoformat(day) + timedelta(days=HOLD_DAYS + 1), time(), UTC),
                )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
