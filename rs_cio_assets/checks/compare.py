"""Staged rows against what Customer.io reads back. Pure: no network, no Dagster.

Customer.io returns every attribute as a string (App API document, read 2026-09-17), so values are compared by meaning:
numbers as numbers, everything else as text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

from rs_cio_assets.contract.models import ColumnType, Feed

_NUMBERS = {ColumnType.INTEGER, ColumnType.DECIMAL, ColumnType.FLOAT, ColumnType.TIMESTAMP, ColumnType.DATE}


def differing_columns(
    feed: Feed, row: Mapping[str, Any], read_back: Mapping[str, Any], names: Sequence[str] | None = None
) -> tuple[str, ...]:
    """Those of *names* (default: every sent column) whose value in *row* (staged types) is not what *read_back* holds.

    A null that the contract omits says nothing about Customer.io and is passed over; a null that it clears must be gone.
    """
    return tuple(
        name
        for name in (feed.sent_columns if names is None else names)
        if not _is_same(feed.columns[name].type, row[name], read_back.get(name), feed.columns[name].on_null)
    )


def unix_seconds(value: datetime | date) -> int:
    """Whole seconds since 1970 UTC, floored; a date is its midnight UTC, a naive time is UTC."""
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() // 1)


def _is_same(kind: ColumnType, sent: Any, found: Any, on_null: str) -> bool:
    if sent is None:
        return on_null == "omit" or found in (None, "")
    if found is None:
        return False
    if kind in _NUMBERS:
        number = unix_seconds(sent) if isinstance(sent, date) else sent
        return _number(found) == Decimal(str(number))
    if kind is ColumnType.BOOLEAN:
        return str(found).lower() == str(sent).lower()
    if kind is ColumnType.JSON:
        return _json(found) == _json(sent)
    return str(found) == sent


def _number(text: Any) -> Decimal | None:
    try:
        return Decimal(str(text))
    except InvalidOperation:
        return None


def _json(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
