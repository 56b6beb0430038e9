"""The script that a careful person writes first: row by row in Python, with the rules of `contract/`, packed by bytes.

It validates, computes event ids and packs as we do. It keeps no ledger, repeats nothing and holds nothing back. Runs in the
alternatives' environment. The rules are written out by hand: that is faster than reading them from the contract.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from benchmarks.measure import report_work
from benchmarks.rows import EVENT_NAME, read_rows

BATCH_BYTES, OPERATION_BYTES = 475_000, 32_000
HEAD, TAIL = b'{"batch":[', b"]}"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
PAIRS = [high + low for high in CROCKFORD for low in CROCKFORD]  # two digits at a time
CUSTOMER, CURRENCY, COUNTRY = re.compile("[CG][0-9]{7}"), re.compile("[A-Z]{3}"), re.compile("[A-Z]{2}")
CHANNELS = frozenset({"web", "ios", "android", "retail", "amazon"})
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LARGEST = Decimal(10) ** 10


def problem_of(row: dict[str, Any], start: datetime) -> str | None:
    """Why *row* may not be sent on the day that begins at *start*, or None."""
    return _problem_of_key(row, start) or _problem_of_amounts(row) or _problem_of_texts(row)


def _problem_of_key(row: dict[str, Any], start: datetime) -> str | None:
    customer, at, order = row["customer_id"], row["occurred_at"], row["order_id"]
    if not customer or not customer.strip() or len(customer.encode()) > 32 or not CUSTOMER.fullmatch(customer):
        return "customer_id"
    if order is None or len(order.encode()) > 32:
        return "order_id"
    if at is None or at < EARLIEST or not start <= at < start + timedelta(days=1):
        return "occurred_at"
    return None if row["loaded_at"] is not None else "loaded_at"


def _problem_of_amounts(row: dict[str, Any]) -> str | None:
    for name in ("revenue", "tax", "discount"):
        amount = row[name]
        if amount is None:
            if name != "discount":
                return name
        elif not 0 <= amount < LARGEST or amount != round(amount, 2):
            return name
    if row["item_count"] is None or row["item_count"] < 1:
        return "item_count"
    margin = row["margin_pct"]
    return None if margin is None or 0 <= margin <= 1 else "margin_pct"  # false for NaN, too


def _problem_of_texts(row: dict[str, Any]) -> str | None:
    if row["currency"] is None or len(row["currency"].encode()) > 3 or not CURRENCY.fullmatch(row["currency"]):
        return "currency"
    if row["coupon"] is not None and len(row["coupon"].encode()) > 64:
        return "coupon"
    if row["channel"] not in CHANNELS:
        return "channel"
    if row["is_first_order"] is None:
        return "is_first_order"
    if row["shipping_country"] is None or not COUNTRY.fullmatch(row["shipping_country"]):
        return "shipping_country"
    return None if row["products"] is not None and len(row["products"].encode()) <= 8_000 else "products"


def ulid_of(order_id: str) -> str:
    """The event id that we send, too: 128 bits of a hash of the event's name and key, in the shape of a ULID."""
    number = int.from_bytes(hashlib.sha256(f"{EVENT_NAME}\x1f{order_id}".encode()).digest()[:16])
    first, middle, last = number & 255, number >> 68, number >> 8 & (1 << 60) - 1
    digits = (PAIRS[part >> shift & 1023] for part in (middle, last) for shift in range(50, -1, -10))
    return PAIRS[first] + "".join(digits)


def encode(row: dict[str, Any]) -> bytes:
    """The operation as JSON. Raises: ValueError when `products` is not JSON."""
    attributes: dict[str, Any] = {}
    for name, value in row.items():
        if value is None or name in {"customer_id", "occurred_at", "loaded_at"}:
            continue
        if name == "products":
            attributes[name] = json.loads(value, parse_constant=_refuse)
        else:
            attributes[name] = float(value) if isinstance(value, Decimal) else value
    operation = {
        "type": "person",
        "action": "event",
        "id": ulid_of(row["order_id"]),
        "name": EVENT_NAME,
        "timestamp": int(row["occurred_at"].timestamp()),
        "identifiers": {"id": row["customer_id"]},
        "attributes": attributes,
    }
    return json.dumps(operation, ensure_ascii=False, separators=(",", ":")).encode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def bodies_of(rows: Iterator[dict[str, Any]], start: datetime, counts: Counter[str]) -> Iterator[bytes]:
    """Bodies of at most BATCH_BYTES. Counts `rows`, `delivered` and `rejected` on the way."""
    room = BATCH_BYTES - len(HEAD) - len(TAIL)
    operations: list[bytes] = []
    size = 0
    for row in rows:
        counts["rows"] += 1
        problem = problem_of(row, start)
        operation = b""
        if problem is None:
            try:
                operation = encode(row)
            except ValueError:
                problem = "products"
        if problem is not None or len(operation) > OPERATION_BYTES:
            counts["rejected"] += 1
            continue
        if size + len(operation) + 1 > room:
            yield HEAD + b",".join(operations) + TAIL
            operations, size = [], 0
        operations.append(operation)
        size += len(operation) + 1
        counts["delivered"] += 1
    if operations:
        yield HEAD + b",".join(operations) + TAIL


def main() -> None:
    """Send the staged events and report what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--day", type=datetime.fromisoformat, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()

    def work() -> Mapping[str, int]:
        counts: Counter[str] = Counter(rows=0, delivered=0, rejected=0)
        with httpx.Client(base_url=f"http://127.0.0.1:{options.port}", auth=("site", "key"), timeout=30) as client:
            for body in bodies_of(read_rows(options.store, options.limit), options.day.replace(tzinfo=UTC), counts):
                answer = client.post("/api/v2/batch", content=body, headers={"Content-Type": "application/json"})
                answer.raise_for_status()
        return dict(counts)

    report_work(work)


if __name__ == "__main__":
    main()
