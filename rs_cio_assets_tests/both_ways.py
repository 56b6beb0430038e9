"""The operations that days give when they are read by UNLOAD and by the driver, as bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rs_cio_assets.contract import Contract, Feed
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.day import StagedDay
from rs_cio_assets.delivery.options import AS_THE_CONTRACT_SAYS
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore, Manifest
from rs_cio_assets.warehouse import stage_days


def operations_by_way(settings: Settings, contract: Contract, feed: Feed, days: Sequence[str]) -> dict[str, list[str]]:
    """Way -> every operation that would be sent, sorted; *days* are contiguous, read at once and into stores of their own."""
    now = datetime.now(UTC)
    found = {}
    for way in ("driver", "unload"):
        chosen = settings.model_copy(update={"redshift": settings.redshift.model_copy(update={"read": way})})
        with tempfile.TemporaryDirectory() as folder, resources_for(chosen)["warehouse"].session() as session:
            store = LocalStore(Path(folder) / "store")
            manifests = stage_days(session, feed, days, store, now=lambda: now)
            assert {manifest.read_by for manifest in manifests.values()} == ({way} if sum_rows(manifests) else {"driver"})
            found[way] = sorted(
                text
                for manifest in manifests.values()
                if manifest.rows
                for text in _operations(contract, feed, manifest, store, Path(folder), now)
            )
    return found


def sum_rows(manifests: dict[str, Manifest]) -> int:
    """Rows of all days."""
    return sum(manifest.rows for manifest in manifests.values())


def _operations(contract: Contract, feed: Feed, manifest: Manifest, store: LocalStore, folder: Path, now: datetime) -> list[str]:
    with open_database() as database, tempfile.TemporaryDirectory(dir=folder) as scratch:
        day = StagedDay(feed, contract, manifest, store, Path(scratch), database, now, AS_THE_CONTRACT_SAYS)
        return [text for batch in day.operations() for text in batch["operation"].to_pylist()]
