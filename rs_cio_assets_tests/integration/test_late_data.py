"""The sensor `late_data` against a real warehouse, workspace and Dagster instance: exactly the days that differ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.automation.stale_days import ATTEMPT_AFTER
from rs_cio_assets.settings import Settings
from rs_cio_assets_tests.late_shop import FOLK, ORDERS, LateShop, at, day_before, feeds_of, open_late_shop

DAY, OTHER, OLDEST = day_before(5), day_before(4), day_before(7)


@pytest.fixture
def empty(settings: Settings) -> Iterator[LateShop]:
    """Nobody bought anything yet."""
    with open_late_shop(settings) as opened:
        yield opened


@pytest.fixture
def shop(empty: LateShop) -> LateShop:
    """One person, an order on each of three days, all delivered."""
    empty.load(FOLK, **at(OLDEST))
    for number, day in enumerate((OLDEST, DAY, OTHER)):
        empty.order(f"O{number}", day)
    assert empty.sync_range(OLDEST, OTHER).success
    return empty


def test_a_feed_that_was_never_delivered_asks_for_nothing(empty: LateShop):
    """Its history is a backfill, which asks first what it would start; the sensor starts none by itself."""
    empty.order("O1", DAY)
    requests, reason = empty.tick()
    assert requests == []
    assert "what was delivered is what the warehouse holds" in reason


def test_in_steady_state_it_says_what_it_looked_at(shop: LateShop):
    """Nothing differs: no request, and a reason that names how much was compared."""
    requests, reason = shop.tick()
    assert requests == []
    assert reason == "2 feeds, the 35 days before today: what was delivered is what the warehouse holds"


def test_a_late_row_runs_its_day_alone_and_is_the_only_thing_sent(shop: LateShop):
    """TM6: one request for the day, of the feed that differs; the event arrives with its own time, and how late is recorded."""
    before = shop.counts()["events"]
    shop.order("O9", DAY, hour=20.5, hours_late=40)
    (request,), _ = shop.tick()
    assert (request.partition_key, feeds_of(request)) == (DAY, ["orders"])
    assert shop.run(request).success
    said = shop.said(ORDERS, DAY)
    assert (said["rows"], said["delivered"], said["unchanged"], said["arrived late (rows)"]) == (2, 1, 1, 1)
    assert (said["how late, median (h)"], said["how late, largest (h)"]) == (40, 40)
    assert shop.counts()["events"] == before + 1
    assert int(datetime.fromisoformat(f"{DAY}T20:30:00+00:00").timestamp()) in shop.times_of("C0000001")
    assert shop.asked() == {}


def test_feeds_of_one_day_go_in_one_run(shop: LateShop):
    """People before events holds for late days, too: a day that is late for both is one run."""
    shop.load(FOLK, **{**at(DAY, 3, hours_late=60), "customer_id": "C0000002"})
    shop.order("O9", DAY, customer_id="C0000002", hours_late=61)
    assert shop.asked() == {DAY: ["folk", "orders"]}
    assert shop.settle() == [DAY]
    assert shop.said(ORDERS, DAY)["held"] == 0


def test_newest_days_go_first_and_so_many_a_tick(shop: LateShop, monkeypatch: pytest.MonkeyPatch):
    """A restatement of all three days, two requests a tick: the newest two, then the third."""
    monkeypatch.setattr("rs_cio_assets.automation.late_data.REQUESTS_PER_TICK", 2)
    shop.sql("UPDATE late.orders SET total = 6, loaded_at = loaded_at + INTERVAL '1 day'")
    assert list(shop.asked()) == [OTHER, DAY]
    assert shop.settle() == [OTHER, DAY, OLDEST]


def test_race_a_a_day_that_changes_again_while_its_run_is_under_way_runs_again(shop: LateShop):
    """Asked for, changed again before the run has read it or after: while the run is open the day waits, then it is compared."""
    shop.order("O8", DAY, hours_late=30)
    (request,), _ = shop.tick()
    run = shop.start(ORDERS, dagster__partition=DAY)
    shop.order("O9", DAY, hours_late=31)
    requests, reason = shop.tick()
    assert (requests, f"a run or backfill is under way: orders {DAY}" in reason) == ([], True)
    shop.instance.report_run_canceled(run)
    assert shop.run(request).success  # reads both
    assert shop.asked() == {}


def test_race_b_a_change_that_lands_with_an_older_run_is_seen_when_it_has_landed(shop: LateShop):
    """The export was read, then the day changed, then the delivery of what was read landed: the day differs and runs again."""
    shop.order("O8", DAY, hours_late=30)
    assert shop.materialize(export_key("orders"), DAY)
    shop.order("O9", DAY, hours_late=31)
    assert shop.materialize(feed_key("orders"), DAY)
    assert shop.said(ORDERS, DAY)["rows"] == 2
    assert shop.asked() == {DAY: ["orders"]}
    assert shop.settle() == [DAY]


def test_a_day_that_goes_back_and_forth_runs_each_time(shop: LateShop):
    """A-B-A-B: what a state was delivered for once does not keep it from running when the day comes back to it."""
    ran = []
    for number in range(4):
        shop.sql(f"UPDATE late.orders SET total = {6 + number % 2} WHERE order_id = 'O1'")
        ran += shop.settle()
    assert ran == [DAY] * 4


@pytest.mark.parametrize(
    ("feeds", "tags", "is_blocked"),
    [
        ((ORDERS,), {"dagster__asset_partition_range_start": OLDEST, "dagster__asset_partition_range_end": OTHER}, True),
        ((), {"dagster__partition": DAY}, True),
        ((ORDERS,), {"dagster__asset_partition_range_start": OTHER, "dagster__asset_partition_range_end": OTHER}, False),
        ((FOLK,), {"dagster__partition": DAY}, False),
        ((ORDERS,), {"dagster__partition": OTHER}, False),
    ],
    ids=["a range over it", "the whole job", "a range beside it", "another feed", "another day"],
)
def test_days_in_flight_are_left_alone_and_no_other(shop: LateShop, feeds: tuple, tags: dict[str, str], is_blocked: bool):
    """A run of the day, single or range, whoever started it, is waited for; runs of other feeds or days are not in the way."""
    shop.order("O9", DAY, hours_late=40)
    run = shop.start(*feeds, **tags)
    assert shop.asked() == ({} if is_blocked else {DAY: ["orders"]})
    shop.instance.report_run_canceled(run)
    assert shop.asked() == {DAY: ["orders"]}


def test_an_open_backfill_is_waited_for_where_it_has_still_to_go(shop: LateShop):
    """Days that a backfill has not launched yet have no run; its own record says that they will."""
    shop.order("O9", DAY, hours_late=40)
    shop.order("O10", OTHER, hours_late=40)
    shop.backfill([DAY], feed_key("orders"), export_key("orders"))
    requests, reason = shop.tick()
    assert [request.partition_key for request in requests] == [OTHER]
    assert reason == ""


def test_three_failed_runs_then_silence_until_something_changes(shop: LateShop):
    """Attempts at one state of a day are bounded and spaced; the reason names the day; a new state starts anew."""
    shop.order("O9", DAY, hours_late=40)
    now = datetime.now(UTC)
    for wait in ATTEMPT_AFTER:
        now += wait + timedelta(minutes=1)
        with time_machine.travel(now):
            (request,), _ = shop.tick()
            shop.fail(request)
            requests, reason = shop.tick()
            assert requests == []
    assert (
        f"runs failed again and again, not tried again until something changes: read the latest of them: orders {DAY}" in reason
    )
    with time_machine.travel(now + timedelta(days=3)):
        assert shop.asked() == {}
        shop.sql("UPDATE late.orders SET total = 7 WHERE order_id = 'O9'")
        assert shop.asked() == {DAY: ["orders"]}


def test_a_failed_run_is_tried_again_after_half_an_hour(shop: LateShop):
    """Between attempts the reason says that one waits."""
    shop.order("O9", DAY, hours_late=40)
    (request,), _ = shop.tick()
    shop.fail(request)
    requests, reason = shop.tick()
    assert (requests, f"the last run failed, the next attempt waits: orders {DAY}" in reason) == ([], True)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=31)):
        assert shop.asked() == {DAY: ["orders"]}


def test_a_run_by_hand_satisfies_it(shop: LateShop):
    """Whoever delivered the day: what counts is what was delivered."""
    shop.order("O9", DAY, hours_late=40)
    assert shop.sync(DAY, ORDERS).success
    assert shop.asked() == {}


def test_a_failed_delivery_after_a_good_export_leaves_the_day_stale(shop: LateShop):
    """The export alone is no delivery."""
    shop.order("O9", DAY, hours_late=40)
    assert shop.materialize(export_key("orders"), DAY)
    assert shop.asked() == {DAY: ["orders"]}


def test_a_day_that_no_run_delivered_is_filled_in_but_yesterday_is_the_daily_syncs(empty: LateShop):
    """A scheduler that was down leaves gaps after the first delivered day; before it is history, which is a backfill's."""
    empty.load(FOLK, **at(OLDEST))
    assert empty.sync(OLDEST, FOLK).success
    for number, day in enumerate((OLDEST, DAY, OTHER, day_before(1))):
        empty.order(f"O{number}", day)
    assert empty.sync(DAY, ORDERS).success
    assert empty.asked() == {OTHER: ["orders"]}
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1)):
        assert list(empty.asked()) == [day_before(2), OTHER]


def test_people_who_moved_on_to_a_later_day_are_no_late_data(shop: LateShop):
    """A person's row stands on the day of their latest change: their old day has a row less, and nothing to deliver."""
    shop.load(FOLK, **{**at(DAY), "customer_id": "C0000002"})
    assert shop.settle() == [DAY]
    shop.sql(f"UPDATE late.folk SET updated_at = '{OTHER} 11:00', loaded_at = '{OTHER} 12:00' WHERE customer_id = 'C0000002'")
    assert shop.asked() == {OTHER: ["folk"]}


def test_held_rows_go_as_history_when_they_are_due(shop: LateShop):
    """TM7: too late for its journey, too young for history: held, and delivered without anybody asking once 72 h have passed."""
    young = day_before(2)
    assert shop.sync(young, ORDERS).success
    shop.order("O9", young, hour=23, hours_late=20)
    assert shop.settle() == [young]
    assert (shop.said(ORDERS, young)["held"], shop.asked()) == (1, {})
    held = shop.counts()["events"]
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=49)):
        (request,), _ = shop.tick()
        assert (request.partition_key, request.tags["rs_cio/why"]) == (young, "hold due")
        assert shop.run(request).success
        assert shop.asked() == {}
    assert shop.counts()["events"] == held + 1
    assert shop.said(ORDERS, young)["young enough to start a campaign"] == 0


def test_rows_that_wait_for_their_person_are_looked_at_every_day(shop: LateShop):
    """ID6: an event of somebody unknown has no date to wait for; it goes when the person was delivered."""
    shop.order("O9", DAY, customer_id="C0000002", hours_late=40)
    assert shop.settle() == [DAY]
    assert (shop.said(ORDERS, DAY)["held"], shop.asked()) == (1, {})
    shop.load(FOLK, **{**at(OTHER, hours_late=50), "customer_id": "C0000002"})
    assert shop.settle() == [OTHER]
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=25)):
        assert shop.settle() == [DAY]
    assert shop.said(ORDERS, DAY)["held"] == 0


def test_a_sensor_that_was_off_for_a_week_finds_everything_of_that_week(shop: LateShop):
    """Level-triggered: it needs to have seen nothing; late rows on three days, found at once after a week."""
    for number, day in enumerate((OLDEST, DAY, OTHER)):
        shop.order(f"L{number}", day, hours_late=90)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=7)):
        assert list(shop.asked()) == [OTHER, DAY, OLDEST]


def test_a_warehouse_clock_that_is_ahead_changes_nothing(shop: LateShop):
    """Load times in the future are compared with load times, never with our clock: one run, then rest."""
    ahead = datetime.now(UTC) + timedelta(hours=5)
    shop.order("O9", DAY, loaded_at=ahead)
    assert shop.settle() == [DAY]
    assert shop.said(ORDERS, DAY)["arrived late (rows)"] == 1
    shop.order("O10", DAY, loaded_at=ahead + timedelta(minutes=1))
    assert shop.settle() == [DAY]
    assert shop.said(ORDERS, DAY)["arrived late (rows)"] == 1


def test_a_view_that_cannot_be_read_stops_no_other(shop: LateShop):
    """The feed is named with its reason; the others go on."""
    shop.order("O9", DAY, hours_late=40)
    shop.sql("ALTER TABLE late.folk RENAME COLUMN tier TO level")
    assert shop.asked() == {DAY: ["orders"]}
    shop.sql("ALTER TABLE late.orders RENAME COLUMN total TO sum")
    with pytest.raises(Exception, match="folk could not be read"):
        shop.tick()


def test_a_column_that_the_contract_gains_is_no_late_data(settings: Settings):
    """A checksum over other columns says nothing: rows and newest load time decide until the day was delivered anew."""
    with open_late_shop(settings) as shop:
        shop.order("O1", DAY, customer_id="C0000001")
        assert shop.sync(DAY).success
        shop.redefine(without="total")
        assert shop.asked() == {}
        shop.order("O2", DAY, hours_late=40)
        assert shop.asked() == {DAY: ["orders"]}


def test_a_day_beyond_the_window_is_reported_and_not_run(settings: Settings):
    """Nobody runs it by itself, nobody misses it: red for new rows, a warning for restated events, green after a backfill."""
    with open_late_shop(settings.model_copy(update={"lateness_days": 3})) as shop:
        shop.load(FOLK, **at(OLDEST))
        shop.order("O1", DAY)
        assert shop.sync(OLDEST, FOLK).success
        assert shop.sync(DAY, ORDERS).success
        assert shop.verdicts("older_days_are_as_delivered") == {"folk": "PASSED", "orders": "PASSED"}
        shop.sql(f"UPDATE late.orders SET total = 6, loaded_at = '{day_before(0)} 00:00'")
        assert shop.verdicts("older_days_are_as_delivered")["orders"] == "WARN"
        shop.order("O9", DAY, loaded_at=datetime.now(UTC))
        assert shop.asked() == {}
        assert shop.verdicts("older_days_are_as_delivered")["orders"] == "ERROR"
        assert f"rs-cio backfill orders {DAY}..{DAY}" in shop.told["orders"]
        assert shop.sync(DAY, ORDERS).success
        assert shop.verdicts("older_days_are_as_delivered") == {"folk": "PASSED", "orders": "PASSED"}
