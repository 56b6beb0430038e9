"""What goes wrong in the Customer.io stand-in on request, what its App API refuses, the log that shows it, and time travel.

Golden values: customerio-api.md, sections 2.4, 3, 4.2 and 7, and app-api-subset.yaml (Customer.io's App API document of
2026-09-17).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.customerio.rate_limit import Bucket
from rs_cio_assets.sandbox.customerio.workspace import MAX_STEPS, Workspace
from rs_cio_assets_tests.customerio_http import CustomerioHttp, act, event, identify
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON

NOW, HOUR_S, DAY_S = 1_772_013_598, 3_600, 86_400
ULID = "01BX5ZZKBKACTAV9WEVGEMMV%02d"
READS = ("/v1/customers?email=x", "/v1/customers/ada/attributes", "/v1/activities", "/v1/segments", "/v1/campaigns")


def stand_in_at(folder: Path, app_requests_per_s: float | None = None) -> CustomerioStandIn:
    """A stand-in whose clock stands still."""
    return CustomerioStandIn(folder, clock=lambda: float(NOW), app_requests_per_s=app_requests_per_s)


@pytest.fixture
def cio(tmp_path: Path) -> Iterator[CustomerioHttp]:
    """An empty workspace."""
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as http:
        yield http


def set_faults(cio: CustomerioHttp, **faults: Any) -> None:
    """Replace the whole set."""
    answer = cio.http.put("/sandbox/faults", json=faults)
    assert (answer.status_code, answer.json()) == (200, faults)


def held(cio: CustomerioHttp, person_id: str, name: str) -> str | None:
    """An attribute of somebody who must be there."""
    attributes = cio.attributes(person_id)
    assert attributes is not None
    return attributes.get(name)


def logged(cio: CustomerioHttp, kind: str, **params: Any) -> list[Mapping[str, Any]]:
    """Activities of one type in the whole workspace."""
    return cio.app("/v1/activities", type=kind, limit=100, **params).json()["activities"] or []


def test_a_lost_attribute_is_a_200_that_does_not_take(cio: CustomerioHttp):
    """The named attribute stays as it was, the others are set, and the log names what failed, for whom."""
    cio.send(identify("ada", vip_tier="gold", plan="free"))
    set_faults(cio, lost_attributes=["vip_tier"])
    cio.send(identify("ada", vip_tier="none", plan="pro"), identify("bob", plan="pro"))
    assert [held(cio, "ada", name) for name in ("vip_tier", "plan")] == ["gold", "pro"]
    (failed,) = logged(cio, "failed_attribute_change")
    assert (failed["customer_id"], failed["name"], list(failed["data"])) == ("ada", "vip_tier", ["vip_tier"])
    assert cio.http.delete("/sandbox/faults").status_code == 204
    cio.send(identify("ada", vip_tier="none"))
    assert held(cio, "ada", "vip_tier") == "none"


def test_a_lost_event_is_a_200_that_is_not_stored(cio: CustomerioHttp):
    """Nothing but a failed_event is left of it, and once the mistake is mended the same id is no duplicate."""
    order, other = event("ada", "Order Completed", id=ULID % 1, timestamp=NOW - 5), event("ada", "Checkout Started", id=ULID % 2)
    set_faults(cio, lost_events=["Order Completed"])
    cio.send(order, other)
    assert [e["name"] for e in cio.activities("ada", "event")] == ["Checkout Started"]
    (failed,) = logged(cio, "failed_event", name="Order Completed")
    assert (failed["customer_id"], failed["timestamp"], failed["data"]["id"]) == ("ada", NOW - 5, ULID % 1)
    set_faults(cio)
    cio.send(order, order, other)
    assert [e["name"] for e in cio.activities("ada", "event")] == ["Order Completed", "Checkout Started"]


def test_a_frozen_email_is_set_once(cio: CustomerioHttp):
    """By id neither another address nor none takes, the same one is no failure; who has none gets one, by cio_id it changes."""
    set_faults(cio, frozen_email=True)
    cio.send(identify("ada"), identify("ada", email="ada@example.com"), identify("ada", email="ada@example.com", plan="pro"))
    assert logged(cio, "failed_attribute_change") == []
    cio.send(identify("ada", email="new@example.com"), identify("ada", email=None))
    assert [failed["name"] for failed in logged(cio, "failed_attribute_change")] == ["email", "email"]
    assert held(cio, "ada", "email") == "ada@example.com"
    cio.send(identify(held(cio, "ada", "cio_id") or "", by="cio_id", email="newer@example.com"))
    assert held(cio, "ada", "email") == "newer@example.com"


def test_faults_replace_each_other_and_survive_a_restart(tmp_path: Path):
    """PUT gives the whole set, not an addition; what is on stays on over a restart, and DELETE clears it."""
    late = {"lost_events": ["a"], "doubled_journeys": [3], "silent_journeys": [4], "late_journeys": {"5": 60}}
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert cio.http.get("/sandbox/faults").json() == {}
        set_faults(cio, frozen_email=True)
        set_faults(cio, **late)
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert cio.http.get("/sandbox/faults").json() == late
        cio.send(event("ada", "a"))
        assert cio.activities("ada", "event") == []
        assert cio.http.delete("/sandbox/faults").status_code == 204
        assert cio.http.get("/sandbox/faults").json() == {}


WRONG: tuple[Any, ...] = (
    [],
    {"unknown": True},
    {"lost_attributes": "vip_tier"},
    {"lost_events": [5]},
    {"lost_events": ["\ud800"]},
    {"frozen_email": "yes"},
    {"doubled_journeys": ["3"]},
    {"late_journeys": {"x": 5}},
    {"late_journeys": {"3": -5}},
    {"app_scope_missing": 1},
)


def test_a_fault_that_is_none_is_refused_and_changes_nothing(cio: CustomerioHttp):
    """A misspelt fault would prove nothing: it is a 400 with a reason, and the earlier set stays."""
    set_faults(cio, frozen_email=True)
    for faults in WRONG:
        refused = cio.http.put("/sandbox/faults", content=json.dumps(faults))
        assert (refused.status_code, set(refused.json())) == (400, {"error"}), faults
    assert cio.http.get("/sandbox/faults").json() == {"frozen_email": True}


def test_a_key_without_scope_is_a_403_everywhere(cio: CustomerioHttp):
    """Every App API route refuses with the published error; the Track API and the right answer afterwards are untouched."""
    cio.send(identify("ada"))
    set_faults(cio, app_scope_missing=True)
    for refused in map(cio.app, READS):
        assert (refused.status_code, refused.json()["errors"][0]["status"]) == (403, "403"), refused.url
        assert set(refused.json()["errors"][0]) == {"detail", "status"}
    cio.send(identify("ada"))
    set_faults(cio)
    assert [cio.app(path).status_code for path in READS] == [200] * len(READS)


def test_somebody_else_may_use_the_limit_up(cio: CustomerioHttp):
    """Then every App API route is a 429 that says how long to wait, whatever this client does, until it is over."""
    cio.send(identify("ada"))
    set_faults(cio, app_requests_used_elsewhere=True)
    for refused in map(cio.app, READS):
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1"), refused.url
        assert refused.json()["errors"][0]["status"] == "429"
    cio.send(identify("ada"))
    set_faults(cio)
    assert [cio.app(path).status_code for path in READS] == [200] * len(READS)


def test_the_app_api_takes_10_requests_a_second_over_all_routes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A burst of 10 is answered, the next is a 429 with Retry-After; wrong keys, the Track API and the pages do not count."""
    seconds = [100.0]
    monkeypatch.setattr("rs_cio_assets.sandbox.customerio.rate_limit.monotonic", lambda: seconds[0])
    with stand_in_at(tmp_path, app_requests_per_s=10) as stand_in, CustomerioHttp(stand_in.url) as cio:
        cio.send(identify("ada"))
        assert [cio.app(READS[n % len(READS)]).status_code for n in range(10)] == [200] * 10
        assert cio.http.get("/v1/segments").status_code == 401
        refused = cio.post_app("/v1/customers/attributes", {"ids": ["ada"]})
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        cio.send(identify("ada"))
        assert cio.http.get("/sandbox/counts").status_code == 200
        seconds[0] += 0.25
        assert [cio.app("/v1/segments").status_code for _ in range(3)] == [200, 200, 429]


def test_a_bucket_holds_a_second_and_no_more(monkeypatch: pytest.MonkeyPatch):
    """An hour of silence allows one burst of 10, not 36,000 requests; without a rate there is no limit."""
    seconds = [0.0]
    monkeypatch.setattr("rs_cio_assets.sandbox.customerio.rate_limit.monotonic", lambda: seconds[0])
    bucket, unlimited = Bucket(10), Bucket(None)
    seconds[0] += HOUR_S
    assert sum(bucket.has_taken() for _ in range(100)) == 10
    assert all(unlimited.has_taken() for _ in range(1_000))


@pytest.fixture
def busy(cio: CustomerioHttp) -> CustomerioHttp:
    """25 people with an event each, of two names."""
    cio.send(*(event(f"p{n:02}", f"seen {n % 2}", timestamp=NOW - n, id=ULID % n) for n in range(25)))
    return cio


@pytest.mark.parametrize(("limit", "sizes"), [(None, [10, 10, 5]), (25, [25, 0]), (100, [25])])
def test_the_workspaces_activities_page_to_the_end(busy: CustomerioHttp, limit: int | None, sizes: list[int]):
    """10 by default: all pages together are every event once, the newest arrival first, each with its person."""
    read, start = [], ""
    while True:
        page = busy.app("/v1/activities", type="event", start=start, **({} if limit is None else {"limit": limit})).json()
        read.append(page["activities"] or [])
        start = page["next"]
        if not start:
            break
    assert [len(page) for page in read] == sizes
    expected = [(f"p{n:02}", ULID % n, NOW - n) for n in reversed(range(25))]
    assert [(a["customer_id"], a["id"], a["timestamp"]) for page in read for a in page] == expected


@pytest.mark.skipif(SHARED is None, reason=SKIP_REASON)
def test_activities_have_the_published_shape(cio: CustomerioHttp):
    """Every kind that the stand-in logs holds published members only, of the published types."""
    assert SHARED is not None
    document = yaml.safe_load((SHARED / "reference" / "customerio-openapi" / "app-api-subset.yaml").read_text("utf-8"))
    set_faults(cio, lost_attributes=["x"], lost_events=["y"])
    cio.send(identify("ada", timestamp=NOW, x=1, z=2), identify("ada", timestamp=NOW - 1, z=3), event("ada", "y"), event("ada"))
    activities = cio.app("/v1/activities", limit=100).json()["activities"]
    kinds = {"event", "failed_event", "attribute_change", "failed_attribute_change", "skipped_update", "profile_create"}
    assert {activity["type"] for activity in activities} == kinds
    schema = {"$ref": "#/components/schemas/Activity", "components": document["components"]}
    for activity in activities:
        jsonschema.validate(activity, schema)
        assert set(activity) <= set(document["components"]["schemas"]["Activity"]["properties"])


def test_the_workspaces_activities_are_filtered(busy: CustomerioHttp):
    """By type, name and person; nothing is null, and what was deleted is in no list."""
    assert len(logged(busy, "event", name="seen 1")) == 12
    assert [a["customer_id"] for a in logged(busy, "event", customer_id="p07")] == ["p07"]
    assert logged(busy, "event", customer_id="nobody") == []
    assert busy.app("/v1/activities", type="failed_event").json() == {"activities": None, "next": ""}
    busy.send(act("delete", "p07"))
    assert (logged(busy, "event", customer_id="p07"), len(logged(busy, "event"))) == ([], 24)


def test_a_log_that_cannot_be_is_a_400(cio: CustomerioHttp):
    """Parameters outside of the published ones are refused."""
    for params in ({"limit": 101}, {"limit": 0}, {"start": "x"}, {"deleted": "maybe"}, {"customer_id": "a", "id_type": "phone"}):
        assert cio.app("/v1/activities", **params).status_code == 400, params


def test_time_moves_on_and_stays_moved(tmp_path: Path):
    """What arrives afterwards is dated by the new time, also after a restart."""
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert cio.http.get("/sandbox/time").json() == {"now": NOW}
        moved = cio.http.post("/sandbox/time", json={"advance_seconds": DAY_S})
        assert (moved.status_code, moved.json()) == (200, {"now": NOW + DAY_S})
        assert cio.http.post("/sandbox/time", json={"advance_seconds": 1}).json() == {"now": NOW + DAY_S + 1}
    with stand_in_at(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        cio.send(event("ada"))
        assert [a["timestamp"] for a in cio.activities("ada")] == [NOW + DAY_S + 1] * 2


def test_time_does_not_go_back(cio: CustomerioHttp):
    """Anything but a whole number of seconds ahead is refused and moves nothing."""
    wrong = [{"advance_seconds": advance_s} for advance_s in (0, -1, 1.5, True, "5", 10**12)]
    for body in ({}, [], {"now": NOW}, *wrong):
        assert cio.http.post("/sandbox/time", json=body).status_code == 400, body
    assert cio.http.get("/sandbox/time").json() == {"now": NOW}


class Watching:
    """A follower that writes down what it is told, and reads and writes the workspace as it does."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.settled: list[int] = []
        self.told: list[tuple[Any, ...]] = []

    def settle(self, now: int) -> None:
        """Note the time, here and in the workspace."""
        self.settled.append(now)
        with self._workspace.transaction():
            self._workspace.set_setting("settled", str(now))

    def event(self, cio_id: int, name: str, event_id: str | None, timestamp: int, data: Mapping[str, Any], now: int) -> None:
        """Note the event; the name `broken` fails."""
        if name == "broken":
            raise RuntimeError(name)
        self.told.append((cio_id, name, event_id, timestamp, dict(data), now))

    def gone(self, cio_id: int) -> None:
        """Note who goes, with the number of activities that are still there."""
        count = self._workspace.rows("SELECT count(*) AS n FROM activities WHERE cio_id = ?", (cio_id,))[0]["n"]
        self.told.append(("gone", cio_id, count))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Workspace, Watching]]:
    """A workspace and who follows it."""
    workspace = Workspace(tmp_path / "workspace.db", lambda: float(NOW))
    watching = Watching(workspace)
    workspace.followers.append(watching)
    yield workspace, watching
    workspace.close()


@pytest.mark.parametrize(
    ("advance_s", "steps_s"),
    [
        (60, [60]),
        (HOUR_S, [HOUR_S]),
        (2 * HOUR_S + 60, [HOUR_S, 2 * HOUR_S, 2 * HOUR_S + 60]),
        (MAX_STEPS * HOUR_S, [n * HOUR_S for n in range(1, MAX_STEPS + 1)]),
        (MAX_STEPS * HOUR_S + 1, [n * 2 * HOUR_S for n in range(1, MAX_STEPS // 2 + 1)] + [MAX_STEPS * HOUR_S + 1]),
    ],
)
def test_time_settles_by_the_hour_on_its_way(watched: tuple[Workspace, Watching], advance_s: int, steps_s: list[int]):
    """Every hour and the end are settled in order; a long way has longer steps, whole hours still, and at most 200 or so."""
    workspace, watching = watched
    workspace.advance(advance_s)
    assert watching.settled == [NOW + step_s for step_s in steps_s]
    assert (workspace.now(), workspace.setting("settled")) == (NOW + advance_s, str(NOW + advance_s))


def test_a_follower_is_told_each_new_event_once(watched: tuple[Workspace, Watching]):
    """Settled before each batch; no duplicate, page or lost event is told; who is deleted or merged is told before it happens."""
    workspace, watching = watched
    order = event("ada", " Order ", id=ULID % 1, timestamp=NOW - 5, attributes={"n": 1})
    workspace.set_faults({"lost_events": ["lost"]})
    workspace.apply([order, order, event("ada", "lost"), {**event("ada", "page"), "action": "page"}, event("bob")])
    assert watching.told == [(1, "Order", ULID % 1, NOW - 5, {"n": 1}, NOW), (2, "seen", None, NOW, {}, NOW)]
    merge = {"type": "person", "action": "merge", "primary": {"id": "bob"}, "secondary": {"id": "ada"}}
    workspace.apply([merge, act("delete", "bob"), act("delete", "nobody")])
    assert watching.told[2:] == [("gone", 1, 4), ("gone", 2, 7)]
    assert watching.settled == [NOW, NOW]


def test_a_follower_that_fails_takes_the_whole_batch_back(watched: tuple[Workspace, Watching]):
    """The followers' writes and the batch's are one transaction: all or none, and the next batch is taken."""
    workspace, _ = watched
    with pytest.raises(RuntimeError):
        workspace.apply([identify("ada"), event("ada", "broken")])
    assert (workspace.find("id", "ada"), workspace.setting("settled")) == (None, None)
    workspace.apply([identify("ada")])
    assert (workspace.find("id", "ada") is not None, workspace.setting("settled")) == (True, str(NOW))
