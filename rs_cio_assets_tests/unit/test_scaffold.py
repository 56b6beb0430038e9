"""Drafts of feeds without a warehouse: what is guessed from names, types and counts, and that any draft is one that loads."""

from __future__ import annotations

import re
import string

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from rs_cio_assets.contract import ColumnType, Feed, FeedKind, Workspace, lint_sql, load_contract
from rs_cio_assets.contract.scaffold import Choices, Counts, Draft, SourceColumn, candidates, draft
from rs_cio_assets.contract.scaffold_text import PLACEHOLDER, feed_sql, feed_yaml, made_up_identifier, require_good, sample_yaml

WORKSPACE = load_contract().workspace
TEXT, NUMBER, TIME = ColumnType.STRING, ColumnType.INTEGER, ColumnType.TIMESTAMP
WHO, LOADED = SourceColumn("customer_id", TEXT, "VARCHAR"), SourceColumn("loaded_at", TIME, "TIMESTAMP")


def drafted(
    name: str,
    source: str,
    *columns: SourceColumn,
    rows: int = 1_000,
    shared: tuple[str, ...] = (),
    of_shape: dict[str, int] | None = None,
    workspace: Workspace = WORKSPACE,
) -> Draft:
    """The draft of a source whose columns are never null; values of the columns *shared* are not unique."""
    found = candidates(name, source, columns, workspace, Choices())
    filled = {column.name: rows for column in columns}
    keys = (*found.keys, *((n,) for n in found.identifier))
    distinct = {key: rows // 2 if set(key) & set(shared) else rows for key in keys}
    shape = dict.fromkeys(found.identifier, rows) if of_shape is None else of_shape
    return draft(name, source, columns, workspace, Choices(), found, Counts(rows, filled, distinct, shape))


@pytest.mark.parametrize(
    ("name", "times", "chosen"),
    [
        ("order_paid", ("placed_at", "paid_at", "cancelled_at"), "paid_at"),
        ("visited", ("updated_at", "created_at", "occurred_at"), "occurred_at"),
        ("parcel_left", ("updated_at", "created_at", "sent_at"), "sent_at"),
        ("parcel_left", ("updated_at", "created_at"), "created_at"),
    ],
)
def test_the_time_is_the_one_that_the_feed_is_about(name: str, times: tuple[str, ...], chosen: str):
    """A time that shares a word with the feed, else one that says it happened, else one that is not the row's own."""
    columns = (WHO, *(SourceColumn(time, TIME, "TIMESTAMP") for time in times), LOADED)
    made = drafted(name, "shop.rows", *columns)
    assert next(column.source.name for column in made.columns if column.name == made.time_column) == chosen
    assert not any("as likely" in text for text in made.to_decide)


def test_two_times_that_are_as_likely_are_for_a_person_to_decide():
    """No coin is tossed: the feed is off until somebody says which."""
    columns = (WHO, SourceColumn("sent_at", TIME, "TIMESTAMP"), SourceColumn("read_at", TIME, "TIMESTAMP"), LOADED)
    made = drafted("letter", "shop.letters", *columns)
    assert any("sent_at and read_at are as likely" in text for text in made.to_decide)
    assert "enabled: false" in feed_yaml(made)


def test_people_are_known_by_the_name_and_must_be_one_row_each():
    """A table of members is a people feed by its last change; members in several rows are for a person to decide."""
    columns = (WHO, SourceColumn("updated_at", TIME, "TIMESTAMP"), SourceColumn("created_at", TIME, "TIMESTAMP"), LOADED)
    made = drafted("members", "club.members", *columns)
    assert (made.kind, made.time_column, made.key, made.to_decide) == (FeedKind.PEOPLE, "updated_at", (), ())
    twice = drafted("members", "club.members", *columns, shared=("customer_id",))
    assert any("one row per person" in text for text in twice.to_decide)


def test_the_identifier_is_the_column_with_the_workspace_s_shape():
    """Of several columns that could name a person, the one whose values look like the workspace's; what does not is counted."""
    columns = (
        SourceColumn("customer_code", TEXT, "VARCHAR"),
        SourceColumn("client_number", NUMBER, "BIGINT"),
        SourceColumn("seen_at", TIME, "TIMESTAMP"),
        LOADED,
    )
    made = drafted("seen", "shop.visits", *columns, of_shape={"customer_code": 3, "client_number": 990})
    assert [column.source.name for column in made.columns if column.name == made.identifier] == ["client_number"]
    assert any("10 of 1,000 rows have an client_number without" in text for text in made.to_decide)
    untried = drafted("seen", "shop.visits", *columns, of_shape={})
    assert any("could not be tried in the warehouse" in text for text in untried.to_decide)


def test_a_few_rows_or_none_prove_nothing():
    """Below a hundred rows no column is required for being full; without any, the feed is off."""
    columns = (WHO, SourceColumn("visit_id", TEXT, "VARCHAR"), SourceColumn("page", TEXT, "VARCHAR"))
    columns += (SourceColumn("seen_at", TIME, "TIMESTAMP"), LOADED)
    is_required = {rows: drafted("seen", "shop.visits", *columns, rows=rows).columns[2].is_required for rows in (0, 99, 100)}
    assert is_required == {0: False, 99: False, 100: True}
    assert any("no guess could be tested" in text for text in drafted("seen", "shop.visits", *columns, rows=0).to_decide)


@pytest.mark.parametrize(
    "pattern", ["[CG][0-9]{7}", r"\d+", "[0-9a-f]{24}", "usr_[0-9]{8}", "[A-Za-z0-9_-]{1,64}", "[^@]+@[^@]+", "cus-[0-9]+"]
)
def test_made_up_identifiers_have_the_usual_shapes(pattern: str):
    """For the shapes that shops give their people, the sample's good row is good."""
    assert re.fullmatch(pattern, made_up_identifier(pattern))


def test_an_unusual_shape_is_left_to_a_person():
    """Where no usual text fits, the sample says which one to write, and where."""
    workspace = WORKSPACE.model_copy(update={"identifier": WORKSPACE.identifier.model_copy(update={"pattern": "x{3}y{9}z"})})
    assert made_up_identifier("x{3}y{9}z") == PLACEHOLDER
    columns = (WHO, SourceColumn("visit_id", TEXT, "VARCHAR"), SourceColumn("seen_at", TIME, "TIMESTAMP"), LOADED)
    text = sample_yaml(drafted("seen", "shop.visits", *columns, workspace=workspace), workspace)
    assert f"Write an identifier that matches x{{3}}y{{9}}z in place of {PLACEHOLDER}" in text


names = st.text(string.ascii_letters + string.digits + " _-.:'\"#{}[]%$é", min_size=1, max_size=20)
words = st.sampled_from(["select", "order", "no", "on", "null", "limit", "current_date", "12", "_x", "id", "cio_y", "recipient"])
column_types = st.sampled_from([*ColumnType, None])


@hypothesis_settings(max_examples=40)
@given(st.dictionaries(names | words, column_types, max_size=8), st.sampled_from([*range(0, 38, 5), None]))
def test_whatever_the_columns_are_called_the_draft_loads_and_is_clean(others: dict[str, ColumnType | None], scale: int | None):
    """Names with quotes, blanks, words of SQL and of YAML, all types: the YAML reads back as the same columns, the SQL lints, and
    every column of the source is either declared or left out."""
    roles = (WHO, SourceColumn("visit_id", TEXT, "VARCHAR"), SourceColumn("seen_at", TIME, "TIMESTAMP"), LOADED)
    more = tuple(
        SourceColumn(name, kind, "NUMERIC" if kind is ColumnType.DECIMAL else "X", 38 if scale is not None else None, scale)
        for name, kind in others.items()
        if name not in {role.name for role in roles}
    )
    made = drafted("seen", "shop.visits", *roles, *more)
    require_good(made, WORKSPACE, ())
    feed = Feed(name="seen", sql=feed_sql(made), **yaml.safe_load(feed_yaml(made)))
    assert list(feed.columns) == [column.name for column in made.columns]
    assert lint_sql(feed.sql, feed) == ()
    assert {column.source.name for column in made.columns} | set(made.left_out) == {column.name for column in (*roles, *more)}
    good, *_ = yaml.safe_load(sample_yaml(made, WORKSPACE))
    assert list(good["row"]) == list(feed.columns)
