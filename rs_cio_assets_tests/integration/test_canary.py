"""The canary: a buyer leaves the audience and a browser is in it, or the check says which is not so; nothing of them stays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from rs_cio_assets.checks import canaries
from rs_cio_assets.checks.canaries import NOTES, fly_canaries
from rs_cio_assets.checks.canary import build_canary_checks
from rs_cio_assets.checks.results import CANARY_PREFIX
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.checked_shop import CHECKOUTS, CONDITIONS, CONTRACT, NOW, ORDERS, Checked, Shop, open_shop
from rs_cio_assets_tests.customerio_clients import Clock
from rs_cio_assets_tests.staging import RecordingTrack

CHECK = "canary_cart_recovery"
QUICK = {"wait_s": 0.1, "poll_s": 0.02}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """An empty workspace with the audience; the warehouse plays no part."""
    with open_shop(1, tmp_path) as made:
        made.make_segments("carts")
        yield made


def run(shop: Shop, **config: Any) -> Checked:
    """Fly the canaries, without long waits."""
    found = shop.run(build_canary_checks(CONTRACT, is_on=True), {f"checkout_started_{CHECK}": {**QUICK, **config}})
    assert CANARY_PREFIX not in str(found)
    return found


def left_behind(shop: Shop) -> tuple[int, list[str]]:
    """People in the workspace, and notes in the store."""
    counts = httpx.get(f"{shop.settings.customerio.app_url}/sandbox/counts").json()
    return counts["people"], shop.store.list(NOTES)


def test_a_purchase_takes_the_buyer_out_and_leaves_the_browser_in(shop: Shop):
    """The guide's proof: good, with the same numbers each time; both people are gone, their notes too."""
    found = run(shop, wait_s=30)
    assert found.verdict(CHECK) == "good", found
    assert found.text(CHECK) == "The canary who bought is not in carts, the one who did not is. Both are deleted again."
    assert list(found.numbers(CHECK)) == [
        "waited (s)",
        "browser qualifies",
        "buyer qualifies",
        "leftovers removed",
        "App API requests",
    ]
    assert left_behind(shop) == (0, [])


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {"event": {"name": "Checkout Started"}},
            "The canary who bought is still in carts after 0 s: cart_recovery would write to",
        ),
        (
            {"event": {"name": "checkout_started"}},
            "The canary who did not buy is not in carts after 0 s: cart_recovery would reach",
        ),
    ],
    ids=["SP1 in the making", "nobody qualifies"],
)
def test_a_segment_that_does_something_else_is_caught(shop: Shop, condition: dict[str, Any], words: str):
    """A condition without the purchase, or on another event's name: bad, and says what the journey would do."""
    shop.control("PUT", "segments/3", {"name": "carts", "condition": condition})
    found = run(shop)
    assert found.verdict(CHECK) == "bad"
    assert found.text(CHECK).startswith(words)
    assert left_behind(shop) == (0, [])


@pytest.mark.parametrize("event", ["Order Completed", "Checkout Started"])
def test_what_customerio_does_not_show_yet_is_not_ready(shop: Shop, event: str):
    """An event was accepted and is not to be seen: lag or loss, nothing is proven; never good."""
    shop.control("PUT", "faults", {"lost_events": [event]})
    found = run(shop)
    assert found.verdict(CHECK) == "not ready"
    assert "does not show everything that the canaries did" in found.text(CHECK)
    assert left_behind(shop) == (0, [])


def test_an_audience_that_cannot_be_read_sends_nobody(shop: Shop):
    """SG2, SG3: no canary is sent for a segment that is being built or is not there."""
    shop.control("PUT", "segments/3", {"name": "carts", "condition": CONDITIONS["carts"], "build_seconds": 900})
    assert run(shop).verdict(CHECK) == "not ready"
    shop.control("DELETE", "segments/3")
    assert run(shop).verdict(CHECK) == "bad"
    assert httpx.get(f"{shop.settings.customerio.app_url}/sandbox/counts").json()["events"] == 0


def test_it_is_there_only_where_the_setting_is_on(shop: Shop):
    """On in the sandbox, off in production until somebody turns it on; for journeys with an enabled feed and an audience."""
    assert build_canary_checks(CONTRACT, is_on=False) == []
    assert shop.settings.canary is True
    production = {
        "RS_CIO_MODE": "production",
        "RS_CIO_STORE": "s3://b/p",
        "RS_CIO_START_DATE": "2026-01-01",
        "REDSHIFT_HOST": "h",
        "REDSHIFT_DATABASE": "d",
        "REDSHIFT_USER": "u",
        "REDSHIFT_PASSWORD": "p",
        "CUSTOMERIO_SITE_ID": "s",
        "CUSTOMERIO_API_KEY": "k",
        "CUSTOMERIO_REGION": "us",
    }
    assert load_settings(production).canary is False
    assert load_settings({**production, "RS_CIO_CANARY": "true"}).canary is True
    off = CONTRACT.model_copy(
        update={"feeds": tuple(f.model_copy(update={"enabled": f is not CHECKOUTS}) for f in CONTRACT.feeds)}
    )
    assert build_canary_checks(off, is_on=True) == []


def test_a_purchase_feed_that_is_not_there_fails_clearly(shop: Shop):
    """The config names a feed that the contract does not have: a failed step that says what to set, and nobody was sent."""
    found = run(shop, purchase_feed="purchases")
    assert found.checks == {}
    assert "the contract has no event feed purchases" in found.failures[0]
    assert left_behind(shop) == (0, [])


class Flown:
    """The engine over a recording Track API and a scripted App API."""

    def __init__(self, shop: Shop, answer: Callable[[httpx.Request], httpx.Response | None] = lambda _: None) -> None:
        self.track, self.clock, self.shop = RecordingTrack(answer), Clock(), shop
        self.looks = itertools.cycle([True])  # by look: is the buyer out?
        self.app_error: BaseException | None = None

    def fly(self, *, wait_s: float = 60) -> canaries.Flight:
        """One run at NOW."""
        with (
            self.track.client() as track,
            AppClient(self.shop.settings.customerio, transport=httpx.MockTransport(self._app)) as app,
        ):
            return fly_canaries(
                CHECKOUTS,
                ORDERS,
                3,
                CONTRACT,
                track,
                app,
                self.shop.store,
                now=lambda: NOW,
                wait_s=wait_s,
                poll_s=5,
                clock=self.clock.time,
                sleep=self.clock.sleep,
            )

    def deleted(self) -> list[str]:
        """Who was deleted, in order."""
        return [o["identifiers"]["id"] for o in self.track.operations if o["action"] == "delete"]

    def _app(self, request: httpx.Request) -> httpx.Response:
        if self.app_error:
            raise self.app_error
        if request.url.path.endswith("/activities"):
            return httpx.Response(
                200, json={"activities": [{"type": "event", "name": "x", "timestamp": 1, "data": {}}], "next": ""}
            )
        is_in = "browser" in request.url.path or not next(self.looks)
        return httpx.Response(200, json={"segments": [{"id": 3, "name": "carts"}] if is_in else None})


def test_what_is_sent_has_no_address_and_fits_the_contract(shop: Shop):
    """Two marked people without email and phone, three events with ids of ULID shape, values by column; the buyer goes first."""
    flown = Flown(shop)
    assert flown.fly().is_good
    identifies = [o for o in flown.track.operations if o["action"] == "identify"]
    assert [o["attributes"] for o in identifies] == [{"is_canary": True}] * 2
    events = [o for o in flown.track.operations if o["action"] == "event"]
    told = [(o["name"], o["identifiers"]["id"].rpartition("-")[2]) for o in events]
    assert told == [("Checkout Started", "buyer"), ("Order Completed", "buyer"), ("Checkout Started", "browser")]
    assert len({o["id"] for o in events}) == 3
    assert all(len(o["id"]) == 26 and o["id"][0] in "01234567" for o in events)
    (buyer, _, _) = (o["identifiers"]["id"] for o in events)
    moment = int((NOW - timedelta(seconds=60)).timestamp())
    assert events[0]["attributes"] == {
        "checkout_id": buyer,
        "cart_total": 5,
        "primary_category": "cleanser",
        "items_count": 0,
        "is_gift": False,
        "seen_at": moment,
        "is_canary": True,
    }
    assert events[0]["timestamp"] == moment < events[1]["timestamp"] < int(NOW.timestamp())
    assert flown.deleted() == [o["identifiers"]["id"] for o in identifies]
    assert all(person.startswith(CANARY_PREFIX) for person in flown.deleted())


def test_it_looks_until_both_are_right_twice_in_a_row(shop: Shop):
    """A buyer who is not in the segment yet, then in it, then out: one good look does not count."""
    flown = Flown(shop)
    flown.looks = iter([True, False, False, True, True])
    assert flown.fly().is_good
    assert flown.clock.sleeps == [5, 5, 5, 5]


def test_it_stops_when_the_wait_is_over(shop: Shop):
    """A buyer who stays in the segment is looked at until the wait is over, and no longer."""
    flown = Flown(shop)
    flown.looks = itertools.cycle([False])
    flight = flown.fly(wait_s=12)
    assert (flight.is_good, flight.is_buyer_in, flight.waited_s) == (False, True, 15.0)
    assert len(flown.deleted()) == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")])
def test_both_are_deleted_whatever_happens(shop: Shop, error: BaseException):
    """Ctrl-C or an error while looking: both are deleted and their notes removed before it goes on."""
    flown = Flown(shop)
    flown.app_error = error
    with pytest.raises(type(error)):
        flown.fly()
    assert len(flown.deleted()) == 2
    assert shop.store.list(NOTES) == []


def test_what_a_killed_run_left_is_removed_by_the_next_one(shop: Shop):
    """Notes of a run that must be over: its people are deleted. Those of one that may still be flying are left alone."""
    for name, until in (("dead", NOW - timedelta(seconds=1)), ("alive", NOW + timedelta(seconds=1))):
        shop.store.put(f"{NOTES}{CANARY_PREFIX}{name}-buyer", until.isoformat().encode())
    flown = Flown(shop)
    assert flown.fly().leftovers_removed == 1
    assert flown.deleted()[0] == f"{CANARY_PREFIX}dead-buyer"
    assert shop.store.list(NOTES) == [f"{NOTES}{CANARY_PREFIX}alive-buyer"]


def test_a_deletion_that_is_refused_leaves_the_notes_and_fails(shop: Shop):
    """Customer.io does not take the deletion: the error says so, and the notes are there for the next run."""

    def refuse(request: httpx.Request) -> httpx.Response | None:
        if b'"delete"' not in request.content:
            return None
        error = {"batch_index": 0, "reason": "invalid", "field": "id", "message": "not today"}
        return httpx.Response(207, json={"errors": [error]})

    with pytest.raises(Exception, match="refused a canary's delete"):
        Flown(shop, refuse).fly()
    assert len(shop.store.list(NOTES)) == 2


def test_a_refused_track_key_fails_clearly(shop: Shop):
    """Wrong Track API credentials: a failed step that names the setting; nothing is left."""
    customerio = shop.settings.customerio.model_copy(update={"api_key": SecretStr("another")})
    shop.settings = shop.settings.model_copy(update={"customerio": customerio})
    found = run(shop)
    assert found.checks == {}
    assert "CUSTOMERIO_SITE_ID and CUSTOMERIO_API_KEY" in found.failures[0]
    assert left_behind(shop) == (0, [])
