"""The checks of an export through Dagster, over the real driver: each red and green, what stops a day, what a run may accept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dagster import AssetCheckEvaluation, ExecuteInProcessResult
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.contract import Contract
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore, load_manifest
from rs_cio_assets.store.profiles import load_profile, save_profile
from rs_cio_assets.sync import failures
from rs_cio_assets_tests.pipeline import open_pipeline, query, run_assets, run_sql
from rs_cio_assets_tests.profiles import DAY, day_before, profile_of
from rs_cio_assets_tests.staging import contract_of, feed_of

COLUMNS = {
    "order_id": {"type": "string", "required": True},
    "event": {"type": "string", "is_sent": False},
    "tier": {"type": "string", "values": ["gold", "silver"], "on_undeclared_value": "pass"},
}
USUAL = {name: name for name in ("customer_id", "occurred_at", "loaded_at", "order_id", "event", "tier")}
ROWS = 48  # one each half hour


class Shop:
    """A table of orders and its feed; the view's columns can be replaced by other expressions."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.schema = settings, f"checks_{uuid4().hex[:8]}"
        self.store = LocalStore(Path(settings.store))
        run_sql(
            settings,
            f"CREATE SCHEMA {self.schema}",
            f"CREATE TABLE {self.schema}.orders AS SELECT 'C' || (1000000 + n)::VARCHAR AS customer_id, "
            f"TIMESTAMP '{DAY} 00:07:13' + n * INTERVAL '30 minutes' AS occurred_at, "
            f"TIMESTAMP '{DAY} 00:17:13' + n * INTERVAL '30 minutes' AS loaded_at, "
            "'O' || n::VARCHAR AS order_id, 'Order Completed'::VARCHAR AS event, 'gold'::VARCHAR AS tier "
            f"FROM generate_series(0, {ROWS - 1}) AS n",
        )

    def sql(self, **columns: str) -> str:
        """The view's SELECT with *columns* in place of the usual ones."""
        chosen = ", ".join(f"{expression} AS {name}" for name, expression in {**USUAL, **columns}.items())
        return f"SELECT {chosen} FROM {self.schema}.orders"

    def contract(self, sql: str, **fields: Any) -> Contract:
        """The feed over *sql*."""
        usual = {"name": "orders", "view": f"{self.schema}.v_orders", "name_column": "event"}
        return contract_of(feed_of("event", COLUMNS, **{**usual, "sql": sql, **fields}))

    def remember_days(self, rows: int) -> None:
        """Seven days before DAY with so many rows each."""
        for days in range(1, 8):
            save_profile(self.store, profile_of(rows, day=day_before(days), feed="orders"))


class Ran:
    """A run of the export and its delivery: failures in words, and the checks of the export by name."""

    def __init__(self, result: ExecuteInProcessResult) -> None:
        self.failures = list(failures(result))
        self.done = [event.asset_key for event in result.get_asset_materialization_events()]
        checks = result.get_asset_check_evaluations()
        self.checks: dict[str, AssetCheckEvaluation] = {c.check_name: c for c in checks if c.asset_key == export_key("orders")}

    def red(self) -> list[str]:
        """Names of checks that did not pass."""
        return [name for name, check in self.checks.items() if not check.passed]

    def told(self, check: str) -> dict[str, Any]:
        """A check's metadata."""
        return {name: value.value for name, value in self.checks[check].metadata.items()}


@pytest.fixture
def shop(settings: Settings) -> Iterator[Shop]:
    """Fresh tables."""
    shop = Shop(settings)
    yield shop
    run_sql(settings, f"DROP SCHEMA {shop.schema} CASCADE")


def run(shop: Shop, contract: Contract, *, accept: list[str] | None = None, days: int = 1, has_new_views: bool = True) -> Ran:
    """Create the view, then export and deliver DAY, or the last *days* to it in one run."""
    config = {"ops": {export_key("orders").to_python_identifier(): {"config": {"accept": accept or []}}}}
    keys = [export_key("orders"), feed_key("orders")]
    with open_pipeline(shop.settings, contract) as pipeline:
        if has_new_views:
            assert pipeline.create_views().is_success
        tags = {ASSET_PARTITION_RANGE_START_TAG: day_before(days - 1), ASSET_PARTITION_RANGE_END_TAG: DAY}
        day = {"day": DAY} if days == 1 else {"tags": tags}
        return Ran(run_assets(pipeline.defs, pipeline.instance, keys, **day, run_config=config))


def test_a_good_day_passes_every_check(shop: Shop):
    """All four green, with numbers; the profile is kept, and the day is delivered."""
    ran = run(shop, shop.contract(shop.sql(), max_rows_per_day=ROWS, max_rows_per_person=1))
    assert ran.failures == []
    assert (sorted(ran.checks), ran.red()) == (["contract", "times", "values", "volume"], [])
    told = ran.told("contract")
    assert (told["rows"], told["people"], told["definition compared"]) == (ROWS, ROWS, "yes")
    assert ran.told("times")["time to load, median (s)"] == 600
    assert "0 of 7 days to compare with: not judged yet" in (ran.checks["volume"].description or "")
    assert ran.done == [export_key("orders"), feed_key("orders")]
    profile = load_profile(shop.store, "orders", DAY)
    assert profile is not None
    assert (profile.rows, profile.rows_by_hour, profile.blocked_by) == (ROWS, (2,) * 24, ())


TWICE = "CASE WHEN order_id = 'O1' THEN 'O0' ELSE order_id END"


@pytest.mark.parametrize(
    ("name", "columns", "fields", "words"),
    [
        ("names", {"event": "LOWER(event)"}, {}, "48 of 48 rows have another event than 'Order Completed': order completed"),
        ("etl_time", {"occurred_at": "loaded_at"}, {}, "occurred_at equals loaded_at in 48 of 48 rows"),
        (
            "etl_time",
            {"occurred_at": f"TIMESTAMP '{DAY} 03:12:44'"},
            {},
            "48 of 48 rows have the same occurred_at (3:12:44 UTC)",
        ),
        ("duplicates", {"order_id": TWICE}, {}, "1 business key (order_id) in 2 rows that differ"),
        ("ceiling", {}, {"max_rows_per_day": ROWS - 1}, "48 rows, and max_rows_per_day is 47"),
        (
            "ceiling",
            {"customer_id": "'C0000001'"},
            {"max_rows_per_person": 9},
            "one person has 48 rows, and max_rows_per_person is 9",
        ),
    ],
    ids=["another name", "load time", "one time", "a key twice", "too many rows", "too many rows of a person"],
)
def test_a_finding_stops_the_day_until_it_is_accepted(
    name: str, columns: dict[str, str], fields: dict[str, Any], words: str, shop: Shop
):
    """NM1, TM3, DU1, SZ2: the run fails with what is wrong and how to go on, nothing is sent; accepted, it warns and goes on."""
    contract = shop.contract(shop.sql(**columns), **fields)
    ran = run(shop, contract)
    (failure,) = ran.failures
    assert words in failure
    assert f"feed orders, {DAY}: {shop.schema}.v_orders does not match the contract" in failure
    assert f"accept: [{name}] (run config of redshift/exports/orders)" in failure
    assert (ran.red(), ran.done) == (["contract"], [])
    check = ran.checks["contract"]
    assert (check.severity.value, words in (check.description or "")) == ("ERROR", True)
    assert load_profile(shop.store, "orders", DAY).blocked_by == (name,)  # type: ignore[union-attr]

    ran = run(shop, contract, accept=[name], has_new_views=False)
    assert (ran.failures, ran.red()) == ([], ["contract"])
    check = ran.checks["contract"]
    assert (check.severity.value, "(accepted for this run)" in (check.description or "")) == ("WARN", True)
    assert feed_key("orders") in ran.done
    assert load_profile(shop.store, "orders", DAY).blocked_by == ()  # type: ignore[union-attr]


def test_one_acceptance_does_not_let_another_finding_through(shop: Shop):
    """What was not accepted stops the run, and only that is asked for."""
    ran = run(shop, shop.contract(shop.sql(event="LOWER(event)", occurred_at="loaded_at")), accept=["names"])
    (failure,) = ran.failures
    assert "accept: [etl_time]" in failure
    assert "another event" not in failure


def test_an_unknown_acceptance_is_refused_in_words(shop: Shop):
    """A typing mistake in the run config accepts nothing, and the allowed names are told."""
    ran = run(shop, shop.contract(shop.sql()), accept=["etl time"])
    assert "'etl time' is not known; allowed: names, etl_time, duplicates, ceiling, definition" in "\n".join(ran.failures)
    assert ran.done == []


def test_equal_rows_of_one_key_do_not_stop_the_day(shop: Shop):
    """DU1: one is sent and the others are duplicates; the check counts the key."""
    run_sql(shop.settings, f"INSERT INTO {shop.schema}.orders SELECT * FROM {shop.schema}.orders WHERE order_id = 'O1'")
    ran = run(shop, shop.contract(shop.sql()))
    assert (ran.failures, ran.red()) == ([], [])
    assert ran.told("contract")["repeated, equal (business keys)"] == 1


def test_a_view_that_was_replaced_by_hand_stops_the_day_with_the_difference(shop: Shop):
    """WH3: same columns and types, another definition: a diff, no row is read; create_views or an acceptance let it go on."""
    contract = shop.contract(shop.sql())
    assert run(shop, contract).failures == []
    by_hand = f"CREATE OR REPLACE VIEW {shop.schema}.v_orders AS {shop.sql()} WHERE tier <> 'silver' WITH NO SCHEMA BINDING"
    run_sql(shop.settings, by_hand)
    before = load_manifest(shop.store, "orders", DAY)
    ran = run(shop, contract, has_new_views=False)
    (failure,) = ran.failures
    assert "v_orders was replaced outside of create_views" in failure
    assert "silver" in failure
    assert "run create_views" in failure
    assert (ran.red(), ran.done) == (["contract"], [])
    diff = ran.told("contract")["definition"]
    assert diff.startswith("```diff\n--- created by create_views")
    assert [line for line in diff.splitlines() if line.startswith("+") and "silver" in line]
    assert load_manifest(shop.store, "orders", DAY) == before
    assert run(shop, contract, accept=["definition"], has_new_views=False).failures == []
    assert run(shop, contract).red() == []


def test_a_contract_whose_sql_changed_asks_for_create_views(shop: Shop):
    """WH3: the view is still the old one: nothing is read with a view that the contract no longer describes."""
    assert run(shop, shop.contract(shop.sql())).failures == []
    changed = shop.contract(shop.sql(tier="'silver'::VARCHAR"))
    (failure,) = run(shop, changed, has_new_views=False).failures
    assert f"the contract's SQL changed since {shop.schema}.v_orders was created: run create_views" in failure
    assert "Next step: run create_views: it makes the view anew from the contract's SQL; then run this day again" in failure
    assert run(shop, changed).failures == []


def test_a_view_that_others_made_is_not_compared(shop: Shop):
    """Without a record (the view is dbt's, say) the definition is nobody's business, and the metadata says so."""
    run_sql(shop.settings, f"CREATE VIEW {shop.schema}.v_orders AS {shop.sql()} WITH NO SCHEMA BINDING")
    ran = run(shop, shop.contract("SELECT 'another' AS text"), has_new_views=False)
    assert (ran.failures, ran.red()) == ([], [])
    assert ran.told("contract")["definition compared"] == "no: create_views has not run for this view"


def test_columns_that_differ_are_a_table(shop: Shop):
    """NM2, NM3: column, what the contract says, what the view has; drift of columns cannot be accepted."""
    sql = shop.sql(tier="5").replace("order_id AS order_id", "order_id AS order_number")
    ran = run(shop, shop.contract(sql), accept=["names", "etl_time", "duplicates", "ceiling", "definition"])
    (failure,) = ran.failures
    assert "column order_id is missing" in failure
    assert "accept" not in failure
    assert [tuple(record.data.values()) for record in ran.told("contract")["difference"].records] == [
        ("order_id", "string", "missing"),
        ("tier", "string", "INTEGER"),
        ("order_number", "not listed", "TEXT"),
    ]


@pytest.mark.parametrize(
    ("usual", "words"), [(100, "48 rows are less than half of the usual 100"), (15, "more than three times"), (50, "")]
)
def test_volume_beside_the_days_before(usual: int, words: str, shop: Shop):
    """SZ2, SZ3: half or three times the usual is red, and the day goes on; as many as usual is green."""
    shop.remember_days(usual)
    ran = run(shop, shop.contract(shop.sql()))
    assert (ran.failures, ran.red()) == ([], ["volume"] if words else [])
    check = ran.checks["volume"]
    assert words in (check.description or "")
    assert check.severity.value == "ERROR"
    told = ran.told("volume")
    assert (told["usual (rows)"], told["compared (days)"]) == (usual, 7)
    assert feed_key("orders") in ran.done


def test_local_time_that_is_sold_as_utc(shop: Shop):
    """TM4: two hours later than the load: red with the number of hours and what to do."""
    shop.remember_days(ROWS)
    ran = run(shop, shop.contract(shop.sql(loaded_at="loaded_at - INTERVAL '2 hours'")))
    assert ran.red() == ["times"]
    description = ran.checks["times"].description or ""
    assert "occurred_at is later than loaded_at in 48 of 48 rows: 2 h later than the truth" in description
    assert "CONVERT_TIMEZONE" in description
    assert (ran.told("times")["moved (hours)"], ran.checks["times"].severity.value) == (2, "ERROR")


def test_new_values_warn(shop: Shop):
    """NM6: the new value is named; the day goes on."""
    ran = run(shop, shop.contract(shop.sql(tier="CASE WHEN order_id < 'O2' THEN 'platinum' ELSE tier END")))
    assert (ran.failures, ran.red()) == ([], ["values"])
    assert "tier has 1 undeclared value: platinum (12 rows)" in (ran.checks["values"].description or "")
    assert ran.checks["values"].severity.value == "WARN"


def test_a_range_of_days_is_judged_day_by_day(shop: Shop):
    """One run, several days: what is said names its day, and each day has a profile."""
    ran = run(shop, shop.contract(shop.sql(event="LOWER(event)")), days=3)
    (failure,) = ran.failures
    assert f"{DAY}: 48 of 48 rows have another event" in failure
    assert [load_profile(shop.store, "orders", day_before(n)).rows for n in (2, 1, 0)] == [0, 0, ROWS]  # type: ignore[union-attr]


def test_the_definition_is_the_warehouse_s(shop: Shop):
    """What is remembered is what pg_views says, with when."""
    before = datetime.now(UTC)
    assert run(shop, shop.contract(shop.sql())).failures == []
    ((definition,),) = query(shop.settings, "SELECT definition FROM pg_views WHERE schemaname = %s", [shop.schema])
    kept = (shop.store.get("views/orders.json") or b"").decode()
    assert definition.splitlines()[0] in kept
    assert str(before.year) in kept
