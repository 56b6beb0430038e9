"""Reading from the App API: profiles in hundreds, activities over all pages, campaigns, and answers of another shape."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from rs_cio_assets.customerio import Campaign
from rs_cio_assets.customerio.limits import APP_REQUESTS_PER_S
from rs_cio_assets.errors import (
    CustomerioRefused,
    MismatchError,
    RsCioError,
)
from rs_cio_assets_tests.customerio_clients import (
    EMAIL,
    HTML,
    SECRETS,
    Clock,
    Handler,
    answering,
    app,
    told,
)


def customer(person_id: str, **attributes: str) -> dict[str, Any]:
    """One person as the App API gives them."""
    identifiers = {"id": person_id, "email": None, "cio_id": "a0000001"}
    return {"id": person_id, "identifiers": identifiers, "attributes": attributes, "timestamps": dict.fromkeys(attributes, 1)}


class People:
    """Answers like POST /v1/customers/attributes for the people in *known*, nested as documented or flat."""

    def __init__(self, known: Sequence[str], clock: Clock, *, is_nested: bool = True) -> None:
        self.known, self.clock, self.is_nested = set(known), clock, is_nested
        self.asked: list[list[str]] = []
        self.times: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        ids = json.loads(request.content)["ids"]
        self.asked.append(ids)
        self.times.append(self.clock.now)
        found = [customer(person_id, tier="gold") for person_id in ids if person_id in self.known]
        return httpx.Response(200, json={"customers": [{"customer": c} if self.is_nested else c for c in found] or None})


def people_ids(count: int) -> list[str]:
    """Ids of made-up people."""
    return [f"C{number:07d}" for number in range(count)]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_profiles_are_asked_for_in_hundreds_each_person_once(count: int, sizes: list[int], app_clock: Clock):
    """No request holds more than 100 ids, nobody is left out, doubles cost nothing; missing people are absent."""
    ids = people_ids(count)
    server = People(ids[::2], app_clock)
    with app(server) as client:
        found = client.attributes([*ids, *ids])
    assert [len(asked) for asked in server.asked] == sizes
    assert list(itertools.chain(*server.asked)) == ids
    assert set(found) == set(ids[::2])
    assert all(profile.attributes == {"tier": "gold"} and profile.person_id == i for i, profile in found.items())


def test_profiles_are_read_nested_or_flat(app_clock: Clock):
    """The document nests each customer; should the live service not, the same profiles come out."""
    profiles = []
    for is_nested in (True, False):
        with app(People(people_ids(3), app_clock, is_nested=is_nested)) as client:
            profiles.append(client.attributes(people_ids(3)))
    assert profiles[0] == profiles[1]
    assert len(profiles[0]) == 3


def test_all_app_clients_of_the_process_keep_to_the_documented_rate_together(app_clock: Clock):
    """Two clients in turn stay within 10 requests in any second: the API counts them in one bucket."""
    server = People([], app_clock)
    with app(server) as one, app(server) as other:
        for client in (one, other) * 15:
            client.attributes(["C0000001"])
    assert len(server.times) == 30
    for time in server.times:
        assert sum(time <= later < time + 1 for later in server.times) <= APP_REQUESTS_PER_S


def pages(*answers: Any) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives each answer as a page."""
    return answering(*(httpx.Response(200, json=answer) for answer in answers))


def activity(number: int) -> dict[str, Any]:
    """An event activity."""
    return {
        "id": str(number),
        "type": "event",
        "name": "Order Completed",
        "timestamp": number,
        "data": {"order_id": f"O{number}"},
    }


def test_activities_are_read_over_all_pages():
    """Each page's token asks for the next; the last has none."""
    handler, requests = pages({"activities": [activity(3), activity(2)], "next": "t2"}, {"activities": [activity(1)], "next": ""})
    with app(handler) as client:
        found = list(client.activities("C0000001", "event", name="Order Completed"))
    assert [(a.type, a.name, a.timestamp, a.data["order_id"]) for a in found] == [
        ("event", "Order Completed", number, f"O{number}") for number in (3, 2, 1)
    ]
    queries = [dict(request.url.params) for request in requests]
    usual = {"type": "event", "name": "Order Completed", "limit": "100", "id_type": "id"}
    assert queries == [usual, {**usual, "start": "t2"}]


@pytest.mark.parametrize("empty", [None, []])
def test_an_empty_page_ends_the_activities_even_with_a_token(empty: list[Any] | None):
    """Null is an empty collection, and an empty page with a token does not ask for ever."""
    handler, requests = pages({"activities": [activity(1)], "next": "t"}, {"activities": empty, "next": "t"})
    with app(handler) as client:
        assert len(list(client.activities("C0000001", "event"))) == 1
    assert len(requests) == 2


def test_somebody_whom_customerio_does_not_know_has_no_activities():
    """A person deleted there is a difference for a check to report, not a refused request; a wrong path stays one."""
    handler, _ = answering(httpx.Response(404, json={"errors": [{"detail": "customer not found", "status": "404"}]}))
    with app(handler) as client:
        assert list(client.activities("C0000001", "event")) == []
    handler, _ = answering(HTML)
    with app(handler) as client, pytest.raises(CustomerioRefused, match="CUSTOMERIO_APP_URL"):
        list(client.activities("C0000001", "event"))


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(400), httpx.Response(401), HTML, httpx.ReadTimeout("x")])
def test_no_error_of_reading_names_the_person(answer: httpx.Response | Exception, waits: list[float]):
    """An identifier may be an email address: it stands in the request's path and never in an error."""
    handler, requests = answering(answer)
    with app(handler) as client, pytest.raises(RsCioError) as caught:
        list(client.activities(EMAIL, "event"))
    assert "ada" not in told(caught.value)
    assert requests[0].url.raw_path.startswith(b"/v1/customers/ada%40example.com/activities?")


@pytest.mark.parametrize(
    ("read", "answers"),
    [
        (
            "attributes",
            [
                *({}, [], {"customers": {}}, {"customers": ["x"]}, {"customers": [{"customer": None}]}, {"customers": [None]}),
                {"customers": [{"customer": {"id": "C0000001", "attributes": ["x"]}}]},
            ],
        ),
        (
            "activities",
            [
                *({}, [], {"activities": "x"}, {"activities": ["x"]}, {"activities": [None]}),
                *(
                    {"activities": [{"timestamp": "today"}]},
                    {"activities": [{"timestamp": True}]},
                    {"activities": [{"data": "x"}]},
                ),
            ],
        ),
    ],
)
def test_an_answer_of_another_shape_is_a_mismatch(read: str, answers: list[Any]):
    """What is not the published answer proves nothing about a person and is never taken for "missing"."""
    for answer in [*(httpx.Response(200, json=answer) for answer in answers), httpx.Response(200, html="<html></html>")]:
        handler, _ = answering(answer)
        with app(handler) as client, pytest.raises(MismatchError):
            client.attributes(["C0000001"]) if read == "attributes" else list(client.activities("C0000001", "event"))


def campaigns(*items: Any) -> tuple[Campaign, ...]:
    """What the client makes of a list of campaigns."""
    handler, _ = pages({"campaigns": list(items)})
    with app(handler) as client:
        return client.campaigns()


PUBLISHED: dict[str, Any] = {
    "id": 7,
    "deduplicate_id": "7:1772013598",
    "name": "After the order",
    "created": 1_772_013_598,
    "updated": 1_772_013_598,
    "active": True,
    "state": "running",
    "actions": [{"type": "email", "id": 96}],
    "first_started": 1_772_013_598,
    "tags": ["retention"],
    "event_name": "Order Completed",
}
STARTED = PUBLISHED["first_started"]
MINIMAL = Campaign(7, "", is_running=True, event_name=None, trigger_segment_ids=(), is_state_known=False)


def test_campaigns_are_read_as_published():
    """One request gives all of them, in any state, with the event or the segments that start them."""
    by_segment = {**PUBLISHED, "id": 8, "state": "draft", "trigger_segment_ids": [3, 5], "filter_segment_ids": [4]}
    del by_segment["event_name"]
    handler, requests = pages({"campaigns": [PUBLISHED, by_segment]})
    with app(handler) as client:
        found = client.campaigns()
    assert found == (
        Campaign(
            7, "After the order", is_running=True, event_name="Order Completed", trigger_segment_ids=(), first_started=STARTED
        ),
        Campaign(
            8,
            "After the order",
            is_running=False,
            event_name=None,
            trigger_segment_ids=(3, 5),
            filter_segment_ids=(4,),
            first_started=STARTED,
        ),
    )
    assert [(request.method, request.url.path, request.url.query) for request in requests] == [("GET", "/v1/campaigns", b"")]


@pytest.mark.parametrize("empty", [None, []])
def test_a_workspace_without_campaigns_has_none(empty: list[Any] | None):
    """An empty list and null are the same."""
    handler, _ = pages({"campaigns": empty})
    with app(handler) as client:
        assert client.campaigns() == ()


@pytest.mark.parametrize(
    ("said", "is_running"),
    [
        ({"state": "running"}, True),
        ({"state": "draft"}, False),
        ({"state": "stopped", "active": True}, False),
        ({"state": "running", "active": False}, True),
        ({"state": "winding down", "active": False}, True),
        ({"active": True}, True),
        ({"active": False}, False),
        ({"state": None, "active": False}, False),
        ({"state": None, "active": None}, True),
        ({}, True),
    ],
)
def test_a_campaign_runs_unless_customerio_says_otherwise(said: dict[str, Any], is_running: bool):
    """The state decides, without one *active*; an unknown state, or neither, is read as running: the safe side."""
    assert [campaign.is_running for campaign in campaigns({"id": 7, **said})] == [is_running]


@pytest.mark.parametrize(
    "item",
    [
        {"id": 7},
        {"id": "7"},
        {"id": 7, "name": None, "event_name": None, "trigger_segment_ids": None},
        {"id": 7, "event_name": "", "trigger_segment_ids": [], "actions": None, "tags": None, "unheard_of": {}},
    ],
)
def test_what_a_campaign_may_lack_is_empty(item: dict[str, Any]):
    """Absent, null and empty are the same, ids may be strings, and other members do not matter: no trigger is read."""
    assert campaigns(item) == (MINIMAL,)


def test_segment_ids_may_be_strings():
    """Ids come out as numbers, in their order, whichever way the answer writes them."""
    (campaign,) = campaigns({"id": "0007", "trigger_segment_ids": ["5", 3]})
    assert (campaign.campaign_id, campaign.trigger_segment_ids) == (7, (5, 3))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", value) for value in (None, "", "seven", "-7", 7.0, True, [], "9" * 5_000)),
        *(("name", value) for value in (5, [], {})),
        *(("state", value) for value in (5, ["running"], True)),
        *(("active", value) for value in (0, "true", [])),
        *(("event_name", value) for value in (5, ["Order Completed"], {})),
        *(("trigger_segment_ids", value) for value in (5, "5", {}, [None], [{"id": 5}], [True], ["x"])),
    ],
)
def test_a_campaign_of_another_shape_is_a_mismatch_that_names_the_field(field: str, value: Any):
    """A campaign that cannot be read might be running: the whole answer is refused, and no value of it is told."""
    item = {**PUBLISHED, "name": EMAIL, field: value}
    with pytest.raises(MismatchError, match=f"whose {field} is") as caught:
        campaigns(item)
    assert not [secret for secret in SECRETS if secret in told(caught.value)]


@pytest.mark.parametrize("answer", [{}, [], {"campaigns": {}}, {"campaigns": "x"}, {"campaigns": [None]}, {"campaigns": ["x"]}])
def test_an_answer_without_a_list_of_campaigns_is_a_mismatch(answer: Any):
    """What is not the published answer is never taken for "no campaigns"."""
    handler, _ = pages(answer)
    with app(handler) as client, pytest.raises(MismatchError):
        client.campaigns()


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_without_the_scope_is_refused_with_the_variable_to_check(status: int):
    """Keys have scopes: the error names the variable and holds no key; it is not tried again."""
    handler, requests = answering(httpx.Response(status, json={"meta": {"error": "Unauthorized request"}}))
    with app(handler) as client, pytest.raises(CustomerioRefused, match="CUSTOMERIO_APP_API_KEY") as caught:
        client.campaigns()
    assert not [secret for secret in SECRETS if secret in told(caught.value)]
    assert len(requests) == 1
