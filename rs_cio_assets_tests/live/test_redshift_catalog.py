"""What a cluster says about views, grants and isolation, and how it refuses."""

from __future__ import annotations

from collections import Counter

import pytest

from rs_cio_assets.contract import Feed, load_contract
from rs_cio_assets.errors import TransientError, WarehouseRefused
from rs_cio_assets.warehouse import create_view
from rs_cio_assets.warehouse.definition import read_definition
from rs_cio_assets.warehouse.failures import as_ours
from rs_cio_assets.warehouse.verification import compare_sql
from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.cluster import Cluster, refusal

SELECT = "SELECT customer_id, 1 AS number FROM {}.catalog_people WHERE customer_id <> 'Two  Spaces'"


@pytest.fixture(scope="module")
def people(cluster: Cluster) -> str:
    """A table for views to read."""
    cluster.run(f"CREATE TABLE {cluster.schema}.catalog_people (customer_id VARCHAR(32))")
    return f"{cluster.schema}.catalog_people"


def feed_over(cluster: Cluster, view: str, sql: str) -> Feed:
    """Some feed, with another view and SQL."""
    return load_contract().feed("people").model_copy(update={"view": f"{cluster.schema}.{view}", "sql": sql})


@pytest.mark.asks(
    "Does PG_VIEWS show the definition of a late-binding view, and as which text?",
    "PG_VIEWS shows it, so that a view replaced by hand is seen",
    "rs_cio_assets/warehouse/definition.py",
    relies=True,
)
def test_the_definition_of_a_late_binding_view_is_shown(cluster: Cluster, people: str, answer: Answer):
    """The product's own query, twice: the text must be there, stay the same, and change with the view."""
    feed, changed = (feed_over(cluster, "v_defined", sql.format(cluster.schema)) for sql in (SELECT, SELECT + " AND TRUE"))
    with cluster.session() as session:
        create_view(session, feed)
        first, second = read_definition(session, feed), read_definition(session, feed)
        create_view(session, changed)
        third = read_definition(session, feed)
    answer.facts = {
        "definition": first,
        "after a change": third,
        "beside the contract's SQL": first and compare_sql(feed.sql, first),
    }
    answer.judge(bool(first) and first == second != third, "shown, stable, and another after a change" if first else "not shown")


@pytest.mark.asks(
    "May CREATE OR REPLACE VIEW ... WITH NO SCHEMA BINDING change the columns?",
    "create_views may add, drop and retype columns",
    "rs_cio_assets/warehouse/views.py",
    relies=True,
)
def test_a_replaced_view_may_change_its_columns(cluster: Cluster, people: str, answer: Answer):
    """One column more, one less, another type."""
    with cluster.session() as session:
        for sql in (SELECT.format(cluster.schema), f"SELECT 'x'::VARCHAR AS number FROM {people}"):
            create_view(session, feed_over(cluster, "v_columns", sql))
        found = session.describe(f"SELECT * FROM {cluster.schema}.v_columns LIMIT 0")
    answer.judge([name for name, _ in found] == ["number"], f"columns now: {found}")


@pytest.mark.needs("replaced_grants")
@pytest.mark.asks(
    "Does CREATE OR REPLACE VIEW keep the grants on a late-binding view?",
    "grants stay (AWS guide, r_CREATE_VIEW, read 2026-11-26: properties such as ownership and granted privileges are preserved)",
    "rs_cio_assets/warehouse/views.py",
)
def test_a_replaced_view_keeps_its_grants(cluster: Cluster, people: str, answer: Answer):
    """A grant to PUBLIC before and after."""
    feed = feed_over(cluster, "v_granted", SELECT.format(cluster.schema))
    acl = (
        "SELECT array_to_string(c.relacl, ' ') FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
        "WHERE n.nspname = %s AND c.relname = 'v_granted'"
    )
    with cluster.session() as session:
        create_view(session, feed)
        session.run(f"GRANT SELECT ON {feed.view} TO PUBLIC")
        session.commit()
        ((before,),) = session.fetch(acl, (cluster.schema,))
        create_view(session, feed)
        ((after,),) = session.fetch(acl, (cluster.schema,))
    answer.facts = {"before": before, "after": after}
    answer.judge(bool(before) and Counter(before.split()) == Counter((after or "").split()), f"before {before}, after {after}")


@pytest.mark.needs("system_tables")
@pytest.mark.asks(
    "Which isolation level does the database have?",
    "serializable or snapshot; either asks for a repetition by error 1023",
    "rs_cio_assets/warehouse/failures.py",
)
def test_the_isolation_level_is_told(cluster: Cluster, answer: Answer):
    """STV_DB_ISOLATION_LEVEL of the database in use."""
    with cluster.session() as session:
        names = [name for name, _ in session.describe("SELECT * FROM stv_db_isolation_level LIMIT 0")]
        found = session.fetch("SELECT * FROM stv_db_isolation_level")
    answer.facts = {"columns": names, "rows": [[str(value) for value in row] for row in found]}
    text = str(answer.facts).lower()
    answer.judge("serializable" in text or "snapshot" in text, "told")


@pytest.mark.needs("serialization")
@pytest.mark.asks(
    "How does Redshift refuse a transaction that another one got in the way of (1023)?",
    "its error is known as one to repeat",
    "rs_cio_assets/warehouse/failures.py",
    relies=True,
)
def test_a_serialization_conflict_is_one_to_repeat(cluster: Cluster, answer: Answer):
    """Two sessions read one table and write the other (a cycle), then both write one row (snapshot isolation refuses that)."""
    cluster.run(*(f"CREATE TABLE {cluster.schema}.{name} AS SELECT 1 AS n" for name in ("first_table", "second_table")))
    first, second = f"{cluster.schema}.first_table", f"{cluster.schema}.second_table"
    with cluster.session() as one, cluster.session() as other:
        one.fetch(f"SELECT SUM(n) FROM {first}")
        other.fetch(f"SELECT SUM(n) FROM {second}")
        other.fetch(f"SELECT SUM(n) FROM {first}")
        one.run(f"UPDATE {second} SET n = n + 1")
        one.run(f"UPDATE {first} SET n = n + 1")
        one.commit()
        refused = refusal(other, f"UPDATE {first} SET n = n + 10")
    if refused is None:
        answer.words = "neither order of writes was refused"
        return
    fields, error = refused
    ours = as_ours(error, cluster.settings.redshift)
    answer.facts = {"fields": dict(fields), "ours": type(ours).__name__}
    answer.judge(isinstance(ours, TransientError), f"{fields.get('C')}: {fields.get('M')}")


@pytest.mark.parametrize("what", ["missing view", "missing column", "division by zero", "bad cast", "syntax"])
@pytest.mark.asks(
    "Which SQLSTATE does each refusal have?",
    "a mistake in a view is told as one that repeating cannot help",
    "rs_cio_assets/warehouse/failures.py",
    relies=True,
)
def test_mistakes_are_refusals(cluster: Cluster, people: str, answer: Answer, what: str):
    """Each of the usual mistakes, in the server's own words; the next statement of the session works."""
    sql = {
        "missing view": f"SELECT * FROM {cluster.schema}.not_there",
        "missing column": f"SELECT not_there FROM {people}",
        "division by zero": f"SELECT 1 / COUNT(*) FROM {people}",
        "bad cast": "SELECT CAST('abc' AS INTEGER)",
        "syntax": "SELEC 1",
    }[what]
    with cluster.session() as session:
        refused = refusal(session, sql)
        assert refused is not None, "it was taken"
        works = session.fetch("SELECT 1")
    fields, error = refused
    ours = as_ours(error, cluster.settings.redshift)
    answer.facts = {"fields": dict(fields), "ours": type(ours).__name__}
    is_right = isinstance(ours, WarehouseRefused) and [tuple(row) for row in works] == [(1,)]
    answer.judge(is_right, f"{fields.get('C')}: {fields.get('M')}")
