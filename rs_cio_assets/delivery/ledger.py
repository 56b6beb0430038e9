"""What Customer.io has acknowledged, per feed and day: immutable Parquet segments of (row key, content hash, when, run).

Segments only add up, so two runs of one day do not disturb each other, and a crash loses at most the last second of notes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.store import Store
from rs_cio_assets.store.objects import refused_by_disk

FLUSH_AFTER_S = 1.0
FLUSH_AFTER_ROWS = 50_000
SCHEMA = pa.schema(
    [
        ("row_key", pa.string()),
        ("content_hash", pa.string()),
        ("acknowledged_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
    ]
)


def ledger_files(store: Store, feed_name: str, day: str, scratch: Path) -> list[Path]:
    """Local paths of the day's segments, oldest first."""
    return [store.fetch(key, scratch) for key in store.list(f"ledger/{feed_name}/{day}/") if key.endswith(".parquet")]


class LedgerWriter:
    """Notes acknowledgements and writes them as segments, at most FLUSH_AFTER_S or FLUSH_AFTER_ROWS late. One thread only."""

    def __init__(self, store: Store, feed_name: str, day: str, run_id: str, scratch: Path, now: Callable[[], datetime]) -> None:
        self.rows = 0
        self._store, self._now, self._run_id = store, now, run_id
        self._prefix = f"ledger/{feed_name}/{day}/"
        self._path = scratch / "segment.parquet"
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._segments = 0
        self._flushed_at = time.monotonic()

    def add(self, rows: pa.Table) -> bool:
        """Note acknowledged rows (row_key, content_hash). True when a segment was written."""
        columns = {
            "row_key": rows["row_key"].cast(pa.string()),
            "content_hash": rows["content_hash"].cast(pa.string()),
            "acknowledged_at": pa.repeat(pa.scalar(self._now(), SCHEMA.field("acknowledged_at").type), rows.num_rows),
            "run_id": pa.repeat(self._run_id, rows.num_rows),
        }
        self._pending.append(pa.table(columns, schema=SCHEMA))
        self._pending_rows += rows.num_rows
        self.rows += rows.num_rows
        if self._pending_rows < FLUSH_AFTER_ROWS and time.monotonic() - self._flushed_at < FLUSH_AFTER_S:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Write what is noted and not yet written."""
        if self._pending:
            try:
                pq.write_table(pa.concat_tables(self._pending), self._path, compression="zstd")
            except OSError as error:
                raise refused_by_disk(error, "the scratch folder") from None
            written_at = self._now().astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")
            self._store.put_file(f"{self._prefix}{written_at}-{self._run_id[:8]}-{self._segments:04d}.parquet", self._path)
            self._segments += 1
            self._pending, self._pending_rows = [], 0
        self._flushed_at = time.monotonic()
