"""Several days in one run, as the command line may make them: what is true of each day stays true of each day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from dagster import DagsterInstance, ExecuteInProcessResult

from rs_cio_assets.assets import feed_key
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.sync import days_between, failures
from rs_cio_assets_tests.pipeline import run_assets
from rs_cio_assets_tests.staging import contract_of, feed_of, stage

FIRST = (datetime.now(UTC) - timedelta(days=12)).date()
DAYS = days_between(FIRST, FIRST + timedelta(days=2))
ORDERS = feed_of("event", {"order_id": {"type": "string"}}, name="orders", view="c.orders", freshness_hours=None)


def stage_day(settings: Settings, day: str, scratch: Path) -> None:
    """Ten orders of the day, exported."""
    at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    row = {"customer_id": "C0000001", "occurred_at": at, "loaded_at": at}
    stage(LocalStore(Path(settings.store)), ORDERS, day, [row | {"order_id": f"{day}-{n}"} for n in range(10)], scratch)


def run(settings: Settings, instance: DagsterInstance) -> ExecuteInProcessResult:
    """One run of the three days."""
    defs = build_definitions(settings, contract_of(ORDERS))
    tags = {"dagster/asset_partition_range_start": DAYS[0], "dagster/asset_partition_range_end": DAYS[-1]}
    return run_assets(defs, instance, [feed_key("orders")], tags=tags)


def test_a_day_that_fails_leaves_the_days_before_it_materialized(customerio: CustomerioStandIn, tmp_path: Path):
    """The second of three days is not exported: the first is recorded, the failure names the second, and nothing goes twice."""
    urls = dict.fromkeys(("CUSTOMERIO_TRACK_URL", "CUSTOMERIO_APP_URL"), customerio.url)
    settings = load_settings({**urls, "RS_CIO_STORE": str(tmp_path / "store")})
    for day in (DAYS[0], DAYS[2]):
        stage_day(settings, day, tmp_path)
    with DagsterInstance.ephemeral() as instance:
        (failure,) = failures(run(settings, instance))
        assert f"feed orders, {DAYS[1]}" in failure
        assert instance.get_materialized_partitions(feed_key("orders")) == {DAYS[0]}
        stage_day(settings, DAYS[1], tmp_path)
        events = run(settings, instance).get_asset_materialization_events()
        assert instance.get_materialized_partitions(feed_key("orders")) == set(DAYS)
    counts = {event.partition: event.materialization.metadata["delivered"].value for event in events}
    assert counts == {DAYS[0]: 0, DAYS[1]: 10, DAYS[2]: 10}
    assert httpx.get(f"{customerio.url}/sandbox/counts").json()["events"] == 30
