"""Campaigns in the Customer.io stand-in: kept as a person would make them in Customer.io, listed as the App API publishes them.

Golden values: customerio-api.md, section 4.4, and app-api-subset.yaml (Customer.io's App API document of 2026-09-17).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from rs_cio_assets.customerio import AppClient, Campaign
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.customerio_desk import DAY_S, HOUR_S, NOW, Desk, ulid
from rs_cio_assets_tests.customerio_http import CustomerioHttp, event, identify
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON

ORDER = "Order Completed"
BY_EVENT: dict[str, Any] = {"name": "After the order", "state": "running", "event_name": ORDER}
BY_SEGMENT: dict[str, Any] = {"name": "Win back", "state": "stopped", "trigger_segment_ids": [7, 9], "filter_segment_ids": [4]}
BY_DATE: dict[str, Any] = {
    "name": "Birthday <b>",
    "state": "draft",
    "actions": [{"type": "email", "id": 96}],
    "tags": ["é"],
    "description": "",
}


@pytest.fixture
def cio(tmp_path: Path) -> Iterator[Desk]:
    """An empty workspace, its time standing still."""
    with Desk.over(tmp_path) as desk:
        yield desk


def put(cio: CustomerioHttp, campaign_id: int, campaign: Any) -> httpx.Response:
    """Save a campaign; bytes go as they are."""
    content = campaign if isinstance(campaign, bytes) else json.dumps(campaign).encode()
    return cio.http.put(f"/sandbox/campaigns/{campaign_id}", content=content)


def listed(cio: CustomerioHttp) -> list[dict[str, Any]] | None:
    """The campaigns as the App API lists them."""
    answer = cio.app("/v1/campaigns")
    assert (answer.status_code, set(answer.json())) == (200, {"campaigns"})
    return answer.json()["campaigns"]


def test_no_campaigns_are_null_and_a_wrong_key_is_a_401(cio: Desk):
    """An empty collection is null, as the live API's may be; the list needs the App API key like every other route."""
    assert listed(cio) is None
    refused = cio.http.get("/v1/campaigns", headers={"Authorization": "Bearer wrong"})
    assert (refused.status_code, refused.json()) == (401, {"meta": {"error": "Unauthorized request"}})


def test_a_campaign_is_listed_whole(cio: Desk):
    """What was not given is filled in: times, what follows from the state, and the id with the time of the last change."""
    assert put(cio, 7, BY_EVENT).status_code == 200
    assert listed(cio) == [
        {
            **BY_EVENT,
            "id": 7,
            "deduplicate_id": f"7:{NOW}",
            "created": NOW,
            "updated": NOW,
            "active": True,
            "actions": [],
            "first_started": NOW,
            "tags": [],
        }
    ]


@pytest.mark.skipif(SHARED is None, reason=SKIP_REASON)
def test_campaigns_have_the_published_members(cio: Desk):
    """Every member is one of the published list; only what depends on the trigger, or is no longer in use, may be absent."""
    assert SHARED is not None
    document = yaml.safe_load((SHARED / "reference" / "customerio-openapi" / "app-api-subset.yaml").read_text("utf-8"))
    description = document["paths"]["/v1/campaigns"]["get"]["responses"]["200"]["description"]
    found = re.fullmatch(r'\{"campaigns":\[\{(.*)\}\]\}', description)
    assert found is not None
    members = re.sub(r":\[\{.*?\}\]", "", found[1]).split(",")
    published = {re.split(r"\W", member)[0] for member in members}
    optional = {member.removesuffix("?") for member in members if member.endswith("?")} | {"type", "description"}
    assert optional == {"type", "description", "event_name", "trigger_segment_ids", "filter_segment_ids"}
    for number, campaign in enumerate((BY_EVENT, BY_SEGMENT, BY_DATE), 1):
        put(cio, number, campaign)
    campaigns = listed(cio)
    assert campaigns is not None
    assert len(campaigns) == 3
    for campaign in campaigns:
        assert published - optional <= set(campaign) <= published


def test_a_change_keeps_when_it_was_made_and_first_started(cio: Desk):
    """Draft, running, stopped: each change is dated, the first start stays, 0 says that there was none; times given are kept."""
    saved_in: list[dict[str, Any]] = []
    for state in ("draft", "running", "stopped"):
        saved_in.append(put(cio, 7, {**BY_EVENT, "state": state}).json())
        cio.advance(60)
    draft, running, stopped = saved_in
    times = [[saved[name] for name in ("created", "updated", "first_started")] for saved in (draft, running, stopped)]
    assert times == [[NOW, NOW, 0], [NOW, NOW + 60, NOW + 60], [NOW, NOW + 120, NOW + 60]]
    assert [saved["active"] for saved in (draft, running, stopped)] == [False, True, False]
    assert stopped["deduplicate_id"] == f"7:{NOW + 120}"
    assert put(cio, 7, stopped).json() == stopped
    assert listed(cio) == [stopped]


def test_campaigns_survive_a_restart_and_are_gone_when_deleted(tmp_path: Path):
    """The list, by id, is the same after the stand-in was ended and started again on its folder; so is a deletion."""
    with CustomerioStandIn(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        for number, campaign in ((12, BY_SEGMENT), (3, BY_EVENT)):
            put(cio, number, campaign)
        before = listed(cio)
    with CustomerioStandIn(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        after = listed(cio)
        assert after == before
        assert [campaign["id"] for campaign in after or []] == [3, 12]
        assert [cio.http.delete(f"/sandbox/campaigns/{number}").status_code for number in (3, 3, 2**70)] == [204, 404, 404]
    with CustomerioStandIn(tmp_path) as stand_in, CustomerioHttp(stand_in.url) as cio:
        assert [campaign["id"] for campaign in listed(cio) or []] == [12]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"name": "\\ud800", "state": "draft"}', "JSON"),
        ([], "object"),
        ({}, "name is missing; state is missing"),
        ({**BY_EVENT, "name": " "}, "name must be"),
        ({**BY_EVENT, "state": "paused"}, "running, draft, stopped"),
        ({**BY_EVENT, "state": ["running"]}, "running, draft, stopped"),
        ({**BY_EVENT, "active": False}, "active must be"),
        ({**BY_EVENT, "active": 1}, "active must be"),
        ({**BY_EVENT, "id": 8}, "id must be"),
        ({**BY_EVENT, "id": "7"}, "id must be"),
        ({**BY_EVENT, "event_name": " Order Completed"}, "event_name must be"),
        ({**BY_EVENT, "event_name": "é" * 51}, "event_name must be"),
        ({**BY_EVENT, "event_name": None}, "event_name must be"),
        ({**BY_EVENT, "trigger_segment_ids": [7]}, "not by both"),
        ({**BY_SEGMENT, "trigger_segment_ids": []}, "trigger_segment_ids must be"),
        ({**BY_SEGMENT, "trigger_segment_ids": ["7"]}, "trigger_segment_ids must be"),
        ({**BY_SEGMENT, "filter_segment_ids": [True]}, "filter_segment_ids must be"),
        ({**BY_DATE, "actions": [{"type": "email"}]}, "actions must be"),
        ({**BY_DATE, "tags": [1]}, "tags must be"),
        ({**BY_DATE, "created": "today"}, "created must be"),
        ({**BY_DATE, "first_started": NOW * 1000}, "first_started must be"),
        ({**BY_DATE, "event": "Order Completed"}, "no event"),
        ({**BY_EVENT, "trigger_filter": {"order_number": 1}}, "trigger_filter must be"),
        ({**BY_SEGMENT, "trigger_filter": {"order_number": {"eq": 1}}}, "trigger_filter needs event_name"),
        ({**BY_EVENT, "delay_seconds": -1}, "delay_seconds must be"),
        ({**BY_EVENT, "delay_seconds": 367 * DAY_S}, "delay_seconds must be"),
        ({**BY_EVENT, "only_if_segment_ids": ["3"]}, "only_if_segment_ids must be"),
        ({**BY_EVENT, "frequency": "twice"}, "every_time, once"),
        ({**BY_SEGMENT, "includes_current": 1}, "includes_current must be"),
        ({**BY_EVENT, "includes_current": True}, "includes_current needs trigger_segment_ids"),
    ],
)
def test_a_campaign_of_another_shape_is_refused_with_the_reason(cio: Desk, wrong: Any, reason: str):
    """A 400 says what is wrong, and the campaign that was there stays as it was."""
    kept = put(cio, 7, BY_EVENT).json()
    refused = put(cio, 7, wrong)
    assert refused.status_code == 400
    assert reason in refused.json()["error"]
    assert listed(cio) == [kept]


@pytest.mark.parametrize("campaign_id", [0, 2**63])
def test_an_id_that_cannot_be_one_is_refused(cio: Desk, campaign_id: int):
    """Ids begin at 1 and end with SQLite's integers."""
    refused = put(cio, campaign_id, BY_EVENT)
    assert (refused.status_code, "id must be 1 to" in refused.json()["error"]) == (400, True)
    assert listed(cio) is None


def test_what_customerio_keeps_to_its_pages_is_not_published(cio: Desk):
    """Filter, delay and frequency are kept with the campaign, over a restart, and no route of the App API returns them."""
    kept = {
        "trigger_filter": {"order_number": {"eq": 1}},
        "delay_seconds": 10 * DAY_S,
        "only_if_segment_ids": [3],
        "frequency": "once",
    }
    saved = put(cio, 7, {**BY_EVENT, **kept}).json()
    assert {name: saved[name] for name in kept} == kept
    published = {name: value for name, value in saved.items() if name not in kept}
    assert listed(cio) == [published]
    answer = cio.app("/v1/campaigns/7")
    assert (answer.status_code, answer.json()) == (200, {"campaign": published})
    put(cio, 8, {**BY_SEGMENT, "includes_current": True})
    assert "includes_current" not in cio.app("/v1/campaigns/8").json()["campaign"]
    assert cio.app(f"/v1/campaigns/{2**70}").status_code == 404


def test_journey_metrics_count_by_the_start(cio: Desk):
    """Each journey is in the period in which it started, whatever becomes of it later; the end is in the last period."""
    put(cio, 7, {**BY_EVENT, "delay_seconds": DAY_S})
    cio.send(identify("ada", email="ada@example.com"), identify("bob"))
    for hour in range(4):
        cio.send(*(event(name, ORDER, id=ulid(10 * hour + n)) for n, name in enumerate(("ada", "bob")[: hour + 1])))
        cio.advance(HOUR_S)
    cio.advance(21 * HOUR_S)

    def metrics(start: int, end: int, resolution: str) -> dict[str, list[int]]:
        answer = cio.app("/v1/campaigns/7/journey_metrics", start=start, end=end, resolution=resolution)
        assert (answer.status_code, set(answer.json())) == (200, {"journey_metric"})
        return answer.json()["journey_metric"]

    assert metrics(NOW, NOW + 3 * HOUR_S, "hourly") == {
        "started": [1, 2, 2, 2],
        "activated": [1, 2, 2, 2],
        "exited_early": [0, 0, 0, 0],
        "finished": [1, 2, 0, 0],  # the others still wait
        "converted": [0, 0, 0, 0],
        "never_activated": [0, 0, 0, 0],
        "messaged": [1, 1, 0, 0],  # bob has no email
    }
    assert metrics(NOW + 1, NOW + 3 * HOUR_S - 1, "hours")["started"] == [2, 2, 0]
    assert metrics(NOW, NOW, "daily")["started"] == [1]
    for resolution, periods in (("daily", 31), ("days", 31), ("weekly", 5), ("weeks", 5), ("monthly", 2), ("months", 2)):
        assert metrics(NOW, NOW + 30 * DAY_S, resolution)["started"] == [7] + [0] * (periods - 1)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"end": NOW, "resolution": "daily"}, "start must be given"),
        ({"start": NOW, "resolution": "daily"}, "end must be given"),
        ({"start": NOW, "end": NOW}, "resolution must be given"),
        ({"start": NOW, "end": NOW, "resolution": "yearly"}, "resolution must be one of"),
        ({"start": NOW, "end": NOW - 1, "resolution": "daily"}, "not before the start"),
        ({"start": NOW, "end": NOW * 1_000, "resolution": "daily"}, "unix seconds"),
        ({"start": "now", "end": NOW, "resolution": "daily"}, "now"),
    ],
)
def test_journey_metrics_need_a_window(cio: Desk, params: dict[str, Any], reason: str):
    """Start, end and resolution are required; of a campaign that is not there nothing is known."""
    put(cio, 7, BY_EVENT)
    refused = cio.app("/v1/campaigns/7/journey_metrics", **params)
    assert (refused.status_code, reason in refused.json()["errors"][0]["detail"]) == (400, True)
    unknown = cio.app("/v1/campaigns/8/journey_metrics", start=NOW, end=NOW, resolution="daily")
    assert (unknown.status_code, unknown.json()["errors"][0]["status"]) == (404, "404")


def test_our_client_reads_what_was_put(customerio: CustomerioStandIn):
    """Over HTTP with the sandbox's key: none at first, then each with its state and trigger."""
    settings = load_settings({"CUSTOMERIO_TRACK_URL": customerio.url, "CUSTOMERIO_APP_URL": customerio.url}).customerio
    with AppClient(settings) as client, CustomerioHttp(customerio.url) as cio:
        assert client.campaigns() == ()
        for number, campaign in enumerate(({**BY_EVENT, "first_started": NOW}, BY_SEGMENT, BY_DATE), 1):
            put(cio, number, campaign)
        assert client.campaigns() == (
            Campaign(1, "After the order", is_running=True, event_name=ORDER, trigger_segment_ids=(), first_started=NOW),
            Campaign(2, "Win back", is_running=False, event_name=None, trigger_segment_ids=(7, 9), filter_segment_ids=(4,)),
            Campaign(3, "Birthday <b>", is_running=False, event_name=None, trigger_segment_ids=()),
        )
