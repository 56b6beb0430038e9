"""Users and the roles that they may assume, as Redshift writes them, to PostgreSQL.

Source: AWS Redshift developer guide, CREATE USER, ALTER USER, GRANT and REVOKE, read 2026-11-26.
"""

from __future__ import annotations

import re

from rs_cio_assets.sandbox.redshift import dialect
from rs_cio_assets.sandbox.redshift.statement import Statement, not_emulated

_USER = re.compile(r"^\s*(?:CREATE|ALTER)\s+USER\b", re.IGNORECASE)
_ASSUMEROLE = re.compile(r"^\s*(GRANT|REVOKE)\s+ASSUMEROLE\b", re.IGNORECASE)
# Options that PostgreSQL spells otherwise, and those that it lacks and that change nothing here.
_USER_OPTIONS = (
    (re.compile(r"\bPASSWORD\s+DISABLE\b", re.IGNORECASE), "PASSWORD NULL"),
    (re.compile(r"\bCONNECTION\s+LIMIT\s+UNLIMITED\b", re.IGNORECASE), "CONNECTION LIMIT -1"),
    (re.compile(r"\bNOCREATEUSER\b", re.IGNORECASE), "NOSUPERUSER"),
    (re.compile(r"\bCREATEUSER\b", re.IGNORECASE), "SUPERUSER"),
    (re.compile(r"\bSYSLOG\s+ACCESS\s+(?:UN)?RESTRICTED\b", re.IGNORECASE), ""),
    (re.compile(r"\bSESSION\s+TIMEOUT\s+\d+\b", re.IGNORECASE), ""),
)
_COMMANDS = (("COPY",), ("UNLOAD",), ("EXTERNAL", "FUNCTION"), ("CREATE", "MODEL"))


def to_postgres(sql: str) -> str:
    """*sql* as PostgreSQL understands it; what is not of users passes unchanged. Raises: Refusal."""
    masked = dialect.mask(sql)
    if _USER.search(masked):
        for pattern, words in _USER_OPTIONS:
            sql = dialect.replace(sql, pattern, words)
    if found := _ASSUMEROLE.search(masked):
        return _assumerole(Statement(sql), found[1].upper())
    return sql


def _assumerole(statement: Statement, verb: str) -> str:
    """GRANT or REVOKE of ASSUMEROLE -> a CALL, which leaves it in redshift.assumerole."""
    statement.expect(verb, "ASSUMEROLE", "ON")
    if statement.has("ALL"):
        roles = ["all"]
    elif statement.has("DEFAULT"):
        roles = ["default"]
    else:
        roles = [statement.string()]
        while statement.has(","):
            roles.append(statement.string())
    statement.expect("TO" if verb == "GRANT" else "FROM")
    grantees = [_grantee(statement)]
    while statement.has(","):
        grantees.append(_grantee(statement))
    statement.expect("FOR")
    commands = _commands(statement)
    while statement.has(","):
        commands += _commands(statement)
    if not statement.is_at_end:
        raise statement.error()
    arrays = ", ".join(f"ARRAY[{', '.join(map(dialect.literal, values))}]" for values in (roles, grantees, commands))
    return f"CALL redshift.{verb.lower()}_assumerole({arrays})"


def _grantee(statement: Statement) -> str:
    if statement.has("GROUP"):
        raise not_emulated("ASSUMEROLE", statement)
    name = statement.word()
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _commands(statement: Statement) -> list[str]:
    if statement.has("ALL"):
        return [" ".join(words) for words in _COMMANDS]
    for words in _COMMANDS:
        if statement.has(*words):
            return [" ".join(words)]
    raise statement.error()
