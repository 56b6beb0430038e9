"""The engine of segment parity: everybody once, and only differences that stay count. Members come from a scripted App API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rs_cio_assets.checks import membership
from rs_cio_assets.checks.membership import Parity, compare_segment, find_reached
from rs_cio_assets.checks.results import CANARY_PREFIX
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.checked_shop import (
    CART_RECOVERY,
    CARTS,
    DELETIONS,
    FOLK,
    FRESH,
    LONG_AGO,
    LOYAL,
    MERGES,
    NOW,
    ORDERS,
    SUPPRESSIONS,
    Shop,
    create_tables,
    members,
    open_shop,
    person,
    row,
    who,
)

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def opened(redshift: RedshiftStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The tables, and a workspace to deliver to, which nobody asks anything."""
    with open_shop(redshift.port, tmp_path_factory.mktemp("shop")) as made:
        create_tables(made.settings)
        yield made


@pytest.fixture
def shop(opened: Shop, tmp_path: Path) -> Shop:
    """Empty tables and an empty store."""
    opened.empty()
    return Shop(opened.settings.model_copy(update={"store": str(tmp_path / "store")}), tmp_path)


def compared(shop: Shop, *ids: str, segment=LOYAL, without_id: int = 0) -> Parity:
    """The parity of a segment with these members."""
    with members(*ids, without_id=without_id) as app:
        return compare_segment(segment, app, shop.around(), shop.scratch / "differences.parquet")


def listed(shop: Shop) -> set[tuple[str, str, bool]]:
    """The differences that the last comparison listed."""
    return {tuple(found.values()) for found in pq.read_table(shop.scratch / "differences.parquet").to_pylist()}


def test_everybody_is_counted_once_over_all_pages(shop: Shop):
    """Five members in three pages, one twice, against five people in the view, one twice: equal; the other two differ."""
    shop.have(FOLK, *(person(n) for n in range(1, 6)), person(9, orders_count=1))
    shop.load(FOLK, person(5))
    same = compared(shop, *(who(n) for n in (1, 2, 3, 4, 5, 5)))
    assert (same.members, same.expected, same.missing, same.extra) == (5, 5, 0, 0)
    other = compared(shop, *(who(n) for n in (1, 2, 3, 4, 9)))
    assert (other.members, other.expected, other.missing, other.extra) == (5, 5, 1, 1)
    assert listed(shop) == {(who(5), "missing", False), (who(9), "extra", False)}
    assert [len(people) for people in other.samples.values()] == [1, 1]
    assert who(5) not in str(other.samples)


@pytest.mark.parametrize(
    ("minutes", "is_member", "counted"),
    [(1, True, 0), (1, False, 1), (0, False, 0), (0, True, 0), (-29, False, 0), (-29, True, 0), (-30, True, 1), (-31, False, 0)],
)
def test_time_that_passes_within_the_lag_does_not_count(shop: Shop, minutes: int, is_member: bool, counted: int):
    """Who left a window of 14 days less than the lag (30 minutes) ago may be in or out. So many *minutes* are left of it."""
    shop.have(FOLK, person(1, born_at=NOW - timedelta(days=14) + timedelta(minutes=minutes)))
    found = compared(shop, *([who(1)] if is_member else []), segment=FRESH)
    assert found.missing + found.extra == counted


def _row_is_newer(shop: Shop) -> None:
    shop.deliver(FOLK, person(1, orders_count=1))
    shop.load(FOLK, person(1, updated_at=NOW - 3 * HOUR, loaded_at=NOW - HOUR))


def _newer_row_is_old(shop: Shop) -> None:
    shop.deliver(FOLK, person(1, orders_count=1))
    shop.load(FOLK, person(1, updated_at=NOW - 80 * HOUR, loaded_at=NOW - 73 * HOUR))


def _newer_row_was_rejected(shop: Shop) -> None:
    changed = person(1, updated_at=NOW - 3 * HOUR, loaded_at=NOW - HOUR)
    shop.deliver(FOLK, person(1, orders_count=1))
    shop.deliver(FOLK, {**changed, "loaded_at": None}, at=NOW - HOUR)
    shop.load(FOLK, changed)


def _loaded_again_since_it_was_read(shop: Shop) -> None:
    shop.deliver(FOLK, person(1, orders_count=1))
    shop.load(FOLK, person(1, loaded_at=NOW - HOUR))


def _loaded_before_it_was_read(shop: Shop) -> None:
    shop.deliver(FOLK, person(1, orders_count=1), read_at=NOW - HOUR)
    shop.load(FOLK, person(1, loaded_at=NOW - 2 * HOUR))


def _acknowledged_just_now(shop: Shop) -> None:
    shop.load(FOLK, person(1))
    shop.deliver(FOLK, person(1), at=NOW - timedelta(minutes=29))


def _acknowledged_longer_ago_than_the_lag(shop: Shop) -> None:
    shop.load(FOLK, person(1))
    shop.deliver(FOLK, person(1), at=NOW - timedelta(minutes=31))


def _new_and_not_delivered(shop: Shop) -> None:
    shop.load(FOLK, person(1, loaded_at=NOW - HOUR))


def _event_on_its_way(shop: Shop) -> None:
    shop.have(FOLK, person(1))
    shop.load(ORDERS, row(1, loaded_at=NOW - HOUR))


def _event_that_arrived(shop: Shop) -> None:
    shop.have(FOLK, person(1))
    shop.load(ORDERS, row(1, loaded_at=NOW - HOUR))
    shop.deliver(ORDERS, row(1), at=NOW - HOUR)


def _event_that_was_rejected(shop: Shop) -> None:
    shop.have(FOLK, person(1))
    shop.load(ORDERS, row(1, total=10, loaded_at=NOW - HOUR))
    shop.deliver(ORDERS, row(1, total=10), at=NOW - HOUR)


def _old_event_backfilled_just_now(shop: Shop) -> None:
    shop.have(FOLK, person(1))
    shop.load(ORDERS, row(1))
    shop.deliver(ORDERS, row(1), at=NOW - timedelta(minutes=5))


def _as_it_was_delivered(shop: Shop) -> None:
    shop.have(FOLK, person(1))


@pytest.mark.parametrize(
    ("prepare", "is_in_flight"),
    [
        (_row_is_newer, True),
        (_newer_row_is_old, False),
        (_newer_row_was_rejected, False),
        (_loaded_again_since_it_was_read, True),
        (_loaded_before_it_was_read, False),
        (_acknowledged_just_now, True),
        (_acknowledged_longer_ago_than_the_lag, False),
        (_new_and_not_delivered, True),
        (_event_on_its_way, True),
        (_event_that_arrived, False),
        (_event_that_was_rejected, False),
        (_old_event_backfilled_just_now, True),
        (_as_it_was_delivered, False),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_who_is_in_flight_is_told_apart_from_who_is_missing(shop: Shop, prepare: Callable[[Shop], None], is_in_flight: bool):
    """Somebody who should be in the segment and is not: on their way when a row of theirs is, missing otherwise."""
    prepare(shop)
    found = compared(shop)
    assert (found.expected, found.in_flight, found.missing) == (1, int(is_in_flight), int(not is_in_flight))
    assert listed(shop) == {(who(1), "missing", is_in_flight)}


@pytest.mark.parametrize(("loaded_at", "extra"), [(NOW - HOUR, 0), (LONG_AGO, 1)], ids=["a merge on its way", "an old merge"])
def test_a_guest_whose_merge_is_on_its_way_is_no_difference(shop: Shop, loaded_at, extra: int):
    """A guest who became a customer is out of the view; their profile is extra only when the merge should have arrived."""
    shop.deliver(FOLK, person(1))
    shop.load(MERGES, row(2, guest_id=who(1), loaded_at=loaded_at))
    found = compared(shop, who(1))
    assert (found.extra, found.in_flight) == (extra, 1 - extra)


def test_people_who_were_never_delivered_are_missing_with_a_number_of_their_own(shop: Shop):
    """Of two missing people one is in no ledger: the backfill has not come to them."""
    shop.have(FOLK, person(1))
    shop.load(FOLK, person(2))
    found = compared(shop)
    assert (found.missing, found.never_delivered) == (2, 1)


@pytest.mark.parametrize(
    ("rows", "is_gone"),
    [
        ([(DELETIONS, row(1, updated_at=LONG_AGO + HOUR))], True),
        ([(DELETIONS, row(1, updated_at=LONG_AGO - HOUR))], False),
        ([(SUPPRESSIONS, row(1, updated_at=LONG_AGO - HOUR, is_suppressed=True))], True),
        ([(SUPPRESSIONS, row(1, updated_at=LONG_AGO + HOUR * n, is_suppressed=n == 1)) for n in (1, 2)], False),
        ([(SUPPRESSIONS, row(1, is_suppressed=s)) for s in (True, False)], True),
        ([(DELETIONS, row(1, updated_at=NOW + HOUR))], False),
    ],
    ids=["deleted", "came back", "blocked", "block lifted", "blocked in the same second", "will be deleted"],
)
def test_whoever_asked_to_go_is_not_missed(shop: Shop, rows, is_gone: bool):
    """Deleted or blocked people do not count as missing, unless they came back."""
    shop.have(FOLK, person(1))
    for feed, said in rows:
        shop.load(feed, said)
    found = compared(shop)
    assert (found.gone, found.missing) == (int(is_gone), int(not is_gone))
    assert len(listed(shop)) == int(not is_gone)


def test_whoever_asked_to_go_and_is_a_member_all_the_same_is_extra(shop: Shop):
    """Somebody blocked whom the warehouse does not count is a member: that is a difference."""
    shop.have(FOLK, person(1, orders_count=1))
    shop.load(SUPPRESSIONS, row(1, is_suppressed=True))
    assert compared(shop, who(1)).extra == 1


def test_canaries_do_not_count_and_members_without_an_id_do(shop: Shop):
    """The made-up people of canary checks are left out; whom Customer.io knows by email alone is extra."""
    shop.have(FOLK, person(1))
    found = compared(shop, who(1), f"{CANARY_PREFIX}0123456789ab-browser", without_id=3)
    assert (found.members, found.missing, found.extra, found.without_id) == (4, 0, 3, 3)


def test_an_empty_warehouse_has_only_extra_members(shop: Shop):
    """Nobody expected, two members: two extra, no error."""
    found = compared(shop, who(1), who(2))
    assert (found.expected, found.members, found.extra, found.not_looked_at) == (0, 2, 2, 0)


def test_of_too_many_differences_only_some_are_looked_at(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Beyond the bound nobody knows what the others are: they are told apart, and neither counted nor listed."""
    monkeypatch.setattr(membership, "MOST_LOOKED_AT", 2)
    shop.load(FOLK, *(person(n, loaded_at=NOW - HOUR) for n in range(1, 6)))
    found = compared(shop)
    assert (found.in_flight, found.missing, found.not_looked_at) == (2, 0, 3)
    assert {(side, is_in_flight) for _, side, is_in_flight in listed(shop)} == {("missing", True)}
    assert len(listed(shop)) == 2
    shop.empty()
    shop.have(FOLK, *(person(n) for n in range(1, 6)))
    found = compared(shop)
    assert (found.in_flight, found.missing, found.not_looked_at) == (0, 2, 3)


def test_whom_a_journey_must_never_reach_is_found_over_everybody(shop: Shop):
    """A buyer among five members is found; one whose order is on its way is in flight; a canary is not looked at."""
    shop.have(FOLK, *(person(n) for n in range(1, 6)))
    shop.have(ORDERS, row(2))
    shop.load(ORDERS, row(4, loaded_at=NOW - HOUR))
    with members(*(who(n) for n in range(1, 6)), f"{CANARY_PREFIX}0123456789ab-buyer") as app:
        found = find_reached(CART_RECOVERY, CARTS, app, shop.around())
    assert (found.members, found.forbidden, found.reached, found.in_flight) == (5, 2, 1, 1)
    assert len(found.sample) == 1


def test_an_order_of_this_minute_does_not_count_yet(shop: Shop):
    """Who bought less than the lag ago may still be in the audience."""
    shop.have(FOLK, person(1))
    shop.load(ORDERS, row(1, occurred_at=NOW - timedelta(minutes=29)))
    shop.deliver(ORDERS, row(1, occurred_at=NOW - timedelta(minutes=29)), at=NOW - timedelta(minutes=20))
    with members(who(1)) as app:
        assert find_reached(CART_RECOVERY, CARTS, app, shop.around()).reached == 0
