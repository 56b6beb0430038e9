"""A sample of rows that the ledger says were delivered, as they were staged: what a check compares with Customer.io."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.classify import staged_rows
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import ATTRIBUTES, compile_expressions, parquet, person_key, quoted, with_texts
from rs_cio_assets.delivery.ledger import ledger_files
from rs_cio_assets.delivery.people import acknowledged_keys
from rs_cio_assets.store import Store, load_manifest
from rs_cio_assets.store.manifest import staged_prefix


def sample_delivered(feed: Feed, contract: Contract, store: Store, days: Sequence[str], size: int) -> list[dict[str, Any]]:
    """At most *size* rows of *days*, drawn anew by each call: the contract's columns, and `day` (ISO).

    Only rows that Customer.io should hold now: acknowledged, staged with the same content, for a person the latest
    acknowledgement of all *days*, and of nobody who was merged away, deleted or suppressed.
    """
    expressions = compile_expressions(feed, contract, 0)
    columns = ", ".join(quoted(name) for name in feed.columns)
    with tempfile.TemporaryDirectory(prefix="rs-cio-") as folder, open_database() as database:
        database.execute("CREATE TABLE notes (day VARCHAR, row_key VARCHAR, content_hash VARCHAR, acknowledged_at TIMESTAMPTZ)")
        for day in days:
            if files := ledger_files(store, feed.name, day, Path(folder)):
                database.execute(
                    f"INSERT INTO notes SELECT ?, row_key, content_hash, acknowledged_at FROM {parquet(files)}",  # noqa: S608
                    [day],
                )
        database.execute(
            """
            CREATE TABLE sampled AS
            SELECT row_key, arg_max(day, acknowledged_at) AS day, arg_max(content_hash, acknowledged_at) AS content_hash
            FROM notes GROUP BY row_key ORDER BY md5(row_key || ?) LIMIT ?
            """,
            [uuid4().hex, size],
        )
        gone = "".join(
            f" ANTI JOIN {acknowledged_keys(database, store, other, Path(folder))} AS {other.name} "
            f"ON {other.name}.row_key = {person_key(other, quoted(feed.identifier))}"
            for other in contract.feeds_of(FeedKind.MERGE, FeedKind.DELETION, FeedKind.SUPPRESSION)
        )
        rows: list[Mapping[str, Any]] = []
        for (day,) in database.execute("SELECT DISTINCT day FROM sampled ORDER BY day").fetchall():
            manifest = load_manifest(store, feed.name, day)
            stored = set(store.list(staged_prefix(feed.name, day)))
            if manifest is None or not manifest.files or not all(file.key in stored for file in manifest.files):
                continue  # never exported, empty, or its staged files have expired
            staged = staged_rows({n: store.fetch(file.key, Path(folder)) for n, file in enumerate(manifest.files)})
            found = database.sql(
                f"""
                WITH staged AS (
                    SELECT {columns}, {expressions.row_key} AS row_key, {expressions.content_hash} AS content_hash
                    FROM (SELECT *, {expressions.attributes} AS {ATTRIBUTES} FROM {with_texts(expressions, staged)})
                )
                SELECT {columns} FROM staged
                SEMI JOIN (SELECT * FROM sampled WHERE day = ?) AS wanted USING (row_key, content_hash) {gone}
                """,  # noqa: S608
                params=[day],
            )
            rows += [{**row, "day": day} for row in found.to_arrow_table().to_pylist()]
    return [{name: _utc(value) for name, value in row.items()} for row in rows]


def _utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value
