"""A server that takes every Track API request and forgets it, as cheaply as Python can, so that the clients are measured.

One thread per connection on 127.0.0.1. The first line on standard output is the port. It judges nothing: that is the
Customer.io stand-in's business.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from dataclasses import asdict, dataclass

HEAD_END = b"\r\n\r\n"
HEAD_BYTES = 4_096
CHUNK_BYTES = 1_048_576
OPERATION = b'"identifiers"'  # once in every operation of v2
ONE_CALL = b" /api/v1/customers/"  # the path of v1: the request is the operation
REGION = {"region": "us", "environment_id": 1, "url": "https://track.customer.io"}
# Linux drops what is read with this flag inside the kernel, without copying it to us.
DROP = getattr(socket, "MSG_TRUNC", 0) if sys.platform == "linux" else 0


@dataclass
class Totals:
    """What arrived so far. *operations* stays 0 unless they are counted."""

    requests: int = 0
    request_bytes: int = 0
    operations: int = 0


class Sink:
    """Answers connections and counts. Its own totals are at `GET /totals`, which does not count."""

    def __init__(self, *, counts_operations: bool) -> None:
        self._counts_operations = counts_operations
        self._totals = Totals()
        self._lock = threading.Lock()

    def serve(self, listener: socket.socket) -> None:
        """Accept connections for ever."""
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        buffer = bytearray(CHUNK_BYTES)
        with connection:
            received = b""
            while True:
                while HEAD_END not in received:
                    chunk = connection.recv(HEAD_BYTES)
                    if not chunk:
                        return
                    received += chunk
                head, _, body = received.partition(HEAD_END)
                lines = head.lower().split(b"\r\n")
                length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
                if b"transfer-encoding: chunked" in lines:
                    connection.sendall(_answer(b"411 Length Required", b"{}"))
                    return
                operations = self._take(connection, buffer, body, length)
                answer = self._answer_to(lines[0], length, operations + (1 if ONE_CALL in lines[0] else 0))
                connection.sendall(_answer(b"200 OK", answer))
                if b"connection: close" in lines:
                    return
                received = body[length:]

    def _take(self, connection: socket.socket, buffer: bytearray, body: bytes, length: int) -> int:
        """Read the rest of the body; answers its operations when they are counted."""
        missing = length - len(body)
        flags = 0 if self._counts_operations else DROP
        kept = [body[:length]]
        while missing > 0:
            taken = connection.recv_into(buffer, min(missing, CHUNK_BYTES), flags)
            if not taken:
                return 0
            missing -= taken
            if self._counts_operations:
                kept.append(bytes(buffer[:taken]))
        return b"".join(kept).count(OPERATION) if self._counts_operations else 0

    def _answer_to(self, request_line: bytes, length: int, operations: int) -> bytes:
        if request_line.startswith(b"get /totals "):
            return json.dumps(asdict(self._totals)).encode()
        with self._lock:
            self._totals.requests += 1
            self._totals.request_bytes += length
            self._totals.operations += operations
        return json.dumps(REGION).encode() if b"/accounts/region" in request_line else b"{}"


def _answer(status: bytes, content: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
    return head + content


def main() -> None:
    """Serve on a free port of 127.0.0.1 until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count-operations", action="store_true", help="look into the bodies; costs time")
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        Sink(counts_operations=options.count_operations).serve(listener)


if __name__ == "__main__":
    main()
