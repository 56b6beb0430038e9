"""What in a profile stops a day, at each edge; and the sentences about values and definitions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from rs_cio_assets.contract import Feed
from rs_cio_assets.store.profiles import OddValues
from rs_cio_assets.warehouse.definition import DefinitionDifference
from rs_cio_assets.warehouse.findings import contract_findings, undeclared_values
from rs_cio_assets_tests.profiles import profile_of
from rs_cio_assets_tests.staging import feed_of

NAME = {"event": {"type": "string", "is_sent": False}}
EVENTS = feed_of(
    "event", {"order_id": {"type": "string"}, **NAME}, name_column="event", max_rows_per_day=100, max_rows_per_person=9
)
PEOPLE = feed_of("people", {"tier": {"type": "string"}}, max_rows_per_day=100)
DELETIONS = feed_of("deletion", {}, max_rows_per_day=100)
MIDNIGHT = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp()) * 1_000_000
ODD_TIME = MIDNIGHT + (3 * 3600 + 12 * 60 + 44) * 1_000_000


@pytest.mark.parametrize(
    ("feed", "rows", "values", "names"),
    [
        (EVENTS, 100, {}, []),
        (EVENTS, 10, {"wrong_names": OddValues(1, ("order_completed",))}, ["names"]),
        (EVENTS, 4, {"rows_at_load_time": 4}, []),
        (EVENTS, 5, {"rows_at_load_time": 3}, ["etl_time"]),
        (EVENTS, 6, {"rows_at_load_time": 3}, []),
        (PEOPLE, 5, {"rows_at_load_time": 5, "rows_at_frequent_time": 5, "frequent_us": ODD_TIME}, []),
        (EVENTS, 19, {"rows_at_frequent_time": 19, "frequent_us": ODD_TIME}, []),
        (EVENTS, 20, {"rows_at_frequent_time": 11, "frequent_us": ODD_TIME}, ["etl_time"]),
        (EVENTS, 20, {"rows_at_frequent_time": 10, "frequent_us": ODD_TIME}, []),
        (EVENTS, 20, {"rows_at_frequent_time": 20, "frequent_us": MIDNIGHT}, []),  # a source that knows the day only
        (EVENTS, 10, {"keys_equal": 5}, []),
        (EVENTS, 10, {"keys_different": 1, "rows_of_keys_different": 2}, ["duplicates"]),
        (PEOPLE, 10, {"keys_different": 1, "rows_of_keys_different": 2}, ["duplicates"]),
        (EVENTS, 101, {}, ["ceiling"]),
        (PEOPLE, 101, {}, ["ceiling"]),
        (DELETIONS, 101, {}, []),  # has a brake of its own
        (EVENTS, 20, {"most_rows_of_a_person": 9}, []),
        (EVENTS, 20, {"most_rows_of_a_person": 10}, ["ceiling"]),
        (EVENTS, 101, {"most_rows_of_a_person": 10}, ["ceiling", "ceiling"]),
    ],
)
def test_what_stops_a_day(feed: Feed, rows: int, values: dict[str, Any], names: list[str]):
    """NM1, TM3, DU1, SZ2: each finding is there just beyond its edge and not at it, with a sentence and a next step."""
    found = contract_findings(feed, profile_of(rows, **values))
    assert [finding.name for finding in found] == names
    assert all(finding.text and finding.next_step for finding in found)


def test_sentences_say_how_many_rows_and_what_is_found():
    """Each names its rows, and the first five wrong names."""
    names = tuple(f"name_{n}" for n in range(7))
    values: dict[str, Any] = {"wrong_names": OddValues(8, names), "rows_at_frequent_time": 15, "frequent_us": ODD_TIME}
    texts = [f.text for f in contract_findings(EVENTS, profile_of(20, **values, keys_different=2, rows_of_keys_different=5))]
    assert texts == [
        "8 of 20 rows have another event than 'Order Completed': name_0, name_1, name_2, name_3, name_4",
        "15 of 20 rows have the same occurred_at (3:12:44 UTC): the time of a load in place of the time at which it happened",
        "2 business keys (order_id) in 5 rows that differ: nobody can say which one is right",
    ]


def test_new_values_are_named_by_column():
    """NM6: column, how many values, which, and in how many rows."""
    undeclared = {"primary_category": OddValues(3, ("tea", "soap")), "tier": OddValues(1, ("(empty)",))}
    assert undeclared_values(profile_of(9, undeclared=undeclared)) == (
        "primary_category has 2 undeclared values: tea, soap (3 rows)",
        "tier has 1 undeclared value: (empty) (1 row)",
    )


def test_a_definition_is_told_by_its_first_difference():
    """WH3: the sentence quotes the first line that went and the first that came; a changed contract is told apart."""
    diff = ("--- a", "+++ b", "@@ -1 +1 @@", "-  SELECT a", "+  SELECT b", "+  , c")
    (said,) = DefinitionDifference(is_sql_changed=False, diff=diff).sentences("x.y")
    assert said == "x.y was replaced outside of create_views; the first difference (- created, + now): - SELECT a / + SELECT b"
    (said,) = DefinitionDifference(is_sql_changed=True, diff=()).sentences("x.y")
    assert said == "the contract's SQL changed since x.y was created: run create_views"
    assert DefinitionDifference(is_sql_changed=False, diff=()).sentences("x.y") == ()
