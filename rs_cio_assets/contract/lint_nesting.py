"""The linter's rules that follow parentheses: averages, windows, truth tests, subqueries, LISTAGG, SUPER.

They run over SQL whose literals, comments and quoted names are blanked out. PostgreSQL takes all of these (or means something
else by them), so nothing but the linter can catch them before Redshift does. Source: reference/redshift.md section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_AVERAGE = re.compile(r"(?<![\w.])AVG\s*\(", re.IGNORECASE)
_EXACT = re.compile(r"(?:::|\bAS)\s*(?:FLOAT|NUMERIC|DECIMAL|DOUBLE|REAL)|\d\.\d", re.IGNORECASE)
_AGGREGATE = re.compile(r"(?<![\w.])(?:AVG|COUNT|MAX|MIN|SUM|STDDEV\w*|VAR\w*)\s*\(", re.IGNORECASE)
_OVER = re.compile(r"\s*OVER\s*\(", re.IGNORECASE)
_ORDER_BY = re.compile(r"\bORDER\s+BY\b", re.IGNORECASE)
_FRAME = re.compile(r"\bROWS\b", re.IGNORECASE)
_TRUTH = re.compile(r"\bIS\s+(?:NOT\s+)?(?:TRUE|FALSE|UNKNOWN)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"[()]|\b(?:SELECT|FROM|WHERE|ON|USING|HAVING|BY)\b", re.IGNORECASE)
_SUBQUERY = re.compile(r"\b(?:FROM|JOIN)\s*\((?=\s*(?:SELECT|WITH)\b)", re.IGNORECASE)
_ALIAS = re.compile(
    r"\s*(?:AS\s+)?(?!(?:AS|WHERE|ON|GROUP|ORDER|HAVING|JOIN|LEFT|RIGHT|INNER|FULL|CROSS|UNION|EXCEPT|INTERSECT)\b)[A-Za-z_]\w*",
    re.IGNORECASE,
)
_SUPER_PATH = re.compile(r"[\w\])]\s*\[|(?<![\w.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){3,}", re.IGNORECASE)
_ALIASED_TABLE = re.compile(r"(?:\b(?:FROM|JOIN)\s|,)\s*\w+\.\w+\s+(?:AS\s+)?([A-Za-z_]\w*)", re.IGNORECASE)
COMMA_TABLE = re.compile(r",\s*(?!LATERAL\b)([A-Za-z_]\w*)\b(\.\w+)?(?!\s*\()", re.IGNORECASE)
_WITHIN_GROUP = re.compile(r"\s*WITHIN\s+GROUP\s*\(", re.IGNORECASE)
_LISTAGG = re.compile(r"(?<![\w.])LISTAGG\s*\(", re.IGNORECASE)


def nesting_findings(words: str) -> Iterator[tuple[int, str, str]]:
    """Position, rule and message of every departure in *words*."""
    for found in _AVERAGE.finditer(words):
        if not _EXACT.search(words[found.end() : _closing(words, found.end())]):
            yield found.start(), "average-of-float", "AVG of integers truncates: AVG(x::FLOAT)"
    for found in _AGGREGATE.finditer(words):
        over = _OVER.match(words, _closing(words, found.end()) + 1)
        window = words[over.end() : _closing(words, over.end())] if over else ""
        if _ORDER_BY.search(window) and not _FRAME.search(window):
            yield found.start(), "window-frame", "an ordered aggregate window needs a frame: ROWS UNBOUNDED PRECEDING"
    for found in _TRUTH.finditer(words):
        if _clause_of(words, found.start()) == "SELECT":
            yield found.start(), "no-truth-test-in-select", "IS TRUE is for WHERE: use CASE WHEN x THEN ... END"
    for found in _SUBQUERY.finditer(words):
        if not _ALIAS.match(words, _closing(words, found.end()) + 1):
            yield found.start(), "subquery-alias", "a subquery in FROM needs a name: FROM (...) AS x"
    for found in _SUPER_PATH.finditer(words):
        yield found.start(), "no-super-path", "SUPER path: JSON_EXTRACT_PATH_TEXT(JSON_SERIALIZE(x), 'a', 'b')"
    aliases = {name.lower() for name in _ALIASED_TABLE.findall(words)}
    for found in COMMA_TABLE.finditer(words):
        if found[2] and found[1].lower() in aliases and is_in_from(words, found.start()):
            yield found.start(1), "no-unnest", "a comma and a path unnests SUPER: export the JSON, or flatten it before"
    yield from _listagg_findings(words)


def comma_tables(words: str) -> Iterator[tuple[int, str]]:
    """Position and name (lower case) of every table after a comma in FROM that has no schema."""
    for found in COMMA_TABLE.finditer(words):
        if not found[2] and is_in_from(words, found.start()):
            yield found.start(1), found[1].lower()


def _listagg_findings(words: str) -> Iterator[tuple[int, str, str]]:
    first: str | None = None
    for found in _LISTAGG.finditer(words):
        group = _WITHIN_GROUP.match(words, _closing(words, found.end()) + 1)
        order = " ".join(words[group.end() : _closing(words, group.end())].upper().split()) if group else ""
        if first is None:
            first = order
        elif order != first:
            yield found.start(), "one-listagg-order", "every LISTAGG of a statement needs the same WITHIN GROUP (ORDER BY ...)"


def _closing(words: str, start: int) -> int:
    """Position of the parenthesis that closes the one before *start*; the end of the text when there is none."""
    depth = 1
    for position in range(start, len(words)):
        depth += {"(": 1, ")": -1}.get(words[position], 0)
        if not depth:
            return position
    return len(words)


def is_in_from(words: str, position: int) -> bool:
    """True when *position* stands in the list of tables itself, in no parentheses of its own."""
    depth = 0
    for found in reversed(list(_CLAUSE.finditer(words, 0, position))):
        depth += {")": 1, "(": -1}.get(found[0], 0)
        if depth < 0:
            return False
        if not depth and found[0] not in "()":
            return found[0].upper() in {"FROM", "ON"}  # a comma after a join's condition lists another table
    return False


def _clause_of(words: str, position: int) -> str:
    """The word that begins the clause around *position*: SELECT, WHERE, ON, HAVING, or BY of GROUP and ORDER."""
    depth = 0
    for found in reversed(list(_CLAUSE.finditer(words, 0, position))):
        if found[0] in "()":
            depth = max(depth + (1 if found[0] == ")" else -1), 0)
        elif not depth:
            return found[0].upper()
    return ""
