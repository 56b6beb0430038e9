"""Days that are staged, delivered and logged by hand: what the tests of the delivery log share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rs_cio_assets.contract import Contract, Feed
from rs_cio_assets.delivery import DeliveryOptions, DeliveryReport, deliver_day
from rs_cio_assets.delivery.log import DayLog, log_day
from rs_cio_assets.delivery.options import AS_THE_CONTRACT_SAYS
from rs_cio_assets.store import LocalStore, load_manifest
from rs_cio_assets_tests.staging import NOW, RecordingTrack, stage

Row = dict[str, Any]


class Desk:
    """A store, a scripted Track API, and a folder for each log."""

    def __init__(self, folder: Path, *feeds: Feed, contract: Contract) -> None:
        self.store = LocalStore(folder / "store")
        self.contract, self.feeds = contract, {feed.name: feed for feed in feeds}
        self._folder, self._logs = folder, 0

    def deliver(
        self,
        feed: str,
        day: str,
        rows: Sequence[Mapping[str, Any]],
        *,
        track: RecordingTrack | None = None,
        now: datetime = NOW,
        options: DeliveryOptions = AS_THE_CONTRACT_SAYS,
    ) -> DeliveryReport:
        """Stage and deliver."""
        manifest = stage(self.store, self.feeds[feed], day, rows, self._folder)
        with (track or RecordingTrack()).client() as client:
            return deliver_day(
                self.feeds[feed],
                self.contract,
                manifest,
                self.store,
                client,
                run_id="11111111-test",
                now=lambda: now,
                scratch=self._folder,
                concurrency=2,
                options=options,
            )

    def stage(self, feed: str, day: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Only stage."""
        stage(self.store, self.feeds[feed], day, rows, self._folder)

    def log(self, feed: str, day: str, *, now: datetime = NOW, is_delivered: bool = True) -> DayLog:
        """The log's files of what is staged."""
        manifest = load_manifest(self.store, feed, day)
        assert manifest
        self._logs += 1
        folder = self._folder / f"log-{self._logs}"
        folder.mkdir()
        return log_day(
            self.feeds[feed], self.contract, manifest, self.store, folder=folder, now=now, is_delivered=is_delivered
        )


def rows_of(path: Path) -> list[Row]:
    """A file of the log as dicts."""
    return pq.read_table(path).to_pylist()


def as_reported(log: DayLog) -> dict[str, int]:
    """The log's numbers in the words of a delivery report: rows by outcome."""
    gone = log.left_the_view
    return {
        "rows": log.rows,
        "delivered or unchanged": log.outcomes.get("delivered", 0) - gone,
        "amended": log.outcomes.get("amended", 0),
        "duplicates": log.duplicates,
        "held": log.outcomes.get("held", 0),
        "superseded": log.outcomes.get("superseded", 0),
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
