"""Messages in the Customer.io stand-in: as the App API publishes them, with their activities, filters, windows and pages.

Golden values: customerio-api.md, sections 4.2 and 4.5, and app-api-subset.yaml (Customer.io's App API document of 2026-09-17).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from rs_cio_assets_tests.customerio_desk import DAY_S, HOUR_S, NOW, Desk, ulid
from rs_cio_assets_tests.customerio_http import act, event, identify
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON

ORDER = "Order Completed"
JSON_TYPES = {"string": str, "integer": int, "null": type(None), "object": dict}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A workspace with one campaign, which answers an order with a message at once."""
    with Desk.over(tmp_path) as desk:
        desk.campaign(7, event_name=ORDER, actions=[{"type": "email", "id": 96}])
        yield desk


def order_of(desk: Desk, *names: str, at: int = NOW, first: int = 1) -> None:
    """An order of each, now or at a time that the workspace has reached."""
    for number, name in enumerate(names, first):
        desk.send(event(name, ORDER, id=ulid(number), timestamp=at))


def test_a_message_is_listed_whole(desk: Desk):
    """Who, where to, when, why: the event that triggered it; it stays as it was made when the person's email changes."""
    desk.send(identify("ada", email="ada@example.com"))
    order_of(desk, "ada")
    identifiers = {"cio_id": "a0000001", "id": "ada", "email": "ada@example.com"}
    message = {
        "id": "dgT000000001",
        "deduplicate_id": f"dgT000000001:{NOW}",
        "type": "email",
        "customer_id": "ada",
        "customer_identifiers": identifiers,
        "recipient": "ada@example.com",
        "subject": None,
        "metrics": {"sent": NOW},
        "created": NOW,
        "failure_message": None,
        "campaign_id": 7,
        "action_id": 96,
        "trigger_event_id": ulid(1),
    }
    assert desk.messages() == [message]
    desk.send(identify("ada", email="new@example.com"))
    for path in ("/v1/messages", "/v1/campaigns/7/messages", "/v1/customers/ada/messages"):
        answer = desk.app(path)
        assert (answer.status_code, answer.json()) == (200, {"messages": [message], "next": ""})


@pytest.mark.skipif(SHARED is None, reason=SKIP_REASON)
def test_a_message_has_the_published_members(desk: Desk):
    """Every member is published, and of the published type; the subject alone may be null beyond that."""
    assert SHARED is not None
    document = yaml.safe_load((SHARED / "reference" / "customerio-openapi" / "app-api-subset.yaml").read_text("utf-8"))
    published = document["components"]["schemas"]["Message"]["properties"]
    desk.send(identify("ada", email="ada@example.com"), identify("bob"))
    order_of(desk, "ada", "bob")
    for message in desk.messages():
        for name, value in message.items():
            kinds = published[name].get("type", "object")
            kinds = [kinds] if isinstance(kinds, str) else kinds
            assert isinstance(value, tuple(JSON_TYPES[kind] for kind in kinds)) or (name, value) == ("subject", None)


def test_sending_is_an_activity(desk: Desk):
    """The person's log has it, with the delivery's id where it is published."""
    desk.send(identify("ada", email="ada@example.com"))
    order_of(desk, "ada")
    desk.advance(DAY_S)
    (activity,) = desk.activities("ada", "sent_email")
    assert (activity["timestamp"], activity["data"]["delivery_id"]) == (NOW, "dgT000000001")
    assert (activity["delivery_id"], activity["delivery_type"]) == ("dgT000000001", "email")


def test_without_an_email_a_message_is_undeliverable(desk: Desk):
    """It is listed, and logged, as that; nobody is written to, and the journey is not counted as messaged."""
    order_of(desk, "nobody")
    (message,) = desk.messages()
    assert (message["metrics"], message["recipient"]) == ({"undeliverable": NOW}, "")
    assert [activity["type"] for activity in desk.activities("nobody")] == ["undeliverable_email", "event", "profile_create"]
    assert desk.metrics(7) == {"started": 1, "activated": 1, "finished": 1}
    assert desk.messages(metric="sent") == []
    assert desk.messages(metric="undeliverable") == [message]


def test_pages_hold_every_message_once_newest_first(desk: Desk):
    """50 a page unless asked for less or more, up to 1,000; messages that come in between repeat none and lose none."""
    desk.send(*(identify(f"p{number}", email=f"p{number}@example.com") for number in range(60)))
    order_of(desk, *(f"p{number}" for number in range(55)))
    first = desk.app("/v1/messages").json()
    order_of(desk, "p59", first=56)
    second = desk.app("/v1/messages", start=first["next"]).json()
    assert (len(first["messages"]), len(second["messages"]), second["next"]) == (50, 5, "")
    assert [m["customer_id"] for m in first["messages"] + second["messages"]] == [f"p{number}" for number in range(54, -1, -1)]
    assert len(desk.messages(limit=1_000)) == 56
    pages, start = [], ""
    while page := desk.app("/v1/campaigns/7/messages", limit=14, start=start).json():
        pages.append(len(page["messages"] or []))
        if not (start := page["next"]):
            break
    assert pages == [14, 14, 14, 14, 0]


def test_windows_are_of_the_making(desk: Desk):
    """start_ts and end_ts hold themselves, and what was made earlier than six months before the end is not there."""
    desk.send(identify("ada", email="ada@example.com"))
    order_of(desk, "ada")
    desk.advance(HOUR_S)
    order_of(desk, "ada", at=NOW + HOUR_S, first=2)

    def made(**window: int) -> list[int]:
        return [message["created"] - NOW for message in desk.messages("/v1/customers/ada/messages", **window)]

    assert made() == [HOUR_S, 0]
    assert made(start_ts=NOW, end_ts=NOW + HOUR_S) == [HOUR_S, 0]
    assert made(start_ts=NOW + 1) == [HOUR_S]
    assert made(end_ts=NOW + HOUR_S - 1) == [0]
    desk.advance(184 * DAY_S)
    assert made() == made(start_ts=NOW) == [HOUR_S]
    assert made(end_ts=NOW + DAY_S) == [HOUR_S, 0]


def test_filters_of_the_list(desk: Desk):
    """Campaign, action, type, metric and drafts; here no message is a newsletter's, a draft or anything but an email."""
    desk.campaign(8, event_name=ORDER)
    desk.send(identify("ada", email="ada@example.com"), identify("bob", email="bob@example.com"))
    order_of(desk, "ada", "bob")

    def found(**params: Any) -> int:
        return len(desk.messages(**params))

    assert (found(), found(campaign_id=7), found(campaign_id=99)) == (4, 2, 0)
    assert (found(action_id=96), found(action_id=8), found(action_id=96, campaign_id=8)) == (2, 2, 0)
    assert (found(type="email"), found(type="push"), found(newsletter_id=1)) == (4, 0, 0)
    assert (found(metric="sent"), found(metric="opened")) == (4, 0)
    assert (found(drafts="false"), found(drafts="true")) == (4, 0)
    assert len(desk.messages("/v1/customers/ada/messages")) == 2
    assert len(desk.messages("/v1/customers/ada@example.com/messages", id_type="email")) == 2


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 1_001},
        {"limit": 0},
        {"start": "x"},
        {"type": "letter"},
        {"metric": "read"},
        {"drafts": "maybe"},
        {"campaign_id": "seven"},
        {"start_ts": "2026-02-25"},
        {"end_ts": str(2**63)},
    ],
    ids=str,
)
def test_parameters_that_cannot_be_are_refused(desk: Desk, params: dict[str, Any]):
    """A 400 names the parameter."""
    answer = desk.app("/v1/messages", **params)
    assert answer.status_code == 400
    assert next(iter(params)) in answer.json()["errors"][0]["detail"]


def test_nobody_and_no_campaign_are_a_404(desk: Desk):
    """As JSON; an empty list is null."""
    for path in ("/v1/customers/nobody/messages", "/v1/campaigns/99/messages", f"/v1/campaigns/{2**70}/messages"):
        answer = desk.app(path)
        assert (answer.status_code, answer.json()["errors"][0]["status"]) == (404, "404")
    assert desk.app("/v1/messages").json() == {"messages": None, "next": ""}
    assert desk.http.get("/v1/messages").status_code == 401


def test_messages_outlive_the_person_and_are_nobody_elses(desk: Desk):
    """After a deletion they stay in the workspace's list, and the next person to be made has none."""
    desk.send(identify("ada", email="ada@example.com"))
    order_of(desk, "ada")
    (message,) = desk.messages()
    desk.send(act("delete", "ada"))
    desk.send(identify("bob"))
    assert desk.messages() == [message]
    assert desk.messages("/v1/customers/bob/messages") == []
