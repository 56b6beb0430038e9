"""A week in which orders come late, with the real daemon: what Customer.io holds in the end is what the warehouse holds."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster import AssetRecordsFilter, DagsterInstance, DagsterRunStatus, RunsFilter
from rich.console import Console

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.contract import SHIPPED
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.demo import Ports, sandbox
from rs_cio_assets.demo.sandbox import Sandbox, wait_for_ui
from rs_cio_assets.sync import create_views, sync_days
from rs_cio_assets_tests.demo_process import PROJECT
from rs_cio_assets_tests.pipeline import free_port, query, run_sql

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
TODAY = START.date()
DAYS = [(TODAY - timedelta(days=n)).isoformat() for n in range(7, 0, -1)]  # a week, oldest first
ON_TIME = (DAYS[1], DAYS[5])
ORDERS, PEOPLE, WAVES = 120, 20, 4
TRIGGER_AGE_H = 24
WAIT_S = 300
FOLK = """
kind: people
description: Who.
view: week_export.folk
identifier: customer_id
time_column: updated_at
loaded_at: loaded_at
columns:
  customer_id: {type: string, required: true, description: Who.}
  updated_at: {type: timestamp, required: true, description: When.}
  loaded_at: {type: timestamp, required: true, description: Loaded.}
  tier: {type: string, description: Tier.}
"""
ORDER = f"""
kind: event
description: What they bought.
view: week_export.orders
identifier: customer_id
event_name: Order Completed
business_key: [order_id]
time_column: occurred_at
loaded_at: loaded_at
max_trigger_age_hours: {TRIGGER_AGE_H}
columns:
  customer_id: {{type: string, required: true, description: Who.}}
  occurred_at: {{type: timestamp, required: true, description: When.}}
  loaded_at: {{type: timestamp, required: true, description: Loaded.}}
  order_id: {{type: string, required: true, description: Order.}}
  total: {{type: integer, description: Paid.}}
"""
FOLK_SQL = "SELECT customer_id, updated_at, loaded_at, tier FROM week.folk"
ORDER_SQL = "SELECT customer_id, occurred_at, loaded_at, order_id, total FROM week.orders"
GRAPHQL = {
    "start": """mutation { startSensor(sensorSelector: {repositoryName: "__repository__",
        repositoryLocationName: "rs_cio_assets", sensorName: "late_data"}) { __typename } }""",
    "backfill": """mutation ($days: [String!]!, $assets: [AssetKeyInput!]!) {
        launchPartitionBackfill(backfillParams: {partitionNames: $days, assetSelection: $assets}) { __typename } }""",
    "ticks": """query { sensorOrError(sensorSelector: {repositoryName: "__repository__", repositoryLocationName: "rs_cio_assets",
        sensorName: "late_data"}) { ... on Sensor { sensorState { ticks(limit: 1) { status skipReason } } } } }""",
    "backfills": "query { partitionBackfillsOrError { ... on PartitionBackfills { results { status } } } }",
}


class Week:
    """The running sandbox, a sensor that looks every five seconds, and the warehouse's clock, which is the test's."""

    def __init__(self, running: Sandbox, home: Path) -> None:
        self.home = home
        self.running, self.settings, self.instance = running, running.settings, running.instance
        self.defs = build_definitions(self.settings)
        self.changed: set[str] = set()  # days that changed after they were delivered

    def ask(self, name: str, **variables: Any) -> dict[str, Any]:
        """One question or word to Dagster's own API."""
        url = f"{self.running.dagster_url}/graphql"
        answer = httpx.post(url, json={"query": GRAPHQL[name], "variables": variables}, timeout=60).json()
        assert not answer.get("errors"), answer
        return answer["data"]

    def load(self, orders: list[dict[str, Any]]) -> None:
        """Orders reach the warehouse."""
        for row in orders:
            values = [row[name] for name in ("customer_id", "occurred_at", "loaded_at", "order_id", "total")]
            run_sql(self.settings, ("INSERT INTO week.orders VALUES (%s, %s, %s, %s, %s)", values))

    def sync(self, day: str) -> bool:
        """The daily sync, or somebody by hand."""
        (outcome,) = sync_days(self.defs, self.instance, [day], reason="late_data")
        return outcome.is_success

    def is_settled(self) -> bool:
        """The sensor's latest look found nothing to do, no run is open and no backfill either."""
        ticks = self.ask("ticks")["sensorOrError"]["sensorState"]["ticks"]
        open_runs = self.instance.get_runs_count(
            RunsFilter(statuses=[DagsterRunStatus.QUEUED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
        )
        states = {b["status"] for b in self.ask("backfills")["partitionBackfillsOrError"]["results"]}
        is_quiet = "what was delivered is what the warehouse holds" in (ticks[0]["skipReason"] or "") if ticks else False
        return is_quiet and not open_runs and "REQUESTED" not in states

    def wait(self) -> None:
        """Until it is settled twice in a row."""
        deadline, quiet = time.monotonic() + WAIT_S, 0
        while quiet < 2:
            assert time.monotonic() < deadline, self.ask("ticks")
            time.sleep(2)
            quiet = quiet + 1 if self.is_settled() else 0

    def runs_of_sensor(self) -> Counter[str]:
        """Day -> runs that the sensor asked for."""
        runs = self.instance.get_runs(RunsFilter(tags={"rs_cio/reason": "late_data"}))
        return Counter(run.tags["dagster/partition"] for run in runs if "rs_cio/why" in run.tags)

    def delivered(self) -> dict[str, int]:
        """Sums over all deliveries of orders."""
        sums: Counter[str] = Counter()
        for event in self.instance.fetch_materializations(AssetRecordsFilter(feed_key("orders")), limit=5_000).records:
            assert event.asset_materialization
            for name in ("delivered", "rejected", "requests"):
                sums[name] += int(event.asset_materialization.metadata[name].value or 0)  # type: ignore[arg-type]
        return dict(sums)


@contextmanager
def open_week(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Week]:
    """A contract of two feeds, a warehouse, a workspace with a campaign that waits for orders, and Dagster with its daemon."""
    folder = home / "contract"
    (folder / "feeds").mkdir(parents=True)
    shutil.copy(SHIPPED / "workspace.yaml", folder)
    for name, text, sql in (("folk", FOLK, FOLK_SQL), ("orders", ORDER, ORDER_SQL)):
        (folder / "feeds" / f"{name}.yaml").write_text(text)
        (folder / "feeds" / f"{name}.sql").write_text(sql)
    monkeypatch.chdir(PROJECT)
    monkeypatch.setenv("RS_CIO_LATE_DATA_EVERY_S", "5")
    monkeypatch.setenv("RS_CIO_CONTRACT", str(folder))
    ports = Ports(free_port(), free_port(), free_port(), free_port())
    console = Console(file=io.StringIO())
    with sandbox(home, ports, console, contract=folder) as running:
        run_sql(
            running.settings,
            "CREATE SCHEMA week",
            "CREATE TABLE week.folk (customer_id VARCHAR(32), updated_at TIMESTAMP, loaded_at TIMESTAMP, tier VARCHAR(8))",
            "CREATE TABLE week.orders "
            "(customer_id VARCHAR(32), occurred_at TIMESTAMP, loaded_at TIMESTAMP, order_id VARCHAR(32), total INTEGER)",
        )
        campaign = {"name": "Thank you", "state": "running", "event_name": "Order Completed"}
        httpx.put(f"{running.settings.customerio.app_url}/sandbox/campaigns/7", json=campaign).raise_for_status()
        week = Week(running, home)
        assert create_views(week.defs, running.instance).is_success
        wait_for_ui(running, console)
        yield week


def orders_of_a_week() -> list[dict[str, Any]]:
    """Orders spread over the week, loaded 0 to 96 hours after they happened; three in four within an hour, of two days all."""
    dice = random.Random(20261126)  # noqa: S311 - repeatable, not secret
    rows = []
    for number in range(ORDERS):
        at = START.replace(tzinfo=None) - timedelta(hours=dice.uniform(1, 24 * 7))
        is_on_time = dice.random() < 0.75 or at.date().isoformat() in ON_TIME
        late_h = dice.uniform(0, 1) if is_on_time else dice.uniform(1, 96)
        loaded = at + timedelta(hours=late_h)
        person = f"C{dice.randrange(PEOPLE):07d}"
        rows.append({"customer_id": person, "occurred_at": at, "loaded_at": loaded, "order_id": f"O{number:05d}", "total": 5})
    return rows


def test_a_week_of_late_orders_ends_with_the_two_sides_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Late rows, two restatements, a failing day, a run by hand and a range backfill at the same time, through the real daemon.

    In the end Customer.io holds what the warehouse holds but for what is held with a date; every late day was run again and no
    other; no event was sent twice; no stale event started a journey.
    """
    orders = orders_of_a_week()
    with open_week(tmp_path, monkeypatch) as week:
        for number in range(PEOPLE):
            row = (f"C{number:07d}", *[datetime.fromisoformat(f"{DAYS[0]}T00:30:00")] * 2, "gold")
            run_sql(week.settings, ("INSERT INTO week.folk VALUES (%s, %s, %s, %s)", row))
        # What was there in the morning after each day is synced then; what comes later arrives in waves, with the sensor on.
        late = [row for row in orders if row["loaded_at"] > datetime.fromisoformat(_day(row)) + timedelta(days=1, hours=5)]
        week.load([row for row in orders if row not in late])
        assert all(week.sync(day) for day in DAYS)
        week.ask("start")
        late.sort(key=lambda row: row["loaded_at"])
        for wave in range(WAVES):
            arrived = late[wave * len(late) // WAVES : (wave + 1) * len(late) // WAVES]
            week.load(arrived)
            week.changed |= {_day(row) for row in arrived if _day(row) in DAYS}
            time.sleep(3)
        # Everything at once: two restatements, a day that fails until it is mended, a run by hand, a range backfill.
        restated, failing, by_hand, backfilled = DAYS[3], DAYS[2], DAYS[4], DAYS[0:2]
        week.changed |= {restated, failing}
        for total in (6, 7):
            run_sql(week.settings, (_UPDATE, (total, restated)))
            time.sleep(1)
        bad = {"customer_id": "C0000001", "order_id": "O00000", "total": 1, "loaded_at": START.replace(tzinfo=None)}
        at = datetime.fromisoformat(f"{failing}T10:00:00")
        week.load([{**bad, "order_id": "TWICE", "occurred_at": at}, {**bad, "order_id": "TWICE", "occurred_at": at, "total": 2}])
        assets = [{"path": list(key("orders").path)} for key in (export_key, feed_key)]
        week.ask("backfill", days=backfilled, assets=assets)
        assert week.sync(by_hand)
        _until(lambda: _has_failed(week.instance, failing))
        run_sql(week.settings, "DELETE FROM week.orders WHERE order_id = 'TWICE' AND total = 2")
        week.wait()
        assert_equal(week)
        (report := PROJECT / "build").mkdir(exist_ok=True)
        (report / "late_week.json").write_text(json.dumps(numbers(week), indent=1))


_UPDATE = "UPDATE week.orders SET total = %s WHERE TRUNC(occurred_at) = %s"


def assert_equal(week: Week) -> None:
    """The four promises."""
    counts = httpx.get(f"{week.settings.customerio.app_url}/sandbox/counts").json()
    by_day = {row["day"]: row["events"] for row in counts["by_day"]}
    counted = query(week.settings, "SELECT TRUNC(occurred_at), COUNT(*) FROM week.orders GROUP BY 1")
    in_view = {day.isoformat(): rows for day, rows in counted}
    held = held_rows(week.instance)
    assert {day: by_day.get(day, 0) + held.get(day, 0) for day in DAYS} == {day: in_view[day] for day in DAYS}
    ran = set(week.runs_of_sensor())
    assert ran <= week.changed <= set(DAYS) - set(ON_TIME)
    assert week.changed - ran <= {DAYS[0], DAYS[4]}, "only the backfill or the run by hand may have been first"
    assert (week.delivered()["delivered"], counts["did_not_take"]) == (counts["events"], 0)
    assert stale_journeys(week) == 0


def held_rows(instance: DagsterInstance) -> dict[str, int]:
    """Rows that wait, by day, as the latest delivery of each day says; each has a date."""
    held: dict[str, int] = {}
    for event in instance.fetch_materializations(AssetRecordsFilter(feed_key("orders")), limit=5_000).records:
        assert event.asset_materialization
        metadata: Mapping[str, Any] = event.asset_materialization.metadata
        if event.partition_key and event.partition_key not in held:
            held[event.partition_key] = metadata["held"].value
            assert not metadata["held"].value or "held until (UTC)" in metadata
    return held


def stale_journeys(week: Week) -> int:
    """Journeys whose event was older than the feed lets any be, by the stand-in's own tables."""
    with sqlite3.connect(week.home / "customerio" / "workspace.db") as database:
        rows = database.execute(
            "SELECT j.started_at - a.timestamp FROM journeys AS j JOIN activities AS a ON a.event_id = j.event_id"
        ).fetchall()
    database.close()
    assert rows, "some orders were live, and started one"
    return sum(age_s > TRIGGER_AGE_H * 3_600 + 60 for (age_s,) in rows)


def numbers(week: Week) -> dict[str, Any]:
    """What the week was, in numbers."""
    runs = week.runs_of_sensor()
    counts = httpx.get(f"{week.settings.customerio.app_url}/sandbox/counts").json()
    return {
        "orders": ORDERS,
        "days changed after delivery": len(week.changed),
        "runs of the sensor": runs.total(),
        "by day": dict(sorted(runs.items())),
        "held": sum(held_rows(week.instance).values()),
        "events in Customer.io": counts["events"],
        **week.delivered(),
    }


def _day(row: Mapping[str, Any]) -> str:
    return row["occurred_at"].date().isoformat()


def _has_failed(instance: DagsterInstance, day: str) -> bool:
    failed = RunsFilter(tags={"dagster/partition": day, "rs_cio/reason": "late_data"}, statuses=[DagsterRunStatus.FAILURE])
    return instance.get_runs_count(failed) > 0


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(1)
