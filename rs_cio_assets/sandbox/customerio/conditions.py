"""Data-driven conditions on people and their events, as SQL over the row `people`, and on one event's data.

The JSON is our own: Customer.io publishes none, since conditions are made in its pages. Choices where nothing is published: `ne`
holds for who lacks the attribute; an event within so many days is one that has happened. Source of the rest: customerio-api.md,
section 9.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rs_cio_assets.sandbox.customerio.rules import LATEST_SECONDS

Fragment = tuple[str, list[Any]]  # boolean SQL that is never null, and the values of its question marks
MAX_DEPTH, MAX_PARTS = 20, 40  # of conditions within each other, and of one list; SQLite takes expressions 1,000 deep
DAY_S = 86_400
_COMPARED = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = frozenset({"eq", "ne", "contains", "exists", *_COMPARED})
_TIMED = {"before": "<", "after": ">="}
_PLAIN_FIELD = re.compile(r"[^\"\\\x00-\x1f]+")  # what a JSON path can name
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_SECONDS_DIGITS = len(str(LATEST_SECONDS)) - 1
# A JSON value as the text that Customer.io keeps: booleans by name, null as nothing.
_TEXT = "CASE {type} WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST({value} AS TEXT) END"


def condition_problems(node: Any) -> list[str]:
    """Why a condition is refused; empty when it is one."""
    return list(_problems(node, 1))


def condition_sql(node: Any, now: int, segments: Callable[[int], Fragment | None]) -> Fragment:
    """The condition at the time *now*, for `SELECT ... FROM people WHERE (<sql>)`.

    *segments* gives the same for a segment's members; None (there is none) is never met. Raises: ValueError for what
    `condition_problems` refuses.
    """
    if problems := condition_problems(node):
        raise ValueError("; ".join(problems))
    return _sql(node, now, segments)


def segments_in(node: Any) -> set[int]:
    """Ids of the segments that an accepted condition names."""
    ((kind, value),) = node.items()
    if kind == "segment":
        return {value["id"]}
    parts = value if kind in {"and", "or"} else [value] if kind == "not" else []
    return {segment_id for part in parts for segment_id in segments_in(part)}


def where_problems(where: Any) -> list[str]:
    """Why conditions on an event's data are refused: `{field: {operator: value, ...}, ...}`."""
    if not isinstance(where, dict):
        return ["where must be an object of fields"]
    problems = []
    for field, tests in where.items():
        if not _PLAIN_FIELD.fullmatch(field):
            problems.append("a field in where must be a name without quotes and backslashes")
        if not isinstance(tests, dict) or not tests:
            problems.append(f"where {field} must be an object of operators")
        else:
            problems += [f"where {field}: {text}" for name, value in tests.items() for text in _value_problems(name, value)]
    return problems


def data_matches(where: Mapping[str, Mapping[str, Any]], data: Mapping[str, Any]) -> bool:
    """True when an event's data meets every test; the same answer as the SQL gives."""
    return all(_holds(name, data.get(field), value) for field, tests in where.items() for name, value in tests.items())


def _problems(node: Any, depth: int) -> Iterator[str]:
    if not isinstance(node, Mapping) or len(node) != 1 or depth > MAX_DEPTH:
        yield f"a condition must be an object with exactly one member, at most {MAX_DEPTH} within each other"
        return
    ((kind, value),) = node.items()
    if kind == "not":
        yield from _problems(value, depth + 1)
    elif kind in {"and", "or"}:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_PARTS:
            yield f"{kind} must be a list of 1 to {MAX_PARTS} conditions"
            return
        for part in value:
            yield from _problems(part, depth + 1)
    elif not isinstance(value, Mapping):
        yield f"{kind} must be an object"
    elif kind == "segment":
        if set(value) != {"id"} or type(value["id"]) is not int:
            yield "segment must hold an id, a number"
    elif kind == "attribute":
        yield from _attribute_problems(value)
    elif kind == "event":
        yield from _event_problems(value)
    else:
        yield "a condition is one of and, or, not, segment, attribute, event"


def _attribute_problems(node: Mapping[str, Any]) -> Iterator[str]:
    operator = node.get("operator")
    if not isinstance(node.get("field"), str):
        yield "an attribute condition must name its field"
    if isinstance(operator, str) and operator in _TIMED:
        if set(node) != {"field", "operator", "days_ago"} or not _is_days(node["days_ago"]):
            yield f"{operator} takes days_ago, a number that is not negative"
    elif operator == "exists":
        if set(node) - {"value"} != {"field", "operator"}:  # the published filter allows a value, which means nothing
            yield "exists takes a field only"
    elif "value" not in node or set(node) != {"field", "operator", "value"}:
        yield "an attribute condition holds field, operator and value"
    else:
        yield from _value_problems(operator, node["value"])


def _event_problems(node: Mapping[str, Any]) -> Iterator[str]:
    if unknown := set(node) - {"name", "within_days", "at_least", "where"}:
        yield f"an event condition has no {', '.join(sorted(unknown))}"
    if not isinstance(node.get("name"), str):
        yield "an event condition must name its event"
    if "within_days" in node and not _is_days(node["within_days"]):
        yield "within_days must be a number that is not negative"
    at_least = node.get("at_least", 1)
    if type(at_least) is not int or not 1 <= at_least < LATEST_SECONDS:
        yield "at_least must be a whole number from 1"
    yield from where_problems(node.get("where", {}))


def _value_problems(operator: Any, value: Any) -> Iterator[str]:
    if not isinstance(operator, str) or operator not in _OPERATORS:
        yield f"an operator is one of {', '.join(sorted(_OPERATORS | set(_TIMED)))}"
    elif operator == "exists":
        if not isinstance(value, bool):
            yield "exists takes true or false"
    elif operator in _COMPARED:
        if _number(_text(value)) is None:
            yield f"{operator} takes a number"
    elif not isinstance(value, str | int | float | bool):
        yield f"{operator} takes a text, a number or a boolean"


def _is_days(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LATEST_SECONDS


def _sql(node: Any, now: int, segments: Callable[[int], Fragment | None]) -> Fragment:
    ((kind, value),) = node.items()
    if kind == "not":
        inner, values = _sql(value, now, segments)
        return f"NOT ({inner})", values
    if kind in {"and", "or"}:
        parts = [_sql(part, now, segments) for part in value]
        return f" {kind.upper()} ".join(f"({sql})" for sql, _ in parts), [v for _, vs in parts for v in vs]
    if kind == "segment":
        return segments(value["id"]) or ("0", [])
    return _event_sql(value, now) if kind == "event" else _attribute_sql(value, now)


def _attribute_sql(node: Mapping[str, Any], now: int) -> Fragment:
    operator, field = node["operator"], node["field"]
    if operator in _TIMED:  # whole unix seconds only: milliseconds and ISO texts never match
        is_seconds = f"v <> '' AND v NOT GLOB '*[^0-9]*' AND length(v) <= {_SECONDS_DIGITS}"
        test = f"ifnull({is_seconds} AND CAST(v AS INTEGER) {_TIMED[operator]} ?, 0)"
        values = [now - node["days_ago"] * DAY_S]
    else:
        test, values = _test(operator, True if operator == "exists" else node["value"])
    attribute, path = "SELECT (SELECT value FROM json_each(people.attributes) WHERE key = ?) AS v", [field]
    if field == "id":
        attribute, path = "SELECT people.id AS v", []
    elif _PLAIN_FIELD.fullmatch(field):
        attribute, path = "SELECT json_extract(people.attributes, ?) AS v", [f'$."{field}"']
    return f"(SELECT {test} FROM ({attribute}))", [*values, *path]  # noqa: S608 - parts of this file only


def _event_sql(node: Mapping[str, Any], now: int) -> Fragment:
    """Counted in the index activities_by_person, which holds all but the data; at most as many as are asked for."""
    conditions = ["a.cio_id = people.cio_id", "a.type = 'event'", "a.name = ?"]
    values: list[Any] = [node["name"]]
    if "within_days" in node:
        conditions.append("a.timestamp BETWEEN ? AND ?")
        values += [now - node["within_days"] * DAY_S, now]
    for field, tests in node.get("where", {}).items():
        for operator, value in tests.items():
            test, test_values = _data_sql(f'$."{field}"', operator, value)
            conditions.append(test)
            values += test_values
    found = f"SELECT 1 FROM activities AS a WHERE {' AND '.join(conditions)} LIMIT 1 OFFSET ?"  # noqa: S608 - as above
    return f"EXISTS ({found})", [*values, node.get("at_least", 1) - 1]


def _data_sql(path: str, operator: str, value: Any) -> Fragment:
    """One test of a member of the event's data; a list contains what is one of its items."""
    text = _TEXT.format(type="t", value="j")
    test, values = _test(operator, value)
    if operator == "contains":
        item = _TEXT.format(type="type", value="value")
        within = f"SELECT 1 FROM json_each(a.data, ?) WHERE {item} = ?"  # noqa: S608 - as above
        test, values = f"CASE t WHEN 'array' THEN EXISTS ({within}) ELSE {test} END", [path, _text(value), *values]
    member = "SELECT json_type(a.data, ?) AS t, json_extract(a.data, ?) AS j"
    return f"(SELECT {test} FROM (SELECT t, {text} AS v FROM ({member})))", [*values, path, path]  # noqa: S608 - as above


def _test(operator: str, value: Any) -> Fragment:
    """An operator over the column v, a text or null."""
    if operator == "exists":
        return ("v IS NOT NULL" if value else "v IS NULL"), []
    if operator in _COMPARED:
        is_number = "json_type(v) IN ('integer', 'real')"
        return f"ifnull(CASE WHEN json_valid(v) THEN {is_number} AND v + 0 {_COMPARED[operator]} ? END, 0)", [
            _number(_text(value))
        ]
    if operator == "contains":
        return "ifnull(instr(v, ?) > 0, 0)", [_text(value)]
    return ("v IS ?" if operator == "eq" else "v IS NOT ?"), [_text(value)]


def _holds(operator: str, held: Any, value: Any) -> bool:
    """The same in Python, for one member of an event's data."""
    text, wanted = _text(held), _text(value)
    if operator == "exists":
        return (text is not None) is value
    if operator == "contains":
        return wanted in [_text(item) for item in held] if isinstance(held, list) else text is not None and str(wanted) in text
    if operator in _COMPARED:
        number, bound = _number(text), _number(wanted)
        if number is None or bound is None:
            return False
        return {"gt": number > bound, "gte": number >= bound, "lt": number < bound, "lte": number <= bound}[operator]
    return (text == wanted) is (operator == "eq")


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _number(text: str | None) -> int | float | None:
    """The number that a text spells as JSON does; None for any other text."""
    if text is None or not _NUMBER.fullmatch(text := text.strip(" \t\r\n")):
        return None
    number = float(text)
    is_exact = text.lstrip("-").isdecimal() and math.fabs(number) < 2**63
    return int(text) if is_exact else number
