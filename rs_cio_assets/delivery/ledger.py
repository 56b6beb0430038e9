"""What Customer.io has acknowledged, per feed and day: immutable Parquet segments, one row for each acknowledged row.

Segments only add up, so two runs of one day do not disturb each other, and a crash loses at most the last second of notes.
Many segments are folded into one; those it replaces are passed over at once and removed later, when nobody can be reading them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.delivery.expressions import parquet
from rs_cio_assets.errors import StoreRefused
from rs_cio_assets.store import Store
from rs_cio_assets.store.objects import refused_by_disk

FLUSH_AFTER_S = 1.0
FLUSH_AFTER_ROWS = 50_000
COMPACT_SEGMENTS = 32  # a day with more of them is folded by the run that has to read them
ROWS_PER_FOLD = 500_000
KEEP_REPLACED = timedelta(hours=1)  # longer than anybody reads one day's ledger
SCHEMA = pa.schema(
    [
        ("row_key", pa.string()),
        ("content_hash", pa.string()),
        ("source_hash", pa.uint64()),
        ("occurred_at", pa.timestamp("us", tz="UTC")),
        ("acknowledged_at", pa.timestamp("us", tz="UTC")),
        ("run_id", pa.string()),
    ]
)
_REPLACES = "replaces"
# When it was made, and the days (YYYYMMDD) of the first and the last segment in it; folds of the first versions name none.
_COMPACTED = re.compile(r"(\d{8}T\d{6})\d{6}-compacted(?:-(\d{8})-(\d{8}))?")
_LATEST = ", ".join(
    f"arg_max({name}, acknowledged_at) AS {name}" for name in ("content_hash", "source_hash", "occurred_at", "run_id")
)


def ledger_prefix(feed_name: str, day: str) -> str:
    """Where a day's segments stand."""
    return f"ledger/{feed_name}/{day}/"


def ledger_files(store: Store, feed_name: str, day: str, scratch: Path) -> list[Path]:
    """Local paths of the day's segments without those that another one replaces."""
    try:
        return _fetch_segments(store, feed_name, day, scratch)
    except StoreRefused:
        return _fetch_segments(store, feed_name, day, scratch)  # removed between listing and reading: list anew


def first_delivery_day(store: Store, feed_name: str) -> date | None:
    """The UTC day of the feed's first acknowledgement, by the names of its segments; None where nothing was delivered."""
    days = [_written(key, 2) for key in store.list(f"ledger/{feed_name}/") if key.endswith(".parquet")]
    return date.fromisoformat(min(days)) if days else None


def last_written(key: str) -> str:
    """The UTC day (YYYYMMDD) on which the segment *key* was written; of a fold, the latest segment in it."""
    return _written(key, 3)


def latest_of(files: Sequence[Path], *, only: str = "") -> str:
    """A DuckDB relation with the latest acknowledgement of each row key in *files* (SCHEMA); *only* narrows the keys down."""
    return (
        f"(SELECT row_key, {_LATEST}, max(acknowledged_at) AS acknowledged_at "  # noqa: S608 - paths and names of our own
        f"FROM {parquet(files)} {only} GROUP BY row_key)"
    )


def compact_ledger(
    database: duckdb.DuckDBPyConnection, store: Store, feed_name: str, day: str, scratch: Path, now: datetime
) -> bool:
    """Fold the day's segments into one that holds the latest acknowledgement of each row key. True when there was anything to do.

    Safe beside runs of the same day: segments that come meanwhile stay as they are. Those that an earlier fold has replaced
    are removed once KEEP_REPLACED has passed.
    """
    prefix = ledger_prefix(feed_name, day)
    keys = [key for key in store.list(prefix) if key.endswith(".parquet")]
    replaced, old = set(), set()
    for key in keys:
        if (folded := _COMPACTED.search(key)) is not None:
            names = _replaced_by(store.fetch(key, scratch))
            replaced |= names
            made_at = datetime.strptime(folded[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
            old |= names if now - made_at > KEEP_REPLACED else set()
    store.delete([key for key in keys if key in old])
    current = [key for key in keys if key not in replaced]
    if len(current) < 2:
        return bool(old & set(keys))
    target = scratch / "compacted.parquet"
    files = [store.fetch(key, scratch) for key in current]
    passes = 1 + sum(pq.read_metadata(path).num_rows for path in files) // ROWS_PER_FOLD
    with pq.ParquetWriter(target, SCHEMA.with_metadata({_REPLACES: json.dumps(current)}), compression="zstd") as writer:
        for number in range(passes):  # each folds its share of the keys, so that memory stays flat
            share = latest_of(files, only=f"WHERE hash(row_key) % {passes} = {number}")
            for batch in database.sql(f"SELECT {', '.join(SCHEMA.names)} FROM {share}").to_arrow_reader():  # noqa: S608
                writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=writer.schema))
    days = f"{min(_written(key, 2) for key in current)}-{max(map(last_written, current))}"
    store.put_file(f"{prefix}{_stamp(now)}-compacted-{days}.parquet", target)
    target.unlink()
    return True


def _fetch_segments(store: Store, feed_name: str, day: str, scratch: Path) -> list[Path]:
    keys = [key for key in store.list(ledger_prefix(feed_name, day)) if key.endswith(".parquet")]
    folded = {key: store.fetch(key, scratch) for key in keys if _COMPACTED.search(key)}
    replaced = set().union(*map(_replaced_by, folded.values()))
    return [folded.get(key) or store.fetch(key, scratch) for key in keys if key not in replaced]


def _replaced_by(path: Path) -> set[str]:
    return set(json.loads((pq.read_metadata(path).metadata or {})[_REPLACES.encode()]))


def _written(key: str, group: int) -> str:
    """The day in a segment's name: its own, or *group* of a fold's."""
    folded = _COMPACTED.search(key)
    return (folded and folded[group]) or key.rpartition("/")[2][:8]


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y%m%dT%H%M%S%f")


class LedgerWriter:
    """Notes acknowledgements and writes them as segments, at most FLUSH_AFTER_S or FLUSH_AFTER_ROWS late. One thread only."""

    def __init__(self, store: Store, feed_name: str, day: str, run_id: str, scratch: Path, now: Callable[[], datetime]) -> None:
        self.rows = 0
        self._store, self._now, self._run_id = store, now, run_id
        self._prefix = ledger_prefix(feed_name, day)
        self._path = scratch / "segment.parquet"
        self._pending: list[pa.Table] = []
        self._pending_rows = 0
        self._segments = 0
        self._flushed_at = time.monotonic()

    def add(self, rows: pa.Table) -> bool:
        """Note acknowledged rows (row_key, content_hash, source_hash, occurred_us). True when a segment was written."""
        moment = SCHEMA.field("acknowledged_at").type
        columns = {
            **{name: rows[name] for name in ("row_key", "content_hash", "source_hash")},
            "occurred_at": rows["occurred_us"].cast(moment),
            "acknowledged_at": pa.repeat(pa.scalar(self._now(), moment), rows.num_rows),
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
        if self._pending_rows:
            try:
                # Keys and hashes never repeat: looking for a dictionary would only cost.
                pq.write_table(pa.concat_tables(self._pending), self._path, compression="zstd", use_dictionary=["run_id"])  # pyright: ignore[reportArgumentType] - a list of columns is documented
            except OSError as error:
                raise refused_by_disk(error, "the scratch folder") from None
            name = f"{_stamp(self._now())}-{self._run_id[:8]}-{self._segments:04d}.parquet"
            self._store.put_file(f"{self._prefix}{name}", self._path)
            self._segments += 1
        self._pending, self._pending_rows = [], 0
        self._flushed_at = time.monotonic()
