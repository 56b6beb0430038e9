"""Between the driver and the stand-in: cuts connections where a test says so, and speaks TLS with a certificate of its own."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


class Relay:
    """Passes bytes between the driver and *port* until *limit* bytes came back, then cuts both sides.

    With a *certificate* it speaks TLS to the driver. *sent* is what the driver sent.
    """

    def __init__(self, port: int, certificate: Path | None = None) -> None:
        self.limit: int | None = None
        self.sent = bytearray()
        self._certificate = certificate
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ended: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Hang up everywhere."""
        for sock in self._ended:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    client = self._secured(client)
                except OSError:  # the driver does not trust it, or only looked whether the port is open
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target))
                self._ended += [client, server]
                for source, sink, is_answer in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._pass, args=(source, sink, is_answer), daemon=True).start()

    def _secured(self, client: socket.socket) -> socket.socket:
        """*client* behind TLS where there is a certificate; the request for it is answered as PostgreSQL does."""
        if self._certificate is None:
            return client
        if not client.recv(8):
            raise ConnectionError
        client.sendall(b"S")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        return context.wrap_socket(client, server_side=True)

    def _pass(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not is_answer:
                    self.sent += data
                if is_answer and self.limit is not None:
                    sink.sendall(data[: self.limit])
                    self.limit -= len(data)
                    if self.limit <= 0:
                        break
                else:
                    sink.sendall(data)
            for sock in (source, sink):
                sock.shutdown(socket.SHUT_RDWR)


def make_certificate(folder: Path) -> Path:
    """A certificate for localhost that signs itself, with its key, in *folder*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "localhost.pem"
    path.write_bytes(made.public_bytes(encoding) + private)
    return path
