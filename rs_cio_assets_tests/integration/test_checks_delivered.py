"""Which rows Customer.io should hold now: the newest version of a person, events with their number, nobody who is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rs_cio_assets.checks.delivered import AT_LEAST, AT_MOST, DAY, keep_delivered
from rs_cio_assets.delivery import DeliveryOptions, deliver_day
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.staging import NOW, RecordingTrack, contract_of, feed_of, stage

FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="x.folk")
ORDERS = feed_of("event", {"order_id": {"type": "string", "required": True}}, name="orders", view="x.orders")
ERASURES = feed_of("deletion", {}, name="erasures", view="x.erasures", enabled=True, max_rows_per_day=10, max_people_share=1)
CONTRACT = contract_of(FOLK, ORDERS, ERASURES)
OLDER, DAYS = "2026-11-20", ["2026-11-24", "2026-11-23", "2026-11-22", "2026-11-21"]


@dataclass(frozen=True)
class Desk:
    """A store, and deliveries into nowhere. Hours are after midnight of the last of DAYS."""

    store: LocalStore
    scratch: Path

    def deliver(
        self,
        name: str,
        day: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        read: int,
        sent: int,
        options: DeliveryOptions | None = None,
    ) -> None:
        """Stage rows of *day*, read at one hour, and deliver them at another."""
        feed, midnight = CONTRACT.feed(name), datetime(2026, 11, 24, tzinfo=UTC)
        manifest = stage(self.store, feed, day, rows, self.scratch, read_at=midnight + timedelta(hours=read))
        with RecordingTrack().client() as track:
            deliver_day(
                feed,
                CONTRACT,
                manifest,
                self.store,
                track,
                run_id=f"{sent:08d}",
                now=lambda: midnight + timedelta(hours=sent),
                scratch=self.scratch,
                concurrency=1,
                options=options or DeliveryOptions(),
            )

    def kept(self, name: str, **how: Any) -> list[dict[str, Any]]:
        """The rows that Customer.io should hold."""
        rows = keep_delivered(CONTRACT.feed(name), CONTRACT, self.store, DAYS, self.scratch, **how)
        found = [row for batch in rows.batches(2) for row in batch]
        assert len(found) == rows.count
        return found

    def tiers(self, **how: Any) -> list[tuple[str, str, str]]:
        """Of people: who, day and tier."""
        return sorted((row["customer_id"], row[DAY], row["tier"]) for row in self.kept("folk", **how))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Nothing delivered yet."""
    return Desk(LocalStore(tmp_path / "store"), tmp_path)


def person(number: int, day: str, tier: str) -> dict[str, Any]:
    """A row of folk at noon of *day*."""
    at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    return {"customer_id": f"C000000{number}", "updated_at": at, "loaded_at": at, "tier": tier}


def order(number: int, who: int, day: str) -> dict[str, Any]:
    """A row of orders at noon of *day*."""
    at = datetime.fromisoformat(f"{day}T12:00:00+00:00")
    return {"customer_id": f"C000000{who}", "occurred_at": at, "loaded_at": at, "order_id": f"O{number}"}


def test_a_later_day_supersedes_an_earlier_one(desk: Desk):
    """A person who changed stands on the later day alone, as Customer.io does."""
    desk.deliver("folk", DAYS[2], [person(1, DAYS[2], "gold"), person(2, DAYS[2], "gold")], read=1, sent=1)
    desk.deliver("folk", DAYS[1], [person(1, DAYS[1], "none")], read=2, sent=2)
    assert desk.tiers() == [("C0000001", DAYS[1], "none"), ("C0000002", DAYS[2], "gold")]


def test_an_older_snapshot_that_was_sent_later_does_not_count(desk: Desk):
    """LG3: Customer.io keeps what was read last; a re-sent older day is not what it holds."""
    desk.deliver("folk", DAYS[1], [person(1, DAYS[1], "none")], read=5, sent=6)
    resend = DeliveryOptions(has_resend=True)
    desk.deliver("folk", DAYS[2], [person(1, DAYS[2], "gold")], read=1, sent=9, options=resend)
    assert desk.tiers() == [("C0000001", DAYS[1], "none")]


def test_a_row_that_changed_since_it_was_delivered_is_left_out(desk: Desk):
    """A day that was exported again and not delivered says nothing about Customer.io."""
    desk.deliver("folk", DAYS[2], [person(1, DAYS[2], "gold"), person(2, DAYS[2], "gold")], read=1, sent=1)
    stage(desk.store, FOLK, DAYS[2], [person(1, DAYS[2], "none"), person(2, DAYS[2], "gold")], desk.scratch, read_at=NOW)
    assert desk.tiers() == [("C0000002", DAYS[2], "gold")]


@pytest.mark.parametrize("day", [DAYS[1], OLDER], ids=["within the days", "an older day's event"])
def test_a_person_delivered_newer_before_an_event_is_left_out(desk: Desk, day: str):
    """People before events stand in the ledger of the event's day and in no staged file: what they replaced is not compared."""
    desk.deliver("folk", DAYS[2], [person(1, DAYS[2], "gold"), person(2, DAYS[2], "gold")], read=1, sent=1)
    desk.deliver("folk", day, [person(1, DAYS[1], "none")], read=4, sent=4, options=DeliveryOptions(is_of_any_day=True))
    stage(desk.store, FOLK, day, [], desk.scratch)
    assert desk.tiers() == [("C0000002", DAYS[2], "gold")]


def test_a_sample_is_as_large_as_asked_for_and_the_newest_come_first(desk: Desk):
    """The size is of rows that can be compared; `newest` takes the latest changes."""
    desk.deliver("folk", DAYS[2], [person(n, DAYS[2], "gold") for n in range(1, 5)], read=1, sent=1)
    desk.deliver("folk", DAYS[1], [person(n, DAYS[1], "none") for n in range(5, 8)], read=2, sent=2)
    stage(desk.store, FOLK, DAYS[2], [person(1, DAYS[2], "gold")], desk.scratch)
    assert len(desk.tiers()) == len(desk.tiers(size=99)) == 4
    assert len(desk.tiers(size=2)) == 2
    assert {day for _, day, _ in desk.tiers(size=3, order="newest")} == {DAYS[1]}


def test_events_come_with_how_many_of_the_person_were_delivered(desk: Desk):
    """Finished days only; an event that changed since, or is staged no longer, widens the range instead of raising an alarm."""
    desk.deliver("orders", DAYS[2], [order(1, 1, DAYS[2]), order(2, 1, DAYS[2]), order(3, 2, DAYS[2])], read=1, sent=1)
    desk.deliver("orders", DAYS[0], [order(4, 1, DAYS[0])], read=2, sent=13)
    numbers = {(row["customer_id"], row[AT_LEAST], row[AT_MOST]) for row in desk.kept("orders")}
    assert numbers == {("C0000001", 2, 2), ("C0000002", 1, 1)}
    moved = order(2, 1, DAYS[2])
    stage(
        desk.store,
        ORDERS,
        DAYS[2],
        [order(1, 1, DAYS[2]), {**moved, "occurred_at": moved["loaded_at"] + timedelta(hours=1)}],
        desk.scratch,
    )
    numbers = {(row["customer_id"], row[AT_LEAST], row[AT_MOST]) for row in desk.kept("orders")}
    assert numbers == {("C0000001", 1, 3)}


def test_nobody_who_was_deleted_is_compared(desk: Desk):
    """Rows of people who asked to be deleted are left out, theirs alone."""
    desk.deliver("folk", DAYS[2], [person(n, DAYS[2], "gold") for n in (1, 2)], read=1, sent=1)
    at = datetime(2026, 11, 23, 18, tzinfo=UTC)
    desk.deliver("erasures", DAYS[1], [{"customer_id": "C0000001", "updated_at": at, "loaded_at": at}], read=2, sent=2)
    assert desk.tiers() == [("C0000002", DAYS[2], "gold")]


def test_without_a_ledger_or_staged_files_there_is_nothing(desk: Desk, tmp_path: Path):
    """Never exported, exported and not delivered, and files that have expired: no row, no error."""
    assert desk.tiers() == []
    stage(desk.store, FOLK, DAYS[2], [person(1, DAYS[2], "gold")], desk.scratch)
    assert desk.tiers() == []
    desk.deliver("folk", DAYS[2], [person(1, DAYS[2], "gold")], read=1, sent=1)
    for part in (tmp_path / "store" / "staged").rglob("part-*.parquet"):
        part.unlink()
    assert desk.tiers() == []
