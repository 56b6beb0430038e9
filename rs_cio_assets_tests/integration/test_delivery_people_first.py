"""Events of people whom nobody has delivered: never an accidental profile, never a lost event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import Feed
from rs_cio_assets.customerio import Campaign
from rs_cio_assets.delivery import DeliveryOptions, Neighbours, preview_day
from rs_cio_assets.errors import CustomerioUnavailable, DeliveryRefused
from rs_cio_assets_tests.integration.test_delivery_guards import AT, BRAKED, DAY, YOUNG, Days, order, person
from rs_cio_assets_tests.staging import NOW, feed_of, stage

COLUMNS = {"order_id": {"type": "string"}, "total": {"type": "integer", "minimum": 0}}
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="cio_export.folk")
GUESTS = feed_of("people", {"tier": {"type": "string"}}, name="guests", view="cio_export.guests")
DELETIONS = feed_of("deletion", {}, name="deletions", view="cio_export.deletions", **BRAKED)
OF_ANY_DAY = DeliveryOptions(is_of_any_day=True)
LAST_WEEK = "2026-11-13"


def orders_feed(unknown_person: str) -> Feed:
    """Orders that treat unknown people so."""
    return feed_of("event", COLUMNS, name="orders", view="cio_export.orders", unknown_person=unknown_person)


ORDERS = orders_feed("deliver")


def of(number: int, order_number: int | None = None, **changes: Any) -> dict[str, Any]:
    """An order of the person *number*."""
    row = order(number if order_number is None else order_number, customer_id=f"C{number:07d}", total=1)
    return {**row, **changes}


class PeopleView:
    """Delivers people of a view as the asset does, and notes who was asked for."""

    def __init__(self, days: Days, *in_view: int, feed: Feed = FOLK) -> None:
        self.asked: list[list[str]] = []
        self._days, self._feed, self._rows = days, feed, [person(n, updated_at=AT - timedelta(days=7)) for n in in_view]

    def deliver(self, identifiers: pa.ChunkedArray) -> None:
        """Neighbours.deliver_people."""
        self.asked.append(sorted(identifiers.to_pylist()))
        rows = [row for row in self._rows if row["customer_id"] in self.asked[-1]]
        self._days.run(self._feed, rows, options=OF_ANY_DAY)


def nobody(_: pa.ChunkedArray) -> None:
    """Fails the test: nobody may be asked for."""
    raise AssertionError("people were asked for")


def test_unknown_people_go_before_their_events_and_those_who_cannot_are_rejected(tmp_path: Path):
    """ID6: they are asked for once, each once; who is delivered then gets the events, the others' rows are rejected."""
    days = Days(tmp_path, ORDERS, FOLK)
    days.run(FOLK, [person(1, updated_at=AT - timedelta(days=7))], day=LAST_WEEK)
    view = PeopleView(days, 2)
    report = days.run(ORDERS, [of(1), of(2), of(2, 22), of(3)], deliver_people=view.deliver)
    assert view.asked == [["C0000002", "C0000003"]]
    assert (report.delivered, report.people_first, report.rejected_by_reason) == (3, 1, {"person_unknown": 1})
    assert {operation["identifiers"]["id"] for operation in days.sent(ORDERS)} == {"C0000001", "C0000002"}
    assert [operation["identifiers"]["id"] for operation in days.sent(FOLK)] == ["C0000002"]


def test_no_event_goes_before_its_person_is_acknowledged(tmp_path: Path):
    """ID6: when the people cannot be delivered, the day fails with that error, and no event was sent."""

    def fails(_: pa.ChunkedArray) -> None:
        raise CustomerioUnavailable("no answer")

    days = Days(tmp_path, ORDERS, FOLK)
    with pytest.raises(CustomerioUnavailable):
        days.run(ORDERS, [of(1)], deliver_people=fails)
    assert days.is_untouched(ORDERS)


def test_a_person_refused_by_customerio_keeps_their_events_out(tmp_path: Path):
    """ID6: only an acknowledged person is known; the rejected event goes by itself once the person is delivered."""
    days = Days(tmp_path, ORDERS, FOLK)
    refusal = httpx.Response(207, json={"errors": [{"batch_index": 0, "reason": "invalid", "message": "no"}]})
    report = days.run(
        ORDERS,
        [of(1)],
        deliver_people=lambda _: days.run(FOLK, [person(1)], options=OF_ANY_DAY, answer=lambda _: refusal) and None,
    )
    assert (report.delivered, report.people_first, report.rejected_by_reason) == (0, 0, {"person_unknown": 1})
    days.run(FOLK, [person(1)])
    assert days.run(ORDERS, [of(1)], deliver_people=nobody).delivered == 1
    assert days.store.list("rejections/orders/") == []


def test_an_unknown_person_holds_the_event_until_they_are_delivered(tmp_path: Path):
    """ID6: held, however old the event is, and sent by the first run after the person's delivery."""
    orders = orders_feed("hold")
    days = Days(tmp_path, orders, FOLK)
    for _ in range(2):
        report = days.run(orders, [of(1), of(2)], deliver_people=nobody)
        assert (report.held, report.held_until, report.requests, report.rejected) == (2, None, 0, 0)
    days.run(FOLK, [person(1)])
    report = days.run(orders, [of(1), of(2)], deliver_people=nobody)
    assert (report.delivered, report.held) == (1, 1)


def test_a_wait_for_a_person_has_no_date(tmp_path: Path):
    """ID6: nobody knows when the person comes, so a young event that waits for one is held without a date."""
    orders = orders_feed("hold")
    report = Days(tmp_path, orders, FOLK).run(orders, [of(1)], now=YOUNG)
    assert (report.held, report.held_until) == (1, None)


@pytest.mark.parametrize(("unknown_person", "delivered", "reasons"), [("reject", 0, {"person_unknown": 1}), ("send", 1, {})])
def test_an_unknown_person_is_nobody_elses_business_where_the_contract_says_so(
    unknown_person: str, delivered: int, reasons: dict[str, int], tmp_path: Path
):
    """ID6: reject keeps the event out and send lets Customer.io make the profile; neither looks into the people view."""
    orders = orders_feed(unknown_person)
    report = Days(tmp_path, orders, FOLK).run(orders, [of(1)], deliver_people=nobody)
    assert (report.delivered, report.rejected_by_reason) == (delivered, reasons)


def test_nobody_is_asked_for_when_every_row_was_delivered(tmp_path: Path):
    """ID6: a day that is done stays done without a look at the warehouse, even where nothing is known of its people any more."""
    days = Days(tmp_path, ORDERS, FOLK)
    days.run(FOLK, [person(1)])
    days.run(ORDERS, [of(1)], deliver_people=nobody)
    days.store.delete(days.store.list("ledger/folk/"))
    report = days.run(ORDERS, [of(1)], deliver_people=nobody)
    assert (report.unchanged, report.requests) == (1, 0)


@pytest.mark.parametrize("identifier", [None, "", "  ", "c0000001", "C1", "ada@example.com", "C" * 200, "C0000001\n"])
def test_an_identifier_of_the_wrong_shape_is_never_looked_up(identifier: str | None, tmp_path: Path):
    """ID1, ID2: such a row is rejected for what it is, and the people view is not asked for it."""
    days = Days(tmp_path, ORDERS, FOLK)
    report = days.run(ORDERS, [of(1, customer_id=identifier)], deliver_people=nobody)
    assert report.rejected == 1
    assert "person_unknown" not in report.rejected_by_reason


@pytest.mark.parametrize("feeds", [(), (FOLK.model_copy(update={"enabled": False}),)], ids=["none", "off"])
def test_without_a_people_feed_events_go(feeds: tuple[Feed, ...], tmp_path: Path):
    """ID6: where no people feed is enabled, somebody else makes the profiles: nothing is held, asked or rejected."""
    days = Days(tmp_path, ORDERS, *feeds)
    assert days.run(ORDERS, [of(1)], deliver_people=nobody).delivered == 1


def test_a_person_of_any_people_feed_is_known(tmp_path: Path):
    """ID6: with two people feeds, only those are asked for whom neither has delivered; the cache of one is not the other's."""
    days = Days(tmp_path, ORDERS, FOLK, GUESTS)
    days.run(FOLK, [person(1)])
    days.run(GUESTS, [person(2)])
    view = PeopleView(days, 3, feed=GUESTS)
    assert days.run(ORDERS, [of(1), of(2), of(3)], deliver_people=view.deliver).delivered == 3
    assert view.asked == [["C0000003"]]


def test_people_brought_in_are_not_sent_again_unless_they_changed(tmp_path: Path):
    """ID6: their own day, if it is the same one, finds them unchanged; the next event finds them known."""
    days = Days(tmp_path, ORDERS, FOLK)
    view = PeopleView(days, 1)
    days.run(ORDERS, [of(1)], deliver_people=view.deliver)
    assert days.run(ORDERS, [of(1), of(1, 11)], deliver_people=nobody).delivered == 1
    assert days.run(FOLK, [person(1)]).unchanged == 1
    assert days.run(FOLK, [person(1, tier="gold")]).delivered == 1


def test_people_brought_in_leave_the_rejections_of_their_own_day_alone(tmp_path: Path):
    """ID6: the people feed's file names the people of that day only, whoever is brought in beside them."""
    days = Days(tmp_path, ORDERS, FOLK)
    days.run(FOLK, [person(8, customer_id="bad")])
    (key,) = days.store.list("rejections/folk/")
    before = days.store.get(key)
    days.run(FOLK, [person(1), person(9, customer_id="worse")], options=OF_ANY_DAY)
    assert days.store.get(key) == before


def test_people_who_are_not_in_the_view_leave_the_rejections_alone_too(tmp_path: Path):
    """ID6: nobody of the unknown is in the view: the people day's own rejections stay."""
    days = Days(tmp_path, ORDERS, FOLK)
    days.run(FOLK, [person(8, customer_id="bad")])
    before = days.store.list("rejections/folk/")
    days.run(ORDERS, [of(1)], deliver_people=PeopleView(days).deliver)
    assert days.store.list("rejections/folk/") == before


def test_a_deleted_person_who_comes_back_is_delivered_before_their_event(tmp_path: Path):
    """ID6: after a deletion Customer.io has no profile, whatever the people feed's ledger says."""
    days = Days(tmp_path, ORDERS, FOLK, DELETIONS)
    days.run(FOLK, [person(n) for n in range(1, 5)])
    days.run(DELETIONS, [person(1, updated_at=AT + timedelta(hours=1))])
    view = PeopleView(days)
    days.run(ORDERS, [of(1, occurred_at=AT + timedelta(hours=2))], deliver_people=view.deliver)
    assert view.asked == [["C0000001"]]


@pytest.mark.parametrize("hours", [(1, 3), (3, 1)], ids=["later_last", "later_first"])
def test_of_two_deletion_feeds_the_later_deletion_counts(hours: tuple[int, int], tmp_path: Path):
    """ID6: delivered again between two deletions, the person is gone whichever feed has the later one."""
    others = DELETIONS.model_copy(update={"name": "erasures", "view": "cio_export.erasures"})
    days = Days(tmp_path, ORDERS, FOLK, DELETIONS, others)
    days.run(FOLK, [person(1, updated_at=AT + timedelta(hours=2))])
    for feed, after in zip((DELETIONS, others), hours, strict=True):
        days.run(feed, [person(1, updated_at=AT + timedelta(hours=after))])
    view = PeopleView(days)
    days.run(ORDERS, [of(1, occurred_at=AT + timedelta(hours=4))], deliver_people=view.deliver)
    assert view.asked == [["C0000001"]]


@pytest.mark.parametrize("on_backfill", ["refuse", "hold"])
def test_a_backfill_of_people_is_guarded_unless_it_is_accepted(on_backfill: Any, tmp_path: Path):
    """JR2: people cannot be held, so a run that says hold must not send them past a running segment campaign either."""
    options = DeliveryOptions(is_backfill=True, on_backfill=on_backfill)
    running = Campaign(1, "Win back", is_running=True, event_name=None, trigger_segment_ids=(4,))
    with pytest.raises(DeliveryRefused, match="Win back"):
        Days(tmp_path, FOLK).run(FOLK, [person(1)], options=options, campaigns=lambda: [running])


@pytest.mark.parametrize("unknown_person", ["reject", "hold"])
def test_rows_of_unknown_people_who_stay_out_start_no_campaign(unknown_person: str, tmp_path: Path):
    """JR2, ID6: a backfill that sends nothing is not refused for what it would start."""
    orders = orders_feed(unknown_person)
    running = Campaign(1, "After the order", is_running=True, event_name="Order Completed", trigger_segment_ids=())
    options = DeliveryOptions(is_backfill=True)
    report = Days(tmp_path, orders, FOLK).run(orders, [of(1)], now=YOUNG, options=options, campaigns=lambda: [running])
    assert report.delivered == 0


def shown(days: Days, feed: Feed, rows: list[dict[str, Any]]) -> Callable[..., Any]:
    """A preview of *rows*."""
    manifest = stage(days.store, feed, DAY, rows, days.scratch)
    return lambda **more: preview_day(feed, days.contract, manifest, days.store, now=NOW, scratch=days.scratch, **more)


def test_a_preview_counts_the_unknown_and_brings_nobody_in(tmp_path: Path):
    """ID6: it says how many people would go first, and delivers none of them."""
    days = Days(tmp_path, ORDERS, FOLK)
    days.run(FOLK, [person(1)])
    before = days.store.list("ledger/")
    found = shown(days, ORDERS, [of(1), of(2), of(2, 22)])(rows=9, neighbours=Neighbours(deliver_people=nobody))
    assert found.unknown_people == 1
    assert found.operations[0]["attributes"]["order_id"] == "O1"
    assert days.store.list("ledger/") == before


def test_a_preview_does_not_call_rows_rejected_whose_people_would_go_first(tmp_path: Path):
    """ID6: with unknown_person deliver, the rows are shown as sent, next to the number of people who go first."""
    found = shown(Days(tmp_path, ORDERS, FOLK), ORDERS, [of(2)])(rows=9)
    assert (found.outcomes["send"], found.outcomes["rejected"], found.unknown_people) == (1, 0, 1)


def test_a_rejected_stranger_is_kept_with_what_to_do(tmp_path: Path):
    """ID6: the row is in the rejections with its business key and the remedy, and names nobody in the report."""
    days = Days(tmp_path, ORDERS, FOLK)
    report = days.run(ORDERS, [of(1)], deliver_people=PeopleView(days).deliver)
    (row,) = pq.read_table(tmp_path / "store" / f"rejections/orders/{DAY}.parquet").to_pylist()
    assert (row["business_key"], row["reason"], row["attempts"]) == ("O1", "person_unknown", 1)
    assert "Add the person to the view" in row["message"]
    assert "C0000001" not in str(replace(report, feed=""))
