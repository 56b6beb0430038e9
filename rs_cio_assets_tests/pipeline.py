"""The whole definitions over given settings and contract, run in process; and plain SQL on the warehouse beside them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import redshift_connector
from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult

from rs_cio_assets.automation import SYNC_DAY
from rs_cio_assets.contract import Contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.sandbox.dagster_storage import stored_in
from rs_cio_assets.settings import Settings
from rs_cio_assets.sync import QUIET, JobOutcome, create_views, failures, read_back, sync_days


class Pipeline:
    """Definitions and a Dagster instance of its own."""

    def __init__(self, settings: Settings, contract: Contract | None, instance: DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.defs = build_definitions(settings, contract)

    def create_views(self) -> JobOutcome:
        """Run the job create_views."""
        return create_views(self.defs, self.instance)

    def sync(self, days: Sequence[str], *, days_per_run: int = 1) -> list[JobOutcome]:
        """Run sync_day for *days*."""
        return list(sync_days(self.defs, self.instance, days, reason="test", days_per_run=days_per_run))

    def sync_one(self, day: str) -> JobOutcome:
        """Run sync_day for one day."""
        (outcome,) = self.sync([day])
        return outcome

    def read_back(self) -> JobOutcome:
        """Run the read-back checks."""
        return read_back(self.defs, self.instance)

    def materialize(self, assets: Sequence[AssetKey], day: str) -> list[str]:
        """Materialize only *assets* of *day*, as from the UI's graph; the failures in words."""
        result = self.defs.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance, asset_selection=assets, partition_key=day, raise_on_error=False
        )
        return list(failures(result))

    def counts(self) -> dict[str, Any]:
        """What the Customer.io stand-in holds."""
        return httpx.get(f"{self.settings.customerio.app_url}/sandbox/counts", timeout=30).json()


def run_assets(
    defs: Definitions,
    instance: DagsterInstance,
    keys: Sequence[AssetKey],
    *,
    day: str | None = None,
    tags: Mapping[str, str] | None = None,
    run_config: Mapping[str, Any] | None = None,
) -> ExecuteInProcessResult:
    """One run of these assets with the checks that run within them, as sync_day has it: none of those that stand on their own."""
    job = defs.resolve_job_def(SYNC_DAY)
    checks = {key for key in job.asset_layer.asset_graph.asset_check_keys if key.asset_key in keys}
    return job.get_subset(asset_selection=set(keys), asset_check_selection=checks).execute_in_process(
        instance=instance, partition_key=day, tags=dict(tags or {}), raise_on_error=False, run_config=dict(run_config or QUIET)
    )


@contextmanager
def open_pipeline(settings: Settings, contract: Contract | None = None) -> Iterator[Pipeline]:
    """A pipeline with an instance that ends with the block."""
    with DagsterInstance.ephemeral() as instance:
        yield Pipeline(settings, contract, instance)


def instance_on_disk(folder: Path) -> DagsterInstance:
    """A Dagster instance in an existing folder: schedules and sensors get theirs by reference. It keeps no telemetry."""
    return DagsterInstance.local_temp(str(folder), overrides={"telemetry": {"enabled": False}, "storage": stored_in(folder)})


def write_dagster_yaml(folder: Path) -> None:
    """Make *folder* the home of such an instance for processes and commands."""
    folder.mkdir()
    (folder / "dagster.yaml").write_text(f"storage: {json.dumps(stored_in(folder))}\n")


def query(settings: Settings, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Rows of one statement, over the unmodified driver."""
    return run_sql(settings, (sql, values))


def run_sql(settings: Settings, *statements: str | tuple[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    """Run statements in one transaction; the rows of the last."""
    redshift = settings.redshift
    password = redshift.password.get_secret_value() if redshift.password else ""
    with redshift_connector.connect(
        host=redshift.host,
        port=redshift.port,
        database=redshift.database,
        user=redshift.user,
        password=password,
        ssl=False,
        application_name="tests",  # without one the driver looks for the caller's module, which takes long
    ) as connection:
        cursor = connection.cursor()
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            cursor.execute(sql, values)
        rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        connection.commit()
        return rows


def delivered(outcome: JobOutcome) -> dict[str, dict[str, Any]]:
    """Metadata of each feed's materialization, by feed."""
    return {
        done.asset.path[-1]: dict(done.metadata)
        for done in outcome.materializations
        if done.asset.path[:2] == ["customerio", "feeds"]
    }


def delivered_by_day(outcomes: Sequence[JobOutcome], feed: str) -> dict[str, dict[str, Any]]:
    """Metadata of one feed's materializations, by day."""
    return {
        done.day: dict(done.metadata)
        for outcome in outcomes
        for done in outcome.materializations
        if done.asset.path == ["customerio", "feeds", feed] and done.day
    }


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
