"""One day of every feed by the engines alone: what the assets call, in their order, and nothing of Dagster's."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rs_cio_assets.assets.export_checks import judge_days
from rs_cio_assets.assets.exports import view_state
from rs_cio_assets.assets.neighbours import Surroundings
from rs_cio_assets.contract import Contract
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import DeliveryOptions
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Manifest
from rs_cio_assets.warehouse import stage_days


def sync_without_dagster(settings: Settings, contract: Contract, day: str) -> int:
    """Export and deliver *day* (ISO, UTC) of every enabled feed as a backfill; returns how many rows it had.

    The views must be there.
    """
    resources = resources_for(settings)
    warehouse, store = resources["warehouse"], resources["store"]
    manifests: dict[str, Manifest] = {}
    for feed in contract.enabled_feeds:
        with warehouse.session() as session:
            view_state(session, feed, store)
            manifests |= {feed.name: stage_days(session, feed, [day], store, now=lambda: datetime.now(UTC))[day]}
        judge_days(feed, contract, {day: manifests[feed.name]}, store, frozenset())
    for feed in contract.enabled_feeds:
        with tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch, TrackClient(settings.customerio) as track:
            around = Surroundings(contract, warehouse, store, settings.customerio, track, "bench", Path(scratch), lambda _: None)
            around.deliver(feed, manifests[feed.name], DeliveryOptions(is_backfill=True))
    return sum(manifest.rows for manifest in manifests.values())
