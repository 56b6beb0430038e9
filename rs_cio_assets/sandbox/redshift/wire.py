"""PostgreSQL's wire protocol, as much as the proxy needs: framing, startup parameters, errors, messages of a client."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping

LENGTH = struct.Struct("!i")
HEADER = 5  # one byte of type, four of length
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


class ConnectionClosed(Exception):
    """The other side hung up."""


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One framed message."""
    return kind + LENGTH.pack(len(body) + 4) + body


def error_response(code: str, text: str, severity: str = "ERROR") -> bytes:
    """A framed ErrorResponse with SQLSTATE *code*."""
    return message(b"E", _report(severity, code, text))


def notice(text: str) -> bytes:
    """A framed NoticeResponse of Redshift's level INFO."""
    return message(b"N", _report("INFO", "00000", text))


def _report(severity: str, code: str, text: str) -> bytes:
    fields = {"S": severity, "V": severity, "C": code, "M": text}
    return b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0"


def read_exactly(sock: socket.socket, count: int) -> bytes:
    """*count* bytes. Raises: ConnectionClosed."""
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise ConnectionClosed
        data += chunk
    return bytes(data)


def read_message(sock: socket.socket) -> tuple[bytes, bytes]:
    """The next message's type and body."""
    head = read_exactly(sock, HEADER)
    return head[:1], read_exactly(sock, LENGTH.unpack(head[1:])[0] - 4)


def split_messages(buffer: bytearray) -> Iterator[tuple[bytes, bytes]]:
    """Type and body of each whole message in *buffer*, which keeps the rest."""
    start = 0
    while len(buffer) - start >= HEADER:
        length = LENGTH.unpack_from(buffer, start + 1)[0]
        if len(buffer) - start < length + 1:
            break
        yield bytes(buffer[start : start + 1]), bytes(buffer[start + HEADER : start + 1 + length])
        start += length + 1
    del buffer[:start]


def startup_parameters(body: bytes) -> dict[str, str]:
    """Parameters of a StartupMessage body (after the protocol number)."""
    parts = body.decode().split("\0")
    return {key: value for key, value in zip(parts[::2], parts[1::2], strict=False) if key}


def startup_message(parameters: Mapping[str, str]) -> bytes:
    """A StartupMessage of protocol 3.0."""
    body = b"\x00\x03\x00\x00" + "".join(f"{k}\0{v}\0" for k, v in parameters.items()).encode() + b"\0"
    return LENGTH.pack(len(body) + 4) + body
