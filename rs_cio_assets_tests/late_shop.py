"""Two feeds over plain tables, the whole definitions over them, and the real sensor `late_data` looking at them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import httpx
from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    ExecuteInProcessResult,
    RunRequest,
    build_sensor_context,
)
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.automation import CHECKS, SYNC_DAY
from rs_cio_assets.contract import Contract, Feed
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.sync import QUIET
from rs_cio_assets_tests.pipeline import run_assets, run_sql
from rs_cio_assets_tests.staging import contract_of, feed_of

SCHEMA = "late"
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view=f"{SCHEMA}.folk", freshness_hours=None)
ORDERS = feed_of(
    "event",
    {"order_id": {"type": "string", "required": True}, "total": {"type": "integer"}},
    name="orders",
    view=f"{SCHEMA}.orders",
    freshness_hours=None,
    max_trigger_age_hours=24,
    unknown_person="hold",
)
TYPES = {"string": "VARCHAR(64)", "integer": "BIGINT", "timestamp": "TIMESTAMP"}


def day_before(number: int) -> str:
    """The ISO day so many days before today (UTC)."""
    return (datetime.now(UTC).date() - timedelta(days=number)).isoformat()


def at(day: str, hour: float = 12, *, hours_late: float = 1) -> dict[str, datetime]:
    """Times of a row that happened on *day* and was loaded so many hours later."""
    moment = datetime.combine(date.fromisoformat(day), time(), UTC) + timedelta(hours=hour)
    return {"occurred_at": moment, "updated_at": moment, "loaded_at": moment + timedelta(hours=hours_late)}


class LateShop:
    """The tables, the workspace, the instance, and the sensor."""

    def __init__(self, settings: Settings, instance: DagsterInstance, contract: Contract) -> None:
        self.settings, self.instance, self.contract = settings, instance, contract
        self.told: Mapping[str, str] = {}
        self.defs = build_definitions(settings, contract)
        self.job = self.defs.resolve_job_def(SYNC_DAY)
        self._sensor = self.defs.get_repository_def().get_sensor_def("late_data")

    def load(self, feed: Feed, **row: Any) -> None:
        """One row reaches the warehouse; what it does not say is usual."""
        usual = {"customer_id": "C0000001", "tier": "gold", "total": 5}
        values = [_naive({**usual, **row}[name]) for name in feed.columns]
        run_sql(self.settings, (f"INSERT INTO {feed.view} VALUES ({', '.join(['%s'] * len(values))})", values))

    def order(self, order_id: str, day: str, hour: float = 12, *, hours_late: float = 1, **row: Any) -> None:
        """An order of a day reaches the warehouse."""
        self.load(ORDERS, order_id=order_id, **{**at(day, hour, hours_late=hours_late), **row})

    def sql(self, statement: str) -> None:
        """Somebody changes the warehouse."""
        run_sql(self.settings, statement)

    def tick(self) -> tuple[list[RunRequest], str]:
        """One evaluation of the real sensor: what it asks for, and the reason where it asks for nothing."""
        resources = resources_for(self.settings)
        with build_sensor_context(instance=self.instance, definitions=self.defs, resources=resources) as context:
            said = self._sensor.evaluate_tick(context)
        return list(said.run_requests or ()), said.skip_message or ""

    def asked(self) -> dict[str, list[str]]:
        """Day -> feeds that one evaluation asks for."""
        return {str(request.partition_key): feeds_of(request) for request in self.tick()[0]}

    def run(self, request: RunRequest) -> ExecuteInProcessResult:
        """Run what the sensor asked for."""
        return self._execute(request.asset_selection or [], str(request.partition_key), request.tags)

    def settle(self) -> list[str]:
        """Evaluate and run until it asks for nothing; the days that ran, in their order."""
        days = []
        while requests := self.tick()[0]:
            for request in requests:
                assert self.run(request).success
                days.append(str(request.partition_key))
        return days

    def sync(self, day: str, *feeds: Feed, **tags: str) -> ExecuteInProcessResult:
        """Somebody runs a day of some feeds (default all)."""
        keys = [key(feed.name) for feed in feeds or self.contract.feeds for key in (export_key, feed_key)]
        return self._execute(keys, day, {"rs_cio/reason": "late_data", **tags})

    def sync_range(self, first: str, last: str) -> ExecuteInProcessResult:
        """Somebody runs a range of days of all feeds in one run."""
        keys = [key(feed.name) for feed in self.contract.feeds for key in (export_key, feed_key)]
        tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last, "rs_cio/reason": "late_data"}
        return run_assets(self.defs, self.instance, keys, tags=tags)

    def start(self, *feeds: Feed, status: DagsterRunStatus = DagsterRunStatus.STARTED, **tags: str) -> DagsterRun:
        """A run that is recorded as *status* and does nothing by itself."""
        keys = [key(feed.name) for feed in feeds for key in (export_key, feed_key)]
        selection = {"asset_selection": frozenset(keys)} if keys else {}
        named = {name.replace("__", "/"): value for name, value in tags.items()}
        return self.instance.create_run_for_job(self.job, tags=named, status=status, **selection)

    def fail(self, request: RunRequest) -> None:
        """What the sensor asked for is launched and fails."""
        run = self.instance.create_run_for_job(self.job, tags=dict(request.tags), status=DagsterRunStatus.STARTED)
        self.instance.report_run_failed(run)

    def backfill(self, days: Sequence[str], *keys: AssetKey) -> None:
        """A backfill that has launched nothing yet."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Dagster's own: it asks itself for what it deprecates
            backfill = PartitionBackfill.from_asset_partitions(
                backfill_id="abcdefgh",
                asset_graph=self.defs.resolve_asset_graph(),
                partition_names=list(days),
                asset_selection=list(keys),
                backfill_timestamp=datetime.now(UTC).timestamp(),
                tags={},
                dynamic_partitions_store=self.instance,
                all_partitions=False,
                title=None,
                description=None,
                run_config=None,
            )
        self.instance.add_backfill(backfill)

    def materialize(self, key: AssetKey, day: str) -> bool:
        """Somebody runs one asset of a day."""
        return self._execute([key], day, {"rs_cio/reason": "late_data"}).success

    def redefine(self, *, without: str) -> None:
        """The contract of orders loses a column."""
        columns = {name: column for name, column in ORDERS.columns.items() if name != without}
        feeds = [feed.model_copy(update={"columns": columns}) if feed == ORDERS else feed for feed in self.contract.feeds]
        self.__init__(self.settings, self.instance, contract_of(*feeds))

    def counts(self) -> dict[str, Any]:
        """What Customer.io holds."""
        return httpx.get(f"{self.settings.customerio.app_url}/sandbox/counts").json()

    def times_of(self, customer_id: str) -> list[int]:
        """When a person's events happened, as Customer.io has it."""
        with AppClient(self.settings.customerio) as app:
            return [activity.timestamp for activity in app.activities(customer_id, "event")]

    def said(self, feed: Feed, day: str) -> Mapping[str, Any]:
        """Metadata of a day's latest delivery."""
        event = self.instance.get_latest_materialization_event(feed_key(feed.name))
        assert event
        assert event.asset_materialization
        assert event.asset_materialization.partition == day
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def verdicts(self, check: str) -> dict[str, str]:
        """PASSED, WARN or ERROR of one check of each feed, run alone; its words are in `told`."""
        job = self.defs.resolve_job_def(CHECKS)
        keys = {key for key in job.asset_layer.asset_graph.asset_check_keys if key.name == check}
        ran = job.get_subset(asset_selection=set(), asset_check_selection=keys).execute_in_process(
            instance=self.instance, run_config=QUIET
        )
        found = {evaluation.asset_key.path[-1]: evaluation for evaluation in ran.get_asset_check_evaluations()}
        self.told = {feed: evaluation.description or "" for feed, evaluation in found.items()}
        return {feed: "PASSED" if e.passed else e.severity.value for feed, e in found.items()}

    def _execute(self, keys: Sequence[AssetKey], day: str, tags: Mapping[str, str]) -> ExecuteInProcessResult:
        return run_assets(self.defs, self.instance, keys, day=day, tags=tags)


def feeds_of(request: RunRequest) -> list[str]:
    """The feeds that a request runs, each with its export."""
    keys = request.asset_selection or []
    feeds = [key.path[-1] for key in keys if key.path[0] == "customerio"]
    assert {export_key(feed) for feed in feeds} <= set(keys)
    return feeds


@contextmanager
def open_late_shop(settings: Settings, contract: Contract | None = None) -> Iterator[LateShop]:
    """Empty tables, an empty workspace, an empty instance."""
    contract = contract or contract_of(FOLK, ORDERS)
    statements = [f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", f"CREATE SCHEMA {SCHEMA}"]
    for feed in contract.feeds:
        columns = ", ".join(f"{name} {TYPES[column.type.value]}" for name, column in feed.columns.items())
        statements.append(f"CREATE TABLE {feed.view} ({columns})")
    run_sql(settings, *statements)
    with DagsterInstance.ephemeral() as instance:
        yield LateShop(settings, instance, contract)


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
