"""Warehouses and workspaces for which a check was green, or broke, though what it promises is not so; and false alarms."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from rs_cio_assets.checks.canaries import Flight
from rs_cio_assets.checks.canary import build_canary_checks
from rs_cio_assets.checks.identities import IdentityReport, Questions, compare_identities
from rs_cio_assets.checks.membership import find_reached
from rs_cio_assets.checks.read_back import last_days
from rs_cio_assets.checks.segments import build_segment_checks
from rs_cio_assets.checks.suppression import WHO_LEFT_STAYS_GONE, build_suppression_checks
from rs_cio_assets.contract import Contract
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets.warehouse.definition import compare_definition, remember_view
from rs_cio_assets_tests.checked_shop import (
    CART_RECOVERY,
    CARTS,
    CHECKOUTS,
    CONTRACT,
    DELETIONS,
    FOLK,
    LONG_AGO,
    LOYAL,
    MERGES,
    NOW,
    ORDERS,
    SCHEMA,
    SUPPRESSIONS,
    Shop,
    create_tables,
    members,
    open_shop,
    person,
    row,
    who,
)
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.staging import feed_of

ONLY_LOYAL = CONTRACT.model_copy(update={"segments": (LOYAL,), "journeys": ()})
ONLY_LEAVING = CONTRACT.model_copy(update={"journeys": ()})
REACHES = "cart_recovery_reaches_nobody_it_must_not"
MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def tables(redshift: RedshiftStandIn) -> None:
    """The tables that stand for views."""
    create_tables(load_settings({"REDSHIFT_PORT": str(redshift.port)}))


@pytest.fixture
def shop(tables: None, redshift: RedshiftStandIn, tmp_path: Path) -> Iterator[Shop]:
    """Nobody anywhere; the segments are made."""
    with open_shop(redshift.port, tmp_path) as made:
        made.empty()
        made.make_segments("loyal", "carts")
        yield made


def test_a_row_without_an_identifier_among_those_who_left_is_passed_over(shop: Shop):
    """Delivery rejects it; the check asks about the others, and finds who is back."""
    shop.have(FOLK, person(1), person(2))
    shop.load(DELETIONS, row(1), row(2, customer_id=None), row(2, customer_id=" "))
    shop.load(SUPPRESSIONS, row(2, customer_id=None, is_suppressed=True))
    found = shop.run(build_suppression_checks(ONLY_LEAVING))
    assert found.failures == []
    assert found.verdict(WHO_LEFT_STAYS_GONE) == "bad"
    assert found.numbers(WHO_LEFT_STAYS_GONE)["people asked about"] == 1


def test_members_known_by_email_alone_are_not_vouched_for(shop: Shop):
    """Who they are to the warehouse nobody can say, so not that none of them has bought."""
    shop.have(FOLK, person(1))
    shop.have(CHECKOUTS, row(1))
    with members(who(1), without_id=2) as app:
        reached = find_reached(CART_RECOVERY, CARTS, app, shop.around())
    assert (reached.members, reached.without_id, reached.reached) == (3, 2, 0)
    shop.control("PUT", "segments/3", {"name": "carts", "condition": {"attribute": {"field": "is_lead", "operator": "exists"}}})
    shop.send({"action": "identify", "identifiers": {"email": "lead@example.com"}, "attributes": {"is_lead": True}})
    found = shop.run(build_suppression_checks(CONTRACT.model_copy(update={"feeds": (FOLK, CHECKOUTS, ORDERS)})))
    assert found.verdict(REACHES) != "good"
    assert not found.text(REACHES).startswith("Not ready")
    assert "1 of the 1 member of carts have no id" in found.text(REACHES)


def test_a_segment_whose_people_are_all_on_their_way_is_not_ready(shop: Shop):
    """Right after a backfill nothing can be compared: an empty segment would be as green as a full one."""
    people = [person(n, updated_at=NOW, loaded_at=NOW - MINUTE) for n in range(1, 5)]
    shop.load(FOLK, *people)
    shop.deliver(FOLK, *people, at=NOW)
    shop.control("PUT", "segments/1", {"name": "loyal", "ids": []})
    found = shop.run(build_segment_checks(ONLY_LOYAL))
    assert found.verdict("segment_loyal") == "not ready"
    assert found.text("segment_loyal").startswith("Not ready")


def test_an_audience_that_changes_during_the_flight_is_not_ready(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    """Somebody edits the segment meanwhile: it is being built, so who is in it says nothing."""

    def fly(*_: object, **__: object) -> Flight:
        shop.control("PUT", "segments/3", {"name": "carts", "ids": [], "build_seconds": 900})
        return Flight(is_visible=True, is_browser_in=False, is_buyer_in=False, waited_s=1, leftovers_removed=0)

    monkeypatch.setattr("rs_cio_assets.checks.canary.fly_canaries", fly)
    found = shop.run(build_canary_checks(CONTRACT, is_on=True))
    assert found.verdict("canary_cart_recovery") == "not ready"


def identities(shop: Shop, contract: Contract) -> IdentityReport:
    """What the identity engine says of folk."""
    with AppClient(shop.settings.customerio) as app:
        warehouse, days = Warehouse(shop.settings.redshift), last_days(14, NOW)
        return compare_identities(Questions(contract, warehouse, shop.store, shop.scratch, NOW, contract.feed("folk"), app, days))


def test_a_guest_whose_customer_was_merged_again_still_counts(shop: Shop):
    """A became B, and B became C: A's profile beside C's is a second one of the same person, though B has none."""
    shop.have(FOLK, person(1), person(3))
    merges = MERGES.model_copy(update={"sql": f"SELECT * FROM {SCHEMA}.merges"})
    shop.load(MERGES, row(2, guest_id=who(1)), row(3, guest_id=who(2)))
    others = tuple(feed for feed in CONTRACT.feeds if feed.name != "merges")
    report = identities(shop, CONTRACT.model_copy(update={"feeds": (*others, merges)}))
    assert (report.guests.wrong, report.guests.of) == (1, 2)


def test_a_rejected_row_within_the_budget_is_no_unknown_person(shop: Shop):
    """A row without an identifier, or with one of the wrong shape, is delivery's to reject: one in a hundred is no alarm."""
    shop.load(FOLK, *(person(n) for n in range(1, 3)))
    shop.load(
        CHECKOUTS, *(row(1 + n % 2, checkout_id=f"K{n}") for n in range(98)), row(3, customer_id=None), row(3, customer_id="3.0")
    )
    contract = CONTRACT.model_copy(update={"feeds": (FOLK, CHECKOUTS.model_copy(update={"unknown_person": "deliver"}))})
    (checkouts,) = identities(shop, contract).unknown
    assert (checkouts.feed, checkouts.rows, checkouts.is_over) == ("checkout_started", 100, False)
    shop.load(CHECKOUTS, row(9))
    (checkouts,) = identities(shop, contract).unknown
    assert checkouts.is_over


def test_emails_are_only_said_to_be_compared_where_there_is_a_profile(shop: Shop):
    """Delivered people who have no profile any more are no compared emails."""
    feed = feed_of("people", {"email": {"type": "string"}}, name="folk", view=f"{SCHEMA}.folk_with_email")
    contract = CONTRACT.model_copy(update={"feeds": (feed,), "segments": (), "journeys": ()})
    mailed = Shop(shop.settings, shop.scratch, contract)
    rows = [{"customer_id": who(n), "updated_at": LONG_AGO, "loaded_at": LONG_AGO, "email": f"{n}@example.com"} for n in (1, 2)]
    mailed.deliver(feed, *rows)
    shop.send({"action": "delete", "identifiers": {"id": who(1)}})
    run_sql(
        shop.settings,
        f"CREATE OR REPLACE VIEW {SCHEMA}.folk_with_email AS SELECT f.*, 'x'::VARCHAR AS email FROM {SCHEMA}.folk AS f",
    )
    report = identities(mailed, contract)
    assert (report.emails.wrong, report.emails.of) == (0, 1)


def test_a_view_that_was_replaced_by_a_table_is_another_definition(shop: Shop):
    """WH3: a table of the same columns in the view's place has no definition at all, and is frozen."""
    feed = FOLK.model_copy(update={"view": f"{SCHEMA}.v_folk", "sql": f"SELECT * FROM {SCHEMA}.folk"})
    with Warehouse(shop.settings.redshift).session() as session:
        create_view(session, feed)
        remember_view(session, feed, shop.store, lambda: NOW)
        session.run(f"DROP VIEW {feed.view}")
        session.run(f"CREATE TABLE {feed.view} AS SELECT * FROM {SCHEMA}.folk")
        session.commit()
        difference = compare_definition(session, feed, shop.store)
        session.run(f"DROP TABLE {feed.view}")
        session.commit()
    assert difference is not None
    assert difference.sentences(feed.view)
