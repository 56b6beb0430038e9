"""The linter of export views: SQL that means the same on Redshift and on the stand-in, and that exports what is declared.

Text rules run over a copy with literals and comments blanked out; those that follow parentheses are in `lint_nesting.py`.
Where sqlglot is installed (a development dependency) the statement is parsed too. Nothing is rewritten.
Source of the rules: reference/redshift.md section 3.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass

from rs_cio_assets.contract.lint_nesting import comma_tables, nesting_findings
from rs_cio_assets.contract.models import Contract, Feed, FeedKind

_QUOTED_NAME = re.compile(r'"[^"]*"')
OPAQUE = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
_RULES = tuple(
    (name, re.compile(rf"(?<!\.)(?:{pattern})", re.IGNORECASE), message)  # after a dot stands a column, not a word of SQL
    for name, pattern, message in (
        ("no-qualify", r"\bQUALIFY\b", "QUALIFY: use a ROW_NUMBER() in a subquery and filter on it"),
        ("no-approximate", r"\bAPPROXIMATE\b", "APPROXIMATE: count exactly"),
        ("no-median", r"\bMEDIAN\s*\(", "MEDIAN: use PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY ...)"),
        ("no-ratio-to-report", r"\bRATIO_TO_REPORT\b", "RATIO_TO_REPORT: divide by SUM(...) OVER ()"),
        ("no-sysdate", r"\bSYSDATE\b", "SYSDATE: use GETDATE()"),
        ("no-pivot", r"\b(?:UN)?PIVOT\b", "PIVOT: use CASE expressions"),
        (
            "no-super-constructors",
            r"\b(?:OBJECT|ARRAY)\s*\(",
            "OBJECT() and ARRAY(): build the text with || and LISTAGG",
        ),
        (
            "no-listagg-distinct",
            r"\bLISTAGG\s*\(\s*DISTINCT\b",
            "LISTAGG(DISTINCT): select distinct rows in a subquery",
        ),
        (
            "quoted-date-part",
            r"\b(?:DATEADD|DATEDIFF|DATE_PART|DATE_TRUNC)\s*\(\s*[A-Za-z]",
            "quote the date part: DATEADD('day', ...)",
        ),
        ("no-boolean-text", r"::\s*BOOL(?:EAN)?\s*::\s*VARCHAR", "a boolean has no text: use CASE"),
        ("no-interval", r"\bINTERVAL\b", "INTERVAL: use DATEADD('day', n, t); the driver decodes intervals wrongly"),
        ("no-timetz", r"\bTIMETZ\b", "TIMETZ: the driver cannot decode it"),
        (
            "select-only",
            r"\b(?:INSERT|UPDATE|DELETE|MERGE|CREATE|ALTER|DROP|TRUNCATE|GRANT|COPY|UNLOAD|CALL)\b",
            "an export view is one SELECT",
        ),
        ("no-limit", r"\bLIMIT\b|\bTOP\s+\d", "LIMIT: an export that leaves rows out cannot be proven complete"),
    )
)
_CLOCK = re.compile(r"\b(?:GETDATE|CURRENT_DATE|CURRENT_TIMESTAMP|NOW)\b", re.IGNORECASE)
_TABLE = re.compile(r"\b(?:FROM|JOIN)\s+([A-Za-z_\"][\w\".]*)", re.IGNORECASE)
_WITH_NAME = re.compile(r"(?:\bWITH(?:\s+RECURSIVE)?\b|,)\s*([A-Za-z_]\w*)\s*(?:\([^()]*\)\s*)?AS\s*\(", re.IGNORECASE)
FUNCTION_FROM = re.compile(r"\b(?:EXTRACT|TRIM|SUBSTRING)\s*\([^()]*$", re.IGNORECASE)


@dataclass(frozen=True)
class LintFinding:
    """One place that breaks a rule."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.message}"


def lint_contract(contract: Contract) -> tuple[LintFinding, ...]:
    """Findings of every feed's SQL, also of disabled feeds."""
    return tuple(finding for feed in contract.feeds for finding in lint_sql(feed.sql, feed))


def lint_sql(sql: str, feed: Feed) -> tuple[LintFinding, ...]:
    """Every rule that *sql*, the SELECT of *feed*'s export view, breaks, in order of lines."""
    file = f"feeds/{feed.name}.sql"
    findings = [
        LintFinding(file, sql.count("\n", 0, position) + 1, rule, message)
        for position, rule, message in (*_text_findings(sql, feed), *_parsed_findings(sql, feed))
    ]
    return tuple(sorted(findings, key=lambda finding: (finding.line, finding.rule)))


def _text_findings(sql: str, feed: Feed) -> Iterator[tuple[int, str, str]]:
    masked = OPAQUE.sub(lambda found: " " * len(found[0]) if found[0][0] != "'" else "\x00" * len(found[0]), sql)
    if not re.match(r"\s*(?:SELECT|WITH)\b", masked, re.IGNORECASE):
        yield 0, "select-only", "an export view is one SELECT (it may begin with WITH)"
    statement = masked.rstrip().rstrip(";")
    if ";" in statement:
        yield statement.index(";"), "one-statement", "an export view is one statement"
    words = _QUOTED_NAME.sub(lambda found: "_" * len(found[0]), masked)
    for rule, pattern, message in _RULES:
        for found in pattern.finditer(words):
            yield found.start(), rule, message
    yield from nesting_findings(words)
    if feed.kind is FeedKind.PEOPLE:
        for found in _CLOCK.finditer(words):
            yield (
                found.start(),
                "no-clock-in-people",
                "an attribute that changes with time alone re-sends everybody every day; express it as the day it changes",
            )
    local = {name.lower() for name in _WITH_NAME.findall(masked)}
    for position, name in comma_tables(words):
        if name not in local:
            yield position, "schema-qualified", f"{name}: late-binding views need schema.table"
    for found in _TABLE.finditer(masked):
        name = found[1].strip('"').lower()
        if "." not in found[1] and name not in local and not FUNCTION_FROM.search(masked[: found.start()]):
            yield found.start(1), "schema-qualified", f"{name}: late-binding views need schema.table"


def _parsed_findings(sql: str, feed: Feed) -> Iterator[tuple[int, str, str]]:
    if importlib.util.find_spec("sqlglot") is None:
        return
    import sqlglot  # noqa: PLC0415 - a development dependency
    from sqlglot import errors, expressions  # noqa: PLC0415

    try:
        tree = sqlglot.parse_one(sql, read="redshift")
    except errors.TokenError:
        yield 0, "parses", "not Redshift SQL: a quote or a comment is not closed"
        return
    except errors.ParseError as error:
        line = (error.errors[0].get("line") or 1) if error.errors else 1
        position = sum(len(text) + 1 for text in sql.split("\n")[: line - 1])
        yield position, "parses", f"not Redshift SQL: {error.errors[0].get('description') if error.errors else error}"
        return
    select = tree.find(expressions.Select) if not isinstance(tree, expressions.Select) else tree
    if select is None:
        return
    if any(isinstance(item, expressions.Star) or item.is_star for item in select.expressions):
        yield 0, "named-columns", "name every column: SELECT * exports whatever somebody adds"
        return
    names = [item.alias_or_name.lower() for item in select.expressions]
    for missing in (name for name in feed.columns if name not in names):
        yield 0, "columns-of-the-contract", f"column {missing} of feeds/{feed.name}.yaml is not selected"
    for twice in (name for name in feed.columns if names.count(name) > 1):
        yield 0, "columns-of-the-contract", f"column {twice} is selected {names.count(twice)} times"
    for extra in (name for name in names if name not in feed.columns):
        yield 0, "columns-of-the-contract", f"column {extra} is selected and not in feeds/{feed.name}.yaml"
