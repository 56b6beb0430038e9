"""Conditions of data-driven segments in the Customer.io stand-in: who meets them, at the edges of their windows too.

Golden values: customerio-api.md, section 9. The JSON of a condition is the stand-in's own.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rs_cio_assets.sandbox.customerio.conditions import MAX_DEPTH, MAX_PARTS, condition_problems, condition_sql, data_matches
from rs_cio_assets.sandbox.customerio.workspace import Workspace
from rs_cio_assets_tests.customerio_http import event, identify

NOW, DAY_S = 1_772_013_598, 86_400
ODD = identify("dan")
ODD["attributes"]['odd "name"'] = "x"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """One workspace for the file, filled once."""
    workspace = Workspace(tmp_path_factory.mktemp("conditions") / "workspace.db", lambda: NOW)
    order = "Order Completed"
    workspace.apply(
        [
            identify("ada", orders_count=5, vip_tier="gold", flag=True, first_order_at=NOW - 14 * DAY_S),
            identify("bob", orders_count="10", vip_tier="Gold", flag=False, first_order_at=NOW - 14 * DAY_S - 1),
            identify("cyd", orders_count="many", vip_tier="golden", first_order_at=(NOW - DAY_S) * 1000),
            identify("dan", orders_count=-1.5, first_order_at="2026-02-24T10:00:00Z"),
            ODD,
            event("ada", order, timestamp=NOW, attributes={"order_number": 1, "categories": ["cleanser", "mask"], "gift": False}),
            event(
                "bob", order, timestamp=NOW - 3 * DAY_S, attributes={"order_number": 1, "categories": "cleansers", "gift": True}
            ),
            event("bob", order, timestamp=NOW - 3 * DAY_S - 1, attributes={"order_number": "2", "categories": None}),
            event("cyd", order, timestamp=NOW + 1, attributes={"order_number": 12.5}),
            event("cyd", "Checkout Started", timestamp=NOW),
            {**event("dan", order, timestamp=NOW), "action": "page"},
        ]
    )
    yield workspace
    workspace.close()


def who(workspace: Workspace, condition: Any, now: int = NOW) -> str:
    """The first letters of those who meet the condition."""
    sql, values = condition_sql(condition, now, {3: ("people.id = ?", ["bob"])}.get)
    return "".join(row["id"][0] for row in workspace.rows(f"SELECT id FROM people WHERE ({sql}) ORDER BY id", values))


def attribute(field: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    """A condition on an attribute."""
    return {"attribute": {"field": field, "operator": operator} | ({} if value is None else {"value": value}) | more}


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (attribute("orders_count", "eq", 5), "a"),
        (attribute("orders_count", "eq", "5"), "a"),
        (attribute("vip_tier", "eq", "gold"), "a"),
        (attribute("vip_tier", "ne", "gold"), "bcd"),
        (attribute("flag", "eq", True), "a"),
        (attribute("flag", "eq", "false"), "b"),
        (attribute("orders_count", "gt", 5), "b"),
        (attribute("orders_count", "gte", "5"), "ab"),
        (attribute("orders_count", "lt", 5), "d"),
        (attribute("orders_count", "lte", 5.0), "ad"),
        (attribute("vip_tier", "contains", "old"), "abc"),
        (attribute("vip_tier", "contains", "G"), "b"),
        (attribute("vip_tier", "exists"), "abc"),
        (attribute("vip_tier", "exists", ""), "abc"),
        (attribute('odd "name"', "exists"), "d"),
        (attribute("id", "eq", "cyd"), "c"),
        (attribute("nothing", "lt", 5), ""),
        (attribute("nothing", "ne", 5), "abcd"),
    ],
)
def test_attributes_are_compared_as_texts_or_numbers(workspace: Workspace, condition: Any, expected: str):
    """Texts are compared to the letter, numbers by size and never with a text, and `ne` holds for who lacks the attribute."""
    assert who(workspace, condition) == expected
    everybody = "abcd"
    assert who(workspace, {"not": condition}) == "".join(letter for letter in everybody if letter not in expected)


def test_a_time_attribute_counts_in_unix_seconds_only(workspace: Workspace):
    """14 days ago to the second is not yet before; milliseconds and ISO texts match neither before nor after."""
    before, after = (attribute("first_order_at", operator, days_ago=14) for operator in ("before", "after"))
    assert (who(workspace, before), who(workspace, after)) == ("b", "a")
    assert (who(workspace, before, NOW + 1), who(workspace, after, NOW + 1)) == ("ab", "")
    half_a_day_on = attribute("first_order_at", "before", days_ago=14.5)
    assert (who(workspace, half_a_day_on, NOW + DAY_S // 2), who(workspace, half_a_day_on, NOW + DAY_S // 2 + 1)) == ("b", "ab")


def done(**more: Any) -> dict[str, Any]:
    """A condition on orders."""
    return {"event": {"name": "Order Completed", **more}}


@pytest.mark.parametrize(
    ("condition", "now", "expected"),
    [
        (done(), NOW, "abc"),
        (done(within_days=3), NOW, "ab"),
        (done(within_days=3), NOW + 1, "ac"),
        (done(within_days=0), NOW, "a"),
        (done(at_least=2), NOW, "b"),
        (done(at_least=2, within_days=3), NOW, ""),
        (done(at_least=2, within_days=3.5), NOW, "b"),
        (done(at_least=3), NOW, ""),
        (done(where={"order_number": {"eq": 1}}), NOW, "ab"),
        (done(where={"order_number": {"eq": 1}}, at_least=2), NOW, ""),
        (done(where={"order_number": {"eq": 2}}), NOW, "b"),
        (done(where={"order_number": {"gt": 1, "lte": 12.5}}), NOW, "bc"),
        (done(where={"categories": {"contains": "cleanser"}}), NOW, "ab"),
        (done(where={"categories": {"contains": "cleanse"}}), NOW, "b"),
        (done(where={"categories": {"exists": False}}), NOW, "bc"),
        (done(where={"categories": {"contains": "cleanser"}, "gift": {"ne": True}, "order_number": {"eq": 1}}), NOW, "a"),
        ({"event": {"name": "Unknown"}}, NOW, ""),
    ],
)
def test_events_count_by_their_own_time_and_data(workspace: Workspace, condition: Any, now: int, expected: str):
    """Both ends of a window belong to it, what has not happened yet is not within it, pages are no events."""
    assert who(workspace, condition, now) == expected


def test_conditions_are_joined_and_name_segments(workspace: Workspace):
    """and, or, not and segments give what the sets would; an unknown segment has no members."""
    bought, is_three, is_four = done(within_days=3), {"segment": {"id": 3}}, {"segment": {"id": 4}}
    assert who(workspace, {"and": [bought, {"not": is_three}]}) == "a"
    assert who(workspace, {"or": [is_three, attribute("orders_count", "eq", -1.5), is_four]}) == "bd"
    assert who(workspace, {"not": is_four}) == "abcd"


def nested(depth: int) -> dict[str, Any]:
    """A condition within *depth* others."""
    return {"not": nested(depth - 1)} if depth else attribute("flag", "exists")


@pytest.mark.parametrize(
    "node",
    [
        None,
        {},
        {"and": []},
        {"and": [attribute("x", "exists")] * (MAX_PARTS + 1)},
        {"or": {}},
        {"and": [1]},
        {"not": []},
        {"page": {}},
        {"attribute": None},
        {"segment": {"id": "3"}},
        {"segment": {"id": True}},
        attribute("x", "like", "y"),
        attribute("x", "gt", "y"),
        attribute("x", "gt", True),
        attribute("x", "eq"),
        attribute("x", "eq", [1]),
        attribute("x", "exists", days_ago=1),
        attribute("x", "before", days_ago=-1),
        attribute("x", "after", days_ago=float("nan")),
        attribute("x", "eq", 1, days_ago=1),
        {"attribute": {"field": 5, "operator": ["eq"], "value": 1}},
        done(within_days="3"),
        done(at_least=0),
        done(at_least=True),
        done(since=3),
        done(where=[]),
        done(where={"a": {}}),
        done(where={'a"b': {"eq": 1}}),
        done(where={"a": {"before": 3}}),
        done(where={"a": {"exists": 1}}),
        {"event": {"name": None}},
        nested(MAX_DEPTH),
    ],
)
def test_what_is_no_condition_is_refused_with_a_reason(node: Any):
    """Each mistake has a text; nothing that has one becomes SQL."""
    problems = condition_problems(node)
    assert problems != []
    with pytest.raises(ValueError, match=re.escape(problems[0])):
        condition_sql(node, NOW, lambda _: None)


def wide(depth: int) -> dict[str, Any]:
    """A condition within *depth* lists that are as long as they may be."""
    has_flag = attribute("flag", "exists")
    return {"and": [wide(depth - 1), *[has_flag] * (MAX_PARTS - 1)]} if depth else has_flag


def test_the_largest_conditions_run(workspace: Workspace):
    """What is accepted is within what SQLite takes, however it is nested."""
    assert who(workspace, nested(MAX_DEPTH - 1)) == "cd"
    assert who(workspace, wide(MAX_DEPTH - 1)) == "ab"


TEXTS = st.sampled_from(["", "a", "cleanser", "1", "1.0", "-2", " 3 ", "true", "null", "1e2", "01", "[1]", "é"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-3, 120), st.sampled_from([0.5, 1.0, -2.25]), TEXTS)
VALUES = st.one_of(st.booleans(), st.integers(-3, 120), st.sampled_from([0.5, 1.0]), TEXTS)
TESTS = st.one_of(
    st.tuples(st.sampled_from(["eq", "ne", "contains"]), VALUES),
    st.tuples(st.sampled_from(["gt", "gte", "lt", "lte"]), st.one_of(st.integers(-3, 120), st.sampled_from(["1", "0.5", "1e2"]))),
    st.tuples(st.just("exists"), st.booleans()),
)


@given(data=st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), is_given=st.booleans(), test=TESTS)
def test_python_and_sql_agree_on_an_events_data(workspace: Workspace, data: Any, is_given: bool, test: tuple[str, Any]):
    """Whether an event matches is the same in a trigger's filter and in a segment's condition, for any data and any test."""
    name, attributes = f"tried {next(NUMBERS)}", {"x": data} if is_given else {}
    workspace.apply([event("zoe", name, timestamp=NOW, attributes=attributes)])
    where = {"x": dict([test])}
    assert who(workspace, {"event": {"name": name, "where": where}}) == ("z" if data_matches(where, attributes) else "")


def test_a_large_workspace_is_read_through_its_indexes(tmp_path: Path):
    """An event condition looks each person's events up by name and time in the index alone, and reads no other event."""
    workspace = Workspace(tmp_path / "workspace.db", lambda: NOW)
    sql, values = condition_sql(done(within_days=3, at_least=2), NOW, lambda _: None)
    plan = [row["detail"] for row in workspace.rows(f"EXPLAIN QUERY PLAN SELECT cio_id FROM people WHERE ({sql})", values)]
    workspace.close()
    assert any(
        "USING COVERING INDEX activities_by_person (cio_id=? AND type=? AND name=? AND timestamp>?" in step for step in plan
    )
