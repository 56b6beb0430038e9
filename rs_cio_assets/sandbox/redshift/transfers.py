"""UNLOAD and COPY carried out: rows between the client's session and S3, within its transaction.

Every failure is a Refusal or a ServerError; the session turns both into an error for the client and an aborted transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from rs_cio_assets.sandbox.redshift import dialect
from rs_cio_assets.sandbox.redshift.bucket import Bucket
from rs_cio_assets.sandbox.redshift.files import Column, File, ParquetFiles, column_of, copy_sql, tables
from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.redshift.unload import Unload, parse_unload
from rs_cio_assets.sandbox.redshift.upstream import Upstream

SLICES = 2
# What UNLOAD to Parquet leaves behind when there are no rows. Not documented. Users report that neither file nor manifest is
# written: spark-redshift-community/spark-redshift issue 40, aws/aws-sdk-pandas issue 2052, read 2026-11-26.
EmptyUnload = Literal["nothing", "manifest", "files"]


# A statement that could not be understood is answered when it is run, as what it is: a refusal.
Transfer = Unload | Refusal


def parse_transfer(sql: str) -> Transfer | None:
    """The UNLOAD or COPY in *sql*, or why it is refused; None for any other statement."""
    verb = dialect.transfer_verb(sql)
    if verb is None:
        return None
    try:
        return parse_unload(sql)
    except Refusal as refusal:
        return refusal


@dataclass(frozen=True)
class Transfers:
    """What the cluster of this stand-in has for UNLOAD and COPY: *s3* gives a client of boto3; the one *role* it may assume."""

    s3: Callable[[], Any]
    role: str
    empty_unload: EmptyUnload = "nothing"

    def run(self, upstream: Upstream, statement: Transfer) -> tuple[str, str]:
        """Carry it out; what the client is told, and the command's tag. Raises: Refusal, ServerError, ConnectionClosed."""
        if isinstance(statement, Refusal):
            raise statement
        return self._unload(upstream, statement)

    def _unload(self, upstream: Upstream, unload: Unload) -> tuple[str, str]:
        self._assume(upstream, unload.role, "UNLOAD")
        bucket = Bucket(self.s3(), unload.bucket, unload.kms_key_id)
        _clear(bucket, unload)
        query = dialect.to_postgres(unload.query)
        columns = [column_of(described) for described in upstream.describe(query)]
        if len({column.name for column in columns}) < len(columns):
            raise Refusal("UNLOAD to Parquet needs column names that differ", "42701")
        schema = pa.schema([(column.name, column.arrow) for column in columns])
        slices = SLICES if unload.is_parallel else 1
        files = ParquetFiles(schema, slices, unload.max_file_bytes, unload.key, bucket.put)
        try:
            for table in tables(upstream.copy_out(copy_sql(query, columns)), columns):
                files.add(table)
            if self.empty_unload == "files" and not files.has_rows:
                files.open_all()
            written = files.close()
        finally:
            files.discard()
        rows = sum(file.rows for file in written)
        if unload.has_manifest and (rows or self.empty_unload != "nothing"):
            bucket.put(unload.manifest_key, _manifest(unload, columns, written))
        upstream.ask("SELECT set_config('redshift.last_unload_count', $1, false)", str(rows))
        return f"UNLOAD completed, {rows} record(s) unloaded successfully.", "UNLOAD"

    def _assume(self, upstream: Upstream, role: str, verb: str) -> None:
        arn = self.role if role == "default" else role
        (user,) = upstream.ask("SELECT current_user::text")
        if arn != self.role:
            raise Refusal(
                f"User arn:aws:redshift:us-east-1:000000000000:dbuser:stand-in/{user} is not authorized to assume IAM Role {arn}"
            )


def _clear(bucket: Bucket, unload: Unload) -> None:
    """Source: AWS Redshift developer guide, UNLOAD, ALLOWOVERWRITE and CLEANPATH, read 2026-11-26."""
    existing = bucket.keys(unload.prefix)
    if unload.cleans_path:
        for key in existing:
            bucket.delete(key)
    elif existing and not unload.may_overwrite:
        raise Refusal(
            "Specified unload destination on S3 is not empty. Consider using a different bucket / prefix, manually removing "
            "the target files in S3, or using the ALLOWOVERWRITE option."
        )


def _manifest(unload: Unload, columns: Sequence[Column], files: Sequence[File]) -> bytes:
    """Source: AWS Redshift developer guide, UNLOAD examples, read 2026-11-26; how it names dimensions is not valid JSON there."""
    entries: list[dict[str, Any]] = [{"url": f"s3://{unload.bucket}/{file.key}"} for file in files]
    manifest: dict[str, Any] = {"entries": entries}
    if unload.is_verbose:
        for entry, file in zip(entries, files, strict=True):
            entry["meta"] = {"content_length": file.size_bytes, "record_count": file.rows}
        manifest["schema"] = {"elements": [{"name": column.name, "type": column.redshift} for column in columns]}
        sizes, rows = sum(file.size_bytes for file in files), sum(file.rows for file in files)
        manifest["meta"] = {"content_length": sizes, "record_count": rows}
        manifest["author"] = {"name": "Amazon Redshift", "version": "1.0.0"}
    return json.dumps(manifest, indent=2).encode()
