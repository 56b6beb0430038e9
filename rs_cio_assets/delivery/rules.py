"""Why a row may not be sent: the contract's rules as DuckDB conditions, in the order in which they are reported.

A row gets the first rule it breaks. Every rule names its column and what to do; none repeats a value.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from rs_cio_assets.contract.models import (
    MAX_ATTRIBUTE_VALUE_BYTES,
    MAX_IDENTIFIER_BYTES,
    Column,
    ColumnType,
    Contract,
    Feed,
    FeedKind,
)
from rs_cio_assets.customerio import OPERATION_BYTES
from rs_cio_assets.delivery.expressions import MAX_JSON_DEPTH, literal, look_of, quoted, text_of, unused_digits

FUTURE_TOLERANCE = timedelta(minutes=5)
STAGED_WHOLE_DIGITS = 28  # a staged decimal, DECIMAL(38, 10), has no more: such a number does not get here
_EARLIEST = datetime(2000, 1, 1)  # noqa: DTZ001 - a bound in UTC, compared as microseconds
_LATEST = datetime(2100, 1, 1)  # noqa: DTZ001
_MEND_VIEW = "Mend the view's SQL, or filter such rows there."


@dataclass(frozen=True)
class Rule:
    """One reason to reject a row: *condition* is true for the rows that break it; null means it holds."""

    reason: str
    column: str | None
    condition: str
    message: str


DUPLICATE_DIFFERS = Rule(
    "duplicate_key_differs",
    None,
    "false",
    "Several rows of this day share the business key and differ, so none of them was sent. Look for a join in the view that "
    "multiplies rows, or add a column to business_key.",
)
PERSON_UNKNOWN = Rule(
    "person_unknown",
    None,
    "false",
    "The people view has no deliverable row of this person, and Customer.io would make a bare profile, or pass over a merge. Add "
    "the person to the view or mend their row, or set unknown_person in the contract, and run the day again.",
)
PERSON_DELETED = Rule(
    "person_deleted",
    None,
    "false",
    "The person was deleted after this row's time; sending it would make a new profile of them. Leave deleted people out of the "
    "view.",
)
PERSON_MERGED = Rule(
    "person_merged",
    None,
    "false",
    "This identifier was merged into another person; sending the row would make a second profile. Give the identifier that "
    "stayed in the view.",
)
# Rules over more than the row itself; the engine finds who breaks them.
FOUND_BY_ENGINE = (DUPLICATE_DIFFERS, PERSON_UNKNOWN, PERSON_DELETED, PERSON_MERGED)
OPERATION_TOO_LARGE = "operation_too_large"


def compile_rules(feed: Feed, contract: Contract, day: date | None, now: datetime) -> tuple[Rule, ...]:
    """All rules of *feed* for rows of *day* (None: of any day). FOUND_BY_ENGINE and the size of an operation come on top."""
    people = (feed.identifier, feed.merged_column) if feed.merged_column else (feed.identifier,)
    return (
        *(rule for name in people for rule in _identifier_rules(name, contract)),
        *_kind_rules(feed),
        *_key_rules(feed),
        *_time_rules(feed, day, now),
        *(rule for name, column in feed.columns.items() for rule in _column_rules(feed, contract, name, column)),
    )


def size_rule(feed: Feed) -> Rule:
    """An operation that Customer.io would refuse for its size; the engine measures it."""
    texts = [n for n in feed.sent_columns if feed.columns[n].type in {ColumnType.STRING, ColumnType.JSON}]
    suspects = ", ".join(texts) or "the sent columns"
    return Rule(
        OPERATION_TOO_LARGE,
        None,
        "false",
        f"The whole operation is larger than {OPERATION_BYTES:,} bytes. Shorten the largest of {suspects}, "
        "or set is_sent: false for it in the contract.",
    )


def _identifier_rules(name: str, contract: Contract) -> Iterator[Rule]:
    column, shape = quoted(name), contract.workspace.identifier.pattern
    yield Rule(
        "identifier_missing",
        name,
        f"{column} IS NULL OR trim({column}) = ''",
        f"{name} is empty, so nobody can be addressed. {_MEND_VIEW}",
    )
    yield Rule(
        "identifier_too_long",
        name,
        f"strlen({column}) > {MAX_IDENTIFIER_BYTES}",
        f"{name} is longer than Customer.io's {MAX_IDENTIFIER_BYTES} bytes. {_MEND_VIEW}",
    )
    yield Rule(
        "identifier_shape",
        name,
        f"NOT regexp_full_match({column}, {literal(shape)})",
        f"{name} does not have the workspace's shape {shape}: it would make a second profile. {_MEND_VIEW}",
    )


def _kind_rules(feed: Feed) -> Iterator[Rule]:
    if feed.merged_column:
        yield Rule(
            "merge_with_itself",
            feed.merged_column,
            f"{quoted(feed.merged_column)} = {quoted(feed.identifier)}",
            f"{feed.merged_column} and {feed.identifier} name the same person. {_MEND_VIEW}",
        )
    if feed.suppressed_column:
        yield Rule(
            "required_missing",
            feed.suppressed_column,
            f"{quoted(feed.suppressed_column)} IS NULL",
            f"{feed.suppressed_column} is null: neither suppress nor unsuppress. {_MEND_VIEW}",
        )


def _key_rules(feed: Feed) -> Iterator[Rule]:
    for name in feed.key_columns:
        if name not in {feed.identifier, feed.merged_column}:
            yield Rule(
                "business_key_missing",
                name,
                f"{quoted(name)} IS NULL",
                f"{name} is null and part of business_key: the event could not be told from others. {_MEND_VIEW}",
            )


def _time_rules(feed: Feed, day: date | None, now: datetime) -> Iterator[Rule]:
    name = feed.time_column
    us = f"epoch_us({quoted(name)})"
    latest = int((now + FUTURE_TOLERANCE).timestamp()) * 1_000_000
    yield Rule("time_missing", name, f"{quoted(name)} IS NULL", f"{name} is null. {_MEND_VIEW}")
    yield Rule("time_before_2000", name, f"{us} < {_us(_EARLIEST)}", f"{name} is before 2000: a default date. {_MEND_VIEW}")
    yield Rule(
        "time_in_milliseconds",
        name,
        f"{us} >= {_us(_LATEST)}",
        f"{name} is after 2100: milliseconds read as seconds? Divide by 1000 in the view.",
    )
    yield Rule(
        "time_in_future",
        name,
        f"{us} > {latest}",
        f"{name} is more than 5 minutes in the future: local time sold as UTC? Convert it in the view.",
    )
    if day is not None:
        start = calendar.timegm(day.timetuple()) * 1_000_000
        yield Rule(
            "time_outside_day",
            name,
            f"{us} < {start} OR {us} >= {start + 86_400_000_000}",
            f"{name} is not within {day} UTC. Run the export of this day again.",
        )


def _column_rules(feed: Feed, contract: Contract, name: str, column: Column) -> Iterator[Rule]:
    value = quoted(name)
    if column.required and name not in {feed.identifier, feed.time_column, feed.suppressed_column, *feed.key_columns}:
        yield Rule("required_missing", name, f"{value} IS NULL", f"{name} is null and required. {_MEND_VIEW}")
    if column.type is ColumnType.JSON:
        yield Rule(
            "json_invalid",
            name,
            f"({value} IS NOT NULL AND {text_of(name)} IS NULL) OR ({_is_unreadable(name)})",
            f"{name} is not JSON that everybody reads: invalid, NaN or a number too large for a double, or nested deeper than "
            f"{MAX_JSON_DEPTH} levels. Use JSON_SERIALIZE on a SUPER column in the view.",
        )
    limit = _limit_bytes(feed, name, column)
    if limit is not None:
        yield Rule(
            "value_too_long",
            name,
            f"strlen({value}) > {limit}",
            f"{name} is longer than {limit:,} bytes. Shorten it in the view with LEFT(), or raise max_bytes where Customer.io "
            "allows it.",
        )
    if column.type is ColumnType.FLOAT:
        yield Rule(
            "not_a_number",
            name,
            f"isnan({value}) OR isinf({value})",
            f"{name} is NaN or infinite, which JSON cannot say. Make it NULL in the view.",
        )
    if column.minimum is not None:
        yield Rule("below_minimum", name, f"{value} < {column.minimum!r}", f"{name} is below {column.minimum:g}. {_MEND_VIEW}")
    if column.maximum is not None:
        yield Rule("above_maximum", name, f"{value} > {column.maximum!r}", f"{name} is above {column.maximum:g}. {_MEND_VIEW}")
    if column.type is ColumnType.DECIMAL and column.precision is not None and column.scale is not None:
        whole = column.precision - column.scale
        too_large = f"abs({value}) >= {10**whole}" if whole < STAGED_WHOLE_DIGITS else "false"
        unused = unused_digits(column)
        yield Rule(
            "too_many_digits",
            name,
            f"{too_large} OR right({text_of(name)}, {unused}) <> '{'0' * unused}'",
            f"{name} does not fit NUMERIC({column.precision},{column.scale}). Round it in the view, or widen the contract.",
        )
    if column.pattern is not None:
        yield Rule(
            "pattern_mismatch",
            name,
            f"NOT regexp_full_match({value}, {literal(column.pattern)})",
            f"{name} does not match {column.pattern}. {_MEND_VIEW}",
        )
    declared = contract.declared_values(column)
    if declared is not None and column.on_undeclared_value == "reject":
        yield Rule(
            "undeclared_value",
            name,
            f"{value} NOT IN ({', '.join(literal(v) for v in declared)})",
            f"{name} holds a value that the contract does not declare. Add it to the contract's list once journeys and "
            "segments know it, or mend the view.",
        )


def _is_unreadable(name: str) -> str:
    """JSON to DuckDB, and not to everybody: NaN, infinities, numbers that no double holds, nesting without end."""
    stripped = rf"""regexp_replace({text_of(name)}, '"(?:[^"\\]|\\.)*"', '', 'g')"""
    numbers = f"regexp_extract_all({stripped}, '[0-9][0-9.]*(?:[eE][+-]?[0-9]+)?')"
    too_large = f"len(list_filter({numbers}, lambda n: coalesce(isinf(try_cast(n AS DOUBLE)), true))) > 0"
    innermost = r"'\[[^\[\]{}]*\]|\{[^\[\]{}]*\}'"
    peeled = f"list_reduce(range({MAX_JSON_DEPTH}), lambda rest, i: regexp_replace(rest, {innermost}, '', 'g'), {stripped})"
    is_none = f"regexp_matches({stripped}, '(?i)nan|inf')"
    return f"{look_of(name)} AND ({is_none} OR {too_large} OR regexp_matches({peeled}, '[\\[{{]'))"


def _limit_bytes(feed: Feed, name: str, column: Column) -> int | None:
    if column.type not in {ColumnType.STRING, ColumnType.JSON}:
        return None
    if feed.kind is FeedKind.PEOPLE and name in feed.sent_columns:
        return min(column.max_bytes or MAX_ATTRIBUTE_VALUE_BYTES, MAX_ATTRIBUTE_VALUE_BYTES)
    return column.max_bytes


def _us(moment: datetime) -> int:
    return calendar.timegm(moment.timetuple()) * 1_000_000
