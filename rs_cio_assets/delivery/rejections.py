"""Rows that were not sent and why, per feed and day: one Parquet file, written anew by each run of the day.

It names rows by their business key, so that an operator can find them; it lies in the same store as the staged rows and is
as private as they are. Reports and metadata show hashed keys only.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from rs_cio_assets.delivery.expressions import literal
from rs_cio_assets.store import Store

SCHEMA = pa.schema(
    [
        ("row_key", pa.string()),
        ("business_key", pa.string()),
        ("reason", pa.string()),
        ("column_name", pa.string()),
        ("message", pa.string()),
    ]
)


def rejections_key(feed_name: str, day: str) -> str:
    """Where a day's rejections stand."""
    return f"rejections/{feed_name}/{day}.parquet"


def clear_rejections(store: Store, feed_name: str, day: str) -> None:
    """Remove the day's file: no row of the day is rejected."""
    store.delete([rejections_key(feed_name, day)])


def save_rejections(
    database: duckdb.DuckDBPyConnection, store: Store, feed_name: str, day: str, now: datetime, scratch: Path
) -> None:
    """Replace the day's file by the table `rejections` of *database* (SCHEMA), keeping first_seen and counting attempts.

    A row that is fine by now leaves the file; without any rejection there is no file.
    """
    key = rejections_key(feed_name, day)
    ((count,),) = database.execute("SELECT count(*) FROM rejections").fetchall()
    if not count:
        clear_rejections(store, feed_name, day)
        return
    has_earlier = key in store.list(key)
    earlier = "SELECT NULL::VARCHAR AS row_key, NULL::VARCHAR AS reason, NULL::TIMESTAMPTZ AS first_seen, 0 AS attempts"
    if has_earlier:
        path = literal(str(store.fetch(key, scratch)))
        earlier = "SELECT row_key, reason, min(first_seen) AS first_seen, max(attempts) AS attempts "
        earlier += f"FROM read_parquet({path}) GROUP BY ALL"
    target = scratch / "rejections.parquet"
    database.execute(
        f"""
        COPY (
            SELECT r.*, coalesce(e.first_seen, $now) AS first_seen, $now AS last_seen,
                   (coalesce(e.attempts, 0) + 1)::INTEGER AS attempts
            FROM rejections AS r LEFT JOIN ({earlier}) AS e ON e.row_key = r.row_key AND e.reason = r.reason
            ORDER BY r.reason, r.column_name, r.business_key
        ) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)
        """,  # noqa: S608 - paths of our own
        {"now": now},
    )
    store.put_file(key, target)
