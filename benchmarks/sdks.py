"""The published clients, used as their readmes show, against the sink. They validate nothing, compute no event id, keep no
ledger. Runs in the alternatives' environment; the sink speaks plain HTTP, which spares them (and us) the TLS.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from async_customerio import AsyncCustomerIO  # pyright: ignore[reportMissingImports]
from customerio import CustomerIO  # pyright: ignore[reportMissingImports]

from benchmarks.measure import report_work
from benchmarks.rows import EVENT_NAME, attributes_of, operation_of, read_rows

# Neither packs by bytes, so a person guesses a number of operations that stays below 500 KB.
OPERATIONS_PER_BATCH = 700
Rows = Iterator[dict[str, Any]]


class PlainHttp(CustomerIO):
    """The official client; it knows https only, the sink http only."""

    def send_request(self, method: str, url: str, data: Any) -> Any:
        """Send it over plain HTTP."""
        return super().send_request(method, url.replace("https://", "http://", 1), data)


class AsyncPlainHttp(AsyncCustomerIO):
    """The asynchronous client; it knows https only, the sink http only."""

    @staticmethod
    def setup_base_url(host: str, port: int, prefix: str) -> str:
        """The URL with plain HTTP."""
        return AsyncCustomerIO.setup_base_url(host, port, prefix).replace("https://", "http://", 1)


def official_per_event(rows: Rows, port: int, _: int) -> int:
    """One call per event."""
    sent = 0
    with PlainHttp("site", "key", host="127.0.0.1", port=port) as client:
        for row in rows:
            client.track(row["customer_id"], EVENT_NAME, attributes_of(row), timestamp=row["occurred_at"])
            sent += 1
    return sent


def official_batch(rows: Rows, port: int, _: int) -> int:
    """The batch call with a fixed number of operations."""
    sent = 0
    with PlainHttp("site", "key", host="127.0.0.1", port=port) as client:
        while operations := [operation_of(row) for row in islice(rows, OPERATIONS_PER_BATCH)]:
            client.batch(operations)
            sent += len(operations)
    return sent


def async_per_event(rows: Rows, port: int, concurrency: int) -> int:
    """One call per event, several under way."""

    async def send_some(client: AsyncCustomerIO) -> int:
        sent = 0
        for row in rows:
            await client.v2.send_entity(operation_of(row))
            sent += 1
        return sent

    return asyncio.run(_gather(send_some, port, concurrency))


def async_batch(rows: Rows, port: int, concurrency: int) -> int:
    """The batch call with a fixed number of operations, several under way."""

    async def send_some(client: AsyncCustomerIO) -> int:
        sent = 0
        while operations := [operation_of(row) for row in islice(rows, OPERATIONS_PER_BATCH)]:
            await client.v2.send_batch(operations)
            sent += len(operations)
        return sent

    return asyncio.run(_gather(send_some, port, concurrency))


async def _gather(send_some: Any, port: int, concurrency: int) -> int:
    async with AsyncPlainHttp("site", "key", host="127.0.0.1", port=port) as client:
        return sum(await asyncio.gather(*(send_some(client) for _ in range(concurrency))))


WAYS = {way.__name__: way for way in (official_per_event, official_batch, async_per_event, async_batch)}


def main() -> None:
    """Send the staged events in one of WAYS and report what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    options = parser.parse_args()

    def work() -> Mapping[str, int]:
        sent = WAYS[options.way](read_rows(options.store, options.limit), options.port, options.concurrency)
        return {"rows": sent, "delivered": sent, "rejected": 0}

    report_work(work)


if __name__ == "__main__":
    main()
