"""Segments in the Customer.io stand-in: made as a person would in Customer.io's pages, read as the App API publishes them.

Golden values: customerio-api.md, section 9, and app-api-subset.yaml (Customer.io's App API document of 2026-09-17).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.customerio.segments import is_member, members
from rs_cio_assets.sandbox.customerio.workspace import Workspace
from rs_cio_assets_tests.customerio_http import APP_HEADERS, CustomerioHttp, act, event, identify
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON

NOW, DAY_S = 1_772_013_598, 86_400
REPEAT: dict[str, Any] = {
    "name": "Repeat buyers",
    "description": "Two orders or more",
    "tags": ["retention"],
    "condition": {"attribute": {"field": "orders_count", "operator": "gte", "value": 2}},
}
RECENT: dict[str, Any] = {"name": "Seen lately", "condition": {"event": {"name": "seen", "within_days": 1}}}
READS = ("", "/customer_count", "/membership", "/used_by")


def stand_in_at(folder: Path) -> CustomerioStandIn:
    """A stand-in whose clock stands still, without a limit to its App API."""
    return CustomerioStandIn(folder, clock=lambda: float(NOW), app_requests_per_s=None)


@pytest.fixture
def cio(tmp_path: Path) -> Iterator[CustomerioHttp]:
    """A workspace of 12 people, of whom the even ones ordered twice; person 11 is known by email alone."""
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as http:
        http.send(*(identify(f"p{n:02}", email=f"p{n}@example.com", orders_count=2 - n % 2) for n in range(11)))
        http.send(identify("p11@example.com", by="email", orders_count=3), event("p03", timestamp=NOW - DAY_S))
        yield http


def put(cio: CustomerioHttp, segment_id: int, segment: Any) -> Any:
    """Save a segment that must be taken."""
    answer = cio.http.put(f"/sandbox/segments/{segment_id}", json=segment)
    assert answer.status_code == 200, answer.text
    return answer.json()


def advance(cio: CustomerioHttp, advance_s: int) -> None:
    """Move the workspace's time on."""
    assert cio.http.post("/sandbox/time", json={"advance_seconds": advance_s}).status_code == 200


def ids(cio: CustomerioHttp, segment_id: int, **params: Any) -> list[str]:
    """Ids of the members, from one page."""
    return cio.app(f"/v1/segments/{segment_id}/membership", **params).json()["ids"]


def count(cio: CustomerioHttp, segment_id: int) -> int:
    """How many members the App API counts."""
    return cio.app(f"/v1/segments/{segment_id}/customer_count").json()["count"]


def test_no_segments_are_null_and_an_unknown_one_is_a_json_404(cio: CustomerioHttp):
    """An empty list is null as the live API's may be; an id that is none can be told from a wrong path by its body."""
    assert cio.app("/v1/segments").json() == {"segments": None}
    for segment_id in (0, 7, 2**31, 10**30):
        for read in READS:
            nothing = cio.app(f"/v1/segments/{segment_id}{read}")
            assert (nothing.status_code, nothing.json()["errors"][0]["status"]) == (404, "404")
    assert cio.app("/v1/segments/7/members").headers["content-type"].startswith("text/html")
    assert cio.http.get("/v1/segments", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_a_segment_is_shown_whole(cio: CustomerioHttp):
    """What was not given is filled in; the list is in the order of ids."""
    shown = put(cio, 7, REPEAT)
    assert shown == {
        "id": 7,
        "deduplicate_id": f"7:{NOW}",
        "name": "Repeat buyers",
        "description": "Two orders or more",
        "state": "finished",
        "progress": None,
        "type": "dynamic",
        "tags": ["retention"],
        "created_at": NOW,
        "updated_at": NOW,
    }
    listed = put(cio, 2, {"name": "By hand", "ids": []})
    assert (listed["type"], listed["description"], listed["tags"]) == ("manual", "", None)
    assert cio.app("/v1/segments/7").json() == {"segment": shown}
    assert cio.app("/v1/segments").json() == {"segments": [listed, shown]}


@pytest.mark.skipif(SHARED is None, reason=SKIP_REASON)
def test_answers_have_the_published_shape(cio: CustomerioHttp):
    """Finished, building and manual segments, and members, hold the published members with the published types, no others."""
    assert SHARED is not None
    document = yaml.safe_load((SHARED / "reference" / "customerio-openapi" / "app-api-subset.yaml").read_text("utf-8"))
    put(cio, 1, REPEAT)
    put(cio, 2, REPEAT | {"build_seconds": 60})
    put(cio, 3, {"name": "By hand", "ids": ["p01"]})
    segments = cio.app("/v1/segments").json()["segments"]
    page = cio.app("/v1/segments/1/membership").json()
    assert set(page) == {"segment_id", "ids", "identifiers", "next"}
    for kind, items in (("Segment", segments), ("Identifiers", page["identifiers"])):
        schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
        for item in items:
            jsonschema.validate(item, schema)
            assert set(item) == set(document["components"]["schemas"][kind]["properties"])
    assert set(cio.app("/v1/segments/1/customer_count").json()) == {"segment_id", "count"}
    (of_person,) = cio.app("/v1/customers/p00/segments").json()["segments"]
    assert of_person == {"id": 1, "name": REPEAT["name"], "description": REPEAT["description"]}


def test_members_follow_the_data(cio: CustomerioHttp):
    """A person is in a segment from the moment the condition holds until it does not; a deleted one is out."""
    put(cio, 1, REPEAT)
    even = ["p00", "p02", "p04", "p06", "p08", "p10"]
    assert (ids(cio, 1), count(cio, 1)) == (even, 7)
    cio.send(identify("p01", orders_count=2), identify("p00", orders_count=1), act("delete", "p02"))
    assert (ids(cio, 1), count(cio, 1)) == (sorted({*even, "p01"} - {"p00", "p02"}), 6)


@pytest.mark.parametrize(("limit", "sizes"), [(3, [3, 3, 1]), (7, [7, 0]), (30_000, [7])])
def test_membership_pages_to_the_end_without_loss_or_repeat(cio: CustomerioHttp, limit: int, sizes: list[int]):
    """All pages together are every member once, those without an id among the identifiers only."""
    put(cio, 1, REPEAT)
    read, start = [], ""
    while True:
        page = cio.app("/v1/segments/1/membership", limit=limit, start=start).json()
        read.append(page)
        start = page["next"]
        if not start:
            break
    assert [len(page["identifiers"]) for page in read] == sizes
    emails = [person["email"] for page in read for person in page["identifiers"]]
    assert emails == [f"p{n}@example.com" for n in (0, 2, 4, 6, 8, 10, 11)]
    assert sum(len(page["ids"]) for page in read) == 6


def test_pages_stay_apart_while_people_come_and_go(cio: CustomerioHttp):
    """A page begins after the last member of the one before, whoever left or entered in the meantime."""
    put(cio, 1, REPEAT)
    first = cio.app("/v1/segments/1/membership", limit=3).json()
    assert first["ids"] == ["p00", "p02", "p04"]
    cio.send(act("delete", "p04"), identify("p01", orders_count=9), identify("new", orders_count=9))
    assert ids(cio, 1, limit=30, start=first["next"]) == ["p06", "p08", "p10", "new"]


def test_a_page_that_cannot_be_is_a_400(cio: CustomerioHttp):
    """Limits go to 30,000, and a start comes from an earlier answer."""
    put(cio, 1, REPEAT)
    for params in ({"limit": 30_001}, {"limit": 0}, {"limit": "x"}, {"start": "x"}, {"start": "-1"}):
        assert cio.app("/v1/segments/1/membership", **params).status_code == 400, params


def test_a_page_holds_1000_where_nothing_is_said(cio: CustomerioHttp):
    """The default is the published one."""
    cio.send(*(identify(f"more-{n:04}", orders_count=2) for n in range(1_000)))
    put(cio, 1, REPEAT)
    page = cio.app("/v1/segments/1/membership").json()
    assert (len(page["identifiers"]), page["next"] != "", count(cio, 1)) == (1_000, True, 1_007)


def test_time_alone_moves_people_out(cio: CustomerioHttp):
    """An event is within a day for a day to the second, and not a second longer; nobody sent anything."""
    put(cio, 1, RECENT)
    put(cio, 2, {"name": "Not seen", "condition": {"not": {"segment": {"id": 1}}}})
    assert (ids(cio, 1), count(cio, 2)) == (["p03"], 11)
    advance(cio, 1)
    assert (ids(cio, 1), count(cio, 2)) == ([], 12)


def test_a_segment_is_empty_until_it_is_built(cio: CustomerioHttp):
    """While building it says how far it is, counts nobody and lists nobody; a change begins the building anew."""
    put(cio, 1, REPEAT | {"build_seconds": 100})
    put(cio, 2, {"name": "On top of it", "condition": {"segment": {"id": 1}}})
    for passed_s, progress in ((0, 0), (50, 50), (49, 99)):
        if passed_s:
            advance(cio, passed_s)
        shown = cio.app("/v1/segments/1").json()["segment"]
        assert (shown["state"], shown["progress"], count(cio, 1), ids(cio, 1)) == ("build", progress, 0, [])
        assert (count(cio, 2), cio.app("/v1/customers/p00/segments").json()) == (0, {"segments": None})
    advance(cio, 1)
    shown = cio.app("/v1/segments/1").json()["segment"]
    assert (shown["state"], shown["progress"], count(cio, 1), count(cio, 2)) == ("finished", None, 7, 7)
    again = put(cio, 1, REPEAT | {"build_seconds": 100})
    assert (again["state"], again["created_at"], again["updated_at"], count(cio, 1)) == ("build", NOW, NOW + 100, 0)


def test_a_manual_segment_holds_whom_it_lists(cio: CustomerioHttp):
    """Unknown ids are left out, deleted people are gone for good, and a merged one is not its primary."""
    put(cio, 1, {"name": "By hand", "ids": ["p01", "p02", "p03", "nobody"]})
    assert ids(cio, 1) == ["p01", "p02", "p03"]
    merge = {"type": "person", "action": "merge", "primary": {"id": "p00"}, "secondary": {"id": "p02"}}
    cio.send(act("delete", "p01"), identify("p01"), merge)
    assert (ids(cio, 1), count(cio, 1)) == (["p03"], 1)
    put(cio, 1, {"name": "By hand", "ids": ["p05"]})
    assert ids(cio, 1) == ["p05"]


def test_a_persons_segments_are_listed(cio: CustomerioHttp):
    """Those that the person is in now, by id, whichever identifier is used; nobody's are a 404."""
    for segment_id, segment in ((4, RECENT), (1, REPEAT), (2, {"name": "By hand", "ids": ["p03", "p04"]})):
        put(cio, segment_id, segment)
    for identifier, by in (("p03", "id"), ("p3@example.com", "email")):
        found = cio.app(f"/v1/customers/{identifier}/segments", id_type=by).json()["segments"]
        assert [segment["id"] for segment in found] == [2, 4]
    assert [s["name"] for s in cio.app("/v1/customers/p04/segments").json()["segments"]] == ["Repeat buyers", "By hand"]
    assert cio.app("/v1/customers/nobody/segments").status_code == 404


def test_a_search_knows_segments(cio: CustomerioHttp):
    """The published filter joins segments with attributes; a segment that there is none of is refused, not empty."""
    put(cio, 1, REPEAT)
    has_email = {"attribute": {"field": "email", "operator": "eq", "value": "p4@example.com"}}
    found = cio.post_app("/v1/customers", {"filter": {"and": [{"segment": {"id": 1}}, {"not": has_email}]}})
    assert found.json()["ids"] == ["p00", "p02", "p06", "p08", "p10"]
    assert cio.post_app("/v1/customers", {"filter": {"segment": {"id": 9}}}).status_code == 400
    assert cio.post_app("/v1/customers", {"filter": RECENT["condition"]}).status_code == 400


def test_what_uses_a_segment_is_named(cio: CustomerioHttp):
    """Campaigns that it triggers or filters, in any state; there are no newsletters here."""
    put(cio, 1, REPEAT)
    put(cio, 2, RECENT)
    campaigns = (
        {"name": "a", "state": "draft", "trigger_segment_ids": [1]},
        {"name": "b", "state": "running", "event_name": "seen", "filter_segment_ids": [2, 1]},
        {"name": "c", "state": "stopped", "event_name": "seen"},
    )
    for number, campaign in enumerate(campaigns, 11):
        assert cio.http.put(f"/sandbox/campaigns/{number}", json=campaign).status_code == 200
    used = {"campaigns": [11, 12], "sent_newsletters": [], "draft_newsletters": []}
    assert cio.app("/v1/segments/1/used_by").json() == {"segment_id": 1, "used_by": used}
    assert cio.app("/v1/segments/2/used_by").json()["used_by"]["campaigns"] == [12]


WRONG: tuple[dict[str, Any], ...] = (
    {"name": " "},
    {"name": None},
    {"description": 5},
    {"tags": "x"},
    {"ids": ["p01"]},
    {"condition": None},
    {"condition": {"segment": {"id": 1}}},
    {"condition": {"segment": {"id": 5}}},
    {"condition": {"segment": {"id": 99}}},
    {"condition": {"segment": {"id": 10**30}}},
    {"build_seconds": -1},
    {"build_seconds": 1.5},
    {"state": "finished"},
)


def test_a_segment_that_cannot_be_is_refused_and_changes_nothing(cio: CustomerioHttp):
    """Each mistake is a 400 with a reason; a segment may name others that exist, and never lead back to itself."""
    before = put(cio, 1, REPEAT)
    put(cio, 5, {"name": "On top of it", "condition": {"or": [{"segment": {"id": 1}}, {"not": {"segment": {"id": 1}}}]}})
    for change in WRONG:
        refused = cio.http.put("/sandbox/segments/1", json=REPEAT | change)
        assert (refused.status_code, set(refused.json())) == (400, {"error"}), change
    assert (cio.app("/v1/segments/1").json(), count(cio, 5)) == ({"segment": before}, 12)


def test_a_request_that_is_no_segment_is_a_400(cio: CustomerioHttp):
    """Bodies that are no objects, halves of characters and ids out of range break nothing."""
    half = b'{"name": "x", "condition": {"attribute": {"field": "\\ud800", "operator": "exists"}}}'
    for path, body in (("1", b"{"), ("1", b"[]"), ("1", b"\xff"), ("1", half), ("0", b"{}"), (str(2**31), b"{}")):
        assert cio.http.put(f"/sandbox/segments/{path}", content=body).status_code == 400, body
    assert cio.app("/v1/segments").json() == {"segments": None}


def test_segments_survive_a_restart_and_are_gone_when_deleted(tmp_path: Path):
    """Definition, members, state and the workspace's time are the same after a restart; so is a deletion."""
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        cio.send(identify("p01", orders_count=2), identify("p02"))
        put(cio, 1, REPEAT | {"build_seconds": 7_200})
        put(cio, 2, {"name": "By hand", "ids": ["p02"]})
        advance(cio, 3_600)
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert (cio.app("/v1/segments/1").json()["segment"]["progress"], ids(cio, 2)) == (50, ["p02"])
        advance(cio, 3_600)
        assert ids(cio, 1) == ["p01"]
        assert cio.http.delete("/sandbox/segments/1").status_code == 204
        assert cio.http.delete("/sandbox/segments/1").status_code == 404
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert [segment["id"] for segment in cio.app("/v1/segments").json()["segments"]] == [2]
        assert cio.http.get("/v1/segments/1", headers=APP_HEADERS).status_code == 404


def test_journeys_can_ask_for_members_at_any_time(tmp_path: Path):
    """`members` and `is_member` take the time that is asked about, and nobody is in what does not exist."""
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        cio.send(event("p01", timestamp=NOW - DAY_S))
        put(cio, 1, RECENT)
    workspace = Workspace(tmp_path / "workspace.db", lambda: NOW)
    answers = {}
    for segment_id, now in ((1, NOW), (1, NOW + 1), (9, NOW)):
        sql, values = members(workspace, segment_id, now)
        answers[segment_id, now - NOW] = (len(workspace.rows(sql, values)), is_member(workspace, segment_id, 1, now))
    workspace.close()
    assert answers == {(1, 0): (1, True), (1, 1): (0, False), (9, 0): (0, False)}
