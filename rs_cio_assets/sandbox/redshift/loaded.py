"""Parquet that COPY loads, as PostgreSQL's CSV, once its columns agree with the table's. Knows nothing of the wire.

Source: AWS Redshift developer guide, COPY from columnar data formats, read 2026-11-26: columns by position, as many as the table
has. Which types agree is not documented; here they are those that UNLOAD writes. Not proven on a real cluster.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rs_cio_assets.sandbox.redshift.files import column_of
from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.redshift.upstream import Described

BATCH_ROWS = 20_000
# Spectrum, by which COPY reads Parquet, has neither.
_WITHOUT_PARQUET = {1184: "TIMESTAMPTZ", 3802: "SUPER"}


def csv_chunks(file: IO[bytes], url: str, table: Sequence[Described]) -> Iterator[bytes]:
    """The rows of the Parquet in *file*, null apart from an empty text. Raises: Refusal where it does not fit *table*."""
    try:
        parquet = pq.ParquetFile(file)
    except pa.ArrowInvalid:
        raise spectrum_error(f"File '{url}' is no Parquet file or is cut off") from None
    _require_fit(parquet.schema_arrow, url, table)
    for batch in parquet.iter_batches(BATCH_ROWS):
        text = io.BytesIO()
        pyarrow.csv.write_csv(batch, text, pyarrow.csv.WriteOptions(include_header=False))
        yield text.getvalue()


def spectrum_error(detail: str) -> Refusal:
    """The error of Spectrum, by which COPY reads Parquet. Source of the words: errors that users quote, read 2026-11-26."""
    return Refusal(f"Spectrum Scan Error code: 15007 context: {detail}")


def _require_fit(schema: pa.Schema, url: str, table: Sequence[Described]) -> None:
    if len(schema) != len(table):
        raise spectrum_error(
            f"Unmatched number of columns between table and file. Table columns: {len(table)}, Data columns: {len(schema)}, "
            f"File name: {url}"
        )
    for field, described in zip(schema, table, strict=True):
        if described.oid in _WITHOUT_PARQUET:
            kind = _WITHOUT_PARQUET[described.oid]
            raise Refusal(f'COPY from Parquet to column "{described.name}" of {kind} is not supported here', "0A000")
        if _plain(field.type) != column_of(described).arrow:
            raise spectrum_error(
                f"File '{url}' has an incompatible Parquet schema for column \"{described.name}\". "
                f"Parquet schema: {field.type} {field.name}"
            )


def _plain(found: pa.DataType) -> pa.DataType:
    """A type of Parquet as the table's column has it."""
    if pa.types.is_timestamp(found) and found.tz in {None, "UTC"}:
        return pa.timestamp("us")
    return pa.string() if pa.types.is_large_string(found) else found
