"""A delivery through a storm of failures: every row is accounted for, none takes effect twice, and it does not take for ever."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import DeliveryReport, deliver_day
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.faults import REFUSAL, STORM, Storm
from rs_cio_assets_tests.staging import NOW, contract_of, feed_of, stage

SEED = 20_261_120
DAY = "2026-11-20"
ROWS = 4_000
CONCURRENCY = 8
SLOWER_AT_MOST = 3.0  # source: issue 3, "Must show" 2
NOTE = "n" * 20_000  # some 20 rows a body: many requests from few rows
ORDERS = feed_of("event", {"order_id": {"type": "string", "required": True}, "note": {"type": "string", "max_bytes": 30_000}})
CONTRACT = contract_of(ORDERS)


@dataclass(frozen=True)
class Delivered:
    """One run: its report, and the ids of the orders that took effect, one for each time."""

    report: DeliveryReport
    effects: list[str]
    rejections: Path


def deliver_through(storm: Storm, folder: Path) -> Delivered:
    """Deliver ROWS orders to an empty workspace behind *storm*, with the client's real waits."""
    folder.mkdir()
    start = datetime(2026, 11, 20, tzinfo=UTC)
    rows: list[dict[str, Any]] = [
        {
            "customer_id": f"C{number % 1_000:07d}",
            "occurred_at": start + timedelta(seconds=number),
            "loaded_at": start,
            "order_id": f"O{number}",
            "note": NOTE,
        }
        for number in range(ROWS)
    ]
    store = LocalStore(folder / "store")
    manifest = stage(store, ORDERS, DAY, rows, folder)
    with CustomerioStandIn(folder / "customerio", wrap=storm.around) as stand_in:
        pace = {"CUSTOMERIO_MAX_REQUESTS_PER_S": "1000", "CUSTOMERIO_CONCURRENCY": str(CONCURRENCY)}
        settings = load_settings({"CUSTOMERIO_TRACK_URL": stand_in.url, **pace}).customerio
        with TrackClient(settings) as track:
            report = deliver_day(
                ORDERS,
                CONTRACT,
                manifest,
                store,
                track,
                run_id="11111111-test",
                now=lambda: NOW,
                scratch=folder,
                concurrency=CONCURRENCY,
            )
    with closing(sqlite3.connect(folder / "customerio" / "workspace.db")) as connection:
        select = "SELECT json_extract(data, '$.order_id') FROM activities WHERE type = 'event'"
        effects = [order for (order,) in connection.execute(select)]
    return Delivered(report, effects, folder / "store" / "rejections" / ORDERS.name / f"{DAY}.parquet")


def test_a_storm_loses_nothing_doubles_nothing_and_costs_less_than_three_times_the_calm(tmp_path: Path):
    """5 % 429, 5 % 5xx, 3 % resets before and 3 % after applying, 1 % refused, 5 to 500 ms: each row has its outcome, in time."""
    calm = Storm(SEED, shares={}, refused_share=0)
    quiet = deliver_through(calm, tmp_path / "calm").report
    storm = Storm(SEED)
    stormy = deliver_through(storm, tmp_path / "storm")
    report = stormy.report
    slower = report.seconds / quiet.seconds
    print(f"calm {quiet.seconds:.1f} s, storm {report.seconds:.1f} s: {slower:.2f}x; {dict(storm.happened)}")  # noqa: T201
    assert (quiet.delivered, quiet.rejected) == (ROWS, 0)
    assert calm.happened.total() == quiet.requests > 150
    assert all(storm.happened[fate] for fate in STORM)
    assert report.is_conserved
    assert report.delivered + report.rejected == ROWS
    assert sorted(set(stormy.effects)) == sorted(stormy.effects)
    refused = {row["business_key"] for row in pq.read_table(stormy.rejections).to_pylist()}
    assert len(stormy.effects) == report.delivered
    assert refused.isdisjoint(stormy.effects)
    assert len(refused) == report.rejected > ROWS / 200
    assert report.rejected_by_reason == {"customerio_invalid": report.rejected}
    assert {example.column for example in report.examples} == {"note"}
    assert all(REFUSAL["message"] in example.message for example in report.examples)
    assert slower < SLOWER_AT_MOST
