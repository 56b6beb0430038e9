"""Columns of a feed as DuckDB expressions: JSON values, keys, hashes and whole operations. Compiled once per feed.

Everything is computed over columns. Names are quoted, literals escaped; a row's values never pass through Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rs_cio_assets.contract.models import Column, ColumnType, Contract, Feed, FeedKind

# Part of every content hash: raise it when the encoding changes, so that people are sent anew rather than missed.
HASH_VERSION = 1
SEPARATOR = "chr(31)"
MAX_JSON_DEPTH = 64  # a choice: Python's parser, for one, ends near 1,000
SUSPECT_DIGITS = 20  # fewer, with an exponent of two digits, always fit a double
STAGED_SCALE = 10  # digits after the point of a staged decimal
# A column of ours beside a feed's: the contract allows no such name.
ATTRIBUTES = '"~attributes"'
# An event's operation begins with its id: zeros here, which `packing.py` overwrites with the ULID of the row key.
ULID_HEAD = '{"id":"'
ULID_LENGTH = 26


@dataclass(frozen=True)
class FeedExpressions:
    """DuckDB expressions over one staged row.

    row_key: 32 hex digits of the feed's event (or the feed) and the business key. source_hash: 64 bits of everything that
    decides about the operation; cheap, and comparable within one version of DuckDB and of the contract only. looks, then
    texts: columns (`, expression AS name` each) that the rules and attributes read, so that what is dear is computed once:
    `with_texts` adds them. attributes: the
    JSON object of the sent columns. content_hash: 32 hex digits of what would be sent, without the time at which the
    warehouse was read. operation: JSON with a comma after it, so that slices of many join to a batch. Those two read
    attributes as the column "~attributes". business_key: readable, for the rejections.
    """

    row_key: str
    source_hash: str
    looks: str
    texts: str
    attributes: str
    content_hash: str
    operation: str
    business_key: str
    occurred_us: str


def compile_expressions(feed: Feed, contract: Contract, read_at_s: int) -> FeedExpressions:
    """The expressions of *feed*; *read_at_s* (unix seconds) is the version that identifies carry."""
    keys = ", ".join(f"coalesce({_key_text(feed, name)}, '')" for name in feed.key_columns)
    kind = feed.suppressed_column, feed.merged_column
    decisive = (feed.identifier, *feed.key_columns, feed.time_column, *(n for n in kind if n), *feed.sent_columns)
    salt = literal(f"{contract.version_of(feed)} {HASH_VERSION}")
    operation, content = _operation(feed, contract, read_at_s)
    return FeedExpressions(
        row_key=row_key(feed, keys),
        source_hash=f"hash({', '.join([salt, *map(quoted, dict.fromkeys(decisive))])})",
        looks="".join(
            f", {_is_odd(quoted(name))} AS {look_of(name)}" for name, c in feed.columns.items() if c.type is ColumnType.JSON
        ),
        texts="".join(f", {_text(name, column)} AS {text_of(name)}" for name, column in feed.columns.items() if has_text(column)),
        attributes=_attributes(feed),
        content_hash=f"md5(concat_ws({SEPARATOR}, {HASH_VERSION}, {content}))",
        operation=operation,
        business_key=f"concat_ws(' ', {keys})",
        occurred_us=f"epoch_us({quoted(feed.time_column)})",
    )


def row_key(feed: Feed, key: str) -> str:
    """The row key of *feed* for the business key *key*, an expression: 32 hex digits that no row of another feed has."""
    return f"left(sha256(concat_ws({SEPARATOR}, {literal(feed.event_name or feed.name)}, {key})), 32)"


def person_key(feed: Feed, identifier: str) -> str:
    """The row key that *feed*, with one row per person, gives to the person *identifier*, a column."""
    return row_key(feed, f"coalesce({identifier}::VARCHAR, '')")


def _operation(feed: Feed, contract: Contract, read_at_s: int) -> tuple[str, str]:
    """The operation, and the expressions (joined by commas) that make its content."""
    person = _person(contract, "identifiers", feed.identifier)
    at = _unix_seconds(quoted(feed.time_column))
    match feed.kind:
        case FeedKind.EVENT:
            head = f'{ULID_HEAD}{"0" * ULID_LENGTH}","type":"person","action":"event"'
            head += f',"name":{json.dumps(feed.event_name)},"timestamp":'
            parts = (literal(head), at, "','", person, """',"attributes":'""", ATTRIBUTES)
            content = f"{person}, {at}, {ATTRIBUTES}"
        case FeedKind.PEOPLE:
            head = f'{{"type":"person","action":"identify","timestamp":{read_at_s},'
            parts = (literal(head), person, """',"attributes":'""", ATTRIBUTES)
            content = f"{person}, {ATTRIBUTES}"
        case FeedKind.MERGE:
            kept, gone = _person(contract, "primary", feed.identifier), _person(contract, "secondary", feed.merged_column or "")
            parts = (literal('{"type":"person","action":"merge",'), kept, "','", gone)
            content = f"{kept}, {gone}"
        case FeedKind.DELETION:  # the time is content: somebody who came back may ask for it again
            parts = (literal('{"type":"person","action":"delete",'), person)
            content = f"{person}, {at}"
        case FeedKind.SUPPRESSION:
            action = f"CASE WHEN {quoted(feed.suppressed_column or '')} THEN 'suppress' ELSE 'unsuppress' END"
            parts = (literal('{"type":"person","action":"'), action, """'",'""", person)
            content = f"{person}, {action}, {at}"
    return f"concat({', '.join(parts)}, '}},')", content


def _person(contract: Contract, field: str, column: str) -> str:
    """`"identifiers":{"id":"..."}` of the person that *column* names."""
    return f"""concat('"{field}":{{"{contract.workspace.identifier.customerio}":', to_json({quoted(column)}), '}}')"""


def parquet(paths: Iterable[Path], options: str = "") -> str:
    """A DuckDB relation of these Parquet files. Names in a path (`tier=gold`) are no columns."""
    names = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{names}], hive_partitioning = false{options})"


def quoted(name: str) -> str:
    """A column name as DuckDB reads it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as DuckDB reads it."""
    return "'" + text.replace("'", "''") + "'"


def _attributes(feed: Feed) -> str:
    """A JSON object of the sent columns. Nulls are left out, or written as null where the contract says clear."""
    # concat() passes over nulls, and a null value makes the whole piece null: so the name disappears with its value.
    required_first = sorted(feed.sent_columns, key=lambda name: not feed.columns[name].required)
    pieces = []
    for position, name in enumerate(required_first):
        column = feed.columns[name]
        value = json_value(text_of(name) if has_text(column) else quoted(name), column)
        label = literal(f'{"," if position else ""}"{name}":')
        if column.required:
            pieces += [label, value]  # never null here: fewer copies
        else:
            pieces.append(f"{label} || " + (f"coalesce({value}, 'null')" if column.on_null == "clear" else value))
    if not required_first:
        return "'{}'"
    first = feed.columns[required_first[0]]
    if first.required or first.on_null == "clear":
        return f"concat('{{', {', '.join(pieces)}, '}}')"
    return f"concat('{{', ltrim(concat({', '.join(pieces)}), ','), '}}')"


def with_texts(expressions: FeedExpressions, rows: str) -> str:
    """The relation *rows* with the columns that rules and attributes read."""
    return f"(SELECT *{expressions.texts} FROM (SELECT *{expressions.looks} FROM {rows}))"  # noqa: S608


def look_of(name: str) -> str:
    """The column that is true where a JSON column holds something odd."""
    return quoted(f"~~~{name}")


def has_text(column: Column) -> bool:
    """True for a column that rules and attributes read as text."""
    return column.type in {ColumnType.DECIMAL, ColumnType.JSON}


def text_of(name: str) -> str:
    """The column with the text of such a column."""
    return quoted(f"~~{name}")


def unused_digits(column: Column) -> int:
    """Digits after the point that a staged decimal has beyond its contract."""
    return STAGED_SCALE - (column.scale or 0)


def _text(name: str, column: Column) -> str:
    value = quoted(name)
    if column.type is not ColumnType.JSON:
        return f"{value}::VARCHAR"
    # The text itself, so that numbers stay as they are. DuckDB takes a comma before a closing bracket for JSON, and writes it
    # without (and numbers as doubles).
    has_comma = f"{look_of(name)} AND regexp_matches({value}, ',\\s*[\\]}}]')"
    written = f"CASE WHEN {has_comma} THEN json({value})::VARCHAR ELSE {value} END"
    return f"CASE WHEN json_valid({value}) THEN {written} END"  # null where it is no JSON


def _is_odd(value: str) -> str:
    """A cheap look at JSON: may it hold what DuckDB takes and others do not? Letters of NaN and infinity, exponents of three
    digits, a comma before a closing bracket, many digits or brackets."""
    signs = rf"[nN][aA][nN]|[iI][nN][fF]|[eE]\+?[0-9]{{3}}|,\s*[\]}}]|[0-9]{{{SUSPECT_DIGITS}}}"
    brackets = f"strlen({value}) - strlen(replace(replace({value}, '[', ''), '{{', ''))"
    is_deep = f"strlen({value}) > {2 * MAX_JSON_DEPTH} AND {brackets} > {MAX_JSON_DEPTH}"
    return f"(regexp_matches({value}, '{signs}') OR ({is_deep}))"


def json_value(expression: str, column: Column) -> str:
    """One value as JSON text; null stays null. Times and dates become unix seconds, floored.

    *expression* is the column, or its text where `has_text`.
    """
    match column.type:
        case ColumnType.STRING | ColumnType.FLOAT:
            return f"to_json({expression})::VARCHAR"
        case ColumnType.DECIMAL:
            # Through text, never through a double: 410.90 would become 410.90000000000003. A rule rejects further digits.
            cut = unused_digits(column) + (not column.scale)
            return f"left({expression}, -{cut})" if cut else expression
        case ColumnType.TIMESTAMP:
            return f"{_unix_seconds(expression)}::VARCHAR"
        case ColumnType.DATE:
            return f"(date_diff('day', DATE '1970-01-01', {expression}) * 86400)::VARCHAR"
        case ColumnType.JSON:
            return expression
        case ColumnType.INTEGER | ColumnType.BOOLEAN:
            return f"{expression}::VARCHAR"


def _unix_seconds(expression: str) -> str:
    # epoch() rounds to the next second and // truncates towards zero: both move a time.
    us = f"epoch_us({expression})"
    return f"(({us} - ((({us} % 1000000) + 1000000) % 1000000)) // 1000000)"


def _key_text(feed: Feed, name: str) -> str:
    column = feed.columns[name]
    if column.type is ColumnType.TIMESTAMP:
        return f"epoch_us({quoted(name)})::VARCHAR"
    if column.type is ColumnType.DECIMAL:
        return f"{quoted(name)}::DECIMAL(38, {column.scale})::VARCHAR"
    text = f"{quoted(name)}::VARCHAR"
    if len(feed.key_columns) > 1:  # what separates the parts of a key must not stand in one of them
        return f"replace(replace({text}, chr(27), chr(27) || chr(27)), {SEPARATOR}, chr(27) || '_')"
    return text
