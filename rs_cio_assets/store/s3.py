"""The store in an S3 bucket, by boto3: one credential chain, its own retries, endpoints as configured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error, RetriesExceededError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - botocore's, which is none of Python's
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from rs_cio_assets.errors import StoreRefused, StoreUnavailable
from rs_cio_assets.store.objects import StoredObject, missing_object, refused_by_disk, require_key

DELETE_KEYS = 1_000  # keys per DeleteObjects request; source: AWS S3 API reference, DeleteObjects, read 2026-11-23

_GRANT = "grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket on that prefix to this role (rs-cio grants --iam)"
_REMEDIES = {
    "NoSuchBucket": "create the bucket, or correct RS_CIO_STORE",
    "AccessDenied": _GRANT,
    "403": _GRANT,  # HEAD has no body, so botocore has nothing but the status
    "ExpiredToken": "renew the AWS credentials and start again",
    "InvalidAccessKeyId": "correct the AWS credentials",
    "SignatureDoesNotMatch": "correct the AWS credentials",
}


class S3Store:
    """Objects under `s3://bucket/prefix`. A put is atomic because S3's is."""

    def __init__(self, location: str, client: Any = None) -> None:
        """*client* is a boto3 client, or a function that makes one; default: boto3's own. It is made on first use."""
        parts = urlsplit(location)
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/" if parts.path.strip("/") else ""
        self._given_client = client

    @cached_property
    def _client(self) -> Any:
        # Making a client asks for credentials, which may go over the network: loading definitions must not.
        if self._given_client is None:
            return boto3.client("s3")
        return self._given_client() if callable(self._given_client) else self._given_client

    def put(self, key: str, data: bytes) -> None:
        """See Store.put."""
        with self._mapped():
            self._client.put_object(Bucket=self._bucket, Key=self._full(key), Body=data)

    def put_file(self, key: str, path: Path) -> None:
        """See Store.put_file. Large files go in parts."""
        # upload_file would wrap S3's answer in an error of its own, without status and code.
        with self._mapped(), path.open("rb") as file:
            self._client.upload_fileobj(file, self._bucket, self._full(key))

    def get(self, key: str) -> bytes | None:
        """See Store.get."""
        with self._mapped():
            try:
                return self._client.get_object(Bucket=self._bucket, Key=self._full(key))["Body"].read()
            except self._client.exceptions.NoSuchKey:
                return None

    def fetch(self, key: str, directory: Path) -> Path:
        """See Store.fetch."""
        path = directory / require_key(key).replace("/", "~")
        with self._mapped():
            try:
                self._client.download_file(self._bucket, self._full(key), str(path))
            except ClientError as error:
                if error.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                    raise missing_object(key) from None
                raise
        return path

    def list(self, prefix: str) -> list[str]:
        """See Store.list."""
        return sorted(item["Key"].removeprefix(self._prefix) for item in self._listed(prefix))

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """See Store.objects. One request for each 1,000, as `list` makes."""
        found = [
            StoredObject(item["Key"].removeprefix(self._prefix), item["Size"], item["LastModified"].astimezone(UTC))
            for item in self._listed(prefix)
        ]
        return sorted(found, key=lambda item: item.key)

    def delete(self, keys: Iterable[str]) -> None:
        """See Store.delete."""
        objects = [{"Key": self._full(key)} for key in keys]
        with self._mapped():
            for start in range(0, len(objects), DELETE_KEYS):
                chunk = objects[start : start + DELETE_KEYS]
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": chunk, "Quiet": True})
                for refused in answer.get("Errors", []):  # S3 answers 200 and lists what it kept
                    raise ClientError({"Error": refused}, "DeleteObjects")

    def expires_after_days(self, prefix: str) -> int | None:
        """Days after which the bucket's own rules remove every object under *prefix*; None where none does.

        Rules by tag or size are passed over: they name some objects only. Raises: StoreRefused where the rules may not be read.
        Source: AWS, S3 API reference, GetBucketLifecycleConfiguration and LifecycleRuleFilter (read 2026-11-23).
        """
        with self._mapped():
            try:
                rules = self._client.get_bucket_lifecycle_configuration(Bucket=self._bucket)["Rules"]
            except ClientError as error:
                if error.response["Error"]["Code"] == "NoSuchLifecycleConfiguration":
                    return None
                raise
        full = f"{self._prefix}{prefix}"
        days = [
            rule["Expiration"]["Days"]
            for rule in rules
            if rule["Status"] == "Enabled" and "Days" in rule.get("Expiration", {}) and full.startswith(_rule_prefix(rule))
        ]
        return min(days, default=None)

    def _listed(self, prefix: str) -> Sequence[dict[str, Any]]:
        with self._mapped():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=f"{self._prefix}{prefix}")
            return [item for page in pages for item in page.get("Contents", [])]

    def _full(self, key: str) -> str:
        return f"{self._prefix}{require_key(key)}"

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        place = f"s3://{self._bucket}/{self._prefix}"
        try:
            yield
        except (NoCredentialsError, PartialCredentialsError):
            raise StoreRefused(
                f"there are no AWS credentials for {place}", next_step="give the process a role or AWS_* variables"
            ) from None
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 200)
            code = error.response.get("Error", {}).get("Code", "unknown")
            if status >= 500 or code in {"SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable"}:
                raise StoreUnavailable(f"S3 answered {status} {code} for {place}", next_step="run it again later") from None
            raise StoreRefused(
                f"S3 answered {status} {code} for {place}",
                next_step=_REMEDIES.get(code, "look the code up in the S3 API reference"),
            ) from None
        except (HTTPClientError, ConnectionError, IncompleteReadError, RetriesExceededError) as error:
            raise StoreUnavailable(
                f"S3 cannot be reached for {place}: {type(error).__name__}",
                next_step="run it again; if it repeats, check the network and RS_CIO_S3_ENDPOINT_URL",
            ) from None
        except (BotoCoreError, Boto3Error) as error:
            raise StoreRefused(
                f"the S3 client failed for {place}: {type(error).__name__}",
                next_step="check RS_CIO_STORE and AWS settings",
            ) from None
        except OSError as error:
            raise refused_by_disk(error, "the scratch folder") from None


def _rule_prefix(rule: dict[str, Any]) -> str:
    """The prefix of a rule that names every object under it, also in the older form; of any other rule, one that none has."""
    given = rule.get("Filter", {"Prefix": rule.get("Prefix", "")})
    return given.get("Prefix", "") if set(given) <= {"Prefix"} else "\0"
