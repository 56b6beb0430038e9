"""What days give when they are read by UNLOAD and by the driver: their staged rows, and their operations as bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.contract import Contract, Feed
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.day import StagedDay
from rs_cio_assets.delivery.options import AS_THE_CONTRACT_SAYS
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore, Manifest
from rs_cio_assets.warehouse import stage_days
from rs_cio_assets.warehouse.staged_days import staged_schema


@dataclass(frozen=True)
class Read:
    """What one way gave: every staged row with its day, and every operation of the days that were encoded; both sorted."""

    rows: pa.Table
    operations: list[str]


def read_both_ways(settings: Settings, contract: Contract, feed: Feed, days: Sequence[str], encoded: Sequence[str]) -> list[Read]:
    """By the driver and by UNLOAD: *days* (contiguous) are read at once into stores of their own, *encoded* of them encoded."""
    now = datetime.now(UTC)
    found = []
    for way in ("driver", "unload"):
        chosen = settings.model_copy(update={"redshift": settings.redshift.model_copy(update={"read": way})})
        with tempfile.TemporaryDirectory() as folder, resources_for(chosen)["warehouse"].session() as session:
            store = LocalStore(Path(folder) / "store")
            manifests = stage_days(session, feed, days, store, now=lambda: now)
            whole = [manifest for manifest in manifests.values() if manifest.rows]
            assert {manifest.read_by for manifest in whole} <= {way}
            operations = [
                text
                for manifest in whole
                if manifest.day in encoded
                for text in _operations(contract, feed, manifest, store, Path(folder), now)
            ]
            found.append(Read(_rows(feed, whole, store), sorted(operations)))
    return found


def _rows(feed: Feed, manifests: Sequence[Manifest], store: LocalStore) -> pa.Table:
    parts = [
        pq.read_table(store.fetch(file.key, Path())).append_column("day", pa.repeat(manifest.day, file.rows))
        for manifest in manifests
        for file in manifest.files
    ]
    table = pa.concat_tables(parts) if parts else staged_schema(feed).empty_table()
    return table.sort_by([(name, "ascending") for name in table.column_names])


def _operations(contract: Contract, feed: Feed, manifest: Manifest, store: LocalStore, folder: Path, now: datetime) -> list[str]:
    with open_database() as database, tempfile.TemporaryDirectory(dir=folder) as scratch:
        day = StagedDay(feed, contract, manifest, store, Path(scratch), database, now, AS_THE_CONTRACT_SAYS)
        return [text for batch in day.operations() for text in batch["operation"].to_pylist()]
