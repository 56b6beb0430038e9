"""UNLOAD over the unmodified driver: what lies in S3 afterwards, what the client is told, and every way in which it fails."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import redshift_connector

from rs_cio_assets.sandbox.redshift import RedshiftStandIn, wire
from rs_cio_assets.sandbox.s3 import S3StandIn
from rs_cio_assets_tests.redshift_client import BUCKET, ROLE, connect, keys, one, read, refused, table_of, unload_sql
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678_901)  # noqa: DTZ001 - TIMESTAMP has no zone
ONE_ROW = "SELECT 1 AS a"


@pytest.fixture
def watcher(redshift: RedshiftStandIn) -> Iterator[redshift_connector.Cursor]:
    """A cursor that sees anew each time what others do."""
    with connect(redshift) as connection:
        connection.autocommit = True
        yield connection.cursor()


@pytest.fixture
def prefix() -> str:
    """A prefix in the bucket of the test's own."""
    return f"unload/{uuid4().hex}/"


def test_values_arrive_with_their_types(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """Each type of the warehouse has its own in the file; null, empty text, line feeds, quotes and the null mark stay apart."""
    cursor.execute("SET timezone TO 'America/New_York'")
    cursor.execute(
        """CREATE TEMP TABLE t (n INT, flag BOOLEAN, small SMALLINT, int INTEGER, big BIGINT, four REAL, eight FLOAT8,
        money NUMERIC(12,2), wide NUMERIC(38,6), day DATE, at TIMESTAMP, instant TIMESTAMPTZ, text VARCHAR(50),
        three CHAR(3), json SUPER)"""
    )
    texts = ["", "\\N", 'a"b,\n\r\n\tü🌊\\', None]
    for n, text in enumerate(texts):
        cursor.execute(
            "INSERT INTO t VALUES (%s, TRUE, -3, 2147483647, -9223372036854775808, 0.5, 0.1, 1234567890.25, "
            "'12345678901234567890123456789012.000001', '1969-12-31', %s, '2026-01-01 02:00:00+02', %s, 'ab', "
            "JSON_PARSE('{\"k\": [1]}'))",
            (n, MOMENT, text),
        )
    cursor.execute("INSERT INTO t VALUES (4)")
    cursor.execute(unload_sql("SELECT * FROM t ORDER BY n", prefix, "MANIFEST VERBOSE PARALLEL OFF"))
    table = table_of(s3, prefix)
    fixed = {
        "flag": (pa.bool_(), True),
        "small": (pa.int16(), -3),
        "int": (pa.int32(), 2**31 - 1),
        "big": (pa.int64(), -(2**63)),
        "four": (pa.float32(), 0.5),
        "eight": (pa.float64(), 0.1),
        "money": (pa.decimal128(12, 2), Decimal("1234567890.25")),
        "wide": (pa.decimal128(38, 6), Decimal("12345678901234567890123456789012.000001")),
        "day": (pa.date32(), date(1969, 12, 31)),
        "at": (pa.timestamp("us"), MOMENT),
        "instant": (pa.timestamp("us"), datetime(2026, 1, 1)),  # noqa: DTZ001 - the zone is dropped, the value is UTC's
        "three": (pa.string(), "ab "),
        "json": (pa.string(), '{"k": [1]}'),
    }
    assert {name: (table.schema.field(name).type, table[name][0].as_py()) for name in fixed} == fixed
    assert table["text"].to_pylist() == [*texts, None]
    assert [table[name][4].as_py() for name in fixed] == [None] * len(fixed)
    metadata = pq.ParquetFile(io.BytesIO(read(s3, f"{prefix}000.parquet"))).metadata
    assert (metadata.format_version, metadata.row_group(0).column(0).compression) == ("1.0", "SNAPPY")


def test_the_manifest_is_the_guide_s(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """Entries with size and rows, schema with dimensions, totals, author: as in the guide's example, counted from the files."""
    cursor.execute(unload_sql("SELECT n AS venueid, 'x'::VARCHAR(25) AS venuename FROM generate_series(1, 55) AS s (n)", prefix))
    manifest = json.loads(read(s3, f"{prefix}manifest"))
    urls = [f"s3://{BUCKET}/{prefix}000{n}_part_00.parquet" for n in (0, 1)]
    sizes = [len(read(s3, f"{prefix}000{n}_part_00.parquet")) for n in (0, 1)]
    assert manifest == {
        "entries": [
            {"url": url, "meta": {"content_length": size, "record_count": rows}}
            for url, size, rows in zip(urls, sizes, (28, 27), strict=True)
        ],
        "schema": {
            "elements": [
                {"name": "venueid", "type": {"base": "integer"}},
                {"name": "venuename", "type": {"base": "character varying", "length": 25}},
            ]
        },
        "meta": {"content_length": sum(sizes), "record_count": 55},
        "author": {"name": "Amazon Redshift", "version": "1.0.0"},
    }
    cursor.execute(unload_sql(ONE_ROW, f"{prefix}plain_", "MANIFEST"))
    plain = {"entries": [{"url": f"s3://{BUCKET}/{prefix}plain_0000_part_00.parquet"}]}
    assert json.loads(read(s3, f"{prefix}plain_manifest")) == plain


def test_the_client_is_told_how_many_rows(
    connection: redshift_connector.Connection, cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str
):
    """The notice and pg_last_unload_count() give the rows; the statement itself returns none."""
    assert one(cursor, "SELECT pg_last_unload_count()") == 0
    cursor.execute(unload_sql("SELECT n FROM generate_series(1, 7) AS s (n)", prefix))
    assert cursor.description is None
    assert connection.notices[-1][b"M"] == b"UNLOAD completed, 7 record(s) unloaded successfully."
    assert one(cursor, "SELECT pg_last_unload_count()") == 7
    connection.commit()


def test_it_runs_in_the_client_s_transaction(
    redshift: RedshiftStandIn,
    connection: redshift_connector.Connection,
    cursor: redshift_connector.Cursor,
    s3: ScriptedS3,
    prefix: str,
):
    """Its own uncommitted rows are unloaded, what others committed after the snapshot is not, and a rollback undoes no file."""
    with connect(redshift) as other:
        writing = other.cursor()
        name = f"public.t{uuid4().hex}"
        writing.execute(f"CREATE TABLE {name} (a INT)")
        other.commit()
        cursor.execute(f"INSERT INTO {name} VALUES (1)")
        writing.execute(f"INSERT INTO {name} VALUES (2)")
        other.commit()
        cursor.execute(unload_sql(f"SELECT a FROM {name}", prefix))
        connection.rollback()
        assert table_of(s3, prefix)["a"].to_pylist() == [1]
        writing.execute(f"DROP TABLE {name}")
        other.commit()


def test_the_same_text_runs_again_each_time(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """The driver prepares a text once and executes it again: so does UNLOAD, which finds other rows then."""
    cursor.execute("CREATE TEMP TABLE t (a INT)")
    sql = unload_sql("SELECT a FROM t", prefix, "ALLOWOVERWRITE")
    for rows in (1, 2):
        cursor.execute("INSERT INTO t VALUES (%s)", (rows,))
        cursor.execute(sql)
        assert one(cursor, "SELECT pg_last_unload_count()") == rows


def test_redshift_s_own_sql_is_understood_within(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """The query passes through the dialect, may begin with WITH, hold literals with quotes, and end in a comment."""
    query = (
        "WITH t AS (SELECT 'it''s' AS v) SELECT LISTAGG(v, ',') WITHIN GROUP (ORDER BY v) AS v, "
        "DATEADD('day', 1, '2026-01-01'::DATE) AS d FROM t -- done"
    )
    cursor.execute(unload_sql(query, prefix))
    assert table_of(s3, prefix).to_pylist() == [{"v": "it's", "d": datetime(2026, 1, 2)}]  # noqa: DTZ001 - as above


def test_a_number_without_a_precision_gets_ten_places(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """Redshift has no such NUMERIC; here it is rounded, not cut and not refused."""
    cursor.execute(unload_sql("SELECT 2::NUMERIC / 3 AS a, COUNT(*)::NUMERIC(5,0) AS b", prefix))
    assert table_of(s3, prefix).to_pylist() == [{"a": Decimal("0.6666666667"), "b": Decimal(1)}]


def test_a_column_of_texts_alone_keeps_empty_ones(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """One column of empty texts and nulls is empty lines and marks on the way: none is lost, none changes."""
    cursor.execute(
        unload_sql("SELECT v FROM (VALUES (1, ''), (2, NULL), (3, ''), (4, '\\.'), (5, ' ')) AS t (n, v) ORDER BY n", prefix)
    )
    assert table_of(s3, prefix)["v"].to_pylist() == ["", None, "", "\\.", " "]


def test_rows_are_in_order_when_they_are_unloaded_in_series(
    cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str, monkeypatch: pytest.MonkeyPatch
):
    """PARALLEL OFF keeps ORDER BY over several chunks, in one file."""
    monkeypatch.setattr("rs_cio_assets.sandbox.redshift.files.CHUNK_BYTES", 2_000)
    cursor.execute(unload_sql("SELECT n FROM generate_series(1, 5000) AS s (n) ORDER BY n DESC", prefix, "PARALLEL OFF"))
    assert keys(s3, prefix) == ["000.parquet"]
    assert table_of(s3, prefix)["n"].to_pylist() == list(range(5000, 0, -1))


def test_files_are_encrypted_as_told(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """SSE-S3 unless a key of KMS is given; files and manifest alike."""
    cursor.execute(unload_sql(ONE_ROW, f"{prefix}a_", "MANIFEST"))
    cursor.execute(unload_sql(ONE_ROW, f"{prefix}b_", "MANIFEST ENCRYPTED KMS_KEY_ID 'key-1'"))
    found = {key: s3.client.head_object(Bucket=BUCKET, Key=prefix + key) for key in keys(s3, prefix)}
    assert {key: (head["ServerSideEncryption"], head.get("SSEKMSKeyId")) for key, head in found.items()} == {
        "a_0000_part_00.parquet": ("AES256", None),
        "a_manifest": ("AES256", None),
        "b_0000_part_00.parquet": ("aws:kms", "key-1"),
        "b_manifest": ("aws:kms", "key-1"),
    }


def test_what_lies_there_is_kept_overwritten_or_removed_as_told(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """A destination that is not empty is refused; ALLOWOVERWRITE leaves other files, CLEANPATH removes them."""
    s3.client.put_object(Bucket=BUCKET, Key=f"{prefix}old.parquet", Body=b"old")
    assert "is not empty" in refused(cursor, unload_sql(ONE_ROW, prefix))["M"]
    assert keys(s3, prefix) == ["old.parquet"]
    cursor.execute(unload_sql(ONE_ROW, prefix, "ALLOWOVERWRITE"))
    assert keys(s3, prefix) == ["0000_part_00.parquet", "old.parquet"]
    cursor.execute(unload_sql(ONE_ROW, prefix, "CLEANPATH"))
    assert keys(s3, prefix) == ["0000_part_00.parquet"]


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("SELECT no_such FROM public.nowhere", "42P01", "nowhere"),
        ("SELECT 1 AS a LIMIT 1", "0A000", "Limit clause is not supported"),
        ("SELECT 1 / (9000 - n) AS a FROM generate_series(1, 10000) AS s (n)", "22012", "division by zero"),
        ("SELECT 1 AS a, 2 AS a", "42701", "differ"),
        ("SELECT INTERVAL '1 day' AS a", "0A000", '"a"'),
        ("SELECT 'infinity'::TIMESTAMP AS a", "22000", "Parquet"),
        ("DELETE FROM pg_class", "42601", "syntax"),
        ("", "42601", "syntax"),
    ],
)
def test_a_query_that_cannot_be_unloaded_is_an_error(
    cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str, query: str, code: str, words: str
):
    """The SQLSTATE says which; the transaction is aborted, and no file and no manifest is left."""
    error = refused(cursor, unload_sql(query, prefix))
    assert (error["C"], words in error["M"]) == (code, True), error
    assert keys(s3, prefix) == []


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (unload_sql(ONE_ROW, "unload/x", role="arn:aws:iam::123456789012:role/other"), "is not authorized to assume IAM Role"),
        (unload_sql(ONE_ROW, "unload/x", role=f"{ROLE},{ROLE}"), "is not authorized to assume IAM Role"),
        (unload_sql(ONE_ROW, "unload/x").replace("s3://rs-cio", "s3://no"), "Status 404,Error NoSuchBucket"),
        (unload_sql(ONE_ROW, "unload/x", "SURPRISE"), "SURPRISE"),
    ],
)
def test_what_the_cluster_or_s3_refuses_aborts_the_transaction(
    cursor: redshift_connector.Cursor, s3: ScriptedS3, sql: str, words: str
):
    """A role, a bucket, an option that are not there: an error, after which nothing runs until a rollback."""
    assert words in refused(cursor, sql)["M"]


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (
            lambda s3: s3.refuse("list_objects_v2", 403, "AccessDenied", "Access Denied"),
            "S3ServiceException:Access Denied,Status 403,Error AccessDenied,",
        ),
        (lambda s3: s3.refuse("put_object", 503, "SlowDown", "Please reduce your request rate."), "Status 503,Error SlowDown"),
        (lambda s3: s3.refuse("put_object", 400, "ExpiredToken"), "Status 400,Error ExpiredToken"),
        (lambda s3: s3.conflict(), "1023"),
    ],
    ids=["access denied", "5xx", "expired token", "serialization conflict"],
)
def test_errors_by_script_arrive_once(
    cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str, plant: Callable[[ScriptedS3], None], words: str
):
    """An error that a test plants is the cluster's, in Redshift's words; the next UNLOAD works."""
    plant(s3)
    error = refused(cursor, unload_sql("SELECT n FROM generate_series(1, 10) AS s (n)", prefix))
    assert (error["C"], words in error["M"]) == ("XX000", True), error
    cursor.execute(unload_sql(ONE_ROW, f"{prefix}again_"))


def test_damage_by_script_lies_in_s3(cursor: redshift_connector.Cursor, s3: ScriptedS3, prefix: str):
    """A file cut off, lost or added, a manifest with wrong counts or cut off: there, although UNLOAD said that it was well."""

    def unload(name: str) -> list[str]:
        cursor.execute(unload_sql("SELECT n FROM generate_series(1, 10) AS s (n)", prefix + name))
        return keys(s3, prefix + name)

    usual = ["0000_part_00.parquet", "0001_part_00.parquet", "manifest"]
    s3.truncate_file(kept_bytes=50)
    assert unload("cut/") == usual
    assert len(read(s3, f"{prefix}cut/0000_part_00.parquet")) == 50
    s3.lose_file()
    assert unload("lost/") == usual[1:]
    s3.add_file()
    assert unload("more/") == [usual[0], "0000_part_99.parquet", *usual[1:]]
    s3.change_manifest(lambda manifest: manifest["entries"][0]["meta"].update(record_count=4))
    assert unload("count/") == usual
    manifest = json.loads(read(s3, f"{prefix}count/manifest"))
    assert [entry["meta"]["record_count"] for entry in manifest["entries"]] == [4, 5]
    s3.halve_manifest()
    assert unload("half/") == usual
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(read(s3, f"{prefix}half/manifest"))


@pytest.mark.parametrize(
    ("empty_unload", "expected"),
    [("nothing", []), ("manifest", ["manifest"]), ("files", ["0000_part_00.parquet", "0001_part_00.parquet", "manifest"])],
)
def test_without_rows_it_leaves_what_the_stand_in_is_told(
    redshift: RedshiftStandIn,
    cursor: redshift_connector.Cursor,
    s3: ScriptedS3,
    prefix: str,
    monkeypatch: pytest.MonkeyPatch,
    empty_unload: Any,
    expected: list[str],
):
    """Neither file nor manifest, as users report; or a manifest alone, or a file of each slice: a reader is tried with all."""
    assert redshift.empty_unload == "nothing"
    monkeypatch.setattr(redshift, "empty_unload", empty_unload)
    cursor.execute(unload_sql("SELECT 1 AS a WHERE FALSE", prefix))
    assert one(cursor, "SELECT pg_last_unload_count()") == 0
    assert keys(s3, prefix) == expected
    if "manifest" in expected:
        manifest = json.loads(read(s3, f"{prefix}manifest"))
        assert manifest["meta"]["record_count"] == 0
        assert len(manifest["entries"]) == len(expected) - 1
    if len(expected) == 3:
        table = table_of(s3, prefix)
        assert (table.num_rows, table.schema.names) == (0, ["a"])


def test_its_statement_timeout_is_real(connection: redshift_connector.Connection, cursor: redshift_connector.Cursor, prefix: str):
    """57014 as for any statement, and the session goes on after a rollback."""
    cursor.execute("SET statement_timeout TO 100")
    connection.commit()
    assert refused(cursor, unload_sql("SELECT pg_sleep(60)::VARCHAR AS a", prefix))["C"] == "57014"
    assert one(cursor, "SELECT 1") == 1


def test_an_open_transaction_that_is_aborted_takes_no_unload(cursor: redshift_connector.Cursor, prefix: str):
    """25P02, as for any other statement; nothing is written."""
    with pytest.raises(redshift_connector.ProgrammingError, match="22012"):
        cursor.execute("SELECT 1 / 0")
    with pytest.raises(redshift_connector.ProgrammingError, match="25P02"):
        cursor.execute(unload_sql(ONE_ROW, prefix))


def test_it_runs_without_a_transaction_too(connection: redshift_connector.Connection, s3: ScriptedS3, prefix: str):
    """With autocommit, an error leaves the next statement alone."""
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(unload_sql(ONE_ROW, prefix))
    with pytest.raises(redshift_connector.ProgrammingError, match="is not empty"):
        cursor.execute(unload_sql(ONE_ROW, prefix))
    assert one(cursor, "SELECT pg_last_unload_count()") == 1
    connection.autocommit = False


def test_a_client_that_goes_away_leaves_nothing_running(
    redshift: RedshiftStandIn, watcher: redshift_connector.Cursor, prefix: str
):
    """Its socket is cut while rows are computed: the statement ends in the server, and its thread in the stand-in."""
    client = connect(redshift)
    failed: list[BaseException] = []

    def unload() -> None:
        try:
            client.cursor().execute(unload_sql(f"SELECT pg_sleep(600)::VARCHAR AS a, '{prefix}'::VARCHAR AS b", prefix))
        except Exception as error:  # noqa: BLE001 - whatever the driver makes of it
            failed.append(error)

    waiting = threading.Thread(target=unload)
    waiting.start()
    running = f"SELECT COUNT(*) FROM pg_stat_activity WHERE query LIKE 'COPY%{prefix}%' AND state = 'active'"
    assert wait_until(lambda: one(watcher, running) == 1)
    sessions = session_threads()
    client._usock.shutdown(socket.SHUT_RDWR)  # a machine that loses its network, not a driver that says goodbye
    waiting.join(30)
    assert wait_until(lambda: one(watcher, running) == 0)
    assert wait_until(lambda: session_threads() == sessions - 1)
    assert len(failed) == 1
    client._usock.close()


def session_threads() -> int:
    """Sessions that the stand-in serves."""
    return sum(thread.name == "redshift-session" for thread in threading.enumerate())


def test_a_client_that_cancels_gets_an_error(redshift: RedshiftStandIn, watcher: redshift_connector.Cursor, prefix: str):
    """pg_cancel_backend during an UNLOAD is 57014 for its client, whose session goes on."""
    with connect(redshift) as client:
        slow = client.cursor()
        process = one(slow, "SELECT pg_backend_pid()")
        running = f"SELECT COUNT(*) FROM pg_stat_activity WHERE pid = {process} AND query LIKE 'COPY%' AND state = 'active'"

        def cancel() -> None:
            if wait_until(lambda: one(watcher, running) == 1):
                watcher.execute(f"SELECT pg_cancel_backend({process})")

        cancelling = threading.Thread(target=cancel)
        cancelling.start()
        error = refused(slow, unload_sql("SELECT pg_sleep(600)::VARCHAR AS a", prefix))
        cancelling.join(30)
        assert error["C"] == "57014"
        assert one(slow, "SELECT 1") == 1


def test_many_clients_unload_at_once(redshift: RedshiftStandIn, s3: ScriptedS3, prefix: str):
    """Six sessions in step: each finds its own rows under its own prefix."""
    together = threading.Barrier(6)

    def unload(client: int) -> list[int]:
        with connect(redshift) as connection:
            together.wait(20)
            query = f"SELECT {client} * 10000 + n AS n FROM generate_series(1, 2000) AS s (n)"
            connection.cursor().execute(unload_sql(query, f"{prefix}{client}/"))
        return sorted(table_of(s3, f"{prefix}{client}/")["n"].to_pylist())

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(unload, range(6)))
    assert found == [list(range(client * 10_000 + 1, client * 10_000 + 2001)) for client in range(6)]


def test_the_simple_protocol_works_too(redshift: RedshiftStandIn, s3: ScriptedS3, prefix: str):
    """Sent as a plain query, as other clients do: notice, tag and state; an error leaves the transaction aborted."""
    with socket.create_connection(("127.0.0.1", redshift.port)) as client:
        client.sendall(wire.startup_message({"user": "cio_sync", "database": "shop"}))
        assert wire.read_message(client)[0] == b"R"
        client.sendall(wire.message(b"p", b"sandbox\0"))
        list(answers(client))
        for sql, kinds, state in (
            (unload_sql(ONE_ROW, f"{prefix}a_"), b"NCZ", b"I"),  # a transaction of its own
            ("BEGIN", b"CZ", b"T"),
            (unload_sql(ONE_ROW, f"{prefix}b_"), b"NCZ", b"T"),
            (unload_sql(ONE_ROW, f"{prefix}b_"), b"EZ", b"E"),
            (unload_sql(ONE_ROW, f"{prefix}c_"), b"EZ", b"E"),
            ("ROLLBACK", b"CZ", b"I"),
        ):
            client.sendall(wire.message(b"Q", sql.encode() + b"\0"))
            found = list(answers(client))
            assert (b"".join(kind for kind, _ in found), found[-1][1]) == (kinds, state), sql
    assert [key[:2] for key in keys(s3, prefix)] == ["a_", "a_", "b_", "b_"]


def answers(client: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Messages of the server up to ReadyForQuery."""
    while (message := wire.read_message(client))[0] != b"Z":
        yield message
    yield message


def test_without_s3_it_is_refused(redshift: RedshiftStandIn, cursor: redshift_connector.Cursor, monkeypatch: pytest.MonkeyPatch):
    """A stand-in that has none says so, and the transaction is aborted."""
    monkeypatch.setattr(redshift._transfers, "s3", None)
    error = refused(cursor, unload_sql(ONE_ROW, "unload/x"))
    assert (error["C"], "without S3" in error["M"]) == ("0A000", True)


def test_the_bucket_expires_what_is_unloaded():
    """Objects under unload/ go after a day, should a reader leave them."""
    with S3StandIn() as s3:  # just started: all stand-ins of a process share their buckets, and another test may have set rules
        rules = s3.client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert [(r["Filter"]["Prefix"], r["Expiration"]["Days"], r["Status"]) for r in rules] == [("unload/", 1, "Enabled")]


def wait_until(is_so: Callable[[], bool], deadline_s: float = 30.0) -> bool:
    """True as soon as *is_so*, False when that takes too long."""
    deadline = time.monotonic() + deadline_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
