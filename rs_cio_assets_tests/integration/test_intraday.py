"""Today's open day, synced every hour while rows arrive, and closed by the daily sync: each row once, and only what is new."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from dagster import DagsterInstance, build_schedule_context

from rs_cio_assets.automation import SYNC_DAY
from rs_cio_assets.contract import Contract
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings
from rs_cio_assets_tests.pipeline import Pipeline, instance_on_disk, run_sql
from rs_cio_assets_tests.staging import contract_of, feed_of
from rs_cio_assets_tests.world import Running, running

DAY, NEXT = "2026-11-24", "2026-11-25"
NOW = datetime(2026, 11, 24, 13, 5, tzinfo=UTC)


class Shop:
    """A people feed, an intraday feed of orders and one of returns that is not; and the schedules of their definitions."""

    def __init__(self, sandbox: Running, instance: DagsterInstance) -> None:
        self.settings: Settings = sandbox.settings
        self.clock = sandbox
        self.schema = f"intraday_{uuid4().hex[:8]}"
        columns = "customer_id VARCHAR(50), occurred_at TIMESTAMP, loaded_at TIMESTAMP, order_id VARCHAR(50)"
        run_sql(
            self.settings,
            f"CREATE SCHEMA {self.schema}",
            f"CREATE TABLE {self.schema}.orders ({columns})",
            f"CREATE TABLE {self.schema}.returns ({columns})",
            f"CREATE TABLE {self.schema}.folk (customer_id VARCHAR(50), updated_at TIMESTAMP, loaded_at TIMESTAMP, orders INT)",
            f"INSERT INTO {self.schema}.folk VALUES ('C0000001', '{DAY} 10:00', '{DAY} 10:00', 0)",
        )
        self.pipe = Pipeline(self.settings, self._contract(), instance)
        assert self.pipe.create_views().is_success

    def _contract(self) -> Contract:
        def feed(kind: str, name: str, columns: dict[str, dict[str, object]], **fields: object):
            return feed_of(
                kind, columns, name=name, view=f"{self.schema}.v_{name}", sql=f"SELECT * FROM {self.schema}.{name}", **fields
            )

        event = {"order_id": {"type": "string", "required": True}}
        return contract_of(
            feed("people", "folk", {"orders": {"type": "integer"}}),
            feed("event", "orders", event, is_intraday=True, unknown_person="deliver"),
            feed("event", "returns", event, event_name="Order Returned"),
        )

    def add(self, table: str, order_id: str, at: str) -> None:
        """One more row, loaded a minute after it happened; of orders the person's row changes with it."""
        loaded = f"TIMESTAMP '{at}' + INTERVAL '1 minute'"
        statements: list[str] = [f"INSERT INTO {self.schema}.{table} VALUES ('C0000001', '{at}', {loaded}, '{order_id}')"]
        if table == "orders":
            statements.append(f"UPDATE {self.schema}.folk SET orders = orders + 1, updated_at = '{at}', loaded_at = {loaded}")
        run_sql(self.settings, *statements)

    def tick(self, schedule: str, moment: str) -> list[tuple[str, dict[str, int]]]:
        """Evaluate the schedule at that time and run what it asks for: days, and rows delivered by feed."""
        at = datetime.fromisoformat(f"{moment}+00:00")
        self.clock.move_to(at)
        repository = self.pipe.defs.get_repository_def()
        with build_schedule_context(self.pipe.instance, scheduled_execution_time=at, repository_def=repository) as context:
            asked = repository.get_schedule_def(schedule).evaluate_tick(context).run_requests or ()
        done = []
        for request in asked:
            job = repository.get_job(SYNC_DAY)
            if request.asset_selection is not None:
                job = job.get_subset(
                    asset_selection=set(request.asset_selection), asset_check_selection=set(request.asset_check_keys or ())
                )
            result = job.execute_in_process(instance=self.pipe.instance, tags=dict(request.tags), raise_on_error=False)
            assert result.success
            assert all(
                evaluation.check_name != "customerio_holds_what_was_sent" for evaluation in result.get_asset_check_evaluations()
            )
            rows = {
                event.asset_key.path[-1]: int(event.materialization.metadata["delivered"].value)  # type: ignore[arg-type]
                for event in result.get_asset_materialization_events()
                if event.asset_key and event.asset_key.path[0] == "customerio"
            }
            done.append((request.partition_key or "", rows))
        return done


@pytest.fixture
def shop(redshift: RedshiftStandIn, tmp_path: Path) -> Iterator[Shop]:
    """A shop of the test's own, at five past one in the afternoon."""
    (tmp_path / "instance").mkdir()
    with (
        running(redshift.port, "shop", tmp_path, NOW) as sandbox,
        instance_on_disk(tmp_path / "instance") as instance,
    ):
        made = Shop(sandbox, instance)
        yield made
        run_sql(made.settings, f"DROP SCHEMA {made.schema} CASCADE")


def test_every_hour_sends_what_is_new_and_the_daily_sync_closes_the_day(shop: Shop):
    """Rows arrive between the ticks, one of them late: each is sent by the next tick, once; a quiet hour sends nothing; what came
    after the last tick, and the feeds that are not intraday, go with the daily sync.
    """
    shop.add("returns", "R1", f"{DAY} 12:00")
    shop.add("orders", "O1", f"{DAY} 12:30")
    assert shop.tick("sync_today", f"{DAY} 13:05") == [(DAY, {"folk": 1, "orders": 1})]
    shop.add("orders", "O2", f"{DAY} 13:30")
    shop.add("orders", "O3", f"{DAY} 12:10")
    assert shop.tick("sync_today", f"{DAY} 14:05") == [(DAY, {"folk": 1, "orders": 2})]
    assert shop.tick("sync_today", f"{DAY} 15:05") == [(DAY, {"folk": 0, "orders": 0})]
    shop.add("orders", "O4", f"{DAY} 23:59")
    assert shop.tick("sync_today", f"{NEXT} 00:05") == [(DAY, {"folk": 1, "orders": 1}), (NEXT, {"folk": 0, "orders": 0})]
    shop.add("orders", "O5", f"{DAY} 23:58")
    assert shop.tick("sync_daily", f"{NEXT} 05:00") == [(DAY, {"folk": 1, "orders": 1, "returns": 1})]
    counts = shop.pipe.counts()
    assert (counts["people"], counts["by_name"]) == (1, {"Order Completed": 5, "Order Returned": 1})
    assert shop.tick("sync_daily", f"{NEXT} 05:00") == [(DAY, {"folk": 0, "orders": 0, "returns": 0})]
    assert shop.pipe.counts() == counts
