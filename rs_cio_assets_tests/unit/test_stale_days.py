"""Which days are stale: pure decisions over what was found, what was delivered and what time it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_cio_assets.assets.deliveries import DeliveredDay, columns_of, has_changed
from rs_cio_assets.automation.stale_days import ATTEMPT_AFTER, Attempts, Why, days_before, stale_days
from rs_cio_assets.store import Fingerprint
from rs_cio_assets_tests.staging import feed_of

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
DAY = "2026-11-20"
ORDERS = feed_of("event", {"order_id": {"type": "string"}}, name="orders", view="a.orders")
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="a.folk")
LOADED = datetime(2026, 11, 21, 2, tzinfo=UTC)
STATE = Fingerprint(10, LOADED, "123")
LATER = LOADED + timedelta(hours=5)


def delivered(feed=ORDERS, source: Fingerprint | None = STATE, **more) -> DeliveredDay:
    """A delivery of *source*."""
    return DeliveredDay(source=source, columns=columns_of(feed), at=NOW - timedelta(days=5), **more)


@pytest.mark.parametrize(
    ("feed", "found", "is_changed"),
    [
        (ORDERS, STATE, False),
        (ORDERS, replace(STATE, checksum="124"), True),
        (ORDERS, Fingerprint(11, LATER, "200"), True),
        (ORDERS, Fingerprint(9, LOADED, "100"), True),
        (FOLK, Fingerprint(9, LOADED, "100"), False),
        (FOLK, Fingerprint(9, LOADED - timedelta(hours=1), "100"), False),
        (FOLK, Fingerprint(9, LATER, "100"), True),
        (FOLK, Fingerprint(10, LOADED, "100"), True),
        (FOLK, Fingerprint(0, None, "0"), False),
        (FOLK, Fingerprint(11, LOADED, "100"), True),
    ],
    ids=["same", "restated", "a row more", "a row less", "somebody moved on", "the newest moved on", "one left, one came late",
         "restated person", "all moved on", "somebody more"],
)  # fmt: skip
def test_what_counts_as_changed(feed, found: Fingerprint, is_changed: bool):
    """Anything that differs; but people who left for a later day are no news."""
    assert has_changed(feed, found, delivered(feed)) == is_changed


def test_other_columns_make_checksums_incomparable():
    """After the contract changed only rows and the newest load time decide; a delivery without a record counts as changed."""
    older = replace(delivered(), columns="order_id:string")
    assert not has_changed(ORDERS, replace(STATE, checksum="999"), older)
    assert has_changed(ORDERS, replace(STATE, rows=11), older)
    assert has_changed(ORDERS, STATE, delivered(source=None))
    assert not has_changed(FOLK, Fingerprint(9, LOADED, "1"), replace(delivered(FOLK), columns="tier:string"))  # one moved on


@given(st.lists(st.sampled_from([STATE, replace(STATE, checksum="7"), Fingerprint(12, LATER, "8")]), min_size=1, max_size=30))
def test_the_level_alone_decides(history: list[Fingerprint]):
    """However a day came to its state, it is stale exactly when that is not the delivered one."""
    found = {DAY: history[-1]}
    stale = stale_days(ORDERS, found, {DAY: delivered(source=history[0])}, NOW, lambda: None)
    assert [s.day for s in stale] == ([] if history[-1] == history[0] else [DAY])


@pytest.mark.parametrize(
    ("day", "rows", "first", "is_stale"),
    [
        ("2026-11-24", 3, "2026-11-01", True),
        ("2026-11-25", 3, "2026-11-01", False),
        ("2026-11-24", 0, "2026-11-01", False),
        ("2026-11-24", 3, "2026-11-24", False),
        ("2026-11-24", 3, "2026-11-25", False),
        ("2026-11-24", 3, None, False),
    ],
    ids=["a gap", "yesterday", "no rows", "not later than the first", "before the first", "never delivered"],
)
def test_days_that_no_run_delivered(day: str, rows: int, first: str | None, is_stale: bool):
    """Gaps between the first delivered day and the day before yesterday are filled in; the rest is not its business."""
    stale = stale_days(ORDERS, {day: Fingerprint(rows, LOADED, "1")}, {}, NOW, lambda: first)
    assert [s.why for s in stale] == ([Why.NEVER_DELIVERED] if is_stale else [])


def test_holds():
    """Due holds, and rows that wait for their person once a day; what is not due waits."""
    due, not_due = NOW - timedelta(minutes=1), NOW + timedelta(minutes=1)

    def why(was: DeliveredDay) -> list[Why]:
        return [s.why for s in stale_days(ORDERS, {DAY: STATE}, {DAY: was}, NOW, lambda: None)]

    assert why(delivered(held=2, held_until=due)) == [Why.HOLD_DUE]
    assert why(delivered(held=2, held_until=not_due)) == []
    assert why(delivered(held=2)) == [Why.WAITS_FOR_PERSON]
    assert why(replace(delivered(held=2), at=NOW - timedelta(hours=23))) == []


def test_attempts_are_bounded_and_spaced():
    """At once, after half an hour, after six hours, and then never for this state."""
    assert Attempts().is_due(NOW)
    for failed in range(1, len(ATTEMPT_AFTER)):
        assert not Attempts(failed, NOW - ATTEMPT_AFTER[failed] + timedelta(seconds=1)).is_due(NOW)
        assert Attempts(failed, NOW - ATTEMPT_AFTER[failed]).is_due(NOW)
    assert not Attempts(len(ATTEMPT_AFTER), NOW - timedelta(days=99)).is_due(NOW)


@pytest.mark.parametrize(
    ("today", "number", "start", "first", "last", "count"),
    [
        (date(2028, 3, 2), 3, date(2026, 1, 1), "2028-02-28", "2028-03-01", 3),
        (date(2026, 11, 26), 35, date(2026, 11, 20), "2026-11-20", "2026-11-25", 6),
        (date(2026, 11, 2), 2, date(2026, 1, 1), "2026-10-31", "2026-11-01", 2),
        (date(2027, 1, 1), 1, date(2026, 1, 1), "2026-12-31", "2026-12-31", 1),
    ],
    ids=["a leap day", "the first partition", "New York's long day", "a new year"],
)
def test_the_window(today: date, number: int, start: date, first: str, last: str, count: int):
    """So many finished UTC days before today, none before the first partition, and never today, which is open."""
    days = days_before(today, number, start)
    assert (days[0], days[-1], len(days)) == (first, last, count)
    assert days_before(start, number, start) == []
