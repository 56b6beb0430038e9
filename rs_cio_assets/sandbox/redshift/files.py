"""Rows between PostgreSQL's CSV and Parquet: types by oid and modifier, files of a bounded size. Knows nothing of the wire.

Snappy Parquet of format 1.0. Not proven on a real cluster: how it encodes timestamps (here INT64 in microseconds), and how
large its row groups become (here one for each chunk of rows).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from rs_cio_assets.sandbox.redshift.statement import Refusal
from rs_cio_assets.sandbox.redshift.upstream import Described

CHUNK_BYTES = 8 * 1024 * 1024  # of CSV that become one row group
NULL = r"\N"
_NUMERIC, _TIMESTAMPTZ, _SUPER = 1700, 1184, 3802
_VARCHAR, _CHAR, _TEXT, _UNKNOWN = 1043, 1042, 25, 705
_LONGEST_VARCHAR = 65_535  # bytes; source: AWS Redshift developer guide, Character types, read 2026-11-26
# A NUMERIC without precision, which Redshift does not have: wide enough for sums, rounded to ten places.
_ANY_NUMERIC = (38, 10)
_PLAIN: dict[int, tuple[pa.DataType, str]] = {
    16: (pa.bool_(), "boolean"),
    21: (pa.int16(), "smallint"),
    23: (pa.int32(), "integer"),
    20: (pa.int64(), "bigint"),
    700: (pa.float32(), "real"),
    701: (pa.float64(), "double precision"),
    1082: (pa.date32(), "date"),
    1114: (pa.timestamp("us"), "timestamp without time zone"),
    _TIMESTAMPTZ: (pa.timestamp("us"), "timestamp with time zone"),
    _SUPER: (pa.string(), "super"),
}


@dataclass(frozen=True)
class Column:
    """A column to unload: *arrow* in the file, *redshift* in the manifest, *sql* the value for a given name."""

    name: str
    arrow: pa.DataType
    redshift: dict[str, Any]
    sql: str = "{}"


@dataclass(frozen=True)
class File:
    """A file that was written: *rows* and size."""

    key: str
    size_bytes: int
    rows: int


def column_of(described: Described) -> Column:
    """How a column is unloaded. Raises: Refusal for a type that UNLOAD to Parquet does not have here."""
    name, oid, modifier = described.name, described.oid, described.modifier
    if oid in _PLAIN:
        arrow, base = _PLAIN[oid]
        # The zone is dropped and the value of UTC kept.
        return Column(name, arrow, {"base": base}, "{} AT TIME ZONE 'UTC'" if oid == _TIMESTAMPTZ else "{}")
    if oid == _NUMERIC:
        precision, scale = ((modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF) if modifier >= 4 else _ANY_NUMERIC
        redshift = {"base": "numeric", "precision": precision, "scale": scale}
        return Column(name, pa.decimal128(precision, scale), redshift, f"{{}}::numeric({precision},{scale})")
    if oid in {_VARCHAR, _CHAR, _TEXT, _UNKNOWN}:
        length = modifier - 4 if modifier > 4 else _LONGEST_VARCHAR
        return Column(name, pa.string(), {"base": "character" if oid == _CHAR else "character varying", "length": length})
    raise Refusal(f'column "{name}" is of a type that UNLOAD to Parquet does not have in the Redshift stand-in', "0A000")


def copy_sql(query: str, columns: Sequence[Column]) -> str:
    """The COPY that gives the rows of *query* as CSV, null apart from an empty text."""
    names = [f"c{number}" for number in range(len(columns))]
    values = ", ".join(column.sql.format(name) for column, name in zip(columns, names, strict=True))
    # The line feed ends a comment in which the query may end.
    rows = f"SELECT {values} FROM ({query}\n) AS unloaded ({', '.join(names)})"  # noqa: S608 - the client's own SQL
    return f"COPY ({rows}) TO STDOUT (FORMAT csv, NULL '{NULL}')"


def tables(rows: Iterable[bytes], columns: Sequence[Column]) -> Iterator[pa.Table]:
    """Rows of CSV as tables of about CHUNK_BYTES. Raises: Refusal where a value has no place in its column's type."""
    chunk: list[bytes] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row)
        if size >= CHUNK_BYTES:
            yield _table(chunk, columns)
            chunk, size = [], 0
    if chunk:
        yield _table(chunk, columns)


def _table(rows: Sequence[bytes], columns: Sequence[Column]) -> pa.Table:
    names = [f"c{number}" for number in range(len(columns))]
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(b"".join(rows)),
            pyarrow.csv.ReadOptions(column_names=names, block_size=2 * CHUNK_BYTES),
            pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            pyarrow.csv.ConvertOptions(
                column_types={name: column.arrow for name, column in zip(names, columns, strict=True)},
                null_values=[NULL],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
    except pa.ArrowInvalid:  # its text holds the value
        raise Refusal("a value cannot be written to Parquet", "22000") from None
    if table.num_rows != len(rows):
        raise Refusal("the stand-in lost count of the rows it unloads")
    return table.rename_columns([column.name for column in columns])


@dataclass
class _Slice:
    part: int = 0
    rows: int = 0
    file: IO[bytes] | None = None
    writer: pq.ParquetWriter | None = None


@dataclass
class ParquetFiles:
    """Writes tables to files, in turn by slice, none larger than *max_bytes* but for one row group. Nothing is kept in memory.

    *key* names a file by slice and part, *put* stores it; close gives what was written, by key.
    """

    schema: pa.Schema
    slices: int
    max_bytes: int
    key: Callable[[int, int], str]
    put: Callable[[str, IO[bytes]], None]
    written: list[File] = field(default_factory=list)

    def __post_init__(self) -> None:
        """No file is opened yet."""
        self._slices = [_Slice() for _ in range(self.slices)]

    def add(self, table: pa.Table) -> None:
        """Write a table, a share of it to each slice."""
        share = -(-table.num_rows // self.slices)
        for number in range(self.slices):
            rows = table.slice(number * share, share)
            if rows.num_rows:
                self._write(number, rows)

    @property
    def has_rows(self) -> bool:
        """True once a table with rows was added."""
        return bool(self.written) or any(part.rows for part in self._slices)

    def open_all(self) -> None:
        """Open a file of every slice, so that each gets one even without rows."""
        for number in range(self.slices):
            self._open(number)

    def close(self) -> list[File]:
        """Store what is still open."""
        for number in range(self.slices):
            self._finish(number)
        return sorted(self.written, key=lambda file: file.key)

    def discard(self) -> None:
        """Give up what is still open."""
        for part in self._slices:
            if part.writer is not None and part.file is not None and not part.file.closed:
                part.writer.close()  # it would do so when it is collected, and then find no file
                part.file.close()

    def _write(self, number: int, rows: pa.Table) -> None:
        part = self._slices[number]
        if part.file is not None and part.file.tell() + rows.nbytes > self.max_bytes:
            self._finish(number)
        self._open(number).write_table(rows)
        self._slices[number].rows += rows.num_rows

    def _open(self, number: int) -> pq.ParquetWriter:
        part = self._slices[number]
        if part.writer is None:
            part.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is stored or given up
            part.writer = pq.ParquetWriter(
                part.file, self.schema, version="1.0", compression="snappy", coerce_timestamps="us", store_schema=False
            )
        return part.writer

    def _finish(self, number: int) -> None:
        part = self._slices[number]
        if part.file is None or part.writer is None:
            return
        part.writer.close()
        with part.file as file:
            size, key = file.tell(), self.key(number, part.part)
            file.seek(0)
            self.put(key, file)
        self.written.append(File(key, size, part.rows))
        self._slices[number] = _Slice(part.part + 1)
