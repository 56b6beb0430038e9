"""The read-back check: green for what was sent and for nothing else, with how much was looked at, and without a name in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rs_cio_assets_tests.synced_feeds import ROWS, Synced, event, of, open_synced

NAME = "customerio_holds_what_was_sent"
GREEN = {"folk", "orders", "pauses"}


@pytest.fixture
def unsent(tmp_path: Path) -> Iterator[Synced]:
    """Nothing staged, nobody in the workspace."""
    with open_synced(tmp_path) as opened:
        yield opened


@pytest.fixture
def synced(unsent: Synced) -> Synced:
    """Everything staged and delivered."""
    unsent.stage()
    unsent.deliver()
    return unsent


def test_what_was_sent_is_green_and_says_how_much_was_looked_at(synced: Synced):
    """Every type of value, empty texts, JSON scalars, far times and two events of one key: all rows read back as sent."""
    checks = synced.checks()
    assert {name for name, check in checks.items() if check.is_passed} == GREEN, checks
    assert {name: check.description for name, check in checks.items()} == {
        "folk": "All 6 sampled rows are in Customer.io as they were sent (today and the 14 days before).",
        "orders": "All 6 sampled rows are in Customer.io as they were sent (today and the 14 days before).",
        "pauses": "All 2 sampled rows are in Customer.io as they were sent (today and the 14 days before).",
    }


@pytest.mark.parametrize(
    ("operations", "red", "said"),
    [
        ([of("C0000001", "identify", attributes={"tier": "silver"})], {"folk": 1}, "differs in tier"),
        ([of("C0000001", "identify", attributes={"worth": 410.91, "is_guest": 1})], {"folk": 1}, "differs in worth, is_guest"),
        ([of("C0000000", "identify", attributes={"seen_at": None})], {"folk": 1}, "differs in seen_at"),
        ([of("C0000001", "identify", attributes={"seen_at": 5})], {"folk": 1}, "differs in seen_at"),
        ([of("C0000000", "identify", attributes={"likes": {"a": [1, 2.5, 1], "b": None}})], {"folk": 1}, "differs in likes"),
        ([of(f"C000000{n}", "identify", attributes={"tier": "none"}) for n in range(4)], {"folk": 4}, "differs in tier"),
        ([of("C0000005", "delete")], {"folk": 1}, "there is no profile"),
        ([of("C0000003", "delete")], {"folk": 1, "pauses": 2}, "has this event 0 times"),
        ([event("O1", id="01ARZ3NDEKTSV4RRFFQ69G5FAV")], {"orders": 1}, "has this event 2 times"),
        (
            [
                of("C0000000", "delete"),
                event("O0"),
                event("O2", attributes={"total": 9.91}),
                event("O4", timestamp=1_700_000_000),
            ],
            {"folk": 1, "orders": 2},
            "differs in occurred_at",
        ),
        ([of("C0000001", "delete"), event("O1"), event("O3")], {"folk": 1, "orders": 1}, "has this event 0 times"),
        ([event("O0", name="order completed"), of("C0000000", "identify", attributes={"added": "by hand"})], {}, ""),
    ],
    ids=[
        "an attribute changed",
        "two attributes of one person",
        "an attribute gone",
        "an attribute that should be gone",
        "true became 1 in JSON",
        "four people",
        "a person deleted",
        "a person with events deleted",
        "an event doubled",
        "an event's property and another's time",
        "an event missing",
        "what is none of the feed's business",
    ],
)
def test_what_differs_in_customerio_is_red_with_how_many(
    synced: Synced, operations: list[dict[str, Any]], red: dict[str, int], said: str
):
    """DL4: whatever somebody changes, deletes or doubles turns the right feed red, with the number of rows and what it is."""
    synced.send(*operations)
    checks = synced.checks()
    assert {name for name, check in checks.items() if not check.is_passed} == set(red)
    for name, count in red.items():
        rows, are = len(ROWS[name]), "is" if count == 1 else "are"
        assert checks[name].description.startswith(f"{count} of {rows} sampled rows {are} not in Customer.io as they were sent.")
        assert "Next step" in checks[name].description
        assert checks[name].is_error
    assert said in synced.shown


def test_a_complete_look_asks_for_every_row_and_counts_its_requests(synced: Synced):
    """Every delivered row: people by the hundred, events once a person; a small sample asks for less. One row differs."""
    synced.send(of("C0000003", "identify", attributes={"tier": "none"}))
    people, orders = synced.check("folk", is_complete=True), synced.check("orders", is_complete=True)
    assert not people.evaluations[NAME].passed
    assert "1 of 6 delivered rows is not in Customer.io as they were sent" in (people.evaluations[NAME].description or "")
    assert (people.numbers(NAME)["rows asked for"], people.numbers(NAME)["App API requests"]) == (6, 1)
    numbers = orders.numbers(NAME)
    assert orders.evaluations[NAME].passed
    assert (numbers["rows asked for"], numbers["people asked for"], numbers["App API requests"]) == (6, 2, 2)
    assert synced.check("orders", sample_size=1).numbers(NAME)["App API requests"] == 1


@pytest.mark.parametrize(
    ("operations", "people", "words"),
    [
        ([of("C0000009", "delete")], 0, "All 6 sampled rows"),
        ([event("O1", attributes={"order_id": "O99"})], 1, "For 1 of 2 people Customer.io has another number of Order Completed"),
        ([event("O0", attributes={"order_id": "O98"}), event("O1", attributes={"order_id": "O99"})], 2, "2 of 2 people"),
        ([event("O1", attributes={"order_id": "O99"}, timestamp=1_700_000_000)], 0, "All 6 sampled rows"),
        ([of("C0000001", "delete"), event("O1")], 1, "For 1 of 2 people Customer.io has another number"),
    ],
    ids=["as many as delivered", "a stray one", "two people's", "before the days", "fewer"],
)
def test_the_number_of_events_of_a_person_is_that_which_was_delivered(
    synced: Synced, operations: list[dict[str, Any]], people: int, words: str
):
    """More events of a name than were delivered in the finished days is red, though each sampled row is there; so are fewer."""
    synced.send(*operations)
    run = synced.check("orders")
    assert words in (run.evaluations[NAME].description or "")
    assert run.numbers(NAME)["people with another number of events"] == people
    assert run.evaluations[NAME].passed == (not people)


def test_an_event_of_the_day_under_way_is_not_counted_yet(synced: Synced):
    """Today's events are still arriving on both sides; the finished days are compared."""
    synced.send(event("O1", attributes={"order_id": "O99"}, timestamp=int(datetime.now(UTC).timestamp())))
    assert synced.check("orders").evaluations[NAME].passed


@pytest.mark.parametrize(
    ("rows", "is_green", "words"),
    [
        ({}, False, "None of these days has been exported"),
        (ROWS, False, "rows were exported and none was delivered"),
        ({name: [] for name in ROWS}, True, "The warehouse has no row in the 1 day that was exported"),
    ],
    ids=["nothing exported", "nothing delivered", "nothing in the warehouse"],
)
def test_without_a_delivered_row_it_is_green_only_where_there_was_none(
    unsent: Synced, rows: dict[str, list[dict[str, Any]]], is_green: bool, words: str
):
    """Nothing to compare is no proof: green only where the warehouse was read and had no row."""
    unsent.stage(rows)
    checks = unsent.checks()
    assert {check.is_passed for check in checks.values()} == {is_green}
    assert all(words in check.description for check in checks.values())
