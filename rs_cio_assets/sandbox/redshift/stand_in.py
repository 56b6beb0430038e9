"""The stand-in as a whole: PostgreSQL, Redshift's functions in it, and the wire in front."""

from __future__ import annotations

import importlib.resources
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.redshift import wire
from rs_cio_assets.sandbox.redshift.dialect import literal
from rs_cio_assets.sandbox.redshift.postgres import SUPERUSER, Postgres
from rs_cio_assets.sandbox.redshift.proxy import Proxy
from rs_cio_assets.sandbox.redshift.transfers import EmptyUnload, Transfers
from rs_cio_assets.sandbox.s3 import S3StandIn
from rs_cio_assets.sandbox.serving import serve_until_ended
from rs_cio_assets.settings import SANDBOX_ROLE


class RedshiftStandIn:
    """A warehouse on 127.0.0.1 for the unmodified driver. State in *data_dir* survives a restart.

    *user* owns the database and may do everything in it; every role of the cluster logs in with *password*.
    UNLOAD and COPY go by *s3*, which gives a client of boto3, with *role*, the only one that may be assumed (also as
    `default`); without it they are refused. *empty_unload*: what an UNLOAD without rows leaves behind.
    Raises on start: ConfigurationError when the port is taken, the data folder is in use, or PostgreSQL does not start.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        user: str = "cio_sync",
        password: str = "sandbox",  # noqa: S107 - the sandbox's own, on the loopback interface
        database: str = "shop",
        s3: Callable[[], Any] | None = None,
        role: str = SANDBOX_ROLE,
        empty_unload: EmptyUnload = "nothing",
    ) -> None:
        self.port = port
        self._user, self._password, self._database = user, password, database
        self._postgres = Postgres(data_dir)
        self._transfers = Transfers(s3, role, empty_unload)
        self._proxy: Proxy | None = None

    def start(self) -> Self:
        """Start it; it takes connections when this returns."""
        try:
            self._proxy = Proxy(self.port, self._password, self._transfers)
        except OSError:
            raise ConfigurationError(
                f"port {self.port} for Redshift is in use",
                next_step="stop what uses it, or choose another: make demo REDSHIFT_PORT=<port>",
            ) from None
        try:
            self._postgres.start()
            self._prepare()
        except BaseException:
            self.stop()
            raise
        self._proxy.start(self._postgres.port)
        self.port = self._proxy.port
        return self

    def stop(self) -> None:
        """End it and every client's session."""
        if self._proxy is not None:
            self._proxy.stop()
        self._postgres.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def empty_unload(self) -> EmptyUnload:
        """What an UNLOAD without rows leaves behind; may be changed while it runs."""
        return self._transfers.empty_unload

    @empty_unload.setter
    def empty_unload(self, choice: EmptyUnload) -> None:
        self._transfers.empty_unload = choice

    @property
    def postgres_process_id(self) -> int:
        """Process id of the server behind the wire."""
        return self._postgres.process_id

    def _prepare(self) -> None:
        user, database = _quoted(self._user), _quoted(self._database)
        is_new = not _query(self._postgres.port, "postgres", f"SELECT 1 FROM pg_roles WHERE rolname = {literal(self._user)}")  # noqa: S608 - a literal, escaped
        if is_new:
            _query(self._postgres.port, "postgres", f"CREATE ROLE {user} LOGIN SUPERUSER")
        has_database = f"SELECT 1 FROM pg_database WHERE datname = {literal(self._database)}"  # noqa: S608 - as above
        if not _query(self._postgres.port, "postgres", has_database):
            _query(self._postgres.port, "postgres", f"CREATE DATABASE {database} OWNER {user}")
        functions = importlib.resources.files("rs_cio_assets.sandbox.redshift").joinpath("functions.sql").read_text()
        _query(self._postgres.port, self._database, functions)
        path = "public, redshift, pg_catalog"
        _query(self._postgres.port, self._database, f"ALTER DATABASE {database} SET search_path TO {path}")
        _query(self._postgres.port, self._database, "GRANT USAGE ON SCHEMA redshift TO PUBLIC")


def serve(data_dir: Path, port: int, s3_port: int) -> None:
    """Run the stand-in, with S3 beside it, until SIGINT, SIGTERM, or the end of the process that started this one."""
    serve_until_ended(
        _with_s3(data_dir, port, s3_port),
        lambda: f"Redshift stand-in ready on 127.0.0.1:{port}, S3 on 127.0.0.1:{s3_port}",
    )


@contextmanager
def _with_s3(data_dir: Path, port: int, s3_port: int) -> Iterator[None]:
    with S3StandIn(s3_port) as s3, RedshiftStandIn(data_dir, port, s3=lambda: s3.client):
        yield


def _query(port: int, database: str, sql: str) -> int:
    """Run SQL as the superuser, past the proxy; returns the number of rows. Raises: ConfigurationError."""
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(wire.startup_message({"user": SUPERUSER, "database": database}))
        while wire.read_message(server)[0] != b"Z":
            pass
        server.sendall(wire.message(b"Q", sql.encode() + b"\0"))
        rows = 0
        while True:
            kind, body = wire.read_message(server)
            rows += kind == b"D"
            if kind == b"E":
                text = body.replace(b"\0", b" ").decode(errors="replace")
                raise ConfigurationError(
                    f"the Redshift stand-in could not be prepared: {text}", next_step="`make clean`, then start it again"
                )
            if kind == b"Z":
                return rows


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
