"""SQL text from the contract: quoted names, a day's slice, a row as text. Values are bound by the callers.

Everything here is in the portable Redshift subset (reference/redshift.md section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from rs_cio_assets.contract.models import Column, ColumnType, Feed

# One VARCHAR holds 65,535 bytes in Redshift; longer columns are hashed before they are joined into one text.
_LONG_TEXT_BYTES = 1_000


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as a literal, for statements that take no bound values: UNLOAD, COPY, DECLARE."""
    return "'" + text.replace("'", "''") + "'"


def view_name(feed: Feed) -> str:
    """The export view, schema-qualified and quoted."""
    return f"{quoted(feed.view_schema)}.{quoted(feed.view_table)}"


def window_of(days: Sequence[str]) -> tuple[datetime, datetime]:
    """First moment of the first day and of the day after the last one; naive UTC. *days* are contiguous ISO days."""
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    if len(days) != (last - first).days + 1:
        raise ValueError("days must be contiguous")
    return datetime.combine(first, time()), datetime.combine(last + timedelta(days=1), time())


def slice_condition(feed: Feed, start: str = "%s", end: str = "%s") -> str:
    """Rows of a window: by their time, or by their load time where they have none, so that no row is lost.

    Takes *start*, *end* twice. Written with OR, so that Redshift can skip blocks by the time column.
    """
    moment, loaded = quoted(feed.time_column), quoted(feed.loaded_at)
    return f"(({moment} >= {start} AND {moment} < {end}) OR ({moment} IS NULL AND {loaded} >= {start} AND {loaded} < {end}))"


def day_expression(feed: Feed) -> str:
    """The UTC day that a row belongs to."""
    return f"CAST(DATE_TRUNC('day', COALESCE({quoted(feed.time_column)}, {quoted(feed.loaded_at)})) AS DATE)"


def row_text(feed: Feed) -> str:
    """All contract columns of a row as one text that differs when a value differs; NULL is not the empty text."""
    return " || CHR(31) || ".join(
        f"COALESCE('1' || {_column_text(quoted(name), column)}, '0')" for name, column in feed.columns.items()
    )


def timestamp_literal(moment: datetime) -> str:
    """A TIMESTAMP literal made from a datetime, for DECLARE, which takes no bound values."""
    return f"TIMESTAMP '{moment:%Y-%m-%d %H:%M:%S}'"


def _column_text(name: str, column: Column) -> str:
    if column.type is ColumnType.BOOLEAN:
        return f"CASE {name} WHEN TRUE THEN 't' WHEN FALSE THEN 'f' END"
    if column.type is ColumnType.TIMESTAMP:
        return f"TO_CHAR({name}, 'YYYYMMDDHH24MISSUS')"
    if column.type is ColumnType.JSON:
        return f"CASE WHEN {name} IS NOT NULL THEN MD5(JSON_SERIALIZE({name})) END"  # of NULL it makes the text null
    if column.type is ColumnType.STRING and (column.max_bytes or _LONG_TEXT_BYTES + 1) > _LONG_TEXT_BYTES:
        return f"MD5({name})"
    return f"CAST({name} AS VARCHAR)"
