"""The table of people in whom a segment and the warehouse differ, for those who want to query it: `cio_sync.segment_differences`.

It holds each segment's last comparison. Whoever may not create it here can have an administrator do so, and needs INSERT, DELETE
and SELECT on it then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.log_schema import SEGMENT_DIFFERENCES, create_table

DIFFERENCES = SEGMENT_DIFFERENCES.full_name
KEPT = timedelta(days=30)  # of segments that nobody compares any more
ROWS_PER_INSERT = 2_000  # of five bound values: the wire counts them in 16 bits


def write_differences(session: Session, segment: str, checked_at: datetime, rows: Iterable[Sequence[object]]) -> None:
    """Replace the rows of *segment* by *rows* (customer_id, side: missing or extra, is_in_flight), in one transaction.

    Raises: WarehouseRefused (a grant is missing), WarehouseUnavailable; the table is then as it was.
    """
    session.commit()
    create_table(session, SEGMENT_DIFFERENCES)
    moment = checked_at.astimezone(UTC).replace(tzinfo=None, microsecond=0)
    session.run(f"DELETE FROM {DIFFERENCES} WHERE segment = %s OR checked_at < %s", (segment, moment - KEPT))  # noqa: S608 - fixed
    remaining = iter(rows)
    while chunk := list(islice(remaining, ROWS_PER_INSERT)):
        marks = ", ".join(["(%s, %s, %s, %s, %s)"] * len(chunk))
        values = [value for row in chunk for value in (segment, moment, *row)]
        session.run(f"INSERT INTO {DIFFERENCES} ({', '.join(SEGMENT_DIFFERENCES.columns)}) VALUES {marks}", values)  # noqa: S608 - values are bound
    session.commit()
