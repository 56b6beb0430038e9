"""S3 on 127.0.0.1 for tests: a bucket for the store's, and what the Redshift stand-in unloads to, with faults by script."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import boto3
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.s3 import S3StandIn
from rs_cio_assets.settings import SANDBOX_ROLE
from rs_cio_assets_tests.pipeline import free_port

KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
# Serializable isolation violation, as Redshift words it (reference/redshift.md section 7).
CONFLICT = "1023 DETAIL: Serializable isolation violation on table - 1, transactions forming the cycle are: 1, 2 (pid:1)"
Put = dict[str, Any]


@contextmanager
def running_s3(bucket: str) -> Iterator[str]:
    """The address of a server with one empty bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    boto3.client("s3", endpoint_url=url, **KEYS).create_bucket(Bucket=bucket)
    yield url
    server.stop()


def unloading(s3: ScriptedS3) -> dict[str, str]:
    """The environment variables that have days read by UNLOAD to a prefix of their own."""
    return {
        "REDSHIFT_READ": "unload",
        "REDSHIFT_ROLE": SANDBOX_ROLE,
        "REDSHIFT_UNLOAD_TO": f"s3://rs-cio-sandbox/unload/{uuid4().hex}",
        "RS_CIO_S3_ENDPOINT_URL": s3.url,
    }


class ScriptedS3:
    """S3 beside the session's Redshift stand-in, started when it is first asked for, which errs as told.

    The errors are the cluster's: what a test reads over `url` or `client` is answered as it lies there. Each is used once, in the
    order in which they were planted; `calm` forgets those that are left.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stand_in: S3StandIn | None = None
        self._faults: list[tuple[str, Callable[[Put], Put | None]]] = []

    @property
    def url(self) -> str:
        """The endpoint."""
        return self._running().url

    @property
    def client(self) -> Any:
        """A client of boto3 for the test itself."""
        return self._running().client

    def cluster_client(self) -> Any:
        """What the Redshift stand-in gets."""
        return _ScriptedClient(self._running().client, self)

    def stop(self) -> None:
        """End it."""
        if self._stand_in is not None:
            self._stand_in.stop()

    def calm(self) -> None:
        """Forget what is planted and was not met."""
        self._faults.clear()

    def refuse(self, operation: str, status: int, code: str, message: str = "refused by the test") -> None:
        """The next *operation* (`put_object`, `get_object`, `list_objects_v2`) is answered with this error of S3."""

        def raise_it(_: Put) -> Put:
            answer: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, operation)

        self._faults.append((operation, raise_it))

    def conflict(self) -> None:
        """The next UNLOAD or COPY ends with error 1023 of Redshift."""

        def raise_it(_: Put) -> Put:
            raise Refusal(CONFLICT)

        self._faults.append(("any", raise_it))

    def truncate_file(self, kept_bytes: int = 100) -> None:
        """The next file is cut off; the manifest does not know."""
        self._faults.append(("file", lambda put: {**put, "Body": io.BytesIO(put["Body"].read()[:kept_bytes])}))

    def lose_file(self) -> None:
        """The next file is not there, though it is listed in the manifest."""
        self._faults.append(("file", lambda _: None))

    def add_file(self) -> None:
        """Beside the next manifest lies a file that is not in it: a copy of the first that is."""

        def add(put: Put) -> Put:
            url = json.loads(put["Body"])["entries"][0]["url"]
            bucket, _, key = url.removeprefix("s3://").partition("/")
            self.client.copy_object(
                Bucket=bucket, Key=f"{key.removesuffix('00.parquet')}99.parquet", CopySource={"Bucket": bucket, "Key": key}
            )
            return put

        self._faults.append(("manifest", add))

    def change_manifest(self, change: Callable[[dict[str, Any]], Any]) -> None:
        """The next manifest is written as *change* leaves it."""

        def changed(put: Put) -> Put:
            manifest = json.loads(put["Body"])
            change(manifest)
            return {**put, "Body": json.dumps(manifest).encode()}

        self._faults.append(("manifest", changed))

    def halve_manifest(self) -> None:
        """The next manifest ends in its middle."""
        self._faults.append(("manifest", lambda put: {**put, "Body": put["Body"][: len(put["Body"]) // 2]}))

    def met(self, *operations: str, put: Put) -> Put | None:
        """What becomes of a request: itself, changed, or None for one that is not made."""
        for index, (operation, fault) in enumerate(self._faults):
            if operation in {"any", *operations}:
                del self._faults[index]
                return fault(put)
        return put

    def _running(self) -> S3StandIn:
        with self._lock:
            if self._stand_in is None:
                self._stand_in = S3StandIn().start()
            return self._stand_in


class _ScriptedClient:
    def __init__(self, client: Any, script: ScriptedS3) -> None:
        self._client, self._script = client, script

    def put_object(self, **put: Any) -> None:
        """Puts of files and of manifests are told apart by their keys."""
        kind = "manifest" if put["Key"].endswith("manifest") else "file"
        changed = self._script.met("put_object", kind, put=put)
        if changed is not None:
            self._client.put_object(**changed)

    def get_object(self, **get: Any) -> Any:
        """Reads are refused or made."""
        return self._client.get_object(**self._script.met("get_object", put=get) or get)

    def get_paginator(self, operation: str) -> Any:
        """Lists are refused or made."""
        self._script.met(operation, put={})
        return self._client.get_paginator(operation)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
