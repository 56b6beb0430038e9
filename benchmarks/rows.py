"""Staged rows as Python dicts, for the alternatives, and the attributes that they send. pyarrow only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

EVENT_NAME = "Order Completed"
NOT_SENT = frozenset({"customer_id", "occurred_at", "loaded_at"})
_ROWS_PER_BATCH = 1_000  # dicts are made a batch at a time, also those past the limit


def read_rows(store: Path, limit: int) -> Iterator[dict[str, Any]]:
    """At most *limit* staged events of *store*, one dict per row."""
    return islice(_all_rows(store), limit)


def _all_rows(store: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((store / "staged" / "order_completed").rglob("*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_PER_BATCH):
                yield from batch.to_pylist()


def attributes_of(row: dict[str, Any]) -> dict[str, Any]:
    """The event's properties as JSON can hold them; nulls are left out."""
    return {name: _value(name, value) for name, value in row.items() if value is not None and name not in NOT_SENT}


def _value(name: str, value: Any) -> Any:
    if name == "products":
        return json.loads(value)
    return float(value) if isinstance(value, Decimal) else value


def operation_of(row: dict[str, Any]) -> dict[str, Any]:
    """The row as a v2 operation without an event id, as the SDKs' readmes show it."""
    return {
        "type": "person",
        "action": "event",
        "identifiers": {"id": row["customer_id"]},
        "name": EVENT_NAME,
        "timestamp": int(row["occurred_at"].timestamp()),
        "attributes": attributes_of(row),
    }
