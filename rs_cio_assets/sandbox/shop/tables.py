"""Arrow tables into the stand-in's `shop` schema, and the clock that says what is loaded. Synthetic data only."""

from __future__ import annotations

import importlib.resources
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import redshift_connector
from pyarrow import csv

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.settings import RedshiftSettings

# Each table's key: a row that comes again with the same key replaces the earlier one.
KEYS = {
    "customers": ("customer_id",),
    "products": ("sku",),
    "orders": ("order_id",),
    "order_lines": ("order_id", "line_number"),
    "checkouts": ("checkout_id",),
    "subscriptions": ("subscription_id",),
    "refunds": ("refund_id",),
    "product_views": ("view_id",),
    "account_links": ("guest_id",),
    "privacy_requests": ("customer_id", "requested_at"),
}


@dataclass(frozen=True)
class ShopState:
    """What the warehouse holds: orders and customers, the first and last day (UTC) with an order, and what its clock says."""

    orders: int
    customers: int
    first_day: date
    last_day: date
    opened_on: date
    loaded_until: datetime


@dataclass(frozen=True)
class Clock:
    """Which shop is loaded, and until when. Times are naive UTC."""

    kind: str
    seed: int
    customers: int
    first_day: datetime
    loaded_until: datetime


class ShopTables:
    """One connection to the stand-in, with everything in one transaction."""

    def __init__(self, connection: redshift_connector.Connection) -> None:
        self._cursor = connection.cursor()
        self.commit = connection.commit
        if not self.rows("SELECT 1 FROM pg_namespace WHERE nspname = 'shop'"):
            schema = importlib.resources.files("rs_cio_assets.sandbox.shop").joinpath("schema.sql").read_text()
            for statement in schema.split(";"):
                if statement.strip():
                    self._cursor.execute(statement)

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Any]:
        """Every row of a query."""
        self._cursor.execute(sql, values)
        return [tuple(row) for row in self._cursor.fetchall()]

    def count(self, name: str) -> int:
        """Rows of shop.*name*."""
        ((count,),) = self.rows(f"SELECT COUNT(*) FROM shop.{name}")  # noqa: S608 - names of our own
        return count

    def run(self, sql: str, values: tuple[Any, ...] = ()) -> None:
        """Execute one statement."""
        self._cursor.execute(sql, values)

    def put(self, name: str, table: pa.Table, *, is_new: bool) -> None:
        """Add *table*'s rows to shop.*name*; unless *is_new*, they replace those with the same key."""
        if not table.num_rows:
            return
        target = f"shop.{name}"
        if is_new:
            self._copy(target, table)
            return
        self.run(f"CREATE TEMP TABLE incoming (LIKE {target})")
        self._copy("incoming", table)
        same = " AND ".join(f"{target}.{key} = incoming.{key}" for key in KEYS[name])
        self.run(f"DELETE FROM {target} USING incoming WHERE {same}")  # noqa: S608 - names of our own
        self.run(f"INSERT INTO {target} SELECT * FROM incoming")  # noqa: S608
        self.run("DROP TABLE incoming")

    def clock(self) -> Clock | None:
        """What is loaded, or None."""
        rows = self.rows("SELECT kind, seed, customers, first_day, loaded_until FROM shop.clock")
        return Clock(*rows[0]) if rows else None

    def set_clock(self, clock: Clock) -> None:
        """Remember what is loaded, for good."""
        for table in KEYS:
            self.run(f"ANALYZE shop.{table}")
        self.run("DELETE FROM shop.clock")
        values = (clock.kind, clock.seed, clock.customers, clock.first_day, clock.loaded_until)
        self.run("INSERT INTO shop.clock VALUES (%s, %s, %s, %s, %s)", values)
        self.commit()

    def state(self) -> ShopState:
        """Counts, and the days that have orders. Raises: ConfigurationError when there is no order."""
        ((orders, first, last),) = self.rows("SELECT COUNT(*), MIN(placed_at), MAX(placed_at) FROM shop.orders")
        if not orders:
            raise ConfigurationError(
                "the shop is so small that it has no order yet",
                next_step="make clean, then ask for more customers: make demo CUSTOMERS=100",
            )
        ((opened, until),) = self.rows("SELECT first_day, loaded_until FROM shop.clock")
        return ShopState(orders, self.count("customers"), first.date(), last.date(), opened.date(), until)

    def _copy(self, target: str, table: pa.Table) -> None:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder).chmod(0o755)  # the stand-in's server is another user where this one is root
            path = Path(folder) / "rows.csv"
            csv.write_csv(table, path, csv.WriteOptions(include_header=False))
            path.chmod(0o644)
            self.run(f"COPY {target} FROM '{path}' (FORMAT csv)")


@contextmanager
def open_tables(settings: RedshiftSettings) -> Iterator[ShopTables]:
    """The shop's tables in the stand-in that *settings* name; made when there are none yet.

    Raises: ConfigurationError when no stand-in answers there.
    """
    try:
        socket.create_connection((settings.host, settings.port), timeout=settings.connect_timeout_s).close()
    except OSError:
        raise ConfigurationError(
            f"no Redshift stand-in answers at {settings.host}:{settings.port}",
            next_step="is `make demo` or `make dev` running? Start one, or name its port",
        ) from None
    password = settings.password.get_secret_value() if settings.password else ""
    with redshift_connector.connect(
        host=settings.host,
        port=settings.port,
        database=settings.database,
        user=settings.user,
        password=password,
        ssl=settings.tls,
        application_name="rs_cio_shop",  # without one the driver looks for the caller's module, which takes long
    ) as connection:
        yield ShopTables(connection)


def require_same_shop(clock: Clock, kind: str, seed: int, customers: int) -> None:
    """Raises: ConfigurationError when another shop, seed or size is loaded."""
    if (clock.kind, clock.seed, clock.customers) != (kind, seed, customers):
        raise ConfigurationError(
            f"the sandbox holds the shop {clock.kind} with {clock.customers:,} customers (seed {clock.seed}), "
            f"not {kind} with {customers:,} (seed {seed})",
            next_step="make clean removes it, or ask for what is there",
        )
