"""The taxonomy lock: what it holds, which changes of a contract it refuses and which it lets pass, and whom it names.

The command line around it is tested in integration/test_cli_lock.py. Catalogue: NM4.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rs_cio_assets.contract import SHIPPED, Contract, load_contract
from rs_cio_assets.contract.load import load_as_written, load_lock
from rs_cio_assets.contract.lock import LOCK_FILE, Acceptance, TaxonomyLock, differences, endings, lock_of
from rs_cio_assets.errors import ContractError

TODAY = date(2026, 11, 25)
WRITTEN = load_as_written()
ORDERS, PEOPLE, PAUSED = "feeds/order_completed.yaml", "feeds/people.yaml", "feeds/subscription_paused.yaml"
Change = Callable[[Path], object]
NEW_FEED = """
kind: event
description: A feed of a test.
view: cio_export.order_placed
event_name: Order Placed
identifier: customer_id
business_key: [order_id]
time_column: occurred_at
loaded_at: loaded_at
freshness_hours: 30
columns:
  customer_id: {type: string, required: true, description: Who.}
  occurred_at: {type: timestamp, required: true, description: When.}
  loaded_at: {type: timestamp, required: true, description: Loaded.}
  order_id: {type: string, required: true, description: Order.}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped contract with its lock."""
    copy = tmp_path / "contract"
    shutil.copytree(SHIPPED, copy, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return copy


def replace(file: str, old: str, new: str) -> Change:
    """A change of one word in one file, or in every file of the contract but the lock (`*`)."""

    def change(folder: Path) -> None:
        paths = [p for p in folder.rglob("*.*") if p.suffix in {".yaml", ".sql"}] if file == "*" else [folder / file]
        texts = {path: path.read_text() for path in paths if path.name != LOCK_FILE}
        assert any(old in text for text in texts.values())
        for path, text in texts.items():
            path.write_text(re.sub(rf"(?<!\w){re.escape(old)}", new, text))

    return change


def remove(name: str) -> Change:
    """The removal of a YAML file and its SQL."""
    return lambda folder: [path.unlink() for path in folder.glob(f"{name}.*")]


def line_of(file: str, text: str) -> int:
    """The line of the shipped file that holds *text*."""
    return next(number for number, line in enumerate((SHIPPED / file).read_text().splitlines(), 1) if text in line)


def told(folder: Path, today: date = TODAY) -> list[str]:
    """The problems of a contract that does not load, one per line."""
    with pytest.raises(ContractError) as error:
        load_contract(folder, today=today)
    return error.value.problem.removesuffix("\nNothing was loaded").split("\n  ")[1:]


def lock_again(folder: Path) -> None:
    """Accept the contract as it is now."""
    (folder / LOCK_FILE).write_text(lock_of(load_as_written(folder)).text())


BUYERS = "the segments first_time_cleanser_buyers, repeat_buyers"
ON_ORDERS = "the journeys cart_recovery, post_purchase, second_purchase and the segment cart_recovery_audience"
ON_INACTIVE = "the journey winback and the segments inactive_60_days, winback_audience"
GONE = "the lock has it, and it is gone"
# The change; then of each problem the file, what stands in its line of the shipped file (empty: line 1), and what is said.
REFUSED: dict[str, tuple[Change, list[tuple[str, str, str]]]] = {
    "event name": (
        replace(ORDERS, "event_name: Order Completed", "event_name: Order Placed"),
        [(ORDERS, "event_name", f"event_name: the lock says Order Completed, found Order Placed; used by {ON_ORDERS}")],
    ),
    "attribute in every file": (
        replace("*", "orders_count", "order_count"),
        [(PEOPLE, "columns:", f"columns.orders_count: the lock says integer, found nothing; used by {BUYERS}")],
    ),
    "type": (
        replace(PEOPLE, "orders_count: {type: integer", "orders_count: {type: float"),
        [(PEOPLE, "  orders_count", f"columns.orders_count: the lock says integer, found float; used by {BUYERS}")],
    ),
    "attribute of a segment that starts a journey": (
        replace(PEOPLE, "last_paid_order_at: {", "last_paid_order_at: {is_sent: false, "),
        [(PEOPLE, "  last_paid", f"columns.last_paid_order_at: the lock says timestamp, found nothing; used by {ON_INACTIVE}")],
    ),
    "business key": (
        replace(ORDERS, "business_key: [order_id]", "business_key: [order_id, order_number]"),
        [(ORDERS, "business_key", f"business_key: the lock says order_id, found order_id, order_number; used by {ON_ORDERS}")],
    ),
    "property that nobody declared": (
        replace(ORDERS, "hero_sku:", "main_sku:"),
        [(ORDERS, "columns:", "columns.hero_sku: the lock says string, found nothing")],
    ),
    "feed that is off": (remove("feeds/product_viewed"), [("feeds/product_viewed.yaml", "", GONE)]),
    "identifier of Customer.io": (
        replace("workspace.yaml", "customerio: id", "customerio: email"),
        [("workspace.yaml", "customerio:", "identifier.customerio: the lock says id, found email")],
    ),
    "segment's number": (
        replace("segments/repeat_buyers.yaml", "segment_id: 1", "segment_id: 11"),
        [("segments/repeat_buyers.yaml", "segment_id", "segment_id: the lock says 1, found 11")],
    ),
    "journey": (remove("journeys/post_purchase"), [("journeys/post_purchase.yaml", "", GONE)]),
    "end that nobody accepted": (
        replace(ORDERS, "discount_code: {", "discount_code: {until: 2026-12-01, "),
        [(ORDERS, "  discount_code", "columns.discount_code.until: the lock says no end, found 2026-12-01")],
    ),
    "end of a feed that nobody accepted": (
        replace(PAUSED, "owner:", "until: 2026-12-01\nowner:"),
        [(PAUSED, "owner:", "until: the lock says no end, found 2026-12-01")],
    ),
    "two at once": (
        lambda folder: [remove("journeys/winback")(folder), remove("segments/repeat_buyers")(folder)],
        [("journeys/winback.yaml", "", GONE), ("segments/repeat_buyers.yaml", "", GONE)],
    ),
}


@pytest.mark.parametrize(("change", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_may_be_in_use_cannot_change_unnoticed(change: Change, expected: Sequence[tuple[str, str, str]], folder: Path):
    """NM4: what was locked and is renamed, retyped, rekeyed, ended or gone is refused at its line, with the journeys and segments
    that use it, also where all files were renamed at once; each says which command shows it.
    """
    change(folder)
    assert told(folder) == [f"{file}:{line_of(file, text)}: {problem}. Run rs-cio lock" for file, text, problem in expected]


@pytest.mark.parametrize("change", [change for change, _ in REFUSED.values()], ids=REFUSED)
def test_a_change_that_is_accepted_loads(change: Change, folder: Path):
    """What was refused loads once the lock holds it."""
    change(folder)
    lock_again(folder)
    assert load_contract(folder, today=TODAY).feeds
    assert lock_of(load_as_written(folder)) == load_lock(folder)


@pytest.mark.parametrize("change", [change for change, _ in REFUSED.values()], ids=REFUSED)
def test_a_contract_without_a_lock_loads(change: Change, folder: Path):
    """A team may choose not to lock: nothing is compared then."""
    (folder / LOCK_FILE).unlink()
    change(folder)
    assert load_lock(folder) is None
    assert load_contract(folder, today=TODAY).feeds


ADDED: dict[str, tuple[Change, list[str]]] = {
    "column": (
        replace(ORDERS, "columns:", "columns:\n  gift_note: {type: string, description: Note.}"),
        ["feeds/order_completed: columns.gift_note: is new"],
    ),
    "feed": (
        lambda folder: [
            (folder / f"feeds/order_placed.{kind}").write_text(text) for kind, text in (("yaml", NEW_FEED), ("sql", "SELECT 1"))
        ],
        ["feeds/order_placed: is new"],
    ),
    "use of a name": (
        replace("segments/repeat_buyers.sql", "p.orders_count >= 2", "p.vip_tier = 'gold' -- orders_count"),
        ["segments/repeat_buyers: sql: uses people.vip_tier; no longer uses people.orders_count"],
    ),
    "what is not sent": (
        replace(ORDERS, "columns:", "columns:\n  note: {type: string, is_sent: false, description: Note.}"),
        [],
    ),
    "switch": (replace("feeds/product_viewed.yaml", "enabled: false", "enabled: true"), []),
}


@pytest.mark.parametrize(("change", "expected"), ADDED.values(), ids=ADDED)
def test_what_is_new_breaks_nothing_and_is_told(change: Change, expected: Sequence[str], folder: Path):
    """A new column, feed or use loads, since nothing in Customer.io relies on it; it is a difference until the lock has it."""
    lock = load_lock(folder)
    assert lock is not None
    change(folder)
    assert load_contract(folder, today=TODAY).feeds
    found = differences(lock, lock_of(load_as_written(folder)), TODAY)
    assert [str(difference) for difference in found] == expected


@pytest.mark.parametrize(
    ("new_end", "is_refused"),
    [("2026-12-09", True), ("2026-12-11", False), (None, False)],
    ids=["earlier", "later", "none"],
)
def test_a_planned_end_may_be_put_off_and_not_brought_forward(new_end: str | None, is_refused: bool, folder: Path):
    """Journeys were promised the old name until the locked day: later needs nobody's word, earlier does."""
    plain = (folder / ORDERS).read_text()
    replace(ORDERS, "discount_code: {", "discount_code: {until: 2026-12-10, ")(folder)
    lock_again(folder)
    (folder / ORDERS).write_text(plain.replace("discount_code: {", f"discount_code: {{until: {new_end}, ") if new_end else plain)
    if is_refused:
        (problem,) = told(folder)
        assert "columns.discount_code.until: the lock says 2026-12-10, found 2026-12-09" in problem
    else:
        assert load_contract(folder, today=TODAY).feeds


def test_a_name_may_go_when_its_locked_end_has_passed(folder: Path):
    """The day before, its removal is refused; on the day and after it is not, for a column and for a whole feed."""
    replace(ORDERS, "discount_code: {", "discount_code: {until: 2026-12-10, ")(folder)
    replace(PAUSED, "owner:", "until: 2026-12-11\nowner:")(folder)
    lock_again(folder)
    lock = load_lock(folder)
    assert lock is not None
    assert [str(ending) for ending in endings(lock)] == [
        "feeds/order_completed: columns.discount_code: is not sent from 2026-12-10 on",
        "feeds/subscription_paused: is not sent from 2026-12-11 on",
    ]
    assert load_contract(folder, today=date(2027, 1, 1)).feeds  # the ends have passed and the files still say them
    replace(ORDERS, "  discount_code:", "  # discount_code:")(folder)
    remove("feeds/subscription_paused")(folder)
    assert len(told(folder, date(2026, 12, 9))) == 2
    (still,) = told(folder, date(2026, 12, 10))
    assert still.startswith(f"{PAUSED}:1: ")
    assert load_contract(folder, today=date(2026, 12, 11)).feeds
    last = differences(lock, lock_of(load_as_written(folder)), date(2026, 12, 11))
    assert "feeds/subscription_paused: the lock has it, and it is gone as planned" in map(str, last)


def test_a_broken_lock_is_told_at_its_line(folder: Path):
    """A lock that a merge left in pieces, or that somebody wrote by hand, stops the load and names the line."""
    text = (folder / LOCK_FILE).read_text()
    (folder / LOCK_FILE).write_text(text.replace("customerio_identifier: id\n", "<<<<<<< ours\ncustomerio_identifier: id\n"))
    assert told(folder)[0].startswith(f"{LOCK_FILE}:4: this is not YAML")
    (folder / LOCK_FILE).write_text(text.replace("segment_id: 5", "segment_id: five"))
    (problem,) = told(folder)
    assert problem.startswith(f"{LOCK_FILE}:{text[: text.index('segment_id: 5')].count(chr(10)) + 1}: segments.")
    assert "segment_id: found 'five'" in problem


def test_the_shipped_contract_is_what_its_lock_says():
    """The committed lock is current, byte for byte, and somebody gave a reason for it."""
    lock = load_lock()
    assert lock is not None
    assert differences(lock, lock_of(WRITTEN), TODAY) == ()
    assert lock.text() == (SHIPPED / LOCK_FILE).read_text()
    assert lock.model_copy(update={"accepted": ()}) == lock_of(WRITTEN)
    assert all(word.reason and word.changes for word in lock.accepted)
    assert lock.accepted


def test_a_lock_read_back_is_the_lock_that_was_written(folder: Path):
    """Ends, acceptances and texts of any script survive the file."""
    replace(ORDERS, "discount_code: {", "discount_code: {until: 2026-12-10, ")(folder)
    words = (Acceptance(accepted_on=TODAY, reason="Rabattcode: Ende, 'geplant' für März", changes=("a: b", "c")),)
    lock = lock_of(load_as_written(folder)).model_copy(update={"accepted": words})
    (folder / LOCK_FILE).write_text(lock.text(), encoding="utf-8")
    assert load_lock(folder) == lock
    assert load_contract(folder, today=TODAY).feeds


@given(st.permutations(WRITTEN.feeds), st.permutations(WRITTEN.journeys), st.randoms(use_true_random=False))
def test_order_does_not_change_the_lock(feeds: list, journeys: list, random):
    """Feeds, journeys and columns in any order give the same file, so that a review shows changed names alone."""

    def mixed(columns: dict) -> dict:
        names = list(columns)
        random.shuffle(names)
        return {name: columns[name] for name in names}

    shuffled = [feed.model_copy(update={"columns": mixed(feed.columns)}) for feed in feeds]
    contract = Contract(workspace=WRITTEN.workspace, feeds=shuffled, segments=WRITTEN.segments, journeys=journeys)
    assert lock_of(contract).text() == lock_of(WRITTEN).text()


@pytest.mark.parametrize("field", ["trigger_segment", "audience"])
def test_a_journey_uses_what_its_segments_use(field: str):
    """By the segment that starts it as by the one it may reach, a journey is named when an attribute of that segment changes."""
    (winback,) = (journey for journey in WRITTEN.journeys if journey.name == "winback")
    alone = winback.model_copy(update={"trigger_segment": None, "audience": None, field: "winback_audience"})
    uses = lock_of(WRITTEN.model_copy(update={"journeys": (alone,)})).journeys["winback"].uses
    assert "people.last_paid_order_at" in uses
    assert "last_paid_order_at" not in winback.sql


def test_the_lock_names_every_sent_name_and_none_that_is_not():
    """Kind, event name, key and each sent name with its type, also of feeds that are off; times and identifiers are no names."""
    document = yaml.safe_load((SHIPPED / LOCK_FILE).read_text())
    assert set(document["feeds"]) == {feed.name for feed in WRITTEN.feeds}
    for feed in WRITTEN.feeds:
        locked = document["feeds"][feed.name]
        assert locked.get("sent", {}) == {name: feed.columns[name].type.value for name in feed.sent_columns}
        assert (locked["kind"], locked.get("event_name"), locked["identifier"]) == (feed.kind, feed.event_name, feed.identifier)
        assert tuple(locked["business_key"]) == feed.key_columns
    assert {name: item["segment_id"] for name, item in document["segments"].items()} == {
        segment.name: segment.segment_id for segment in WRITTEN.segments
    }
    assert document["journeys"]["post_purchase"]["campaign_id"] == 1
    assert TaxonomyLock.model_validate(document) == load_lock()
