"""The linter: each rule of reference/redshift.md section 3 has SQL that breaks it and a near-miss that does not."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rs_cio_assets.contract import SHIPPED, Feed, lint_contract, lint_sql, load_contract
from rs_cio_assets.settings import environment
from rs_cio_assets_tests.staging import feed_of

FEED = feed_of("event", {"order_id": {"type": "string"}})
PEOPLE = feed_of("people", {"order_id": {"type": "string"}})
FROM = "FROM shop.orders AS o"


def select(order_id: str = "o.order_id", tables: str = FROM, feed: Feed = FEED) -> str:
    """A view of three lines: what order_id is stands in line 2, the tables in line 3."""
    return f"SELECT o.customer_id, o.{feed.time_column}, o.loaded_at,\n  {order_id} AS order_id\n{tables}"


def found(sql: str, feed: Feed = FEED) -> set[tuple[str, int]]:
    """Rule and line of every finding."""
    return {(finding.rule, finding.line) for finding in lint_sql(sql, feed)}


IN_SELECT = {
    "no-approximate": ("(SELECT APPROXIMATE COUNT(DISTINCT u.x) FROM shop.u AS u)", "o.approximate"),
    "no-median": ("MEDIAN(o.total)", "PERCENTILE_CONT(0.5) WITHIN GROUP (ORDER BY o.median)"),
    "no-ratio-to-report": ("RATIO_TO_REPORT(o.total) OVER ()", "o.ratio_to_report"),
    "no-sysdate": ("SYSDATE", "o.sysdate_text"),
    "no-super-constructors": ("OBJECT('a', o.total)", "SPLIT_TO_ARRAY(o.tags)"),
    "no-listagg-distinct": (
        "LISTAGG( DISTINCT o.sku, ',') WITHIN GROUP (ORDER BY o.sku)",
        "LISTAGG(o.distinct_sku, ',') WITHIN GROUP (ORDER BY o.sku)",
    ),
    "quoted-date-part": ("DATEDIFF(day, o.a, o.b)", "DATEDIFF('day', o.a, o.b)"),
    "no-boolean-text": ("o.is_paid::BOOLEAN::VARCHAR(5)", "CASE WHEN o.is_paid THEN 'true' ELSE 'false' END::VARCHAR(5)"),
    "no-interval": ("o.paid_at + INTERVAL '1 day'", "o.interval_days::VARCHAR"),
    "no-timetz": ("o.paid_at::TIMETZ", "o.timetz_name"),
    "average-of-float": ("AVG(NVL(o.items, 0))", "AVG(NVL(o.items, 0)::FLOAT)"),
    "window-frame": (
        "SUM(o.total) OVER (PARTITION BY o.customer_id ORDER BY o.paid_at)",
        "SUM(o.total) OVER (PARTITION BY o.customer_id ORDER BY o.paid_at ROWS UNBOUNDED PRECEDING)",
    ),
    "no-truth-test-in-select": ("CASE WHEN (o.is_paid IS NOT TRUE) THEN 'a' END", "CASE WHEN o.is_paid THEN 'a' END"),
    "no-super-path": ("o.cart[0]", "o.cart"),
    "one-listagg-order": (
        "LISTAGG(o.a, ',') WITHIN GROUP (ORDER BY o.a) || LISTAGG(o.b, ',') WITHIN GROUP (ORDER BY o.b)",
        "LISTAGG(o.a, ',') WITHIN GROUP (ORDER BY o.a) || LISTAGG(o.b, ',') WITHIN GROUP (ORDER BY  o.a)",
    ),
}
IN_FROM = {
    "no-qualify": (f"{FROM} QUALIFY o.n = 1", f"{FROM} WHERE o.qualify = 1"),
    "no-pivot": (f"{FROM} PIVOT (SUM(total) FOR sku IN ('a'))", f"{FROM} WHERE o.pivot = 1"),
    "no-limit": (f"{FROM} LIMIT 10", f'{FROM} WHERE o."limit" = 10'),
    "select-only": (f"{FROM} WHERE EXISTS (DELETE FROM shop.orders)", f"{FROM} WHERE o.update = 1 AND o.deleted = 0"),
    "one-statement": (f"{FROM}; SELECT 1", f"{FROM};"),
    "schema-qualified": ("FROM orders AS o", 'FROM "shop"."orders" AS o'),
    "subquery-alias": (
        f"{FROM} JOIN (SELECT u.x FROM shop.u AS u) ON o.x = 1",
        f"{FROM} JOIN (SELECT u.x FROM shop.u AS u) u ON o.x = 1",
    ),
    "no-unnest": (f"{FROM}, o.items AS i", f"{FROM}, shop.items AS i"),
    "parses": (f"{FROM} WHERE o.x = = 1", f"{FROM} WHERE o.x = '= ='"),
}
FULL = [(rule, select(bad), select(good), 2) for rule, (bad, good) in IN_SELECT.items()]
FULL += [(rule, select(tables=bad), select(tables=good), 3) for rule, (bad, good) in IN_FROM.items()]
ELSEWHERE = {"no-clock-in-people", "named-columns", "columns-of-the-contract"}  # each has a test of its own below


def rules_of_the_linter() -> set[str]:
    """Names of all rules: the first of each triple in the table of patterns, the second of each triple that is yielded."""
    names: set[str] = set()
    for module in ("lint.py", "lint_nesting.py"):
        tree = ast.parse((SHIPPED / module).read_text())
        yielded = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Yield)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Tuple) and len(node.elts) == 3:
                name = node.elts[1 if id(node) in yielded else 0]
                if isinstance(name, ast.Constant):
                    names.add(str(name.value))
    return names


@pytest.mark.parametrize(("rule", "bad", "good", "line"), FULL, ids=[case[0] for case in FULL])
def test_each_rule_finds_its_line_and_spares_the_near_miss(rule: str, bad: str, good: str, line: int):
    """SQL that breaks a rule is named with its line; SQL that only looks like it is clean."""
    assert (rule, line) in found(bad)
    assert found(good) == set()


@pytest.mark.parametrize(("rule", "bad"), [case[:2] for case in FULL], ids=[case[0] for case in FULL])
def test_the_same_words_in_a_literal_or_a_comment_break_no_rule(rule: str, bad: str):
    """What is refused as SQL is harmless as a text, in a line comment and in a block comment."""
    text = bad.replace("'", "''")
    line = "-- " + bad.replace("\n", "\n-- ")
    clean = select(f"'{text}'", tables=f"{line}\n/* {bad} */\n{FROM}")
    assert {name for name, _ in found(clean)} == set(), rule


def test_every_rule_of_the_linter_has_a_case():
    """A rule that is added without SQL that breaks it, or a case of a rule that is gone, is named here."""
    assert rules_of_the_linter() == {case[0] for case in FULL} | ELSEWHERE


@pytest.mark.parametrize(
    ("tables", "is_found"),
    [
        ("FROM shop.orders AS o, lines AS l", True),
        ("FROM shop.orders AS o JOIN shop.lines AS l USING (order_id, line_id)", False),
        ("FROM shop.orders AS o WHERE o.x IN (1, 2)", False),
        ("FROM shop.orders AS o WHERE EXTRACT(epoch FROM o.paid_at) > 0", False),
    ],
    ids=["comma", "using", "in list", "extract"],
)
def test_tables_without_a_schema_are_found_wherever_they_stand(tables: str, is_found: bool):
    """A late-binding view needs schema.table also after a comma; other commas and FROMs are no tables."""
    assert (("schema-qualified", 3) in found(select(tables=tables))) is is_found


def test_a_truth_test_in_where_is_allowed():
    """IS TRUE is refused in the SELECT list only; Redshift takes it in WHERE, within parentheses too."""
    assert found(select(tables=f"{FROM} WHERE (o.is_paid IS TRUE OR o.x IS NOT FALSE)")) == set()


def test_names_of_a_with_clause_need_no_schema():
    """WITH names are local, with a column list and without."""
    sql = (
        "WITH a (x) AS (SELECT u.x FROM shop.u AS u), b AS (SELECT a.x FROM a)\n"
        "SELECT b.customer_id, b.occurred_at, b.loaded_at, b.order_id FROM b"
    )
    assert found(sql) == set()


def test_words_in_literals_and_comments_are_no_sql():
    """Nothing in a text, a quoted name or a comment is judged, and it does not shift line numbers."""
    words = "QUALIFY LIMIT 1 MEDIAN( INTERVAL ; DELETE FROM x, AVG(y) IS TRUE it''s -- /*"
    clean = f"-- {words}\n/* {words.replace('/*', '')}\n{words.replace('/*', '')} */\n" + select(f"'{words}'")
    assert found(clean) == set()
    assert ("no-limit", 6) in found(clean + " LIMIT 5")


@pytest.mark.parametrize("clock", ["GETDATE()", "CURRENT_DATE", "current_timestamp", "NOW()"])
def test_a_clock_is_refused_for_people_and_allowed_for_events(clock: str):
    """An attribute that changes with time alone would re-send everybody every day; an event may be compared with now."""
    tables = f"{FROM} WHERE o.paid_at < {clock}"
    assert found(select(tables=tables, feed=PEOPLE), PEOPLE) == {("no-clock-in-people", 3)}
    assert found(select(tables=tables)) == set()


@pytest.mark.parametrize(
    ("sql", "rule", "message"),
    [
        (select().replace("o.loaded_at,", ""), "columns-of-the-contract", "column loaded_at of"),
        (select("o.x AS extra, o.order_id"), "columns-of-the-contract", "column extra is selected"),
        (select("o.order_id, o.order_id"), "columns-of-the-contract", "selected 2 times"),
        (f"SELECT * {FROM}", "named-columns", "name every column"),
        (f"SELECT o.* {FROM}", "named-columns", "name every column"),
        (f"DELETE {FROM}", "select-only", "one SELECT"),
        (select("'not closed"), "parses", "not closed"),
    ],
    ids=["missing", "extra", "twice", "star", "table star", "no select", "open quote"],
)
def test_the_view_selects_exactly_the_contract_s_columns(sql: str, rule: str, message: str):
    """Whatever a view lacks, adds, repeats or hides behind a star is named, and text that is no SELECT is no crash."""
    assert any(finding.rule == rule and message in finding.message for finding in lint_sql(sql, FEED))


def test_column_names_are_compared_as_redshift_folds_them():
    """An unquoted ORDER_ID is order_id."""
    assert found(select().replace("AS order_id", "AS ORDER_ID")) == set()


def test_the_shipped_sql_is_clean():
    """Every shipped view, also of feeds that are off, keeps all rules."""
    assert lint_contract(load_contract()) == ()


@pytest.mark.parametrize(
    ("file", "text", "code", "shown"),
    [
        (None, "", 0, "0 findings"),
        ("people.sql", "\nLIMIT 5", 1, "feeds/people.sql:"),
        ("people.yaml", "\nkinds: people", 2, "feeds/people.yaml:"),
    ],
    ids=["clean", "finding", "broken contract"],
)
def test_the_command_s_exit_code_tells_what_is_wrong(file: str | None, text: str, code: int, shown: str, tmp_path: Path):
    """rs-cio contract lint: 0 clean, 1 findings, 2 a contract that does not load; the file is named."""
    folder = tmp_path / "contract"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    if file:
        with (folder / "feeds" / file).open("a") as target:
            target.write(text)
    done = subprocess.run(
        [sys.executable, "-m", "rs_cio_assets.cli", "contract", "lint"],
        env=environment({"RS_CIO_CONTRACT": str(folder)}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert shown in done.stdout + done.stderr
