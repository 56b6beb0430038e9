"""What a backfill would take, before anything is sent: rows, operations, requests, time, journeys at risk.

Counted: rows of the view, rows acknowledged, and everything of days that are looked at exactly. Estimated: the rest, by counts.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.storage.tags import PARTITION_NAME_TAG

from rs_cio_assets.assets import delivery_log_key, export_key, feed_key
from rs_cio_assets.assets.deliveries import delivered_days, has_changed
from rs_cio_assets.assets.neighbours import Surroundings
from rs_cio_assets.automation import SYNC_DAY
from rs_cio_assets.backfill import DayStates, days_that_may_trigger, look_at, running_campaigns, states_of
from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.customerio import BATCH_BYTES
from rs_cio_assets.delivery import Preview
from rs_cio_assets.delivery.classify import TRIGGER_WINDOW
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.operations import Log, surroundings
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Fingerprint
from rs_cio_assets.sync import days_between
from rs_cio_assets.warehouse.fingerprint import read_fingerprints

RUNS_MEASURED = 20


@dataclass(frozen=True)
class DayPlan:
    """One day of one feed. *delivered*: rows of the view's day that the ledger holds. *is_exact*: every row was looked at; else
    *operations* and *requests* are estimated. *could_trigger*: rows that could start a campaign, known only of exact days."""

    day: str
    rows: int
    delivered: int
    operations: int
    requests: int
    is_exact: bool
    could_trigger: int


@dataclass(frozen=True)
class FeedPlan:
    """One feed, its *days* to run newest first. *campaigns* are running and could be started, None where nobody can be asked.

    *days_delivered*, *days_missing*, *days_failed* count the whole range, as Dagster knows it. *operation_bytes* is the mean of
    a sample day, None where none was needed.
    """

    feed: str
    days: tuple[DayPlan, ...]
    days_delivered: int
    days_missing: int
    days_failed: int
    operation_bytes: float | None
    campaigns: tuple[str, ...] | None

    @property
    def could_trigger(self) -> int:
        """Rows that could start a campaign."""
        return sum(day.could_trigger for day in self.days)


@dataclass(frozen=True)
class BackfillPlan:
    """*runs*: days with anything to run. *sending_s*: the requests at *max_requests_per_s*. *run_s*: the median of
    *runs_measured* earlier runs of these feeds, None without any; *expected_s* is both together."""

    feeds: tuple[FeedPlan, ...]
    runs: int
    max_requests_per_s: float
    runs_measured: int
    run_s: float | None

    @property
    def sending_s(self) -> float:
        """Seconds that the requests take at the pace of the settings, if nothing else sends."""
        return sum(day.requests for feed in self.feeds for day in feed.days) / self.max_requests_per_s

    @property
    def expected_s(self) -> float | None:
        """Seconds in all; None where no earlier run says what a day takes."""
        return None if self.run_s is None else self.sending_s + self.runs * self.run_s


def plan_backfill(
    settings: Settings,
    contract: Contract,
    instance: DagsterInstance,
    feeds: Sequence[Feed],
    days: Sequence[str],
    *,
    only: str,
    on_backfill: str,
    log: Log,
) -> BackfillPlan:
    """What `run_backfill` of *days* (contiguous) would take. Sends nothing; what is read for it is gone afterwards.

    Looked at exactly are the days younger than 72 hours, and all days of people where a running campaign could start.
    Raises: whatever the warehouse, the store and the engine raise.
    """
    plans, runs = [], set[str]()
    for feed in feeds:
        states = states_of(settings, instance, feed, days)
        chosen = sorted(states.chosen(only), reverse=True)
        runs |= set(chosen)
        log(f"{feed.name}: counting")
        with surroundings(settings, contract, log) as around:  # each feed's reads are gone before the next one's
            plans.append(_plan_feed(around, instance, feed, chosen, states, on_backfill))
    measured = _seconds_of_runs(instance, feeds, is_all=len(feeds) == len(contract.enabled_feeds))
    run_s = statistics.median(measured) if measured else None
    return BackfillPlan(tuple(plans), len(runs), settings.customerio.max_requests_per_s, len(measured), run_s)


def _plan_feed(
    around: Surroundings, instance: DagsterInstance, feed: Feed, days: Sequence[str], states: DayStates, on_backfill: str
) -> FeedPlan:
    fingerprints: Mapping[str, Fingerprint] = {}
    if days:
        with around.warehouse.session() as session:
            found = read_fingerprints(session, feed, days_between(date.fromisoformat(days[-1]), date.fromisoformat(days[0])))
        fingerprints = {day: found[day] for day in days if found[day].rows}
    known = _delivered_rows(around, feed)
    as_delivered = _held_of_days_as_delivered(instance, feed, fingerprints)
    campaigns = running_campaigns(around, feed) if days_that_may_trigger(feed, list(fingerprints)) else ()
    oldest = (datetime.now(UTC) - TRIGGER_WINDOW).date()
    is_risky = campaigns is None or bool(campaigns)
    risky = set(days_that_may_trigger(feed, list(fingerprints))) if is_risky else set()
    exact_days = [day for day in fingerprints if day in risky or date.fromisoformat(day) >= oldest]
    exact = {preview.day: preview for preview in look_at(around, feed, exact_days, on_backfill)}
    estimated = {
        day: as_delivered.get(day, max(0, now.rows - known.get(day, 0))) for day, now in fingerprints.items() if day not in exact
    }
    mean_bytes = _operation_bytes(around, feed, [day for day, rows in estimated.items() if rows], fingerprints, on_backfill)
    return FeedPlan(
        feed=feed.name,
        days=tuple(
            _plan_day(day, fingerprints.get(day), known.get(day, 0), exact.get(day), estimated.get(day, 0), mean_bytes)
            for day in days
        ),
        days_delivered=len(states.delivered),
        days_missing=len(states.missing),
        days_failed=len(states.failed),
        operation_bytes=mean_bytes,
        campaigns=None if campaigns is None else tuple(f"{c.name or 'unnamed'} (campaign {c.campaign_id})" for c in campaigns),
    )


def _plan_day(
    day: str, now: Fingerprint | None, known: int, exact: Preview | None, estimated: int, mean_bytes: float | None
) -> DayPlan:
    if now is None:
        return DayPlan(day, 0, 0, 0, 0, is_exact=True, could_trigger=0)
    known = min(known, now.rows)
    if exact:
        sent, young = exact.outcomes["send"], exact.could_trigger
        return DayPlan(day, now.rows, known, sent, exact.requests, is_exact=True, could_trigger=young)
    requests = math.ceil(estimated * (mean_bytes or 0) / BATCH_BYTES)
    return DayPlan(day, now.rows, known, estimated, requests, is_exact=False, could_trigger=0)


def _delivered_rows(around: Surroundings, feed: Feed) -> dict[str, int]:
    """Keys of the ledger by day; of people, by the latest day of each."""
    with open_database() as database:
        keys = acknowledged_keys(database, around.store, feed, around.scratch)
        latest = f"SELECT row_key, max(day) AS day FROM {keys} GROUP BY row_key"  # noqa: S608 - paths of our own
        return dict(database.execute(f"SELECT day, count(*) FROM ({latest}) GROUP BY day").fetchall())  # noqa: S608


def _held_of_days_as_delivered(instance: DagsterInstance, feed: Feed, now: Mapping[str, Fingerprint]) -> dict[str, int]:
    """The days whose view holds what was delivered last, with the rows that were held then: all that such a day still has."""
    delivered = delivered_days(instance, feed.name, list(now))
    return {day: was.held for day, was in delivered.items() if not has_changed(feed, now[day], was)}


def _operation_bytes(
    around: Surroundings, feed: Feed, days: Sequence[str], now: Mapping[str, Fingerprint], on_backfill: str
) -> float | None:
    """Mean size of an operation, of the day with the median number of rows."""
    if not days:
        return None
    sample = statistics.median_low(sorted((now[day].rows, day) for day in days))[1]
    (preview,) = look_at(around, feed, [sample], on_backfill, is_resend=True)
    return preview.request_bytes / sent if (sent := preview.outcomes["send"]) else None


def _seconds_of_runs(instance: DagsterInstance, feeds: Sequence[Feed], *, is_all: bool) -> list[float]:
    """Seconds of the latest good runs of one day of exactly these feeds."""
    wanted = {key(feed.name).to_python_identifier() for feed in feeds for key in (export_key, feed_key)}
    logs = {delivery_log_key(feed.name).to_python_identifier() for feed in feeds}  # in a run or not, as the settings say
    good = RunsFilter(job_name=SYNC_DAY, statuses=[DagsterRunStatus.SUCCESS])
    seconds: list[float] = []
    for record in instance.get_run_records(good, limit=10 * RUNS_MEASURED):
        run = record.dagster_run
        # A run in process names its steps, a launched one its assets; neither where it is the whole job.
        steps = set(run.step_keys_to_execute or ()) or {key.to_python_identifier() for key in run.asset_selection or ()}
        is_same = steps - logs == wanted if steps else is_all
        if is_same and record.start_time and record.end_time and PARTITION_NAME_TAG in run.tags:
            seconds.append(record.end_time - record.start_time)
    return seconds[:RUNS_MEASURED]
