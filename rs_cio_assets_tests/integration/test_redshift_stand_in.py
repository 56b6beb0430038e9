"""The stand-in over the unmodified driver: values in and out, errors, cursors, views, logins, many clients at once."""

from __future__ import annotations

import gc
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redshift_connector

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.redshift_client import connect, one

MOMENT = datetime(2026, 11, 20, 23, 59, 59, 999_999)  # noqa: DTZ001 - TIMESTAMP has no zone
VALUES: dict[str, list[Any]] = {
    "SMALLINT": [-(2**15), 2**15 - 1, None],
    "INTEGER": [-(2**31), 2**31 - 1, None],
    "BIGINT": [-(2**63), 2**63 - 1, None],
    "NUMERIC(38,6)": [Decimal("-12345678901234567890123456789012.000001"), Decimal("0.100000"), None],
    "DOUBLE PRECISION": [0.1, -1e300, None],
    "BOOLEAN": [True, False, None],
    "VARCHAR(500)": ["", "Ünï 🌊 日本", "a'b\"c\\d\n\t%s $1 :x", None],
    "DATE": [date(2024, 2, 29), date(1900, 1, 1), None],
    "TIME": [time(23, 59, 59, 999_999), time(0, 0), None],
    "TIMESTAMP": [MOMENT, datetime(1969, 12, 31, 23, 59, 59, 1), None],  # noqa: DTZ001 - as above
    "TIMESTAMPTZ": [MOMENT.replace(tzinfo=UTC), None],
}


@pytest.mark.parametrize(
    ("kind", "value"), [pytest.param(kind, value, id=f"{kind} {value!r}") for kind, values in VALUES.items() for value in values]
)
def test_a_value_bound_and_stored_comes_back_the_same(cursor: redshift_connector.Cursor, kind: str, value: Any):
    """Out through a bound parameter into a column of the type and back: the same value of the same Python type."""
    cursor.execute(f"CREATE TEMP TABLE t (a {kind})")
    cursor.execute("INSERT INTO t VALUES (%s)", (value,))
    found = one(cursor, "SELECT a FROM t")
    assert (found, type(found)) == (value, type(value))


def test_super_takes_json_and_gives_text(cursor: redshift_connector.Cursor):
    """SUPER is filled by JSON_PARSE and read as text, as the driver does with Redshift's; null is not the JSON null."""
    cursor.execute("CREATE TEMP TABLE t (n INT, a SUPER)")
    cursor.execute("INSERT INTO t VALUES (1, JSON_PARSE(%s)), (2, NULL)", ('{"a": [1, "ü"]}',))
    cursor.execute("SELECT JSON_SERIALIZE(a), a IS NULL FROM t ORDER BY n")
    assert [tuple(row) for row in cursor.fetchall()] == [('{"a":[1,"ü"]}', False), ("null", True)]


def test_the_driver_takes_it_for_redshift(connection: redshift_connector.Connection, cursor: redshift_connector.Cursor):
    """The version is Redshift's (redshift.md section 1): the driver counts no rows of a FETCH, as with Redshift."""
    assert (b"server_version", b"8.0.2") in connection.parameter_statuses
    cursor.execute("DECLARE c CURSOR FOR SELECT 1 UNION ALL SELECT 2")
    cursor.execute("FETCH FORWARD 5 FROM c")
    assert (cursor.rowcount, len(cursor.fetchall())) == (-1, 2)


def test_after_an_error_the_transaction_is_aborted_until_rolled_back(
    connection: redshift_connector.Connection, cursor: redshift_connector.Cursor
):
    """Nothing runs after an error (25P02), nothing before it stays, and after ROLLBACK the connection is as good as new."""
    cursor.execute("CREATE TABLE public.undone (a INT)")
    for statement, code in (("SELECT 1 / 0", "22012"), ("SELECT 1", "25P02")):
        with pytest.raises(redshift_connector.ProgrammingError) as caught:
            cursor.execute(statement)
        assert caught.value.args[0]["C"] == code
    connection.rollback()
    assert one(cursor, "SELECT COUNT(*) FROM information_schema.tables WHERE table_name = 'undone'") == 0


def test_a_cursor_gives_all_rows_once_and_in_order(cursor: redshift_connector.Cursor):
    """DECLARE and FETCH, the last part smaller than asked for, then none."""
    cursor.execute("DECLARE c CURSOR FOR SELECT n FROM generate_series(1, 2500) AS s (n) ORDER BY n")
    found: list[int] = []
    sizes = []
    while True:
        cursor.execute("FETCH FORWARD 1000 FROM c")
        rows = cursor.fetchall()
        sizes.append(len(rows))
        found += [n for (n,) in rows]
        if not rows:
            break
    assert (sizes, found) == ([1000, 1000, 500, 0], list(range(1, 2501)))


def test_one_transaction_reads_from_one_snapshot(redshift: RedshiftStandIn, cursor: redshift_connector.Cursor):
    """What others commit after the first statement is not seen until the transaction ends, as under Redshift's SNAPSHOT."""
    with connect(redshift) as other:
        writing = other.cursor()
        writing.execute("CREATE TABLE public.snapshot (a INT)")
        other.commit()
        try:
            assert one(cursor, "SELECT COUNT(*) FROM public.snapshot") == 0
            writing.execute("INSERT INTO public.snapshot VALUES (1)")
            other.commit()
            assert one(cursor, "SELECT COUNT(*) FROM public.snapshot") == 0
            cursor.execute("ROLLBACK")
            assert one(cursor, "SELECT COUNT(*) FROM public.snapshot") == 1
            cursor.execute("ROLLBACK")
        finally:
            writing.execute("DROP TABLE public.snapshot")
            other.commit()


def test_a_view_over_a_table_that_does_not_exist_yet_is_refused_by_its_name(cursor: redshift_connector.Cursor):
    """Redshift would take this late-binding view; the stand-in does not claim to, and names the table that is missing."""
    with pytest.raises(redshift_connector.ProgrammingError, match="made_later") as caught:
        cursor.execute("CREATE VIEW public.v AS SELECT a FROM public.made_later WITH NO SCHEMA BINDING")
    assert caught.value.args[0]["C"] == "42P01"


def test_a_replacement_that_is_wrong_leaves_the_view_as_it_was(
    connection: redshift_connector.Connection, cursor: redshift_connector.Cursor
):
    """The old view is dropped and the new one made in one transaction: after an error and ROLLBACK the old one answers."""
    cursor.execute("CREATE OR REPLACE VIEW public.v_kept AS SELECT 1 AS a WITH NO SCHEMA BINDING")
    connection.commit()
    with pytest.raises(redshift_connector.ProgrammingError, match="no_such"):
        cursor.execute("CREATE OR REPLACE VIEW public.v_kept AS SELECT no_such AS b WITH NO SCHEMA BINDING")
    connection.rollback()
    assert one(cursor, "SELECT a FROM public.v_kept") == 1
    cursor.execute("DROP VIEW public.v_kept")
    connection.commit()


def test_a_view_that_another_view_reads_can_be_replaced_or_the_error_says_why(cursor: redshift_connector.Cursor):
    """With the same columns it is replaced under its reader; with others the message names the column, not a lost transaction."""
    cursor.execute("CREATE VIEW public.v_below AS SELECT 1 AS a WITH NO SCHEMA BINDING")
    cursor.execute("CREATE VIEW public.v_above AS SELECT a FROM public.v_below WITH NO SCHEMA BINDING")
    cursor.execute("CREATE OR REPLACE VIEW public.v_below AS SELECT 2 AS a WITH NO SCHEMA BINDING")
    assert one(cursor, "SELECT a FROM public.v_above") == 2
    with pytest.raises(redshift_connector.ProgrammingError, match="view column") as caught:
        cursor.execute("CREATE OR REPLACE VIEW public.v_below AS SELECT 3 AS other WITH NO SCHEMA BINDING")
    assert caught.value.args[0]["C"] == "42P16"


# The driver leaves its socket to the garbage collector when a login is refused (2.2, core.Connection.__init__).
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"password": "wrong"}, "28"),
        ({"password": ""}, "28"),
        ({"user": "nobody_of_that_name"}, "28"),
        ({"database": "none"}, "3D"),
    ],
    ids=["wrong password", "no password", "unknown user", "unknown database"],
)
def test_a_login_that_is_wrong_is_refused_with_the_class_of_its_error(
    redshift: RedshiftStandIn, options: dict[str, str], code: str
):
    """The SQLSTATE tells a login that is wrong from a database that is missing, and the password is not repeated."""
    with pytest.raises(redshift_connector.Error) as caught:
        connect(redshift, **options)
    fields = caught.value.args[0]
    del caught
    gc.collect()
    assert fields["C"][:2] == code
    assert "wrong" not in fields["M"]


def test_the_data_folder_s_server_takes_no_second_port_and_a_taken_port_no_server(redshift: RedshiftStandIn, tmp_path: Path):
    """A port in use is a ConfigurationError with the next step, and no PostgreSQL is left on the folder."""
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(ConfigurationError) as caught:
        RedshiftStandIn(tmp_path, listener.getsockname()[1]).start()
    assert "REDSHIFT_PORT" in caught.value.next_step
    assert list(tmp_path.rglob("postmaster.pid")) == []


def test_many_clients_at_once_each_get_their_own_answers(redshift: RedshiftStandIn):
    """Eight connections, started together, in transactions of their own: no answer goes to another client, no error."""
    together = threading.Barrier(8)

    def work(client: int) -> list[tuple[int, str]]:
        with connect(redshift) as connection:
            cursor = connection.cursor()
            together.wait(20)
            cursor.execute("CREATE TEMP TABLE mine (n BIGINT ENCODE az64, text VARCHAR(5000)) DISTSTYLE EVEN")
            for n in range(25):
                cursor.execute("INSERT INTO mine VALUES (%s, %s)", (n, f"{client}:{n}:" + "x" * 3000))
            cursor.execute("SELECT n, text FROM mine ORDER BY n")
            return [(n, text) for n, text in cursor.fetchall()]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(work, range(8)))
    assert answers == [[(n, f"{client}:{n}:" + "x" * 3000) for n in range(25)] for client in range(8)]
