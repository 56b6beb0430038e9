"""How many rows of a staged day came after it had been delivered, and how late? One pass over its staged columns."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import parquet, quoted
from rs_cio_assets.store import Manifest, Store


@dataclass(frozen=True)
class LateArrivals:
    """Rows that were loaded, or loaded anew, after the newest one of the last delivery; hours from happening to that load."""

    rows: int = 0
    median_h: float = 0.0
    largest_h: float = 0.0


def late_arrivals(feed: Feed, manifest: Manifest, store: Store, newest_delivered: datetime, scratch: Path) -> LateArrivals:
    """Rows of the staged day whose load time is after *newest_delivered*, the newest load time that was delivered before.

    Both are the warehouse's own clock, so one that is wrong changes nothing. Raises: StoreRefused, MismatchError.
    """
    if not manifest.files:
        return LateArrivals()
    moment, loaded = quoted(feed.time_column), quoted(feed.loaded_at)
    hours = f"epoch({loaded} - coalesce({moment}, {loaded})) / 3600.0"
    with tempfile.TemporaryDirectory(dir=scratch) as folder, open_database() as database:
        files = [store.fetch(file.key, Path(folder)) for file in manifest.files]
        ((rows, median_h, largest_h),) = database.execute(
            f"SELECT count(*), median({hours}), max({hours}) FROM {parquet(files)} WHERE {loaded} > ?",  # noqa: S608 - quoted names
            [newest_delivered],
        ).fetchall()
    return LateArrivals(rows, median_h or 0.0, largest_h or 0.0)
