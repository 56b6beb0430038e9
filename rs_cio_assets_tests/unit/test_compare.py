"""What Customer.io reads back against what was sent: equal in meaning is equal, and a changed value never is."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rs_cio_assets.checks.compare import differing_columns, unix_seconds
from rs_cio_assets.contract import Feed
from rs_cio_assets_tests.staging import feed_of

TYPES: dict[str, dict[str, Any]] = {
    "string": {},
    "integer": {},
    "decimal": {"precision": 20, "scale": 4},
    "float": {},
    "boolean": {},
    "timestamp": {},
    "date": {},
    "json": {},
}
COLUMNS = {f"a_{kind}": {"type": kind, **options} for kind, options in TYPES.items()}
PEOPLE = feed_of("people", {name: {**column, "on_null": "clear"} for name, column in COLUMNS.items()})
EVENTS = feed_of("event", {"order_id": {"type": "string"}, **COLUMNS})
KEEPING = feed_of("people", COLUMNS)  # nulls are omitted

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "string": texts | st.sampled_from(["1", "true", "null", " ", "1.0", '{"a": 1}']),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "decimal": st.decimals(-(10**15), 10**15, places=4),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "timestamp": st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999), timezones=st.just(UTC)),  # noqa: DTZ001
    "date": st.dates(),
    "json": json_values.map(lambda value: json.dumps(value, ensure_ascii=False)),
}
drawn = st.sampled_from(sorted(TYPES)).flatmap(lambda kind: st.tuples(st.just(kind), VALUES[kind]))


def plain_seconds(moment: datetime) -> int:
    """Unix seconds, floored, from the calendar alone (no division of floats)."""
    days = moment.toordinal() - date(1970, 1, 1).toordinal()
    return days * 86_400 + moment.hour * 3600 + moment.minute * 60 + moment.second


def on_the_wire(kind: str, value: Any) -> Any:
    """The JSON value that an operation holds: what an event's properties read back as."""
    if kind == "timestamp":
        return plain_seconds(value)
    if kind == "date":
        return plain_seconds(datetime(value.year, value.month, value.day, tzinfo=UTC))
    if kind == "json":
        return json.loads(value)
    return value


def as_attribute(kind: str, value: Any) -> str | None:
    """The text that a profile reads back; None where Customer.io removes the attribute (null and the empty text)."""
    wire = on_the_wire(kind, value)
    if isinstance(wire, Decimal):
        return str(wire)
    if wire is None or wire == "":
        return None
    return wire if isinstance(wire, str) else json.dumps(wire, ensure_ascii=False, separators=(",", ":"))


def differing(feed: Feed, kind: str, sent: Any, found: Any) -> bool:
    """True when the column of that type is said to differ."""
    name = f"a_{kind}"
    return differing_columns(feed, {name: sent}, {} if found is None else {name: found}, [name]) == (name,)


@given(drawn)
@example(("timestamp", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)))
@example(("string", ""))
@example(("json", '"1"'))
@example(("json", '"true"'))
@example(("json", "null"))
def test_what_was_sent_equals_what_reads_back(value: tuple[str, Any]):
    """Every value of every type equals the text of a profile and the property of an event that it becomes."""
    kind, sent = value
    assert not differing(PEOPLE, kind, sent, as_attribute(kind, sent))
    assert not differing(EVENTS, kind, sent, on_the_wire(kind, sent))


@given(drawn, st.data())
@example(("string", "1"), None)
def test_a_changed_value_never_equals(value: tuple[str, Any], data: st.DataObject | None):
    """Another value of the same type is a difference, on a profile as in an event."""
    kind, sent = value
    other = "1.0" if data is None else data.draw(VALUES[kind])
    assume(_meaning(kind, sent) != _meaning(kind, other))
    if as_attribute(kind, sent) != as_attribute(kind, other):  # a profile cannot tell null from an empty text
        assert differing(PEOPLE, kind, sent, as_attribute(kind, other)) or _reads_the_same(kind, sent, other)
    if on_the_wire(kind, other) is not None or on_the_wire(kind, sent) is not None:
        assert differing(EVENTS, kind, sent, on_the_wire(kind, other)) or _reads_the_same(kind, sent, other)


def _meaning(kind: str, value: Any) -> Any:
    """Equal exactly for values that Customer.io cannot tell apart when they are sent."""
    wire = on_the_wire(kind, value)
    return json.dumps(_numbers(wire), sort_keys=True) if kind == "json" else wire


def _numbers(value: Any) -> Any:
    """JSON with every number as one kind of number: 1 and 1.0 are the same there."""
    if isinstance(value, dict):
        return {name: _numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_numbers(inner) for inner in value]
    return {"number": float(value)} if isinstance(value, int | float) and not isinstance(value, bool) else value


def _reads_the_same(kind: str, sent: Any, other: Any) -> bool:
    """The text "1" and the number 1 in a JSON column are one attribute in Customer.io, which keeps text; no more is excused."""
    return kind == "json" and _as_json(as_attribute(kind, sent)) == _as_json(as_attribute(kind, other))


def _as_json(text: str | None) -> Any:
    try:
        return _numbers(json.loads(text or "null"))
    except ValueError:
        return text


@pytest.mark.parametrize(
    ("kind", "sent", "found"),
    [
        ("integer", 12, "12 "),
        ("integer", 12, "1_2"),
        ("integer", 12, "１２"),  # noqa: RUF001 - other digits are another text
        ("integer", 1, "true"),
        ("integer", 1, True),
        ("float", 1.0, "sNaN"),
        ("float", 1.0, "Infinity"),
        ("decimal", Decimal("9.90"), "9.91"),
        ("decimal", Decimal("9.90"), "9,90"),
        ("timestamp", datetime(2026, 11, 20, 12, tzinfo=UTC), "2026-11-20T12:00:00Z"),
        ("timestamp", datetime(2026, 11, 20, 12, tzinfo=UTC), "1763640000000"),
        ("boolean", True, "1"),
        ("boolean", False, ""),
        ("json", "[1]", "[true]"),
        ("json", '{"a": 1}', '{"a": "1"}'),
        ("json", '{"a": 1}', "{'a': 1}"),
        ("string", "gold", "Gold"),
        ("string", "gold", None),
        ("integer", 0, None),
        ("integer", 0, ""),
    ],
)
def test_what_only_looks_alike_is_a_difference(kind: str, sent: Any, found: Any):
    """Stray blanks, other digits, other spellings of a time, milliseconds, 1 for true, a missing value: each is told."""
    assert differing(PEOPLE, kind, sent, found)


@pytest.mark.parametrize(
    ("kind", "sent", "found"),
    [
        ("decimal", Decimal("9.9000000000"), "9.9"),
        ("decimal", Decimal("9.90"), 9.9),
        ("float", 1e22, "1e+22"),
        ("float", 0.1, "0.1"),
        ("boolean", True, "true"),
        ("boolean", True, True),
        ("json", '{"a": [1, 2.0]}', '{"a":[1.0,2]}'),
        ("timestamp", datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC), "-1"),
        # The date command's own example of an epoch, and POSIX's: 1,000,000,000 s is 2001-09-09 01:46:40 UTC.
        ("timestamp", datetime(2001, 9, 9, 3, 46, 40, tzinfo=timezone(timedelta(hours=2))), "1000000000"),
        ("date", date(1970, 1, 2), "86400"),
    ],
)
def test_other_spellings_of_the_same_value_are_no_difference(kind: str, sent: Any, found: Any):
    """Trailing zeros, exponents, numbers as numbers or text, times of another zone: the same value is the same."""
    assert not differing(PEOPLE, kind, sent, found)


@pytest.mark.parametrize("kind", sorted(TYPES))
def test_a_null_is_passed_over_or_must_be_gone_as_the_contract_says(kind: str):
    """Omitted nulls say nothing about Customer.io; a cleared attribute that is still there is a difference."""
    assert not differing(KEEPING, kind, None, "something")
    assert differing(PEOPLE, kind, None, "something")
    assert not differing(PEOPLE, kind, None, None)


def test_every_sent_column_is_compared_and_no_other():
    """Without names, all sent columns are looked at, in contract order; identifier and times are not attributes."""
    row = {"customer_id": "C0000001", "updated_at": None, "loaded_at": None, **dict.fromkeys(COLUMNS, None)}
    found = {"updated_at": "1", "loaded_at": "1", **dict.fromkeys(COLUMNS, "left")}
    assert differing_columns(PEOPLE, row, found) == tuple(COLUMNS)


@given(VALUES["timestamp"])
@example(datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC))
def test_seconds_are_floored_and_never_rounded(moment: datetime):
    """A microsecond before a second is still the second before, in year 1 as in year 9999."""
    assert unix_seconds(moment) == unix_seconds(moment.replace(tzinfo=None)) == plain_seconds(moment)
