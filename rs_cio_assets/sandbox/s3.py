"""S3 on 127.0.0.1, for what the Redshift stand-in unloads and copies: moto, which answers as S3 does, in this process.

What it holds goes with the process: files of UNLOAD and COPY are read once, within minutes.
"""

from __future__ import annotations

import logging
import socket
from functools import cached_property
from typing import Any, Self
from urllib.parse import urlsplit

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.settings import SANDBOX_DEFAULTS

_REGION = "us-east-1"


class S3StandIn:
    """S3 on *port* (0: any free one) with the sandbox's bucket, whose objects expire a day after they are written.

    All that run in one process share their buckets. Raises on start: ConfigurationError when the port is taken.
    """

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._server: Any = None

    @property
    def url(self) -> str:
        """The endpoint, once it is started."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it and make the bucket."""
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import

        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log every request
        self.port = _free_port(self.port)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self._server.start()
        self._make_bucket()
        return self

    def stop(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @cached_property
    def client(self) -> Any:
        """A client of boto3, for the cluster: every request is made once."""
        import boto3  # noqa: PLC0415 - slow to import
        from botocore.config import Config  # noqa: PLC0415

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=_REGION,
            aws_access_key_id=SANDBOX_DEFAULTS["RS_CIO_S3_ACCESS_KEY_ID"],
            aws_secret_access_key=SANDBOX_DEFAULTS["RS_CIO_S3_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def _make_bucket(self) -> None:
        place = urlsplit(SANDBOX_DEFAULTS["REDSHIFT_UNLOAD_TO"])
        client = self.client
        client.create_bucket(Bucket=place.netloc)
        rule = {
            "ID": "unloaded files",
            "Status": "Enabled",
            "Filter": {"Prefix": f"{place.path.strip('/')}/"},
            "Expiration": {"Days": 1},
        }
        client.put_bucket_lifecycle_configuration(Bucket=place.netloc, LifecycleConfiguration={"Rules": [rule]})


def _free_port(port: int) -> int:
    """*port*, or any free one for 0; the server itself would wait for ever for one that is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ConfigurationError(
                f"port {port} for S3 is in use",
                next_step="stop what uses it, or choose another: make demo S3_PORT=<port>",
            ) from None
        return probe.getsockname()[1]
