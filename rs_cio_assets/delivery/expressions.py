"""Columns of a feed as DuckDB expressions: JSON values, keys, hashes and whole operations. Compiled once per feed.

Everything is computed over columns. Names are quoted, literals escaped; a row's values never pass through Python.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from rs_cio_assets.contract.models import Column, ColumnType, Contract, Feed, FeedKind

# Part of every content hash: raise it when the encoding changes, so that people are sent anew rather than missed.
HASH_VERSION = 1
SEPARATOR = "chr(31)"
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
    decides about the operation; cheap, and comparable within one version of DuckDB and of the contract only. texts: columns
    (`, expression AS name` each) that the rules and attributes read, so that what is dear is computed once. attributes: the
    JSON object of the sent columns. content_hash: 32 hex digits of what would be sent, without the time at which the
    warehouse was read. operation: JSON with a comma after it, so that slices of many join to a batch. Those two read
    attributes as the column "~attributes". business_key: readable, for the rejections.
    """

    row_key: str
    source_hash: str
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


def _operation(feed: Feed, contract: Contract, read_at_s: int) -> tuple[str, str]:
    """The operation, and the expressions (joined by commas) that make its content."""
    person = _person(contract, "identifiers", feed.identifier)
    match feed.kind:
        case FeedKind.EVENT:
            at = _unix_seconds(quoted(feed.time_column))
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
        case FeedKind.DELETION:
            parts = (literal('{"type":"person","action":"delete",'), person)
            content = person
        case FeedKind.SUPPRESSION:
            action = f"CASE WHEN {quoted(feed.suppressed_column or '')} THEN 'suppress' ELSE 'unsuppress' END"
            parts = (literal('{"type":"person","action":"'), action, """'",'""", person)
            content = f"{person}, {action}"
    return f"concat({', '.join(parts)}, '}},')", content


def _person(contract: Contract, field: str, column: str) -> str:
    """`"identifiers":{"id":"..."}` of the person that *column* names."""
    return f"""concat('"{field}":{{"{contract.workspace.identifier.customerio}":', to_json({quoted(column)}), '}}')"""


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


def has_text(column: Column) -> bool:
    """True for a column that rules and attributes read as text."""
    return column.type in {ColumnType.DECIMAL, ColumnType.JSON}


def text_of(name: str) -> str:
    """The column with the text of such a column."""
    return quoted(f"~{name}")


def unused_digits(column: Column) -> int:
    """Digits after the point that a staged decimal has beyond its contract."""
    return STAGED_SCALE - (column.scale or 0)


def _text(name: str, column: Column) -> str:
    if column.type is ColumnType.JSON:
        return f"try(json({quoted(name)}))::VARCHAR"  # minified; null where it is no JSON
    return f"{quoted(name)}::VARCHAR"


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
    return f"{quoted(name)}::VARCHAR"
