"""What became of each delivery that should have started a journey: the edges of every rule, over notes and messages by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_cio_assets.checks.campaigns import campaign_problem
from rs_cio_assets.checks.evidence import Evidence, Span, What, feed_behind
from rs_cio_assets.checks.firing import Sources, look_at_journey
from rs_cio_assets.checks.journeys import journey_result
from rs_cio_assets.contract import Feed, Journey
from rs_cio_assets.customerio import Campaign
from rs_cio_assets.delivery.packing import row_key_of, ulids
from rs_cio_assets.errors import CustomerioRefused, MismatchError
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.customerio_clients import app
from rs_cio_assets_tests.journey_evidence import (
    CAMPAIGN,
    FOLK,
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
    row_key,
)
from rs_cio_assets_tests.staging import feed_of

JOURNEY = journey_of(first_message_after_hours=2)
ERASED = feed_of("deletion", {}, name="erased", view="journeys_test.erased", enabled=True, max_rows_per_day=9)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@dataclass
class Look:
    """One look at a journey; what is not said is empty."""

    tmp_path: Path
    journey: Journey = JOURNEY
    campaign: Campaign = CAMPAIGN
    days_back: int = 7

    def __post_init__(self) -> None:
        self.store = LocalStore(self.tmp_path / "store")
        self.rows: list[dict[str, Any]] = []
        self.messages: list[dict[str, Any]] = []
        self.unsubscribed: list[str] = []

    def expect(self, order_id: str, occurred_at: datetime, person: str = "ada") -> None:
        """The warehouse says that this order should have started the journey."""
        self.rows.append({"customer_id": person, "order_id": order_id, "occurred_at": occurred_at})

    def deliver(self, order_id: str, occurred_at: datetime, after: timedelta) -> datetime:
        """The ledger notes it so long *after* it occurred; when."""
        note(self.store, ORDERS, order_key(order_id), occurred_at, occurred_at + after, self.tmp_path)
        return occurred_at + after

    def send(self, created: datetime, order_id: str | None, person: str = "ada", **fields: Any) -> None:
        """The campaign made a message."""
        trigger = event_id(order_id) if order_id else None
        self.messages.append(message(person, created, trigger, **fields))

    def evidence(self, *others: Feed) -> Evidence:
        """What is found."""
        contract = contract_with(self.journey, *others)
        feed = feed_behind(self.journey, contract)
        assert feed is not None
        with app(app_api(self.messages, unsubscribed=self.unsubscribed)) as client:
            sources = Sources(answering_with(self.rows), self.store, client)
            return look_at_journey(self.journey, feed, contract, self.campaign, sources, Span(NOW, self.days_back, 60))


EDGE = 72 * HOUR
CASES = {
    # name: (occurred before now, acknowledged after that, messages after the acknowledgement, what)
    "in time": (DAY, HOUR, [2 * HOUR], What.FIRED),
    "at the end of the grace": (DAY, HOUR, [3 * HOUR], What.FIRED),
    "a second after it": (DAY, HOUR, [3 * HOUR + timedelta(seconds=1)], What.LATE),
    "none, and due": (DAY, HOUR, [], What.MISSING),
    "none, a second after it was due": (4 * HOUR + timedelta(seconds=1), HOUR, [], What.MISSING),
    "none, due this moment": (4 * HOUR, HOUR, [], What.NOT_DUE),
    "two": (DAY, HOUR, [2 * HOUR, 2 * HOUR], What.TWICE),
    "not acknowledged": (DAY, None, [], What.NOT_DELIVERED),
    "live at the last moment": (5 * DAY, EDGE - 5 * MINUTE - timedelta(seconds=1), [], What.MISSING),
    "nearly 72 hours old": (5 * DAY, EDGE - 5 * MINUTE, [], What.HISTORY),
    "nearly 72 hours old, with a message": (5 * DAY, EDGE + 4 * MINUTE, [2 * HOUR], What.FIRED),
    "history": (6 * DAY, EDGE + HOUR, [], What.HISTORY),
    "history that fired": (6 * DAY, EDGE + 5 * MINUTE, [2 * HOUR], What.HISTORY_FIRED),
    "due before the span": (7 * DAY + 4 * HOUR, HOUR, [], None),
    "due before the span, fired in it": (7 * DAY + 4 * HOUR, HOUR, [2 * DAY], What.LATE),
    "due at its beginning": (7 * DAY + 3 * HOUR, HOUR, [], What.MISSING),
    "fired before its beginning": (7 * DAY + 3 * HOUR, HOUR, [-MINUTE], What.FIRED),
}


@pytest.mark.parametrize("name", CASES)
def test_each_delivery_is_judged_by_its_acknowledgement(tmp_path: Path, name: str):
    """Not by when it occurred: what was acknowledged within 72 hours fires, in time and once; what is older never does."""
    ago, after, messages, what = CASES[name]
    look = Look(tmp_path)
    look.expect("O1", NOW - ago)
    if after is not None:
        acknowledged_at = look.deliver("O1", NOW - ago, after)
        for later in messages:
            look.send(acknowledged_at + later, "O1")
    found = look.evidence()
    assert found.rows == ({what: 1} if what else {})
    assert (found.others, found.gone) == (0, 0)
    is_fault = what in {What.MISSING, What.LATE, What.TWICE, What.HISTORY_FIRED}
    assert (found.faults, [s.what for s in found.samples]) == (({what: 1}, [what]) if is_fault else ({}, []))


def test_the_first_acknowledgement_decides(tmp_path: Path):
    """An event that was sent again, days later, is no history: Customer.io took it the first time."""
    look = Look(tmp_path)
    look.expect("O1", NOW - 5 * DAY)
    look.deliver("O1", NOW - 5 * DAY, 80 * HOUR)
    look.send(look.deliver("O1", NOW - 5 * DAY, HOUR) + 2 * HOUR, "O1")
    assert look.evidence().rows == {What.FIRED: 1}


def test_minutes_are_from_the_acknowledgement_to_the_first_message(tmp_path: Path):
    """Of those that were expected and fired: median and p95; a second email of the campaign is not a second time."""
    look = Look(tmp_path)
    for number in range(1, 4):
        look.expect(f"O{number}", NOW - DAY)
        acknowledged_at = look.deliver(f"O{number}", NOW - DAY, HOUR)
        look.send(acknowledged_at + 2 * HOUR + number * MINUTE, f"O{number}")
        look.send(acknowledged_at + 4 * HOUR, f"O{number}", action_id=97)
    found = look.evidence()
    assert (found.rows, found.median_minutes, found.p95_minutes) == ({What.FIRED: 3}, 122, pytest.approx(122.9))
    assert (found.messages, found.others, found.faults) == (6, 0, {})


def test_a_fault_of_somebody_who_was_not_expected_counts_too(tmp_path: Path):
    """The SQL names those who surely had to get it; twice, late and out of history are wrong for everybody."""
    look = Look(tmp_path)
    twice_at = look.deliver("O1", NOW - DAY, HOUR)
    old_at = look.deliver("O2", NOW - 200 * DAY, 198 * DAY)
    for _ in range(2):
        look.send(twice_at + 2 * HOUR, "O1")
    look.send(old_at + 2 * HOUR, "O2", "bob")
    look.send(NOW - DAY, None)
    look.send(NOW - DAY, "O3")
    found = look.evidence()
    assert (found.faults, sum(found.rows.values())) == ({What.TWICE: 1, What.HISTORY_FIRED: 1}, 0)
    assert (found.messages, found.others) == (5, 2)
    assert {(s.person, s.what) for s in found.samples} == {("ada", What.TWICE), ("bob", What.HISTORY_FIRED)}


def test_deliveries_before_the_campaign_was_started_do_not_count(tmp_path: Path):
    """To the second of the acknowledgement."""
    started = int((NOW - 2 * DAY).timestamp())
    look = Look(tmp_path, campaign=replace(CAMPAIGN, first_started=started))
    for number, after in ((1, HOUR - timedelta(seconds=1)), (2, HOUR)):
        look.expect(f"O{number}", NOW - 2 * DAY - HOUR)
        look.deliver(f"O{number}", NOW - 2 * DAY - HOUR, after)
    assert look.evidence().rows == {What.MISSING: 1, What.BEFORE_START: 1}


def test_who_is_gone_or_wants_no_messages_is_not_missed(tmp_path: Path):
    """Deleted people are left out and counted; unsubscribed ones have a number of their own; others are still missed."""
    look = Look(tmp_path)
    look.unsubscribed.append("bob")
    for number, person in enumerate(("ada", "bob", "eve"), 1):
        look.expect(f"O{number}", NOW - DAY, person)
        look.deliver(f"O{number}", NOW - DAY, HOUR)
    note(look.store, ERASED, row_key("erased", "ada"), NOW - HOUR, NOW - HOUR, tmp_path)
    found = look.evidence(ERASED)
    assert (found.gone, found.rows) == (1, {What.UNSUBSCRIBED: 1, What.MISSING: 1})


@pytest.mark.parametrize("days_back", [1, 29])
def test_nothing_anywhere_is_nothing(tmp_path: Path, days_back: int):
    """An empty warehouse, no ledger, no messages: no rows, and no error."""
    assert Look(tmp_path, days_back=days_back).evidence() == Evidence()


WINBACK = journey_of(name="winback", feed=None, trigger_segment="lapsed", starts_within_hours=30, first_message_after_hours=1)
BY_SEGMENT = replace(CAMPAIGN, event_name=None, trigger_segment_ids=(7,))
PEOPLE = {
    # name: (qualified before now, row changed before now, delivered before now or never, messages before now, what)
    "once": (3 * DAY, 60 * DAY, 59 * DAY, [2 * DAY], What.FIRED),
    "at once": (3 * DAY, 60 * DAY, 59 * DAY, [3 * DAY], What.FIRED),
    "not": (3 * DAY, 60 * DAY, 59 * DAY, [], What.MISSING),
    "an earlier time does not count": (3 * DAY, 60 * DAY, 59 * DAY, [4 * DAY], What.MISSING),
    "twice": (3 * DAY, 60 * DAY, 59 * DAY, [2 * DAY, DAY], What.TWICE),
    "late": (3 * DAY, 60 * DAY, 59 * DAY, [39 * HOUR], What.LATE),
    "not due yet": (32 * HOUR, 60 * DAY, 59 * DAY, [], What.NOT_DUE),
    "due": (32 * HOUR + timedelta(seconds=1), 60 * DAY, 59 * DAY, [], What.MISSING),
    "delivered a moment ago": (3 * DAY, 3 * DAY, HOUR, [], What.NOT_DUE),
    "delivered long after": (3 * DAY, 3 * DAY, 4 * HOUR, [2 * HOUR], What.FIRED),
    "the change is not delivered": (3 * DAY, 2 * HOUR, None, [], What.NOT_DELIVERED),
}


@pytest.mark.parametrize("name", PEOPLE)
def test_of_a_segment_each_who_qualified_gets_one_message(tmp_path: Path, name: str):
    """Within the promise after they qualified, or after what Customer.io needs for it was delivered."""
    qualified, changed, delivered, messages, what = PEOPLE[name]
    look = Look(tmp_path, WINBACK, BY_SEGMENT)
    look.rows.append({"customer_id": "ada", "occurred_at": NOW - qualified, "changed_at": NOW - changed})
    if delivered is None:  # an earlier content was
        note(look.store, FOLK, row_key("folk", "ada"), NOW - 60 * DAY, NOW - 59 * DAY, tmp_path)
    else:
        note(look.store, FOLK, row_key("folk", "ada"), NOW - changed, NOW - delivered, tmp_path)
    for ago in messages:
        look.send(NOW - ago, None)
    assert look.evidence().rows == {what: 1}


def test_the_people_query_asks_for_the_latest_change(tmp_path: Path):
    """With the journey's own query inside, comments and a semicolon included."""
    asked: list[str] = []

    class Stop(Exception):
        pass

    def ask(query: str, *_: Any) -> int:
        asked.append(query)
        raise Stop

    journey = WINBACK.model_copy(update={"sql": "SELECT x -- all;\n;\n"})
    with app(app_api([])) as client:
        sources = Sources(ask, LocalStore(tmp_path), client)
        with pytest.raises(Stop):
            look_at_journey(journey, FOLK, contract_with(journey), BY_SEGMENT, sources, SPAN)
    query = (
        'SELECT j."customer_id", j.occurred_at, p."updated_at" AS changed_at FROM (\nSELECT x -- all;\n\n) AS j '
        'LEFT JOIN "journeys_test"."folk" AS p ON p."customer_id" = j."customer_id"'
    )
    assert asked == [query]


CAMPAIGNS = {
    "as the contract says": (CAMPAIGN, None),
    "unknown": (None, "no campaign 1"),
    "switched off": (replace(CAMPAIGN, is_running=False), "Campaign 1 (Thanks) was switched off"),
    "never started": (replace(CAMPAIGN, is_running=False, first_started=None), "was never started"),
    "case": (replace(CAMPAIGN, event_name="order completed"), "'order completed', which never comes"),
    "underscore": (replace(CAMPAIGN, event_name="order_completed"), "case, blanks and underscores count"),
    "no blank": (replace(CAMPAIGN, event_name="OrderCompleted"), "which never comes"),
    "two blanks": (replace(CAMPAIGN, event_name="Order  Completed"), "which never comes"),
    "another event": (
        replace(CAMPAIGN, event_name="Order Paid"),
        "waits for 'Order Paid'; the feed orders sends 'Order Completed'",
    ),
    "no event": (replace(CAMPAIGN, event_name=None, trigger_segment_ids=(7,)), "not started by an event"),
}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_campaign_is_there_runs_and_waits_for_our_event(name: str):
    """A near miss in its name is told from another event."""
    campaign, said = CAMPAIGNS[name]
    problem = campaign_problem(JOURNEY, ORDERS, contract_with(JOURNEY), campaign)
    assert (problem is None) is (said is None)
    if problem is not None and said is not None:
        assert said in problem.text
        assert problem.next_step


@pytest.mark.parametrize(
    ("campaign", "said"),
    [
        (BY_SEGMENT, None),
        (replace(BY_SEGMENT, trigger_segment_ids=(7, 8)), "segment 7, 8; the contract says segment 7 (lapsed)"),
        (replace(BY_SEGMENT, trigger_segment_ids=()), "neither a segment nor an event"),
        (CAMPAIGN, "the event 'Order Completed'"),
    ],
)
def test_the_campaign_is_started_by_our_segment(campaign: Campaign, said: str | None):
    """By that one alone."""
    assert LAPSED.segment_id == 7
    problem = campaign_problem(WINBACK, FOLK, contract_with(WINBACK), campaign)
    assert said in problem.text if problem and said else problem is said


@pytest.mark.parametrize(
    ("evidence", "verdict", "said"),
    [
        (Evidence({What.FIRED: 2}, messages=2), "good", "2 Order Completed events got a message, once and in time"),
        (Evidence({What.FIRED: 2}, messages=9, others=7), "good", "7 messages came of events that another source sent"),
        (Evidence(), "good", "Nobody was expected"),
        (Evidence({What.NOT_DUE: 1, What.NOT_DELIVERED: 2}), "not ready", "1 not due yet, 2 not delivered to Customer.io"),
        (Evidence({What.HISTORY: 5}), "not ready", "5 delivered as history (72 hours old or older)"),
        (Evidence(gone=1), "not ready", "1 of people who were merged, deleted or blocked since"),
        (Evidence({What.MISSING: 3}, {What.MISSING: 3}, 4, 4), "bad", "3 Order Completed events got no message"),
        (
            Evidence({What.MISSING: 3, What.FIRED: 1}, {What.MISSING: 3}, 4, 3),
            "bad",
            "3 Order Completed events got no message. Expected to get one: 4",
        ),
        (Evidence({What.MISSING: 3}, {What.MISSING: 3}), "bad", "3 Order Completed events got no message"),
        (Evidence({}, {What.HISTORY_FIRED: 1}, 1), "bad", "1 Order Completed event got a message although delivered as history"),
        (
            Evidence({What.TWICE: 1}, {What.TWICE: 1, What.LATE: 2}, 3),
            "bad",
            "1 Order Completed event got a message more than once, 2 got a message too late",
        ),
    ],
)
def test_the_verdict_is_green_only_where_something_was_seen(evidence: Evidence, verdict: str, said: str):
    """Or where the warehouse expects nobody at all; what cannot be said yet is not ready, never green."""
    result = journey_result(JOURNEY, ORDERS, contract_with(JOURNEY), CAMPAIGN, evidence, SPAN, 3)
    description = result.description or ""
    found = "good" if result.passed else "not ready" if description.startswith("Not ready") else "bad"
    assert (found, said in description) == (verdict, True), description
    assert ("Next step: " in description) is (verdict != "good")
    every = journey_result(JOURNEY, ORDERS, contract_with(JOURNEY), CAMPAIGN, Evidence(), SPAN, 3)
    assert list(result.metadata) == list(every.metadata)


def test_only_messages_of_others_point_to_the_event_ids():
    """Customer.io may not return the ids that were sent: then the smoke test has to prove it, and nothing is green."""
    evidence = Evidence({What.MISSING: 3}, {What.MISSING: 3}, 4, 4)
    result = journey_result(JOURNEY, ORDERS, contract_with(JOURNEY), CAMPAIGN, evidence, SPAN, 3)
    assert "does not return our event ids" in (result.description or "")
    assert "prove it with the smoke test" in (result.description or "")


def test_an_answer_of_another_shape_is_an_error_and_no_verdict(tmp_path: Path):
    """A message without its time, or a key without scope: the look ends, nothing counts as good."""
    look = Look(tmp_path)
    look.send(NOW, "O1")
    del look.messages[0]["created"]
    with app(lambda _: httpx.Response(200, json={"messages": look.messages})) as client:
        sources = Sources(answering_with([]), look.store, client)
        with pytest.raises(MismatchError, match="created"):
            look_at_journey(JOURNEY, ORDERS, contract_with(JOURNEY), CAMPAIGN, sources, SPAN)
    with app(lambda _: httpx.Response(403)) as client, pytest.raises(CustomerioRefused):
        look_at_journey(JOURNEY, ORDERS, contract_with(JOURNEY), CAMPAIGN, replace(sources, app=client), SPAN)


@given(st.lists(st.integers(0, 2**128 - 1), min_size=1, max_size=5))
def test_an_event_id_leads_back_to_its_row_key(keys: list[int]):
    """Every ULID that is sent, in either case; that is how a message is joined to its row."""
    texts = [f"{key:032x}" for key in keys]
    sent = [row.tobytes().decode() for row in np.asarray(ulids(pa.array(texts)))]
    assert [row_key_of(ulid) for ulid in sent] == texts
    assert [row_key_of(ulid.lower()) for ulid in sent] == texts


@pytest.mark.parametrize(
    "text", ["", "01BX5ZZKBKACTAV9WEVG00000", "81BX5ZZKBKACTAV9WEVG000000", "01BX5ZZKBKACTAV9WEVG00000U", "é" * 26]
)
def test_what_is_no_ulid_leads_to_no_row(text: str):
    """Events of other sources have ids of any form, or none."""
    assert row_key_of(text) is None
