"""Fold the ledgers of days that nobody has touched for long, so that years of days stay few objects."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.ledger import compact_ledger, last_written
from rs_cio_assets.store import Store

# A fold forgets all but the latest acknowledgement of a row; the check latency looks at the first ones, 29 days back at most.
UNTOUCHED_FOR = timedelta(days=30)
DAYS_PER_RUN = 200


@dataclass(frozen=True)
class Folded:
    """Days of feeds that were folded, or rid of segments that a fold had replaced; and those that wait for the next run."""

    days: int
    days_left: int


def fold_ledgers(store: Store, now: datetime, scratch: Path, *, most_days: int = DAYS_PER_RUN) -> Folded:
    """Fold each (feed, day) with several segments, none of them of the last 30 days; those first that were touched least lately.

    Safe beside runs of the same days. What a fold replaces goes with the next run that is at least an hour later.
    """
    written = defaultdict[str, list[str]](list)
    for key in store.list("ledger/"):
        if key.endswith(".parquet"):
            written[key.rpartition("/")[0]].append(last_written(key))
    since = f"{now - UNTOUCHED_FOR:%Y%m%d}"
    waiting = sorted((max(days), folder) for folder, days in written.items() if len(days) > 1 and max(days) < since)
    folded = 0
    with open_database() as database:
        for _, folder in waiting[:most_days]:
            _, feed_name, day = folder.split("/")
            with tempfile.TemporaryDirectory(dir=scratch) as place:
                folded += compact_ledger(database, store, feed_name, day, Path(place), now)
    return Folded(folded, max(0, len(waiting) - most_days))
