"""The stand-in's Track API as a client on the wire sees it: answers, refusals and limits. What is kept: test_customerio_state.

Golden values: customerio-api.md, sections 1.1 to 1.4 (Customer.io's Track API document of 2026-08-13; live probes of 2026-09-01).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets_tests.customerio_http import TRACK_AUTH, CustomerioHttp, act, compact, event, identify

ULID = "01BX5ZZKBKACTAV9WEVGEMMVRY"  # the example of section 1.2


@pytest.fixture(scope="module")
def cio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomerioHttp]:
    """One workspace for the file; every test has people of its own."""
    with (
        CustomerioStandIn(tmp_path_factory.mktemp("track"), app_requests_per_s=None) as stand_in,
        CustomerioHttp(stand_in.url) as client,
    ):
        yield client


@pytest.mark.parametrize("auth", [None, (TRACK_AUTH[0], "wrong"), ("wrong", TRACK_AUTH[1])], ids=["none", "key", "site"])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api/v1/accounts/region"), ("POST", "/api/v2/entity"), ("POST", "/api/v2/batch")]
)
def test_wrong_credentials_are_a_401_of_the_live_shape(cio: CustomerioHttp, method: str, path: str, auth: Any):
    """Missing and wrong credentials are indistinguishable, on every route, and nothing is applied."""
    answer = cio.http.request(method, path, auth=auth, json=identify("intruder"))
    assert answer.status_code == 401
    assert answer.json() == {"meta": {"error": "Unauthorized request"}}
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Customer.io edge event collection"'
    assert cio.attributes("intruder") is None


def test_the_region_names_host_and_workspace(cio: CustomerioHttp):
    """The preflight's route answers with host, region and a whole-number workspace id."""
    answer = cio.http.get("/api/v1/accounts/region", auth=TRACK_AUTH)
    body = answer.json()
    assert (answer.status_code, body["url"], body["region"]) == (200, "https://track.customer.io", "us")
    assert set(body) == {"url", "region", "environment_id"}
    assert isinstance(body["environment_id"], int)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/v2/batches"), ("GET", "/api/v2/batch"), ("PUT", "/api/v2/entity"), ("POST", "/api/v1/accounts/region")],
    ids=["path", "get_batch", "put_entity", "post_region"],
)
def test_a_wrong_path_or_method_is_an_html_404(cio: CustomerioHttp, method: str, path: str):
    """Both hosts answer with a page, not JSON, so a client that parses it must fail here too."""
    answer = cio.http.request(method, path, auth=TRACK_AUTH)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.text.lower().startswith("<!doctype html>")


@pytest.mark.parametrize("way", ["entity", "batch"])
def test_accepted_is_200_and_an_empty_object(cio: CustomerioHttp, way: str):
    """An accepted request answers {} in JSON, and the person is there."""
    answer = getattr(cio, way)(identify(f"accepted-{way}", plan="pro"))
    assert (answer.status_code, answer.json()) == (200, {})
    assert answer.headers["content-type"].startswith("application/json")
    assert cio.attributes(f"accepted-{way}")["plan"] == "pro"


def test_a_207_names_the_refused_by_place_and_applies_the_rest(cio: CustomerioHttp):
    """Refused items come with their index, every reason of each; the others take effect."""
    answer = cio.batch(
        identify("good-0"),
        identify("bad-1", plan="x" * 1_001),
        identify("good-2"),
        {"type": "person", "action": "event", "identifiers": {"id": "bad-3"}, "name": " ", "id": "no ulid"},
        "not an operation",
        identify("good-5"),
    )
    assert answer.status_code == 207
    errors = answer.json()["errors"]
    assert all(set(error) == {"batch_index", "reason", "field", "message"} for error in errors)
    places = [(error["batch_index"], error["field"]) for error in errors]
    assert places == [(1, "attributes.plan"), (3, "name"), (3, "id"), (4, "")]
    present = [cio.attributes(name) is not None for name in ("good-0", "bad-1", "good-2", "bad-3", "good-5")]
    assert present == [True, False, True, False, True]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"[]",
        b'"text"',
        b"null",
        b"{}",
        b'{"batch":[]}',
        b'{"batch":{}}',
        b'{"batch":null}',
        b'{"batch":[{"a":NaN}]}',
        b'{"batch":[{"a":-Infinity}]}',
        b'{"batch":' + b"[" * 100_000,
    ],
    ids=["nothing", "cut", "no_utf8", "list", "text", "null", "no_batch", "empty", "object", "null_batch", "nan", "inf", "deep"],
)
def test_a_malformed_batch_is_a_400_without_places(cio: CustomerioHttp, body: bytes):
    """A request that is no batch is refused whole, in the published shape, which has no batch_index."""
    answer = cio.raw_batch(body)
    assert answer.status_code == 400
    errors = answer.json()["errors"]
    assert errors
    assert all(set(error) == {"reason", "field", "message"} for error in errors)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"a":NaN}', b"[" * 30_000], ids=["nothing", "list", "null", "nan", "deep"]
)
def test_a_malformed_entity_is_a_400(cio: CustomerioHttp, body: bytes):
    """The route for one operation refuses what is no operation."""
    answer = cio.entity(body)
    assert answer.status_code == 400
    assert set(answer.json()["errors"][0]) == {"reason", "field", "message"}


def sized(person: str, size: int) -> dict[str, Any]:
    """An event operation of exactly *size* bytes, non-ASCII text inside: bytes are counted, not characters."""
    operation = event(person, attributes={"text": "é" * 100})
    operation["attributes"]["text"] += "x" * (size - len(compact(operation)))
    return operation


# Section 1.3: the edge and one over. "é" is two bytes of UTF-8.
LIMITS = {
    "operation_bytes": (lambda who: sized(who, 32_000), lambda who: sized(who, 32_001)),
    "id_bytes": (lambda who: identify(who.ljust(148, "x") + "é"), lambda who: identify(who.ljust(149, "x") + "é")),
    "attribute_name_bytes": (
        lambda who: identify(who, **{"é" * 75: "v"}),
        lambda who: identify(who, **{"é" * 75 + "x": "v"}),
    ),
    "attribute_value_bytes": (
        lambda who: identify(who, bio="é" * 500),
        lambda who: identify(who, bio="é" * 500 + "x"),
    ),
    "nested_value_bytes": (
        lambda who: identify(who, tags=["x" * 996]),
        lambda who: identify(who, tags=["x" * 997]),
    ),
    "attributes": (
        lambda who: identify(who, **{f"a{n}": n for n in range(300)}),
        lambda who: identify(who, **{f"a{n}": n for n in range(301)}),
    ),
    "event_name_bytes": (lambda who: event(who, "é" * 50), lambda who: event(who, "é" * 50 + "x")),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_holds_at_the_edge_and_not_one_over(cio: CustomerioHttp, limit: str):
    """Each published limit takes its last byte and refuses the next, on both routes alike."""
    at_edge, over = LIMITS[limit]
    assert cio.batch(at_edge(f"{limit}-b")).status_code == 200
    assert cio.entity(at_edge(f"{limit}-e")).status_code == 200
    answer = cio.batch(over(f"{limit}-c"))
    assert (answer.status_code, [e["batch_index"] for e in answer.json()["errors"]]) == (207, [0])
    assert cio.entity(over(f"{limit}-f")).status_code == 400


@pytest.mark.parametrize(("size", "status"), [(500_000, 200), (500_001, 400)], ids=["edge", "one_over"])
def test_a_body_may_have_500_000_bytes(cio: CustomerioHttp, size: int, status: int):
    """The batch limit counts the bytes of the body; one over refuses all of it."""
    operations = [sized(f"body-{size}-{n}", 31_000) for n in range(16)]
    rest = size - len(compact({"batch": operations})) - 1
    body = compact({"batch": [*operations, sized(f"body-{size}-last", rest)]})
    assert len(body) == size
    assert cio.raw_batch(body).status_code == status
    assert (cio.attributes(f"body-{size}-0") is not None) == (status == 200)


@pytest.mark.parametrize(
    "identifiers",
    [
        None,
        {},
        {"id": "a", "email": "a@example.com"},
        {"anything": "a"},
        {"id": ""},
        {"id": " "},
        {"id": 7},
        {"id": None},
        ["id"],
    ],
    ids=["null", "none", "two", "unknown", "blank", "spaces", "number", "null_id", "list"],
)
def test_exactly_one_identifier_of_text_is_needed(cio: CustomerioHttp, identifiers: Any):
    """No identifier, several, or one that is no text: refused as in "You cannot pass multiple identifiers"."""
    for operation in ({**identify("x"), "identifiers": identifiers}, {**event("x"), "identifiers": identifiers}):
        answer = cio.entity(operation)
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["field"].startswith("identifiers")
    merge = {"type": "person", "action": "merge", "primary": {"id": "x"}, "secondary": identifiers}
    assert cio.entity(merge).json()["errors"][0]["field"].startswith("secondary")


@pytest.mark.parametrize(
    ("event_id", "status"),
    [
        ("01BX5ZZKBKACTAV9WEVGEMMVRX", 200),
        ("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 200),
        ("8ZZZZZZZZZZZZZZZZZZZZZZZZZ", 400),
        (ULID[:-1], 400),
        (ULID + "0", 400),
        (ULID[:-1] + "I", 400),
        (ULID[:-1] + "U", 400),
        ("018c2b1e-7b5e-7000-8000-000000000000", 400),
        ("", 400),
        (None, 400),
        (7, 400),
    ],
    ids=["ulid", "largest", "over_128_bits", "short", "long", "letter_I", "letter_U", "uuid", "blank", "null", "number"],
)
def test_an_event_id_must_be_a_ulid(cio: CustomerioHttp, event_id: Any, status: int):
    """26 Crockford digits of at most 128 bits, as section 2.1 says; anything else is refused by its field."""
    answer = cio.entity(event("ulid", id=event_id))
    assert answer.status_code == status
    assert [e["field"] for e in answer.json().get("errors", [])] == ([] if status == 200 else ["id"])


@pytest.mark.parametrize(
    "timestamp",
    [1_772_013_598_000, -1, 1_772_013_598.5, "1772013598", True, None, "2026-02-25T10:00:00Z"],
    ids=["milliseconds", "negative", "fraction", "text", "boolean", "null", "iso"],
)
def test_a_timestamp_is_whole_seconds(cio: CustomerioHttp, timestamp: Any):
    """Milliseconds and anything but whole unix seconds are refused for events and attributes."""
    for operation in (event("time"), identify("time")):
        assert cio.entity({**operation, "timestamp": 1_772_013_598}).status_code == 200
        answer = cio.entity({**operation, "timestamp": timestamp})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "timestamp")


@pytest.mark.parametrize(
    "operation",
    [
        {**identify("x"), "type": "pirate"},
        {**identify("x"), "action": "dance"},
        {**identify("x"), "action": {}},
        {**identify("x"), "action": None},
        {**identify("x"), "attributes": []},
        {**event("x"), "attributes": "text"},
        {**event("x"), "name": 5},
        act("merge", "x"),
        identify("x", name="\ud800"),
        identify("\ud800"),
        identify("x", _update="yes"),
    ],
    ids=[
        "type",
        "action",
        "action_object",
        "action_null",
        "list",
        "text",
        "name",
        "merge",
        "surrogate",
        "surrogate_id",
        "update",
    ],
)
def test_an_operation_of_a_wrong_shape_is_refused_and_breaks_nothing(cio: CustomerioHttp, operation: dict[str, Any]):
    """Shapes that no client should send are answered by the API's own refusal, alone and in a batch."""
    body = compact_ascii(operation)
    assert cio.entity(body).status_code == 400
    answer = cio.raw_batch(b'{"batch":[' + body + b"]}")
    assert answer.status_code in {207, 400}
    assert answer.json()["errors"]


def compact_ascii(value: Any) -> bytes:
    """JSON with escapes: the only way in which half a surrogate pair can travel."""
    return json.dumps(value).encode()


def test_a_number_too_large_for_json_is_refused(cio: CustomerioHttp):
    """1e400 is valid JSON that Python reads as infinity: refused by its place, so it cannot spoil what is read back."""
    answer = cio.raw_batch(b'{"batch":[' + compact(event("large", attributes={"n": 0})).replace(b'"n":0', b'"n":1e400') + b"]}")
    assert (answer.status_code, answer.json()["errors"][0]["batch_index"]) == (207, 0)


def test_an_event_id_outlives_the_person_it_was_for(cio: CustomerioHttp):
    """ "If an event repeats a value we've already received, we ignore the duplicate": deleting the person changes nothing."""
    kept, again = "01BX5ZZKBKACTAV9WEVGEMMV41", "01BX5ZZKBKACTAV9WEVGEMMV42"
    cio.send(event("forgotten", id=kept), act("delete", "forgotten"), event("forgotten", id=kept.lower()))
    assert cio.attributes("forgotten") is None
    cio.send(event("forgotten", id=again))
    assert len(cio.activities("forgotten", "event")) == 1


@pytest.mark.parametrize("by", ["id", "email", "cio_id"])
def test_a_suppressed_identifier_comes_back_in_no_way(cio: CustomerioHttp, by: str):
    """Suppressed by whichever identifier, the email is nobody's attribute and the id nobody's, until either is unsuppressed."""
    who, email = f"shut-{by}", f"shut-{by}@example.com"
    cio.send(identify(who, email=email))
    cio.send(act("suppress", cio.attributes(who)["cio_id" if by == "cio_id" else by], by=by))
    cio.send(identify(f"{who}-heir", email=email.upper(), plan="pro"), identify(f"x{email}", by="email", id=who))
    assert set(cio.attributes(f"{who}-heir")) == {"id", "cio_id", "plan"}
    assert [a["name"] for a in cio.activities(f"{who}-heir", "failed_attribute_change")] == ["email"]
    assert cio.attributes(who) is None
    cio.send(act("unsuppress", email, by="email"), identify(f"{who}-heir", email=email), identify(who))
    assert cio.attributes(f"{who}-heir")["email"] == email
    assert cio.attributes(who) is not None


def test_an_id_among_the_attributes_is_an_identifier(cio: CustomerioHttp):
    """Who has no id takes a free one; once set it changes for the cio_id alone, and cio_id itself never (section 7)."""
    by_email = {"by": "email", "plan": "pro"}
    cio.send(identify("first"), identify("taker@example.com", id="taken", cio_id="a1", **by_email))
    taken = cio.attributes("taken")
    assert (taken["email"], taken["plan"]) == ("taker@example.com", "pro")
    cio.send(identify("taker@example.com", id="other", **by_email), identify("taker@example.com", id=None, **by_email))
    cio.send(identify("second@example.com", id="first", **by_email))
    assert cio.attributes("taken") == taken
    assert "id" not in cio.attributes("second@example.com", by="email")
    failed = [cio.activities(who, "failed_attribute_change", by="email") for who in ("taker@example.com", "second@example.com")]
    assert [[a["name"] for a in activities] for activities in failed] == [["id", "id"], ["id"]]
    cio.send(identify(taken["cio_id"], by="cio_id", id="renamed"))
    assert (cio.attributes("taken"), cio.attributes("renamed")["email"]) == (None, "taker@example.com")
