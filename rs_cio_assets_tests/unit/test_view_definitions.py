"""A definition as text beside the contract's SQL: what counts as the same, and that what differs shows."""

from __future__ import annotations

import pytest

from rs_cio_assets.warehouse.definition import DefinitionDifference
from rs_cio_assets.warehouse.verification import compare_sql

SQL = """SELECT customer_id, 'Order  Completed' AS event, -- who
       "Total" AS total
FROM shop.orders /* all */ WHERE paid_at IS NOT NULL;"""
PLAIN = "select customer_id, 'Order  Completed' as event, \"Total\" as total from shop.orders where paid_at is not null"


@pytest.mark.parametrize(
    "definition",
    [
        SQL,
        PLAIN,
        f"create or replace view cio_export.people as {PLAIN} with no schema binding;",
        f'CREATE VIEW "shop"."cio_export"."people" AS (\n  {PLAIN}\n) WITH NO SCHEMA BINDING',
        PLAIN.replace("customer_id", '"customer_id"').replace(", ", " ,\n\t"),
        f'/* {{"app": "dbt"}} */ (({PLAIN}))',
    ],
)
def test_the_same_query_in_another_dress_is_the_same(definition: str):
    """White space, case, comments, needless quotes, CREATE VIEW around and the trailing clause say nothing."""
    assert compare_sql(SQL, definition) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("'Order  Completed'", "'Order Completed'"),
        ("'Order  Completed'", "'order  completed'"),
        ('"Total"', '"total"'),
        ("is not null", "is null"),
        ("shop.orders", "shop.orders_v2"),
        ("where paid_at is not null", ""),
    ],
)
def test_what_may_mean_something_else_differs(old: str, new: str):
    """Literals and quoted names are compared letter by letter; each difference is a line that went or came."""
    assert old in PLAIN
    diff = compare_sql(SQL, PLAIN.replace(old, new))
    assert diff[:2] == ("--- the contract's SQL", "+++ in the warehouse")
    assert any(line[:1] in "+-" for line in diff[2:])


def test_parentheses_that_do_not_hold_the_whole_stay():
    """(a) UNION (b) is not a UNION b in parentheses."""
    assert compare_sql("(select 1) union (select 2)", "select 1) union (select 2") != ()
    assert compare_sql("(select 1) union (select 2)", "((select 1) union (select 2))") == ()


def test_the_words_fit_whose_view_it_is():
    """In verify mode nobody is told that create_views would replace the view."""
    diff = ("--- a", "+++ b", "@@ -1 +1 @@", "-  SELECT a", "+  SELECT b")
    found = DefinitionDifference(is_sql_changed=True, diff=diff, is_others=True)
    assert found.sentences("x.y") == (
        "x.y is not as create_views last verified it; the first difference (- verified, + now): - SELECT a / + SELECT b",
        "the contract's SQL changed since x.y was last verified: run create_views",
    )
    assert "replacing nothing" in found.next_step
    assert "replaces the view" in DefinitionDifference(is_sql_changed=True, diff=diff).next_step
