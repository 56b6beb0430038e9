"""The stand-in's pages where people have no id, of segments and campaigns; its counts; and what outlives its process.

The other pages: test_customerio_app_stand_in.
"""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from rs_cio_assets.contract import load_contract
from rs_cio_assets.sandbox.customerio import CustomerioStandIn, ways_back
from rs_cio_assets.sandbox.processes import ManagedProcess, accepts_connections, command_line
from rs_cio_assets_tests.customerio_desk import HOUR_S, VIP, Desk, ulid
from rs_cio_assets_tests.customerio_http import CustomerioHttp, act, event, identify
from rs_cio_assets_tests.pipeline import free_port

DAY_1, DAY_2 = 1_771_977_600, 1_772_064_000  # 2026-02-25 and 2026-02-26, 00:00 UTC
ULID = "01BX5ZZKBKACTAV9WEVGEMMV%02d"


def test_somebody_without_an_id_is_found_listed_and_linked(customerio: CustomerioStandIn):
    """Who is known by email alone has a page of their own, and the lists of people and events lead to it."""
    with CustomerioHttp(customerio.url) as cio:
        cio.send(
            identify("ann+1@example.com", by="email", plan="<b>pro</b>"),
            event("ann+1@example.com", "visit", by="email", timestamp=DAY_1),
        )
        for path in ("/people?search=ann", "/events?name=visit&day=2026-02-25"):
            (link,) = re.findall(r'href="(/people/[^"]+)"', cio.http.get(path).text)
            page = cio.http.get(link).text
            assert all(text in page for text in ("ann+1@example.com", "&lt;b&gt;pro&lt;/b&gt;", "visit"))
            assert ("<b>pro" in page, "None" in page) == (False, False)


def test_counts_are_what_was_sent_and_took(customerio: CustomerioStandIn):
    """Duplicates, deleted people and refused operations are in no count; what did not take is counted, and the page agrees."""
    with CustomerioHttp(customerio.url) as cio:
        cio.send(identify("a", email="a@example.com", timestamp=DAY_2), identify("b"), identify("gone"))
        cio.send(*(event("a", "order", id=ULID % n, timestamp=DAY_1 + n) for n in (10, 11, 10)))
        cio.send(event("b", "order", timestamp=DAY_2), event("b", "visit", timestamp=DAY_2 - 1), event("gone", "order"))
        cio.send(
            act("delete", "gone"), identify("b", email="a@example.com"), identify("a", timestamp=DAY_1, email="x@example.com")
        )
        assert cio.batch(event("b", " "), event("b", "visit", timestamp=DAY_2)).status_code == 207
        assert cio.http.get("/sandbox/counts").json() == {
            "people": 2,
            "events": 5,
            "by_name": {"order": 3, "visit": 2},
            "did_not_take": 2,  # somebody else's email, and an older one
            "by_day": [
                {"day": "2026-02-26", "name": "order", "events": 1},
                {"day": "2026-02-26", "name": "visit", "events": 1},
                {"day": "2026-02-25", "name": "order", "events": 2},
                {"day": "2026-02-25", "name": "visit", "events": 1},
            ],
        }
        home = cio.http.get("/").text
        assert [int(n) for n in re.findall(r'class="card"><b>(\d+)</b>', home)] == [2, 5, 2]


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGKILL], ids=["sigterm", "sigkill"])
def test_what_was_acknowledged_survives_the_process(sign: signal.Signals, tmp_path: Path):
    """Started alone, filled, ended without warning: the next start on the folder has the person, the event and the block."""
    port, data = free_port(), tmp_path / "data"
    command = command_line("sandbox", "customerio", "--port", str(port), "--data", str(data))
    with ManagedProcess("customerio", command, tmp_path / "log", {}) as process:
        process.wait_until(lambda: accepts_connections(port), 30)
        with CustomerioHttp(f"http://127.0.0.1:{port}") as cio:
            cio.send(identify("kept", plan="pro"), event("kept", "order", id=ULID % 30), act("suppress", "blocked"))
        assert process._process is not None
        process._process.send_signal(sign)
        process._process.wait(30)
    with CustomerioStandIn(data) as stand_in, CustomerioHttp(stand_in.url) as cio:
        cio.send(identify("blocked"), event("kept", "order", id=ULID % 30))
        assert cio.attributes("kept")["plan"] == "pro"
        assert [a["name"] for a in cio.activities("kept", "event")] == ["order"]
        assert cio.attributes("blocked") is None


def tables(page: str) -> dict[str, list[list[str]]]:
    """The texts in each table's cells, by the heading above it; tables without one are left out."""
    sections = re.findall(r"<h2>([^<]*)</h2>\s*<table>(.*?)</table>", page, re.DOTALL)
    return {
        heading: [
            [re.sub("<[^>]+>", "", cell) for cell in re.findall("<td.*?>(.*?)</td>", row)] for row in table.split("<tr>")[2:]
        ]
        for heading, table in sections
    }


def test_the_first_page_lists_segments_and_campaigns(tmp_path: Path):
    """A line each: state and members; state, trigger and numbers. Markup is escaped; without any there is no such table."""
    with Desk.over(tmp_path) as desk:
        assert {"Segments", "Campaigns"} & set(tables(desk.http.get("/").text)) == set()
        desk.segment(3, VIP, name="VIPs")
        desk.segment(4, VIP, name="Built", build_seconds=HOUR_S)
        desk.send(identify("ada", email="ada@example.com", vip=True), identify("bob", vip=True))
        desk.campaign(1, name="After <b>", event_name="visit", delay_seconds=HOUR_S)
        desk.campaign(2, name="Welcome", trigger_segment_ids=[3, 4], state="stopped")
        desk.campaign(3, name="Now", event_name="visit")
        desk.campaign(4, name="Birthday", state="draft")
        desk.send(event("ada", "visit"), event("bob", "visit"))
        home = tables(desk.http.get("/").text)
        assert home["Segments"] == [["VIPs", "finished", "2"], ["Built", "build", "0"]]
        assert home["Campaigns"] == [
            ["After &lt;b&gt;", "running", "event visit", "2", "2", "0"],
            ["Welcome", "stopped", "segment 3, 4", "0", "0", "0"],
            ["Now", "running", "event visit", "2", "0", "2"],
            ["Birthday", "draft", "other", "0", "0", "0"],
        ]


def test_segment_campaign_and_person_have_pages_that_lead_to_each_other(tmp_path: Path):
    """Members, journeys and messages link to the person, who links back; somebody deleted is named as that."""
    with Desk.over(tmp_path) as desk:
        desk.segment(3, VIP, name="VIPs")
        desk.send(identify("ada", email="ada@example.com", vip=True), identify("gone", email="gone@example.com"))
        desk.campaign(1, name="After", event_name="visit", delay_seconds=HOUR_S, only_if_segment_ids=[3])
        desk.campaign(2, name="Now", event_name="visit")
        desk.send(event("gone", "visit", id=ulid(1)), event("ada", "visit", id=ulid(2)))
        assert desk.sent_to(2) == ["gone", "ada"]
        desk.send(act("delete", "gone"))

        segment = desk.http.get("/segments/3").text
        assert tables(segment)["Members"] == [["ada", "ada@example.com"]]
        assert 'href="/people/ada"' in segment
        started, due = "2026-02-25 09:59:58 UTC", "2026-02-25 10:59:58 UTC"
        campaign = desk.http.get("/campaigns/1").text
        assert "<th>waits (hours)</th><td>1</td>" in campaign
        assert '<th>only if segment</th><td><a href="/segments/3">VIPs</a></td>' in campaign
        waiting = tables(campaign)
        assert waiting["Latest journeys"] == [
            ["ada", ulid(2), started, due, "waiting"],
            ["deleted", ulid(1), started, "", "exited early"],
        ]
        assert waiting["Latest messages"] == [["None."]]
        assert tables(desk.http.get("/campaigns/2").text)["Latest messages"] == [
            ["ada", "ada@example.com", ulid(2), started, "sent"],
            ["deleted", "gone@example.com", ulid(1), started, "sent"],
        ]
        person = desk.http.get("/people/ada").text
        assert 'href="/segments/3">VIPs' in person
        assert [row[0] for row in tables(person)["Journeys"]] == ["Now", "After"]
        assert all(f'href="/campaigns/{campaign_id}"' in person for campaign_id in (1, 2))


@pytest.mark.parametrize("path", ["/segments/3", f"/segments/{2**70}", "/campaigns/7", f"/campaigns/{2**70}"])
def test_a_page_of_what_is_not_there_says_so(customerio: CustomerioStandIn, path: str):
    """An old link to a segment or campaign is no error."""
    with CustomerioHttp(customerio.url) as cio:
        answer = cio.http.get(path)
        assert (answer.status_code, "There is no such" in answer.text) == (200, True)


def test_pages_lead_back_to_the_feeds_and_checks_in_dagster(tmp_path: Path):
    """Segments and campaigns of the contract lead to their checks, people and events to feeds; without a UI nothing does."""
    contract, ui = load_contract(), "http://ui.example"
    feeds = f"{ui}/assets/customerio/feeds"
    expected = {
        "/segments/1": f"{feeds}/people?view=checks&amp;checkDetail=segment_repeat_buyers",
        "/campaigns/2": f"{feeds}/checkout_started?view=checks&amp;checkDetail=journey_cart_recovery_fires",
        "/people/ada": f"{feeds}/people",
        "/events?name=Order%20Completed": f"{feeds}/order_completed",
        "/": f"{feeds}/order_completed",
    }
    for back in (ways_back(contract, ui), None):
        with CustomerioStandIn(tmp_path, app_requests_per_s=None, back=back) as stand_in, CustomerioHttp(stand_in.url) as cio:
            cio.send(identify("ada"), event("ada", "Order Completed", id=ULID % 30))
            cio.http.put("/sandbox/segments/1", json={"name": "Repeat buyers", "condition": VIP}).raise_for_status()
            campaign = {"name": "Cart", "state": "running", "event_name": "Checkout Started"}
            cio.http.put("/sandbox/campaigns/2", json=campaign).raise_for_status()
            for path, link in expected.items():
                assert (f'href="{link}"' in cio.http.get(path).text) is (back is not None), path
