"""Stage a day of made-up orders or people as an export leaves it: Parquet and a manifest, streamed, the same for any run.

One row in a thousand breaks a rule of `contract/`. In the `later` state of the day another one in a thousand is different: an
order that was not there before (a changed one would not be sent again), a person whose lifetime value has changed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rs_cio_assets.contract import Feed, load_contract
from rs_cio_assets.store import Fingerprint, LocalStore, Manifest, StagedFile, save_manifest
from rs_cio_assets.warehouse.staged_days import ROWS_PER_FILE, ROWS_PER_GROUP, staged_schema

CONTRACT = Path(__file__).parent / "contract"
ONE_IN = 1_000  # rows to one that breaks a rule, and to one that is different later
BAD_AT, DIFFERENT_AT = 7, 500
SEED = 20_261_120
PRODUCTS = ("Merino Crew Sock", 'Everyday Tee "Slate"', "Trail Runner 2.0", "Café Mug, Ø 9 cm", "Canvas Tote\\XL", "Denim Jacket")
COUNTRIES = ("US", "DE", "GB", "FR", "BR", "JP")

Columns = dict[str, pa.Array]
Rng = np.random.Generator


def stage_day(
    store: LocalStore, feed: Feed, day: str, rows: int, *, customers: int, is_later: bool, read_at: datetime
) -> Manifest:
    """Leave *rows* rows of *day* in *store*; orders are of the first *customers* people."""
    columns_of: Callable[..., Columns] = partial(orders, customers=customers) if feed.event_name else people
    schema, start = staged_schema(feed), datetime.fromisoformat(day).replace(tzinfo=UTC)
    state = "later" if is_later else "first"
    files: list[StagedFile] = []
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as scratch:
        path = Path(scratch) / "part.parquet"
        for first in range(0, rows, ROWS_PER_FILE):
            last = min(first + ROWS_PER_FILE, rows)
            with pq.ParquetWriter(path, schema, compression="snappy") as writer:
                for begin in range(first, last, ROWS_PER_GROUP):
                    numbers = np.arange(begin, min(begin + ROWS_PER_GROUP, last))
                    columns = columns_of(np.random.default_rng((SEED, begin)), numbers, start, is_later)
                    writer.write_batch(pa.record_batch([columns[name] for name in schema.names], schema=schema))
            key = f"staged/{feed.name}/{day}/{state}/part-{len(files):05d}.parquet"
            size_bytes = path.stat().st_size
            store.put_file(key, path)
            files.append(StagedFile(key, last - first, size_bytes))
    described = tuple((name, column.type.value) for name, column in feed.columns.items())
    fingerprint = Fingerprint(rows, _loaded_at(start, is_later), state)
    manifest = Manifest(feed.name, day, feed.view, fingerprint, rows, tuple(files), described, read_at)
    save_manifest(store, manifest)
    return manifest


def orders(rng: Rng, numbers: np.ndarray, start: datetime, is_later: bool, customers: int) -> Columns:
    """Order Completed: 12 properties, about 535 bytes as an operation. Of the first *customers* people that break no rule."""
    count = len(numbers)
    reason = np.where(numbers % ONE_IN == BAD_AT, numbers // ONE_IN % 5, -1)
    is_different = numbers % ONE_IN == DIFFERENT_AT if is_later else np.zeros(count, bool)
    cents = rng.integers(500, 60_000, count)
    at = _times(start, rng.integers(0, 86_400_000_000, count))
    ordering = rng.integers(0, customers, count)
    ordering -= ordering % ONE_IN == BAD_AT
    return {
        "customer_id": _where(reason == 0, "unknown", _numbered("C", ordering, 7)),
        "occurred_at": at,
        "loaded_at": _loaded(start, is_different),
        "order_id": _where(is_different, _numbered("LATE-", numbers, 9), _numbered("ORD-", numbers, 9)),
        "revenue": _decimals(np.where(reason == 1, -cents, cents)),
        "tax": _decimals(cents * 8 // 100),
        "discount": _where(rng.random(count) < 0.6, None, _decimals(cents // 10)),
        "currency": _where(reason == 2, "eur", _one_of(rng, ("USD", "EUR", "GBP"), count)),
        "item_count": _where(reason == 3, None, pa.array(rng.integers(1, 9, count))),
        "coupon": _where(
            reason == 4,
            "X" * 65,
            _where(rng.random(count) < 0.7, None, _one_of(rng, ("WELCOME10", 'BLACK"FRIDAY"', "VIP ★ 20", "SUMMER"), count)),
        ),
        "channel": _one_of(rng, ("web", "ios", "android", "retail", "amazon"), count),
        "is_first_order": pa.array(rng.random(count) < 0.3),
        "shipping_country": _one_of(rng, COUNTRIES, count),
        "margin_pct": _where(rng.random(count) < 0.05, None, pa.array(np.round(rng.random(count), 4))),
        "products": _baskets().take(pa.array(rng.integers(0, len(_baskets()), count))),
    }


def people(rng: Rng, numbers: np.ndarray, start: datetime, is_later: bool) -> Columns:
    """Profiles: 13 attributes, about 385 bytes as an operation."""
    count = len(numbers)
    is_bad = numbers % ONE_IN == BAD_AT
    is_different = numbers % ONE_IN == DIFFERENT_AT if is_later else np.zeros(count, bool)
    days = pa.timestamp("us", tz="UTC")
    long_ago = int((start - timedelta(days=1_095)).timestamp() * 1_000_000)
    return {
        "customer_id": _numbered("C", numbers, 7),
        "updated_at": _times(start, rng.integers(0, 86_400_000_000, count)),
        "loaded_at": _loaded(start, is_different),
        "email": _where(is_bad, "no address", _joined(_numbered("user", numbers, 7), "@example.com")),
        "first_name": _one_of(rng, ("Ana", "José", "Liam", 'O"Neil', "Zoë", "Mei", "Raj", "Olu"), count),
        "last_name": _one_of(rng, ("García", "Smith", "Müller", "Chen", "Okafor", "D'Arc", "Silva", "Novák"), count),
        "mobile_number": _where(rng.random(count) < 0.4, None, _numbered("+1555", numbers, 7)),
        "city": _one_of(rng, ("São Paulo", "Berlin", "New York", "London", "Paris", "Tōkyō"), count),
        "country": _one_of(rng, COUNTRIES, count),
        "locale": _one_of(rng, ("en-US", "de-DE", "pt-BR"), count),
        "created_at": pa.array(long_ago + rng.integers(0, 10**13, count), days),
        "last_order_at": _where(
            rng.random(count) < 0.3, None, pa.array(long_ago + rng.integers(10**13, 9 * 10**13, count), days)
        ),
        "orders_count": pa.array(rng.integers(0, 40, count)),
        "lifetime_value": _decimals(rng.integers(0, 500_000, count) + is_different),
        "accepts_marketing": pa.array(rng.random(count) < 0.6),
        "tags": _one_of(rng, ('["vip"]', '["vip","eu"]', "[]", '["newsletter","beta","us"]'), count),
    }


@cache
def _baskets() -> pa.Array:
    """JSON of one to four products, as JSON_SERIALIZE writes it."""
    rng = np.random.default_rng(SEED)
    baskets = [
        [
            {
                "sku": f"SKU-{rng.integers(1, 99_999):05d}",
                "name": PRODUCTS[rng.integers(0, len(PRODUCTS))],
                "qty": int(rng.integers(1, 4)),
                "price": round(float(rng.uniform(5, 180)), 2),
            }
            for _ in range(rng.integers(1, 5))
        ]
        for _ in range(20_000)
    ]
    return pa.array([json.dumps(basket, separators=(",", ":"), ensure_ascii=False) for basket in baskets])


def _numbered(prefix: str, numbers: np.ndarray, digits: int) -> pa.Array:
    text = pc.call_function("utf8_lpad", [pa.array(numbers).cast(pa.string())], pc.PadOptions(digits, "0"))
    return _joined(prefix, text)


def _joined(*parts: str | pa.Array) -> pa.Array:
    return pc.call_function(
        "binary_join_element_wise", [*(p if isinstance(p, pa.Array) else pa.scalar(p) for p in parts), pa.scalar("")]
    )


def _one_of(rng: Rng, texts: tuple[str, ...], count: int) -> pa.Array:
    return pa.array(texts).take(pa.array(rng.integers(0, len(texts), count)))


def _where(is_so: np.ndarray, value: Any, otherwise: pa.Array) -> pa.Array:
    """*value* (an array, or what a scalar can be made of) where *is_so*."""
    chosen = value if isinstance(value, pa.Array) else pa.scalar(value, otherwise.type)
    return pc.call_function("if_else", [pa.array(is_so), chosen, otherwise])


def _decimals(cents: np.ndarray) -> pa.Array:
    """DECIMAL(38, 10), in which amounts are staged, from whole cents."""
    words = np.zeros((len(cents), 2), np.int64)
    words[:, 0], words[:, 1] = cents * 10**8, np.where(cents < 0, -1, 0)
    return pa.Array.from_buffers(pa.decimal128(38, 10), len(cents), [None, pa.py_buffer(words)])


def _times(start: datetime, offsets_us: np.ndarray) -> pa.Array:
    return pa.array(int(start.timestamp() * 1_000_000) + offsets_us, pa.timestamp("us", tz="UTC"))


def _loaded_at(start: datetime, is_later: bool) -> datetime:
    return start + timedelta(days=1, hours=30 if is_later else 6)


def _loaded(start: datetime, is_different: np.ndarray) -> pa.Array:
    first = _times(_loaded_at(start, False), np.zeros(len(is_different), np.int64))
    return _where(is_different, _loaded_at(start, True), first)


def main() -> None:
    """Stage one day."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("feed")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--day", required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--customers", type=int, required=True, help="people of whom the orders are")
    parser.add_argument("--later", action="store_true", help="as the day stands later: one row in a thousand differs")
    parser.add_argument("--read-at", type=datetime.fromisoformat, required=True)
    options = parser.parse_args()
    feed = load_contract(CONTRACT).feed(options.feed)
    stage_day(
        LocalStore(options.store),
        feed,
        options.day,
        options.rows,
        customers=options.customers,
        is_later=options.later,
        read_at=options.read_at,
    )


if __name__ == "__main__":
    main()
