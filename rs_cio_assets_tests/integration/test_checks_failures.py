"""What Customer.io accepted and did not apply is red for a day, and so is a profile that nobody's people feed made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from rs_cio_assets.checks.activities import LOOK, ActivitiesReport, keep_look, read_activities
from rs_cio_assets.checks.failures import build_failures_checks
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.errors import MismatchError, StoreRefused
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests import customerio_clients
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.running_checks import ChecksRun, run_checks
from rs_cio_assets_tests.staging import contract_of, deliver, feed_of, stage

NOW = datetime.now(UTC)
AT = NOW - timedelta(days=3)
DAY = AT.date().isoformat()
NAME = "customerio_refused_nothing_later"
FOLK = feed_of("people", {"tier": {"type": "string"}, "email": {"type": "string"}}, name="folk", view="x.folk")
ORDERS = feed_of("event", {"order_id": {"type": "string", "required": True}}, name="orders", view="x.orders")
CONTRACT = contract_of(FOLK, ORDERS)
PEOPLE = [{"customer_id": f"C000000{n}", "updated_at": AT, "loaded_at": AT, "tier": "gold"} for n in range(3)]
EVENTS = [{"customer_id": f"C000000{n}", "occurred_at": AT, "loaded_at": AT, "order_id": f"O{n}"} for n in range(2)]


@dataclass(frozen=True)
class Desk:
    """A store and a workspace."""

    settings: Settings
    store: LocalStore
    scratch: Path

    def deliver(self, feed_name: str, rows: Sequence[Mapping[str, Any]], *, minutes_ago: int = 5) -> None:
        """Stage and deliver rows of DAY."""
        feed, read_at = CONTRACT.feed(feed_name), NOW - timedelta(minutes=minutes_ago)
        manifest = stage(self.store, feed, DAY, rows, self.scratch, read_at=read_at)
        track = TrackClient(self.settings.customerio)
        deliver(feed, CONTRACT, manifest, self.store, track, self.scratch, now=read_at + timedelta(minutes=1))

    def send(self, *operations: Mapping[str, Any]) -> None:
        """What somebody else sends."""
        with CustomerioHttp(self.settings.customerio.track_url) as cio:
            cio.send(*({"type": "person", **operation} for operation in operations))

    def break_(self, **faults: Any) -> None:
        """Misconfigure the workspace."""
        httpx.put(f"{self.settings.customerio.app_url}/sandbox/faults", json=faults).raise_for_status()

    def look(self, now: datetime | None = None, *, max_pages: int = 50, is_kept: bool = True) -> ActivitiesReport:
        """What the engine says at *now*."""
        with AppClient(self.settings.customerio) as client:
            at = now or datetime.now(UTC)
            report = read_activities(client, CONTRACT, self.store, at, self.scratch, max_pages=max_pages)
        if is_kept:
            keep_look(self.store, report.look)
        return report

    def check(self, **config: Any) -> ChecksRun:
        """The check, through Dagster; it must not show whom it found."""
        run = run_checks(self.settings, build_failures_checks(CONTRACT), config)
        assert not re.search(r"[CXG]00000[0-9]{2}", run.shown)
        return run


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """An empty workspace, read at any pace."""
    with CustomerioStandIn(tmp_path / "customerio", app_requests_per_s=None) as stand_in:
        urls = {"CUSTOMERIO_TRACK_URL": stand_in.url, "CUSTOMERIO_APP_URL": stand_in.url}
        settings = load_settings({**urls, "RS_CIO_STORE": str(tmp_path / "store")})
        yield Desk(settings, LocalStore(tmp_path / "store"), tmp_path)


def identify(who: str, **more: Any) -> dict[str, Any]:
    """An identify of somebody else's."""
    return {"action": "identify", "identifiers": {"id": who}, "attributes": {"tier": "silver"}, **more}


def event(who: str) -> dict[str, Any]:
    """An event of somebody else's."""
    return {"action": "event", "name": "Page Seen", "identifiers": {"id": who}}


def test_delivered_people_and_events_are_green(desk: Desk):
    """Everything applied, profiles made by the people feed: green, in seven requests or fewer, again and again."""
    desk.deliver("folk", PEOPLE)
    desk.deliver("orders", EVENTS)
    for _ in range(2):
        run = desk.check()
        assert run.evaluations[NAME].passed
        assert "has applied everything" in (run.evaluations[NAME].description or "")
        assert run.numbers(NAME)["App API requests"] == 5


def test_lost_attributes_and_lost_events_are_named_and_stay_red_for_a_day(desk: Desk):
    """DL4 through Dagster: accepted with 200 and not applied; the next look still says so, with nothing new."""
    desk.break_(lost_attributes=["tier"], lost_events=["Order Completed"])
    desk.deliver("folk", PEOPLE)
    desk.deliver("orders", EVENTS)
    for new in (5, 0):
        run = desk.check()
        evaluation = run.evaluations[NAME]
        assert (evaluation.passed, evaluation.severity.value) == (False, "ERROR")
        assert "accepted 5 changes or events of 3 people and did not apply them" in (evaluation.description or "")
        numbers = run.numbers(NAME)
        assert numbers["failed_attribute_change (24 h)"] == 3
        assert numbers["failed_event (24 h)"] == 2
        assert numbers["new since the last look"] == new
        assert sorted(run.column(NAME, "activities by type and name", "what")) == ["Order Completed", "tier"]


def test_what_failed_is_told_for_a_day_and_not_again(desk: Desk):
    """An event that failed is found by its id, however old it is; a day later it is told no longer, and never as new."""
    desk.break_(lost_events=["Order Completed"])
    desk.deliver("folk", PEOPLE)
    desk.deliver("orders", EVENTS)
    now = datetime.now(UTC)
    reports = [desk.look(now + timedelta(hours=hours)) for hours in (0, 23, 25, 24 * 40, 24 * 80)]
    assert [(len(report.told), report.new) for report in reports] == [(2, 2), (2, 0), (0, 0), (0, 0), (0, 0)]


def test_accidental_profiles_are_red_and_others_are_not(desk: Desk):
    """ID6 through Dagster: a stray event's bare profile and somebody's filled one; not people of the feed, canaries, sign-ups."""
    desk.deliver("folk", PEOPLE)
    old = int((NOW - timedelta(hours=1)).timestamp())
    desk.send(event("X0000077"), event("rs-cio-canary-1"), event("C0000001"))
    desk.send({"action": "identify", "identifiers": {"email": "ada@example.com"}, "attributes": {}})
    run = desk.check()
    evaluation = run.evaluations[NAME]
    assert not evaluation.passed
    assert "1 profile was made in Customer.io of people whom no people feed has delivered" in (evaluation.description or "")
    assert run.column(NAME, "activities by type and name", "what") == ["a bare profile, as an event makes it"]
    assert run.numbers(NAME)["profiles created without an id of ours"] == 1
    desk.send(identify("X0000088", timestamp=old))
    now = datetime.now(UTC)
    assert len(desk.look(now).told) == 1, "a filled profile may be one that is being delivered at this moment"
    assert {found.what for found in desk.look(now + timedelta(minutes=9)).told} == {
        "a bare profile, as an event makes it",
        "a profile that somebody else filled",
    }


def test_a_stranger_who_is_delivered_or_deleted_since_counts_no_longer(desk: Desk):
    """What was mended is green at the next look."""
    desk.send(event("C0000001"), event("X0000077"))
    assert len(desk.look().told) == 2
    desk.deliver("folk", PEOPLE)
    assert [found.person for found in desk.look().told] == ["X0000077"]
    desk.send({"action": "delete", "identifiers": {"id": "X0000077"}})
    assert desk.look().told == ()


def test_skipped_updates_are_counted_and_red_only_where_somebody_wants_it(desk: Desk):
    """LG3: an older snapshot has no effect, which is no failure; `is_skipped_bad` makes it one."""
    desk.deliver("folk", PEOPLE)
    desk.send(identify("C0000001", timestamp=int((NOW - timedelta(days=1)).timestamp())))
    run = desk.check()
    assert run.evaluations[NAME].passed
    assert "1 update was passed over for newer values" in (run.evaluations[NAME].description or "")
    assert run.numbers(NAME)["skipped_update (24 h)"] == 1
    assert not desk.check(is_skipped_bad=True).evaluations[NAME].passed


def test_a_log_that_is_longer_than_what_is_read_is_never_green(desk: Desk):
    """The cap: not ready, or red with what was found; nothing is noted as seen until the whole log was read."""
    desk.deliver("folk", PEOPLE)
    desk.send(*(identify("C0000001", timestamp=5) for _ in range(101)))
    evaluation = desk.check(max_pages=1).evaluations[NAME]
    assert (evaluation.passed, evaluation.severity.value) == (False, "WARN")
    assert "the log of skipped_update is longer than the 1 pages" in (evaluation.description or "")
    assert desk.store.get(LOOK) is None
    desk.send(event("X0000077"))
    evaluation = desk.check(max_pages=1).evaluations[NAME]
    assert evaluation.severity.value == "ERROR"
    assert "larger max_pages" in (evaluation.description or "")
    assert desk.check(max_pages=3).numbers(NAME)["skipped_update (24 h)"] == 101
    assert desk.look(max_pages=1).unread == (), "a page of what is known ends the reading"


@pytest.mark.parametrize(
    ("faults", "has_key", "words"),
    [({}, False, "CUSTOMERIO_APP_API_KEY is not set"), ({"app_scope_missing": True}, True, "(403)")],
    ids=["no key", "no scope"],
)
def test_without_a_key_that_may_read_it_fails_clearly(desk: Desk, faults: dict[str, Any], has_key: bool, words: str):
    """The step fails in words; nothing is noted as seen."""
    desk.break_(**faults)
    customerio = desk.settings.customerio if has_key else desk.settings.customerio.model_copy(update={"app_api_key": None})
    run = run_checks(desk.settings.model_copy(update={"customerio": customerio}), build_failures_checks(CONTRACT))
    assert dict(run.evaluations) == {}
    assert words in run.failures[0]
    assert desk.store.get(LOOK) is None


def test_a_look_that_cannot_be_read_says_what_to_do(desk: Desk):
    """A broken note is an error with a next step, not a fresh start that would hide what was found."""
    desk.store.put(LOOK, b'{"looked_at": 1}')
    with pytest.raises(StoreRefused, match=r"looks/activities\.json cannot be read"):
        desk.look()


@pytest.mark.parametrize("answer", [{}, {"activities": [{"timestamp": "now"}]}, {"activities": [1]}])
def test_an_answer_of_another_shape_is_never_green(tmp_path: Path, answer: dict[str, Any]):
    """Fields that are missing or of another type raise; they do not count as nothing failed."""
    client = customerio_clients.app(lambda _: httpx.Response(200, json=answer))
    with client, pytest.raises(MismatchError):
        read_activities(client, CONTRACT, LocalStore(tmp_path / "store"), NOW, tmp_path, max_pages=50)


def test_no_people_feed_no_check():
    """Without a people feed nobody knows whose profiles are accidents."""
    assert build_failures_checks(contract_of(ORDERS)) == []
