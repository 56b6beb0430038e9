"""A view that others own (REDSHIFT_VIEWS=verify) beside its contract: columns, types, and the definition as text. No DDL.

Columns decide: they are what journeys see. The text of a definition decides nothing by itself; see `compare_sql`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.definition import (
    DIFF_LINES,
    DefinitionDifference,
    difference_from,
    read_definition,
    recall_view,
    remember_definition,
)
from rs_cio_assets.warehouse.views import ColumnDifference, ViewColumn, compare_columns, describe_view

# A literal, a quoted name, a comment, a word or number, any other sign.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|\w+|::|\|\||<>|!=|<=|>=|\S", re.DOTALL)
_PLAIN_NAME = re.compile(r'"[a-z_][a-z0-9_]*"')  # quoted needlessly: Redshift folds names to lower case
_NO_BINDING = ["with", "no", "schema", "binding"]
_BEGINS_LINE = frozenset({"select", "from", "where", "join", "left", "inner", "cross", "on", "group", "order", "having", "union"})


@dataclass(frozen=True)
class Verification:
    """One look at a view. *since*: against the last verification, made at *last_verified_at*; None where there was none.
    *sql_diff*: a unified diff from the contract's SQL to the definition; empty when their texts agree, None when the warehouse
    shows no definition."""

    columns: tuple[ViewColumn, ...]
    difference: ColumnDifference
    since: DefinitionDifference | None
    last_verified_at: datetime | None
    sql_diff: tuple[str, ...] | None


def verify_view(session: Session, feed: Feed, store: Store, now: Callable[[], datetime]) -> Verification:
    """Compare the view with the contract and with its last verification. Where the columns fit, the definition is remembered as
    it is now: that accepts it for the exports. Needs SELECT on the view and USAGE on its schema, nothing else.

    Raises: WarehouseRefused when the view is missing or may not be read.
    """
    try:
        columns = describe_view(session, feed)
    except WarehouseRefused as error:
        error.next_step = (
            f"have {feed.view} made where it is owned (a dbt run), and grant USAGE on its schema and SELECT on it; "
            "REDSHIFT_VIEWS=verify creates nothing"
        )
        raise
    record = recall_view(feed, store)
    definition = read_definition(session, feed)
    verification = Verification(
        columns=columns,
        difference=compare_columns(feed, columns),
        since=difference_from(record, feed, definition, is_others=True) if record else None,
        last_verified_at=record.created_at if record else None,
        sql_diff=compare_sql(feed.sql, definition) if definition else None,
    )
    if not verification.difference.is_blocking:
        remember_definition(feed, definition, store, now)  # what was shown, and not what may have come since
    return verification


def compare_sql(sql: str, definition: str) -> tuple[str, ...]:
    """A unified diff from the contract's SELECT to the view's definition, at most 40 lines; empty when they are the same text.

    Not compared are white space, comments, upper and lower case outside of literals, quotes around names in lower case, a
    CREATE VIEW before and WITH NO SCHEMA BINDING after, parentheses around the whole. The same text means the same query. Another
    text may mean the same: dbt qualifies names, and PostgreSQL prints every view in its own words.
    """
    of_contract, of_view = (list(_lines(_tokens(text))) for text in (sql, definition))
    diff = difflib.unified_diff(of_contract, of_view, "the contract's SQL", "in the warehouse", lineterm="", n=1)
    return tuple(diff)[:DIFF_LINES]


def _tokens(text: str) -> list[str]:
    tokens = [_normalised(token) for token in _TOKEN.findall(text) if not token.startswith(("--", "/*"))]
    if tokens[:1] == ["create"] and "as" in tokens:
        tokens = tokens[tokens.index("as") + 1 :]
    while tokens[-1:] == [";"]:
        tokens.pop()
    if tokens[-4:] == _NO_BINDING:
        tokens = tokens[:-4]
    while tokens[:1] == ["("] and _closing(tokens) == len(tokens) - 1:
        tokens = tokens[1:-1]
    return tokens


def _normalised(token: str) -> str:
    if _PLAIN_NAME.fullmatch(token):
        return token[1:-1]
    return token if token[0] in "'\"" else token.lower()


def _closing(tokens: Sequence[str]) -> int:
    """Place of the parenthesis that closes the first one."""
    depth = 0
    for place, token in enumerate(tokens):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth == 0:
            return place
    return -1


def _lines(tokens: Sequence[str]) -> Iterator[str]:
    """The tokens in lines that a diff can be read by: a clause or an item of a list each; what a point joins stays together."""
    line: list[str] = []
    for token in tokens:
        if token in _BEGINS_LINE and line:
            yield " ".join(line)
            line = []
        if line and (token == "." or line[-1].endswith(".")):  # noqa: S105 - a sign of SQL
            line[-1] += token
        else:
            line.append(token)
        if token == ",":  # noqa: S105 - a sign of SQL
            yield " ".join(line)
            line = []
    if line:
        yield " ".join(line)
