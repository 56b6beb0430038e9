"""The table of people in whom a segment and the warehouse differ, for those who want to query it: `cio_sync.segment_differences`.

It holds each segment's last comparison. Whoever may not create it here can have an administrator do so, and needs INSERT, DELETE
and SELECT on it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from rs_cio_assets.warehouse.connection import Session

SCHEMA, TABLE = "cio_sync", "segment_differences"
DIFFERENCES = f"{SCHEMA}.{TABLE}"
KEPT = timedelta(days=30)  # of segments that nobody compares any more
ROWS_PER_INSERT = 2_000  # of five bound values: the wire counts them in 16 bits
_COLUMNS = "segment VARCHAR(256), checked_at TIMESTAMP, customer_id VARCHAR(256), side VARCHAR(16), is_in_flight BOOLEAN"


def write_differences(session: Session, segment: str, checked_at: datetime, rows: Iterable[Sequence[object]]) -> None:
    """Replace the rows of *segment* by *rows* (customer_id, side: missing or extra, is_in_flight), in one transaction.

    Raises: WarehouseRefused (a grant is missing), WarehouseUnavailable; the table is then as it was.
    """
    session.commit()
    if not session.fetch("SELECT 1 FROM pg_tables WHERE schemaname = %s AND tablename = %s", (SCHEMA, TABLE)):
        session.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        session.run(f"CREATE TABLE IF NOT EXISTS {DIFFERENCES} ({_COLUMNS})")
        session.commit()
    moment = checked_at.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    session.run(f"DELETE FROM {DIFFERENCES} WHERE segment = %s OR checked_at < %s", (segment, moment - KEPT))  # noqa: S608 - fixed
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS_PER_INSERT)):
        marks = ", ".join(["(%s, %s, %s, %s, %s)"] * len(chunk))
        values = [value for row in chunk for value in (segment, moment, *row)]
        session.run(f"INSERT INTO {DIFFERENCES} VALUES {marks}", values)  # noqa: S608 - values are bound
    session.commit()
