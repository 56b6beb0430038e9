"""How long Customer.io takes, how it throttles, and what the host of the other region says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from rs_cio_assets.settings import TRACK_URLS, Settings
from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.cleaning import Cleaning
from rs_cio_assets_tests.live.workspace import LiveWorkspace, event, identify, new_ulid

NAME = "rs_cio_smoke_lag"
CANARY_WAIT_S = 120  # what the canary checks give Customer.io by default
BURST = 40


@pytest.mark.parametrize("what", ["an attribute", "an event"])
@pytest.mark.asks(
    "How long after the 200 can an attribute or an event be read?",
    "within the 120 s that the canary waits by default",
    "rs_cio_assets/checks/canary.py",
)
def test_what_was_sent_can_be_read(workspace: LiveWorkspace, answer: Answer, what: str):
    """Seconds until the App API shows it."""
    person, now = workspace.person(f"lag-{what.split()[1]}"), int(time.time())
    looks: dict[str, tuple[Any, Callable[[], Any]]] = {
        "an attribute": (
            identify(person, {"smoke_lag": "x"}, now),
            lambda: (workspace.attributes(person) or {}).get("attributes", {}).get("smoke_lag"),
        ),
        "an event": (
            event(person, NAME, {}, ulid=new_ulid(), timestamp=now),
            lambda: workspace.activities(None, person, type="event", name=NAME),
        ),
    }
    operation, is_seen = looks[what]
    workspace.send(answer, operation)
    seen, seconds = workspace.until(is_seen)
    answer.facts = {"seconds": seconds, "seen": bool(seen)}
    answer.judge(bool(seen) and seconds <= CANARY_WAIT_S, f"{'seen' if seen else 'not seen'} after {seconds:g} s")


@pytest.mark.needs("manual_segments")
@pytest.mark.asks(
    "How long until a segment's count and its membership agree with what was put into it?",
    "within the 120 s that the canary waits by default",
    "rs_cio_assets/checks/canary.py",
)
def test_a_segment_counts_whom_it_holds(workspace: LiveWorkspace, cleaning: Cleaning, run: str, answer: Answer):
    """A manual segment of this run's own, removed in the end; data-driven ones cannot be made by the API."""
    person = workspace.person("segment")
    workspace.send(answer, identify(person, {"smoke_segment": "x"}, int(time.time())))
    workspace.until(lambda: workspace.attributes(person))
    body = {"segment": {"name": f"rs_cio_smoke_{run}", "description": "of the smoke suite; may be deleted"}}
    made = workspace.app(answer, "POST", "/v1/segments", json=body).raise_for_status().json()["segment"]["id"]
    path = f"/v1/segments/{made}"
    cleaning.add(f"segment {made}", lambda: workspace.app(None, "DELETE", path).raise_for_status() and None)
    content = f'{{"ids":["{person}"]}}'.encode()
    workspace.track(answer, "POST", f"/api/v1/segments/{made}/add_customers", content, {"POST": "add_customers", "ids": 1})
    seen, seconds = workspace.until(lambda: workspace.app(None, "GET", f"{path}/customer_count").json().get("count") == 1)
    workspace.app(answer, "GET", f"{path}/membership")
    answer.facts = {"seconds": seconds, "seen": seen}
    answer.judge(seen and seconds <= CANARY_WAIT_S, f"{'counted' if seen else 'not counted'} after {seconds:g} s")


@pytest.mark.asks(
    "How does the App API throttle: status, headers, body?",
    "429, with Retry-After where it says how long",
    "rs_cio_assets/customerio/http.py",
    relies=True,
)
def test_the_app_api_throttles_with_429(workspace: LiveWorkspace, answer: Answer):
    """More requests at once than the 10 a second that all callers of the workspace share; what is not 200 must be 429."""
    statuses: dict[int, int] = {}
    for _ in range(BURST):
        response = workspace.app(
            None, "GET", f"/v1/customers/{workspace.people[0] if workspace.people else 'x'}/segments", is_paced=False
        )
        statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
        if response.status_code == 429:
            answer.exchange({"GET": "/v1/customers/<id>/segments", "after": sum(statuses.values())}, response)
            break
    answer.facts = {"statuses": statuses}
    if 429 not in statuses:
        answer.words = f"{BURST} requests in a row were not throttled"
    else:
        answer.judge(set(statuses) <= {200, 404, 429}, f"statuses: {statuses}")


@pytest.mark.asks(
    "How does the Track API throttle: status, headers, body?",
    "429, with Retry-After where it says how long",
    "rs_cio_assets/customerio/http.py",
)
def test_the_track_api_s_throttling_is_kept_where_it_was_met(workspace: LiveWorkspace, answer: Answer):
    """Never provoked: 1,000 requests a second might cost a workspace its data. If this run met one, it stands here."""
    for told, response in workspace.throttled:
        answer.exchange(told, response)
    if workspace.throttled:
        answer.judge({response.status_code for _, response in workspace.throttled} == {429}, "met, see the exchanges")
    else:
        answer.words = "no request of this run was throttled, and none is provoked"


@pytest.mark.needs("region")
@pytest.mark.asks(
    "What does the host of the other region answer to these credentials: which redirect, or which refusal?",
    "a redirect or a refusal, never a 200: the region is asked for before the first row",
    "rs_cio_assets/customerio/track.py",
)
def test_the_other_region_does_not_take_it(workspace: LiveWorkspace, live_settings: Settings, answer: Answer):
    """The region's question, which writes nothing, and one made-up person, at the other host; no redirect is followed."""
    settings = live_settings.customerio
    (other,) = (url for region, url in TRACK_URLS.items() if region != settings.region)
    person = workspace.person("elsewhere")
    auth = (settings.site_id, settings.api_key.get_secret_value())
    with httpx.Client(base_url=other, auth=auth, timeout=settings.timeout_s, follow_redirects=False) as client:
        answer.exchange({"GET": f"{other}/api/v1/accounts/region"}, client.get("/api/v1/accounts/region"))
        response = client.post("/api/v2/batch", json={"batch": [identify(person, {"smoke_elsewhere": "x"})]})
        answer.exchange({"POST": f"{other}/api/v2/batch", "operations": 1}, response)
    answer.judge(not response.is_success, f"status {response.status_code}")
