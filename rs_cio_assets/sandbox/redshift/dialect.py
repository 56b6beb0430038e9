"""Redshift's SQL to PostgreSQL's, where a function cannot bridge the gap. Text in, text out; nothing is parsed and reprinted.

Only what Redshift accepts and PostgreSQL does not is touched, outside of literals and comments; all else passes unchanged.
"""

from __future__ import annotations

import re

_OPAQUE = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|\$\$.*?\$\$", re.DOTALL)
_NO_BINDING = re.compile(r"\s*\bWITH\s+NO\s+SCHEMA\s+BINDING\b", re.IGNORECASE)
_QUERY_GROUP = re.compile(r"^\s*(?:SET|RESET|SHOW)\b(?:\s+(?:SESSION|LOCAL))?\s+(query_group)\b", re.IGNORECASE)
_CREATE_TABLE = re.compile(r"^\s*CREATE\s+(?:(?:LOCAL\s+)?TEMP(?:ORARY)?\s+)?TABLE\b", re.IGNORECASE)
_TABLE_ATTRIBUTES = re.compile(
    r"\s*\b(?:DISTSTYLE\s+(?:AUTO|EVEN|KEY|ALL)"
    r"|DISTKEY(?:\s*\([^()]*\))?"
    r"|(?:COMPOUND\s+|INTERLEAVED\s+)?SORTKEY(?:\s*\([^()]*\)|\s+AUTO)?"
    r"|ENCODE\s+\w+"
    r"|BACKUP\s+(?:YES|NO))",
    re.IGNORECASE,
)
_LISTAGG = re.compile(r"\bLISTAGG\s*\(", re.IGNORECASE)
_WITHIN_GROUP = re.compile(r"\s*WITHIN\s+GROUP\s*\(\s*ORDER\s+BY\b", re.IGNORECASE)
_REPLACED_VIEW = re.compile(r"^\s*CREATE\s+OR\s+REPLACE\s+VIEW\s+([\w.\x01]+)", re.IGNORECASE)
_TRANSFER = re.compile(r"^\s*(UNLOAD|COPY)\b", re.IGNORECASE)
_UNSUPPORTED = re.compile(r"^\s*(VACUUM\s+(?:FULL|SORT|DELETE|REINDEX)|CREATE\s+EXTERNAL)\b", re.IGNORECASE)
# The shop's loader uses PostgreSQL's own COPY; Redshift's has its options without parentheses.
_POSTGRES_COPY = re.compile(r"\(\s*FORMAT\s+csv\s*\)", re.IGNORECASE)


def to_postgres(sql: str) -> str:
    """*sql* as PostgreSQL understands it."""
    masked = mask(sql)
    if group := _QUERY_GROUP.search(masked):
        return f"{sql[: group.start(1)]}redshift.query_group{sql[group.end(1) :]}"
    sql = replace(sql, _NO_BINDING, "")
    if _CREATE_TABLE.search(masked):
        sql = replace(sql, _TABLE_ATTRIBUTES, "")
    return _listagg_to_string_agg(sql)


def replaced_view(sql: str) -> str | None:
    """The name in a CREATE OR REPLACE VIEW, as written, or None for any other statement.

    Redshift's late-binding views may change columns when replaced and PostgreSQL's may not, so the old one is dropped first.
    """
    found = _REPLACED_VIEW.search(mask(sql, keep_quoted_names=True))
    return sql[found.start(1) : found.end(1)] if found else None


def transfer_verb(sql: str) -> str | None:
    """UNLOAD or COPY where *sql* is one as Redshift writes them, or None."""
    masked = mask(sql)
    found = _TRANSFER.search(masked)
    if not found or (found[1].upper() == "COPY" and _POSTGRES_COPY.search(masked)):
        return None
    return found[1].upper()


def unsupported_statement(sql: str) -> str | None:
    """The verb of a statement that this stand-in does not emulate, or None."""
    found = _UNSUPPORTED.search(mask(sql))
    return " ".join(found[1].upper().split()) if found else None


def mask(sql: str, *, keep_quoted_names: bool = False) -> str:
    """*sql* with literals and quoted names made opaque and comments blank, length unchanged, so that positions agree."""

    def blank(found: re.Match[str]) -> str:
        if keep_quoted_names and found[0].startswith('"'):
            return "\x01" * len(found[0])
        return (" " if found[0].startswith(("--", "/*")) else "\x00") * len(found[0])

    return _OPAQUE.sub(blank, sql)


def replace(sql: str, pattern: re.Pattern[str], words: str) -> str:
    """*sql* with *words* in place of *pattern*, wherever it stands outside of literals, quoted names and comments."""
    for found in reversed(list(pattern.finditer(mask(sql)))):
        sql = f"{sql[: found.start()]}{words}{sql[found.end() :]}"
    return sql


def literal(text: str) -> str:
    """A literal of PostgreSQL."""
    return "'" + text.replace("'", "''") + "'"


def _listagg_to_string_agg(sql: str) -> str:
    """LISTAGG(x, 'd') WITHIN GROUP (ORDER BY y) -> string_agg((x)::text, 'd' ORDER BY y)."""
    while found := _LISTAGG.search(mask(sql)):
        masked = mask(sql)
        opening = found.end() - 1
        closing = _closing(masked, opening)
        comma = _last_comma(masked, opening, closing)
        within = _WITHIN_GROUP.match(masked, closing + 1)
        if comma is None or within is None:
            return sql  # PostgreSQL names the function it does not have
        group_opening = masked.index("(", closing + 1)
        group_closing = _closing(masked, group_opening)
        value, delimiter = sql[opening + 1 : comma].strip(), sql[comma + 1 : closing].strip()
        order = sql[group_opening + 1 : group_closing].strip()
        sql = f"{sql[: found.start()]}string_agg(({value})::text, {delimiter} {order}){sql[group_closing + 1 :]}"
    return sql


def _closing(masked: str, opening: int) -> int:
    depth = 0
    for position in range(opening, len(masked)):
        depth += {"(": 1, ")": -1}.get(masked[position], 0)
        if depth == 0:
            return position
    return len(masked) - 1


def _last_comma(masked: str, opening: int, closing: int) -> int | None:
    depth, comma = 0, None
    for position in range(opening + 1, closing):
        depth += {"(": 1, ")": -1}.get(masked[position], 0)
        if depth == 0 and masked[position] == ",":
            comma = position
    return comma
