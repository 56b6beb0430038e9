"""The shipped export views against plain Python over the shop's base tables: every column of every row, and hand-made cases."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from rs_cio_assets.contract import Feed, FeedKind, load_contract
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.sandbox.shop.tables import KEYS
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets_tests.pipeline import query, run_sql
from rs_cio_assets_tests.plain_views import PlainViews, Row, grouped

CONTRACT = load_contract()
FEEDS = {feed.name: feed for feed in CONTRACT.feeds}
TODAY = date(2026, 11, 24)
NOON = datetime(2026, 11, 20, 12)  # noqa: DTZ001 - the tables hold naive UTC
MADE_IN_SEQUENCE = 9_000_001


@dataclass(frozen=True)
class Case:
    """One hand-made customer: their orders, and what must stand on the person and on their Order Completed events."""

    orders: Sequence[Row] = ()
    person: Row = field(default_factory=dict)
    events: Sequence[Row] = ()
    customer: Row = field(default_factory=dict)


def order(total: str = "100.00", **more: Any) -> Row:
    """An order paid at noon, of one cleanser; *refunds* are (amount, kind), *lines* are (sku, quantity, price)."""
    usual: Row = {"placed_at": NOON, "paid_at": NOON, "total": Decimal(total), "refunds": (), "is_test": False}
    return {**usual, "lines": (("CLEAN-1", 1, total),), **more}


def at(days: int) -> datetime:
    """Noon, some days later."""
    return NOON + timedelta(days=days)


NOTHING = {"orders_count": 0, "lifetime_value": Decimal(0), "vip_tier": "none", "last_paid_order_at": None}
CASES = {
    "no order": Case(person={**NOTHING, "order_state": "none", "last_order_at": None, "first_order_category": None}),
    "refunded in two parts, all of it": Case(
        [order(refunds=[("30.00", "refund"), ("70.00", "refund")])],
        {**NOTHING, "orders_count": 1, "order_state": "refunded", "first_order_at": NOON, "becomes_inactive_at": None},
        [{"order_number": 1, "order_total": Decimal("100.00")}],
    ),
    "refunded in two parts, half of it": Case(
        [order(refunds=[("30.10", "refund"), ("20.05", "refund")])],
        {"order_state": "paid", "lifetime_value": Decimal("49.85"), "vip_tier": "bronze", "becomes_inactive_at": at(60)},
        [{"order_number": 1}],
    ),
    "cancelled and refunded": Case(
        [order(cancelled_at=at(1), refunds=[("100.00", "refund")])],
        {
            **NOTHING,
            "order_state": "cancelled",
            "last_order_at": NOON,
            "first_order_at": NOON,
            "first_order_category": "cleanser",
        },
        [{"order_number": 1, "is_first_time_buyer": True}],
    ),
    "cancelled before it was paid": Case(
        [order(paid_at=None, cancelled_at=at(1))],
        {**NOTHING, "order_state": "cancelled", "first_order_at": None, "top_category": None},
    ),
    "charged back in part": Case(
        [order(refunds=[("60.00", "chargeback")])],
        {"order_state": "charged_back", "lifetime_value": Decimal("40.00"), "last_paid_order_at": None, "orders_count": 1},
        [{"order_number": 1}],
    ),
    "free of charge": Case(
        [order("0.00")],
        {**NOTHING, "orders_count": 1, "order_state": "paid", "last_paid_order_at": NOON, "becomes_inactive_at": at(60)},
        [{"order_total": Decimal(0), "is_first_time_buyer": True, "hero_sku": "CLEAN-1"}],
    ),
    "two in the same second": Case(
        [order(), order("7.00", lines=[("MASK-1", 1, "7.00")], refunds=[("7.00", "refund")])],
        {"orders_count": 2, "lifetime_value": Decimal("100.00"), "first_order_category": "cleanser", "order_state": "refunded"},
        [{"order_number": 1, "is_first_time_buyer": True}, {"order_number": 2, "is_first_time_buyer": False}],
    ),
    "unpaid after paid": Case(
        [order(), order(placed_at=at(2), paid_at=None)],
        {"order_state": "pending", "last_order_at": at(2), "last_paid_order_at": NOON, "orders_count": 1},
        [{"order_number": 1}],
    ),
    "paid in another order than placed": Case(
        [order(paid_at=at(2)), order("30.00", placed_at=at(1), paid_at=at(1), lines=[("SUN-1", 1, "30.00")])],
        {"first_order_at": at(1), "first_order_category": "sunscreen", "top_category": "cleanser", "last_paid_order_at": at(2)},
        [{"order_number": 2}, {"order_number": 1}],
    ),
    "only a test order": Case(
        [order(is_test=True)], {**NOTHING, "order_state": "none", "first_order_at": None, "top_category": None}
    ),
    "an order not marked as test or as real": Case([order(is_test=None)], {"orders_count": 1}, [{"order_number": 1}]),
    "a guest": Case([order()], {"is_guest": True, "orders_count": 1}, [{"order_number": 1}], {"is_guest": True}),
    "an unknown product beside a gift card": Case(
        [order(lines=[("GIFT-25", 1, "25.00"), ("GONE", 3, "25.00")])],
        {"first_order_category": "gift_card", "top_category": "gift_card"},
        [{"items_count": 4, "is_gift_card_only": False, "hero_sku": "GONE", "primary_category": "gift_card"}],
    ),
    "nothing but unknown products": Case(
        [order(lines=[("GONE", 2, "50.00")])],
        {"first_order_category": None, "top_category": None},
        [{"items_count": 2, "is_gift_card_only": False, "hero_sku": "GONE", "primary_category": None}],
    ),
    "nothing but gift cards": Case(
        [order(lines=[("GIFT-25", 1, "25.00"), ("GIFT-50", 1, "75.00")])],
        {"first_order_category": "gift_card"},
        [{"items_count": 2, "is_gift_card_only": True, "hero_sku": "GIFT-50"}],
    ),
    "no lines": Case(
        [order(lines=())], {"first_order_category": None}, [{"items_count": 0, "is_gift_card_only": False, "hero_sku": None}]
    ),
    "a line without a price": Case(
        [order(lines=[("MASK-1", 1, None), ("SUN-1", 1, "100.00")])],
        {"first_order_category": "sunscreen", "top_category": "sunscreen"},
        [{"items_count": 2, "primary_category": "sunscreen", "hero_sku": "SUN-1"}],
    ),
    "a category of many small lines": Case(
        [order(lines=[("MASK-1", 1, "40.00"), ("SUN-1", 1, "30.00"), ("SUN-2", 1, "30.00")])],
        {"first_order_category": "sunscreen"},
        [{"primary_category": "sunscreen", "hero_sku": "MASK-1"}],
    ),
    "no address": Case(person={"email": None}, customer={"email": None}),
    "a blank address": Case(person={"email": None}, customer={"email": "  "}),
    "an address in capitals": Case(person={"email": "made@example.com"}, customer={"email": " Made@EXAMPLE.com "}),
    **{
        f"a lifetime value of {value}": Case([order(value)], {"vip_tier": tier}, [{"order_number": 1}])
        for value, tier in (
            ("0.01", "bronze"),
            ("150.00", "bronze"),
            ("150.01", "silver"),
            ("400.00", "silver"),
            ("400.01", "gold"),
        )
    },
}


def identifier(case: str) -> str:
    """The customer of a case."""
    letter = "G" if CASES[case].customer.get("is_guest") else "C"
    return f"{letter}{MADE_IN_SEQUENCE + list(CASES).index(case)}"


ASKING = identifier("no order")
REQUESTS = (  # hours from noon
    (-3, "suppress"),
    (0, "unsuppress"),
    (24, "unsuppress"),
    (24, "suppress"),
    (24, "delete"),
    (20, "delete"),
)


def inserts() -> Iterator[tuple[str, Sequence[Any]]]:
    """The hand-made rows."""
    for name, case in CASES.items():
        person = {"email": f"{identifier(name)}@example.org", "is_guest": False, **case.customer}
        yield (
            "INSERT INTO shop.customers VALUES (%s, %s, 'Ada', NULL, 'DE', %s, %s, %s, %s)",
            (identifier(name), person["email"], person["is_guest"], at(-1), at(-1), NOON),
        )
        for number, made in enumerate(case.orders):
            order_id = f"{identifier(name)}-{number}"
            yield (
                "INSERT INTO shop.orders VALUES (%s, %s, NULL, %s, %s, %s, 'EUR', NULL, NULL, %s, %s, %s)",
                (
                    *(order_id, identifier(name), made["placed_at"], made["paid_at"], made.get("cancelled_at"), made["total"]),
                    *(made["is_test"], at(3)),
                ),
            )
            for line, (sku, quantity, price) in enumerate(made["lines"], 1):
                yield (
                    "INSERT INTO shop.order_lines VALUES (%s, %s, %s, %s, %s)",
                    (order_id, line, sku, quantity, price and Decimal(price)),
                )
            for nth, (amount, kind) in enumerate(made["refunds"]):
                values = (f"{order_id}-{nth}", order_id, identifier(name), at(2), Decimal(amount), kind, at(4 + nth))
                yield "INSERT INTO shop.refunds VALUES (%s, %s, %s, %s, %s, %s, %s)", values
    for hours, request in REQUESTS:
        values = (ASKING, request, NOON + timedelta(hours=hours), at(2))
        yield "INSERT INTO shop.privacy_requests VALUES (%s, %s, %s, %s)", values


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
