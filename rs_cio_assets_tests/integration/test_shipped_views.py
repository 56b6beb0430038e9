"""The shipped export views against plain Python over the shop's base tables: every column of every row, and hand-made cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from rs_cio_assets.contract import Feed, FeedKind, load_contract
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.sandbox.shop.tables import KEYS
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets_tests.hand_made_shop import ASKING, CASES, NOON, at, identifier, inserts
from rs_cio_assets_tests.pipeline import query, run_sql
from rs_cio_assets_tests.plain_views import PlainViews, Row, grouped

CONTRACT = load_contract()
FEEDS = {feed.name: feed for feed in CONTRACT.feeds}
TODAY = date(2026, 11, 24)


@dataclass
class Shop:
    """Base tables and views as they were read, once."""

    tables: dict[str, list[Row]]
    views: dict[str, list[Row]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A drawn shop of 1,500 customers with the hand-made ones beside them, and every shipped view over it."""
    home = tmp_path_factory.mktemp("views")
    with RedshiftStandIn(home / "redshift") as stand_in:
        settings = load_settings({"REDSHIFT_PORT": str(stand_in.port), "RS_CIO_STORE": str(home / "store")})
        ensure_shop(settings.redshift, today=TODAY, customers=1_500, seed=11, on_progress=lambda _: None)
        run_sql(settings, *inserts())
        with Warehouse(settings.redshift).session() as session:
            for feed in CONTRACT.feeds:
                create_view(session, feed)
        yield Shop(
            {name: read(settings, "shop", name) for name in KEYS},
            {name: read(settings, feed.view_schema, feed.view_table) for name, feed in FEEDS.items()},
        )


def read(settings: Settings, schema: str, name: str) -> list[Row]:
    """Every row of a table or view, by column."""
    columns = query(
        settings,
        "SELECT column_name FROM information_schema.columns WHERE table_schema = %s AND table_name = %s "
        "ORDER BY ordinal_position",
        (schema, name),
    )
    names = [column for (column,) in columns]
    return [dict(zip(names, row, strict=True)) for row in query(settings, f"SELECT * FROM {schema}.{name}")]


def key_of(feed: Feed, row: Row) -> tuple[Any, ...]:
    """What no two rows of a view share: the feed's key, and of who may ask again on another day, the day."""
    asks_again = feed.kind in {FeedKind.DELETION, FeedKind.SUPPRESSION}
    return (*(row[key] for key in feed.key_columns), row[feed.time_column].date() if asks_again else None)


@pytest.mark.parametrize("name", sorted(FEEDS))
def test_every_row_and_column_is_what_plain_python_makes_of_the_tables(shop: Shop, name: str):
    """LG2 and more: no row too many or too few, no duplicate key, each value as recomputed, money to the cent."""
    recompute: Callable[[], Iterator[Row]] = getattr(PlainViews(shop.tables), name)
    by_key = {key_of(FEEDS[name], row): row for row in shop.views[name]}
    wanted = {key_of(FEEDS[name], row): row for row in recompute()}
    assert len(by_key) == len(shop.views[name]), "a business key stands twice"
    assert len(wanted) > 10
    assert by_key == wanted


def test_what_a_guest_did_belongs_to_the_customer_they_became(shop: Shop):
    """ID5: a linked guest stands in no view but as the one who goes; their orders come first in the customer's count."""
    became = {row["guest_id"]: row["customer_id"] for row in shop.tables["account_links"]}
    for rows in shop.views.values():
        assert {row["customer_id"] for row in rows} & set(became) == set()
    numbers = {row["order_id"]: (row["customer_id"], row["order_number"]) for row in shop.views["order_completed"]}
    theirs = [row for row in shop.tables["orders"] if row["customer_id"] in became and row["order_id"] in numbers]
    assert {numbers[row["order_id"]][0] for row in theirs} <= set(became.values())
    assert sum(numbers[row["order_id"]][1] == 1 for row in theirs) > 10
    updated = {row["customer_id"]: row["updated_at"] for row in shop.views["people"]}
    assert all(updated[row["customer_id"]] >= row["linked_at"] for row in shop.tables["account_links"])


def test_of_a_days_requests_the_last_counts(shop: Shop):
    """One row per person and day: the latest request of the day; in the same second, the block; deletions at the last."""
    found = [(row["occurred_at"], row["is_suppressed"]) for row in shop.views["suppressions"] if row["customer_id"] == ASKING]
    assert sorted(found) == [(NOON, False), (at(1), True)]
    assert [row["occurred_at"] for row in shop.views["deletions"] if row["customer_id"] == ASKING] == [at(1)]


@pytest.mark.parametrize("name", CASES)
def test_a_hand_made_customer_is_described_as_the_contract_words_it(shop: Shop, name: str):
    """Expected values by hand from the descriptions in the YAML: the person, and their events in the order of their orders."""
    case, who = CASES[name], identifier(name)
    (person,) = (row for row in shop.views["people"] if row["customer_id"] == who)
    assert {column: person[column] for column in case.person} == case.person
    events = sorted((row for row in shop.views["order_completed"] if row["customer_id"] == who), key=lambda row: row["order_id"])
    assert [{c: event[c] for c in wanted} for event, wanted in zip(events, case.events, strict=True)] == list(case.events)


def test_order_numbers_have_no_gap_and_everybody_has_one_first_order(shop: Shop):
    """LG1: 1, 2, 3 ... per customer in the order of time, and is_first_time_buyer exactly on number 1."""
    for events in grouped(shop.views["order_completed"], "customer_id").values():
        events.sort(key=lambda event: (event["occurred_at"], event["order_id"]))
        assert [event["order_number"] for event in events] == list(range(1, len(events) + 1))
        assert [event["is_first_time_buyer"] for event in events] == [True] + [False] * (len(events) - 1)


def test_test_orders_and_unpaid_ones_are_no_events(shop: Shop):
    """No Order Completed without money: test and unpaid orders are in the tables and in none of the events."""
    left_out = {row["order_id"] for row in shop.tables["orders"] if row["is_test"] or not row["paid_at"]}
    assert len(left_out) > 20
    assert not left_out & {row["order_id"] for row in shop.views["order_completed"]}


@pytest.mark.parametrize("name", [feed.name for feed in CONTRACT.enabled_feeds if feed.kind is FeedKind.EVENT])
def test_no_person_is_older_than_any_of_their_events(shop: Shop, name: str):
    """updated_at is at or after every event, so syncing newest first delivers a person before any event of theirs."""
    updated = {row["customer_id"]: row["updated_at"] for row in shop.views["people"]}
    assert [row for row in shop.views[name] if row["occurred_at"] > updated[row["customer_id"]]] == []


@pytest.mark.parametrize("name", sorted(FEEDS))
def test_every_value_keeps_the_contract(shop: Shop, name: str):
    """No value is missing where one is required, undeclared, of another shape, too long or too small."""
    problems = Counter(
        (column, problem)
        for row in shop.views[name]
        for column in FEEDS[name].columns
        if (problem := broken(FEEDS[name], column, row))
    )
    assert problems == {}
    shape = re.compile(CONTRACT.workspace.identifier.pattern)
    assert all(shape.fullmatch(row["customer_id"]) for row in shop.views[name])


def broken(feed: Feed, name: str, row: Row) -> str | None:
    """Which rule of its column a value breaks."""
    column, value = feed.columns[name], row[name]
    if value is None:
        return "missing" if column.required else None
    declared = CONTRACT.declared_values(column)
    if declared is not None and value not in declared:
        return "undeclared"
    if column.pattern and not re.fullmatch(column.pattern, value):
        return "shape"
    if column.max_bytes and len(value.encode()) > column.max_bytes:
        return "long"
    return "small" if column.minimum is not None and value < column.minimum else None


def test_subscription_state_of_the_preference_centre_is_in_no_feed():
    """unsubscribed belongs to Customer.io: no shipped column or view carries it under any name."""
    for feed in CONTRACT.feeds:
        assert [name for name in feed.columns if "unsubscribe" in name or name.startswith("cio_")] == []
        assert "unsubscribe" not in feed.sql.lower()
