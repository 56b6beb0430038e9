"""Export views that others own (REDSHIFT_VIEWS=verify): compared with the contract by a user who may create nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from dagster import AssetKey, AssetsDefinition, AssetSpec, DagsterInstance, Definitions, asset

from rs_cio_assets.assets import view_key
from rs_cio_assets.contract import Contract
from rs_cio_assets.settings import Settings
from rs_cio_assets_tests.pipeline import Pipeline, open_pipeline, query, run_sql
from rs_cio_assets_tests.staging import contract_of, feed_of

COLUMNS = {"order_id": {"type": "string", "required": True}, "total": {"type": "decimal", "precision": 12, "scale": 2}}
SELECT = (
    "SELECT 'C0000001'::VARCHAR AS customer_id, TIMESTAMP '2026-11-20 08:00:00' AS occurred_at, "
    "TIMESTAMP '2026-11-20 09:00:00' AS loaded_at, 'O1'::VARCHAR AS order_id, {} AS total"
)
USUAL = SELECT.format("9.90::NUMERIC(12,2)")


class Warehouse:
    """A schema that an owner fills, and a reader with USAGE and SELECT in it."""

    def __init__(self, settings: Settings) -> None:
        self.owner = settings
        self.schema, self.reader = (f"{name}_{uuid4().hex[:8]}" for name in ("dbt", "reader"))
        redshift = settings.redshift.model_copy(update={"user": self.reader, "views": "verify"})
        self.settings = settings.model_copy(update={"redshift": redshift})
        run_sql(settings, f"CREATE SCHEMA {self.schema}", f"CREATE ROLE {self.reader} LOGIN")
        run_sql(settings, f"GRANT USAGE ON SCHEMA {self.schema} TO {self.reader}")

    @property
    def view(self) -> str:
        """The export view."""
        return f"{self.schema}.orders"

    def make(self, sql: str, *, what: str = "VIEW") -> None:
        """What a dbt run does."""
        run_sql(
            self.owner,
            f"DROP {what} IF EXISTS {self.view}",
            f"CREATE {what} {self.view} AS {sql}",
            f"GRANT SELECT ON {self.view} TO {self.reader}",
        )

    def contract(self, sql: str = USUAL, **fields: Any) -> Contract:
        """The feed over the view."""
        return contract_of(feed_of("event", COLUMNS, **{"name": "orders", "view": self.view, "sql": sql, **fields}))


@pytest.fixture
def warehouse(settings: Settings) -> Iterator[Warehouse]:
    """Fresh, and gone in the end."""
    made = Warehouse(settings)
    yield made
    run_sql(settings, f"DROP SCHEMA {made.schema} CASCADE", f"DROP ROLE {made.reader}")


def verified(pipeline: Pipeline) -> dict[str, Any]:
    """The job create_views, which must succeed; what the view's asset says."""
    outcome = pipeline.create_views()
    assert outcome.is_success, outcome.failures
    (event,) = pipeline.instance.fetch_materializations(view_key("orders"), limit=1).records
    materialization = event.asset_materialization
    assert materialization is not None
    return {name: getattr(value, "records", value.value) for name, value in materialization.metadata.items()}


def made_by_dbt(name: str) -> AssetsDefinition:
    """An asset that somebody else's code makes."""

    @asset(name=name)
    def made() -> None: ...

    return made


def columns(shown: Any) -> list[tuple[Any, ...]]:
    """The table of columns: name, the contract's type, the warehouse's, the verdict."""
    return [tuple(record.data[name] for name in ("column", "contract", "warehouse", "verdict")) for record in shown]


def test_the_reader_may_create_nothing(warehouse: Warehouse):
    """What the other tests stand on: in create mode the same user is refused, so verify mode cannot have run DDL."""
    warehouse.make(USUAL)
    redshift = warehouse.settings.redshift.model_copy(update={"views": "create"})
    with open_pipeline(warehouse.settings.model_copy(update={"redshift": redshift}), warehouse.contract()) as pipeline:
        outcome = pipeline.create_views()
    assert not outcome.is_success
    assert "permission denied" in "\n".join(outcome.failures)


def test_a_view_that_fits_is_verified_and_left_alone(warehouse: Warehouse):
    """Each column with both types and a verdict; the view is the same object as before; a day is exported from it."""
    warehouse.make(USUAL)
    identity = f"SELECT oid, xmin::TEXT FROM pg_class WHERE oid = '{warehouse.view}'::regclass"
    before = query(warehouse.owner, identity)
    with open_pipeline(warehouse.settings, warehouse.contract()) as pipeline:
        told = verified(pipeline)
        assert pipeline.sync_one("2026-11-20").is_success
    assert query(warehouse.owner, identity) == before
    assert told["since the last verification"] == "first verification: nothing to compare with"
    assert columns(told["columns"]) == [
        ("customer_id", "string", "VARCHAR", "fits"),
        ("occurred_at", "timestamp", "TIMESTAMP", "fits"),
        ("loaded_at", "timestamp", "TIMESTAMP", "fits"),
        ("order_id", "string", "VARCHAR", "fits"),
        ("total", "decimal", "NUMERIC", "fits"),
    ]


def test_a_column_of_another_type_stops_with_the_difference(warehouse: Warehouse):
    """Missing and changed columns fail the asset, in words and as a table, and nothing is accepted."""
    warehouse.make(SELECT.format("'9.90'::VARCHAR").replace("order_id", "order_number"))
    with open_pipeline(warehouse.settings, warehouse.contract()) as pipeline:
        outcome = pipeline.create_views()
        assert not outcome.is_success
        (failure,) = outcome.failures
        warehouse.make(USUAL)
        assert verified(pipeline)["since the last verification"].startswith("first verification")
        failed = [e.dagster_event for e in pipeline.instance.all_logs(outcome.run_id) if e.dagster_event]
        (step,) = [event.step_failure_data for event in failed if event.is_step_failure]
    assert step.user_failure_data is not None
    table = columns(step.user_failure_data.metadata["columns"].records)
    assert table[3:] == [
        ("order_id", "string", "", "missing"),
        ("total", "decimal", "VARCHAR", "another type"),
        ("order_number", "", "VARCHAR", "not in the contract: not sent"),
    ]
    assert f"feed orders: {warehouse.view} does not match the contract: column order_id is missing" in failure
    assert "was it renamed to order_number?" in failure
    assert "column total: the contract says decimal" in failure
    assert "mend the view where it is made" in failure


def test_running_it_accepts_a_changed_definition(warehouse: Warehouse):
    """A changed view stops the day in words of verify mode; create_views shows the difference and accepts it."""
    warehouse.make(USUAL)
    with open_pipeline(warehouse.settings, warehouse.contract()) as pipeline:
        verified(pipeline)
        warehouse.make(SELECT.format("8.80::NUMERIC(12,2)"))
        stopped = "\n".join(pipeline.sync_one("2026-11-20").failures)
        assert f"{warehouse.view} is not as create_views last verified it" in stopped
        assert "accepts the definition as it is now, replacing nothing" in stopped
        assert "replaces the view by the contract's" not in stopped
        told = verified(pipeline)
        assert told["since the last verification"].endswith("(accepted by this run)")
        assert [line for line in told["changed since the last verification"].splitlines() if line[:1] == "+" and "8.80" in line]
        assert verified(pipeline)["since the last verification"].startswith("the definition is as it was ")
        assert pipeline.sync_one("2026-11-20").is_success


def test_changed_sql_of_the_contract_asks_for_a_verification(warehouse: Warehouse):
    """The contract's SQL changed: the day stops until somebody has compared, though the view is as it was."""
    warehouse.make(USUAL)
    with open_pipeline(warehouse.settings, warehouse.contract()) as pipeline:
        verified(pipeline)
        instance: DagsterInstance = pipeline.instance
        changed = Pipeline(warehouse.settings, warehouse.contract(SELECT.format("7.70::NUMERIC(12,2)")), instance)
        stopped = "\n".join(changed.sync_one("2026-11-20").failures)
        assert f"the contract's SQL changed since {warehouse.view} was last verified: run create_views" in stopped
        shown = verified(changed)["the contract's SQL and the definition"]
        assert [line for line in shown.splitlines() if line[:1] == "-" and "7.70" in line]
        assert changed.sync_one("2026-11-20").is_success


def test_a_view_that_is_missing_is_asked_for_where_it_is_made(warehouse: Warehouse):
    """No view: the next step names its owner, not this project's job."""
    with open_pipeline(warehouse.settings, warehouse.contract()) as pipeline:
        (failure,) = pipeline.create_views().failures
    assert f"have {warehouse.view} made where it is owned (a dbt run)" in failure


def test_a_table_in_the_view_s_place_is_compared_by_its_columns(warehouse: Warehouse):
    """dbt may materialize a table: columns decide, and the metadata says that there is no definition."""
    warehouse.make(USUAL, what="TABLE")
    with open_pipeline(warehouse.settings, warehouse.contract()) as pipeline:
        told = verified(pipeline)
    assert told["the contract's SQL"].startswith("the warehouse shows no definition (a table")


def test_upstream_assets_are_lineage_and_no_more(warehouse: Warehouse):
    """dbt's assets stand before the view, external or dbt's own; no job runs them, and no row counts as changed."""
    upstream = ("analytics/orders", "customers")
    warehouse.make(USUAL)
    plain, declared = warehouse.contract(), warehouse.contract(upstream=upstream)
    assert plain.version_of(plain.feed("orders")) == declared.version_of(declared.feed("orders"))
    with open_pipeline(warehouse.settings, declared) as pipeline, open_pipeline(warehouse.settings, plain) as other:
        graph = pipeline.defs.resolve_asset_graph()
        assert {key.to_user_string() for key in graph.get(view_key("orders")).parent_keys} == set(upstream)
        assert {key.to_user_string() for key in graph.external_asset_keys} == set(upstream)
        jobs, without = (
            {job.name: job.asset_layer.executable_asset_keys for job in made.defs.resolve_all_job_defs()}
            for made in (pipeline, other)
        )
        assert jobs == without
        dbt = Definitions(assets=[AssetSpec(["analytics", "orders"]), made_by_dbt("customers")])
        together = Definitions.merge(pipeline.defs, dbt).resolve_asset_graph()
        assert together.get(view_key("orders")).parent_keys == graph.get(view_key("orders")).parent_keys
        assert together.get(AssetKey(["customers"])).is_executable
        verified(pipeline)
        assert pipeline.sync_one("2026-11-20").is_success
