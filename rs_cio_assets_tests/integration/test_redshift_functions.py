"""Redshift's functions in the stand-in, held to the examples of the AWS developer guide (read 2026-11-25), page by page."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import redshift_connector

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets_tests.pipeline import query, run_sql
from rs_cio_assets_tests.redshift_examples import EXAMPLES

# What the stand-in needs itself, and two whose value no example can give: tests of their own hold them.
WITHOUT_EXAMPLE = {
    *("date_part_name", "strtol_any_base", "sha2", "getdate"),
    # Held by test_redshift_unload, test_redshift_copy and test_redshift_users.
    *("pg_last_unload_count", "pg_last_copy_count", "grant_assumerole", "revoke_assumerole", "has_assumerole_privilege"),
}


@pytest.fixture
def settings(redshift: RedshiftStandIn) -> Settings:
    """Settings of the warehouse alone."""
    return load_settings({"REDSHIFT_PORT": str(redshift.port)})


@pytest.mark.parametrize(
    ("expression", "expected"),
    [pytest.param(sql, value, id=f"{page}: {sql}") for page, cases in EXAMPLES.items() for sql, value in cases.items()],
)
def test_examples_of_the_guide(settings: Settings, expression: str, expected: Any):
    """Over the unmodified driver each example gives what the guide says."""
    assert query(settings, f"SELECT {expression} AS result") == [(expected,)]


def test_every_function_of_the_stand_in_has_an_example(settings: Settings):
    """A function that is emulated is held to the guide, or named with its own test below."""
    found = query(
        settings,
        "SELECT DISTINCT proname FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace WHERE nspname = 'redshift'",
    )
    shown = " ".join(sql.lower() for cases in EXAMPLES.values() for sql in cases)
    assert {name for (name,) in found} - WITHOUT_EXAMPLE - {name for (name,) in found if f"{name}(" in shown} == set()


@pytest.mark.parametrize("bits", [224, 256, 384, 512])
def test_digests_are_those_of_the_algorithm(settings: Settings, bits: int):
    """SHA2 and MD5 agree with Python's, over UTF-8."""
    text = "Ærøskøbing 🌊"
    expected = (hashlib.new(f"sha{bits}", text.encode()).hexdigest(), hashlib.md5(text.encode()).hexdigest())  # noqa: S324
    assert query(settings, "SELECT SHA2(%s::VARCHAR, %s::INTEGER), MD5(%s::VARCHAR)", [text, bits, text]) == [expected]


def test_the_clock_is_utc_in_whole_seconds(settings: Settings):
    """GETDATE is UTC and has no fraction of a second."""
    ((now, difference),) = query(settings, "SELECT GETDATE(), ABS(EXTRACT(epoch FROM GETDATE()) - EXTRACT(epoch FROM NOW()))")
    assert now.microsecond == 0
    assert difference <= 1


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("DATEADD('fortnight', 1, '2008-02-28'::DATE)", "fortnight"),
        ("DATEDIFF('fortnight', '2008-02-28'::DATE, '2008-03-28'::DATE)", "fortnight"),
        ("STRTOL('19', 8)", "base 8"),
    ],
    ids=["DATEADD", "DATEDIFF", "STRTOL"],
)
def test_what_means_nothing_is_refused(settings: Settings, expression: str, words: str):
    """A misspelled date part or a digit that the base does not have is an error, not a null or a number."""
    with pytest.raises(redshift_connector.ProgrammingError, match=words):
        query(settings, f"SELECT {expression}")


@pytest.mark.parametrize(
    "statement",
    [
        "UNLOAD ('SELECT 1') TO 's3://bucket/x' IAM_ROLE default",
        "COPY shop.orders FROM 's3://bucket/x' IAM_ROLE default",
        "/* job 7 */ COPY shop.orders FROM 's3://bucket/(FORMAT csv)' IAM_ROLE default FORMAT CSV",
        "VACUUM FULL",
    ],
)
def test_what_is_not_emulated_is_refused_and_aborts_the_transaction(settings: Settings, statement: str):
    """An unsupported statement says so, and what was done before it in the transaction is gone."""
    with pytest.raises(redshift_connector.ProgrammingError, match="not supported by the Redshift stand-in"):
        run_sql(settings, "CREATE TABLE public.half_done (a INTEGER)", statement)
    assert query(settings, "SELECT 1 FROM information_schema.tables WHERE table_name = 'half_done'") == []


def test_redshift_s_table_attributes_are_taken_and_words_in_texts_left_alone(settings: Settings):
    """DDL as written for Redshift runs; the same words in literals, names and comments are data."""
    rows = run_sql(
        settings,
        'CREATE TEMP TABLE t ("sortkey" VARCHAR(30) ENCODE zstd DISTKEY, n BIGINT ENCODE az64 DEFAULT 7) '
        "DISTSTYLE KEY COMPOUND SORTKEY (n)",
        "INSERT INTO t (\"sortkey\") VALUES ('ENCODE lzo DISTKEY') /* SORTKEY (n) */ -- BACKUP NO",
        "SELECT \"sortkey\", n, 'WITH NO SCHEMA BINDING LISTAGG(' FROM t",
    )
    assert rows == [("ENCODE lzo DISTKEY", 7, "WITH NO SCHEMA BINDING LISTAGG(")]


def test_a_late_binding_view_may_change_its_columns(settings: Settings):
    """CREATE OR REPLACE VIEW with other columns works, as Redshift allows for late-binding views."""
    run_sql(settings, "CREATE OR REPLACE VIEW public.v_changes AS SELECT 1 AS a WITH NO SCHEMA BINDING")
    run_sql(settings, "CREATE OR REPLACE VIEW public.v_changes AS SELECT 'x'::VARCHAR AS b, 2 AS a WITH NO SCHEMA BINDING")
    assert query(settings, "SELECT b, a FROM public.v_changes") == [("x", 2)]
