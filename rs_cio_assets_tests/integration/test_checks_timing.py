"""Latency and promises: measured from staged rows and the ledger, by everyday delivery alone; and through Dagster (TM9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dagster import AssetCheckSeverity, TableMetadataValue

from rs_cio_assets.checks.latency import FROM_WAREHOUSE, TO_WAREHOUSE, WHOLE, Hour, Latency, Leg, measure_latency
from rs_cio_assets.checks.timing import BY_HOUR, build_timing_checks, in_words, latency_result, promise_result
from rs_cio_assets.contract import Feed
from rs_cio_assets.delivery.ledger import SCHEMA, first_delivery_day, ledger_prefix
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.journey_evidence import FOLK, LAPSED, ORDERS, contract_with, journey_of, note, order_key, row_key
from rs_cio_assets_tests.running_checks import run_checks
from rs_cio_assets_tests.staging import stage

NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
NOON = NOW.replace(hour=12) - timedelta(days=2)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CART = journey_of(name="cart_recovery", starts_within_hours=2)
CONTRACT = contract_with(CART)


class Pipe:
    """Orders and people in a store: when each happened, was loaded, and was acknowledged."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder / "store")
        self.folder = folder
        self._rows: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def order(self, number: int, at: datetime, loaded: timedelta, *acknowledged: timedelta) -> None:
        """An order; loaded and acknowledged so long after it happened."""
        row = {"customer_id": "ada", "order_id": f"O{number}", "occurred_at": at, "loaded_at": at + loaded}
        self._stage(ORDERS, at, row)
        for after in acknowledged:
            note(self.store, ORDERS, order_key(f"O{number}"), at, at + after, self.folder)

    def person(self, at: datetime, loaded: timedelta) -> None:
        """A person's row."""
        self._stage(FOLK, at, {"customer_id": "ada", "updated_at": at, "loaded_at": at + loaded})

    def acknowledge_person(self, content: str, at: datetime, *after: timedelta) -> None:
        """The person was acknowledged with this content."""
        rows = [
            {"row_key": row_key("folk", "ada"), "content_hash": content, "occurred_at": at, "acknowledged_at": at + later}
            for later in after
        ]
        path = self.folder / "notes.parquet"
        pq.write_table(pa.Table.from_pylist([{"source_hash": 1, "run_id": "test", **row} for row in rows], SCHEMA), path)
        self.store.put_file(f"{ledger_prefix('folk', at.date().isoformat())}20200101T000000000000-{content}-0000.parquet", path)

    def launched(self, feed: Feed = ORDERS, at: datetime = NOON - 20 * DAY) -> None:
        """Something was delivered long ago."""
        note(self.store, feed, "0" * 32, at, at, self.folder)

    def measured(self, feed: Feed = ORDERS, days_back: int = 7) -> Latency:
        """What is measured now."""
        return measure_latency(feed, CONTRACT, self.store, NOW, days_back)

    def _stage(self, feed: Feed, at: datetime, row: dict[str, Any]) -> None:
        day = at.date().isoformat()
        rows = self._rows.setdefault((feed.name, day), [])
        rows.append(row)
        stage(self.store, feed, day, rows, self.folder)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    """Nothing staged, nothing delivered."""
    return Pipe(tmp_path)


def test_each_leg_is_measured_to_the_first_acknowledgement(pipe: Pipe):
    """Median, p95 and maximum in minutes; a later acknowledgement of the same row changes nothing."""
    pipe.launched()
    for number in range(1, 4):
        pipe.order(number, NOON, number * 10 * MINUTE, number * 10 * MINUTE + HOUR, 30 * HOUR)
    found = pipe.measured()
    assert (found.rows, found.staged, found.launch, found.history) == (3, 3, 0, 0)
    legs = {name: (leg.median, round(leg.p95, 6), leg.maximum) for name, leg in found.legs.items()}
    assert legs == {TO_WAREHOUSE: (20, 29, 30), FROM_WAREHOUSE: (60, 60, 60), WHOLE: (80, 89, 90)}
    (hour,) = found.hours
    assert (hour.hour, hour.rows, hour.p95[WHOLE]) == (12, 3, pytest.approx(89))


def test_hours_are_those_in_which_it_happened(pipe: Pipe):
    """In UTC, each with its own p95."""
    pipe.launched()
    pipe.order(1, NOON.replace(hour=0, minute=0), HOUR, 2 * HOUR)
    pipe.order(2, NOON.replace(hour=23, minute=59), HOUR, 4 * HOUR)
    assert [(h.hour, h.rows, h.p95[WHOLE]) for h in pipe.measured().hours] == [(0, 1, 120), (23, 1, 240)]


def test_history_and_the_backfill_of_the_launch_say_nothing_about_the_pipe(pipe: Pipe):
    """They are counted and left out: 72 hours old at the acknowledgement, or of a day that was over before the first one."""
    launch = (NOON - DAY).replace(hour=0, minute=0)
    note(pipe.store, ORDERS, "0" * 32, launch - 40 * DAY, launch, pipe.folder)
    pipe.order(1, launch - MINUTE, HOUR, 3 * HOUR)  # the evening before
    pipe.order(2, launch, HOUR, 4 * HOUR)
    pipe.order(3, NOON, HOUR, 72 * HOUR - MINUTE)
    pipe.order(4, NOON, HOUR, 72 * HOUR)
    found = pipe.measured()
    assert (found.rows, found.launch, found.history) == (2, 1, 1)
    assert found.legs[WHOLE].maximum == 72 * 60 - 1


@pytest.mark.parametrize("what", ["not delivered", "loaded anew", "amended", "too old", "expired"])
def test_what_cannot_be_measured_is_not(pipe: Pipe, what: str):
    """Not acknowledged, loaded anew since, with another time than was sent, before the span, or no longer staged."""
    pipe.launched()
    at = NOON - 8 * DAY if what == "too old" else NOON
    pipe.order(1, at, 5 * HOUR if what == "loaded anew" else HOUR, *([] if what in {"not delivered", "amended"} else [2 * HOUR]))
    if what == "amended":
        note(pipe.store, ORDERS, order_key("O1"), at - MINUTE, at + 2 * HOUR, pipe.folder)
    if what == "expired":
        pipe.store.delete([key for key in pipe.store.list("staged/") if key.endswith(".parquet")])
    found = pipe.measured()
    assert (found.rows, found.legs, found.hours) == (0, {}, ())
    assert found.staged == (0 if what == "too old" else 1)


def test_of_people_the_latest_content_is_measured(pipe: Pipe):
    """By its own first acknowledgement: what was sent before it was another state of the person."""
    pipe.launched(FOLK)
    pipe.person(NOON, HOUR)
    pipe.acknowledge_person("old", NOON, 2 * HOUR)
    pipe.acknowledge_person("new", NOON, 5 * HOUR, 9 * HOUR)
    assert pipe.measured(FOLK).legs[WHOLE].p95 == 300


def test_without_a_ledger_nothing_is_measured(pipe: Pipe):
    """No manifest, no ledger, an empty day: no rows, and no error."""
    assert pipe.measured() == Latency()
    stage(pipe.store, ORDERS, NOON.date().isoformat(), [], pipe.folder)
    assert pipe.measured() == Latency()


def test_a_quiet_feed_is_green_and_says_why(pipe: Pipe):
    """It has been delivered before, its days were exported, and nothing happened in them; without an export nobody knows."""
    pipe.launched()
    assert pipe.measured() == Latency()
    stage(pipe.store, ORDERS, NOON.date().isoformat(), [], pipe.folder)
    found = pipe.measured(days_back=29)
    assert found == Latency(is_quiet=True)
    for result in (latency_result(ORDERS, found, 29), promise_result(CART, ORDERS, found, 29)):
        assert (result.passed, "Nothing happened in the last 29 days" in (result.description or "")) == (True, True)


def test_the_first_delivery_is_told_by_the_names_of_segments(pipe: Pipe):
    """The day of the oldest one, whatever day its rows are of; of this feed alone."""
    assert first_delivery_day(pipe.store, "orders") is None
    note(pipe.store, ORDERS, "0" * 32, NOON - 90 * DAY, NOON - DAY, pipe.folder)
    note(pipe.store, ORDERS, "1" * 32, NOON - 10 * DAY, NOON - 2 * DAY, pipe.folder)
    note(pipe.store, FOLK, "1" * 32, NOON - 10 * DAY, NOON - 9 * DAY, pipe.folder)
    assert first_delivery_day(pipe.store, "orders") == (NOON - 2 * DAY).date()


def measured(to_warehouse: float, from_warehouse: float) -> Latency:
    """Rows whose legs take so many minutes each."""
    p95 = {TO_WAREHOUSE: to_warehouse, FROM_WAREHOUSE: from_warehouse, WHOLE: to_warehouse + from_warehouse}
    legs = {name: Leg(minutes / 2, minutes, 2 * minutes) for name, minutes in p95.items()}
    hours = (Hour(3, 10, p95), Hour(4, 10, {name: minutes / 4 for name, minutes in p95.items()}))
    return Latency(20, 20, 1, 4, legs, hours)


@pytest.mark.parametrize(("minutes", "is_kept"), [(119, True), (120, True), (120.5, False)])
def test_a_promise_is_kept_up_to_its_last_minute(minutes: float, is_kept: bool):
    """At p95 of the whole way."""
    assert promise_result(CART, ORDERS, measured(minutes, 0), 7).passed is is_kept


def test_a_broken_promise_is_told_to_a_marketer():
    """Which journey, what it promised, how long it takes, where the time goes, what to do."""
    result = promise_result(CART, ORDERS, measured(40, 300), 7)
    assert (result.passed, result.severity) == (False, AssetCheckSeverity.ERROR)
    assert result.description == (
        "cart recovery promises 2 h; Order Completed reaches Customer.io after 5 h 40 min at p95. Next step: use real-time "
        "tracking to start it and this feed to suppress it; or run the sync more often (most of the time passes after the "
        "warehouse has the row); or promise less (starts_within_hours in journeys/cart_recovery.yaml)."
    )
    assert "load the warehouse more often" in (promise_result(CART, ORDERS, measured(300, 40), 7).description or "")


def test_the_plot_has_a_bar_for_each_hour():
    """As long as the hour's p95, the longest the widest, in two shades for the two legs."""
    table = latency_result(ORDERS, measured(10, 30), 7).metadata[BY_HOUR]
    assert isinstance(table, TableMetadataValue)
    bars = [(record.data["hour"], record.data["▒ to the warehouse, █ from there"]) for record in table.records]
    assert bars == [("03:00", "▒" * 5 + "█" * 15), ("04:00", "▒" + "█" * 4)]
    assert latency_result(ORDERS, measured(0, 0), 7).passed


def test_nothing_measured_is_not_ready_with_the_same_numbers():
    """Neither green nor red, and it says what was left out."""
    empty = Latency(staged=9, history=3, launch=6)
    for result in (latency_result(ORDERS, empty, 7), promise_result(CART, FOLK, empty, 7)):
        assert (result.passed, result.severity) == (False, AssetCheckSeverity.WARN)
        assert "9 rows were exported, 6 delivered by the first backfill, 3 as history" in (result.description or "")
    labels = [label for label in latency_result(ORDERS, measured(1, 1), 7).metadata if label != BY_HOUR]
    assert list(latency_result(ORDERS, empty, 7).metadata) == labels


@pytest.mark.parametrize(
    ("minutes", "words"),
    [(-1, "0 min"), (0, "0 min"), (0.1, "1 min"), (59.5, "1 h"), (120, "2 h"), (340, "5 h 40 min"), (4_510, "75 h 10 min")],
)
def test_durations_are_said_as_people_say_them(minutes: float, words: str):
    """In hours and whole minutes, rounded up."""
    assert in_words(minutes) == words


def test_tm9_a_promise_shorter_than_the_way_is_red_in_dagster(pipe: Pipe):
    """Through the checks as they are built: the latency is measured, one journey keeps its promise and another does not."""
    patient = journey_of(name="thanks", campaign_id=2)
    winback = journey_of(name="winback", campaign_id=3, feed=None, trigger_segment=LAPSED.name)
    contract = CONTRACT.model_copy(update={"journeys": (CART, patient, winback)})
    pipe.launched()
    pipe.order(1, NOON, 40 * MINUTE, 340 * MINUTE)
    settings = load_settings({"RS_CIO_STORE": str(pipe.folder / "store")})
    runs = [run_checks(settings, [check], {"days_back": 3}) for check in build_timing_checks(contract)]
    assert [run.failures for run in runs] == [()] * 5
    found = {(e.asset_key.path[-1], e.check_name): e for run in runs for e in run.evaluations.values()}
    assert {key: (e.passed, e.severity.value) for key, e in found.items()} == {
        ("orders", "latency"): (True, "ERROR"),
        ("folk", "latency"): (False, "WARN"),
        ("orders", "journey_cart_recovery_keeps_its_promise"): (False, "ERROR"),
        ("orders", "journey_thanks_keeps_its_promise"): (True, "ERROR"),
        ("folk", "journey_winback_keeps_its_promise"): (False, "WARN"),
    }
    assert "cart recovery promises 2 h" in (found["orders", "journey_cart_recovery_keeps_its_promise"].description or "")
    assert found["orders", "latency"].metadata["occurred to delivered, p95 (min)"].value == 340


def test_a_promise_of_a_feed_that_is_off_has_no_check():
    """Nothing is delivered there, so nothing can be late."""
    feeds = tuple(feed.model_copy(update={"enabled": feed.name != "orders"}) for feed in CONTRACT.feeds)
    checks = build_timing_checks(CONTRACT.model_copy(update={"feeds": feeds}))
    assert [key.to_user_string() for check in checks for key in check.check_keys] == ["customerio/feeds/folk:latency"]
