"""Journeys in the Customer.io stand-in: who starts one, who waits, who gets the message, while the workspace's time is moved.

Source of the behaviour: customerio-api.md, sections 2.2, 4.4, 7 and 9.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rs_cio_assets_tests.customerio_desk import DAY_S, HOUR_S, MINUTE_S, NOW, VIP, Desk, ulid
from rs_cio_assets_tests.customerio_http import act, event, identify

ORDER = "Order Completed"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """An empty workspace, its time standing still."""
    with Desk.over(tmp_path) as desk:
        yield desk


def person(name: str, **attributes: Any) -> dict[str, Any]:
    """Somebody who can be written to."""
    return identify(name, email=f"{name}@example.com", **attributes)


def order(name: str, number: int, **fields: Any) -> dict[str, Any]:
    """An order now, with an id of its own."""
    return event(name, ORDER, **{"id": ulid(number), "timestamp": NOW, **fields})


def test_the_second_purchase_journey_of_the_guide(desk: Desk):
    """Ten days after a first order with a cleanser that is no gift card: once to who has not reordered, to nobody else."""
    first_time = {"attribute": {"field": "orders_count", "operator": "eq", "value": "1"}}
    cleanser = {"attribute": {"field": "first_order_categories", "operator": "contains", "value": "cleanser"}}
    desk.segment(3, {"and": [first_time, cleanser]})
    desk.campaign(
        7,
        event_name=ORDER,
        trigger_filter={"order_number": {"eq": 1}, "categories": {"contains": "cleanser"}, "is_gift_card_only": {"eq": False}},
        delay_seconds=10 * DAY_S,
        only_if_segment_ids=[3],
    )

    def bought(name: str, number: int, nth: int = 1, *, gift: bool = False, at: int = NOW, what: str = "cleanser,serum") -> None:
        data = {"order_number": nth, "categories": what, "is_gift_card_only": gift}
        desk.send(
            person(name, orders_count=nth, first_order_categories="cleanser,serum"),
            order(name, number, timestamp=at, attributes=data),
        )

    bought("stayed", 1)
    bought("returned", 2)
    bought("giver", 3, gift=True)
    bought("serum only", 4, what="serum")
    bought("history", 5, at=NOW - 72 * HOUR_S)
    bought("stayed", 1)  # sent again
    desk.advance(9 * DAY_S)
    bought("returned", 6, 2, at=NOW + 9 * DAY_S)
    bought("stayed", 1)
    assert (desk.messages(), desk.metrics(7)) == ([], {"started": 2, "activated": 2})
    desk.advance(DAY_S)
    (message,) = desk.messages()
    assert message["customer_identifiers"]["id"] == "stayed"
    assert (message["trigger_event_id"], message["created"]) == (ulid(1), NOW + 10 * DAY_S)
    desk.advance(30 * DAY_S)
    assert desk.sent_to(7) == ["stayed"]
    assert desk.metrics(7) == {"started": 2, "activated": 2, "exited_early": 1, "finished": 1, "messaged": 1}


@pytest.mark.parametrize(
    ("age_s", "starts"),
    [(0, True), (72 * HOUR_S - 1, True), (72 * HOUR_S, False), (72 * HOUR_S + 1, False), (-300, True), (-301, False)],
)
def test_events_of_the_past_72_hours_start_journeys(desk: Desk, age_s: int, starts: bool):
    """To the second; a clock may be five minutes ahead. The event itself is stored in any case."""
    desk.campaign(7, event_name=ORDER)
    desk.send(person("ada"), order("ada", 1, timestamp=NOW - age_s))
    assert desk.metrics(7) == ({"started": 1, "activated": 1, "finished": 1, "messaged": 1} if starts else {})
    assert len(desk.activities("ada", "event")) == 1


def test_only_events_of_the_name_start_a_journey(desk: Desk):
    """Another name does not, nor does a page of the same name, nor events that came with a merge."""
    desk.campaign(7, event_name=ORDER)
    desk.campaign(8, event_name="Cart Started")
    page = {**event("ada", ORDER), "action": "page"}
    desk.send(person("ada"), identify("bob"), page, event("bob", "Cart Started"))
    desk.send({"type": "person", "action": "merge", "primary": {"id": "ada"}, "secondary": {"id": "bob"}})
    assert (desk.metrics(7), desk.metrics(8)) == ({}, {"started": 1, "activated": 1, "finished": 1})


def test_once_or_every_time(desk: Desk):
    """Every event starts a journey of its own, unless the campaign takes a person only once; an activated one counts."""
    desk.segment(3, VIP)
    desk.campaign(7, event_name=ORDER)
    desk.campaign(8, event_name=ORDER, frequency="once")
    desk.campaign(9, event_name=ORDER, frequency="once", filter_segment_ids=[3])
    desk.send(person("ada"), person("bob"), order("ada", 1), order("ada", 2), order("bob", 3))
    assert (desk.sent_to(7), desk.sent_to(8), desk.sent_to(9)) == (["ada", "ada", "bob"], ["ada", "bob"], [])
    desk.advance(HOUR_S)
    desk.send(identify("ada", vip=True), order("ada", 4))
    assert (desk.sent_to(8), desk.sent_to(9)) == (["ada", "bob"], ["ada"])


def test_who_is_outside_of_the_filter_is_tried_for_30_minutes(desk: Desk):
    """Who enters the filter's segment within them is taken then, the delay counted from there; later is too late."""
    desk.segment(3, VIP)
    desk.campaign(7, event_name=ORDER, filter_segment_ids=[3], delay_seconds=HOUR_S)
    desk.send(*(person(name) for name in ("soon", "late")), order("soon", 1), order("late", 2))
    assert desk.metrics(7) == {"started": 2}
    desk.advance(29 * MINUTE_S)
    desk.send(identify("soon", vip=True))
    desk.advance(MINUTE_S)
    assert desk.metrics(7) == {"started": 2, "activated": 1, "never_activated": 1}
    desk.send(identify("late", vip=True))
    desk.advance(DAY_S)
    (message,) = desk.messages()
    assert (message["customer_id"], message["created"]) == ("soon", NOW + 30 * MINUTE_S + HOUR_S)


def test_steps_are_taken_as_of_when_they_were_due(desk: Desk):
    """However far time is moved at once: shorter delays come first, and a window that ends later was open then."""
    recent = {"event": {"name": ORDER, "within_days": 1}}
    desk.segment(3, recent)
    for campaign_id, delay_s in ((7, 25 * HOUR_S), (8, 23 * HOUR_S + 1), (9, MINUTE_S)):
        desk.campaign(campaign_id, event_name=ORDER, delay_seconds=delay_s, only_if_segment_ids=[3])
    desk.send(person("ada"), order("ada", 1))
    desk.advance(400 * DAY_S)  # the steps on the way are longer than an hour
    made = [(message["campaign_id"], message["created"] - NOW) for message in desk.messages(start_ts=NOW, end_ts=NOW + DAY_S)]
    assert made == [(8, 23 * HOUR_S + 1), (9, MINUTE_S)]
    assert desk.metrics(7) == {"started": 1, "activated": 1, "exited_early": 1}


def test_a_segment_triggers_for_who_enters_it(desk: Desk):
    """Who is in it when the campaign starts is not taken; who enters is, once, and again only after having left."""
    desk.segment(3, VIP)
    desk.send(person("early", vip=True), person("ada"), person("bob"))
    desk.campaign(7, trigger_segment_ids=[3])
    desk.campaign(8, trigger_segment_ids=[3], frequency="once")
    desk.send(identify("ada", vip=True))
    assert desk.sent_to(7) == desk.sent_to(8) == ["ada"]
    (message,) = desk.messages("/v1/campaigns/7/messages")
    assert message["trigger_event_id"] is None
    desk.send(identify("ada", vip=True, plan="pro"))
    desk.advance(DAY_S)
    assert desk.sent_to(7) == ["ada"]
    desk.send(identify("ada", vip=False))
    desk.advance(DAY_S)
    desk.send(identify("ada", vip=True))
    assert (desk.sent_to(7), desk.sent_to(8)) == (["ada", "ada"], ["ada"])


def test_a_segment_triggers_as_time_passes(desk: Desk):
    """Who becomes inactive by the passing of days alone enters the winback journey, in the hour in which it happens."""
    desk.segment(3, {"not": {"event": {"name": ORDER, "within_days": 60}}})
    desk.send(person("ada"), order("ada", 1))
    desk.campaign(7, trigger_segment_ids=[3])
    desk.advance(60 * DAY_S)
    assert desk.sent_to(7) == []
    desk.advance(HOUR_S)
    assert desk.sent_to(7) == ["ada"]


def test_a_campaign_may_take_who_is_in_the_segment_already(desk: Desk):
    """With includes_current they enter when it starts, once: not again when it is saved, or stopped and started."""
    desk.segment(3, VIP)
    desk.segment(4, {"attribute": {"field": "plan", "operator": "exists"}})
    desk.send(person("both", vip=True, plan="pro"), person("one", vip=True))
    both = {"trigger_segment_ids": [3, 4], "includes_current": True}
    for state in ("running", "running", "stopped", "running"):
        desk.campaign(7, state=state, **both)
        assert desk.sent_to(7) == ["both"]


def test_a_segment_that_is_built_anew_triggers_nobody_twice(desk: Desk):
    """While it is built nobody is in it; that is no leaving, and the end of it no entering."""
    desk.segment(3, VIP)
    desk.campaign(7, trigger_segment_ids=[3])
    desk.send(person("ada", vip=True))
    assert desk.sent_to(7) == ["ada"]
    desk.segment(3, VIP, build_seconds=2 * HOUR_S)
    desk.advance(DAY_S)
    assert desk.sent_to(7) == ["ada"]


def test_a_stopped_campaign_starts_nothing_and_ends_who_waits(desk: Desk):
    """Journeys under way end without a message, in whatever state; a later start takes new events only."""
    desk.segment(3, VIP)
    members = {"event_name": ORDER, "delay_seconds": HOUR_S, "filter_segment_ids": [3]}
    desk.campaign(7, **members)
    desk.send(person("waits", vip=True), person("tried"), order("waits", 1), order("tried", 2))
    assert desk.metrics(7) == {"started": 2, "activated": 1}
    desk.campaign(7, state="stopped", **members)
    ended = {"started": 2, "activated": 1, "never_activated": 1, "exited_early": 1}
    assert desk.metrics(7) == ended
    desk.send(order("waits", 3))
    desk.advance(DAY_S)
    desk.campaign(7, **members)
    desk.advance(DAY_S)
    assert (desk.sent_to(7), desk.metrics(7)) == ([], ended)
    desk.send(order("waits", 4, timestamp=NOW + 2 * DAY_S))
    desk.advance(DAY_S)
    assert desk.sent_to(7) == ["waits"]


def test_a_deleted_campaign_takes_its_journeys_along(desk: Desk):
    """One that is made under the same id has none; the messages of the first one stay listed."""
    desk.campaign(7, event_name=ORDER)
    desk.campaign(8, event_name=ORDER, delay_seconds=HOUR_S)
    desk.send(person("ada"), order("ada", 1))
    assert desk.sent_to(7) == ["ada"]
    for campaign_id in (7, 8):
        assert desk.http.delete(f"/sandbox/campaigns/{campaign_id}").status_code == 204
        assert desk.app(f"/v1/campaigns/{campaign_id}").status_code == 404
    desk.campaign(7, event_name=ORDER)
    desk.campaign(8, event_name=ORDER)
    desk.advance(DAY_S)
    assert (desk.metrics(7), desk.metrics(8), desk.sent_to(7), desk.sent_to(8)) == ({}, {}, ["ada"], [])


@pytest.mark.parametrize("end", [act("delete", "ada"), act("suppress", "ada")], ids=["deleted", "suppressed"])
def test_who_is_deleted_while_waiting_gets_nothing(desk: Desk, end: dict[str, Any]):
    """The journey ends; the next person made, who may get the same internal number, inherits nothing of it."""
    desk.campaign(7, event_name=ORDER, delay_seconds=HOUR_S, frequency="once")
    desk.send(person("ada"), order("ada", 1))
    desk.send(end)
    desk.send(person("bob"))
    desk.advance(DAY_S)
    assert (desk.sent_to(7), desk.metrics(7)) == ([], {"started": 1, "activated": 1, "exited_early": 1})
    assert "Journeys" not in desk.http.get("/people/bob").text
    desk.send(order("bob", 2, timestamp=NOW + DAY_S))
    desk.advance(DAY_S)
    assert desk.sent_to(7) == ["bob"]


def test_journeys_survive_a_restart(tmp_path: Path):
    """Who waits goes on waiting, who was seen in a segment does not enter anew, and the time stays where it was moved to."""
    with Desk.over(tmp_path) as desk:
        desk.segment(3, VIP)
        desk.campaign(7, event_name=ORDER, delay_seconds=2 * DAY_S)
        desk.campaign(8, trigger_segment_ids=[3])
        desk.send(person("ada", vip=True), order("ada", 1))
        assert desk.sent_to(8) == ["ada"]
        desk.advance(DAY_S)
    with Desk.over(tmp_path) as desk:
        desk.advance(DAY_S - 1)
        assert (desk.sent_to(7), desk.sent_to(8)) == ([], ["ada"])
        desk.send(person("bob", vip=True), order("ada", 1))
        desk.advance(1)
        assert (desk.sent_to(7), desk.sent_to(8)) == (["ada"], ["ada", "bob"])


def test_doubled_silent_and_late_journeys(desk: Desk):
    """What a journey check must find: two messages for one event, none at all, one an hour late; others are as ever."""
    for campaign_id in (7, 8, 9, 10):
        desk.campaign(campaign_id, event_name=ORDER, delay_seconds=MINUTE_S)
    desk.faults(doubled_journeys=[7], silent_journeys=[8], late_journeys={"9": HOUR_S})
    desk.send(person("ada"), order("ada", 1))
    desk.advance(MINUTE_S)
    assert [desk.sent_to(campaign_id) for campaign_id in (7, 8, 9, 10)] == [["ada", "ada"], [], [], ["ada"]]
    assert [desk.metrics(campaign_id).get("started", 0) for campaign_id in (7, 8, 9, 10)] == [2, 0, 1, 1]
    assert {message["trigger_event_id"] for message in desk.messages(campaign_id=7)} == {ulid(1)}
    desk.advance(HOUR_S)
    (late,) = desk.messages(campaign_id=9)
    assert late["created"] == NOW + MINUTE_S + HOUR_S
    desk.faults()
    desk.send(order("ada", 2))
    desk.advance(MINUTE_S)
    assert [len(desk.sent_to(campaign_id)) for campaign_id in (7, 8, 9, 10)] == [3, 1, 2, 2]


def test_a_batch_that_is_refused_halfway_starts_no_journey(desk: Desk):
    """An event that was refused triggers nothing, its neighbours in the batch do."""
    desk.campaign(7, event_name=ORDER)
    desk.send(person("ada"))
    assert desk.batch(order("ada", 1), order("ada", 2, timestamp=NOW * 1_000), order("ada", 3)).status_code == 207
    assert desk.metrics(7)["started"] == 2
