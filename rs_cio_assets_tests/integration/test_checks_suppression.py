"""Nobody in an audience whom its journey must never reach, and nobody back who asked to go; through Dagster, over everybody."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from rs_cio_assets.checks import membership
from rs_cio_assets.checks.suppression import WHO_LEFT_STAYS_GONE, build_suppression_checks
from rs_cio_assets.contract import Contract
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.checked_shop import (
    CART_RECOVERY,
    CHECKOUTS,
    CONTRACT,
    DELETIONS,
    FOLK,
    LONG_AGO,
    NOW,
    ORDERS,
    SCHEMA,
    SUPPRESSIONS,
    Checked,
    Shop,
    create_tables,
    open_shop,
    person,
    row,
    segment,
    who,
)

REACHES = "cart_recovery_reaches_nobody_it_must_not"
HOUR = timedelta(hours=1)
NO_LEAVING = CONTRACT.model_copy(update={"feeds": (FOLK, CHECKOUTS, ORDERS)})
ONLY_LEAVING = CONTRACT.model_copy(update={"journeys": ()})


@pytest.fixture(scope="module")
def tables(redshift: RedshiftStandIn) -> None:
    """The tables that stand for views."""
    create_tables(load_settings({"REDSHIFT_PORT": str(redshift.port)}))


@pytest.fixture
def shop(tables: None, redshift: RedshiftStandIn, tmp_path: Path) -> Iterator[Shop]:
    """Three people who each began to check out, everywhere; the audience is made."""
    with open_shop(redshift.port, tmp_path) as made:
        made.empty()
        made.make_segments("carts")
        made.have(FOLK, *(person(n) for n in range(1, 4)))
        made.have(CHECKOUTS, *(row(n) for n in range(1, 4)))
        yield made


def run(shop: Shop, contract: Contract, config: dict[str, Any] | None = None) -> Checked:
    """Run the checks that this contract has."""
    return shop.run(build_suppression_checks(contract), config)


def test_a_buyer_whom_customerio_took_out_is_no_finding(shop: Shop):
    """Somebody bought and is out of the audience: good, with how many were looked at on both sides."""
    shop.have(ORDERS, row(1))
    found = run(shop, NO_LEAVING)
    assert found.verdict(REACHES) == "good", found
    assert found.text(REACHES) == "None of the 2 people in carts is among the 1 whom cart_recovery must not reach."
    assert list(found.numbers(REACHES)) == [
        "members",
        "members without an id",
        "people it must not reach",
        "people reached",
        "in flight",
        "not looked at",
        "App API requests",
        "own time (s)",
    ]


def test_before_anybody_was_delivered_there_is_nothing_to_say(shop: Shop):
    """No ledger: not ready, never good."""
    shop.store.delete(shop.store.list("ledger/"))
    assert run(shop, NO_LEAVING).verdict(REACHES) == "not ready"


def test_a_buyer_in_the_cart_recovery_audience_is_caught(shop: Shop):
    """SP1: the order's event was accepted and lost, so its buyer would be reminded of a cart: bad, counted, hashed, next step."""
    shop.control("PUT", "faults", {"lost_events": ["Order Completed"]})
    shop.have(ORDERS, row(1))
    found = run(shop, NO_LEAVING)
    assert found.verdict(REACHES) == "bad"
    assert found.text(REACHES).startswith(
        "1 person in carts must not be reached by cart_recovery, and would get its message (3 in all are in it). "
        "Next step: pause campaign 7; look up one of these people"
    )
    assert len(found.numbers(REACHES)["reached (sample, people hashed)"].records) == 1


def test_with_more_buyers_on_their_way_than_are_looked_at_there_is_nothing_to_say(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Three bought just now and are in the audience, two of them are looked at: not ready, neither green nor an alarm."""
    monkeypatch.setattr(membership, "MOST_LOOKED_AT", 2)
    shop.load(ORDERS, *(row(n, loaded_at=datetime.now(UTC)) for n in range(1, 4)))
    found = run(shop, NO_LEAVING)
    assert found.verdict(REACHES) == "not ready"
    assert "3 people in carts must not be reached by cart_recovery" in found.text(REACHES)


def test_an_active_buyer_in_the_winback_audience_is_caught(shop: Shop):
    """SP2: a journey that a segment starts has its check on the people feed; a stale manual segment holds an active buyer."""
    winback = CART_RECOVERY.model_copy(
        update={"name": "winback", "feed": None, "trigger_segment": "asleep", "audience": "asleep", "campaign_id": 8}
    )
    asleep = segment("asleep", 9, f"SELECT p.customer_id FROM {SCHEMA}.folk AS p WHERE p.orders_count = 0")
    contract = NO_LEAVING.model_copy(update={"journeys": (winback,), "segments": (asleep,)})
    (check,) = build_suppression_checks(contract)
    assert [key.asset_key.path[-1] for key in check.check_keys] == ["folk"]
    shop.control("PUT", "segments/9", {"name": "asleep", "ids": [who(1), who(2)]})
    shop.have(ORDERS, row(2))
    found = run(shop, contract)
    assert found.verdict("winback_reaches_nobody_it_must_not") == "bad"
    assert found.numbers("winback_reaches_nobody_it_must_not")["people reached"] == 1


def test_a_buyer_whose_order_is_on_its_way_is_counted_apart(shop: Shop):
    """An order that reached the warehouse an hour ago and goes with the next run: good, and the text tells of it."""
    shop.load(ORDERS, row(1, loaded_at=NOW - HOUR))
    found = run(shop, NO_LEAVING)
    assert found.verdict(REACHES) == "good"
    assert "1 person in it whose latest rows are on their way" in found.text(REACHES)


@pytest.mark.parametrize(("build_seconds", "verdict"), [(900, "not ready"), (None, "bad")], ids=["being built", "not there"])
def test_an_audience_that_cannot_be_read_is_never_good(shop: Shop, build_seconds: int | None, verdict: str):
    """SG2 and SG3 of an audience."""
    if build_seconds:
        shop.control("PUT", "segments/3", {"name": "carts", "ids": [], "build_seconds": build_seconds})
    else:
        shop.control("DELETE", "segments/3")
    assert run(shop, NO_LEAVING).verdict(REACHES) == verdict


def test_a_journey_whose_feed_is_off_is_looked_at_from_the_people_feed():
    """The audience is there all the same; without any people feed there is nothing to stand on."""
    feeds = (FOLK, CHECKOUTS.model_copy(update={"enabled": False}), ORDERS)
    (check,) = build_suppression_checks(NO_LEAVING.model_copy(update={"feeds": feeds}))
    assert [key.asset_key.path[-1] for key in check.check_keys] == ["folk"]
    assert build_suppression_checks(NO_LEAVING.model_copy(update={"feeds": feeds[1:]})) == []


def test_who_left_and_is_gone_is_good(shop: Shop):
    """A deleted and a blocked person, both delivered: nobody is back. Without these feeds there is no such check."""
    shop.have(DELETIONS, row(1))
    shop.have(SUPPRESSIONS, row(2, is_suppressed=True))
    found = run(shop, ONLY_LEAVING)
    assert found.verdict(WHO_LEFT_STAYS_GONE) == "good", found
    assert found.text(WHO_LEFT_STAYS_GONE) == "None of the 2 people who asked to go has a profile in Customer.io."
    assert {
        name.split("_reaches")[0] for name in (k.name for c in build_suppression_checks(NO_LEAVING) for k in c.check_keys)
    } == {"cart_recovery"}


def test_a_deleted_person_whom_another_source_made_anew_is_caught(shop: Shop):
    """SP3: a storefront goes on sending events of somebody who was deleted: bad, counted and hashed."""
    shop.have(DELETIONS, row(1), row(2))
    shop.send({"action": "event", "identifiers": {"id": who(1)}, "name": "seen"})
    found = run(shop, ONLY_LEAVING)
    assert found.verdict(WHO_LEFT_STAYS_GONE) == "bad"
    assert found.text(WHO_LEFT_STAYS_GONE).startswith(
        "1 of 2 people who asked to be deleted or blocked has a profile in Customer.io. Next step: find the source"
    )
    assert len(found.numbers(WHO_LEFT_STAYS_GONE)["back (sample, people hashed)"].records) == 1


def test_somebody_blocked_who_was_let_in_by_hand_is_caught(shop: Shop):
    """SP3: somebody lifts the block in Customer.io and the people feed brings the person back; the warehouse says blocked."""
    shop.have(SUPPRESSIONS, row(1, is_suppressed=True))
    again = person(1, updated_at=NOW - HOUR, loaded_at=NOW - HOUR)
    shop.load(FOLK, again)
    shop.send({"action": "unsuppress", "identifiers": {"id": who(1)}})
    shop.deliver(FOLK, again, at=NOW - HOUR)
    assert run(shop, ONLY_LEAVING).verdict(WHO_LEFT_STAYS_GONE) == "bad"


def test_a_wish_that_never_arrived_is_caught_and_a_new_one_is_on_its_way(shop: Shop):
    """Days of the deletions feed that were never run leave people there; a wish of this morning has its time."""
    shop.load(DELETIONS, row(1), row(2, updated_at=NOW - 2 * HOUR, loaded_at=NOW - HOUR))
    found = run(shop, ONLY_LEAVING)
    numbers = found.numbers(WHO_LEFT_STAYS_GONE)
    assert (numbers["people back"], numbers["never delivered"], numbers["on their way out"]) == (1, 1, 1)
    assert "run the days of the deletion and suppression feeds that were never delivered (they hold 1 person)" in found.text(
        WHO_LEFT_STAYS_GONE
    )


def test_who_came_back_on_purpose_is_no_finding(shop: Shop):
    """Deleted, and newer rows in the people view; blocked, and the block lifted: they may be there."""
    shop.have(DELETIONS, row(1))
    shop.have(SUPPRESSIONS, row(2, is_suppressed=True))
    shop.load(SUPPRESSIONS, row(2, updated_at=LONG_AGO + HOUR, is_suppressed=False))
    shop.deliver(SUPPRESSIONS, row(2, updated_at=LONG_AGO + HOUR, is_suppressed=False))
    back = [person(n, updated_at=LONG_AGO + 24 * HOUR) for n in (1, 2)]
    shop.load(FOLK, *back)
    shop.deliver(FOLK, *back, at=LONG_AGO + 25 * HOUR)
    assert httpx.get(f"{shop.settings.customerio.app_url}/sandbox/counts").json()["people"] == 3
    found = run(shop, ONLY_LEAVING)
    assert found.verdict(WHO_LEFT_STAYS_GONE) == "good", found.text(WHO_LEFT_STAYS_GONE)
    assert found.numbers(WHO_LEFT_STAYS_GONE)["came back on purpose"] == 1


def test_of_many_who_left_the_newest_are_asked_about(shop: Shop):
    """The bound is said: the older one, who is back, is not asked about."""
    shop.load(DELETIONS, row(1), row(2, updated_at=LONG_AGO + HOUR))
    shop.deliver(DELETIONS, row(2, updated_at=LONG_AGO + HOUR))
    found = run(shop, ONLY_LEAVING, {"folk_who_left_stays_gone": {"max_people": 1}})
    assert found.verdict(WHO_LEFT_STAYS_GONE) == "good", found
    assert found.text(WHO_LEFT_STAYS_GONE).endswith("1 who left earlier were not asked about (max_people).")


def test_a_view_that_is_not_there_fails_clearly(shop: Shop):
    """The deletions feed was turned on and its view not made: the step fails and names the feed."""
    missing = DELETIONS.model_copy(update={"view": f"{SCHEMA}.nothing"})
    contract = ONLY_LEAVING.model_copy(update={"feeds": (FOLK, CHECKOUTS, ORDERS, missing)})
    found = run(shop, contract)
    assert found.checks == {}
    assert "feed deletions" in found.failures[0]
    assert "materialize redshift/views/deletions" in found.failures[0]
