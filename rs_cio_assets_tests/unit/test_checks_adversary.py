"""Ways in which a check, or the readiness table, could be green without having looked: each must end otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetCheckSeverity,
    AssetKey,
    AssetSelection,
    DagsterInstance,
    Definitions,
    asset_check,
    define_asset_job,
)

from rs_cio_assets.checks import build_checks
from rs_cio_assets.checks.campaigns import campaign_problem
from rs_cio_assets.checks.evidence import Evidence, What
from rs_cio_assets.checks.firing import Sources, look_at_journey
from rs_cio_assets.checks.journeys import journey_result
from rs_cio_assets.checks.latency import FROM_WAREHOUSE, TO_WAREHOUSE, WHOLE, Latency, Leg, measure_latency
from rs_cio_assets.checks.timing import promise_result
from rs_cio_assets.contract import load_contract
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.readiness import State, known_facts, latest_evidence, readiness
from rs_cio_assets.readiness.lines import Verdict
from rs_cio_assets.store import LocalStore, Manifest
from rs_cio_assets.store.manifest import Fingerprint, save_manifest
from rs_cio_assets_tests.customerio_clients import app
from rs_cio_assets_tests.journey_evidence import (
    CAMPAIGN,
    LAPSED,
    NOW,
    ORDERS,
    SPAN,
    answering_with,
    app_api,
    contract_with,
    event_id,
    journey_of,
    message,
    note,
    order_key,
)
from rs_cio_assets_tests.staging import stage
from rs_cio_assets_tests.unit import test_readiness as usual

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def always(answer: Any) -> Any:
    """An App API that gives one answer to everything, at most five times."""
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        assert len(asked) < 5, "it asks for ever"
        return httpx.Response(200, json=answer)

    return handle


@pytest.mark.parametrize(
    "customer", [{"attributes": {"email": "a@example.com"}}, {"identifiers": None}, {"identifiers": {"id": None}, "id": ""}]
)
def test_a_profile_that_does_not_say_whose_it_is_is_refused(customer: dict[str, Any]):
    """Else nobody would be found, and guests, strangers and changed emails would all be green."""
    with app(always({"customers": [{"customer": customer}]})) as client, pytest.raises(MismatchError, match="id"):
        client.attributes(["C0000001"])


@pytest.mark.parametrize("segment", [{"id": 3, "name": "carts"}, {"id": 3, "name": "carts", "state": None, "progress": None}])
def test_a_segment_that_does_not_say_its_state_is_refused(segment: dict[str, Any]):
    """Else its checks would be not ready for ever, as if it were being built."""
    with app(always({"segment": segment})) as client, pytest.raises(MismatchError, match="state"):
        client.segment(3)


@pytest.mark.parametrize("answer", [{}, {"used_by": None}, {"used_by": {"campaigns": ["x"]}}])
def test_a_segment_that_does_not_say_who_uses_it_is_refused(answer: dict[str, Any]):
    """Else nobody would use it: a rename would go unnoticed, and a campaign without its audience look like one by choice."""
    with app(always(answer)) as client, pytest.raises(MismatchError):
        client.segment_users(3)


def test_pages_that_lead_back_to_themselves_are_refused():
    """The same token again and again would be read for ever."""
    with app(always({"identifiers": [{"id": "a"}], "next": "x"})) as client, pytest.raises(MismatchError, match="page"):
        list(client.members(3))
    with app(always({"activities": [{"type": "event"}], "next": "x"})) as client, pytest.raises(MismatchError, match="page"):
        list(client.activities_of_all("event"))


def test_a_campaign_that_has_just_been_started_is_not_ready(tmp_path: Path):
    """What was delivered before its start is told as such: the journey's SQL did find somebody."""
    store, journey = LocalStore(tmp_path / "store"), journey_of()
    note(store, ORDERS, order_key("O1"), NOW - DAY, NOW - DAY + HOUR, tmp_path)
    rows = [{"customer_id": "ada", "order_id": "O1", "occurred_at": NOW - DAY}]
    campaign = replace(CAMPAIGN, first_started=int((NOW - HOUR).timestamp()))
    with app(app_api([])) as client:
        sources = Sources(answering_with(rows), store, client)
        evidence = look_at_journey(journey, ORDERS, contract_with(journey), campaign, sources, SPAN)
    result = journey_result(journey, ORDERS, contract_with(journey), campaign, evidence, SPAN, 1)
    assert not result.passed
    assert (result.description or "").startswith("Not ready: nothing")
    assert "1 before the campaign was started" in (result.description or "")


def test_nobody_expected_and_a_campaign_that_does_not_say_whether_it_runs_is_not_green():
    """An answer without `state` and `active` proves nothing, and neither did a message."""
    campaign = replace(CAMPAIGN, is_running=True, is_state_known=False)
    result = journey_result(journey_of(), ORDERS, contract_with(journey_of()), campaign, Evidence(), SPAN, 1)
    assert not result.passed
    fired = Evidence({What.FIRED: 1}, messages=1)
    assert journey_result(journey_of(), ORDERS, contract_with(journey_of()), campaign, fired, SPAN, 1).passed


def audience_used_by(campaigns: Any) -> Any:
    """An App API without messages, and who uses a segment."""

    def handle(request: httpx.Request) -> httpx.Response:
        is_use = request.url.path == f"/v1/segments/{LAPSED.segment_id}/used_by"
        return httpx.Response(200, json={"used_by": {"campaigns": campaigns}} if is_use else {"messages": None})

    return handle


def test_a_campaign_that_does_not_ask_its_audience_is_red(tmp_path: Path):
    """A segment that keeps buyers out is of no use to a campaign that never looks at it."""
    journey = journey_of(audience="lapsed", never_sql="SELECT 1")
    contract = contract_with(journey)
    problem = campaign_problem(journey, ORDERS, contract, CAMPAIGN, is_audience_used=False)
    assert problem is not None
    assert f"does not use segment {LAPSED.segment_id} (lapsed)" in problem.text
    with app(audience_used_by([2, "1"])) as client:
        sources = Sources(answering_with([]), LocalStore(tmp_path), client)
        assert look_at_journey(journey, ORDERS, contract, CAMPAIGN, sources, SPAN).is_audience_used
    with app(audience_used_by(None)) as client:
        evidence = look_at_journey(journey, ORDERS, contract, CAMPAIGN, replace(sources, app=client), SPAN)
    result = journey_result(journey, ORDERS, contract, CAMPAIGN, evidence, SPAN, 3)
    assert (result.passed, result.severity) == (False, AssetCheckSeverity.ERROR)


def test_two_messages_without_an_event_id_beside_those_that_have_one_are_told(tmp_path: Path):
    """Not laid at another source's door: who sent what has no event id, nobody can say."""
    store, journey = LocalStore(tmp_path / "store"), journey_of()
    at = NOW - DAY
    note(store, ORDERS, order_key("O1"), at, at + HOUR, tmp_path)
    rows = [{"customer_id": "ada", "order_id": "O1", "occurred_at": at}]
    messages = [message("ada", at + HOUR, event_id("O1")), message("ada", at + 2 * HOUR)]
    with app(app_api(messages)) as client:
        sources = Sources(answering_with(rows), store, client)
        evidence = look_at_journey(journey, ORDERS, contract_with(journey), CAMPAIGN, sources, SPAN)
    assert (evidence.rows, evidence.others) == ({What.FIRED: 1}, 1)


def test_two_journeys_are_two_that_fire_in_time_and_not_four_promises():
    """The trigger line asks for both answers of the same two journeys."""
    feed = "customerio/feeds/order_completed"
    others = [item for item in usual.all_good() if "journey_" not in item.check]
    every = [f"journey_{journey}_{what}" for journey in "abcd" for what in ("fires", "keeps_its_promise")]
    for passed, state in (
        ({name for name in every if name.endswith("promise")}, State.NOT_READY),
        ({every[0], every[2], every[5], every[7]}, State.NOT_READY),
        ({*every[0:3]}, State.NOT_READY),
        ({*every[2:6]}, State.READY),
    ):
        asked = [replace(usual.passed(feed, n), verdict=Verdict.PASSED if n in passed else Verdict.NOT_READY) for n in every]
        assert readiness([*others, *asked], usual.facts(), usual.NOW)[6].state is state


def test_days_without_a_row_are_no_tested_backfill_of_people(tmp_path: Path):
    """An empty warehouse can be exported for a month: nobody was validated on a real profile."""
    store, contract = LocalStore(tmp_path), load_contract()
    for feed in ("people", "order_completed"):
        for n in range(1, 9):
            day = (NOW.date() - timedelta(days=n)).isoformat()
            fingerprint = Fingerprint(0, None, "")
            save_manifest(store, Manifest(feed, day, "x.y", fingerprint, 0, (), (), NOW))
    delivered = known_facts(contract, store, NOW, locked_on=None).days_delivered
    assert (delivered["people"], delivered["order_completed"]) == (0, 8)


@asset_check(asset=AssetKey(["a"]), name="breaks")
def breaks() -> AssetCheckResult:
    """A check that cannot ask."""
    raise ValueError("no key")


def test_a_check_whose_run_failed_is_a_failing_one():
    """It was planned and never said a word: the table and the report say so, and do not fail over it."""
    job = define_asset_job("only", selection=AssetSelection.checks(breaks))
    defs = Definitions(asset_checks=[breaks], jobs=[job])
    key = AssetCheckKey(AssetKey(["a"]), "breaks")
    with DagsterInstance.ephemeral() as instance:
        assert not defs.resolve_job_def("only").execute_in_process(instance=instance, raise_on_error=False).success
        (found,) = latest_evidence(instance, [key])
    assert (found.verdict, found.text) == (Verdict.FAILED, "it did not end: read its run")


def test_a_check_that_is_running_is_not_a_failed_one():
    """While a check is asked, its line waits for it."""
    key = AssetCheckKey(AssetKey(["a"]), "asks")
    with DagsterInstance.ephemeral() as instance:

        @asset_check(asset=AssetKey(["a"]), name="asks")
        def asks() -> AssetCheckResult:
            seen.extend(latest_evidence(instance, [key]))
            return AssetCheckResult(passed=True)

        seen: list[Any] = []
        job = define_asset_job("only", selection=AssetSelection.checks(asks))
        defs = Definitions(asset_checks=[asks], jobs=[job])
        assert defs.resolve_job_def("only").execute_in_process(instance=instance).success
        (after,) = latest_evidence(instance, [key])
    assert [found.verdict for found in seen] == [Verdict.NOT_READY]
    assert after.verdict is Verdict.PASSED


def test_people_who_are_known_by_email_are_not_asked_for_by_id():
    """The checks that read Customer.io back know people by id: none of them is offered where it would find nobody."""
    contract = load_contract()
    identifier = contract.workspace.identifier.model_copy(update={"customerio": "email"})
    by_email = contract.model_copy(update={"workspace": contract.workspace.model_copy(update={"identifier": identifier})})
    names = {key.name for check in build_checks(by_email, has_canary=True, lateness_days=35) for key in check.check_keys}
    assert {"fresh", "latency"} <= names
    assert not {n for n in names if n.startswith(("segment_", "canary_", "who_left", "identities", "customerio_"))}


@pytest.mark.parametrize(("rows", "history", "is_good"), [(95, 5, True), (95, 6, False), (0, 9, False)])
def test_events_that_were_held_keep_no_promise(rows: int, history: int, is_good: bool):
    """What came too late to start anything was left out of the measure: 94 of 100 in time are not 95."""
    leg = Leg(60, 90, 100)
    legs: dict[str, Leg] = {TO_WAREHOUSE: leg, FROM_WAREHOUSE: leg, WHOLE: leg} if rows else {}
    measured = Latency(staged=200, rows=rows, history=history, launch=50, legs=legs)
    result = promise_result(journey_of(), ORDERS, measured, 7)
    assert (result.passed, (result.description or "").startswith("Not ready")) == (is_good, False)


def test_what_is_older_than_the_feed_s_live_from_is_history_on_purpose(tmp_path: Path):
    """TM8: it is held so that it starts nothing, so it breaks no promise."""
    at, store = NOW - 5 * DAY, LocalStore(tmp_path / "store")
    stage(store, ORDERS, at.date().isoformat(), [{**dict.fromkeys(("occurred_at", "loaded_at"), at), "order_id": "O1"}], tmp_path)
    note(store, ORDERS, "0" * 32, at, at - DAY, tmp_path)
    note(store, ORDERS, order_key("O1"), at, at + 3 * DAY, tmp_path)
    for live_from, counts in ((None, (1, 0)), (at + HOUR, (0, 1)), ((at + HOUR).replace(tzinfo=None), (0, 1)), (at, (1, 0))):
        feed = ORDERS.model_copy(update={"live_from": live_from})
        found = measure_latency(feed, contract_with(journey_of()), store, NOW, 7)
        assert (found.history, found.launch) == counts
