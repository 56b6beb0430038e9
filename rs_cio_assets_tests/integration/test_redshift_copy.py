"""COPY from Parquet over the unmodified driver: what UNLOAD or pyarrow wrote comes back, or the client learns why it does not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from rs_cio_assets_tests.redshift_client import BUCKET, ROLE, one, read, refused, unload_sql
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

COLUMNS = (
    "flag BOOLEAN, small SMALLINT, n INTEGER, big BIGINT, four REAL, eight FLOAT8, money NUMERIC(12,2), day DATE, at TIMESTAMP, "
    "text VARCHAR(100)"
)
MOMENT = datetime.fromisoformat("2026-01-02 03:04:05.678901")  # without a zone, as TIMESTAMP
ROWS = [
    (True, -3, 1, -(2**63), 0.5, 0.1, Decimal("-0.01"), date(1969, 12, 31), MOMENT, ""),
    (None, None, 2, None, None, None, None, None, None, None),
    (False, 0, 3, 2**63 - 1, -1.5, -1e300, Decimal("1234567890.25"), date(2024, 2, 29), MOMENT, 'a"b,\n\r\n\\.\tü🌊'),
]


@pytest.fixture
def prefix() -> str:
    """A prefix in the bucket of the test's own."""
    return f"unload/{uuid4().hex}/"


@pytest.fixture
def table(cursor: redshift_connector.Cursor) -> str:
    """A table with a column of each type, gone after the test."""
    name = f"public.t{uuid4().hex}"
    cursor.execute(f"CREATE TABLE {name} ({COLUMNS})")
    return name


def copy_sql(table: str, key: str, options: str = "", role: str = ROLE) -> str:
    """The statement as the product writes it."""
    return f"COPY {table} FROM 's3://{BUCKET}/{key}' IAM_ROLE '{role}' FORMAT AS PARQUET {options}"


def put(s3: ScriptedS3, key: str, table: pa.Table) -> None:
    """Store a table as Parquet."""
    file = io.BytesIO()
    pq.write_table(table, file)
    s3.client.put_object(Bucket=BUCKET, Key=key, Body=file.getvalue())


def fill(cursor: redshift_connector.Cursor, table: str) -> None:
    """Insert ROWS."""
    for row in ROWS:
        cursor.execute(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)


def rows_of(cursor: redshift_connector.Cursor, table: str) -> list[tuple[Any, ...]]:
    """All rows in the order of n."""
    cursor.execute(f"SELECT * FROM {table} ORDER BY n")
    return [tuple(row) for row in cursor.fetchall()]


@pytest.mark.parametrize(("key", "options"), [("manifest", "MANIFEST"), ("0", "")], ids=["by manifest", "by prefix"])
def test_what_was_unloaded_comes_back_the_same(
    connection: redshift_connector.Connection,
    cursor: redshift_connector.Cursor,
    s3: ScriptedS3,
    table: str,
    prefix: str,
    key: str,
    options: str,
):
    """Every type, nulls and empty texts, by the manifest of UNLOAD and by prefix; the client is told how many rows."""
    fill(cursor, table)
    cursor.execute(unload_sql(f"SELECT * FROM {table}", prefix))
    cursor.execute(f"DELETE FROM {table}")
    cursor.execute(copy_sql(table, prefix + key, options))
    assert connection.notices[-1][b"M"].decode() == f"Load into table '{table}' completed, 3 record(s) loaded successfully."
    assert rows_of(cursor, table) == ROWS
    assert one(cursor, "SELECT pg_last_copy_count()") == 3


def test_it_runs_in_the_client_s_transaction(
    connection: redshift_connector.Connection, cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str
):
    """It fills a TEMP table, each time the same text runs, and a rollback takes the rows back."""
    put(s3, f"{prefix}a.parquet", pa.table({"n": pa.array([1, 2], pa.int32())}))
    cursor.execute("CREATE TEMP TABLE t (n INT)")
    connection.commit()
    for rows in (2, 4):
        cursor.execute(copy_sql("t", prefix))
        assert one(cursor, "SELECT COUNT(*) FROM t") == rows
    connection.rollback()
    assert one(cursor, "SELECT COUNT(*) FROM t") == 0


def test_columns_go_by_their_position(cursor: redshift_connector.Cursor, s3: ScriptedS3, table: str, prefix: str):
    """The names in the file do not matter; a column list says where its columns go."""
    put(s3, f"{prefix}a.parquet", pa.table({"day": ["x"], "text": pa.array([7], pa.int32())}))
    cursor.execute(copy_sql(f'{table} (text, "n")', prefix))
    cursor.execute(f"SELECT text, n, day FROM {table}")
    assert [tuple(row) for row in cursor.fetchall()] == [("x", 7, None)]


def test_a_time_in_utc_keeps_its_value(cursor: redshift_connector.Cursor, s3: ScriptedS3, table: str, prefix: str):
    """Times that the file marks as UTC are loaded as UTC's, whatever the session's time zone."""
    cursor.execute("SET timezone TO 'Asia/Tokyo'")
    put(s3, f"{prefix}a.parquet", pa.table({"at": pa.array([MOMENT], pa.timestamp("us", "UTC"))}))
    cursor.execute(copy_sql(f"{table} (at)", prefix))
    assert one(cursor, f"SELECT at FROM {table}") == MOMENT


INT = pa.array([1], pa.int32())
UNFIT: dict[str, tuple[str, pa.Table, str, str]] = {
    "too many columns": ("(n)", pa.table({"a": INT, "b": INT}), "XX000", "Table columns: 1, Data columns: 2"),
    "another type": ("(n)", pa.table({"a": pa.array([1], pa.int64())}), "XX000", "incompatible Parquet schema for column \"n\""),
    "another scale": ("(money)", pa.table({"a": pa.array([Decimal(1)], pa.decimal128(12, 4))}), "XX000", "\"money\""),
    "a text that is too long": ("(text)", pa.table({"a": ["x" * 101]}), "22001", "too long"),
    "a column that is not there": ("(nope)", pa.table({"a": INT}), "42703", "nope"),
}  # fmt: skip


@pytest.mark.parametrize(("columns", "data", "code", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_a_file_that_does_not_fit_is_refused(
    cursor: redshift_connector.Cursor,
    s3: ScriptedS3,
    table: str,
    prefix: str,
    columns: str,
    data: pa.Table,
    code: str,
    words: str,
):
    """The error names the column or the counts; the transaction is aborted."""
    put(s3, f"{prefix}a.parquet", data)
    error = refused(cursor, copy_sql(f"{table} {columns}", prefix))
    assert (error["C"], words in error["M"]) == (code, True), error


@pytest.mark.parametrize("kind", ["TIMESTAMPTZ", "SUPER"])
def test_types_that_spectrum_does_not_have_are_refused(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str, kind: str):
    """COPY from Parquet to these columns is not claimed to work."""
    put(s3, f"{prefix}a.parquet", pa.table({"a": ["x"]}))
    cursor.execute(f"CREATE TEMP TABLE t (a {kind})")
    assert kind in refused(cursor, copy_sql("t", prefix))["M"]


def planted(s3: ScriptedS3, prefix: str, change: Callable[[dict[str, Any]], Any] = lambda _: None) -> None:
    """A file and a manifest of it, changed."""
    put(s3, f"{prefix}a.parquet", pa.table({"a": INT}))
    size = len(read(s3, f"{prefix}a.parquet"))
    manifest = {"entries": [{"url": f"s3://{BUCKET}/{prefix}a.parquet", "meta": {"content_length": size}}]}
    change(manifest)
    s3.client.put_object(Bucket=BUCKET, Key=f"{prefix}manifest", Body=json.dumps(manifest).encode())


Plant = Callable[[ScriptedS3, str], Any]


def nothing(s3: ScriptedS3, prefix: str) -> None:
    """No object under the prefix."""


def body(name: str, data: bytes) -> Plant:
    """An object of this content."""
    return lambda s3, prefix: s3.client.put_object(Bucket=BUCKET, Key=prefix + name, Body=data)


def entry(**changed: Any) -> Plant:
    """A file, and a manifest with a wrong entry for it; *url* is a name under the prefix."""

    def plant(s3: ScriptedS3, prefix: str) -> None:
        url = {"url": f"s3://{BUCKET}/{prefix}{changed['url']}"} if "url" in changed else {}
        planted(s3, prefix, lambda manifest: manifest["entries"][0].update(changed | url))

    return plant


def refusal(operation: str, status: int, code: str) -> Plant:
    """A file and a manifest that are right, and S3, which is not."""

    def plant(s3: ScriptedS3, prefix: str) -> None:
        planted(s3, prefix)
        s3.refuse(operation, status, code)

    return plant


def conflict(s3: ScriptedS3, prefix: str) -> None:
    """A file and a manifest that are right, and another transaction in the way."""
    planted(s3, prefix)
    s3.conflict()


WRONG: dict[str, tuple[Plant, str, str]] = {
    "nothing there": (nothing, "", "does not exist"),
    "no manifest": (body("a", b""), "MANIFEST", "Error NoSuchKey"),
    "no Parquet": (body("a", b"hello"), "", "no Parquet file"),
    "manifest as data": (planted, "", "no Parquet file"),
    "a manifest cut off": (body("manifest", b'{"en'), "MANIFEST", "manifest"),
    "no length": (entry(meta={}), "MANIFEST", "manifest"),
    "wrong length": (entry(meta={"content_length": 7}), "MANIFEST", "as long"),
    "a mandatory file is missing": (entry(mandatory=True, url="other"), "MANIFEST", "Error NoSuchKey"),
    "every file is missing": (entry(url="other"), "MANIFEST", "does not exist"),
    "S3 refuses the list": (refusal("list_objects_v2", 403, "AccessDenied"), "", "Error AccessDenied"),
    "S3 refuses midway": (refusal("get_object", 500, "InternalError"), "", "Status 500,Error InternalError"),
    "conflict": (conflict, "MANIFEST", "1023"),
}


@pytest.mark.parametrize(("plant", "options", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_cannot_be_loaded_is_an_error(
    cursor: redshift_connector.Cursor,
    s3: ScriptedS3,
    prefix: str,
    plant: Plant,
    options: str,
    words: str,
):
    """Files, manifests and S3 that are not as they should be: an error that says what, and an aborted transaction."""
    plant(s3, prefix)
    cursor.execute("CREATE TEMP TABLE t (a INT)")
    error = refused(cursor, copy_sql("t", prefix + ("manifest" if options else ""), options))
    assert (error["C"], words in error["M"]) == ("XX000", True), error


def test_a_file_that_is_not_mandatory_may_be_missing(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """As the guide says of manifests: it is passed over without a word. Only the count shows it."""
    gone = {"url": f"s3://{BUCKET}/{prefix}gone", "meta": {"content_length": 1}}
    planted(s3, prefix, lambda manifest: manifest["entries"].append(gone))
    cursor.execute("CREATE TEMP TABLE t (a INT)")
    cursor.execute(copy_sql("t", f"{prefix}manifest", "MANIFEST"))
    assert one(cursor, "SELECT pg_last_copy_count()") == 1


def test_a_role_that_may_not_be_assumed_loads_nothing(cursor: redshift_connector.Cursor, prefix: str):
    """Any but the cluster's own."""
    cursor.execute("CREATE TEMP TABLE t (a INT)")
    error = refused(cursor, copy_sql("t", prefix, role="arn:aws:iam::123456789012:role/other"))
    assert "is not authorized to assume IAM Role" in error["M"]
