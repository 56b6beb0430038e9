"""One short-lived connection to Redshift over the unmodified driver.

After anything but a clean error of the server a session is poisoned: the driver then answers later queries with empty
results, without a word (measured, reference/redshift.md finding 3). Such a session is closed and refuses further use.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError

from rs_cio_assets.errors import RsCioError, WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.settings import RedshiftSettings
from rs_cio_assets.warehouse.exchange import Exchange, open_exchange
from rs_cio_assets.warehouse.failures import as_ours, may_pass, server_error, unreachable

Row = Sequence[Any]
# The server's own statement timeout fires first; the socket's is for a server that is gone.
SOCKET_GRACE_S = 60


class Session:
    """A transaction-wise view of one connection. Not for several threads."""

    def __init__(self, connection: Any, settings: RedshiftSettings, exchange: Exchange | None = None) -> None:
        self.exchange = exchange
        self._connection = connection
        self._cursor = connection.cursor()
        self._settings = settings
        self._is_poisoned = False

    @property
    def settings(self) -> RedshiftSettings:
        """Those that it was opened with."""
        return self._settings

    @property
    def fetch_rows(self) -> int:
        """Rows to ask for in one FETCH."""
        return self._settings.fetch_rows

    def run(self, sql: str, values: Row = ()) -> None:
        """Execute one statement with bound *values* (`%s`). Raises: WarehouseRefused, WarehouseUnavailable."""
        with self._guarded():
            self._cursor.execute(sql, values or None)

    def fetch(self, sql: str, values: Row = ()) -> list[Row]:
        """Execute one statement and return all its rows; only for small results: the driver buffers them."""
        with self._guarded():
            self._cursor.execute(sql, values or None)
            return list(self._cursor.fetchall())

    def describe(self, sql: str) -> list[tuple[str, int]]:
        """Name and type oid of each column that *sql* returns."""
        with self._guarded():
            self._cursor.execute(sql)
            return [(column[0], column[1]) for column in self._cursor.description]

    def describe_types(self, sql: str) -> list[tuple[str, int, int]]:
        """Name, type oid and type modifier (-1: none) of each column that *sql* returns."""
        with self._guarded():
            self._cursor.execute(sql)
            # The driver's public description leaves the modifier out, which holds a NUMERIC's digits.
            described = zip(self._cursor.description, self._cursor.ps["row_desc"], strict=True)
            return [(column[0], column[1], field["type_modifier"]) for column, field in described]

    def commit(self) -> None:
        """End the transaction, keeping what it did."""
        with self._guarded():
            self._connection.commit()

    def close(self) -> None:
        """Hang up; what was not committed is undone."""
        self._is_poisoned = True
        with suppress(Exception):
            self._connection.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        if self._is_poisoned:
            raise WarehouseUnavailable("this session was thrown away after an error", next_step="open another session")
        try:
            yield
        except Exception as error:  # noqa: BLE001 - every one of the driver's exceptions becomes ours
            if server_error(error) is None:
                self.close()
            else:
                with suppress(Exception):
                    self._connection.rollback()
            raise as_ours(error, self._settings) from None
        except BaseException:
            self.close()  # interrupted while frames may be unread
            raise


class Warehouse:
    """Knows how to open a session; holds no connection.

    *secret* reads a Secrets Manager secret by its id: `{"username": ..., "password": ...}`. *s3_client* makes the client of
    boto3 for the files that UNLOAD writes and COPY reads; default: boto3's own.
    """

    def __init__(
        self,
        settings: RedshiftSettings,
        *,
        secret: Callable[[str], Mapping[str, str]] | None = None,
        s3_client: Callable[[], Any] | None = None,
    ) -> None:
        self._settings = settings
        self._secret = secret
        self.exchange = open_exchange(settings, s3_client)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """One connection, with statement timeout and query group set, closed when the block ends.

        Raises: WarehouseUnavailable when it cannot be reached, WarehouseRefused when the login is refused.
        """
        session = self._open()
        try:
            yield session
        finally:
            session.close()

    def _open(self) -> Session:
        settings = self._settings
        self.require_reachable()
        try:
            connection = redshift_connector.connect(
                database=settings.database,
                timeout=settings.statement_timeout_s + SOCKET_GRACE_S,
                tcp_keepalive=True,
                application_name="rs_cio_assets",
                **({"ssl": True, "sslmode": "verify-full"} if settings.tls else {"ssl": False}),
                **self._login(),
            )
        except RsCioError:
            raise
        except Exception as error:  # noqa: BLE001 - every one of the driver's exceptions becomes ours
            raise as_ours(error, settings) from None
        session = Session(connection, settings, self.exchange)
        session.run(f"SET query_group TO '{settings.query_group}'")  # settings allow letters, digits and _ only
        session.run(f"SET statement_timeout TO {settings.statement_timeout_s * 1000}")
        session.run("SET datestyle TO ISO")
        session.run("SET timezone TO 'UTC'")
        session.commit()
        return session

    def require_reachable(self) -> None:
        """Something listens at the address. Raises: WarehouseUnavailable.

        The driver's only timeout covers queries too, so reaching the host has one of its own.
        """
        settings = self._settings
        try:
            socket.create_connection((settings.host, settings.port), timeout=settings.connect_timeout_s).close()
        except OSError as error:
            raise unreachable(settings, error.strerror or type(error).__name__) from None

    def _login(self) -> dict[str, Any]:
        settings = self._settings
        address: dict[str, Any] = {"host": settings.host, "port": settings.port}
        if settings.auth == "iam":
            login: dict[str, Any] = {**address, "iam": True, "region": settings.aws_region}
            if settings.workgroup:
                return login | {"is_serverless": True, "serverless_work_group": settings.workgroup}
            return login | {"cluster_identifier": settings.cluster, "db_user": settings.user}
        if settings.auth == "secret":
            secret = self._read_secret()
            return {**address, "user": secret["username"], "password": secret["password"]}
        password = settings.password.get_secret_value() if settings.password else None
        return {**address, "user": settings.user, "password": password}

    def _read_secret(self) -> Mapping[str, str]:
        secret_id = self._settings.secret_id or ""
        try:
            secret = self._secret(secret_id) if self._secret else {}
        except (ClientError, BotoCoreError, ValueError) as error:
            if may_pass(error):
                raise WarehouseUnavailable("Secrets Manager did not answer", next_step="run it again") from None
            raise WarehouseRefused(
                f"the secret of REDSHIFT_SECRET_ID cannot be read: {type(error).__name__}",
                next_step="grant secretsmanager:GetSecretValue on it; it must be JSON with username and password",
            ) from None
        if not secret.get("username") or not secret.get("password"):
            raise WarehouseRefused(
                "the secret of REDSHIFT_SECRET_ID has no username and password", next_step="add both keys to the secret"
            )
        return secret
