"""The profile of a staged day: every number counted from rows by hand, whatever the rows; what it may show; where it is kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_cio_assets.contract import Feed
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.store import LocalStore
from rs_cio_assets.store.profiles import OddValues, Profile, ProfileHistory, load_profile, save_profile
from rs_cio_assets.warehouse import profile as profile_module
from rs_cio_assets.warehouse.profile import profile_day
from rs_cio_assets_tests.profiles import DAY, day_before, profile_of
from rs_cio_assets_tests.staging import contract_of, feed_of, stage

NOON = datetime(2026, 11, 20, 12, 0, 7, tzinfo=UTC)
COLUMNS = {
    "order_id": {"type": "string", "required": True, "max_distinct": 5},
    "event": {"type": "string", "is_sent": False},
    "category": {"type": "string", "values": "primary_category"},
    "tier": {"type": "string", "values": ["gold"], "on_undeclared_value": "pass"},
    "total": {"type": "decimal", "precision": 12, "scale": 2},
}
ORDERS = feed_of("event", COLUMNS, name_column="event")
PEOPLE = feed_of("people", {"tier": {"type": "string"}})
ROW = {"customer_id": "C0000001", "occurred_at": NOON, "loaded_at": NOON + timedelta(minutes=10), "order_id": "O1"}
ROW |= {"event": "Order Completed"}


@pytest.fixture
def profiled(tmp_path: Path) -> Callable[..., Profile]:
    """Stage rows of DAY and profile them."""

    def of(rows: Sequence[Mapping[str, Any]], feed: Feed = ORDERS) -> Profile:
        store = LocalStore(tmp_path / "store")
        manifest = stage(store, feed, DAY, rows, tmp_path)
        with open_database() as database:
            files = [store.fetch(file.key, tmp_path) for file in manifest.files]
            return profile_day(database, feed, contract_of(feed), manifest, files)

    return of


def test_a_day_without_rows_is_all_zeros(profiled: Callable[..., Profile]):
    """No file, no lag, no share: a profile that says 0 rows."""
    empty = profiled([])
    assert (empty.rows, empty.people, sum(empty.rows_by_hour), empty.median_lag_s, empty.nulls) == (0, 0, 0, None, {})


def test_numbers_of_a_day(profiled: Callable[..., Profile]):
    """Lags, hours, load times, nulls, lengths, names and rows outside of the day, each counted once."""
    at_load = {**ROW, "loaded_at": NOON + timedelta(seconds=1), "order_id": "O2"}
    after = {**ROW, "occurred_at": NOON + timedelta(hours=2, minutes=1), "loaded_at": NOON + timedelta(hours=2), "order_id": "O3"}
    late = {**ROW, "occurred_at": NOON + timedelta(hours=2, seconds=61), "loaded_at": NOON + timedelta(hours=2), "order_id": "é4"}
    outside = {**ROW, "occurred_at": NOON + timedelta(days=1), "loaded_at": NOON + timedelta(days=2), "order_id": None}
    timeless = {**ROW, "occurred_at": None, "customer_id": None, "event": "order_completed", "order_id": "O6"}
    found = profiled([ROW, at_load, after, late, outside, timeless])
    assert found.rows == 6
    assert (found.rows_by_hour[12], found.rows_by_hour[14], sum(found.rows_by_hour)) == (3, 2, 5)
    assert (found.median_lag_s, found.rows_at_load_time, found.rows_after_load, found.rows_outside_day) == (1.0, 1, 1, 1)
    assert (found.nulls["occurred_at"], found.nulls["customer_id"], found.nulls["order_id"], found.nulls["loaded_at"]) == (
        1,
        1,
        1,
        0,
    )
    assert (found.longest_bytes["order_id"], found.longest_bytes["customer_id"], found.longest_bytes["tier"]) == (3, 8, 0)
    assert (found.rows_at_frequent_time, found.frequent_us) == (2, int(NOON.timestamp()) * 1_000_000)
    assert (found.people, found.most_rows_of_a_person) == (1, 5)  # nobody is no person
    assert found.wrong_names == OddValues(1, ("order_completed",))
    assert found.distinct == {"order_id": 5}


@pytest.mark.parametrize("day", ["0001-01-01", "1969-12-31", "9999-12-31"])
def test_times_at_the_ends_of_the_calendar_are_counted(day: str, profiled: Callable[..., Profile]):
    """A default date is outside of the day, under its own hour: before 1970 it is no negative one."""
    found = profiled([{**ROW, "occurred_at": datetime.fromisoformat(f"{day}T23:30:00+00:00")}])
    assert (found.rows_by_hour[23], found.rows_outside_day) == (1, 1)


@pytest.mark.parametrize(
    ("second", "equal", "different"),
    [
        ({"loaded_at": NOON + timedelta(hours=1)}, 1, 0),  # when it was loaded is no content
        ({"event": "Another"}, 1, 0),  # is not sent
        ({"occurred_at": NOON + timedelta(microseconds=5)}, 1, 0),  # seconds are sent
        ({"occurred_at": NOON + timedelta(seconds=1)}, 0, 1),
        ({"customer_id": "C0000002"}, 0, 1),
        ({"tier": "gold"}, 0, 1),
        ({"order_id": "O2"}, 0, 0),
        ({"customer_id": None}, 0, 0),  # rejected, so sent once
    ],
)
def test_business_keys_that_repeat(second: dict[str, Any], equal: int, different: int, profiled: Callable[..., Profile]):
    """DU1: rows of one key differ when Customer.io would see a difference, as delivery has it."""
    found = profiled([ROW, {**ROW, **second}])
    assert (found.keys_equal, found.keys_different, found.rows_of_keys_different) == (equal, different, 2 * different)


def test_of_people_the_time_of_a_change_is_no_content(profiled: Callable[..., Profile]):
    """A person twice with other attributes differs; with another updated_at alone it does not."""
    person = {"customer_id": "C0000001", "updated_at": NOON, "loaded_at": NOON, "tier": "gold"}
    assert profiled([person, {**person, "updated_at": NOON + timedelta(hours=1)}], PEOPLE).keys_equal == 1
    assert profiled([person, {**person, "tier": None}], PEOPLE).keys_different == 1


def test_values_are_shown_cut_and_without_personal_data(profiled: Callable[..., Profile]):
    """NM6: most frequent first, at most 20, 64 characters each; what may be an address or a number of a person is not shown."""
    values = ["tea", "tea", "x" * 200, "", "ada@example.com", "C0000001", "serum", None, *(f"kind {n}" for n in range(30))]
    found = profiled([{**ROW, "order_id": f"O{n}", "category": value} for n, value in enumerate(values)]).undeclared["category"]
    assert found.rows == len(values) - 2  # without the declared one and the null
    assert found.values[0] == "tea"
    assert len(found.values) <= profile_module.SHOWN_VALUES
    assert max(map(len, found.values)) <= profile_module.SHOWN_CHARACTERS
    assert "(empty)" in found.values
    assert not [value for value in found.values if "@" in value or "0000001" in value]


def test_a_name_that_is_null_is_a_wrong_one(profiled: Callable[..., Profile]):
    """NM1: no name is not the contract's name."""
    assert profiled([ROW, {**ROW, "order_id": "O2", "event": None}]).wrong_names == OddValues(1, ("(empty)",))


orders = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 23), st.sampled_from([None, "gold", "tin"])), max_size=40
)


@given(orders)
@settings(max_examples=40)
def test_any_day_is_counted_as_python_counts_it(profiled: Callable[..., Profile], drawn: list[tuple[int, int, int, str | None]]):
    """People, the most rows of one, hours, repeated keys and undeclared values, also when keys are grouped in shares."""
    rows = [
        {**ROW, "customer_id": f"C{who}", "order_id": f"O{key}", "occurred_at": NOON.replace(hour=hour), "tier": tier}
        for who, key, hour, tier in drawn
    ]
    per_key: dict[str, list[Any]] = {}
    for row in rows:
        per_key.setdefault(row["order_id"], []).append((row["customer_id"], row["occurred_at"], row["tier"]))
    people, hours = Counter(row["customer_id"] for row in rows), Counter(row["occurred_at"].hour for row in rows)
    repeated = [found for found in per_key.values() if len(found) > 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(profile_module, "KEYS_PER_PASS", 7)
        found = profiled(rows)
    assert (found.people, found.most_rows_of_a_person) == (len(people), max(people.values(), default=0))
    assert found.rows_by_hour == tuple(hours.get(hour, 0) for hour in range(24))
    assert found.keys_equal == sum(len(set(rows)) == 1 for rows in repeated)
    assert found.rows_of_keys_different == sum(len(rows) for rows in repeated if len(set(rows)) > 1)
    assert found.distinct.get("order_id", 0) == len(per_key)
    assert found.undeclared.get("tier", OddValues(0, ())).rows == sum(tier == "tin" for *_, tier in drawn)


def test_a_profile_is_kept_whole(profiled: Callable[..., Profile], tmp_path: Path):
    """What is read is what was written, every field."""
    store = LocalStore(tmp_path / "kept")
    profile = replace(profiled([ROW, {**ROW, "category": "tea", "event": None}]), blocked_by=("names",))
    save_profile(store, profile)
    assert load_profile(store, ORDERS.name, DAY) == profile


def test_a_profile_that_cannot_be_read_counts_as_none(tmp_path: Path):
    """A broken or older object does not stop exports: its day is one fewer to compare with."""
    store = LocalStore(tmp_path)
    store.put(f"profiles/tested/{day_before(1)}.json", b'{"rows": "many"}')
    store.put(f"profiles/tested/{day_before(2)}.json", b"not JSON")
    save_profile(store, profile_of(7, day=day_before(3)))
    assert [profile.rows for profile in ProfileHistory(store, "tested").before(DAY)] == [7]


def test_the_history_is_the_28_days_before(tmp_path: Path):
    """Oldest first, without the day itself; a profile added in the run is there for the days after it."""
    store = LocalStore(tmp_path)
    for days in (0, 1, 28, 29):
        save_profile(store, profile_of(days, day=day_before(days)))
    history = ProfileHistory(store, "tested")
    assert [profile.rows for profile in history.before(DAY)] == [28, 1]
    history.add(profile_of(5, day=day_before(5)))
    assert [profile.rows for profile in history.before(DAY)] == [28, 5, 1]
