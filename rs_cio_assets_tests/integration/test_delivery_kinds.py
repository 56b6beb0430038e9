"""Merges, deletions and suppressions: what is sent, in which order, what a later day settles, and whom nothing may bring back."""

from __future__ import annotations

import json
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_cio_assets.contract import Feed
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.delivery.merges import in_waves
from rs_cio_assets.errors import CustomerioRefused
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.integration.test_delivery_guards import AT, BRAKED, DAY, Days, order, person
from rs_cio_assets_tests.staging import deliver, feed_of, stage

NEXT_DAY, NEXT_AT = "2026-11-21", AT + timedelta(days=1)
WIDE: dict[str, Any] = {**BRAKED, "max_rows_per_day": 99, "max_people_share": 1}
MERGES = feed_of(
    "merge",
    {"old_id": {"type": "string"}},
    name="merges",
    view="c.merges",
    merged_column="old_id",
    unknown_person="send",
    **WIDE,
)
DELETIONS = feed_of("deletion", {}, name="deletions", view="c.deletions", **WIDE)
SUPPRESSIONS = feed_of(
    "suppression", {"is_out": {"type": "boolean"}}, name="suppressions", view="c.supp", suppressed_column="is_out", **WIDE
)
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="c.folk")
ORDERS = feed_of("event", {"order_id": {"type": "string"}}, name="orders", view="c.orders", unknown_person="send")


def merge(gone: int, kept: int, minutes: int = 0) -> dict[str, Any]:
    """The person *gone* becomes the person *kept*, so many minutes after AT."""
    return person(kept, old_id=f"C{gone:07d}", updated_at=AT + timedelta(minutes=minutes))


def pair(operation: dict[str, Any]) -> tuple[int, int]:
    """Who goes and who stays."""
    gone, kept = (int(operation[role]["id"].removeprefix("C")) for role in ("secondary", "primary"))
    return gone, kept


@pytest.mark.parametrize(
    ("feed", "row", "operation"),
    [
        (MERGES, merge(1, 2), {"action": "merge", "primary": {"id": "C0000002"}, "secondary": {"id": "C0000001"}}),
        (DELETIONS, person(1), {"action": "delete", "identifiers": {"id": "C0000001"}}),
        (SUPPRESSIONS, person(1, is_out=True), {"action": "suppress", "identifiers": {"id": "C0000001"}}),
        (SUPPRESSIONS, person(1, is_out=False), {"action": "unsuppress", "identifiers": {"id": "C0000001"}}),
    ],
    ids=["merge", "deletion", "suppress", "unsuppress"],
)
def test_each_kind_is_sent_as_published_and_once(feed: Feed, row: dict[str, Any], operation: dict[str, Any], tmp_path: Path):
    """ID5: the operation holds who and what, and nothing else of the row; the same day again sends nothing."""
    days = Days(tmp_path, feed)
    assert days.run(feed, [row]).delivered == 1
    assert days.sent(feed) == [{"type": "person", **operation}]
    again = days.run(feed, [row])
    assert (again.unchanged, again.requests) == (1, 0)


@pytest.mark.parametrize(
    ("feed", "row", "reason"),
    [
        (MERGES, merge(1, 1), "merge_with_itself"),
        (MERGES, merge(1, 2) | {"old_id": None}, "identifier_missing"),
        (MERGES, merge(1, 2) | {"old_id": " "}, "identifier_missing"),
        (MERGES, merge(1, 2) | {"old_id": "ada"}, "identifier_shape"),
        (MERGES, merge(1, 2) | {"customer_id": None}, "identifier_missing"),
        (SUPPRESSIONS, person(1), "required_missing"),
        (DELETIONS, person(1, customer_id=""), "identifier_missing"),
        (DELETIONS, person(1, updated_at=None), "time_missing"),
        (DELETIONS, person(1, updated_at=NEXT_AT), "time_outside_day"),
    ],
)
def test_a_bad_row_of_what_cannot_be_undone_is_rejected(feed: Feed, row: dict[str, Any], reason: str, tmp_path: Path):
    """ID1, ID2, TM1, TM5: nobody is merged, deleted or suppressed by a guess; the good row beside it goes."""
    good = {"is_out": True} if feed is SUPPRESSIONS else {"old_id": "C0000008"} if feed is MERGES else {}
    days = Days(tmp_path, feed)
    report = days.run(feed, [row, person(9, **good)])
    assert (report.delivered, report.rejected_by_reason) == (1, {reason: 1})


def test_two_rows_that_merge_one_person_into_two_are_both_rejected(tmp_path: Path):
    """DU1: a merge cannot be undone, so contradicting ones are left to a person; equal ones go once."""
    days = Days(tmp_path, MERGES)
    report = days.run(MERGES, [merge(1, 2), merge(1, 3), merge(4, 5), merge(4, 5)])
    assert (report.delivered, report.duplicates, report.rejected_by_reason) == (1, 1, {"duplicate_key_differs": 2})
    assert [pair(operation) for operation in days.sent(MERGES)] == [(4, 5)]


def test_merges_of_a_chain_wait_for_each_other_in_the_order_of_time(tmp_path: Path):
    """ID5: no request has a person twice, and none begins before all requests of the wave before were answered."""
    seen: list[list[tuple[int, int]]] = []
    is_alone: list[bool] = []
    running = threading.Lock()

    def answer(request: httpx.Request) -> None:
        is_alone.append(running.acquire(blocking=False))
        seen.append([pair(operation) for operation in json.loads(request.content)["batch"]])
        running.release()

    rows = [merge(3, 4, 30), merge(1, 2, 10), merge(2, 3, 20), merge(8, 9, 50), merge(6, 4, 40)]
    report = Days(tmp_path, MERGES).run(MERGES, rows, answer=answer)
    assert [sorted(wave) for wave in seen] == [[(1, 2), (8, 9)], [(2, 3)], [(3, 4)], [(6, 4)]]
    assert all(is_alone)
    assert (report.delivered, report.requests) == (5, 4)


def test_a_chain_that_broke_off_goes_on_where_it_was(tmp_path: Path):
    """ID5, DL3: after an error in the second wave the first is recorded, and the next run sends the rest in order."""
    days, rows = Days(tmp_path, MERGES), [merge(1, 2, 10), merge(2, 3, 20), merge(3, 4, 30)]
    with pytest.raises(CustomerioRefused):
        days.run(MERGES, rows, answer=lambda _: httpx.Response(401) if days.tracks["merges"].bodies else None)
    report = days.run(MERGES, rows)
    assert (report.unchanged, report.delivered) == (1, 2)
    assert [pair(operation) for operation in days.sent(MERGES)] == [(2, 3), (3, 4)]


pairs = st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda two: two[0] != two[1])


@settings(max_examples=150)
@given(merges=st.lists(st.tuples(pairs, st.booleans()), max_size=20), cut=st.integers(1, 5))
def test_waves_hold_every_merge_once_in_an_order_that_cannot_race(merges: list[tuple[tuple[int, int], bool]], cut: int):
    """ID5: for any merges, however they come in batches: nobody twice in a wave, and one's merges in the order of time."""
    people = {10 * number: (str(a), str(b)) for number, ((a, b), _) in enumerate(merges)}
    wanted = [10 * number for number, (_, is_sent) in enumerate(merges) if is_sent][::-1]
    batches = [pa.record_batch({"pos": pa.array(wanted[i : i + cut], pa.int64())}) for i in range(0, len(wanted), cut)]
    waves = [[pos for batch in wave for pos in batch["pos"].to_pylist()] for wave in in_waves(people, batches)]
    assert sorted(pos for wave in waves for pos in wave) == sorted(wanted)
    assert all(waves)
    wave_of = {pos: number for number, wave in enumerate(waves) for pos in wave}
    for first in wanted:
        for second in wanted:
            if first < second and set(people[first]) & set(people[second]):
                assert wave_of[first] < wave_of[second]


@pytest.mark.parametrize(
    ("feed", "older", "newer"),
    [
        (SUPPRESSIONS, person(1, is_out=True), person(1, is_out=False, updated_at=NEXT_AT)),
        (DELETIONS, person(1), person(1, updated_at=NEXT_AT)),
        (MERGES, merge(1, 2), merge(1, 3) | {"updated_at": NEXT_AT}),
    ],
    ids=["suppression", "deletion", "merge"],
)
def test_a_later_day_settles_what_an_older_one_would_say(
    feed: Feed, older: dict[str, Any], newer: dict[str, Any], tmp_path: Path
):
    """LG3: run in the wrong order, the older day passes that person over and sends the others; each day stays as it is."""
    days = Days(tmp_path, feed)
    other = older | ({"old_id": "C0000007"} if feed is MERGES else {"customer_id": "C0000007"})
    assert days.run(feed, [newer], day=NEXT_DAY).delivered == 1
    report = days.run(feed, [older, other])
    assert (report.superseded, report.delivered) == (1, 1)
    again = days.run(feed, [older, other])
    assert (again.superseded, again.unchanged, again.requests) == (1, 1, 0)
    assert days.run(feed, [newer], day=NEXT_DAY).unchanged == 1


def test_in_order_each_day_is_sent(tmp_path: Path):
    """Suppressed, freed, suppressed again over three days: three operations, and changed within a day a fourth."""
    days = Days(tmp_path, SUPPRESSIONS)
    for number, is_out in enumerate((True, False, True)):
        row = person(1, is_out=is_out, updated_at=AT + timedelta(days=number))
        assert days.run(SUPPRESSIONS, [row], day=f"2026-11-{20 + number}").delivered == 1
    row = person(1, is_out=False, updated_at=AT + timedelta(days=2, hours=1))
    assert days.run(SUPPRESSIONS, [row], day="2026-11-22").delivered == 1
    assert [operation["action"] for operation in days.sent(SUPPRESSIONS)] == ["unsuppress"]


@pytest.mark.parametrize("feed", [FOLK, ORDERS], ids=["people", "event"])
def test_a_row_does_not_bring_a_deleted_person_back_but_they_may_come_back(feed: Feed, tmp_path: Path):
    """SP3: rows up to the deletion's moment are rejected, later ones go; nobody else is touched."""
    days, moment = Days(tmp_path, DELETIONS, feed), AT + timedelta(hours=1)
    days.run(DELETIONS, [person(n, updated_at=moment) for n in range(1, 4)])
    times = (moment - timedelta(microseconds=1), moment, moment + timedelta(microseconds=1))
    rows = [(order(n, customer_id=f"C{n:07d}") if feed is ORDERS else person(n)) for n in range(1, 5)]
    for row, at in zip(rows, (*times, AT), strict=True):
        row[feed.time_column] = at
    report = days.run(feed, rows)
    assert (report.delivered, report.rejected_by_reason) == (2, {"person_deleted": 2})
    assert {operation["identifiers"]["id"] for operation in days.sent(feed)} == {"C0000003", "C0000004"}
    assert days.run(feed, rows).requests == 0


@pytest.mark.parametrize("feed", [FOLK, ORDERS], ids=["people", "event"])
def test_a_merged_identifier_never_comes_back(feed: Feed, tmp_path: Path):
    """ID5: rows under the identifier that went are rejected whatever their time; who stayed goes."""
    days = Days(tmp_path, MERGES, feed)
    days.run(MERGES, [merge(1, 2)])
    rows = [(order(n, customer_id=f"C{n:07d}") if feed is ORDERS else person(n)) for n in (1, 2)]
    rows[0][feed.time_column] = AT + timedelta(hours=9)
    report = days.run(feed, rows)
    assert (report.delivered, report.rejected_by_reason) == (1, {"person_merged": 1})
    assert days.run(feed, [{**row, feed.time_column: NEXT_AT} for row in rows], day=NEXT_DAY).rejected == 1


def test_what_was_refused_deletes_nobody(tmp_path: Path):
    """SP3: only an acknowledged deletion keeps rows out."""
    days = Days(tmp_path, DELETIONS, FOLK)
    refusal = httpx.Response(207, json={"errors": [{"batch_index": 0, "reason": "invalid"}]})
    assert days.run(DELETIONS, [person(1)], answer=lambda _: refusal).rejected == 1
    assert days.run(FOLK, [person(1)]).delivered == 1


def test_merges_and_deletions_may_both_be_enabled(tmp_path: Path):
    """A contract with both, of which the first concerns nobody of the day, delivers the day."""
    days = Days(tmp_path, MERGES, DELETIONS, FOLK)
    assert days.run(FOLK, [person(1)]).delivered == 1


@pytest.mark.parametrize("deleted", [1, 2], ids=["who_stays", "who_goes"])
def test_merges_and_deletions_of_one_day_both_count(deleted: int, tmp_path: Path):
    """SP3, ID5: merged and deleted, each with its own reason; the deletion is told first."""
    days = Days(tmp_path, MERGES, DELETIONS, FOLK)
    days.run(MERGES, [merge(2, 1), merge(3, 4)])
    days.run(DELETIONS, [person(deleted), person(5)])
    report = days.run(FOLK, [person(n) for n in range(1, 7)])
    expected = {"person_deleted": 2, "person_merged": 2 if deleted == 1 else 1}
    assert (report.rejected_by_reason, report.delivered) == (expected, 6 - sum(expected.values()))


def test_a_person_deleted_twice_in_a_day_is_deleted_twice(tmp_path: Path):
    """SP3: deleted at noon, back at two, deleted at five: the view's row has the later time, and it must go."""
    days = Days(tmp_path, DELETIONS, FOLK)
    days.run(DELETIONS, [person(1)])
    days.run(FOLK, [person(1, updated_at=AT + timedelta(hours=2))])
    assert days.run(DELETIONS, [person(1, updated_at=AT + timedelta(hours=5))]).delivered == 1


def test_the_ceiling_is_of_the_day_however_many_runs_it_takes(tmp_path: Path):
    """A day with more deletions than max_rows_per_day sends none, also when some of them were sent by an earlier run."""
    few = DELETIONS.model_copy(update={"max_rows_per_day": 3})
    days = Days(tmp_path, few)
    days.run(few, [person(n) for n in range(3)])
    with pytest.raises(Exception, match="max_rows_per_day"):
        days.run(few, [person(n) for n in range(6)])


def test_a_chain_of_merges_leaves_one_profile_with_everything(tmp_path: Path, customerio: CustomerioStandIn):
    """ID5: read back from the stand-in: three people become one, deleted ones are gone, suppressed ones stay out."""
    there = load_settings({"CUSTOMERIO_TRACK_URL": customerio.url, "CUSTOMERIO_APP_URL": customerio.url}).customerio
    days = Days(tmp_path, MERGES, DELETIONS, SUPPRESSIONS, FOLK)

    def send(feed: Feed, rows: list[dict[str, Any]]) -> None:
        with tempfile.TemporaryDirectory(dir=tmp_path) as scratch:
            manifest = stage(days.store, feed, DAY, rows, Path(scratch))
            report = deliver(feed, days.contract, manifest, days.store, TrackClient(there), Path(scratch))
        assert report.delivered == len(rows)

    send(FOLK, [person(n, tier=f"t{n}") for n in range(1, 6)])
    send(MERGES, [merge(2, 3, 20), merge(1, 2, 10)])
    send(DELETIONS, [person(4, updated_at=AT + timedelta(hours=1))])
    send(SUPPRESSIONS, [person(5, is_out=True)])
    send(FOLK, [person(4, tier="back", updated_at=AT + timedelta(hours=2)), person(5, tier="out")])
    with AppClient(there) as app:
        found = app.attributes([f"C{n:07d}" for n in range(1, 6)])
    assert {identifier: profile.attributes["tier"] for identifier, profile in found.items()} == {
        "C0000003": "t3",
        "C0000004": "back",
    }
