"""One Redshift as the product reaches it, with a schema of the run's own, and the server's errors in its own words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redshift_connector

from rs_cio_assets.contract import Feed
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.warehouse import Session, Warehouse
from rs_cio_assets.warehouse.exchange import Exchange
from rs_cio_assets.warehouse.failures import server_error
from rs_cio_assets_tests.plain_views import Row


class Cluster:
    """*schema* is made by `make_schema` and dropped by `drop_schema`; nothing else is written."""

    def __init__(self, settings: Settings, run: str) -> None:
        self.settings, self.schema = settings, f"rs_cio_smoke_{run}"
        self._warehouse: Warehouse = resources_for(settings)["warehouse"]

    @property
    def exchange(self) -> Exchange | None:
        """Where UNLOAD writes; None where the settings name no place or no role."""
        return self._warehouse.exchange

    def session(self) -> Any:
        """A context manager of a session as the product opens it."""
        return self._warehouse.session()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of one query, in a session of its own."""
        with self.session() as session:
            return [tuple(row) for row in session.fetch(sql, values)]

    def run(self, *statements: str) -> None:
        """Statements in one transaction."""
        with self.session() as session:
            for statement in statements:
                session.run(statement)
            session.commit()

    def make_schema(self) -> None:
        """Needs CREATE on the database."""
        self.run(f"CREATE SCHEMA {self.schema}")

    def drop_schema(self) -> None:
        """With everything in it."""
        self.run(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")

    def in_schema(self, sql: str) -> str:
        """The same statement over this run's copy of the shop's tables."""
        return sql.replace("shop.", f"{self.schema}.")

    def own(self, feed: Feed) -> Feed:
        """A shipped feed with its view in this run's schema, over this run's tables."""
        return feed.model_copy(update={"view": f"{self.schema}.v_{feed.name}", "sql": self.in_schema(feed.sql)})

    @contextmanager
    def connection(self, **options: Any) -> Iterator[Any]:
        """The driver's own connection with the product's login, and *options* of the driver."""
        settings = self.settings.redshift
        tls = {"ssl": True, "sslmode": "verify-full"} if settings.tls else {"ssl": False}
        login = self._warehouse._login()
        made = redshift_connector.connect(
            database=settings.database,
            application_name="rs_cio_assets",
            timeout=settings.statement_timeout_s,
            **tls,
            **login,
            **options,
        )
        try:
            yield made
        finally:
            made.close()


def refusal(session: Session, sql: str) -> tuple[Mapping[str, str], Exception] | None:
    """The fields of the server's error to *sql*, and the driver's exception; None where it is taken. Ends the transaction."""
    try:
        session._cursor.execute(sql)
    except redshift_connector.Error as error:
        fields = server_error(error)
        assert fields is not None, "the server did not say why"
        session._connection.rollback()
        return fields, error
    session._connection.rollback()
    return None


def read(session: Session, relation: str) -> list[Row]:
    """Every row of a table or view, by column."""
    sql = f"SELECT * FROM {relation}"
    names = [name for name, _ in session.describe(sql)]
    return [dict(zip(names, row, strict=True)) for row in session.fetch(sql)]
