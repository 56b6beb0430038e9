"""Run a SELECT of the contract (a segment, a journey, a recomputation) and keep its rows as Parquet, in constant memory.

The times in it come from the caller, never from the warehouse's clock: `:now` and `:since` become TIMESTAMP literals in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from rs_cio_assets.contract.segments import TIME
from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Session


def at_times(query: str, times: Mapping[str, datetime]) -> str:
    """*query* with `:now` and `:since` as literals. *times* are aware. Raises: WarehouseRefused for one that is not given."""

    def literal(found: re.Match[str]) -> str:
        name = found[1]
        if not name:
            return found[0]
        if name not in times:
            raise WarehouseRefused(f"the query asks for :{name}, which is not given here", next_step="write it without")
        return sql.timestamp_literal(times[name].astimezone(UTC))

    return TIME.sub(literal, query)


def keep_answer(session: Session, query: str, times: Mapping[str, datetime], schema: pa.Schema, path: Path) -> int:
    """Write the rows of *query* to the Parquet file *path*; how many there are. Ends the transaction.

    The query must give the columns of *schema*, by name; others are not kept. Reads by DECLARE and FETCH.
    Raises: WarehouseRefused (bad SQL, no grant, a column missing, a value of another type), WarehouseUnavailable.
    """
    session.commit()
    select = at_times(query.rstrip().rstrip(";"), times)
    names = ", ".join(f"q.{sql.quoted(name)}" for name in schema.names)
    # The driver keeps the columns of a statement by its text: the same FETCH of other columns would be read wrongly.
    cursor = f"rs_cio_question_{uuid4().hex[:12]}"
    session.run(f"DECLARE {cursor} CURSOR FOR SELECT {names} FROM (\n{select}\n) AS q")  # noqa: S608 - the contract's own SQL
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while rows := session.fetch(f"FETCH FORWARD {session.fetch_rows} FROM {cursor}"):
            writer.write_batch(_batch(schema, list(zip(*rows, strict=True))))
            count += len(rows)
    session.run(f"CLOSE {cursor}")
    session.commit()
    return count


def _batch(schema: pa.Schema, columns: list[tuple[object, ...]]) -> pa.RecordBatch:
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        try:
            arrays.append(pa.array(values, field.type))
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            raise WarehouseRefused(
                f"column {field.name} of the query holds something else than {field.type}", next_step="cast it in the query's SQL"
            ) from None
    return pa.record_batch(arrays, schema=schema)
