"""What a person may ask of one run, through Dagster: a dry run, sending again, a backfill that must not start a campaign."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster import DagsterInstance, ExecuteInProcessResult

from rs_cio_assets.assets import feed_key
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.sync import failures
from rs_cio_assets_tests.pipeline import run_assets
from rs_cio_assets_tests.staging import contract_of, feed_of, stage

DAY = (datetime.now(UTC) - timedelta(days=2)).date().isoformat()  # older than yesterday, its end younger than 72 hours
AT = datetime.fromisoformat(f"{DAY}T23:59:00+00:00")
ORDERS = feed_of("event", {"order_id": {"type": "string"}}, name="orders", view="c.orders", freshness_hours=None)
CAMPAIGN = {"name": "After the order", "state": "running", "event_name": "Order Completed"}


class Runs:
    """Runs of one staged day of orders, one of which has no identifier."""

    def __init__(self, settings: Settings, scratch: Path, instance: DagsterInstance) -> None:
        self.settings, self.instance = settings, instance
        self.defs = build_definitions(settings, contract_of(ORDERS))
        row = {"customer_id": "C0000001", "occurred_at": AT, "loaded_at": AT}
        rows = [row | {"order_id": f"O{n}"} for n in range(30)] + [row | {"order_id": "O99", "customer_id": None}]
        stage(LocalStore(Path(settings.store)), ORDERS, DAY, rows, scratch)

    def run(self, **config: Any) -> ExecuteInProcessResult:
        """Materialize the feed's day with this run config."""
        run_config = {"ops": {"customerio__feeds__orders": {"config": config}}}
        return run_assets(self.defs, self.instance, [feed_key("orders")], day=DAY, run_config=run_config)

    def events(self) -> int:
        """Events that Customer.io holds."""
        return httpx.get(f"{self.settings.customerio.app_url}/sandbox/counts").json()["events"]


@pytest.fixture
def runs(customerio: CustomerioStandIn, tmp_path: Path) -> Iterator[Runs]:
    """An empty workspace in which a campaign waits for orders."""
    httpx.put(f"{customerio.url}/sandbox/campaigns/7", json=CAMPAIGN).raise_for_status()
    urls = dict.fromkeys(("CUSTOMERIO_TRACK_URL", "CUSTOMERIO_APP_URL"), customerio.url)
    with DagsterInstance.ephemeral() as instance:
        yield Runs(load_settings({**urls, "RS_CIO_STORE": str(tmp_path / "store")}), tmp_path, instance)


def test_a_dry_run_succeeds_sends_nothing_and_says_what_would_happen(runs: Runs):
    """No materialization, event or ledger; an observation with outcomes, reasons and the campaign; checks that say it was dry."""
    result = runs.run(is_dry_run=True)
    assert result.success
    assert result.get_asset_materialization_events() == []
    (observed,) = result.get_asset_observation_events()
    told = observed.asset_observation_data.asset_observation.metadata
    assert (told["rows"].value, told["young enough to start a campaign"].value) == (31, 30)
    assert {"campaigns that could start", "rejected by reason"} <= set(told)
    assert runs.events() == 0
    assert sorted(path.name for path in Path(runs.settings.store).iterdir()) == ["staged"]
    assert all("dry run" in (check.description or "") for check in result.get_asset_check_evaluations())


def test_a_day_before_yesterday_counts_as_a_backfill_until_it_is_accepted(runs: Runs):
    """JR2: the run fails before its first row and names the campaign; hold sends nothing yet; accept sends everything."""
    (failure,) = failures(runs.run())
    assert "could start After the order (campaign 7)" in failure
    assert runs.events() == 0
    assert runs.run(on_backfill="hold").success
    assert runs.events() == 0
    assert runs.run(on_backfill="accept").success
    assert runs.events() == 30


def test_resend_all_sends_what_the_ledger_holds(runs: Runs):
    """The whole day goes again, under the same ids: Customer.io holds every event once."""
    runs.run(on_backfill="accept")
    (unchanged,) = runs.run(on_backfill="accept").get_asset_materialization_events()
    (again,) = runs.run(on_backfill="accept", resend="all").get_asset_materialization_events()
    counts = [event.materialization.metadata["delivered"].value for event in (unchanged, again)]
    assert (counts, runs.events()) == ([0, 30], 30)
