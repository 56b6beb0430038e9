"""COPY as written -> what is asked for. Every word is understood or refused; none is passed over.

Source: AWS Redshift developer guide, COPY and COPY from columnar data formats, read 2026-11-26.
"""

from __future__ import annotations

from dataclasses import dataclass

from rs_cio_assets.sandbox.redshift.statement import Refusal, Statement, not_emulated, place, role_of


@dataclass(frozen=True)
class Copy:
    """Rows of Parquet objects go to *table*, by position to *columns* (as written, in parentheses; empty: all of them).

    The objects are those whose keys begin with *key*, or those that the manifest at *key* lists.
    """

    table: str
    columns: str
    bucket: str
    key: str
    role: str
    has_manifest: bool


def parse_copy(sql: str) -> Copy:
    """The COPY in *sql*. Raises: Refusal as Redshift words it, or where this stand-in does not emulate an option."""
    statement = Statement(sql)
    statement.expect("COPY")
    table = statement.word()
    start = statement.position
    columns = _column_list(statement, start)
    statement.expect("FROM")
    bucket, key = place(statement.string())
    role = ""
    has_format = has_manifest = False
    while not statement.is_at_end:
        if statement.has("IAM_ROLE"):
            role = role_of(statement)
        elif statement.has("MANIFEST"):
            has_manifest = True
        elif statement.has("STATUPDATE"):
            _ = statement.has("ON") or statement.has("OFF") or statement.has("TRUE") or statement.has("FALSE")
        elif statement.has("FORMAT", "AS", "PARQUET") or statement.has("FORMAT", "PARQUET") or statement.has("PARQUET"):
            has_format = True
        else:
            raise not_emulated("COPY", statement)
    if not role:
        raise Refusal("COPY requires IAM_ROLE or credentials", "42601")
    if not has_format:
        raise Refusal("COPY without FORMAT PARQUET is not supported by the Redshift stand-in", "0A000")
    return Copy(table, columns, bucket, key, role, has_manifest)


def _column_list(statement: Statement, start: int) -> str:
    if not statement.has("("):
        return ""
    statement.word()
    while statement.has(","):
        statement.word()
    statement.expect(")")
    return statement.sql[start : statement.previous_end]
