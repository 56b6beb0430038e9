"""Staged rows against what Customer.io reads back. Pure: no network, no Dagster.

Customer.io returns every attribute as a string (App API document, read 2026-09-17), and does not say how it returns an event's
properties. So values are compared by meaning: numbers as numbers, JSON as JSON, everything else as text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from rs_cio_assets.contract.models import ColumnType, Feed, FeedKind
from rs_cio_assets.customerio import Activity

_NUMBERS = {ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT, ColumnType.TIMESTAMP, ColumnType.DATE}
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def differing_columns(
    feed: Feed, row: Mapping[str, Any], read_back: Mapping[str, Any], names: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Those of *names* (default: every sent column) whose value in *row* (staged types) is not what *read_back* holds.

    A null that the contract omits says nothing about Customer.io and is passed over; a null that it clears must be gone, and
    so must a person's empty text or JSON null: Customer.io removes an attribute that is set to either.
    """
    removes_empty = feed.kind is FeedKind.PEOPLE
    return tuple(
        name
        for name in (feed.sent_columns if names is None else names)
        if not _is_same(feed.columns[name].type, row[name], read_back.get(name), feed.columns[name].on_null, removes_empty)
    )


def is_this_event(feed: Feed, row: Mapping[str, Any], event: Activity) -> bool:
    """True when the business key agrees; a key column that is the event's time is compared as such."""
    sent = tuple(name for name in feed.key_columns if name in feed.sent_columns)
    is_same_time = event.timestamp == unix_seconds(row[feed.time_column])
    return not differing_columns(feed, row, event.data, sent) and (is_same_time or len(sent) == len(feed.key_columns))


def unix_seconds(value: datetime | date) -> int:
    """Whole seconds since 1970 UTC, floored; a date is its midnight UTC, a naive time is UTC."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)  # whole numbers: a float rounds year 9999 up


def _is_same(kind: ColumnType, sent: Any, found: Any, on_null: str, removes_empty: bool) -> bool:
    if sent is None:
        return on_null == "omit" or found in (None, "")
    if kind is ColumnType.JSON:
        sent = json.loads(sent)
    if found in (None, ""):
        return sent == found or (removes_empty and sent in (None, ""))
    if kind in _NUMBERS:
        return _number(found) == Decimal(str(unix_seconds(sent) if isinstance(sent, date) else sent))
    if kind is ColumnType.BOOLEAN:
        return str(found).lower() == str(sent).lower()
    if kind is ColumnType.JSON and not isinstance(sent, str):
        return _canonical(_json(found)) == _canonical(sent)
    return str(found) == sent


def _number(value: Any) -> Decimal | None:
    """A number, or the text of one; None for anything else."""
    text = str(value)
    return Decimal(text) if _NUMBER.fullmatch(text) else None


def _json(value: Any) -> Any:
    """What a text says as JSON; what is none already stays as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _canonical(value: Any) -> Any:
    """*value* so that equal JSON is equal in Python: true is not 1 there, and 1 is 1.0."""
    if isinstance(value, dict):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    return ("boolean", value) if isinstance(value, bool) else value
