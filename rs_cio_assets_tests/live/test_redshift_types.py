"""What the driver makes of each type: by the protocol that it speaks with a cluster by itself, and by the one tried in CI."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.cluster import Cluster

# Type -> literals with what Python must get.
TYPES: dict[str, list[tuple[str, Any]]] = {
    "SMALLINT": [("-32768", -32_768), ("32767", 32_767)],
    "INTEGER": [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)],
    "BIGINT": [("-9223372036854775808", -(2**63)), ("9223372036854775807", 2**63 - 1)],
    "REAL": [("0.5", 0.5), ("-1.25", -1.25)],
    "DOUBLE PRECISION": [("0.1", 0.1), ("1.7976931348623157e308", 1.7976931348623157e308)],
    "NUMERIC(12,2)": [("0.00", Decimal("0.00")), ("-9999999999.99", Decimal("-9999999999.99"))],
    "NUMERIC(18,0)": [("999999999999999999", Decimal(10**18 - 1))],
    "NUMERIC(38,10)": [("1234567890123456789012345678.0123456789", Decimal("1234567890123456789012345678.0123456789"))],
    "BOOLEAN": [("true", True), ("false", False)],
    "VARCHAR(64)": [("", ""), ("Ærøskøbing 🌊", "Ærøskøbing 🌊"), ("two\nlines", "two\nlines")],
    "CHAR(4)": [("ab", "ab  ")],
    "DATE": [("0001-01-01", date(1, 1, 1)), ("2024-02-29", date(2024, 2, 29)), ("9999-12-31", date(9999, 12, 31))],
    "TIMESTAMP": [
        ("2026-11-20 08:00:00", datetime(2026, 11, 20, 8)),  # noqa: DTZ001 - TIMESTAMP has no zone
        ("1969-12-31 23:59:59.999999", datetime(1969, 12, 31, 23, 59, 59, 999_999)),  # noqa: DTZ001
        ("9999-12-31 23:59:59", datetime(9999, 12, 31, 23, 59, 59)),  # noqa: DTZ001
    ],
    "TIMESTAMPTZ": [("2026-11-20 08:00:00+02", datetime(2026, 11, 20, 6, tzinfo=UTC))],
    "TIME": [("12:30:15.5", time(12, 30, 15, 500_000))],
}


@pytest.mark.parametrize("name", [*TYPES, "SUPER"])
@pytest.mark.parametrize("protocol", ["usual", "text"])
@pytest.mark.asks(
    "Which Python value does the driver give for each type, by the binary protocol (its own choice) and by text?",
    "both protocols give the value that was stored, and NULL as None",
    "rs_cio_assets/warehouse/stage.py",
    relies=True,
)
def test_types_arrive_as_they_were_stored(cluster: Cluster, answer: Answer, name: str, protocol: str):
    """Extremes, unicode, empty texts and NULL, from a table, so that no literal is folded on the way."""
    table = f"{cluster.schema}.t_{uuid.uuid4().hex[:8]}"
    cases = TYPES.get(name, [])
    with cluster.connection(**({} if protocol == "usual" else {"client_protocol_version": 0})) as connection:
        cursor = connection.cursor()
        cursor.execute(f"CREATE TABLE {table} (n INTEGER, v {name})")
        if name == "SUPER":
            cursor.execute(f"""INSERT INTO {table} SELECT 0, JSON_PARSE('{{"a":[1,"x",null,1.5]}}')""")
        for number, (literal, _) in enumerate(cases):
            cursor.execute(f"INSERT INTO {table} VALUES ({number}, '{literal}')")
        cursor.execute(f"INSERT INTO {table} VALUES (99, NULL)")
        cursor.execute(f"SELECT v FROM {table} ORDER BY n")
        (*found, null) = [value for (value,) in cursor.fetchall()]
        oid = cursor.description[0][1]
    answer.facts = {
        "type oid": oid,
        "values": [repr(value) for value in found],
        "protocol version": connection._client_protocol_version,
    }
    if name == "SUPER":
        right = isinstance(found[0], str) and "".join(found[0].split()) == '{"a":[1,"x",null,1.5]}'
    else:
        right = found == [value for _, value in cases]
    answer.judge(right and null is None, f"{[*found, null]!r}")
