"""Merges, deletions and suppressions of the shipped contract, turned on, through Dagster into the Customer.io stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rs_cio_assets.assets import feed_key
from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop.tables import open_tables
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.sync import JobOutcome, failures
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.pipeline import Pipeline, delivered, open_pipeline, run_sql

GUEST, CUSTOMER, OTHER = "G0000001", "C0000002", "C0000003"
KINDS = ("merges", "deletions", "suppressions")
NOON_TODAY = datetime.now(UTC).replace(tzinfo=None, hour=12, minute=0, second=0, microsecond=0)
DAYS = [(NOON_TODAY - timedelta(days=9 - n)).date().isoformat() for n in range(5)]


class Shop:
    """The shop's tables, filled by hand. Everything happens on day *day* of DAYS at noon plus *minutes*, loaded an hour later."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        run_sql(settings, "DROP SCHEMA IF EXISTS shop CASCADE")
        with open_tables(settings.redshift) as tables:
            tables.run("INSERT INTO shop.products VALUES ('SUN-1', 'Sun', 'sunscreen', 10, FALSE)")
            tables.run("COMMIT")

    def person(self, who: str, day: int) -> None:
        """Somebody new, a guest when their number begins with G."""
        at = moment(day)
        self._add("customers", who, f"{who}@example.com", "Ada", None, "DE", who[0] == "G", at, at, at + timedelta(hours=1))

    def order(self, number: int, who: str, day: int) -> None:
        """A paid order."""
        at, order_id = moment(day, 30), f"O{number}"
        loaded_at = at + timedelta(hours=1)
        self._add("orders", order_id, who, None, at, at, None, "EUR", None, 0, 10, False, loaded_at)
        self._add("order_lines", order_id, 1, "SUN-1", 1, 10)

    def link(self, guest: str, customer: str, day: int) -> None:
        """The guest made an account."""
        self._add("account_links", guest, customer, moment(day, 1), moment(day, 61))

    def ask(self, who: str, request: str, day: int) -> None:
        """A request about somebody's data."""
        self._add("privacy_requests", who, request, moment(day, 60), moment(day, 120))

    def forget_requests(self) -> None:
        """The table is empty, as after a failed load."""
        run_sql(self.settings, "DELETE FROM shop.privacy_requests")

    def _add(self, table: str, *values: Any) -> None:
        marks = ", ".join(["%s"] * len(values))
        run_sql(self.settings, (f"INSERT INTO shop.{table} VALUES ({marks})", values))


def moment(day: int, minutes: int = 0) -> datetime:
    """Noon of day *day*, and some minutes."""
    return NOON_TODAY - timedelta(days=9 - day) + timedelta(minutes=minutes)


def everything_on(**changes: Any) -> Contract:
    """The shipped feeds of these kinds, people and orders. One of three people is no large share here."""
    shipped = load_contract()
    small = {"max_people_share": 1.0, "max_rejected_share": 1.0}
    feeds = [shipped.feed(name).model_copy(update={"enabled": True, **small, **changes}) for name in KINDS]
    others = [shipped.feed(name).model_copy(update=small) for name in ("people", "order_completed")]
    return Contract(workspace=shipped.workspace, feeds=(*feeds, *others))


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedshiftStandIn]:
    """A warehouse of this file's own: the views read the schema `shop`."""
    with RedshiftStandIn(tmp_path_factory.mktemp("redshift")) as stand_in:
        yield stand_in


@pytest.fixture
def given(warehouse: RedshiftStandIn, customerio: CustomerioStandIn, tmp_path: Path) -> Settings:
    """Settings of an empty workspace and store."""
    return settings_of(warehouse, customerio, tmp_path / "store")


@pytest.fixture
def shop(given: Settings) -> Shop:
    """A guest and two customers who came on the first day and ordered once each."""
    shop = Shop(given)
    for number, who in enumerate((GUEST, CUSTOMER, OTHER), 1):
        shop.person(who, 0)
        shop.order(number, who, 0)
    return shop


@pytest.fixture
def pipeline(shop: Shop, given: Settings) -> Iterator[Pipeline]:
    """Everything on, the views made."""
    with open_pipeline(given, everything_on()) as made:
        assert made.create_views().is_success
        yield made


@pytest.fixture
def cio(customerio: CustomerioStandIn) -> Iterator[CustomerioHttp]:
    """What Customer.io holds."""
    with CustomerioHttp(customerio.url) as http:
        yield http


def settings_of(warehouse: RedshiftStandIn, customerio: CustomerioStandIn, store: Path) -> Settings:
    """Settings of two stand-ins and a store."""
    return load_settings(
        {
            "REDSHIFT_PORT": str(warehouse.port),
            "CUSTOMERIO_TRACK_URL": customerio.url,
            "CUSTOMERIO_APP_URL": customerio.url,
            "RS_CIO_STORE": str(store),
        }
    )


def good(outcome: JobOutcome) -> dict[str, dict[str, Any]]:
    """What each feed delivered in a run that must succeed."""
    assert outcome.is_success, outcome.failures
    return delivered(outcome)


def run_feed(pipeline: Pipeline, feed: str, day: int, **config: Any) -> list[str]:
    """Materialize one feed's day alone, with run config; the failures in words."""
    result = pipeline.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=pipeline.instance,
        asset_selection=[feed_key(feed)],
        partition_key=DAYS[day],
        run_config={"ops": {f"customerio__feeds__{feed}": {"config": config}}},
        raise_on_error=False,
    )
    return list(failures(result))


def reasons(settings: Settings, feed: str, day: int) -> list[str]:
    """Why rows of a feed's day were rejected."""
    return pq.read_table(Path(settings.store) / f"rejections/{feed}/{DAYS[day]}.parquet")["reason"].to_pylist()


def orders_of(cio: CustomerioHttp, who: str) -> list[str]:
    """The orders in somebody's history."""
    return sorted(event["data"]["order_id"] for event in cio.activities(who, "event"))


def test_what_cannot_be_undone_goes_before_people_and_they_before_events():
    """The order of a day is part of the graph: merges, deletions, suppressions, people, events."""
    graph = build_definitions(load_settings({}), everything_on()).resolve_asset_graph()
    order = [*KINDS, "people", "order_completed"]
    for position, name in enumerate(order):
        feeds = {key for key in graph.get(feed_key(name)).parent_keys if key.path[0] == "customerio"}
        assert feeds == {feed_key(earlier) for earlier in order[:position]}


@pytest.mark.parametrize("first_day", [0, 1], ids=["an account from before", "an account made that day"])
def test_a_guest_who_becomes_a_customer_is_one_profile(shop: Shop, pipeline: Pipeline, cio: CustomerioHttp, first_day: int):
    """ID5: the guest's history moves to the customer, and no later or repeated day makes a second profile."""
    customer = CUSTOMER
    good(pipeline.sync_one(DAYS[0]))
    if first_day:
        customer = "C0000009"
        shop.person(customer, first_day)
    shop.link(GUEST, customer, 1)
    shop.order(7, customer, 1)
    assert good(pipeline.sync_one(DAYS[1]))["merges"]["delivered"] == 1
    shop.order(8, GUEST, 2)  # checked out as a guest once more
    for outcome in pipeline.sync(DAYS[:3]):
        good(outcome)
    assert cio.attributes(GUEST) is None
    assert orders_of(cio, customer) == sorted({"O1", "O7", "O8"} | ({"O2"} if customer == CUSTOMER else set()))
    assert (cio.attributes(customer) or {})["orders_count"] == ("4" if customer == CUSTOMER else "3")
    assert len(cio.activities(customer, "profile_merge")) == 1
    assert pipeline.counts()["people"] == (2 if customer == CUSTOMER else 3)


def test_a_deleted_person_stays_gone(shop: Shop, given: Settings, pipeline: Pipeline, cio: CustomerioHttp):
    """SP3: an older day run again, sent again whole, or with a late order makes no new profile; the rows say person_deleted."""
    good(pipeline.sync_one(DAYS[0]))
    shop.ask(OTHER, "delete", 1)
    assert good(pipeline.sync_one(DAYS[1]))["deletions"]["delivered"] == 1
    assert cio.attributes(OTHER) is None
    shop.order(7, OTHER, 0)
    good(pipeline.sync_one(DAYS[0]))
    assert reasons(given, "order_completed", 0) == ["person_deleted"]
    for feed in ("people", "order_completed"):
        assert run_feed(pipeline, feed, 0, resend="all") == []
    assert reasons(given, "people", 0) == ["person_deleted"]
    assert cio.attributes(OTHER) is None
    assert pipeline.counts()["people"] == 2


def test_a_suppressed_person_is_ignored_until_unsuppressed(shop: Shop, pipeline: Pipeline, cio: CustomerioHttp):
    """What is sent for them meanwhile has no effect; unsuppress brings the profile back that day, without the history."""
    good(pipeline.sync_one(DAYS[0]))
    shop.ask(OTHER, "suppress", 1)
    good(pipeline.sync_one(DAYS[1]))
    shop.order(7, OTHER, 2)
    good(pipeline.sync_one(DAYS[2]))
    assert cio.attributes(OTHER) is None
    shop.ask(OTHER, "unsuppress", 3)
    good(pipeline.sync_one(DAYS[3]))
    assert (cio.attributes(OTHER) or {})["email"] == f"{OTHER}@example.com".lower()
    shop.order(8, OTHER, 4)
    good(pipeline.sync_one(DAYS[4]))
    assert orders_of(cio, OTHER) == ["O8"]


def test_more_rows_than_the_ceiling_sends_none_and_says_what_to_do(shop: Shop, given: Settings, cio: CustomerioHttp):
    """The brake: one deletion above max_rows_per_day and nobody is deleted, until the run's own word lets all of them go."""
    for who in (GUEST, CUSTOMER, OTHER):
        shop.ask(who, "delete", 1)
    with open_pipeline(given, everything_on(max_rows_per_day=2)) as pipeline:
        assert pipeline.create_views().is_success
        good(pipeline.sync_one(DAYS[0]))
        stopped = pipeline.sync_one(DAYS[1])
        assert not stopped.is_success
        (text,) = (failure for failure in stopped.failures if "max_rows_per_day" in failure)
        assert "3 rows of the day would be sent, max_rows_per_day is 2" in text
        assert "none was sent" in text
        assert "has_no_brake: true" in text
        assert pipeline.counts()["people"] == 3
        assert run_feed(pipeline, "deletions", 1, has_no_brake=True) == []
        assert pipeline.counts()["people"] == 0
    assert cio.attributes(OTHER) is None


def test_an_emptied_view_stops_its_feed(shop: Shop, pipeline: Pipeline):
    """SZ3: requests only ever add up; a view that lost them is broken, and its day waits until somebody says otherwise."""
    good(pipeline.sync_one(DAYS[0]))
    for who in (CUSTOMER, OTHER):
        shop.ask(who, "delete", 1)
    good(pipeline.sync_one(DAYS[1]))
    shop.forget_requests()
    stopped = pipeline.sync_one(DAYS[2])
    (text,) = (failure for failure in stopped.failures if "cio_export.deletions" in failure)
    assert "holds 0 rows and held 2 before" in text
    assert "has_no_brake: true" in text
    assert run_feed(pipeline, "deletions", 2, has_no_brake=True) == []
    good(pipeline.sync_one(DAYS[2]))


def test_any_order_of_days_ends_in_the_same_state(
    shop: Shop, pipeline: Pipeline, warehouse: RedshiftStandIn, cio: CustomerioHttp, tmp_path: Path
):
    """LG3: as it happened day by day, all at once newest first, or oldest first: the same profiles with the same histories."""
    steps: list[Callable[[], object]] = [
        lambda: None,
        lambda: (shop.person("C0000004", 1), shop.order(7, "C0000004", 1), shop.ask(OTHER, "suppress", 1)),
        lambda: (shop.link(GUEST, CUSTOMER, 2), shop.order(8, CUSTOMER, 2)),
        lambda: (shop.ask("C0000004", "delete", 3), shop.order(9, GUEST, 3)),
        lambda: shop.order(10, CUSTOMER, 4),
    ]
    for day, happen in zip(DAYS, steps, strict=True):
        happen()
        good(pipeline.sync_one(day))
    expected = state(cio)
    assert expected[CUSTOMER][1] == ["O1", "O10", "O2", "O8", "O9"]
    assert {who for who, (attributes, _) in expected.items() if attributes} == {CUSTOMER}
    for name, days in (("newest", reversed(DAYS)), ("oldest", DAYS)):
        with CustomerioStandIn(tmp_path / name, app_requests_per_s=None) as other, CustomerioHttp(other.url) as http:
            with open_pipeline(settings_of(warehouse, other, tmp_path / f"{name}-store"), everything_on()) as fresh:
                for day in days:
                    good(fresh.sync_one(day))
            assert state(http) == expected, name


def state(cio: CustomerioHttp) -> dict[str, tuple[dict[str, str] | None, list[str]]]:
    """Attributes (but for Customer.io's own number) and orders of everybody who was ever named."""
    people: dict[str, tuple[dict[str, str] | None, list[str]]] = {}
    for who in (GUEST, CUSTOMER, OTHER, "C0000004"):
        attributes = cio.attributes(who)
        kept = attributes and {name: value for name, value in attributes.items() if name != "cio_id"}
        people[who] = (kept, orders_of(cio, who) if attributes else [])
    return people
