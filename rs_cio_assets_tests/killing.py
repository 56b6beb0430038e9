"""Deliveries of one large day in processes of their own, which a test may kill at any moment.

The processes are forked from a server that has imported everything and has no threads, so that each starts in milliseconds.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from botocore.client import BaseClient

from rs_cio_assets.contract import Feed
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import deliver_day, ledger
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import Fingerprint, Manifest, StagedFile, Store, load_manifest, open_store, save_manifest
from rs_cio_assets.warehouse.staged_days import staged_schema
from rs_cio_assets_tests.staging import NOW, READ_AT, contract_of, feed_of

DAY = "2026-11-20"
ROWS = 20_000
CONCURRENCY = 2
# Far smaller segments than in production: a run of a second then spans many, so that kills fall before, into and after them.
SEGMENT_ROWS = 1_000
NOTE = "n" * 300  # a body then holds fewer rows than a segment, and a day has some two dozen requests
TYPED = {
    "order_id": {"type": "string", "required": True},
    "total": {"type": "decimal", "precision": 12, "scale": 2},
    "note": {"type": "string"},
}
FEEDS = {
    "orders": feed_of("event", TYPED, name="orders", view="cio_export.orders"),
    "folk": feed_of("people", TYPED, name="folk", view="cio_export.folk"),
}
CONTRACT = contract_of(*FEEDS.values())
_START = datetime(2026, 11, 20, tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """Where a run reads, writes and sends: a store's location, S3's address if it is there, and Customer.io's."""

    location: str
    track_url: str
    scratch: Path
    s3_url: str | None = None

    def store(self) -> Store:
        """The store, opened anew."""
        return open_store(self.location, s3_client=self._s3_client if self.s3_url else None)

    def _s3_client(self) -> BaseClient:
        return boto3.client(
            "s3", endpoint_url=self.s3_url, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
        )


def total_of(number: int) -> str:
    """The row's amount as it should read in Customer.io."""
    return f"{number}.{number % 100:02d}"


def stage_day(place: Place, feed: Feed) -> Manifest:
    """Leave ROWS good rows as the export of DAY would: order O0 of C0000000, and so on."""
    store, numbers = place.store(), range(ROWS)
    columns = {
        "customer_id": [f"C{number:07d}" for number in numbers],
        feed.time_column: [_START + timedelta(seconds=number) for number in numbers],
        "loaded_at": [_START] * ROWS,
        "order_id": [f"O{number}" for number in numbers],
        "total": pa.array([total_of(number) for number in numbers]).cast(staged_schema(feed).field("total").type),
        "note": [NOTE] * ROWS,
    }
    path = place.scratch / "staged.parquet"
    pq.write_table(pa.table(columns, schema=staged_schema(feed)), path)
    key = f"staged/{feed.name}/{DAY}/test/part-00000.parquet"
    store.put_file(key, path)
    described = tuple((name, column.type.value) for name, column in feed.columns.items())
    files = (StagedFile(key, ROWS, path.stat().st_size),)
    manifest = Manifest(feed.name, DAY, feed.view, Fingerprint(ROWS, None, "test"), ROWS, files, described, READ_AT)
    save_manifest(store, manifest)
    return manifest


def deliver_once(place: Place, feed_name: str, run_id: str) -> None:
    """One run of the day, in this process. The process ends with 0 only when every row is accounted for."""
    tempfile.tempdir = str(place.scratch)  # a killed process tidies nothing up: what it leaves stays in the test's folder
    ledger.FLUSH_AFTER_ROWS = SEGMENT_ROWS
    store = place.store()
    manifest = load_manifest(store, feed_name, DAY)
    assert manifest is not None
    settings = load_settings({"CUSTOMERIO_TRACK_URL": place.track_url, "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000"}).customerio
    with TrackClient(settings) as track:
        report = deliver_day(
            CONTRACT.feed(feed_name),
            CONTRACT,
            manifest,
            store,
            track,
            run_id=run_id,
            # CLOCK_MONOTONIC is the same in every process: later acknowledgements have later times, whatever the date is.
            now=lambda: NOW + timedelta(seconds=time.monotonic()),
            scratch=place.scratch,
            concurrency=CONCURRENCY,
        )
    assert report.is_conserved
    assert report.delivered + report.unchanged == ROWS


def warm_up() -> None:
    """Let the server import everything, so that the first run is no slower than the others."""
    process = _fork_server().Process(target=int, daemon=True)
    process.start()
    process.join()


def start_run(place: Place, feed_name: str, run_id: str) -> ForkServerProcess:
    """Begin a run in a process of its own."""
    process = _fork_server().Process(target=deliver_once, args=(place, feed_name, run_id), daemon=True)
    process.start()
    return process


def _fork_server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", __name__])
    return context
