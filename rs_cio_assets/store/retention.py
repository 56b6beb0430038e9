"""What goes from the store when it is old enough: objects with rows of people in them.

An object's age is what the store says: it counts from the last time it was written. Manifests, profiles and the ledger name
nobody and stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rs_cio_assets.store.manifest import STAGED, load_manifest
from rs_cio_assets.store.objects import Store, StoredObject

ORPHANED_AFTER = timedelta(days=1)  # longer than any reading takes: until its manifest stands, its files are nobody's


@dataclass(frozen=True)
class Removed:
    """How many objects went, and their bytes."""

    objects: int
    size_bytes: int


def expire(store: Store, prefix: str, before: datetime) -> Removed:
    """Remove the objects under *prefix* that were last written before that moment (aware UTC)."""
    return _remove(store, [found for found in store.objects(prefix) if found.written_at < before])


def expire_staged(store: Store, before: datetime) -> Removed:
    """Remove staged rows that were read before that moment (aware UTC). Their manifests stay: a run that needs the rows is told
    to export the day again.
    """
    return _remove(store, [found for found in _staged(store) if found.written_at < before])


def remove_orphans(store: Store, now: datetime) -> Removed:
    """Remove staged rows older than a day that no manifest names: of a reading that died, or was replaced while it died."""
    by_day: dict[tuple[str, str], list[StoredObject]] = defaultdict(list)
    for found in _staged(store):
        if found.written_at < now - ORPHANED_AFTER:
            _, feed, day, *_ = found.key.split("/")
            by_day[feed, day].append(found)
    orphans: list[StoredObject] = []
    for (feed, day), files in by_day.items():
        manifest = load_manifest(store, feed, day)
        named = {file.key for file in manifest.files} if manifest else set()
        orphans += [found for found in files if found.key not in named]
    return _remove(store, orphans)


def _staged(store: Store) -> list[StoredObject]:
    return [found for found in store.objects(f"{STAGED}/") if found.key.endswith(".parquet")]


def _remove(store: Store, found: Sequence[StoredObject]) -> Removed:
    store.delete([item.key for item in found])
    return Removed(len(found), sum(item.size_bytes for item in found))
