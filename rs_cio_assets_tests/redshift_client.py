"""The Redshift stand-in over the unmodified driver: connections, UNLOAD as the product writes it, and what lies in S3 then."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

BUCKET = "rs-cio-sandbox"
ROLE = "arn:aws:iam::000000000000:role/rs-cio-sandbox"


def connect(stand_in: RedshiftStandIn, **options: Any) -> redshift_connector.Connection:
    """A connection of the driver, as a person would open it."""
    usual = {"host": "127.0.0.1", "port": stand_in.port, "database": "shop", "user": "cio_sync", "password": "sandbox"}
    return redshift_connector.connect(**{**usual, "ssl": False, "application_name": "tests", **options})


def one(cursor: redshift_connector.Cursor, sql: str, values: Any = ()) -> Any:
    """The only value of the only row."""
    cursor.execute(sql, values)
    ((value,),) = cursor.fetchall()
    return value


def unload_sql(query: str, prefix: str, options: str = "MANIFEST VERBOSE", role: str = ROLE) -> str:
    """The statement as the product writes it."""
    literal = query.replace("\\", "\\\\").replace("'", "''")
    return f"UNLOAD ('{literal}') TO 's3://{BUCKET}/{prefix}' IAM_ROLE '{role}' FORMAT AS PARQUET {options}"


def keys(s3: ScriptedS3, prefix: str) -> list[str]:
    """Names of the objects under a prefix, without it."""
    found = s3.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return [item["Key"].removeprefix(prefix) for item in found]


def read(s3: ScriptedS3, key: str) -> bytes:
    """An object."""
    return s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()


def table_of(s3: ScriptedS3, prefix: str) -> pa.Table:
    """The rows of all files under a prefix."""
    files = [key for key in keys(s3, prefix) if key.endswith(".parquet")]
    return pa.concat_tables([pq.read_table(io.BytesIO(read(s3, prefix + key))) for key in files])


def refused(cursor: redshift_connector.Cursor, sql: str) -> dict[str, str]:
    """The fields of the error that *sql* ends with; the transaction is aborted after it, and rolled back here."""
    with pytest.raises(redshift_connector.ProgrammingError) as caught:
        cursor.execute(sql)
    with pytest.raises(redshift_connector.ProgrammingError, match="25P02"):
        cursor.execute("SELECT 1")
    cursor.execute("ROLLBACK")
    return caught.value.args[0]
