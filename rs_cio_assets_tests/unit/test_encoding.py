"""The set-based encoder against a plain row-by-row one: the same operations, the same rejections, for any rows."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_cio_assets.contract import Feed
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.staging import NOW, READ_AT, RecordingTrack, contract_of, deliver, feed_of, stage

DAY = date(2026, 11, 20)
START = datetime(2026, 11, 20, tzinfo=UTC)
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
COLUMNS: dict[str, dict[str, Any]] = {
    "order_id": {"type": "string"},
    "text": {"type": "string", "max_bytes": 40},
    "number": {"type": "integer", "minimum": -5, "maximum": 1_000_000},
    "amount": {"type": "decimal", "precision": 9, "scale": 2},
    "ratio": {"type": "float"},
    "is_new": {"type": "boolean"},
    "seen_at": {"type": "timestamp"},
    "born_on": {"type": "date"},
    "extra": {"type": "json"},
    "tier": {"type": "string", "values": ("a", "b'c")},
    "code": {"type": "string", "pattern": r"[A-Z]+\d?"},
}
EVENTS = feed_of("event", COLUMNS)
PEOPLE = feed_of("people", {name: {**c, "on_null": "clear" if i % 2 else "omit"} for i, (name, c) in enumerate(COLUMNS.items())})

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
broken_json = st.sampled_from(["{", "NaN", '{"a": Infinity}', "[1, -Infinity]", "", "{'a': 1}", "nan"])
rows = st.fixed_dictionaries(
    {
        "customer_id": st.sampled_from(["C0000001", "G7654321"]) | st.none() | texts,
        "time": st.timedeltas(timedelta(0), timedelta(days=1, microseconds=-1)).map(lambda t: START + t) | st.none() | moments,
        "text": st.none() | texts,
        "number": st.none() | st.integers(-10, 2_000_000),
        "amount": st.none() | st.decimals(-10_000_000, 10_000_000, places=2) | st.just(Decimal("1.005")),
        "ratio": st.none() | st.floats(),
        "is_new": st.none() | st.booleans(),
        "seen_at": st.none() | moments,
        "born_on": st.none() | st.dates(date(1800, 1, 1), date(2200, 1, 1)),
        "extra": st.none() | json_values.map(lambda v: json.dumps(v, ensure_ascii=False)) | broken_json,
        "tier": st.none() | st.sampled_from(["a", "b'c", "c"]),
        "code": st.none() | st.sampled_from(["AB", "AB1", "AB12", "", "ab"]),
    }
)


def ulid(name: str, key: str) -> str:
    """The event id, from its description alone."""
    digits = hashlib.sha256(f"{name}\x1f{key}".encode()).hexdigest()[:32]
    parts = ((digits[30:], 2), (digits[:15], 12), (digits[15:30], 12))
    return "".join(CROCKFORD[int(part, 16) >> 5 * n & 31] for part, width in parts for n in reversed(range(width)))


def expected(feed: Feed, row: Mapping[str, Any]) -> dict[str, Any] | str:
    """The operation of a row, or the reason why it has none, one row and one column at a time."""
    reason = _reason(feed, row)
    if reason:
        return reason
    attributes: dict[str, Any] = {}
    for name in feed.sent_columns:
        value = row[name]
        if value is None:
            if feed.columns[name].on_null == "clear":
                attributes[name] = None
            continue
        attributes[name] = _value(feed.columns[name].type.value, value)
    person = {"type": "person", "identifiers": {"id": row["customer_id"]}, "attributes": attributes}
    if feed.kind.value == "people":
        return {**person, "action": "identify", "timestamp": int(READ_AT.timestamp())}
    return {
        **person,
        "action": "event",
        "id": ulid("Order Completed", row["order_id"]),
        "name": "Order Completed",
        "timestamp": _seconds(row["occurred_at"]),
    }


def _seconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)


def _value(kind: str, value: Any) -> Any:
    if kind == "timestamp":
        return _seconds(value)
    if kind == "date":
        return _seconds(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if kind == "json":
        return json.loads(value, parse_float=Decimal)
    return Decimal(repr(value)) if kind == "float" else value


def _reason(feed: Feed, row: Mapping[str, Any]) -> str | None:
    identifier, time = row["customer_id"], row[feed.time_column]
    if identifier is None or not identifier.strip(" "):
        return "identifier_missing"
    if len(identifier.encode()) > 150:
        return "identifier_too_long"
    if not re.fullmatch("[CG][0-9]{7}", identifier, re.ASCII):
        return "identifier_shape"
    if time is None:
        return "time_missing"
    for is_bad, reason in (
        (time.year < 2000, "time_before_2000"),
        (time.year >= 2100, "time_in_milliseconds"),
        (time > NOW + timedelta(minutes=5), "time_in_future"),
        (time.date() != DAY, "time_outside_day"),
    ):
        if is_bad:
            return reason
    for check in (_text_reason, _number_reason, _amount_reason, _ratio_reason, _extra_reason, _listed_reason):
        if reason := check(feed, row):
            return reason
    return None


def _text_reason(_: Feed, row: Mapping[str, Any]) -> str | None:
    return "value_too_long" if row["text"] is not None and len(row["text"].encode()) > 40 else None


def _number_reason(_: Feed, row: Mapping[str, Any]) -> str | None:
    if row["number"] is None:
        return None
    return "below_minimum" if row["number"] < -5 else "above_maximum" if row["number"] > 1_000_000 else None


def _amount_reason(_: Feed, row: Mapping[str, Any]) -> str | None:
    amount = row["amount"]
    is_bad = amount is not None and (abs(amount) >= 10**7 or amount != round(amount, 2))
    return "too_many_digits" if is_bad else None


def _ratio_reason(_: Feed, row: Mapping[str, Any]) -> str | None:
    return "not_a_number" if row["ratio"] is not None and not math.isfinite(row["ratio"]) else None


def _extra_reason(feed: Feed, row: Mapping[str, Any]) -> str | None:
    if row["extra"] is None:
        return None
    try:
        json.loads(row["extra"], parse_constant=lambda name: float(f"no {name}"))
    except ValueError:
        return "json_invalid"
    return "value_too_long" if feed.kind.value == "people" and len(row["extra"].encode()) > 1000 else None


def _listed_reason(_: Feed, row: Mapping[str, Any]) -> str | None:
    if row["tier"] not in {None, "a", "b'c"}:
        return "undeclared_value"
    return "pattern_mismatch" if row["code"] is not None and not re.fullmatch(r"[A-Z]+[0-9]?", row["code"]) else None


@pytest.mark.parametrize("feed", [EVENTS, PEOPLE], ids=["event", "people"])
@settings(max_examples=40)
@given(drawn=st.lists(rows, min_size=1, max_size=12))
def test_operations_and_reasons_are_those_of_a_plain_encoder(feed: Feed, drawn: list[dict[str, Any]]):
    """Unicode, quotes, decimals, times before 1970, nested JSON, nulls, NaN: nothing differs from one row at a time."""
    staged = []
    for number, row in enumerate(drawn):
        identifier = row["customer_id"]
        if feed is PEOPLE and identifier in {"C0000001", "G7654321"}:
            identifier = f"{identifier[0]}{number:07d}"  # one row per person
        times = {feed.time_column: row["time"], "loaded_at": START}
        staged.append({**row, "customer_id": identifier, "order_id": f"O'{number}", **times})
    wanted = [expected(feed, row) for row in staged]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        store = LocalStore(scratch / "store")
        manifest = stage(store, feed, DAY.isoformat(), staged, scratch)
        track = RecordingTrack()
        report = deliver(feed, contract_of(feed), manifest, store, track.client(), scratch)
    assert report.is_conserved
    reasons = [reason for reason in wanted if isinstance(reason, str)]
    assert report.rejected_by_reason == {reason: reasons.count(reason) for reason in reasons}
    operations = [o for o in wanted if not isinstance(o, str)]
    key = json.dumps
    assert sorted(map(_comparable, track.operations), key=key) == sorted(map(_comparable, operations), key=key)


def _comparable(value: Any) -> Any:
    """Numbers by value, whatever their Python type."""
    if isinstance(value, dict):
        return {name: _comparable(inner) for name, inner in sorted(value.items())}
    if isinstance(value, list):
        return [_comparable(inner) for inner in value]
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return value
    return f"number {Decimal(str(value)).normalize()}"
