"""UNLOAD and COPY carried out: rows between the client's session and S3, within its transaction.

Every failure is a Refusal or a ServerError; the session turns both into an error for the client and an aborted transaction.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from rs_cio_assets.sandbox.redshift import dialect, users
from rs_cio_assets.sandbox.redshift.bucket import Bucket, Entry
from rs_cio_assets.sandbox.redshift.copy import Copy, parse_copy
from rs_cio_assets.sandbox.redshift.files import Column, File, ParquetFiles, column_of, copy_sql, tables
from rs_cio_assets.sandbox.redshift.loaded import csv_chunks, spectrum_error
from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.redshift.unload import Unload, parse_unload
from rs_cio_assets.sandbox.redshift.upstream import Described, Upstream

SLICES = 2
# What UNLOAD to Parquet leaves behind when there are no rows. Not documented. Users report that neither file nor manifest is
# written: spark-redshift-community/spark-redshift issue 40, aws/aws-sdk-pandas issue 2052, read 2026-11-26.
EmptyUnload = Literal["nothing", "manifest", "files"]


# A statement that could not be understood is answered when it is run, as what it is: a refusal.
Transfer = Unload | Copy | Refusal


def parse_transfer(sql: str) -> Transfer | None:
    """The UNLOAD or COPY in *sql*; None for what PostgreSQL can run."""
    try:
        if verb := dialect.transfer_verb(sql):
            return parse_unload(sql) if verb == "UNLOAD" else parse_copy(sql)
        if verb := dialect.unsupported_statement(sql):
            return Refusal(f"{verb} is not supported by the Redshift stand-in", "0A000")
        users.to_postgres(sql)
    except Refusal as refusal:
        return refusal
    return None


@dataclass
class Transfers:
    """What the cluster of this stand-in has for UNLOAD and COPY.

    *s3* gives a client of boto3 (None: both are refused); *role* is the one that may be assumed.
    """

    s3: Callable[[], Any] | None
    role: str
    empty_unload: EmptyUnload = "nothing"

    def run(self, upstream: Upstream, transfer: Transfer) -> tuple[str, str]:
        """Carry it out; what the client is told, and the command's tag. Raises: Refusal, ServerError, ConnectionClosed."""
        if isinstance(transfer, Refusal):
            raise transfer
        if self.s3 is None:
            raise Refusal("UNLOAD and COPY are not supported by the Redshift stand-in without S3", "0A000")
        self._assume(upstream, transfer)
        client = self.s3()
        if isinstance(transfer, Copy):
            rows = _copy(upstream, client, transfer)
            return f"Load into table '{transfer.table}' completed, {rows} record(s) loaded successfully.", "COPY"
        rows = _unload(upstream, client, transfer, self.empty_unload)
        return f"UNLOAD completed, {rows} record(s) unloaded successfully.", "UNLOAD"

    def _assume(self, upstream: Upstream, transfer: Unload | Copy) -> None:
        """Source: AWS Redshift developer guide, GRANT, usage notes for ASSUMEROLE, and users' reports, read 2026-11-26."""
        verb = "COPY" if isinstance(transfer, Copy) else "UNLOAD"
        arn = self.role if transfer.role == "default" else transfer.role
        (user,) = upstream.ask("SELECT current_user::text")
        if arn != self.role:
            raise Refusal(
                f"User arn:aws:redshift:us-east-1:000000000000:dbuser:stand-in/{user} is not authorized to assume IAM Role {arn}"
            )
        has_privilege = (
            "SELECT redshift.has_assumerole_privilege($1, $3) OR redshift.has_assumerole_privilege($2, $3)"  # as it was granted
        )
        if upstream.ask(has_privilege, arn, "default", verb) != ["t"]:
            raise Refusal(f'User {user} does not have ASSUMEROLE permission on IAM role "{arn}" for {verb}', "42501")


def _unload(upstream: Upstream, client: Any, unload: Unload, empty_unload: EmptyUnload) -> int:
    bucket = Bucket(client, unload.bucket, unload.kms_key_id)
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
        if empty_unload == "files" and not files.has_rows:
            files.open_all()
        written = files.close()
    finally:
        files.discard()
    rows = sum(file.rows for file in written)
    if unload.has_manifest and (rows or empty_unload != "nothing"):
        bucket.put(unload.manifest_key, _manifest(unload, columns, written))
    upstream.ask("SELECT set_config('redshift.last_unload_count', $1, false)", str(rows))
    return rows


def _copy(upstream: Upstream, client: Any, copy: Copy) -> int:
    table = upstream.describe(f"SELECT {copy.columns.strip('()') or '*'} FROM {copy.table}")  # noqa: S608 - the client's own SQL
    data = (chunk for entry in _entries(client, copy) for chunk in _chunks(client, entry, table))
    rows = upstream.copy_in(f"COPY {copy.table} {copy.columns} FROM STDIN (FORMAT csv)", data)
    upstream.ask("SELECT set_config('redshift.last_copy_count', $1, false)", str(rows))
    return rows


def _entries(client: Any, copy: Copy) -> list[Entry]:
    """The files to copy. Without any COPY fails, whatever the manifest calls mandatory."""
    bucket = Bucket(client, copy.bucket)
    if copy.has_manifest:
        listed = bucket.entries(copy.key)
        entries = [entry for entry in listed if entry.is_mandatory or Bucket(client, entry.bucket).has(entry.key)]
    else:
        entries = [Entry(copy.bucket, key) for key in bucket.keys(copy.key)]
    if not entries:
        raise Refusal(f"The specified S3 prefix '{copy.key}' does not exist")
    return entries


def _chunks(client: Any, entry: Entry, table: Sequence[Described]) -> Iterator[bytes]:
    url = f"s3://{entry.bucket}/{entry.key}"
    with tempfile.TemporaryFile() as file:
        Bucket(client, entry.bucket).fetch(entry.key, file)
        if entry.size_bytes not in {None, file.tell()}:
            raise spectrum_error(f"File '{url}' is not as long as the manifest says")
        yield from csv_chunks(file, url, table)


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
