"""Conversations of our own with PostgreSQL in a client's session, within the client's transaction.

They use the extended protocol and never send Sync: that is the client's to send, and it ends the transaction or leaves it open.
"""

from __future__ import annotations

import select
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rs_cio_assets.sandbox.redshift import wire

_NAME = b"redshift_stand_in\0"  # of our statements and portals; the client's own stay as they are
_FLUSH = wire.message(b"H")
_DESCRIBED = struct.Struct("!ihihih")


class ServerError(Exception):
    """PostgreSQL refused: its ErrorResponse, for the client. The transaction is aborted."""

    def __init__(self, body: bytes) -> None:
        super().__init__("PostgreSQL refused a statement")
        self.body = body


@dataclass(frozen=True)
class Described:
    """A column of a query: its name, and the oid and modifier of its type."""

    name: str
    oid: int
    modifier: int


class Upstream:
    """The server's side of one client's session. While it waits it sees the client go: ConnectionClosed.

    *from_client* collects what the client sends meanwhile; messages that PostgreSQL sends unasked go to the client.
    """

    def __init__(self, server: socket.socket, client: socket.socket, from_client: bytearray) -> None:
        self._server, self._client, self._from_client = server, client, from_client
        self._received = bytearray()
        self._messages: deque[tuple[bytes, bytes]] = deque()
        self._poller = select.poll()
        self._poller.register(server, select.POLLIN)
        self._poller.register(client, select.POLLIN)
        self._is_copying_out = False

    def await_bind(self) -> None:
        """Pass on the answers to what the client asked before, up to its Bind. Raises: ServerError."""
        self._server.sendall(_FLUSH)
        while (message := self._read())[0] != b"2":
            self._client.sendall(wire.message(*message))
        self._client.sendall(wire.message(*message))

    def ask(self, sql: str, *values: str) -> list[str | None]:
        """The first column of each row as text. Raises: ServerError."""
        self._start(sql, values)
        rows: list[str | None] = []
        while (message := self._read())[0] != b"C":
            kind, body = message
            if kind == b"D":
                length = wire.LENGTH.unpack_from(body, 2)[0]
                rows.append(None if length < 0 else body[6 : 6 + length].decode())
        return rows

    def describe(self, sql: str) -> list[Described]:
        """The columns of a query, without running it. Raises: ServerError."""
        close = wire.message(b"C", b"S" + _NAME)
        parse = wire.message(b"P", _NAME + sql.encode() + b"\0\0\0")
        self._server.sendall(close + parse + wire.message(b"D", b"S" + _NAME) + _FLUSH)
        while (message := self._read())[0] not in {b"T", b"n"}:
            pass
        return list(_described(message[1])) if message[0] == b"T" else []

    def copy_out(self, sql: str) -> Iterator[bytes]:
        """Rows of a `COPY ... TO STDOUT`, as they come. Raises: ServerError."""
        self._start(sql, ())
        self._is_copying_out = True
        while (message := self._read())[0] != b"C":
            if message[0] == b"d":
                yield message[1]
        self._is_copying_out = False

    def copy_in(self, sql: str, data: Iterable[bytes]) -> int:
        """Send *data* to a `COPY ... FROM STDIN`; the number of rows. Raises: ServerError, and whatever *data* raises."""
        self._start(sql, ())
        while self._read()[0] != b"G":
            pass
        for chunk in data:
            self._server.sendall(wire.message(b"d", chunk))
            if self._has_answer():
                break  # an error; what follows would be thrown away
        self._server.sendall(wire.message(b"c") + _FLUSH)
        while (message := self._read())[0] != b"C":
            pass
        return int(message[1].rstrip(b"\0").rpartition(b" ")[2])

    def abort(self) -> None:
        """Have PostgreSQL abort the transaction, whatever it was doing, as Redshift does after an error."""
        try:
            while self._is_copying_out and self._read()[0] != b"C":
                pass
            # Neither a COPY FROM that waits for data nor an idle session takes this; both fail.
            self._server.sendall(wire.message(b"f", b"\0") + wire.message(b"P", b"\0aborted by the stand-in\0\0\0") + _FLUSH)
            while True:
                self._read()
        except ServerError:
            self._is_copying_out = False

    def sync(self) -> None:
        """End a simple query's transaction, unless it was begun by itself; the client gets ReadyForQuery."""
        self._server.sendall(wire.message(b"S"))
        while (message := self._read())[0] != b"Z":
            pass
        self._client.sendall(wire.message(*message))

    def pass_on(self) -> None:
        """Give the client what was read and not asked for."""
        self._client.sendall(b"".join(wire.message(*message) for message in self._messages) + self._received)
        self._messages.clear()
        self._received.clear()

    def _start(self, sql: str, values: tuple[str, ...]) -> None:
        """Prepare, bind and execute; earlier ones of ours are closed, for an error leaves them behind."""
        bound = b"".join(wire.LENGTH.pack(len(value.encode())) + value.encode() for value in values)
        count = struct.pack("!h", len(values))
        self._server.sendall(
            wire.message(b"C", b"P" + _NAME)
            + wire.message(b"C", b"S" + _NAME)
            + wire.message(b"P", _NAME + sql.encode() + b"\0\0\0")
            + wire.message(b"B", _NAME + _NAME + b"\0\0" + count + bound + b"\0\0")
            + wire.message(b"E", _NAME + wire.LENGTH.pack(0))
            + _FLUSH
        )

    def _read(self) -> tuple[bytes, bytes]:
        """The server's next message that is none of its own accord. Raises: ServerError, ConnectionClosed."""
        while True:
            while not self._messages:
                self._receive()
            kind, body = self._messages.popleft()
            if kind == b"E":
                self._is_copying_out = False
                raise ServerError(body)
            if kind not in {b"N", b"S", b"A"}:
                return kind, body
            self._client.sendall(wire.message(kind, body))

    def _has_answer(self) -> bool:
        return bool(self._messages) or self._server.fileno() in {descriptor for descriptor, _ in self._poller.poll(0)}

    def _receive(self) -> None:
        for descriptor, _ in self._poller.poll():
            source, buffer = (
                (self._server, self._received) if descriptor == self._server.fileno() else (self._client, self._from_client)
            )
            data = source.recv(1 << 18)
            if not data:
                raise wire.ConnectionClosed
            buffer += data
        self._messages.extend(wire.split_messages(self._received))


def _described(body: bytes) -> Iterator[Described]:
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        end = body.index(b"\0", at)
        _, _, oid, _, modifier, _ = _DESCRIBED.unpack_from(body, end + 1)
        yield Described(body[at:end].decode(), oid, modifier)
        at = end + 1 + _DESCRIBED.size
