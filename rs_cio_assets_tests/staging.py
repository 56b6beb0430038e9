"""Staged days by hand: rows as Python dicts to the Parquet and manifest that an export leaves, and a recording Track API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.contract import Contract, Feed, load_contract
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import DeliveryReport, deliver_day
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import Fingerprint, Manifest, StagedFile, Store, save_manifest
from rs_cio_assets.warehouse.staged_days import staged_schema

READ_AT = datetime(2026, 11, 24, 6, tzinfo=UTC)
NOW = datetime(2026, 11, 24, 7, tzinfo=UTC)


def feed_of(kind: str, columns: Mapping[str, Mapping[str, Any]], **fields: Any) -> Feed:
    """A feed with identifier customer_id, times and *columns*; fields given replace the usual ones."""
    time_column = "occurred_at" if kind == "event" else "updated_at"
    usual: dict[str, Any] = {
        "name": "tested",
        "kind": kind,
        "description": "A feed of a test.",
        "view": "cio_export.tested",
        "identifier": "customer_id",
        "time_column": time_column,
        "loaded_at": "loaded_at",
        "freshness_hours": 30,
        "sql": "SELECT 1",
    }
    if kind == "event":
        usual |= {"event_name": "Order Completed", "business_key": ("order_id",), "unknown_person": "send"}
    standard = {
        "customer_id": {"type": "string", "required": True, "description": "Who."},
        time_column: {"type": "timestamp", "required": True, "description": "When."},
        "loaded_at": {"type": "timestamp", "required": True, "description": "Loaded."},
    }
    described = {name: {"description": f"The {name}.", **column} for name, column in columns.items()}
    return Feed.model_validate({**usual, "columns": {**standard, **described}, **fields})


def contract_of(*feeds: Feed) -> Contract:
    """The shipped workspace with these feeds."""
    return Contract(workspace=load_contract().workspace, feeds=feeds)


def stage(
    store: Store, feed: Feed, day: str, rows: Sequence[Mapping[str, Any]], scratch: Path, *, read_at: datetime = READ_AT
) -> Manifest:
    """Leave *rows* as the export of *day* would; columns that a row does not give are null."""
    schema = staged_schema(feed)
    files: tuple[StagedFile, ...] = ()
    if rows:
        path = scratch / "staged.parquet"
        pq.write_table(pa.Table.from_pylist([{n: row.get(n) for n in schema.names} for row in rows], schema), path)
        key = f"staged/{feed.name}/{day}/test/part-00000.parquet"
        store.put_file(key, path)
        files = (StagedFile(key, len(rows), path.stat().st_size),)
    columns = tuple((name, column.type.value) for name, column in feed.columns.items())
    manifest = Manifest(feed.name, day, feed.view, Fingerprint(len(rows), None, "test"), len(rows), files, columns, read_at)
    save_manifest(store, manifest)
    return manifest


class RecordingTrack:
    """Answers like the Track API and keeps every operation; *answer* may take over a request."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response | None] = lambda _: None, *, region: str = "us") -> None:
        self.region, self.times_asked_for_region = region, 0
        self.operations: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self._answer = answer

    def client(self) -> TrackClient:
        """A client of it, without pace."""
        settings = load_settings({"CUSTOMERIO_MAX_REQUESTS_PER_S": "1000"}).customerio
        return TrackClient(settings, transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v1/accounts/region":
            self.times_asked_for_region += 1
            return httpx.Response(200, json={"region": self.region, "environment_id": 1})
        answer = self._answer(request) or httpx.Response(200, json={})
        self.bodies.append(request.content)
        if answer.status_code in {200, 207}:
            refused = {error.get("batch_index") for error in answer.json().get("errors", [])}
            batch = json.loads(request.content, parse_float=Decimal)["batch"]
            self.operations += [operation for index, operation in enumerate(batch) if index not in refused]
        return answer


def deliver(
    feed: Feed, contract: Contract, manifest: Manifest, store: Store, track: TrackClient, scratch: Path, *, now: datetime = NOW
) -> DeliveryReport:
    """deliver_day with a fixed clock."""
    with track:
        return deliver_day(
            feed, contract, manifest, store, track, run_id="11111111-test", now=lambda: now, scratch=scratch, concurrency=3
        )
