"""S3 as Redshift uses it for UNLOAD and COPY: objects by a boto3 client, errors in Redshift's words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from rs_cio_assets.sandbox.redshift.statement import Refusal, place


@dataclass(frozen=True)
class Entry:
    """A file to copy; *size_bytes* is None where no manifest says it."""

    bucket: str
    key: str
    size_bytes: int | None = None
    is_mandatory: bool = True


@dataclass(frozen=True)
class Bucket:
    """One bucket. *encryption* are the arguments of every put."""

    client: Any
    name: str
    kms_key_id: str | None = None

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin with *prefix*. Raises: Refusal, as the other methods do."""
        with _in_redshift_s_words():
            pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix)
            return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def put(self, key: str, body: IO[bytes] | bytes) -> None:
        """Store an object, encrypted by S3's own key, or by the given key of KMS."""
        encryption = {"ServerSideEncryption": "AES256"}
        if self.kms_key_id:
            encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
        with _in_redshift_s_words():
            self.client.put_object(Bucket=self.name, Key=key, Body=body, **encryption)

    def fetch(self, key: str, file: IO[bytes]) -> None:
        """An object's content, to *file*."""
        with _in_redshift_s_words():
            for chunk in self.client.get_object(Bucket=self.name, Key=key)["Body"].iter_chunks(1 << 20):
                file.write(chunk)

    def delete(self, key: str) -> None:
        """Remove an object."""
        with _in_redshift_s_words():
            self.client.delete_object(Bucket=self.name, Key=key)

    def entries(self, key: str) -> list[Entry]:
        """The files that the manifest at *key* lists.

        Source: AWS Redshift developer guide, Using a manifest to specify data files, read 2026-11-26: Parquet needs
        content_length, and a file that is not mandatory may be missing.
        """
        with _in_redshift_s_words():
            text = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        try:
            return [
                Entry(*place(entry["url"]), entry["meta"]["content_length"], entry.get("mandatory", False))
                for entry in json.loads(text)["entries"]
            ]
        except (ValueError, KeyError, TypeError):
            raise Refusal(f"The manifest s3://{self.name}/{key} is not as COPY needs it") from None

    def has(self, key: str) -> bool:
        """True where there is an object of this key."""
        return key in self.keys(key)


@contextmanager
def _in_redshift_s_words() -> Iterator[None]:
    """Source of the wording: errors that users of Redshift quote in public issue threads, read 2026-11-26."""
    try:
        yield
    except ClientError as error:
        said, status = error.response.get("Error", {}), error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        text = f"S3ServiceException:{said.get('Message', '')},Status {status},Error {said.get('Code', '')}"
        raise Refusal(f"{text},Rid STANDIN,ExtRid STANDIN,CanRetry {int(status >= 500)}") from None
    except BotoCoreError as error:
        raise Refusal(f"S3CurlException: {type(error).__name__}, CurlError 7, multiCurlError 0, CanRetry 1") from None
