"""What the shipped export views should say, in plain Python over the shop's base tables: one customer and one order at a time.

Written from the descriptions in the feeds' YAML, never from their SQL, so that the two can be compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

Row = dict[str, Any]


def grouped(rows: Sequence[Row], key: str) -> dict[Any, list[Row]]:
    """Rows by the value of a column."""
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[key]].append(row)
    return groups


def latest(*moments: datetime | None) -> datetime | None:
    """The newest, of those that there are."""
    return max((moment for moment in moments if moment), default=None)


def worth(line: Row) -> Decimal:
    """Revenue of an order's line; nothing where no price is known."""
    return line["quantity"] * (line["unit_price"] or Decimal(0))


class PlainViews:
    """What the views should say, one customer and one order at a time."""

    def __init__(self, tables: Mapping[str, list[Row]]) -> None:
        self._products = {row["sku"]: row for row in tables["products"]}
        self._lines = grouped(tables["order_lines"], "order_id")
        self._refunds = grouped(tables["refunds"], "order_id")
        self._became = {row["guest_id"]: row["customer_id"] for row in tables["account_links"]}
        self._links = grouped(tables["account_links"], "customer_id")
        self._requests = grouped(tables["privacy_requests"], "customer_id")
        self._orders = grouped([self._owned(row) for row in tables["orders"] if not row["is_test"]], "customer_id")
        self._subscriptions = grouped(tables["subscriptions"], "customer_id")
        self._checkouts = grouped([self._owned(row) for row in tables["checkouts"]], "customer_id")
        self._tables = tables

    def category(self, sku: str) -> str | None:
        """The product's category, if the catalogue knows the product."""
        return self._products[sku]["category"] if sku in self._products else None

    def people(self) -> Iterator[Row]:
        """Rows of cio_export.people."""
        for customer in self._tables["customers"]:
            who = customer["customer_id"]
            if who in self._became:
                continue
            orders = sorted(self._orders[who], key=lambda o: (o["placed_at"], o["order_id"]))
            states = {o["order_id"]: self._state(o) for o in orders}
            paid = self._paid(who)
            kept = [o for o in paid if states[o["order_id"]] != "cancelled"]
            back = [refund for o in orders for refund in self._refunds[o["order_id"]]]
            kept_value = sum((o["total"] - self._refunded(o) for o in kept), Decimal(0))
            last_kept = latest(*(o["paid_at"] for o in paid if states[o["order_id"]] == "paid"))
            subscriptions, checkouts = self._subscriptions[who], self._checkouts[who]
            facts = [o[name] for o in orders for name in ("placed_at", "paid_at", "cancelled_at")]
            facts += [s[name] for s in subscriptions for name in ("started_at", "paused_at", "cancelled_at")]
            facts += [customer["updated_at"], *(r["refunded_at"] for r in back), *(k["started_at"] for k in checkouts)]
            links, returns = self._links[who], [row for row in self._requests[who] if row["request"] == "unsuppress"]
            facts += [*(row["linked_at"] for row in links), *(row["requested_at"] for row in returns)]
            sources = (customer, *orders, *back, *subscriptions, *checkouts, *links, *returns)
            email = (customer["email"] or "").strip().lower()
            yield {
                "customer_id": who,
                "updated_at": latest(*facts),
                "loaded_at": latest(*(row["loaded_at"] for row in sources)),
                "email": email or None,
                **{name: customer[name] for name in ("first_name", "country_code", "is_guest", "created_at")},
                "orders_count": len(kept),
                "lifetime_value": kept_value,
                "vip_tier": next(
                    t for t, top in (("none", 0), ("bronze", 150), ("silver", 400), ("gold", 10**9)) if kept_value <= top
                ),
                "order_state": states[orders[-1]["order_id"]] if orders else "none",
                "first_order_at": paid[0]["paid_at"] if paid else None,
                "last_order_at": orders[-1]["placed_at"] if orders else None,
                "last_paid_order_at": last_kept,
                "becomes_inactive_at": last_kept + timedelta(days=60) if last_kept else None,
                "first_order_category": self._main_category(paid[:1]),
                "first_order_categories": self._categories(paid[:1]),
                "top_category": self._main_category(paid),
                "is_active_subscriber": any(not s["paused_at"] and not s["cancelled_at"] for s in subscriptions),
                "last_checkout_started_at": latest(*(k["started_at"] for k in checkouts)),
            }

    def order_completed(self) -> Iterator[Row]:
        """Rows of cio_export.order_completed."""
        for who in self._orders:
            for number, made in enumerate(self._paid(who), 1):
                lines = sorted(self._lines[made["order_id"]], key=lambda n: (-worth(n), n["line_number"]))
                yield {
                    **{name: made[name] for name in ("customer_id", "loaded_at", "order_id", "currency", "discount_code")},
                    "occurred_at": made["paid_at"],
                    "order_number": number,
                    "is_first_time_buyer": number == 1,
                    "order_total": made["total"],
                    "items_count": sum(line["quantity"] for line in lines),
                    "primary_category": self._main_category([made]),
                    "categories": self._categories([made]),
                    "hero_sku": lines[0]["sku"] if lines else None,
                    "is_gift_card_only": bool(lines) and {self.category(line["sku"]) for line in lines} == {"gift_card"},
                    "discount_total": made["discount"] or Decimal(0),
                }

    def checkout_started(self) -> Iterator[Row]:
        """Rows of cio_export.checkout_started."""
        for row in map(self._owned, self._tables["checkouts"]):
            kept = ("customer_id", "loaded_at", "checkout_id", "cart_total", "currency", "items_count", "hero_sku")
            category = self.category(row["hero_sku"])
            yield {**{name: row[name] for name in kept}, "occurred_at": row["started_at"], "primary_category": category}

    def product_viewed(self) -> Iterator[Row]:
        """Rows of cio_export.product_viewed."""
        for row in map(self._owned, self._tables["product_views"]):
            kept = {name: row[name] for name in ("customer_id", "loaded_at", "view_id")}
            product = self._products[row["sku"]]
            shown = {"hero_sku": row["sku"], "primary_category": product["category"], "price": product["price"]}
            yield {**kept, **shown, "occurred_at": row["viewed_at"]}

    def subscription_cancelled(self) -> Iterator[Row]:
        """Rows of cio_export.subscription_cancelled."""
        for row in self._tables["subscriptions"]:
            if row["cancelled_at"]:
                yield {**self._subscription(row, row["cancelled_at"]), "cancel_reason": row["cancel_reason"]}

    def subscription_paused(self) -> Iterator[Row]:
        """Rows of cio_export.subscription_paused."""
        yield from (self._subscription(row, row["paused_at"]) for row in self._tables["subscriptions"] if row["paused_at"])

    def merges(self) -> Iterator[Row]:
        """Rows of cio_export.merges."""
        for row in self._tables["account_links"]:
            yield {**{n: row[n] for n in ("customer_id", "guest_id", "loaded_at")}, "occurred_at": row["linked_at"]}

    def deletions(self) -> Iterator[Row]:
        """Rows of cio_export.deletions."""
        for last, loaded_at in self._last_requests("delete"):
            yield {"customer_id": last["customer_id"], "occurred_at": last["requested_at"], "loaded_at": loaded_at}

    def suppressions(self) -> Iterator[Row]:
        """Rows of cio_export.suppressions."""
        for last, _ in self._last_requests("suppress", "unsuppress"):
            kept = {"customer_id": last["customer_id"], "loaded_at": last["loaded_at"], "occurred_at": last["requested_at"]}
            yield {**kept, "is_suppressed": last["request"] == "suppress"}

    def _last_requests(self, *kinds: str) -> Iterator[tuple[Row, datetime]]:
        """The last request of each person and day, suppress after an unsuppress of the same second; and the newest loaded_at."""
        asked = [row for row in self._tables["privacy_requests"] if row["request"] in kinds]
        days = grouped([{**row, "day": (row["customer_id"], row["requested_at"].date())} for row in asked], "day")
        for rows in days.values():
            last = max(rows, key=lambda row: (row["requested_at"], row["request"] == "suppress"))
            yield last, max(row["loaded_at"] for row in rows)

    def _owned(self, row: Row) -> Row:
        """A guest's row under the customer that the guest became."""
        return {**row, "customer_id": self._became.get(row["customer_id"], row["customer_id"])}

    def _subscription(self, row: Row, moment: datetime) -> Row:
        kept = ("customer_id", "loaded_at", "subscription_id", "price", "interval_days")
        return {
            **{name: row[name] for name in kept},
            "occurred_at": moment,
            "hero_sku": row["sku"],
            "primary_category": self.category(row["sku"]),
            "tenure_days": (moment.date() - row["started_at"].date()).days,
        }

    def _paid(self, who: str) -> list[Row]:
        return sorted((o for o in self._orders[who] if o["paid_at"]), key=lambda o: (o["paid_at"], o["order_id"]))

    def _refunded(self, made: Row) -> Decimal:
        return sum((refund["amount"] for refund in self._refunds[made["order_id"]]), Decimal(0))

    def _state(self, made: Row) -> str:
        if made["cancelled_at"]:
            return "cancelled"
        if not made["paid_at"]:
            return "pending"
        if any(refund["kind"] == "chargeback" for refund in self._refunds[made["order_id"]]):
            return "charged_back"
        return "refunded" if self._refunded(made) and self._refunded(made) >= made["total"] else "paid"

    def _main_category(self, orders: Sequence[Row]) -> str | None:
        revenue: Counter[str] = Counter()
        for line in (line for made in orders for line in self._lines[made["order_id"]]):
            if category := self.category(line["sku"]):
                revenue[category] += worth(line)
        return min(revenue, key=lambda name: (-revenue[name], name)) if revenue else None

    def _categories(self, orders: Sequence[Row]) -> str | None:
        """Every category of the orders' lines, joined by commas."""
        names = {self.category(line["sku"]) for made in orders for line in self._lines[made["order_id"]]}
        return ",".join(sorted(name for name in names if name)) or None
