"""Hand-made customers with their orders, and what the shipped views must say of each, from the descriptions in the YAML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from rs_cio_assets_tests.plain_views import Row

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
