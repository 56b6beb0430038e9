"""Who has been delivered, over all days of a feed: the keys of its ledger, with a cache so that a lookup reads few files.

The cache `keys/<feed>.parquet` can be removed at any time; it is made anew from the ledger.
"""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.delivery.expressions import literal, parquet
from rs_cio_assets.errors import StoreRefused
from rs_cio_assets.store import Store

# A lookup that finds more segments outside of the cache writes it anew, when they hold a fair share of it; many of them anyhow.
FOLD_SEGMENTS, FOLD_SHARE, FOLD_ANYHOW = 8, 1 / 16, 256
_FOLDED = "segments"
# The day stands in a segment's path; the store may have replaced the slashes of a fetched file's name.
_DAY = r"regexp_extract(filename, '(\d{4}-\d{2}-\d{2})[/~][^/~]*$', 1)"


def acknowledged_keys(database: duckdb.DuckDBPyConnection, store: Store, feed: Feed, scratch: Path) -> str:
    """A DuckDB relation (row_key, day, occurred_at) of everything acknowledged for *feed*; a key may stand there repeatedly.

    *day* is the ISO day of the partition. Reads the ledger of all days, most of it from the cache.
    """
    try:
        return _keys(database, store, feed, scratch)
    except StoreRefused:
        return _keys(database, store, feed, scratch)  # a segment was removed between listing and reading: list anew


def _keys(database: duckdb.DuckDBPyConnection, store: Store, feed: Feed, scratch: Path) -> str:
    cache = f"keys/{feed.name}.parquet"
    segments = {key for key in store.list(f"ledger/{feed.name}/") if key.endswith(".parquet")}
    parts, fresh, cached_rows = [], segments, 0
    if cache in store.list(cache):
        path = store.fetch(cache, scratch)
        footer = pq.read_metadata(path)
        folded, cached_rows = set(json.loads((footer.metadata or {})[_FOLDED.encode()])), footer.num_rows
        if {_day_of(key) for key in folded} <= {_day_of(key) for key in segments}:  # else somebody removed days of the ledger
            parts.append(f"SELECT row_key, day, occurred_at FROM {parquet([path])}")  # noqa: S608 - paths of our own
            fresh = segments - folded
    paths = [store.fetch(key, scratch) for key in sorted(fresh)]
    if paths:
        parts.append(f"SELECT row_key, {_DAY} AS day, occurred_at FROM {parquet(paths, ', filename = true')}")  # noqa: S608
    if not parts:
        return "(SELECT NULL::VARCHAR AS row_key, NULL::VARCHAR AS day, NULL::TIMESTAMPTZ AS occurred_at LIMIT 0)"
    relation = f"({' UNION ALL '.join(parts)})"
    is_worth_it = len(paths) > FOLD_SEGMENTS and sum(pq.read_metadata(p).num_rows for p in paths) > FOLD_SHARE * cached_rows
    if not is_worth_it and len(paths) <= FOLD_ANYHOW:
        return relation
    target = scratch / f"{feed.name}.keys.parquet"
    database.execute(
        f"COPY (SELECT row_key, max(day) AS day, max(occurred_at) AS occurred_at FROM {relation} GROUP BY row_key) "  # noqa: S608
        f"TO {literal(str(target))} "
        f"(FORMAT parquet, COMPRESSION zstd, KV_METADATA {{{_FOLDED}: {literal(json.dumps(sorted(segments)))}}})"
    )
    store.put_file(cache, target)
    return f"(SELECT row_key, day, occurred_at FROM {parquet([target])})"  # noqa: S608


def _day_of(segment: str) -> str:
    return segment.split("/")[2]
