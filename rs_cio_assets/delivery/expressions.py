"""Columns of a feed as DuckDB expressions: JSON values, keys, hashes and whole operations. Compiled once per feed.

Everything is computed over columns. Names are quoted, literals escaped; a row's values never pass through Python.
"""

from __future__ import annotations

from dataclasses import dataclass

from rs_cio_assets.contract.models import Column, ColumnType, Contract, Feed, FeedKind

# Part of every content hash: raise it when the encoding changes, so that people are sent anew rather than missed.
HASH_VERSION = 1
SEPARATOR = "chr(31)"
# Digits of base 32 as DuckDB writes them, and as ULIDs want them (Crockford: no I, L, O, U).
_BASE32, _CROCKFORD = "IJKLMNOPQRSTUV", "JKMNPQRSTVWXYZ"


@dataclass(frozen=True)
class FeedExpressions:
    """DuckDB expressions over one staged row. *operation* ends with a comma, so that slices of many join to a batch.

    row_key: 32 hex digits of the feed's event (or the feed) and the business key. content_hash: 32 hex digits of what would
    be sent, without the time at which the warehouse was read. business_key: readable, for the rejections.
    """

    row_key: str
    content_hash: str
    business_key: str
    occurred_us: str
    operation: str


def compile_expressions(feed: Feed, contract: Contract, read_at_s: int) -> FeedExpressions:
    """The expressions of *feed*; *read_at_s* (unix seconds) is the version that identifies carry."""
    scope = literal(feed.event_name or feed.name)
    keys = ", ".join(f"coalesce({_key_text(feed, name)}, '')" for name in feed.key_columns)
    row_key = f"left(sha256(concat_ws({SEPARATOR}, {scope}, {keys})), 32)"
    identifier, attributes = quoted(feed.identifier), _attributes(feed)
    person = f"""concat('"identifiers":{{"{contract.workspace.identifier.customerio}":', to_json({identifier}), '}}')"""
    occurred_s = _unix_seconds(quoted(feed.time_column))
    if feed.kind is FeedKind.EVENT:
        hashed = f"concat_ws({SEPARATOR}, {HASH_VERSION}, {person}, {occurred_s}, {attributes})"
        name = f"to_json({scope})"
        operation = (
            f"""concat('{{"type":"person","action":"event","id":"', {ulid_from_row_key(row_key)}, '","name":', {name}, """
            f"""',"timestamp":', {occurred_s}, ',', {person}, ',"attributes":', {attributes}, '}},')"""
        )
    else:
        hashed = f"concat_ws({SEPARATOR}, {HASH_VERSION}, {person}, {attributes})"
        operation = (
            f"""concat('{{"type":"person","action":"identify","timestamp":{read_at_s},', {person}, """
            f"""',"attributes":', {attributes}, '}},')"""
        )
    return FeedExpressions(
        row_key=row_key,
        content_hash=f"md5({hashed})",
        business_key=f"concat_ws(' ', {keys})",
        occurred_us=f"epoch_us({quoted(feed.time_column)})",
        operation=operation,
    )


def ulid_from_row_key(row_key: str) -> str:
    """The event id of a row key (32 hex digits): the same 128 bits in ULID form, 8 + 60 + 60 of them.

    Customer.io takes ids of ULID shape only and does not read the time in them (customerio-api.md, S15).
    """
    parts = (("31, 2", 2), ("1, 15", 12), ("16, 15", 12))
    digits = " || ".join(f"to_base(('0x' || substr(k, {cut}))::BIGINT, 32, {width})" for cut, width in parts)
    return f"list_transform([{row_key}], lambda k: translate({digits}, '{_BASE32}', '{_CROCKFORD}'))[1]"


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
        value = json_value(quoted(name), column)
        if column.on_null == "clear":
            value = f"coalesce({value}, 'null')"
        comma = "" if position == 0 else ","
        pieces.append(f"""'{comma}"{name}":' || {value}""")
    if not required_first:
        return "'{}'"
    if feed.columns[required_first[0]].required or feed.columns[required_first[0]].on_null == "clear":
        return f"concat('{{', {', '.join(pieces)}, '}}')"
    return f"concat('{{', ltrim(concat({', '.join(pieces)}), ','), '}}')"


def json_value(expression: str, column: Column) -> str:
    """One value as JSON text; null stays null. Times and dates become unix seconds, floored."""
    match column.type:
        case ColumnType.STRING | ColumnType.FLOAT:
            return f"to_json({expression})::VARCHAR"
        case ColumnType.DECIMAL:
            # Through text, never through a double: 410.90 would become 410.90000000000003.
            return f"{expression}::DECIMAL(38, {column.scale})::VARCHAR"
        case ColumnType.TIMESTAMP:
            return f"{_unix_seconds(expression)}::VARCHAR"
        case ColumnType.DATE:
            return f"(date_diff('day', DATE '1970-01-01', {expression}) * 86400)::VARCHAR"
        case ColumnType.JSON:
            return f"try(json({expression}))::VARCHAR"  # minified; a rule rejects what is not JSON
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
