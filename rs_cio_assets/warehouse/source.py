"""A table or view that a feed could be made of: its columns, and counts over it. Reads no value: what comes back are numbers."""

from __future__ import annotations

from collections.abc import Sequence

from rs_cio_assets.contract.models import ColumnType
from rs_cio_assets.contract.scaffold import Candidates, Counts, SourceColumn
from rs_cio_assets.errors import WarehouseRefused
from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.sql import quoted
from rs_cio_assets.warehouse.views import column_of

TABLES_NAMED = 20
_NUMERIC_HEADER = (
    4  # a NUMERIC's type modifier is (precision << 16 | scale) + 4. Source: PostgreSQL 8.0's numeric.h, as in the driver
)


def describe_source(session: Session, source: str) -> tuple[SourceColumn, ...]:
    """The columns of *source* (`schema.name`) in its order. Raises: WarehouseRefused when it is missing or may not be read."""
    try:
        described = session.describe_types(f"SELECT * FROM {_name(source)} LIMIT 0")  # noqa: S608 - a quoted name
    except WarehouseRefused as error:
        if "<feed>" in error.next_step:  # the advice for a view that a feed should have
            error.next_step = (
                f"correct the name: {source} must be a table or view that this user may read{_others(session, source)}"
            )
        raise
    return tuple(_column(name, oid, modifier) for name, oid, modifier in described)


def _others(session: Session, source: str) -> str:
    """What the schema has instead, as far as this user sees it. Tables that are not Redshift's own are not among them."""
    schema = source.split(".", maxsplit=1)[0]
    found = session.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = %s ORDER BY table_name", (schema,)
    )
    names = [str(name) for (name,) in found]
    more = f" and {len(names) - TABLES_NAMED} more" if len(names) > TABLES_NAMED else ""
    return f"; {schema} has {', '.join(names[:TABLES_NAMED])}{more}" if names else f"; it sees no table in a schema {schema}"


def count_source(session: Session, source: str, columns: Sequence[SourceColumn], found: Candidates, pattern: str) -> Counts:
    """One look over *source* for what the candidates need: rows, nulls, different keys, identifiers of the *pattern*'s shape.

    Reads every row once, and once more for keys of several columns; the statement timeout of the session holds.
    """
    names = [column.name for column in columns if column.type is not None]
    singles = [name for (name,) in dict.fromkeys((*((n,) for n in found.identifier), *(k for k in found.keys if len(k) == 1)))]
    asked = [f"COUNT({quoted(name)})" for name in names]
    asked += [f"COUNT(DISTINCT {quoted(name)})" for name in singles]
    (row,) = session.fetch(f"SELECT COUNT(*), {', '.join(asked)} FROM {_name(source)}")  # noqa: S608 - quoted names
    rows, *counts = map(int, row)
    filled = dict(zip(names, counts, strict=False))
    distinct: dict[tuple[str, ...], int] = {(name,): count for name, count in zip(singles, counts[len(names) :], strict=True)}
    for key in (key for key in found.keys if len(key) > 1):
        distinct[key] = _distinct(session, source, key)
    of_shape = {name: count for name in found.identifier if (count := _of_shape(session, source, name, pattern)) is not None}
    return Counts(rows, filled, distinct, of_shape)


def _distinct(session: Session, source: str, key: Sequence[str]) -> int:
    columns = ", ".join(map(quoted, key))
    whole = " AND ".join(f"{quoted(name)} IS NOT NULL" for name in key)
    ((count,),) = session.fetch(
        f"SELECT COUNT(*) FROM (SELECT {columns} FROM {_name(source)} WHERE {whole} GROUP BY {columns}) AS k"  # noqa: S608
    )
    return int(count)


def _of_shape(session: Session, source: str, name: str, pattern: str) -> int | None:
    """Rows whose *name* is of that shape; None where the warehouse does not take the pattern.

    Patterns are RE2's, Redshift's operator ~ is POSIX: what both take means the same. Not proven on a real cluster.
    """
    try:
        ((count,),) = session.fetch(
            f"SELECT COUNT(*) FROM {_name(source)} WHERE {quoted(name)}::VARCHAR ~ %s",  # noqa: S608 - quoted names
            (f"^({pattern})$",),
        )
    except WarehouseRefused:
        return None
    return int(count)


def _column(name: str, oid: int, modifier: int) -> SourceColumn:
    if not name.isprintable():
        return SourceColumn(name, None, "a name that cannot be written")
    found = column_of(name, oid)
    if found.type is not ColumnType.DECIMAL or modifier < _NUMERIC_HEADER:
        return SourceColumn(name, found.type, found.type_name)
    digits = modifier - _NUMERIC_HEADER
    return SourceColumn(name, found.type, found.type_name, digits >> 16, digits & 0xFFFF)


def _name(source: str) -> str:
    return ".".join(map(quoted, source.split(".")))
