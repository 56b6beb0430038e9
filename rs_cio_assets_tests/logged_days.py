"""Days that were delivered by hand, as the delivery log tells them: what its tests share."""

from __future__ import annotations

from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rs_cio_assets.contract import Feed
from rs_cio_assets.delivery import DeliveryReport
from rs_cio_assets.delivery.log import DayLog, log_day
from rs_cio_assets.store import load_manifest
from rs_cio_assets_tests.integration.test_delivery_guards import DAY, Days
from rs_cio_assets_tests.staging import NOW

Row = dict[str, Any]
_NUMBERS = count()


def log_of(days: Days, feed: Feed, *, day: str = DAY, now: datetime = NOW, is_delivered: bool = True) -> DayLog:
    """The log's files of what is staged of *day*."""
    manifest = load_manifest(days.store, feed.name, day)
    assert manifest
    folder = days.scratch / f"log-{next(_NUMBERS)}"
    folder.mkdir()
    return log_day(feed, days.contract, manifest, days.store, folder=folder, now=now, is_delivered=is_delivered)


def rows_of(path: Path) -> list[Row]:
    """A file of the log as dicts, in the order of its keys."""
    return sorted(pq.read_table(path).to_pylist(), key=lambda row: (row["business_key"] or "", row["row_key"]))


def outcomes(log: DayLog) -> dict[str, str]:
    """Each key's outcome, by business key in words."""
    return {row["business_key"]: row["outcome"] for row in rows_of(log.deliveries)}


def as_reported(log: DayLog) -> dict[str, int]:
    """The log's numbers in the words of a delivery report: rows of the day by outcome."""
    keys = log.outcomes
    return {
        "rows": log.rows,
        "delivered or unchanged": keys.get("delivered", 0) - log.left_the_view,
        "amended": keys.get("amended", 0),
        "duplicates": log.duplicates,
        "held": keys.get("held", 0),
        "superseded": keys.get("superseded", 0),
        "rejected": log.rejected,
    }


def reported(report: DeliveryReport) -> dict[str, int]:
    """The same of the report itself."""
    return {
        "rows": report.rows,
        "delivered or unchanged": report.delivered + report.unchanged,
        "amended": report.amended,
        "duplicates": report.duplicates,
        "held": report.held,
        "superseded": report.superseded,
        "rejected": report.rejected,
    }
