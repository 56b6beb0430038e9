"""Fourteen days of the demo shop through Dagster: what the warehouse holds is what Customer.io holds, per feed and day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from benchmarks.own_work import sync_without_dagster
from rs_cio_assets.contract import load_contract
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import advance_shop, ensure_shop
from rs_cio_assets.settings import load_settings
from rs_cio_assets.sync import days_between
from rs_cio_assets_tests.both_ways import read_both_ways
from rs_cio_assets_tests.pipeline import Pipeline, delivered, delivered_by_day, open_pipeline, query
from rs_cio_assets_tests.s3_stand_in import ScriptedS3, unloading

TODAY = datetime.now(UTC).date()
DAYS = days_between(TODAY - timedelta(days=14), TODAY - timedelta(days=1))


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, scripted_s3: ScriptedS3) -> Iterator[Pipeline]:
    """A shop of its own, fourteen days read by UNLOAD and synced once; later tests of this file go on from there, in order."""
    home = tmp_path_factory.mktemp("demo")
    s3 = scripted_s3.cluster_client
    with (
        RedshiftStandIn(home / "redshift", s3=s3) as redshift,
        CustomerioStandIn(home / "customerio", app_requests_per_s=None) as customerio,
    ):
        settings = load_settings(
            {
                "REDSHIFT_PORT": str(redshift.port),
                "CUSTOMERIO_TRACK_URL": customerio.url,
                "CUSTOMERIO_APP_URL": customerio.url,
                "RS_CIO_STORE": str(home / "store"),
                **unloading(scripted_s3),
            }
        )
        ensure_shop(settings.redshift, today=TODAY, customers=1_500, seed=5, on_progress=lambda _: None)
        with open_pipeline(settings) as pipeline:
            assert pipeline.create_views().is_success
            outcomes = pipeline.sync(DAYS)
            assert all(outcome.is_success for outcome in outcomes), [o.failures for o in outcomes]
            yield pipeline


def rows_in_view(pipeline: Pipeline, view: str, time_column: str) -> dict[str, int]:
    """Rows per day, counted by SQL."""
    found = query(
        pipeline.settings,
        f"SELECT TRUNC({time_column}), COUNT(*) FROM {view} WHERE {time_column} >= %s AND {time_column} < %s GROUP BY 1",
        (DAYS[0], TODAY.isoformat()),
    )
    return {day.isoformat(): count for day, count in found}


def test_every_row_of_every_feed_and_day_is_in_customerio(synced: Pipeline):
    """Rows counted by SQL in the views are the events counted by the stand-in's API, for each feed and each day."""
    by_day = {(row["name"], row["day"]): row["events"] for row in synced.counts()["by_day"]}
    events = 0
    for feed in load_contract().enabled_feeds:
        in_view = rows_in_view(synced, feed.view, feed.time_column)
        if feed.event_name:
            assert in_view == {day: count for (name, day), count in by_day.items() if name == feed.event_name}
            events += sum(in_view.values())
        else:
            assert synced.counts()["people"] == sum(in_view.values()) > 50
    assert events == synced.counts()["events"] > 100
    assert synced.counts()["did_not_take"] == 0


def test_the_driver_gives_the_same_rows_and_operations(synced: Pipeline):
    """Both ways of reading end in the same rows and in the same bytes, operation by operation, for every feed."""
    contract = load_contract()
    for feed in contract.enabled_feeds:
        driver, unload = read_both_ways(synced.settings, contract, feed, DAYS, DAYS)
        assert unload.rows.equals(driver.rows)
        assert unload.operations == driver.operations
        assert driver.operations or feed.name.startswith("subscription")


def test_nobody_in_customerio_was_made_by_an_event(synced: Pipeline):
    """Every person that an event names has attributes: people of the window were delivered before their events."""
    ((without,),) = query(
        synced.settings,
        "SELECT COUNT(DISTINCT o.customer_id) FROM cio_export.order_completed AS o "
        "LEFT JOIN cio_export.people AS p ON p.customer_id = o.customer_id "
        "WHERE o.occurred_at > p.updated_at OR p.customer_id IS NULL",
    )
    assert without == 0


def test_a_second_run_sends_nothing(synced: Pipeline):
    """All fourteen days again, in one run: 0 operations, every row unchanged, the stand-in as before."""
    before = synced.counts()
    outcomes = synced.sync(DAYS, days_per_run=14)
    feeds = [day for feed in load_contract().enabled_feeds for day in delivered_by_day(outcomes, feed.name).values()]
    assert len(feeds) == 14 * 5
    assert sum(feed["delivered"] for feed in feeds) == 0
    assert sum(feed["requests"] for feed in feeds) == 0
    assert sum(feed["unchanged"] for feed in feeds) == sum(feed["rows"] for feed in feeds) > 0
    assert synced.counts() == before


def test_what_customerio_holds_reads_back_as_it_was_sent(synced: Pipeline):
    """The read-back check is green for every feed, and says how many rows it looked at."""
    outcome = synced.read_back()
    assert outcome.is_success, outcome.failures
    assert len(outcome.checks) == 5
    assert [check for check in outcome.checks if not check.is_passed] == []


def test_a_range_of_days_in_one_run_has_each_day_in_the_ui(synced: Pipeline):
    """A run over a range materializes every day of it, with that day's own counts."""
    (outcome,) = synced.sync(DAYS[-3:], days_per_run=3)
    assert outcome.is_success, outcome.failures
    people = [done for done in outcome.materializations if done.asset.path == ["customerio", "feeds", "people"]]
    view = rows_in_view(synced, "cio_export.people", "updated_at")
    assert {done.day: done.metadata["rows"] for done in people} == {day: view[day] for day in DAYS[-3:]}


def test_metadata_answers_what_happened_that_day(synced: Pipeline):
    """Counts, bytes, requests, seconds and the fingerprint of what was read stand beside each materialization."""
    metadata = delivered(synced.sync_one(DAYS[0]))["order_completed"]
    assert {"rows", "delivered", "unchanged", "rejected", "held", "requests", "sent (bytes)", "duration (s)"} <= set(metadata)
    assert metadata["source_fingerprint"]["rows"] == metadata["rows"]


def test_new_and_late_orders_are_the_only_ones_sent(synced: Pipeline):
    """Time goes on: only rows that were not there are sent, also into past days, and counts agree again."""
    before = synced.counts()["by_name"]["Order Completed"]
    report = advance_shop(synced.settings.redshift, until=datetime.now(UTC), late_orders=7)
    days = days_between(TODAY - timedelta(days=6), TODAY)
    outcomes = synced.sync(days)
    assert all(outcome.is_success for outcome in outcomes), [o.failures for o in outcomes]
    sent = sum(delivered(outcome)["order_completed"]["delivered"] for outcome in outcomes)
    ((in_view,),) = query(synced.settings, "SELECT COUNT(*) FROM cio_export.order_completed WHERE occurred_at >= %s", (DAYS[0],))
    assert report.late_orders == 7
    assert sent >= 7
    assert before + sent == synced.counts()["by_name"]["Order Completed"] == in_view
    assert date.fromisoformat(days[0]) < min(report.days)
    assert [check for check in synced.read_back().checks if not check.is_passed] == []


def test_an_empty_day_succeeds_with_no_rows(synced: Pipeline):
    """A day before the shop existed is a success with 0 rows for every feed."""
    day = (TODAY - timedelta(days=500)).isoformat()
    outcome = synced.sync_one(day)
    assert outcome.is_success, outcome.failures
    assert {feed: metadata["rows"] for feed, metadata in delivered(outcome).items()} == dict.fromkeys(
        [feed.name for feed in load_contract().enabled_feeds], 0
    )


def test_nothing_shown_holds_personal_data(synced: Pipeline):
    """No email, name or identifier of a person stands in any event of any run."""
    known = {
        value for row in query(synced.settings, "SELECT customer_id, email FROM cio_export.people LIMIT 200") for value in row
    }
    shown = "\n".join(str(record) for run in synced.instance.get_runs() for record in synced.instance.all_logs(run.run_id))
    assert len(shown) > 100_000
    assert [value for value in known if value in shown] == []


def test_the_benchmark_s_own_work_is_all_of_a_day(synced: Pipeline, tmp_path: Path):
    """What `make overhead` holds beside a run of Dagster's reads and delivers every row of the day, by UNLOAD as the run does."""
    day = DAYS[-1]
    with CustomerioStandIn(tmp_path / "customerio", app_requests_per_s=None) as other:
        customerio = synced.settings.customerio.model_copy(update={"track_url": other.url, "app_url": other.url})
        settings = synced.settings.model_copy(update={"store": str(tmp_path / "store"), "customerio": customerio})
        rows = sync_without_dagster(settings, load_contract(), day)
        counts = httpx.get(f"{other.url}/sandbox/counts").json()
    feeds = load_contract().enabled_feeds
    assert rows == sum(rows_in_view(synced, feed.view, feed.time_column).get(day, 0) for feed in feeds) > 0
    assert counts["people"] + counts["events"] == rows
