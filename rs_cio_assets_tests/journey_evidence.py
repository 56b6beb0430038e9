"""A journey's evidence made by hand: who should have got a message, what the ledger notes, and the messages of the App API."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.checks.evidence import Span
from rs_cio_assets.checks.firing import Ask
from rs_cio_assets.contract import Contract, Feed, Journey, Segment
from rs_cio_assets.customerio import Campaign
from rs_cio_assets.delivery.ledger import SCHEMA, ledger_prefix
from rs_cio_assets.delivery.packing import ulids
from rs_cio_assets.store import Store
from rs_cio_assets_tests.customerio_clients import Handler
from rs_cio_assets_tests.staging import contract_of, feed_of

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SPAN = Span(NOW, 7, 60)
CAMPAIGN = Campaign(1, "Thanks", True, "Order Completed", (), (), int((NOW - timedelta(days=100)).timestamp()))
ORDERS = feed_of("event", {"order_id": {"type": "string", "required": True}}, name="orders", view="journeys_test.orders")
FOLK = feed_of("people", {"email": {"type": "string"}}, name="folk", view="journeys_test.folk")
LAPSED = Segment(name="lapsed", description="Did not come back.", sql="SELECT 1", segment_id=7)


def journey_of(**fields: Any) -> Journey:
    """A journey of orders; fields given replace the usual ones."""
    usual: dict[str, Any] = {
        "name": "thanks",
        "description": "After the order.",
        "campaign_id": 1,
        "feed": "orders",
        "starts_within_hours": 30,
        "sql": (
            "SELECT o.customer_id, o.order_id, o.occurred_at FROM journeys_test.orders AS o "
            "WHERE o.occurred_at >= :since AND o.occurred_at < :now"
        ),
    }
    return Journey.model_validate({**usual, **fields})


def contract_with(journey: Journey, *feeds: Feed) -> Contract:
    """The feeds (orders and folk, and those given), the segment `lapsed`, and one journey."""
    usual = _usual()
    return usual.model_copy(update={"feeds": (*usual.feeds, *feeds), "segments": (LAPSED,), "journeys": (journey,)})


@cache
def _usual() -> Contract:
    return contract_of(FOLK, ORDERS)


def row_key(name: str, key: str) -> str:
    """The row key of a business key of one text column; *name* is the event's, or the feed's."""
    return hashlib.sha256(f"{name}\x1f{key}".encode()).hexdigest()[:32]


def order_key(order_id: str) -> str:
    """The row key of an order."""
    return row_key("Order Completed", order_id)


def event_id(order_id: str) -> str:
    """The id of an order's event."""
    return ulids(pa.array([order_key(order_id)])).tobytes().decode()


def note(store: Store, feed: Feed, key: str, occurred_at: datetime, acknowledged_at: datetime, scratch: Path) -> None:
    """One acknowledgement, as a delivery notes it."""
    row = {"row_key": key, "content_hash": "c", "source_hash": 1, "occurred_at": occurred_at}
    path = scratch / "note.parquet"
    pq.write_table(pa.Table.from_pylist([{**row, "acknowledged_at": acknowledged_at, "run_id": "test"}], SCHEMA), path)
    number = len(store.list(f"ledger/{feed.name}/"))
    day = occurred_at.astimezone(UTC).date().isoformat()
    store.put_file(f"{ledger_prefix(feed.name, day)}{acknowledged_at:%Y%m%dT%H%M%S%f}-test-{number:04d}.parquet", path)


def answering_with(rows: Sequence[Mapping[str, Any]]) -> Ask:
    """A warehouse that gives *rows*, whatever it is asked."""

    def ask(_query: str, _times: Mapping[str, datetime], schema: pa.Schema, path: Path) -> int:
        pq.write_table(pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema), path)
        return len(rows)

    return ask


def message(person: str, created: datetime, trigger: str | None = None, *, action_id: int = 96) -> dict[str, Any]:
    """A message of campaign 1 as the App API lists it."""
    return {
        "id": f"{person}-{created.timestamp()}",
        "customer_identifiers": {"id": person},
        "campaign_id": 1,
        "action_id": action_id,
        "created": int(created.timestamp()),
        "trigger_event_id": trigger,
    }


def app_api(messages: Sequence[Mapping[str, Any]], *, unsubscribed: Sequence[str] = ()) -> Handler:
    """The App API's messages, within the window that is asked for; and profiles, some of them unsubscribed."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/customers/attributes":
            customers = [{"customer": {"identifiers": {"id": p}, "attributes": {"unsubscribed": "True"}}} for p in unsubscribed]
            return httpx.Response(200, json={"customers": customers})
        first, last = int(request.url.params["start_ts"]), int(request.url.params["end_ts"])
        found = [item for item in messages if first <= item["created"] <= last]
        return httpx.Response(200, json={"messages": found, "next": ""})

    return handle
