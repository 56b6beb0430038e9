"""What the Track API takes and refuses at its limits, in its own words. The product keeps clear of them, and maps what comes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.workspace import LiveWorkspace, event, identify, new_ulid

Operation = dict[str, Any]
NAME = "rs_cio_smoke"
BAD: dict[str, Callable[[str], Operation]] = {
    "a value of 1,001 bytes": lambda person: identify(person, {"smoke_long": "x" * 1_001}),
    "an id that is no ULID": lambda person: event(person, NAME, {}, ulid="00000000-0000-4000-8000-000000000000"),
    "a timestamp in milliseconds": lambda person: event(person, NAME, {}, timestamp=int(time.time() * 1_000)),
    "an operation of over 32 KB": lambda person: event(person, NAME, {"smoke_long": "x" * 33_000}, ulid=new_ulid()),
    "no identifiers": lambda _: {"type": "person", "action": "identify", "attributes": {}},
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.asks(
    "What does a batch with one bad operation between two good ones answer, and are the good ones taken?",
    "a 207 names the bad one by batch_index, and all others are taken",
    "rs_cio_assets/customerio/track.py",
)
def test_a_bad_operation_is_named_and_the_others_are_taken(workspace: LiveWorkspace, answer: Answer, what: str):
    """Status and body for each kind of badness; the good operations are read back, and so is whoever the bad one was about."""
    label = what.replace(" ", "-").replace(",", "")
    good, other = workspace.person(f"good-{label}"), workspace.person(f"bad-{label}")
    operations = [identify(good, {"smoke_first": "1"}), BAD[what](other), identify(good, {"smoke_last": "2"})]
    response = workspace.send(answer, *operations, shown=f"good, {what}, good")
    seen, answer.facts["seconds"] = workspace.until(lambda: has(workspace, good, "smoke_first", "smoke_last"))
    answer.facts |= {"the good ones are taken": seen, "the bad one made somebody": workspace.attributes(other) is not None}
    errors = response.json().get("errors", []) if response.status_code == 207 else []
    named = {error.get("batch_index") for error in errors}
    answer.judge(named == {1} and seen, f"status {response.status_code}, named {sorted(named, key=str)}, good ones taken: {seen}")
    assert what != "no identifiers" or answer.verdict == "holds", "the product needs to hear which operation was refused"


REQUESTS: dict[str, tuple[Callable[[str], list[Operation]], frozenset[int], bool]] = {
    # what -> its operations, the statuses that the product expects, whether it needs one of them
    "a batch of over 500 KB": (
        lambda person: [event(person, NAME, {"smoke_long": "x" * 31_000}, ulid=new_ulid()) for _ in range(17)],
        frozenset({400, 413}),
        False,
    ),
    "an empty batch": (lambda _: [], frozenset({400}), False),
    "5,000 tiny operations": (
        lambda person: [{"type": "person", "action": "identify", "identifiers": {"id": person}}] * 5_000,
        frozenset({200}),
        True,
    ),
}


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.asks(
    "What do batches at the limits answer: over 500 KB, empty, of 5,000 operations?",
    "too large is 413 or 400, empty is 400, and the number of operations has no limit of its own",
    "rs_cio_assets/delivery/packing.py",
)
def test_batches_at_the_limits(workspace: LiveWorkspace, answer: Answer, what: str):
    """Status and body of the whole request."""
    operations, expected, is_needed = REQUESTS[what]
    person = workspace.person("")  # short, so that 5,000 fit into 500 KB
    response = workspace.send(answer, *operations(person), shown=what)
    answer.judge(response.status_code in expected, f"status {response.status_code}")
    assert not is_needed or answer.verdict == "holds", "the product sends as many operations as fit into 475,000 bytes"


def has(workspace: LiveWorkspace, person: str, *names: str) -> bool:
    """Whether a person can be read with all these attributes."""
    found = workspace.attributes(person)
    return found is not None and set(names) <= set(found.get("attributes") or {})
