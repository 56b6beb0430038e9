"""The wire in front of PostgreSQL: Redshift's identity, login and dialect for the unmodified driver.

One thread per client. Messages of the client are read and rewritten where needed; what the server answers passes through as
bytes, so memory does not grow with a result. UNLOAD and COPY are carried out in place of the message that has them run; what
else a client asked for before it must be answered by then, as it is when every statement ends with Sync.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import closing, suppress

from rs_cio_assets.sandbox.redshift import dialect, users, wire
from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.redshift.transfers import Transfer, Transfers, parse_transfer
from rs_cio_assets.sandbox.redshift.upstream import ServerError, Upstream

# Sent by redshift-connector 2.2 and refused by PostgreSQL (measured, reference/redshift.md section 0).
_REDSHIFT_PARAMETERS = frozenset(
    {
        "client_protocol_version",
        "driver_version",
        "os_version",
        "driver_discovery_version",
        "plugin_name",
        "idp_type",
        "provider_name",
    }
)
# The version that makes the driver take its Redshift branch.
_SERVER_VERSION = "8.0.2"


class Proxy:
    """Listens on 127.0.0.1:*port* (0: any free one) and passes sessions to PostgreSQL on *postgres_port*.

    *transfers* carries out UNLOAD and COPY.
    """

    def __init__(self, port: int, password: str, transfers: Transfers) -> None:
        self._password = password
        self._transfers = transfers
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind(("127.0.0.1", port))
        except OSError:
            self._listener.close()
            raise
        self.port: int = self._listener.getsockname()[1]
        self._sessions: set[_Session] = set()

    def start(self, postgres_port: int) -> None:
        """Accept clients in a background thread."""
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(postgres_port,), daemon=True, name="redshift-accept").start()

    def stop(self) -> None:
        """Stop accepting and disconnect every client."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for session in list(self._sessions):
            session.close()

    def _accept(self, postgres_port: int) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            session = _Session(client, postgres_port, self._password, self._transfers)
            self._sessions.add(session)
            threading.Thread(target=self._run, args=(session,), daemon=True, name="redshift-session").start()

    def _run(self, session: _Session) -> None:
        try:
            session.run()
        finally:
            self._sessions.discard(session)


class _Session:
    """One client's connection."""

    def __init__(self, client: socket.socket, postgres_port: int, password: str, transfers: Transfers) -> None:
        self._client = client
        self._transfers = transfers
        self._cancel_key = b""
        # Prepared UNLOAD and COPY by the name of their statement, and by that of the portal that they are bound to.
        self._prepared: dict[bytes, Transfer | None] = {}
        self._bound: dict[bytes, Transfer | None] = {}
        self._postgres = ("127.0.0.1", postgres_port)
        self._password = password
        self._server: socket.socket | None = None

    def run(self) -> None:
        """Serve the client until either side hangs up."""
        with closing(self._client), suppress(wire.ConnectionClosed, OSError):
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            parameters = self._read_startup()
            if parameters is None or not self._is_password_right(parameters):
                return
            with socket.create_connection(self._postgres) as self._server:
                self._server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._log_in(parameters):
                    self._relay()

    def close(self) -> None:
        """Hang up."""
        for sock in (self._client, self._server):
            if sock is not None:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _read_startup(self) -> dict[str, str] | None:
        while True:
            length = wire.LENGTH.unpack(wire.read_exactly(self._client, 4))[0]
            body = wire.read_exactly(self._client, length - 4)
            code = wire.LENGTH.unpack(body[:4])[0]
            if code == wire.CANCEL_REQUEST:
                with socket.create_connection(self._postgres) as server:
                    server.sendall(wire.LENGTH.pack(length) + body)
                return None
            if code not in {wire.SSL_REQUEST, wire.GSS_REQUEST}:
                return wire.startup_parameters(body[4:])
            self._client.sendall(b"N")  # no TLS on the loopback interface

    def _is_password_right(self, parameters: dict[str, str]) -> bool:
        self._client.sendall(wire.message(b"R", wire.LENGTH.pack(3)))
        kind, body = wire.read_message(self._client)
        if kind == b"p" and body.rstrip(b"\0").decode() == self._password:
            return True
        user = parameters.get("user", "")
        text = f'password authentication failed for user "{user}"'
        self._client.sendall(wire.error_response("28000", text, "FATAL"))
        return False

    def _log_in(self, parameters: dict[str, str]) -> bool:
        assert self._server is not None  # noqa: S101 - run() has connected it
        kept = {name: value for name, value in parameters.items() if name not in _REDSHIFT_PARAMETERS}
        self._server.sendall(wire.startup_message(kept))
        while True:
            kind, body = wire.read_message(self._server)
            if kind == b"S" and body.startswith(b"server_version\0"):
                body = f"server_version\0{_SERVER_VERSION}\0".encode()
            if kind == b"K":
                self._cancel_key = body
            self._client.sendall(wire.message(kind, body))
            if kind in {b"E", b"Z"}:
                return kind == b"Z"

    def _relay(self) -> None:
        server = self._server
        assert server is not None  # noqa: S101 - run() has connected it
        from_client = bytearray()
        chunk = memoryview(bytearray(1 << 18))
        poller = select.poll()
        poller.register(self._client, select.POLLIN)
        poller.register(server, select.POLLIN)
        while True:
            for descriptor, _ in poller.poll():
                if descriptor == server.fileno():
                    count = server.recv_into(chunk)
                    if not count:
                        return
                    self._client.sendall(chunk[:count])
                else:
                    data = self._client.recv(1 << 16)
                    if not data:
                        return
                    from_client += data
                    self._forward(server, from_client)

    def _forward(self, server: socket.socket, from_client: bytearray) -> None:
        """Send on what is whole of the client's messages; carry out UNLOAD and COPY in their place."""
        pending = b""
        for kind, body in wire.split_messages(from_client):
            transfer = self._transfer_to_run(kind, body)
            if transfer is None:
                pending += self._rewrite(kind, body)
                continue
            server.sendall(pending)
            pending = b""
            try:
                self._run_transfer(Upstream(server, self._client, from_client), transfer, is_simple=kind == b"Q")
            except (wire.ConnectionClosed, OSError):
                self._cancel()
                raise
        if pending:
            server.sendall(pending)

    def _transfer_to_run(self, kind: bytes, body: bytes) -> Transfer | None:
        """UNLOAD or COPY where this message has it run: it runs at each Execute, for the driver prepares a text only once."""
        if kind == b"E":
            return self._bound.get(body.split(b"\0", 1)[0])
        if kind == b"B":
            portal, name, _ = body.split(b"\0", 2)
            self._bound[portal] = self._prepared.get(name)
        return parse_transfer(body[:-1].decode()) if kind == b"Q" else None

    def _run_transfer(self, upstream: Upstream, transfer: Transfer, *, is_simple: bool) -> None:
        try:
            if not is_simple:
                upstream.await_bind()
            notice, tag = self._transfers.run(upstream, transfer)
            answer = wire.notice(notice) + wire.message(b"C", tag.encode() + b"\0")
        except ServerError as error:
            answer = wire.message(b"E", error.body)
        except Refusal as refusal:
            upstream.abort()
            answer = wire.error_response(refusal.code, refusal.text)
        self._client.sendall(answer)
        upstream.pass_on()
        if is_simple:
            upstream.sync()

    def _cancel(self) -> None:
        """The client is gone: what its statement still does is for nobody."""
        body = wire.LENGTH.pack(wire.CANCEL_REQUEST) + self._cancel_key
        with suppress(OSError), socket.create_connection(self._postgres) as server:
            server.sendall(wire.LENGTH.pack(len(body) + 4) + body)

    def _rewrite(self, kind: bytes, body: bytes) -> bytes:
        """The message to forward for one of the client's."""
        if kind == b"P":
            name, sql, rest = body.split(b"\0", 2)
            transfer = parse_transfer(sql.decode())
            self._prepared[name] = transfer
            # What PostgreSQL prepares in its place returns no rows either, and is never run.
            text = "DO ''" if transfer else self._statement(sql.decode())
            return wire.message(b"P", name + b"\0" + text.encode() + b"\0" + rest)
        if kind == b"Q":
            return wire.message(b"Q", self._statement(body[:-1].decode()).encode() + b"\0")
        return wire.message(kind, body)

    def _statement(self, sql: str) -> str:
        if view := dialect.replaced_view(sql):
            # Where it cannot be dropped (another view reads it), what the replacement itself says is the answer.
            self._ask_server(f"DO $drop$ BEGIN DROP VIEW IF EXISTS {view}; EXCEPTION WHEN OTHERS THEN NULL; END $drop$")
        return dialect.to_postgres(users.to_postgres(sql))

    def _ask_server(self, sql: str) -> None:
        """Run a statement of our own in the client's session, which is idle here; errors show in what follows."""
        assert self._server is not None  # noqa: S101 - run() has connected it
        self._server.sendall(wire.message(b"Q", sql.encode() + b"\0"))
        while wire.read_message(self._server)[0] != b"Z":
            pass
