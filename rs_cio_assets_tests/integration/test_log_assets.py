"""The delivery log as Dagster runs it: with every way of delivering a day, never instead of it, and only where it is on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import AssetKey, DagsterRunStatus
from pydantic import SecretStr

from rs_cio_assets.assets import LOG_KEY, UNLOGGED_KEY, delivery_log_key, feed_key
from rs_cio_assets.assets.log import write_log
from rs_cio_assets.automation import CATCH_UP_LOG, SYNC_DAY
from rs_cio_assets.contract import Contract, Feed
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import open_store
from rs_cio_assets.sync import QUIET, JobOutcome, backfill_days, failures, replay_days, sync_feed
from rs_cio_assets_tests.late_shop import FOLK, ORDERS, LateShop, at, day_before, open_late_shop
from rs_cio_assets_tests.pipeline import Pipeline, delivered, open_pipeline, query, run_sql
from rs_cio_assets_tests.staging import contract_of

DAY, OTHER = day_before(5), day_before(4)


def logging(settings: Settings, **redshift: Any) -> Settings:
    """The same settings with the delivery log on."""
    return settings.model_copy(update={"redshift": settings.redshift.model_copy(update={"delivery_log": True, **redshift})})


def log_of(settings: Settings, feed: str) -> dict[str, Counter[str]]:
    """Keys by outcome of each day of a feed in the log."""
    rows = query(
        settings, "SELECT day::VARCHAR, outcome, COUNT(*) FROM cio_sync.deliveries WHERE feed = %s GROUP BY 1, 2", (feed,)
    )
    found: dict[str, Counter[str]] = {}
    for day, outcome, keys in rows:
        found.setdefault(day, Counter())[outcome] = keys
    return found


def materialize(shop: LateShop, key: AssetKey, day: str | None = None) -> None:
    """One asset alone, as from the graph."""
    graph = shop.defs.resolve_implicit_global_asset_job_def()
    ran = graph.execute_in_process(instance=shop.instance, asset_selection=[key], partition_key=day, run_config=QUIET)
    assert ran.success


@pytest.fixture
def shop(settings: Settings) -> Iterator[LateShop]:
    """One person, an order on each of two days, nothing delivered; the log has its tables."""
    run_sql(settings, "DROP SCHEMA IF EXISTS cio_sync CASCADE")
    with open_late_shop(logging(settings)) as opened:
        assert (
            opened.defs.resolve_implicit_global_asset_job_def()
            .execute_in_process(instance=opened.instance, asset_selection=[LOG_KEY], run_config=QUIET)
            .success
        )
        opened.load(FOLK, **at(DAY))
        for number, day in enumerate((DAY, OTHER)):
            opened.order(f"O{number}", day)
        yield opened
    run_sql(settings, "DROP SCHEMA IF EXISTS cio_sync CASCADE")


def logged(outcome: JobOutcome) -> list[str]:
    """Days and feeds that a run logged."""
    done = [m for m in outcome.materializations if m.asset == delivery_log_key(m.asset.path[-1])]
    return sorted(f"{m.asset.path[-1]} {m.day}" for m in done)


def test_each_way_of_delivering_a_day_logs_it_once(shop: LateShop):
    """A feed alone, a backfill, a replay, the late-data sensor: the day's log follows in the same run, of those feeds only."""
    people = sync_feed(shop.defs, shop.instance, "folk", [DAY], reason="test")
    assert logged(people) == [f"folk {DAY}"]
    days = {day: ["orders"] for day in (DAY, OTHER)}
    (backfilled,) = backfill_days(shop.defs, shop.instance, days, {"on_backfill": "accept"}, days_per_run=2)
    assert backfilled.is_success, backfilled.failures
    assert logged(backfilled) == [f"orders {DAY}", f"orders {OTHER}"]
    (replayed,) = replay_days(shop.defs, shop.instance, "orders", [DAY], {"replay": ["all"]})
    assert logged(replayed) == [f"orders {DAY}"]
    assert log_of(shop.settings, "orders") == {DAY: Counter(delivered=1), OTHER: Counter(delivered=1)}

    shop.order("O9", DAY, hours_late=60)
    (request,), _ = shop.tick()
    assert set(request.asset_selection or ()) >= {feed_key("orders"), delivery_log_key("orders")}
    assert shop.run(request).success
    assert log_of(shop.settings, "orders")[DAY] == Counter(delivered=2)
    assert shop.tick()[0] == []


def test_the_whole_day_logs_every_feed(shop: LateShop):
    """sync_day has the log of each feed after its delivery; run again it writes the same rows."""
    job = shop.defs.resolve_job_def(SYNC_DAY)
    before: list[tuple[Any, ...]] = []
    for _ in range(2):
        result = job.execute_in_process(instance=shop.instance, partition_key=DAY, run_config=QUIET)
        assert result.success
        steps = [event.step_key for event in result.all_events if event.is_step_success]
        for feed in ("folk", "orders"):
            place = [steps.index(key.to_python_identifier()) for key in (feed_key(feed), delivery_log_key(feed))]
            assert place == sorted(place)
        rows = query(
            shop.settings,
            "SELECT feed, row_key, identifier, business_key, outcome, delivered_at, run_id FROM cio_sync.deliveries "
            "ORDER BY 1, 2",
        )
        assert before in ([], rows)
        before = rows
    assert [(feed, who, key) for feed, _, who, key, *_ in before] == [
        ("folk", "C0000001", "C0000001"),
        ("orders", "C0000001", "O0"),
    ]


def test_a_log_that_fails_leaves_the_delivery_as_it_is(shop: LateShop):
    """Its own step fails with the next step; the feed is materialized, nothing is sent again, and the log alone mends it."""
    run_sql(shop.settings, "DROP SCHEMA cio_sync CASCADE")
    outcome = sync_feed(shop.defs, shop.instance, "orders", [DAY], reason="late_data")
    assert not outcome.is_success
    assert set(delivered(outcome)) == {"orders"}
    (said,) = outcome.failures
    assert said.startswith(f"feed orders, {DAY}: Redshift has no cio_sync.deliveries")
    assert "Next step: materialize redshift/log" in said
    status = shop.instance.get_status_by_partition(feed_key("orders"), [DAY], shop.defs.resolve_job_def(SYNC_DAY).partitions_def)
    assert status
    assert str(status[DAY]).endswith("MATERIALIZED")
    events = shop.counts()["events"]

    materialize(shop, LOG_KEY)
    materialize(shop, delivery_log_key("orders"), DAY)
    assert sum(log_of(shop.settings, "orders")[DAY].values()) == 1
    assert shop.counts()["events"] == events


def catch_up(shop: LateShop) -> int:
    """One run of the hourly job; how many days it logged."""
    result = shop.defs.resolve_job_def(CATCH_UP_LOG).execute_in_process(instance=shop.instance, run_config=QUIET)
    assert result.success
    (done,) = [e for e in result.get_asset_materialization_events() if e.asset_key == UNLOGGED_KEY]
    return int(done.materialization.metadata["days logged"].value)


def test_a_day_that_a_check_stopped_is_logged_by_the_next_hour(shop: LateShop):
    """Too many rejected rows stop what comes after the delivery, and the log tells analysts which rows all the same; once."""
    shop.load(ORDERS, order_id=None, **at(DAY))
    outcome = sync_feed(shop.defs, shop.instance, "orders", [DAY], reason="late_data")
    assert (outcome.is_success, logged(outcome)) == (False, [])
    assert log_of(shop.settings, "orders") == {}
    assert catch_up(shop) == 1
    assert log_of(shop.settings, "orders")[DAY]["rejected"] == 1
    assert query(shop.settings, "SELECT reason, attempts FROM cio_sync.rejections") == [("business_key_missing", 1)]
    assert catch_up(shop) == 0


def test_a_day_that_cannot_be_logged_keeps_no_other_from_it(shop: LateShop, monkeypatch: pytest.MonkeyPatch):
    """The later day is logged although the earlier one fails; the run fails in the end and names the day."""
    run_sql(shop.settings, "DROP SCHEMA cio_sync CASCADE")
    for day in (DAY, OTHER):
        assert not sync_feed(shop.defs, shop.instance, "orders", [day], reason="late_data").is_success
    materialize(shop, LOG_KEY)

    def write(feed: Feed, contract: Contract, day: str, *around: Any) -> dict[str, Any]:
        if day == DAY:
            raise MismatchError("the staged files hold other rows", next_step="run the export of that day again")
        return write_log(feed, contract, day, *around)

    monkeypatch.setattr("rs_cio_assets.automation.unlogged_days.write_log", write)
    job = shop.defs.resolve_job_def(CATCH_UP_LOG)
    result = job.execute_in_process(instance=shop.instance, run_config=QUIET, raise_on_error=False)
    (said,) = failures(result)
    assert said == f"feed orders, {DAY}: the staged files hold other rows. Next step: run the export of that day again"
    assert set(log_of(shop.settings, "orders")) == {OTHER}
    monkeypatch.undo()
    assert catch_up(shop) == 1
    assert set(log_of(shop.settings, "orders")) == {DAY, OTHER}


def test_a_dry_run_logs_nothing(shop: LateShop):
    """It delivers nothing, so there is nothing to tell."""
    (outcome,) = backfill_days(shop.defs, shop.instance, {DAY: ["orders"]}, {"is_dry_run": True})
    assert logged(outcome) == []
    assert log_of(shop.settings, "orders") == {}
    assert catch_up(shop) == 0


def test_a_delivery_that_failed_is_not_logged(shop: LateShop, monkeypatch: pytest.MonkeyPatch):
    """A day that nobody finished delivering keeps the log it had; its run says why."""
    monkeypatch.setattr("rs_cio_assets.delivery.engine.StagedDay.save_rejections", lambda *_: 1 / 0)
    outcome = sync_feed(shop.defs, shop.instance, "orders", [DAY], reason="late_data")
    assert not outcome.is_success
    assert log_of(shop.settings, "orders") == {}


def test_a_user_who_may_only_read_gets_everything_else(shop: LateShop, settings: Settings):
    """Without the log nothing of it is in the graph, and a day is delivered by a user without any right to write."""
    defs = build_definitions(settings, shop.contract)
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    assert {key for key in keys if "deliveries" in key or key in {"redshift/log", "redshift/check_results"}} == set()
    assert CATCH_UP_LOG not in {job.name for job in defs.resolve_all_job_defs()}
    run_sql(
        settings,
        "CREATE ROLE late_reader LOGIN",
        "GRANT USAGE ON SCHEMA late TO late_reader",
        "GRANT SELECT ON ALL TABLES IN SCHEMA late TO late_reader",
    )
    try:
        reader = {"user": "late_reader", "password": SecretStr("sandbox")}
        read_only = settings.model_copy(update={"redshift": settings.redshift.model_copy(update=reader)})
        outcome = sync_feed(build_definitions(read_only, shop.contract), shop.instance, "orders", [DAY], reason="late_data")
    finally:
        run_sql(settings, "DROP OWNED BY late_reader", "DROP ROLE late_reader")
    assert outcome.is_success, outcome.failures
    assert (set(delivered(outcome)), logged(outcome)) == ({"orders"}, [])


def test_what_checks_said_is_written_once(shop: LateShop):
    """Every evaluation with its verdict, day and words; a second run adds only what is new, and an empty one nothing."""
    sync_feed(shop.defs, shop.instance, "orders", [DAY], reason="late_data")

    def log_checks() -> Any:
        result = shop.defs.resolve_job_def(CATCH_UP_LOG).execute_in_process(instance=shop.instance, run_config=QUIET)
        assert result.success
        return query(
            shop.settings,
            "SELECT asset, check_name, day::VARCHAR, passed, severity, description, run_id, evaluated_at "
            "FROM cio_sync.check_results ORDER BY evaluated_at, check_name",
        )

    first = log_checks()
    assert log_checks() == first
    said = {(asset, name): row for asset, name, *row in first}
    day, passed, severity, description, run_id, at_moment = said["customerio/feeds/orders", "every_row_is_accounted_for"]
    assert (day, passed, severity, description) == (DAY, True, None, "Every row has exactly one outcome.")
    assert shop.instance.get_run_by_id(run_id).status is DagsterRunStatus.SUCCESS
    assert abs(at_moment.replace(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=10)
    assert len(first) == len(said) > 3
    sync_feed(shop.defs, shop.instance, "orders", [OTHER], reason="late_data")
    assert Counter(row[2] for row in log_checks()) == {DAY: len(first), OTHER: len(first)}


def test_differences_that_the_store_kept_go_to_their_table(shop: LateShop, tmp_path: Path):
    """A segment's differences that the warehouse had not taken are written, once, and leave the store."""
    table = pa.table({"customer_id": ["C1"], "side": ["missing"], "is_in_flight": [False]})
    pq.write_table(table, tmp_path / "kept.parquet")
    store = open_store(shop.settings.store)
    store.put_file("differences/loyal.parquet", tmp_path / "kept.parquet")
    for _ in range(2):
        assert shop.defs.resolve_job_def(CATCH_UP_LOG).execute_in_process(instance=shop.instance, run_config=QUIET).success
        found = query(shop.settings, "SELECT segment, customer_id, side, is_in_flight FROM cio_sync.segment_differences")
        assert found == [("loyal", "C1", "missing", False)]
        assert store.list("differences/") == []


def test_people_who_went_before_their_events_are_named(settings: Settings):
    """Their own day is another one: the event's log says whose keys those are, and the people's own log keeps it."""
    run_sql(settings, "DROP SCHEMA IF EXISTS cio_sync CASCADE")
    orders = ORDERS.model_copy(update={"unknown_person": "deliver"})
    with open_late_shop(logging(settings), contract_of(FOLK, orders)) as shop:
        materialize(shop, LOG_KEY)
        shop.load(FOLK, **at(OTHER))
        shop.order("O1", DAY)
        for _ in range(2):
            assert (
                shop.defs.resolve_job_def(SYNC_DAY)
                .execute_in_process(instance=shop.instance, partition_key=DAY, run_config=QUIET)
                .success
            )
            rows = query(settings, "SELECT day::VARCHAR, identifier, rows_in_view FROM cio_sync.deliveries WHERE feed = 'folk'")
            assert rows == [(DAY, "C0000001", 0)]
    run_sql(settings, "DROP SCHEMA IF EXISTS cio_sync CASCADE")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pipeline, list[JobOutcome]]]:
    """Two days of the demo shop, synced with the log on."""
    home = tmp_path_factory.mktemp("demo")
    with (
        RedshiftStandIn(home / "redshift") as redshift,
        CustomerioStandIn(home / "customerio", app_requests_per_s=None) as customerio,
    ):
        settings = load_settings(
            {
                "REDSHIFT_PORT": str(redshift.port),
                "CUSTOMERIO_TRACK_URL": customerio.url,
                "CUSTOMERIO_APP_URL": customerio.url,
                "RS_CIO_STORE": str(home / "store"),
                "REDSHIFT_DELIVERY_LOG": "true",
            }
        )
        today = datetime.now(UTC).date()
        ensure_shop(settings.redshift, today=today, customers=400, seed=5, on_progress=lambda _: None)
        with open_pipeline(settings) as pipeline:
            assert pipeline.create_views().is_success
            outcomes = pipeline.sync([day_before(n) for n in (2, 3)])
            assert all(outcome.is_success for outcome in outcomes), [o.failures for o in outcomes]
            yield pipeline, outcomes


def test_the_demo_s_log_adds_up_to_its_deliveries(demo: tuple[Pipeline, list[JobOutcome]]):
    """For each feed and day of the demo: rows by outcome in the warehouse are those that the delivery reported."""
    pipeline, outcomes = demo
    found = query(
        pipeline.settings,
        """SELECT feed, day::VARCHAR, SUM(rows_in_view), SUM(duplicates), SUM(rejected),
               SUM(CASE WHEN outcome = 'delivered' AND rows_in_view > 0 THEN 1 ELSE 0 END),
               SUM(CASE WHEN outcome = 'held' THEN 1 ELSE 0 END), SUM(CASE WHEN outcome = 'pending' THEN 1 ELSE 0 END)
           FROM cio_sync.deliveries GROUP BY 1, 2""",
    )
    log = {(feed, day): tuple(map(int, numbers)) for feed, day, *numbers in found}
    told = {}
    for outcome in outcomes:
        for feed, said in delivered(outcome).items():
            if said["rows"]:
                sent = said["delivered"] + said["unchanged"]
                told[feed, outcome.days[0]] = (said["rows"], said["duplicates"], said["rejected"], sent, said["held"], 0)
    assert {key: numbers for key, numbers in log.items() if numbers[0]} == told
    assert len(told) > 4
