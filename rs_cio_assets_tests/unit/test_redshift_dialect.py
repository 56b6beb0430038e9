"""The stand-in's rewriting of Redshift's SQL: what is touched, and everything that must not be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_cio_assets.sandbox.redshift.dialect import replaced_view, to_postgres, transfer_verb, unsupported_statement

# What PostgreSQL must see for what is written for Redshift; syntax as on the guide's pages r_CREATE_TABLE_NEW, r_CREATE_VIEW,
# r_LISTAGG and r_SET (read 2026-11-25).
REWRITTEN = {
    "late binding": ("CREATE VIEW s.v AS SELECT 1 AS a WITH NO SCHEMA BINDING", "CREATE VIEW s.v AS SELECT 1 AS a"),
    "late binding over lines": (
        "CREATE VIEW s.v AS SELECT 1 AS a\nwith no\n schema binding;",
        "CREATE VIEW s.v AS SELECT 1 AS a;",
    ),
    "column attributes": (
        "CREATE TABLE t (a INT ENCODE az64 DISTKEY NOT NULL, b CHAR(2) ENCODE lzo SORTKEY)",
        "CREATE TABLE t (a INT NOT NULL, b CHAR(2))",
    ),
    "table attributes": (
        "CREATE TABLE IF NOT EXISTS t (a INT) DISTSTYLE KEY DISTKEY (a) COMPOUND SORTKEY (a, b) BACKUP NO",
        "CREATE TABLE IF NOT EXISTS t (a INT)",
    ),
    "table as select": ("CREATE TABLE t DISTKEY(a) SORTKEY AUTO AS SELECT 1 AS a", "CREATE TABLE t AS SELECT 1 AS a"),
    "temporary table": ("CREATE LOCAL TEMP TABLE t (a INT) INTERLEAVED SORTKEY (a)", "CREATE LOCAL TEMP TABLE t (a INT)"),
    "comment before": ("/* job 7 */ CREATE TABLE t (a INT) DISTSTYLE ALL", "/* job 7 */ CREATE TABLE t (a INT)"),
    "list": (
        "SELECT LISTAGG(a, ', ') WITHIN GROUP (ORDER BY b DESC) FROM t",
        "SELECT string_agg((a)::text, ', ' ORDER BY b DESC) FROM t",
    ),
    "list of expressions": (
        "SELECT LISTAGG(f(a, ')') || ',', ',') WITHIN GROUP (ORDER BY g(b, 1)) FROM t",
        "SELECT string_agg((f(a, ')') || ',')::text, ',' ORDER BY g(b, 1)) FROM t",
    ),
    "two lists": (
        "SELECT LISTAGG(a, '|') WITHIN GROUP (ORDER BY a), listagg(b, ';') within  group (order by b) FROM t",
        "SELECT string_agg((a)::text, '|' ORDER BY a), string_agg((b)::text, ';' ORDER BY b) FROM t",
    ),
    "query group": ("SET query_group TO 'night'", "SET redshift.query_group TO 'night'"),
    "query group for a transaction": ("set local query_group = 'x'", "set local redshift.query_group = 'x'"),
    "query group reset": ("RESET query_group", "RESET redshift.query_group"),
}


@pytest.mark.parametrize(("written", "sent"), REWRITTEN.values(), ids=REWRITTEN)
def test_what_only_redshift_accepts_is_rewritten(written: str, sent: str):
    """Each form becomes what PostgreSQL takes, with the rest of the text as it was."""
    assert to_postgres(written).replace("order by", "ORDER BY") == sent


UNTOUCHED = {
    "literal": "SELECT 'WITH NO SCHEMA BINDING', 'LISTAGG(a) ENCODE lzo', 'it''s DISTKEY'",
    "literal in a table": "CREATE TABLE t (a VARCHAR(40) DEFAULT 'ENCODE lzo SORTKEY')",
    "quoted names": 'CREATE TABLE t ("distkey" INT, "ENCODE x" INT)',
    "block comment": "SELECT 1 /* LISTAGG(a, ',') WITHIN GROUP (ORDER BY a) WITH NO SCHEMA BINDING */",
    "line comment": "CREATE TABLE t (a INT) -- DISTSTYLE ALL, it's so",
    "dollar quotes": "SELECT $$ WITH NO SCHEMA BINDING ' $$",
    "column of that name": "SELECT sortkey, query_group FROM t WHERE encode = 1",
    "list without order": "SELECT LISTAGG(a, ',') FROM t",
    "setting in a text": "SELECT 'SET query_group TO x'",
    "unfinished": "SELECT LISTAGG(a, ',",
}


@pytest.mark.parametrize("sql", UNTOUCHED.values(), ids=UNTOUCHED)
def test_everything_else_passes_unchanged(sql: str):
    """The same words as data, as names, in comments, or in a form that is not Redshift's are left alone."""
    assert to_postgres(sql) == sql


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60))
def test_no_text_in_a_literal_is_ever_changed(text: str):
    """Whatever a value holds, its literal reaches the server letter by letter, in every kind of statement."""
    literal = "'" + text.replace("'", "''") + "'"
    for before, after in (
        ("SELECT ", " AS a"),
        ("CREATE TABLE t (a VARCHAR DEFAULT ", ") "),
        ("INSERT INTO t VALUES (1, ", ", 'DISTKEY')"),
    ):
        assert to_postgres(f"{before}{literal}{after}") == f"{before}{literal}{after}"


@pytest.mark.parametrize(
    ("sql", "verb"),
    [
        ("UNLOAD ('SELECT 1') TO 's3://b/x' IAM_ROLE default", "UNLOAD"),
        ("-- nightly\n/* 7 */ unload ('SELECT 1') TO 's3://b/x'", "UNLOAD"),
        ("COPY t FROM 's3://b/x' IAM_ROLE default", "COPY"),
        ("COPY t FROM 's3://b/x' IAM_ROLE default FORMAT CSV", "COPY"),
        ("COPY t FROM 's3://b/(FORMAT csv)' IAM_ROLE default", "COPY"),
        ("VACUUM  delete ONLY t", "VACUUM DELETE"),
        ("CREATE EXTERNAL TABLE s.t (a INT)", "CREATE EXTERNAL"),
        ("COPY shop.t FROM '/folder/rows.csv' (FORMAT csv)", None),
        ("VACUUM", None),
        ("SELECT 'UNLOAD'", None),
        ("SELECT copy FROM unload", None),
    ],
)
def test_statements_that_postgresql_does_not_get_are_known(sql: str, verb: str | None):
    """The verb is named, whatever stands before it and inside its texts; the sandbox's own loader is not meant."""
    assert (transfer_verb(sql) or unsupported_statement(sql)) == verb


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("CREATE OR REPLACE VIEW s.v AS SELECT 1", "s.v"),
        ("-- why\ncreate or replace view v AS SELECT 1", "v"),
        ('CREATE OR REPLACE VIEW "cio export"."order" AS SELECT 1', '"cio export"."order"'),
        ("CREATE VIEW s.v AS SELECT 1", None),
        ("SELECT 'CREATE OR REPLACE VIEW s.v'", None),
        ("/* CREATE OR REPLACE VIEW s.v */ SELECT 1", None),
    ],
)
def test_the_view_that_is_replaced_is_known_by_its_name(sql: str, name: str | None):
    """The name as written, quotes included; None for any other statement."""
    assert replaced_view(sql) == name
