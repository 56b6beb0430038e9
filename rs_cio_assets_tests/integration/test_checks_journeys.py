"""The journey checks through Dagster, over both stand-ins: green when all fired, red for each fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dagster import AssetCheckEvaluation, AssetCheckSeverity, TableMetadataValue

from rs_cio_assets.checks.journeys import SAMPLES, build_journey_checks
from rs_cio_assets.checks.results import hashed
from rs_cio_assets.contract import Contract, Feed, Journey
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import deliver_day
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.customerio_desk import Desk
from rs_cio_assets_tests.journey_evidence import FOLK, ORDERS, contract_with, journey_of
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.running_checks import ChecksRun, run_checks
from rs_cio_assets_tests.staging import stage

HOUR = timedelta(hours=1)
WAITS = journey_of(first_message_after_hours=1)
WINBACK = journey_of(
    name="winback",
    feed=None,
    trigger_segment="lapsed",
    sql="SELECT f.customer_id, f.updated_at AS occurred_at FROM journeys_test.folk AS f WHERE f.updated_at >= :since "
    "AND f.updated_at < :now AND f.email IS NOT NULL",
)
TABLES = (
    "DROP SCHEMA IF EXISTS journeys_test CASCADE",
    "CREATE SCHEMA journeys_test",
    "CREATE TABLE journeys_test.orders (customer_id VARCHAR, order_id VARCHAR, occurred_at TIMESTAMP, loaded_at TIMESTAMP)",
    "CREATE TABLE journeys_test.folk (customer_id VARCHAR, email VARCHAR, updated_at TIMESTAMP, loaded_at TIMESTAMP)",
)


class World:
    """A warehouse and a workspace; what is delivered arrives at the time that a test says."""

    def __init__(self, settings: Settings, scratch: Path, desk: Desk) -> None:
        self.desk = desk
        self.now = datetime.now(UTC)
        self.at: datetime | None = None  # the workspace's time; None: now
        self._settings, self._scratch = settings, scratch
        self._store = LocalStore(scratch / "store")
        self._staged: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def order(self, number: int, occurred: timedelta, delivered: timedelta, arrived: timedelta | None = None) -> None:
        """An order of so long ago was acknowledged so long ago; it arrived at Customer.io then, or at another time."""
        moment = self.now - occurred
        row = {"customer_id": f"C{number:07d}", "order_id": f"O{number}", "occurred_at": moment, "loaded_at": moment}
        self._deliver(ORDERS, row, moment, self.now - delivered, self.now - (arrived or delivered))

    def person(self, number: int, changed: timedelta, delivered: timedelta, email: str | None) -> None:
        """A person's row that changed so long ago was acknowledged so long ago."""
        moment = self.now - changed
        row = {"customer_id": f"C{number:07d}", "email": email, "updated_at": moment, "loaded_at": moment}
        self._deliver(FOLK, row, moment, self.now - delivered, self.now - delivered)

    def check(self, journey: Journey, **config: Any) -> ChecksRun:
        """The journey's check; nobody's name may be shown."""
        self.at = None
        run = run_checks(self._settings, build_journey_checks(contract_with(journey)), config or None)
        assert "C000000" not in run.shown
        return run

    def evaluation(self, journey: Journey = WAITS, **config: Any) -> AssetCheckEvaluation:
        """What the journey's check says."""
        run = self.check(journey, **config)
        assert run.failures == ()
        return run.evaluations[f"journey_{journey.name}_fires"]

    def _deliver(
        self, feed: Feed, row: dict[str, Any], moment: datetime, acknowledged_at: datetime, arrived_at: datetime
    ) -> None:
        columns, values = ", ".join(row), [v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in row.values()]
        places = ", ".join(["%s"] * len(values))
        statements = (
            (f"DELETE FROM {feed.view} WHERE customer_id = %s", [row["customer_id"]]),
            (f"INSERT INTO {feed.view} ({columns}) VALUES ({places})", values),
        )
        run_sql(self._settings, *statements)
        rows = self._staged.setdefault((feed.name, moment.date().isoformat()), [])
        rows.append(row)
        manifest = stage(self._store, feed, moment.date().isoformat(), rows, self._scratch, read_at=arrived_at)
        self.at = arrived_at
        contract: Contract = contract_with(WAITS)
        with TrackClient(self._settings.customerio) as track:
            options = {"run_id": "11111111", "scratch": self._scratch, "concurrency": 1}
            report = deliver_day(feed, contract, manifest, self._store, track, now=lambda: acknowledged_at, **options)
        assert report.delivered == 1, report


@pytest.fixture
def world(redshift: RedshiftStandIn, tmp_path: Path) -> Iterator[World]:
    """Empty tables, an empty workspace, and campaign 1, which has run for long."""
    worlds: list[World] = []

    def clock() -> float:
        at = worlds[0].at if worlds else None
        return at.timestamp() if at else time.time()

    with (
        CustomerioStandIn(tmp_path / "customerio", clock=clock, app_requests_per_s=None) as stand_in,
        Desk(stand_in.url) as desk,
    ):
        urls = {"CUSTOMERIO_TRACK_URL": stand_in.url, "CUSTOMERIO_APP_URL": stand_in.url}
        others = {"RS_CIO_STORE": str(tmp_path / "store"), "REDSHIFT_PORT": str(redshift.port)}
        settings = load_settings({**urls, **others, "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000"})
        run_sql(settings, *TABLES)
        worlds.append(World(settings, tmp_path, desk))
        worlds[0].at = worlds[0].now - 200 * HOUR
        desk.campaign(1, event_name="Order Completed", delay_seconds=3_600)
        yield worlds[0]


def numbers(evaluation: AssetCheckEvaluation) -> dict[str, Any]:
    """The numbers that are not 0 or absent, without durations, requests and the link."""
    every = {label: value.value for label, value in evaluation.metadata.items() if label not in {SAMPLES, "in Customer.io"}}
    return {label: value for label, value in every.items() if value and "(min)" not in label and "request" not in label}


def test_all_fired(world: World):
    """A delivery that is due has its message: green, with the time from the acknowledgement to it, and a link to the campaign."""
    world.order(1, 6 * HOUR, 5 * HOUR)
    world.order(2, HOUR, HOUR / 2)
    found = world.evaluation()
    assert found.passed, found.description
    assert numbers(found) == {"expected live": 2, "fired": 1, "not due yet": 1, "messages": 1}
    assert found.metadata["acknowledged to message, median (min)"].value == pytest.approx(60, abs=1)
    assert str(found.metadata["in Customer.io"].value).endswith("/campaigns/1")


@pytest.mark.parametrize(
    ("faults", "label", "said"),
    [
        ({"silent_journeys": [1]}, "did not fire", "1 Order Completed event got no message"),
        ({"doubled_journeys": [1]}, "fired twice", "1 Order Completed event got a message more than once"),
        ({"late_journeys": {"1": 7_200}}, "fired late", "1 Order Completed event got a message too late"),
    ],
)
def test_jr1_a_journey_that_does_not_fire_fires_late_or_twice(world: World, faults: dict[str, Any], label: str, said: str):
    """Each is red, says for how many and what to do, and shows whom, hashed."""
    world.desk.faults(**faults)
    world.order(1, 6 * HOUR, 5 * HOUR)
    found = world.evaluation()
    assert (found.passed, found.severity, numbers(found)[label]) == (False, AssetCheckSeverity.ERROR, 1)
    assert said in (found.description or "")
    assert "Next step: " in (found.description or "")
    table = found.metadata[SAMPLES]
    assert isinstance(table, TableMetadataValue)
    (sample,) = table.records
    assert (sample.data["person"], sample.data["what happened"]) == (hashed("C0000001"), label)


def test_jr1_history_must_not_fire(world: World):
    """What was older than 72 hours at its acknowledgement, and has a message all the same, is red."""
    world.order(1, 100 * HOUR, 20 * HOUR, arrived=50 * HOUR)
    found = world.evaluation()
    assert (found.passed, numbers(found)["history that fired"]) == (False, 1)
    assert "1 Order Completed event got a message although delivered as history" in (found.description or "")


def test_history_that_did_not_fire_is_as_it_must_be(world: World):
    """It is no fault, and no evidence either: nothing was due."""
    world.order(1, 100 * HOUR, 20 * HOUR)
    found = world.evaluation()
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert numbers(found) == {"history": 1}


@pytest.mark.parametrize(
    ("campaign", "said"),
    [
        ({"state": "stopped", "event_name": "Order Completed"}, "Campaign 1 (Campaign 1) was switched off"),
        ({"event_name": "order_completed"}, "waits for 'order_completed', which never comes"),
        (None, "Customer.io has no campaign 1"),
    ],
)
def test_sg3_and_nm1_a_campaign_that_is_off_gone_or_listens_to_another_name(
    world: World, campaign: dict[str, Any] | None, said: str
):
    """Red at once, whether anybody was expected or not; with how many went without."""
    if campaign is None:
        world.desk.http.delete("/sandbox/campaigns/1").raise_for_status()
    else:
        world.desk.campaign(1, **campaign)
    world.order(1, 6 * HOUR, 5 * HOUR)
    found = world.evaluation()
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    assert said in (found.description or "")
    assert ("1 Order Completed event got no message" in (found.description or "")) is (campaign is not None)


def test_a_quiet_journey_is_green_and_says_why(world: World):
    """The campaign runs and the warehouse expects nobody: no alarm, and no claim that somebody was reached."""
    found = world.evaluation(days_back=29)
    assert found.passed
    assert "Nobody was expected in the last 29 days" in (found.description or "")


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_segment_that_starts_a_journey(world: World, is_silent: bool):
    """Who came to be in it got one message since; who did not is missed."""
    world.desk.segment(7, {"attribute": {"field": "email", "operator": "exists"}})
    world.person(1, 100 * HOUR, 99 * HOUR, None)
    world.desk.campaign(1, trigger_segment_ids=[7])
    world.desk.faults(silent_journeys=[1] if is_silent else [])
    world.person(1, 50 * HOUR, 40 * HOUR, "ada@example.com")
    world.desk.messages()  # Customer.io looks at its segments at that time
    found = world.evaluation(WINBACK)
    assert found.passed is not is_silent, found.description
    assert numbers(found)["did not fire" if is_silent else "fired"] == 1


def test_without_an_answer_there_is_no_verdict(world: World):
    """A key without scope fails the step, in words; nothing is green."""
    world.desk.faults(app_scope_missing=True)
    run = world.check(WAITS)
    assert run.evaluations == {}
    assert "App API" in "".join(run.failures)


def test_a_query_that_does_not_give_the_key_is_named(world: World):
    """A journey's SQL without a column of the business key fails the step; a journey whose feed is off has no check."""
    run = world.check(journey_of(sql="SELECT o.customer_id, o.occurred_at FROM journeys_test.orders AS o"))
    assert run.evaluations == {}
    assert "order_id" in "".join(run.failures)
    off = contract_with(WAITS)
    feeds = tuple(feed.model_copy(update={"enabled": feed.name != "orders"}) for feed in off.feeds)
    assert build_journey_checks(off.model_copy(update={"feeds": feeds})) == []
