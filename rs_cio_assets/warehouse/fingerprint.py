"""What a day holds now, in one aggregate query: row count, newest load time, a checksum of the content."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, timedelta

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Fingerprint
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Session

EMPTY = Fingerprint(rows=0, latest_loaded_at=None, checksum="0")


def read_fingerprints(session: Session, feed: Feed, days: Sequence[str]) -> dict[str, Fingerprint]:
    """The fingerprint of each of *days* (contiguous ISO days), in one query. Days without rows are there with 0.

    Two fingerprints are comparable when the same engine computed them over the same contract columns. The checksum sums 60
    bits of each row's MD5, so it does not depend on the order of rows.
    """
    start, end = sql.window_of(days)
    # Names come quoted from the contract; values are bound.
    found = session.fetch(
        f"""SELECT TO_CHAR({sql.day_expression(feed)}, 'YYYY-MM-DD'),
                   COUNT(*),
                   MAX({sql.quoted(feed.loaded_at)}),
                   SUM(CAST(STRTOL(SUBSTRING(MD5({sql.row_text(feed)}), 1, 15), 16) AS DECIMAL(38, 0)))
            FROM {sql.view_name(feed)}
            WHERE {sql.slice_condition(feed)}
            GROUP BY 1""",  # noqa: S608
        (start, end, start, end),
    )
    fingerprints = dict.fromkeys(days, EMPTY)
    for day, rows, loaded_at, checksum in found:
        aware = loaded_at if loaded_at is None or loaded_at.tzinfo else loaded_at.replace(tzinfo=UTC)
        fingerprints[day] = Fingerprint(int(rows), aware, str(checksum))
    return fingerprints


def newest_day_with_rows(session: Session, feed: Feed, first: str, last: str) -> str | None:
    """The newest of the days *first* to *last* (ISO, UTC) of which the view has a row; None where it has none."""
    start, end = date.fromisoformat(first), date.fromisoformat(last) + timedelta(days=1)
    found = session.fetch(
        f"SELECT TO_CHAR(MAX({sql.day_expression(feed)}), 'YYYY-MM-DD') FROM {sql.view_name(feed)} "  # noqa: S608
        f"WHERE {sql.slice_condition(feed)}",
        (start, end, start, end),
    )
    return found[0][0]


def count_undated(session: Session, feed: Feed) -> int:
    """Rows of the view with neither a time nor a load time: they belong to no day and no export reads them."""
    rows = session.fetch(
        f"SELECT COUNT(*) FROM {sql.view_name(feed)} "  # noqa: S608
        f"WHERE {sql.quoted(feed.time_column)} IS NULL AND {sql.quoted(feed.loaded_at)} IS NULL"
    )
    return int(rows[0][0])


def count_rows(session: Session, feed: Feed) -> int:
    """All rows of the view, of any day."""
    return int(session.fetch(f"SELECT COUNT(*) FROM {sql.view_name(feed)}")[0][0])  # noqa: S608
