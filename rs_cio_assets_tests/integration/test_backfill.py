"""`rs-cio backfill` as an operator types it: what it plans, what it runs, what it refuses, and how it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance, DagsterRunStatus

from rs_cio_assets.assets import feed_key
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.errors import DeliveryRefused
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets_tests.conftest import WITHOUT_S3
from rs_cio_assets_tests.desk import Desk, open_desk
from rs_cio_assets_tests.pipeline import run_sql

PROJECT = Path(__file__).parents[2]
FOLK_SQL = "SELECT customer_id, updated_at, loaded_at, tier FROM backfill_test.folk"
ERASURES_SQL = "SELECT customer_id, updated_at AS asked_at, loaded_at FROM backfill_test.folk WHERE tier = 'gone'"
OF_DAY = "FROM backfill_test.folk WHERE updated_at::date = '{}'"
ORDERS_SQL = "SELECT customer_id, occurred_at, loaded_at, order_id, part, total FROM backfill_test.orders"


def day(ago: int) -> str:
    """The ISO day so many days ago (UTC)."""
    return (datetime.now(UTC).date() - timedelta(days=ago)).isoformat()


class Shop:
    """A desk over a warehouse with rows of many days: each day one person and two of their orders."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        run_sql(
            desk.settings,
            "CREATE SCHEMA IF NOT EXISTS backfill_test",
            "CREATE TABLE IF NOT EXISTS backfill_test.folk "
            "(customer_id VARCHAR(32), updated_at TIMESTAMP, loaded_at TIMESTAMP, tier VARCHAR(8))",
            "CREATE TABLE IF NOT EXISTS backfill_test.orders (customer_id VARCHAR(32), occurred_at TIMESTAMP, "
            "loaded_at TIMESTAMP, order_id VARCHAR(32), part INTEGER, total DECIMAL(12, 2))",
            "DELETE FROM backfill_test.folk",
            "DELETE FROM backfill_test.orders",
        )
        with Warehouse(desk.settings.redshift, secret=lambda _: {}).session() as session:
            for name, sql in (("folk", FOLK_SQL), ("orders", ORDERS_SQL), ("erasures", ERASURES_SQL)):
                create_view(session, desk.contract.feed(name).model_copy(update={"sql": sql}))

    def fill(self, first_ago: int, last_ago: int) -> None:
        """Rows from *first_ago* to *last_ago* days ago."""
        between = f"generate_series({last_ago}, {first_ago}) AS ago"
        at = f"TIMESTAMP '{day(0)} 00:01:00' - ago * INTERVAL '1 day'"
        times = f"{at}, {at} + INTERVAL '10 minutes'"
        run_sql(
            self.desk.settings,
            f"INSERT INTO backfill_test.folk SELECT 'C' || (1000000 + ago), {times}, 'gold' FROM {between}",
            f"INSERT INTO backfill_test.orders SELECT 'C' || (1000000 + ago), {times}, 'O' || ago, part, 9.90 "
            f"FROM {between}, generate_series(1, 2) AS part",
        )

    def backfill(self, *words: str) -> dict[str, Any]:
        """What `rs-cio backfill` prints with --json; *words* begin with feed and days."""
        return self.desk.json("backfill", *words)

    def runs(self) -> list[Any]:
        """The runs of the instance, oldest first."""
        with DagsterInstance.from_config(str(self.desk.scratch / "dagster")) as instance:
            return [record.dagster_run for record in instance.get_run_records()][::-1]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redshift: RedshiftStandIn) -> Iterator[Shop]:
    """See Shop; without rows."""
    with open_desk(tmp_path, monkeypatch, redshift) as desk:
        yield Shop(desk)


def days_run(document: dict[str, Any]) -> list[str]:
    """The days of a document in the order of their runs."""
    return [done["day"] for done in document["days"]]


def test_a_range_is_run_newest_first_one_run_a_day_that_dagster_shows(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Each day is a run with its partition, marked as a backfill that goes behind live ones, also at Customer.io; every row is
    delivered once."""
    shop.fill(5, 1)
    lanes: list[bool] = []

    def client(settings: CustomerioSettings, *, is_backfill: bool) -> TrackClient:
        lanes.append(is_backfill)
        return TrackClient(settings, is_backfill=is_backfill)

    monkeypatch.setattr("rs_cio_assets.assets.feeds.TrackClient", client)
    document = shop.backfill("folk", f"{day(5)}..{day(1)}")
    assert days_run(document) == [day(ago) for ago in range(1, 6)]
    assert lanes == [True] * 5
    assert document["is_good"] is True, document
    assert shop.desk.sent()["people"] == 5
    tags = [(run.tags["dagster/partition"], run.tags["rs_cio/reason"], run.tags["dagster/priority"]) for run in shop.runs()]
    assert tags == [(day(ago), "backfill", "-10") for ago in range(1, 6)]


def test_missing_and_failed_days_are_run_and_others_only_when_asked_for(shop: Shop):
    """By default nothing that was delivered is run again; --only all runs it and sends nothing; a day that is asked for alone is
    one of its own."""
    shop.fill(12, 8)
    shop.backfill("folk", day(10))
    again = shop.backfill("folk", f"{day(11)}..{day(9)}")
    assert (days_run(again), again["days_left_out"]) == ([day(9), day(11)], 1)
    assert days_run(shop.backfill("folk", f"{day(11)}..{day(9)}", "--only", "failed")) == []
    every = shop.backfill("folk", f"{day(11)}..{day(9)}", "--only", "all")
    assert [sum(feed["delivered"] for feed in done["feeds"]) for done in every["days"]] == [0, 0, 0]
    said = shop.desk.type("backfill", "folk", f"{day(11)}..{day(9)}")
    assert said.exit_code == 0
    assert "3 days were left out as they are: --only all runs them too" in said.stdout


def test_a_failed_day_stops_no_other_and_is_run_alone_when_failed_is_asked_for(shop: Shop):
    """A day that the contract stops is named with its run, and the command exits with 1; mended, --only failed runs it alone."""
    shop.fill(12, 8)
    twice = f"INSERT INTO backfill_test.folk SELECT customer_id, updated_at, loaded_at, 'none' {OF_DAY.format(day(10))}"
    run_sql(shop.desk.settings, twice)
    result = shop.desk.type("backfill", "folk", f"{day(11)}..{day(9)}")
    assert result.exit_code == 1
    failed = next(run for run in shop.runs() if run.status is DagsterRunStatus.FAILURE)
    assert failed.tags["dagster/partition"] == day(10)
    assert f"{day(10)} (run {failed.run_id}): " in result.stdout
    assert "1 of 3 days did not go well. The same command runs failed days again." in result.stdout
    assert f"{day(9)}: 1 delivered (1/3; 1 rows delivered, 0 days failed)" in result.stderr
    assert f"{day(10)}: 0 delivered, FAILED (2/3; 1 rows delivered, 1 days failed)" in result.stderr
    assert shop.desk.sent()["people"] == 2
    run_sql(shop.desk.settings, f"DELETE {OF_DAY.format(day(10))} AND tier = 'none'")
    mended = shop.backfill("folk", f"{day(12)}..{day(8)}", "--only", "failed")
    assert (days_run(mended), mended["is_good"]) == ([day(10)], True)


def test_days_with_too_many_rejected_rows_are_failed_and_run_again(shop: Shop):
    """Dagster calls such a day materialized, for the check came after its rows: the same command runs it again all the same, and
    no more once it is mended. What differs in the day alone is said once."""
    feed = shop.desk.settings.contract / "feeds" / "folk.yaml"
    feed.write_text(feed.read_text().replace("max_rejected_share: 1", "max_rejected_share: 0.05"))
    shop.fill(9, 8)
    for ago in (9, 8):
        bad = f"INSERT INTO backfill_test.folk SELECT 'nobody', updated_at, loaded_at, tier {OF_DAY.format(day(ago))}"
        run_sql(shop.desk.settings, bad)
    result = shop.desk.type("backfill", "folk", f"{day(9)}..{day(8)}")
    assert result.exit_code == 1
    assert result.stdout.count("rows were rejected and not sent (1 identifier_shape in customer_id)") == 1
    assert f"As on {day(8)}, so on: {day(9)}" in result.stdout
    run_sql(shop.desk.settings, "DELETE FROM backfill_test.folk WHERE customer_id = 'nobody'")
    mended = shop.backfill("folk", f"{day(9)}..{day(8)}")
    assert (days_run(mended), mended["is_good"]) == ([day(8), day(9)], True)
    assert days_run(shop.backfill("folk", f"{day(9)}..{day(8)}")) == []


def test_several_days_in_a_run_fall_back_to_one_each_where_something_is_wrong(shop: Shop):
    """Six days, three in a run: one run for the good three, and for the others one each, of which the bad one fails alone."""
    shop.fill(13, 8)
    run_sql(
        shop.desk.settings,
        f"INSERT INTO backfill_test.folk SELECT customer_id, updated_at, loaded_at, 'none' {OF_DAY.format(day(12))}",
    )
    result = shop.desk.type("backfill", "folk", f"{day(13)}..{day(8)}", "--days-per-run", "3")
    assert result.exit_code == 1
    assert "1 of 6 days did not go well." in result.stdout
    assert f"{day(12)}: 0 delivered, FAILED (5/6; 4 rows delivered, 1 days failed)" in result.stderr
    assert shop.desk.sent()["people"] == 5
    tags = [run.tags.get("dagster/partition") or run.tags["dagster/asset_partition_range_end"] for run in shop.runs()]
    assert tags == [day(8), day(11), day(11), day(12), day(13)]
    with DagsterInstance.from_config(str(shop.desk.scratch / "dagster")) as instance:
        delivered = instance.get_materialized_partitions(feed_key("folk"))
    assert delivered == {day(ago) for ago in (8, 9, 10, 11, 13)}


def test_all_feeds_of_a_day_share_its_run_people_first(shop: Shop):
    """FEED `all` runs what is missing of every feed; a feed that has the day is not run again."""
    shop.fill(9, 8)
    shop.backfill("folk", day(8))
    document = shop.backfill("all", f"{day(9)}..{day(8)}")
    feeds = [{feed["feed"]: feed["delivered"] for feed in done["feeds"]} for done in document["days"]]
    assert [list(of_day) for of_day in feeds] == [["erasures", "orders"], ["erasures", "folk", "orders"]]
    assert shop.desk.sent() == {"people": 2, "events": 4}


def test_a_plan_says_what_then_happens_and_leaves_nothing_behind(shop: Shop):
    """Rows, operations and requests of the plan are those of the runs; nothing was sent, stored or run for it; afterwards the
    plan says that nothing is left, and how long a run took."""
    shop.fill(5, 1)
    words = ("orders", f"{day(5)}..{day(1)}")
    shop.backfill("folk", f"{day(5)}..{day(1)}")
    before, kept, runs = shop.desk.sent(), shop.desk.store.list(""), len(shop.runs())
    plan = shop.backfill(*words, "--plan")
    assert (shop.desk.sent(), shop.desk.store.list(""), len(shop.runs())) == (before, kept, runs)
    (feed,) = plan["feeds"]
    assert [planned["day"] for planned in feed["days"]] == [day(ago) for ago in range(1, 6)]
    assert {(planned["rows"], planned["delivered"], planned["operations"], planned["requests"]) for planned in feed["days"]} == {
        (2, 0, 2, 1)
    }
    assert [planned["is_exact"] for planned in feed["days"]] == [True] * 3 + [False] * 2
    assert (feed["days_missing"], feed["days_delivered"], feed["campaigns"]) == (5, 0, [])
    assert (plan["runs"], plan["run_s"], plan["sending_s"]) == (5, None, 5 / plan["max_requests_per_s"])
    done = shop.backfill(*words)
    assert [day_["feeds"][0]["delivered"] for day_ in done["days"]] == [planned["operations"] for planned in feed["days"]]
    again = shop.backfill(*words, "--plan", "--only", "all")
    assert {(planned["delivered"], planned["operations"]) for planned in again["feeds"][0]["days"]} == {(2, 0)}
    assert (again["runs_measured"], again["expected_s"]) == (5, pytest.approx(5 * again["run_s"]))
    said = shop.desk.type("backfill", *words, "--plan")
    assert "0 days to run. In the range, 5 are delivered, 0 missing, 0 failed." in said.stdout


def test_a_plan_counts_what_is_new_of_days_that_were_delivered(shop: Shop):
    """A day with one late row: that row alone is an operation, estimated from the counts; the others are delivered already."""
    shop.fill(9, 8)
    shop.backfill("all", f"{day(9)}..{day(8)}")
    late = f"INSERT INTO backfill_test.orders SELECT customer_id, updated_at, loaded_at, 'late', 1, 5 {OF_DAY.format(day(8))}"
    run_sql(shop.desk.settings, late)
    (feed,) = shop.backfill("orders", f"{day(9)}..{day(8)}", "--plan", "--only", "all")["feeds"]
    assert [(planned["rows"], planned["delivered"], planned["operations"]) for planned in feed["days"]] == [(3, 2, 1), (2, 2, 0)]
    said = shop.desk.type("backfill", "orders", f"{day(9)}..{day(8)}", "--plan", "--only", "all").stdout
    assert "those of 2 days are estimated" in said
    assert "Nothing was sent." in said


def test_a_plan_knows_that_a_delivered_day_has_nothing_left_although_a_row_was_rejected(shop: Shop):
    """A row that the contract refuses is in no ledger: the view still holds what was delivered, so no operation is planned."""
    shop.fill(8, 8)
    run_sql(
        shop.desk.settings,
        f"INSERT INTO backfill_test.orders SELECT 'nobody', updated_at, loaded_at, 'odd', 1, 5 {OF_DAY.format(day(8))}",
    )
    shop.backfill("all", day(8))
    (feed,) = shop.backfill("orders", day(8), "--plan", "--only", "all")["feeds"]
    assert [(planned["rows"], planned["delivered"], planned["operations"]) for planned in feed["days"]] == [(3, 2, 0)]


def test_a_year_is_planned_by_month_without_reading_its_rows(shop: Shop):
    """365 days of a feed: one query counts them, only young days and one sample day are read, and the table is by month."""
    shop.fill(365, 1)
    result = shop.desk.type("backfill", "orders", f"{day(365)}..{day(1)}", "--plan")
    assert result.exit_code == 0
    assert "365 days to run" in result.stdout
    assert re.search(rf"│ {day(60)[:7]} │ +\d+ │ +\d+ │ +0 │ +~\d+ │ +~\d+ │", result.stdout)
    assert re.search(r"│ all +│ +365 │ +730 │ +0 │ +~\d+ │ +~365 │", result.stdout)
    readings = [line for line in result.stderr.splitlines() if "reading" in line]
    assert readings == [f"orders: reading {day(3)} to {day(1)}", f"orders: reading {day(185)} to {day(185)}"]


def test_the_trigger_guard_speaks_before_the_first_row(shop: Shop):
    """One message for the range with campaign, rows and days, before any run; the plan says it too; hold sends the old days and
    keeps the young ones, accept sends all."""
    shop.fill(6, 1)
    shop.backfill("folk", f"{day(6)}..{day(1)}")
    shop.desk.campaign(7, event_name="Order Completed")
    runs, words = len(shop.runs()), ("backfill", "orders", f"{day(6)}..{day(1)}")
    said = shop.desk.type(*words, "--plan").stdout
    edge = datetime.now(UTC) - timedelta(hours=72)
    young = [ago for ago in range(1, 7) if edge < datetime.fromisoformat(f"{day(ago)}T00:01:00+00:00")]
    assert f"Journeys at risk: {2 * len(young)} rows could start Thank [you] (campaign 7)." in said
    refused = shop.desk.type(*words)
    assert isinstance(refused.exception, DeliveryRefused)
    assert f"feed orders, {day(young[-1])} to {day(1)}, {len(young)} days: " in str(refused.exception)
    assert f"{2 * len(young)} events younger than 72 hours that could start Thank [you] (campaign 7)" in str(refused.exception)
    assert (len(shop.runs()), shop.desk.sent()["events"]) == (runs, 0)
    assert shop.backfill(*words[1:], "--on-backfill", "hold")["is_good"] is True
    assert shop.desk.sent()["events"] == 12 - 2 * len(young)
    assert shop.backfill(*words[1:], "--on-backfill", "accept", "--only", "all")["is_good"] is True
    assert shop.desk.sent()["events"] == 12


def test_people_of_any_age_are_asked_about_where_a_segment_could_start_a_campaign(shop: Shop):
    """Old days of people are refused with their number; what was delivered before and has not changed is not."""
    shop.fill(40, 38)
    shop.backfill("folk", day(38))
    shop.desk.campaign(8, trigger_segment_ids=[3])
    refused = shop.desk.type("backfill", "folk", f"{day(40)}..{day(38)}", "--only", "all")
    assert f"{day(40)} to {day(39)}, 2 days: this backfill would send 2 changes of people" in str(refused.exception)
    assert shop.desk.sent()["people"] == 1
    assert shop.backfill("folk", day(38), "--only", "all")["is_good"] is True


def test_ctrl_c_stops_after_the_days_that_are_done_and_the_same_command_goes_on(shop: Shop):
    """Exit code 130; the days that were delivered are not run again, the others are, and nobody is sent twice."""
    shop.fill(30, 8)
    words = ("backfill", "folk", f"{day(30)}..{day(8)}")
    command = [sys.executable, "-m", "rs_cio_assets.cli", *words]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env={**os.environ, **WITHOUT_S3, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs with Ctrl-C ignored, and their children inherit that; a user's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        assert process.stderr
        while f"{day(9)}: 1 delivered" not in (line := process.stderr.readline()):
            assert line, "the command ended before its second day"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Stopped. What was acknowledged is recorded; the same command goes on from there." in errors
    runs = shop.runs()
    done = [run.tags["dagster/partition"] for run in runs if run.status is DagsterRunStatus.SUCCESS]
    assert len(runs) - len(done) <= 1  # the one under way
    assert 2 <= len(done) < 23
    rest = shop.backfill(*words[1:])
    assert (days_run(rest), rest["days_left_out"]) == ([day(ago) for ago in range(8, 31)][len(done) :], len(done))
    assert shop.desk.sent()["people"] == 23
    assert sum(feed["delivered"] for done_ in rest["days"] for feed in done_["feeds"]) >= 23 - len(done) - 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("orders", "2026-11-20..2026-11-01"), "2026-11-20 is after 2026-11-01"),
        (("orders", "last week"), "no days such as"),
        (("orders", "2001-01-01..2001-01-02"), "RS_CIO_START_DATE"),
        (("order", day(1)), "did you mean orders?"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(shop: Shop, words: tuple[str, ...], said: str):
    """Days that are none, that are no partitions, a feed that is not there: one sentence, no run."""
    result = shop.desk.type("backfill", *words)
    assert result.exit_code != 0
    assert said in (str(result.exception) + result.output)
    assert shop.runs() == []
