"""Rows that were not sent and why, per feed and day: one Parquet file, written anew by each run of the day.

It names rows by their business key, so that an operator can find them; it lies in the same store as the staged rows and is
as private as they are. Reports and metadata show hashed keys only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.delivery.classify import FIRST_RULE, REFUSED_BEFORE
from rs_cio_assets.delivery.expressions import literal, parquet
from rs_cio_assets.delivery.report import RejectedExample
from rs_cio_assets.delivery.rules import Rule
from rs_cio_assets.delivery.sending import RefusedRow
from rs_cio_assets.store import Store

REJECTIONS = "rejections/"  # in the store
EXAMPLES = 20
EXAMPLES_PER_REASON = 3


def rejections_key(feed_name: str, day: str) -> str:
    """Where a day's rejections stand."""
    return f"{REJECTIONS}{feed_name}/{day}.parquet"


def clear_rejections(store: Store, feed_name: str, day: str) -> None:
    """Remove the day's file: no row of the day is rejected."""
    store.delete([rejections_key(feed_name, day)])


class Rejections:
    """The rejections of one day: those of an earlier run, and those of this one as they are found."""

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        store: Store,
        feed_name: str,
        day: str,
        scratch: Path,
        *,
        is_kept: bool = True,
    ) -> None:
        """Without *is_kept* the day's file is neither read nor written."""
        self.rows = 0
        self._is_kept = is_kept
        self._database, self._store, self._scratch = database, store, scratch
        self._key = rejections_key(feed_name, day)
        has_earlier = is_kept and self._key in store.list(self._key)
        self._earlier = store.fetch(self._key, scratch) if has_earlier else None
        self._found = scratch / "rejected.parquet"
        self._writer: pq.ParquetWriter | None = None

    @property
    def earlier(self) -> str | None:
        """A DuckDB relation of the last run's rejections; None when there were none."""
        return parquet([self._earlier]) if self._earlier else None

    def add(self, batch: pa.RecordBatch) -> None:
        """Note the rows (code, row_key, content_hash, business_key) of a classified batch that are rejected."""
        rejected = batch.filter(pa.array(batch["code"].to_numpy() >= REFUSED_BEFORE))
        if rejected.num_rows:
            rejected = rejected.select(["code", "row_key", "content_hash", "business_key"])
            if self._writer is None:
                self._writer = pq.ParquetWriter(self._found, rejected.schema, compression="snappy")
            self._writer.write_batch(rejected)
            self.rows += rejected.num_rows

    def save(
        self, rules: Sequence[Rule], refused: Sequence[RefusedRow], business_keys: Mapping[int, str], version: str, now: datetime
    ) -> None:
        """Replace the day's file, keeping first_seen and counting attempts. A row that is fine by now leaves it.

        *refused* are rows that Customer.io refused in this run, *business_keys* theirs by position; *version* is the contract's.
        """
        self.rows += len(refused)
        if not self.rows:
            if self._earlier:
                self._store.delete([self._key])
            return
        self._make_table(rules, refused, business_keys, version)
        if not self._is_kept:
            return
        target = self._scratch / "rejections.parquet"
        earlier = "(SELECT NULL AS row_key, NULL AS reason, NULL::TIMESTAMPTZ AS first_seen, 0 AS attempts)"
        if self.earlier:
            earlier = (
                "(SELECT row_key, reason, min(first_seen) AS first_seen, max(attempts) AS attempts "  # noqa: S608
                f"FROM {self.earlier} GROUP BY ALL)"
            )
        self._database.execute(
            f"""
            COPY (
                SELECT r.* EXCLUDE (is_attempt), coalesce(e.first_seen, $now) AS first_seen, $now AS last_seen,
                       (coalesce(e.attempts, 0) + is_attempt::INTEGER)::INTEGER AS attempts
                FROM rejections AS r LEFT JOIN {earlier} AS e ON e.row_key = r.row_key AND e.reason = r.reason
                ORDER BY r.reason, r.column_name, r.business_key
            ) TO {literal(str(target))} (FORMAT parquet, COMPRESSION zstd)
            """,  # noqa: S608 - paths of our own
            {"now": now},
        )
        self._store.put_file(self._key, target)

    def by_reason(self) -> dict[str, int]:
        """Rows of each reason, most frequent first. After `save`."""
        if not self.rows:
            return {}
        counted = self._database.execute("SELECT reason, count(*) AS n FROM rejections GROUP BY reason ORDER BY n DESC, reason")
        return dict(counted.fetchall())

    def examples(self) -> tuple[RejectedExample, ...]:
        """A few rows of each reason and column. After `save`."""
        if not self.rows:
            return ()
        found = self._database.execute(
            "SELECT row_key, reason, column_name, message FROM rejections "
            "QUALIFY row_number() OVER (PARTITION BY reason, column_name ORDER BY row_key) <= ? "
            "ORDER BY reason, column_name LIMIT ?",
            [EXAMPLES_PER_REASON, EXAMPLES],
        ).fetchall()
        return tuple(RejectedExample(key[:12], *rest) for key, *rest in found)

    def _make_table(
        self, rules: Sequence[Rule], refused: Sequence[RefusedRow], business_keys: Mapping[int, str], version: str
    ) -> None:
        self._database.register("rules", _rules_table(rules))
        self._database.register("refused_now", _refused_table(refused, business_keys))
        contract = f"{literal(version)} AS contract"
        parts = [f"SELECT row_key, business_key, content_hash, {contract}, reason, column_name, message, true FROM refused_now"]  # noqa: S608
        if self._writer is not None:
            self._writer.close()
            row = f"SELECT f.row_key, f.business_key, f.content_hash, {contract}, u.reason, u.column_name, u.message"
            found = f"FROM {parquet([self._found])} AS f"
            parts.append(f"{row}, true {found} INNER JOIN rules AS u USING (code)")
            if self.earlier:
                same = "u.row_key = f.row_key AND u.content_hash = f.content_hash AND starts_with(u.reason, 'customerio_')"
                parts.append(f"{row}, false {found} INNER JOIN {self.earlier} AS u ON {same} WHERE f.code = {REFUSED_BEFORE}")
        self._database.execute(
            f"CREATE TABLE rejections AS SELECT * FROM ({' UNION ALL '.join(parts)}) AS all_of_them "  # noqa: S608
            "(row_key, business_key, content_hash, contract, reason, column_name, message, is_attempt)"
        )


def _rules_table(rules: Sequence[Rule]) -> pa.Table:
    return pa.table(
        {
            "code": pa.array(np.arange(len(rules)) + FIRST_RULE, pa.int16()),
            "reason": pa.array([rule.reason for rule in rules], pa.string()),
            "column_name": pa.array([rule.column for rule in rules], pa.string()),
            "message": pa.array([rule.message for rule in rules], pa.string()),
        }
    )


def _refused_table(refused: Sequence[RefusedRow], business_keys: Mapping[int, str]) -> pa.Table:
    columns = {
        "row_key": [row.row_key for row in refused],
        "business_key": [business_keys[row.pos] for row in refused],
        "content_hash": [row.content_hash for row in refused],
        "reason": [f"customerio_{row.operation.reason or 'refused'}" for row in refused],
        "column_name": [row.operation.field.removeprefix("attributes.") or None for row in refused],
        "message": [f"Customer.io refused it: {row.operation.message or 'no message'}" for row in refused],
    }
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
