"""The stand-in's App API over plain HTTP, as checks read it back, and its pages.

Golden values: customerio-api.md, sections 4, 4.1 and 4.2, and app-api-subset.yaml (Customer.io's App API document of 2026-09-17).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets_tests.customerio_http import APP_HEADERS, CustomerioHttp, event, identify

DAY_1, DAY_2 = 1_771_977_600, 1_772_064_000  # 2026-02-25 and 2026-02-26, 00:00 UTC
EVENTS = 105
NASTY = "<script>alert('&')</script>"


@pytest.fixture(scope="module")
def cio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomerioHttp]:
    """One workspace for the file, filled once; tests only read it."""
    with (
        CustomerioStandIn(tmp_path_factory.mktemp("app"), app_requests_per_s=None) as stand_in,
        CustomerioHttp(stand_in.url) as client,
    ):
        client.send(
            identify("ada", timestamp=DAY_1, email="ada+news@example.com", n=5, flag=True, share=1.5, tags=["é"], seen_at=DAY_1),
            identify("bob", email="bob@example.com", run="7", unsubscribed="True"),
            identify("only@example.com", by="email"),
            identify("a/b c", email="100%off@example.com", run="7"),
            identify("nasty", email="nasty@example.com", note=NASTY, vip_tier=NASTY, bad_at="--5", odd_at="²"),
            event("nasty", NASTY, attributes={NASTY: NASTY}, timestamp=DAY_1),
        )
        client.send(*(identify(f"run-{n:03}", run="7") for n in range(120)))
        client.send(*(event("busy", f"tick {n % 2}", timestamp=DAY_2 - 60 + n, attributes={"n": n}) for n in range(EVENTS)))
        client.send(event("only@example.com", "by email", by="email", timestamp=DAY_2))
        yield client


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic eDp5"}])
@pytest.mark.parametrize("path", ["/v1/customers?email=bob@example.com", "/v1/customers/bob/attributes"], ids=["email", "person"])
def test_a_wrong_key_is_a_401_without_a_challenge(cio: CustomerioHttp, headers: dict[str, str], path: str):
    """The App API's 401 has the live body and no WWW-Authenticate."""
    answer = cio.http.get(path, headers=headers)
    assert (answer.status_code, answer.json()) == (401, {"meta": {"error": "Unauthorized request"}})
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("what", ["attributes", "activities"])
def test_an_unknown_person_is_a_json_404_and_a_wrong_path_a_page(cio: CustomerioHttp, what: str):
    """Nobody and nowhere can be told apart by the body: errors with detail and status, against HTML."""
    nobody = cio.app(f"/v1/customers/nobody/{what}")
    assert nobody.status_code == 404
    assert set(nobody.json()["errors"][0]) == {"detail", "status"}
    nowhere = cio.app(f"/v1/customers/bob/{what}s")
    assert nowhere.status_code == 404
    assert nowhere.headers["content-type"].startswith("text/html")


def test_every_attribute_is_read_back_as_text(cio: CustomerioHttp):
    """Numbers, booleans and lists come back as strings, with the time at which each was set."""
    customer = cio.app("/v1/customers/ada/attributes").json()["customer"]
    assert set(customer) == {"id", "identifiers", "attributes", "timestamps", "unsubscribed", "devices"}
    values = customer["attributes"]
    assert [values[name] for name in ("n", "flag", "share", "tags")] == ["5", "true", "1.5", '["é"]']
    assert (customer["timestamps"]["n"], customer["unsubscribed"]) == (DAY_1, False)
    assert cio.app("/v1/customers/bob/attributes").json()["customer"]["unsubscribed"] is True


@pytest.mark.parametrize("by", ["id", "email", "cio_id"])
def test_a_person_is_found_by_each_identifier(cio: CustomerioHttp, by: str):
    """id_type says what the path holds; all lead to the same person."""
    identifiers = cio.app("/v1/customers/bob/attributes").json()["customer"]["identifiers"]
    assert cio.attributes(identifiers[by], by=by) == cio.attributes("bob")
    many = cio.post_app("/v1/customers/attributes", {"ids": [identifiers[by]]}, id_type=by).json()["customers"]
    assert [c["customer"]["identifiers"] for c in many] == [identifiers]


def test_an_id_with_a_slash_is_readable(cio: CustomerioHttp):
    """Percent-encoded ids reach their person in the API and on the page."""
    assert cio.attributes("a%2Fb%20c")["id"] == "a/b c"
    assert "100%off@example.com" in cio.http.get("/people/a%2Fb%20c").text


@pytest.mark.parametrize(("count", "status"), [(0, 400), (1, 200), (100, 200), (101, 400)])
def test_many_people_are_read_1_to_100_at_a_time(cio: CustomerioHttp, count: int, status: int):
    """The bulk read takes 1 to 100 ids, in whose order the answers come."""
    ids = [f"run-{n:03}" for n in range(count)]
    answer = cio.post_app("/v1/customers/attributes", {"ids": ids})
    assert answer.status_code == status
    if status == 200:
        assert [c["customer"]["id"] for c in answer.json()["customers"]] == ids


def test_unknown_people_are_left_out(cio: CustomerioHttp):
    """The bulk read omits whom it does not know, without a word."""
    found = cio.post_app("/v1/customers/attributes", {"ids": ["nobody", "bob", "nobody else"]}).json()["customers"]
    assert [c["customer"]["id"] for c in found] == ["bob"]


@pytest.mark.parametrize(
    "body", [None, [], {}, {"ids": "bob"}, {"ids": None}], ids=["null", "list", "no_ids", "text", "null_ids"]
)
def test_a_malformed_bulk_read_is_a_400(cio: CustomerioHttp, body: Any):
    """What is no list of ids is refused."""
    assert cio.post_app("/v1/customers/attributes", body).status_code == 400


def test_people_are_found_by_email_and_a_plus_must_be_encoded(cio: CustomerioHttp):
    """The whole address matches, in any case; a bare + in the query is a space and finds nobody, as documented."""
    (found,) = cio.app("/v1/customers", email="ADA+news@example.com").json()["results"]
    assert (set(found), found["id"], found["email"]) == ({"email", "id", "cio_id"}, "ada", "ada+news@example.com")
    bare = cio.http.get("/v1/customers?email=ada+news@example.com", headers=APP_HEADERS)
    assert (bare.status_code, bare.json()) == (200, {"results": []})
    assert cio.app("/v1/customers", email="ada").json() == {"results": []}


def pages(cio: CustomerioHttp, who: str, **params: Any) -> list[list[dict[str, Any]]]:
    """Every page of somebody's activities."""
    read, start = [], ""
    while True:
        body = cio.app(f"/v1/customers/{who}/activities", start=start, **params).json()
        if not body["activities"]:
            return read
        read.append(body["activities"])
        start = body["next"]
        if not start:
            return read


@pytest.mark.parametrize(("limit", "sizes"), [(None, [10] * 10 + [6]), (53, [53, 53]), (100, [100, 6])])
def test_activities_page_to_the_end_without_loss_or_repeat(cio: CustomerioHttp, limit: int | None, sizes: list[int]):
    """10 by default and 100 at most: all pages together are every activity once, the newest arrival first."""
    read = pages(cio, "busy", **({} if limit is None else {"limit": limit}))
    assert [len(page) for page in read] == sizes
    activities = [activity for page in read for activity in page]
    assert [a["data"]["n"] for a in activities if a["type"] == "event"] == list(reversed(range(EVENTS)))
    assert [a["type"] for a in activities if a["type"] != "event"] == ["profile_create"]
    assert len({a["id"] for a in activities}) == EVENTS + 1


@pytest.mark.parametrize(
    "params", [{"limit": 101}, {"limit": 0}, {"limit": -1}, {"limit": "x"}, {"start": "x"}, {"start": "9" * 30}]
)
def test_a_page_that_cannot_be_is_a_400(cio: CustomerioHttp, params: dict[str, Any]):
    """A limit outside 1 to 100, or a start that no answer gave, is refused."""
    assert cio.app("/v1/customers/busy/activities", **params).status_code == 400


def test_activities_are_filtered_by_type_and_name(cio: CustomerioHttp):
    """Filters hold on every page; where nothing matches, activities is null and not a list."""
    ticks = [a for page in pages(cio, "busy", type="event", name="tick 1", limit=20) for a in page]
    assert [a["data"]["n"] for a in ticks] == [n for n in reversed(range(EVENTS)) if n % 2]
    assert {(a["type"], a["customer_id"]) for a in ticks} == {("event", "busy")}
    assert cio.app("/v1/customers/busy/activities", type="page").json() == {"activities": None, "next": ""}


def attribute(field: Any, operator: Any, value: Any = None) -> dict[str, Any]:
    """One condition of a search."""
    return {"attribute": {"field": field, "operator": operator, **({} if value is None else {"value": value})}}


def test_a_search_pages_through_all_who_match(cio: CustomerioHttp):
    """50 by default: pages follow next to the end, each person once."""
    found, start, sizes = [], "", []
    while True:
        body = cio.post_app("/v1/customers", {"filter": attribute("run", "eq", "7")}, start=start).json()
        assert [i["id"] for i in body["identifiers"]] == body["ids"]
        found, start, sizes = found + body["ids"], body["next"], [*sizes, len(body["ids"])]
        if not start:
            break
    assert sizes == [50, 50, 22]
    assert sorted(found) == sorted(["bob", "a/b c", *(f"run-{n:03}" for n in range(120))])


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (attribute("n", "exists"), ["ada"]),
        (attribute("n", "eq", "6"), []),
        ({"and": [attribute("run", "eq", "7"), attribute("unsubscribed", "exists")]}, ["bob"]),
        ({"or": [attribute("n", "eq", "5"), attribute("note", "eq", NASTY)]}, ["ada", "nasty"]),
        (
            {"and": [attribute("email", "exists"), {"not": {"or": [attribute("run", "exists"), attribute("note", "exists")]}}]},
            ["ada"],
        ),
        (attribute('x" OR 1=1 --', "exists"), []),
    ],
    ids=["exists", "eq", "and", "or", "not", "quotes"],
)
def test_a_search_combines_conditions(cio: CustomerioHttp, condition: dict[str, Any], expected: list[str]):
    """eq and exists, joined by and, or, not, find exactly those who match; odd field names are only names."""
    assert cio.post_app("/v1/customers", {"filter": condition}).json()["ids"] == expected


@pytest.mark.parametrize(
    "body",
    [None, {}, {"filter": {}}, {"filter": attribute("n", "gt", "1")}, {"filter": {"and": []}}, {"filter": {"or": [1]}}],
    ids=["null", "no_filter", "empty", "operator", "empty_and", "number"],
)
def test_a_search_that_is_none_is_a_400(cio: CustomerioHttp, body: Any):
    """Operators beyond eq and exists do not exist there, so they are refused here."""
    assert cio.post_app("/v1/customers", body).status_code == 400


@pytest.mark.parametrize("id_type", ["phone", "name", ""])
def test_an_identifier_that_is_not_enabled_is_a_400(cio: CustomerioHttp, id_type: str):
    """id_type must be an identifier of the workspace: anything else is the request's fault, not an unknown person."""
    assert cio.app("/v1/customers/bob/attributes", id_type=id_type).status_code == 400
    assert cio.app("/v1/customers/bob/activities", id_type=id_type).status_code == 400
    assert cio.post_app("/v1/customers/attributes", {"ids": ["bob"]}, id_type=id_type).status_code == 400


def test_an_attribute_change_is_found_by_the_attributes_name(cio: CustomerioHttp):
    """The filter is "event or attribute name": the entry that set the attribute, and none for one that it did not."""
    (found,) = cio.app("/v1/customers/ada/activities", name="share").json()["activities"]
    assert (found["type"], found["data"]["share"]) == ("attribute_change", {"from": None, "to": "1.5"})
    assert cio.app("/v1/customers/ada/activities", name="run").json()["activities"] is None


def test_a_search_knows_the_id_and_who_lacks_an_attribute(cio: CustomerioHttp):
    """The id can be asked for like an attribute, and `not` an attribute's value holds for those without the attribute."""
    is_bob, has_run = attribute("id", "eq", "bob"), attribute("run", "eq", "7")
    assert cio.post_app("/v1/customers", {"filter": is_bob}).json()["ids"] == ["bob"]
    without = cio.post_app("/v1/customers", {"filter": {"not": has_run}}).json()
    assert without["ids"] == ["ada", "nasty", "busy"]
    assert [i["email"] for i in without["identifiers"] if i["id"] is None] == ["only@example.com"]


def nested(depth: int) -> dict[str, Any]:
    """A condition within *depth* times `not`."""
    return {"not": nested(depth - 1)} if depth else attribute("n", "exists")


@pytest.mark.parametrize(
    "condition",
    [attribute(["n"], "exists"), attribute("n", ["eq"]), attribute("n", "eq"), attribute("n", "eq", 5), nested(500)],
    ids=["field", "operator", "no_value", "number", "deep"],
)
def test_a_search_of_a_wrong_shape_is_a_400(cio: CustomerioHttp, condition: dict[str, Any]):
    """Field, operator and value are texts; whatever else is sent, the answer is a refusal and no breakdown."""
    assert cio.post_app("/v1/customers", {"filter": condition}).status_code == 400


@pytest.mark.parametrize("ids", [[None], [{}], [5]], ids=["null", "object", "number"])
def test_ids_that_are_no_texts_are_a_400(cio: CustomerioHttp, ids: list[Any]):
    """The bulk read takes identifiers as they are stored: texts."""
    assert cio.post_app("/v1/customers/attributes", {"ids": ids}).status_code == 400


def test_the_home_page_counts(cio: CustomerioHttp):
    """The start page shows people, events by name and by day, as /sandbox/counts does."""
    counts = cio.http.get("/sandbox/counts").json()
    assert (counts["people"], counts["events"], counts["by_name"]["tick 1"]) == (126, EVENTS + 2, 52)
    text = cio.http.get("/").text
    assert all(part in text for part in ("<b>126</b>", "tick 0", "2026-02-25", "2026-02-26"))


@pytest.mark.parametrize(
    ("search", "expected"),
    [("bob", {"bob"}), ("BOB@ex", {"bob"}), ("bo", {"bob"}), ("ob", set()), ("%", set()), ("100%", {"a/b c"}), ("_da", set())],
)
def test_people_are_looked_up_by_id_or_the_beginning_of_an_email(cio: CustomerioHttp, search: str, expected: set[str]):
    """The whole id or the start of an address; % and _ are letters like others."""
    text = cio.http.get("/people", params={"search": search}).text
    assert {who for who in ("ada", "bob", "a/b c", "nasty", "run-001") if f">{who}</a>" in text} == expected


@pytest.mark.parametrize("person", ["busy", "nobody"])
def test_a_persons_page_shows_activity_or_says_that_there_is_nobody(cio: CustomerioHttp, person: str):
    """Somebody's page lists the events with their data; an unknown id gets a page that says so."""
    answer = cio.http.get(f"/people/{person}")
    assert answer.status_code == 200
    assert ("tick 1" in answer.text, "Nobody has this id" in answer.text) == (person == "busy", person == "nobody")


def test_events_are_listed_by_name_and_day(cio: CustomerioHttp):
    """A UTC day ends at midnight: 60 of the ticks lie before it; page two holds what page one does not."""
    day = {"name": "tick 1", "day": "2026-02-25"}
    assert cio.http.get("/events", params=day).text.count("<td>tick 1</td>") == 30
    assert cio.http.get("/events", params={**day, "day": "2026-02-26"}).text.count("<td>tick 1</td>") == 22
    counts = [cio.http.get("/events", params={"name": "tick 1", "page": n}).text.count("<td>tick 1</td>") for n in range(3)]
    assert counts == [50, 2, 0]


@pytest.mark.parametrize("path", ["/events", "/people", "/", "/sandbox/events"])
@pytest.mark.parametrize(
    "query", ["page=-1", "page=x", "page=²", "page=" + "9" * 30, "day=x", "day=2026-02-30", "day=9999-12-31", "search=%00"]
)
def test_no_query_breaks_a_page(cio: CustomerioHttp, path: str, query: str):
    """A page or day that does not exist is answered with a page all the same."""
    assert cio.http.get(f"{path}?{query}").status_code == 200


@pytest.mark.parametrize(
    "path", ["/", "/people", "/people?search=<script>alert(", "/people/nasty", "/events", "/events?day=<script>alert("]
)
def test_what_people_hold_is_never_markup(cio: CustomerioHttp, path: str):
    """Names, values and searches are escaped wherever they stand."""
    answer = cio.http.get(path)
    assert answer.status_code == 200
    assert "<script" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize("path", ["/", "/people", "/people/bob", "/events", "/sandbox/counts"])
def test_pages_can_only_be_read(cio: CustomerioHttp, method: str, path: str):
    """Nothing but GET is answered, so a page changes nothing."""
    assert cio.http.request(method, path).status_code == 404
    assert cio.attributes("bob") is not None
