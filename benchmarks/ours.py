"""Our delivery of one staged day, measured: the real engine and the real Track API client, over loopback or without a network.

With `--read-only` it only reads the staged Parquet, every column of it, by DuckDB: the least that any delivery costs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import httpx

from benchmarks.days import CONTRACT
from benchmarks.measure import report_work
from rs_cio_assets.contract import load_contract
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import deliver_day
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore, Manifest, load_manifest

READING_THREADS = 2


class NoNetwork(httpx.BaseTransport):
    """Answers at once within the process."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """200, and for the region the one that the settings say."""
        is_region = request.url.path.endswith("/accounts/region")
        return httpx.Response(200, json={"region": "us", "environment_id": 1} if is_region else {})


def clock_from(start: datetime) -> Callable[[], datetime]:
    """A clock that shows *start* now and goes on as time does."""
    begun = time.monotonic()
    return lambda: start + timedelta(seconds=time.monotonic() - begun)


def deliver(store: LocalStore, feed_name: str, manifest: Manifest, options: argparse.Namespace) -> None:
    """Measure `deliver_day`. Raises: RuntimeError when it lost a row."""
    contract = load_contract(CONTRACT)
    settings = load_settings(
        {
            "CUSTOMERIO_TRACK_URL": f"http://127.0.0.1:{options.port or 1}",
            "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000",  # above what a body every two milliseconds needs: it does not bind
            "CUSTOMERIO_CONCURRENCY": str(options.concurrency),
        }
    ).customerio

    def work() -> Mapping[str, int]:
        report = deliver_day(
            contract.feed(feed_name),
            contract,
            manifest,
            store,
            track,
            run_id="bench",
            now=clock_from(options.now),
            scratch=Path(scratch),
            concurrency=options.concurrency,
        )
        if not report.is_conserved:
            raise RuntimeError("rows are missing from the report")
        outcomes = ("rows", "delivered", "unchanged", "amended", "duplicates", "held", "rejected")
        return {name: getattr(report, name) for name in outcomes}

    with (
        tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as scratch,
        TrackClient(settings, transport=None if options.port else NoNetwork()) as track,
    ):
        report_work(work)


def read(manifest: Manifest, store: LocalStore, scratch: Path) -> None:
    """Measure reading every value of every column once."""
    files = [str(store.fetch(file.key, scratch)) for file in manifest.files]

    def work() -> Mapping[str, int]:
        with duckdb.connect(":memory:", config={"threads": READING_THREADS}) as database:
            # A hash needs every value; a maximum might come from the file's statistics.
            database.read_parquet(files).aggregate("bit_xor(hash(COLUMNS(*)))").fetchall()
        return {"rows": manifest.rows}

    report_work(work)


def main() -> None:
    """Deliver (or read) the staged day and report what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("feed")
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--day", required=True)
    parser.add_argument("--now", type=datetime.fromisoformat, required=True)
    parser.add_argument("--port", type=int, help="the sink's; without one there is no network")
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--read-only", action="store_true")
    options = parser.parse_args()
    store = LocalStore(options.store)
    manifest = load_manifest(store, options.feed, options.day)
    if manifest is None:
        parser.error("the day is not staged")
    if options.read_only:
        read(manifest, store, options.store)
    else:
        deliver(store, options.feed, manifest, options)


if __name__ == "__main__":
    main()
