"""Freshness: by the newest load time in the view, whatever ran when; through Dagster over the warehouse stand-in (TM10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity

from rs_cio_assets.checks.freshness import build_freshness_checks, freshness_result
from rs_cio_assets.checks.loads import newest_load
from rs_cio_assets.settings import Settings
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.running_checks import ChecksRun, run_checks
from rs_cio_assets_tests.staging import contract_of, feed_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ORDERS = feed_of("event", {"order_id": {"type": "string", "required": True}}, name="orders", view="freshness_test.orders")
FOLK = feed_of("people", {}, name="folk", view="freshness_test.folk")
OFF = feed_of(
    "event",
    {"order_id": {"type": "string", "required": True}},
    name="paused",
    view="freshness_test.paused",
    event_name="Paused",
    enabled=False,
)
CONTRACT = contract_of(FOLK, ORDERS, OFF)


@pytest.fixture
def warehouse(settings: Settings) -> Settings:
    """Two empty views."""
    run_sql(
        settings,
        "DROP SCHEMA IF EXISTS freshness_test CASCADE",
        "CREATE SCHEMA freshness_test",
        "CREATE TABLE freshness_test.orders (customer_id VARCHAR, order_id VARCHAR, occurred_at TIMESTAMP, loaded_at TIMESTAMP)",
        "CREATE TABLE freshness_test.folk (customer_id VARCHAR, updated_at TIMESTAMP, loaded_at TIMESTAMP)",
    )
    return settings


def load(settings: Settings, *rows: tuple[datetime | None, datetime | None]) -> None:
    """Orders that occurred and were loaded then."""
    values = [[moment and moment.replace(tzinfo=None) for moment in row] for row in rows]
    run_sql(settings, *(("INSERT INTO freshness_test.orders VALUES ('ada', 'O1', %s, %s)", pair) for pair in values))


@pytest.mark.parametrize(
    ("rows", "newest"),
    [
        ([], None),
        ([(NOW - HOUR, None)], None),
        ([(NOW - 3 * HOUR, NOW - 2 * HOUR), (NOW - 2 * HOUR, NOW - HOUR)], NOW - HOUR),
        ([(None, NOW - HOUR)], NOW - HOUR),  # a row without a time is a row that was loaded
        ([(NOW - 200 * HOUR, NOW - 190 * HOUR)], NOW - 190 * HOUR),  # nothing recent: since when?
        ([(NOW - 40 * HOUR, NOW - 39 * HOUR), (NOW - 200 * HOUR, NOW - HOUR)], NOW - HOUR),  # the load brings late rows only
        ([(NOW + DAY, NOW + HOUR), (NOW - HOUR, NOW)], NOW + HOUR),
    ],
)
def test_the_newest_load_is_found_wherever_it_is(warehouse: Settings, rows: list[Any], newest: datetime | None):
    """Among recent rows first; among all where none of those is fresh."""
    load(warehouse, *rows)
    with Warehouse(warehouse.redshift).session() as session:
        assert newest_load(session, ORDERS, NOW) == newest


def test_while_the_load_is_fresh_old_rows_are_not_read(warehouse: Settings):
    """One query, bounded by the rows' time: a newer load of an old row is not even seen."""
    load(warehouse, (NOW - 20 * HOUR, NOW - 19 * HOUR), (NOW - 200 * HOUR, NOW))
    with Warehouse(warehouse.redshift).session() as session:
        assert newest_load(session, ORDERS, NOW) == NOW - 19 * HOUR


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("newest", "verdict", "said"),
    [
        (NOW - HOUR, "good", "was loaded 1.0 h ago; 30 h are allowed"),
        (NOW - 30 * HOUR, "good", ""),
        (NOW - 30 * HOUR - SECOND, "bad", "for 30.0 h, since 2026-11-24 05:59 UTC; 30 h are allowed"),
        (NOW + 5 * timedelta(minutes=1), "good", ""),
        (NOW + 5 * timedelta(minutes=1) + SECOND, "bad", "a clock is wrong"),
        (NOW + 2 * HOUR, "bad", "is 2.0 h ahead of now"),
        (None, "not ready", "has no row"),
    ],
)
def test_the_verdict_is_by_the_age_of_the_newest_row(newest: datetime | None, verdict: str, said: str):
    """To the second at each edge; a red one says how old, since when and where to look."""
    result = freshness_result(ORDERS, newest, NOW)
    found = "good" if result.passed else "bad" if result.severity is AssetCheckSeverity.ERROR else "not ready"
    assert found == verdict
    assert said in (result.description or "")
    assert ("Next step: look at" in (result.description or "")) is (verdict == "bad")
    assert list(result.metadata) == ["age of the newest row (h)", "allowed (h)", "newest loaded_at (UTC)"]


def run(settings: Settings) -> dict[str, ChecksRun]:
    """The check of each feed, run alone, by feed."""
    checks = build_freshness_checks(CONTRACT)
    return {key.asset_key.path[-1]: run_checks(settings, [check]) for check in checks for key in check.check_keys}


def of(runs: dict[str, ChecksRun]) -> dict[str, AssetCheckEvaluation]:
    """What they said, by feed; a failed step said nothing."""
    return {feed: run.evaluations["fresh"] for feed, run in runs.items() if run.evaluations}


def test_tm10_a_load_that_has_stalled_is_red_in_dagster(warehouse: Settings):
    """While another feed is fresh, and a feed that is off is not asked for."""
    now = datetime.now(UTC)
    load(warehouse, (now - 50 * HOUR, now - 49 * HOUR))
    loaded = (now - HOUR).replace(tzinfo=None)
    run_sql(warehouse, ("INSERT INTO freshness_test.folk VALUES ('ada', %s, %s)", [loaded, loaded]))
    found = of(run(warehouse))
    assert {feed: evaluation.passed for feed, evaluation in found.items()} == {"orders": False, "folk": True}
    assert "Nothing new has been loaded into freshness_test.orders for 49.0 h" in (found["orders"].description or "")


def test_an_empty_warehouse_is_not_ready_and_a_missing_view_fails(warehouse: Settings):
    """Nothing to say is no alarm and no green; what cannot be read is an error in words."""
    found = of(run(warehouse))
    assert {(e.passed, e.severity) for e in found.values()} == {(False, AssetCheckSeverity.WARN)}
    run_sql(warehouse, "DROP TABLE freshness_test.orders")
    broken = run(warehouse)
    assert set(of(broken)) == {"folk"}
    assert "feed orders" in "".join(broken["orders"].failures)
