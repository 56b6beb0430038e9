"""Export views: create them from the contract, say what columns they have, and how those differ from the contract."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from rs_cio_assets.contract.models import ColumnType, Feed
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Session

# Type oids of the driver (redshift_connector.utils.oids, version 2.2) -> the contract's types.
_TYPES = {
    16: (ColumnType.BOOLEAN, "BOOLEAN"),
    20: (ColumnType.INTEGER, "BIGINT"),
    21: (ColumnType.INTEGER, "SMALLINT"),
    23: (ColumnType.INTEGER, "INTEGER"),
    25: (ColumnType.STRING, "TEXT"),
    114: (ColumnType.JSON, "JSON"),
    700: (ColumnType.FLOAT, "REAL"),
    701: (ColumnType.FLOAT, "DOUBLE PRECISION"),
    1042: (ColumnType.STRING, "CHAR"),
    1043: (ColumnType.STRING, "VARCHAR"),
    1082: (ColumnType.DATE, "DATE"),
    1114: (ColumnType.TIMESTAMP, "TIMESTAMP"),
    1184: (ColumnType.TIMESTAMP, "TIMESTAMPTZ"),
    1700: (ColumnType.DECIMAL, "NUMERIC"),
    3802: (ColumnType.JSON, "SUPER"),  # jsonb, the stand-in's SUPER
    4000: (ColumnType.JSON, "SUPER"),
}


@dataclass(frozen=True)
class ViewColumn:
    """A column of the view: its contract type (None: no contract type fits) and the warehouse's name of it."""

    name: str
    type: ColumnType | None
    type_name: str


@dataclass(frozen=True)
class ColumnDifference:
    """How a view differs from its feed's contract. *missing* and *changed* hold sentences' worth of names."""

    view: str
    missing: tuple[str, ...]
    changed: tuple[tuple[str, str, str], ...]  # column, the contract's type, the view's type
    extra: tuple[str, ...]

    @property
    def is_blocking(self) -> bool:
        """True when a journey would see something else than the contract says."""
        return bool(self.missing or self.changed)

    def sentences(self) -> tuple[str, ...]:
        """The difference in words, one per column."""
        lines = []
        for name in self.missing:
            similar = difflib.get_close_matches(name, self.extra, n=1, cutoff=0.5)
            hint = f" (was it renamed to {similar[0]}?)" if similar else ""
            lines.append(f"column {name} is missing from {self.view}{hint}")
        lines += [f"column {name}: the contract says {says}, {self.view} has {has}" for name, says, has in self.changed]
        lines += [f"column {name} of {self.view} is not in the contract: it is not sent" for name in self.extra]
        return tuple(lines)


def create_view(session: Session, feed: Feed) -> None:
    """Create or replace the feed's export view, late-binding, and its schema when that is missing. Commits.

    Raises: WarehouseRefused when the SQL or a grant is wrong; the earlier view then stays.
    """
    create_schema(session, feed.view_schema)
    session.run(f"CREATE OR REPLACE VIEW {sql.view_name(feed)} AS\n{feed.sql.rstrip().rstrip(';')}\nWITH NO SCHEMA BINDING")
    session.commit()


def create_schema(session: Session, name: str) -> None:
    """Create the schema where it is missing.

    Asked first: to create one that is there may be refused, too, and whoever made it need not have given that right.
    """
    if not session.fetch("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)):
        session.run(f"CREATE SCHEMA IF NOT EXISTS {sql.quoted(name)}")


def describe_view(session: Session, feed: Feed) -> tuple[ViewColumn, ...]:
    """The view's columns in its own order. Raises: WarehouseRefused when it is missing or may not be read."""
    described = session.describe(f"SELECT * FROM {sql.view_name(feed)} LIMIT 0")  # noqa: S608 - a quoted name
    return tuple(column_of(name, oid) for name, oid in described)


def column_of(name: str, oid: int) -> ViewColumn:
    """A column as the driver describes it."""
    return ViewColumn(name, *_TYPES.get(oid, (None, f"a type (oid {oid}) that feeds cannot hold")))


def compare_columns(feed: Feed, columns: Sequence[ViewColumn]) -> ColumnDifference:
    """How *columns* differ from the contract. An integer column may stand where the contract says decimal."""
    found = {column.name: column for column in columns}
    return ColumnDifference(
        view=feed.view,
        missing=tuple(name for name in feed.columns if name not in found),
        changed=tuple(
            (name, column.type.value, found[name].type_name)
            for name, column in feed.columns.items()
            if name in found and not _fits(column.type, found[name].type)
        ),
        extra=tuple(name for name in found if name not in feed.columns),
    )


def _fits(expected: ColumnType, found: ColumnType | None) -> bool:
    return expected is found or (expected is ColumnType.DECIMAL and found is ColumnType.INTEGER)
