"""Redshift's functions and the shipped export views on a real cluster: the same vectors and shop as in the stand-in's tests."""

from __future__ import annotations

import pytest

from rs_cio_assets.contract import FeedKind, load_contract
from rs_cio_assets.warehouse import compare_columns, create_view, describe_view
from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.cluster import Cluster, read
from rs_cio_assets_tests.plain_views import PlainViews, Row
from rs_cio_assets_tests.redshift_examples import EXAMPLES

CONTRACT = load_contract()


@pytest.mark.parametrize("page", EXAMPLES)
@pytest.mark.asks(
    "Does each function give what its page of the guide says?",
    "functions of the export views give what the AWS guide shows",
    "rs_cio_assets/sandbox/redshift/functions.sql",
    relies=True,
)
def test_functions_give_what_the_guide_says(cluster: Cluster, answer: Answer, page: str):
    """The golden vectors of the stand-in, asked of a cluster."""
    found = {expression: cluster.rows(f"SELECT {expression} AS result")[0][0] for expression in EXAMPLES[page]}
    answer.facts = {expression: repr(value) for expression, value in found.items()}
    wrong = {
        expression: (value, EXAMPLES[page][expression])
        for expression, value in found.items()
        if value != EXAMPLES[page][expression]
    }
    answer.judge(not wrong, f"found and expected: {wrong}" if wrong else f"all {len(found)} as shown")


@pytest.mark.parametrize("name", sorted(feed.name for feed in CONTRACT.feeds))
@pytest.mark.asks(
    "Are the shipped views created, described and read as in the stand-in?",
    "the shipped SQL runs verbatim and gives what plain Python makes of the same tables",
    "rs_cio_assets/contract/feeds",
    relies=True,
)
def test_shipped_views_give_what_plain_python_gives(cluster: Cluster, tables: dict[str, list[Row]], answer: Answer, name: str):
    """Created in this run's schema by the product's own code, its columns compared with the contract, every value recomputed."""
    feed = cluster.own(CONTRACT.feed(name))
    with cluster.session() as session:
        create_view(session, feed)
        columns = describe_view(session, feed)
        rows = read(session, feed.view)
    answer.facts = {"columns": {column.name: column.type_name for column in columns}, "rows": len(rows)}
    difference = compare_columns(feed, columns)
    keys = (*feed.key_columns, *((feed.time_column,) if feed.kind in {FeedKind.DELETION, FeedKind.SUPPRESSION} else ()))
    found, wanted = (
        {tuple(row[key] for key in keys): row for row in made} for made in (rows, getattr(PlainViews(tables), name)())
    )
    wrong = sorted(
        {column for key in found.keys() & wanted.keys() for column in wanted[key] if found[key][column] != wanted[key][column]}
    )
    said = [f"columns that differ: {', '.join(wrong) or 'none'}", *difference.sentences()]
    words = "; ".join([f"{len(found)} rows, {len(wanted)} expected", *said])
    answer.judge(found == wanted and not difference.sentences(), words)
