"""`python -m benchmarks.segment_parity`: our own time and memory for the comparison of a segment with the warehouse.

The warehouse is the Redshift stand-in, read with the unmodified driver; the App API is a transport that serves pages of 30,000
members and never waits. One person in ten thousand is missing, one is extra. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import httpx

from benchmarks.measure import Measured, report_work
from benchmarks.processes import TIMEOUT_S
from rs_cio_assets.checks.membership import compare_segment
from rs_cio_assets.checks.whereabouts import Around
from rs_cio_assets.contract import Contract, Feed, Segment, load_contract
from rs_cio_assets.customerio import AppClient, app
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import literal, person_key
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.warehouse import Warehouse

SIZES = (100_000, 1_000_000)
ONE_IN = 10_000
DAY = datetime(2026, 11, 20, tzinfo=UTC)
NOW = DAY + timedelta(days=5)
_TIME = {"type": "timestamp", "required": True, "description": "A time."}
PEOPLE = Feed.model_validate(
    {
        "name": "people",
        "kind": "people",
        "description": "Of the benchmark.",
        "view": "bench.people",
        "identifier": "customer_id",
        "time_column": "updated_at",
        "loaded_at": "loaded_at",
        "freshness_hours": 30,
        "sql": "SELECT 1",
        "columns": {
            "customer_id": {"type": "string", "required": True, "description": "Who."},
            "updated_at": _TIME,
            "loaded_at": _TIME,
        },
    }
)
CONTRACT = Contract(workspace=load_contract().workspace, feeds=(PEOPLE,))
SEGMENT = Segment(
    name="everybody",
    description="Of the benchmark.",
    owner="team:data",
    segment_id=1,
    sql="SELECT p.customer_id FROM bench.people AS p WHERE p.updated_at < :now",
)


def main() -> None:
    """Measure each size and print a line for it."""
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder, RedshiftStandIn(Path(folder) / "redshift") as warehouse:
        for people in SIZES:
            command = [sys.executable, "-m", "benchmarks.segment_parity", "--people", str(people), "--port", str(warehouse.port)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=TIMEOUT_S)
            found = Measured(**json.loads(done.stdout))
            sys.stdout.write(
                f"{people:>9,} people: {found.cpu_s:.1f} s own time, {found.wall_s:.1f} s in all, "
                f"peak memory {found.peak_rss_mb:.0f} MB; {found.counts['missing']} missing, {found.counts['extra']} extra, "
                f"{found.counts['requests']} requests\n"
            )


def compare(people: int, settings_port: int) -> None:
    """One comparison in this process; what it used goes to standard output as JSON."""
    settings = load_settings({"REDSHIFT_PORT": str(settings_port)})
    app._PACE = Pace(1_000_000)  # noqa: SLF001 - the API's own pace is no time of ours
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder:
        scratch, store = Path(folder), LocalStore(Path(folder) / "store")
        warehouse = Warehouse(settings.redshift)
        _prepare(people, warehouse, store, scratch)
        around = Around(CONTRACT, warehouse, store, scratch, NOW)
        with AppClient(settings.customerio, transport=httpx.MockTransport(partial(_page, people))) as client:

            def work() -> Mapping[str, int]:
                parity = compare_segment(SEGMENT, client, around, scratch / "differences.parquet")
                found = {"missing": parity.missing, "extra": parity.extra, "requests": client.requests}
                return {"rows": people, "expected": parity.expected, **found}

            report_work(work)


def _prepare(people: int, warehouse: Warehouse, store: LocalStore, scratch: Path) -> None:
    """The view, and a ledger in which everybody is acknowledged."""
    with warehouse.session() as session:
        session.run("CREATE SCHEMA IF NOT EXISTS bench")
        session.run("DROP TABLE IF EXISTS bench.people")
        session.run(
            "CREATE TABLE bench.people AS SELECT 'C' || LPAD(CAST(n AS VARCHAR), 7, '0') AS customer_id, "  # noqa: S608
            f"TIMESTAMP '{DAY:%Y-%m-%d}' AS updated_at, TIMESTAMP '{DAY:%Y-%m-%d}' AS loaded_at "
            f"FROM generate_series(0, {people - 1}) AS n"
        )
        session.commit()
    path = scratch / "ledger.parquet"
    with open_database() as database:
        database.execute(
            f"COPY (SELECT {person_key(PEOPLE, 'who')} AS row_key, TIMESTAMPTZ '{DAY}' AS occurred_at, "  # noqa: S608
            f"TIMESTAMPTZ '{DAY}' AS acknowledged_at "
            f"FROM (SELECT 'C' || lpad(n::VARCHAR, 7, '0') AS who FROM range({people}) AS r(n))) "
            f"TO {literal(str(path))} (FORMAT parquet)"
        )
    store.put_file(f"ledger/people/{DAY:%Y-%m-%d}/{DAY:%Y%m%dT%H%M%S%f}-11111111-0000.parquet", path)


def _page(people: int, request: httpx.Request) -> httpx.Response:
    """A page of members as Customer.io gives it; the first of ONE_IN is not in the segment, and as many strangers are."""
    start, limit = int(request.url.params.get("start", 0)), int(request.url.params["limit"])
    numbers = range(start, min(start + limit, people))
    ids = [f"C{n:07d}" if n % ONE_IN else f"X{n:07d}" for n in numbers]
    found = [{"email": f"{one}@example.com", "id": one, "cio_id": f"a3000000{one}"} for one in ids]
    following = str(start + limit) if start + limit < people else ""
    return httpx.Response(200, json={"ids": ids, "identifiers": found, "next": following})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=0, help="one comparison of this size (without: all sizes)")
    parser.add_argument("--port", type=int, default=0, help="of a running Redshift stand-in")
    given = parser.parse_args()
    if given.people:
        compare(given.people, given.port)
    else:
        main()
