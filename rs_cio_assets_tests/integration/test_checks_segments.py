"""The checks `segment_<name>` through Dagster against the stand-ins: right for what is right, and clear about what is not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from rs_cio_assets.checks import membership, segments
from rs_cio_assets.checks.segments import build_segment_checks
from rs_cio_assets.contract import Contract
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets.warehouse.differences import write_differences
from rs_cio_assets_tests.checked_shop import (
    CONDITIONS,
    CONTRACT,
    FEEDS,
    FOLK,
    LOYAL,
    NOW,
    SCHEMA,
    Checked,
    Shop,
    create_tables,
    open_shop,
    person,
    who,
)
from rs_cio_assets_tests.pipeline import query, run_sql

CHECK = "segment_loyal"
ONLY_LOYAL = CONTRACT.model_copy(update={"segments": (LOYAL,), "journeys": ()})
LABELS = [
    "members",
    "expected",
    "missing",
    "extra",
    "never delivered",
    "members without an id",
    "in flight",
    "deleted or blocked",
    "differ, not looked at",
    "tolerated",
    "difference (%)",
    "App API requests",
    "own time (s)",
    "table",
]


@pytest.fixture(scope="module")
def tables(redshift: RedshiftStandIn) -> None:
    """The tables that stand for views."""
    create_tables(load_settings({"REDSHIFT_PORT": str(redshift.port)}))


@pytest.fixture
def shop(tables: None, redshift: RedshiftStandIn, tmp_path: Path) -> Iterator[Shop]:
    """Nobody anywhere; the segment is made."""
    with open_shop(redshift.port, tmp_path, ONLY_LOYAL) as made:
        made.empty()
        made.make_segments("loyal")
        yield made


@pytest.fixture
def synced(shop: Shop) -> Shop:
    """Three loyal people and one who is not, delivered."""
    shop.have(FOLK, *(person(n) for n in range(1, 4)), person(4, orders_count=1))
    return shop


def run(shop: Shop, contract: Contract | None = None) -> Checked:
    """Run the check."""
    return shop.run(build_segment_checks(contract or shop.contract))


def test_a_segment_that_holds_whom_it_should_is_good(synced: Shop):
    """Full membership equals the SQL: good, with the numbers that plot and a link; the table of differences is empty."""
    found = run(synced)
    assert found.verdict(CHECK) == "good", found
    assert found.text(CHECK) == "Segment 1 (loyal) has 3 members, the warehouse expects 3; 0 differ (0 tolerated)."
    numbers = found.numbers(CHECK)
    assert list(numbers) == [*LABELS, "in Customer.io"]
    assert str(numbers["in Customer.io"]).endswith("/segments/1")
    assert (numbers["members"], numbers["expected"], numbers["App API requests"]) == (3, 3, 3)
    assert query(synced.settings, "SELECT count(*) FROM cio_sync.segment_differences WHERE segment = 'loyal'") == [(0,)]


def test_an_attribute_that_did_not_take_is_caught(shop: Shop):
    """SG1: Customer.io answered 200 and lost an attribute. The segment lacks these people: bad, with numbers and the table."""
    shop.control("PUT", "faults", {"lost_attributes": ["orders_count"]})
    shop.have(FOLK, *(person(n) for n in range(1, 4)))
    found = run(shop)
    assert found.verdict(CHECK) == "bad"
    assert found.text(CHECK).startswith(
        "Segment 1 (loyal) is wrong for 3 people (0 tolerated): 3 missing who belong in it, 0 in it who do not belong."
    )
    assert "Next step: compare the segment's conditions in Customer.io with segments/loyal.yaml" in found.text(CHECK)
    numbers = found.numbers(CHECK)
    assert (numbers["missing"], numbers["difference (%)"], numbers["table"]) == (3, 100.0, "cio_sync.segment_differences")
    assert len(numbers["missing (sample, people hashed)"].records) == 3
    rows = query(shop.settings, "SELECT * FROM cio_sync.segment_differences WHERE segment = 'loyal' ORDER BY 3")
    assert [(row[0], row[2], row[3], row[4]) for row in rows] == [("loyal", who(n), "missing", False) for n in range(1, 4)]
    assert timedelta(0) <= rows[0][1] - NOW.replace(tzinfo=None) < timedelta(hours=1)


def test_a_member_who_does_not_belong_is_caught(synced: Shop):
    """SG1: a manual segment in the place of the data-driven one holds somebody who left it long ago."""
    synced.control("PUT", "segments/1", {"name": "loyal", "ids": [who(n) for n in range(1, 5)]})
    found = run(synced)
    assert found.verdict(CHECK) == "bad"
    assert "is wrong for 1 person (0 tolerated): 0 missing who belong in it, 1 in it who do not belong" in found.text(CHECK)
    assert len(found.numbers(CHECK)["extra (sample, people hashed)"].records) == 1


def test_people_who_were_never_delivered_have_a_next_step_of_their_own(synced: Shop):
    """The backfill has not come to somebody: the text says so and what to run."""
    synced.load(FOLK, person(5))
    found = run(synced)
    assert found.verdict(CHECK) == "bad"
    assert found.text(CHECK).endswith("Next step: backfill people (job sync_day): 1 of the missing were never delivered.")


def test_who_is_on_their_way_is_counted_apart(synced: Shop):
    """A change that reached the warehouse an hour ago: good, and the text tells of it."""
    synced.load(FOLK, person(5, loaded_at=NOW - timedelta(hours=1)))
    found = run(synced)
    assert found.verdict(CHECK) == "good"
    assert found.text(CHECK).endswith("0 differ (0 tolerated). 1 more changed too recently to be counted.")
    rows = query(synced.settings, "SELECT customer_id, is_in_flight FROM cio_sync.segment_differences WHERE segment = 'loyal'")
    assert rows == [(who(5), True)]


@pytest.mark.parametrize(
    ("tolerances", "verdict"),
    [
        ({}, "bad"),
        ({"tolerance_people": 1}, "good"),
        ({"tolerance_share": 0.24}, "bad"),
        ({"tolerance_share": 0.25}, "good"),
    ],
)
def test_what_is_tolerated_is_good(synced: Shop, tolerances: dict[str, Any], verdict: str):
    """One of four people is missing: as many as the contract tolerates, in people or as a share of those expected."""
    synced.load(FOLK, person(5))
    tolerant = ONLY_LOYAL.model_copy(update={"segments": (LOYAL.model_copy(update=tolerances),)})
    assert run(synced, tolerant).verdict(CHECK) == verdict


def test_a_segment_that_is_being_built_is_not_ready(synced: Shop):
    """SG2: Customer.io is still building it: neither good nor bad, with the progress."""
    synced.control("PUT", "segments/1", {"name": "loyal", "condition": CONDITIONS["loyal"], "build_seconds": 900})
    found = run(synced)
    assert found.verdict(CHECK) == "not ready"
    assert found.text(CHECK).startswith("Not ready: Customer.io is still building segment 1 (loyal, 0% done)")


def test_a_segment_that_is_rebuilt_while_it_is_read_is_not_ready(synced: Shop, monkeypatch: pytest.MonkeyPatch):
    """SG2: the building begins between the first page and the last: what was read is half of it and is not judged."""
    compare = segments.compare_segment

    def rebuild(*args: Any) -> Any:
        synced.control("PUT", "segments/1", {"name": "loyal", "condition": CONDITIONS["loyal"], "build_seconds": 900})
        return compare(*args)

    monkeypatch.setattr(segments, "compare_segment", rebuild)
    assert run(synced).verdict(CHECK) == "not ready"


def test_a_segment_that_is_not_there_is_named(synced: Shop):
    """SG3: nobody knows this segment in Customer.io any more."""
    synced.control("DELETE", "segments/1")
    found = run(synced)
    assert found.verdict(CHECK) == "bad"
    assert found.text(CHECK).startswith("Customer.io has no segment 1, which segments/loyal.yaml names. Next step: ")


def test_before_anybody_was_delivered_there_is_nothing_to_say(shop: Shop):
    """People in the warehouse, no ledger: not ready. An empty warehouse and no ledger: the same, never green."""
    assert run(shop).verdict(CHECK) == "not ready"
    shop.load(FOLK, person(1))
    found = run(shop)
    assert found.verdict(CHECK) == "not ready"
    assert "no people have been delivered to Customer.io yet" in found.text(CHECK)


def test_the_contract_without_people_has_no_segment_checks():
    """Where no people feed is enabled there is no asset for the check to stand on."""
    off = ONLY_LOYAL.model_copy(update={"feeds": (FOLK.model_copy(update={"enabled": False}), *FEEDS[1:])})
    assert build_segment_checks(off) == []
    names = [key.name for check in build_segment_checks(CONTRACT) for key in check.check_keys]
    assert names == ["segment_loyal", "segment_fresh", "segment_carts"]


def test_of_too_many_differences_the_text_says_at_least(synced: Shop, monkeypatch: pytest.MonkeyPatch):
    """More people differ than are looked at: the verdict is bad and the number a lower bound."""
    monkeypatch.setattr(membership, "MOST_LOOKED_AT", 2)
    synced.control("PUT", "segments/1", {"name": "loyal", "ids": []})
    found = run(synced)
    assert found.verdict(CHECK) == "bad"
    assert found.text(CHECK).startswith("Segment 1 (loyal) is wrong for at least 2 people")
    assert found.numbers(CHECK)["differ, not looked at"] == 1


@pytest.mark.parametrize(("tolerated", "verdict"), [(0, "not ready"), (4, "not ready"), (5, "good")])
def test_after_a_large_backfill_there_is_nothing_to_say(
    synced: Shop, monkeypatch: pytest.MonkeyPatch, tolerated: int, verdict: str
):
    """More are on their way than are looked at: whether the others are, too, nobody knows, unless all of them are tolerated."""
    monkeypatch.setattr(membership, "MOST_LOOKED_AT", 2)
    synced.load(FOLK, *(person(n, loaded_at=datetime.now(UTC)) for n in range(11, 18)))
    patient = LOYAL.model_copy(update={"tolerance_people": tolerated})
    found = run(synced, ONLY_LOYAL.model_copy(update={"segments": (patient,)}))
    assert found.verdict(CHECK) == verdict
    numbers = found.numbers(CHECK)
    assert (numbers["in flight"], numbers["missing"], numbers["differ, not looked at"]) == (2, 0, 5)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("app_scope_missing", "Customer.io refused the credentials of its App API (403)"),
        ("app_requests_used_elsewhere", "did not answer GET /v1/segments/1 after 3 attempts: status 429"),
        (None, "CUSTOMERIO_APP_API_KEY is not set, so nothing can be read back"),
    ],
)
def test_what_cannot_be_asked_fails_clearly(
    synced: Shop, fast_retries: None, fault: str | None, words: str, monkeypatch: pytest.MonkeyPatch
):
    """A key without scope, the rate limit used up by somebody else, no key: the step fails in words; there is no green."""
    monkeypatch.setattr("rs_cio_assets.assets.failures.RETRY_WAIT_S", 0.0)
    if fault:
        synced.control("PUT", "faults", {fault: True})
    else:
        customerio = synced.settings.customerio.model_copy(update={"app_api_key": None})
        synced.settings = synced.settings.model_copy(update={"customerio": customerio})
    found = run(synced)
    assert found.checks == {}
    assert len(found.failures) == 1
    assert words in found.failures[0]


def test_a_query_that_the_warehouse_refuses_fails_clearly(synced: Shop):
    """A column that is not there: the step fails and names it."""
    wrong = LOYAL.model_copy(update={"sql": f"SELECT p.customer_id FROM {SCHEMA}.folk AS p WHERE p.orders > 1"})
    found = run(synced, ONLY_LOYAL.model_copy(update={"segments": (wrong,)}))
    assert found.checks == {}
    assert "orders does not exist" in found.failures[0]


def test_without_a_grant_the_differences_go_to_the_store(synced: Shop):
    """The warehouse's user may read only: the verdict stands, metadata says what is missing, the rows are a file in the store."""
    run_sql(
        synced.settings,
        "DROP SCHEMA IF EXISTS cio_sync CASCADE",
        "CREATE ROLE parity_reader LOGIN",
        f"GRANT USAGE ON SCHEMA {SCHEMA} TO parity_reader",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA {SCHEMA} TO parity_reader",
    )
    try:
        reader = synced.settings.redshift.model_copy(update={"user": "parity_reader", "password": SecretStr("sandbox")})
        synced.load(FOLK, person(5))
        found = replace(synced, settings=synced.settings.model_copy(update={"redshift": reader})).run(
            build_segment_checks(ONLY_LOYAL)
        )
    finally:
        run_sql(synced.settings, "DROP OWNED BY parity_reader", "DROP ROLE parity_reader")
    assert found.verdict(CHECK) == "bad"
    assert found.numbers(CHECK)["table"].startswith("not written: Redshift refused: permission denied")
    (row,) = pq.read_table(synced.store.fetch("differences/loyal.parquet", synced.scratch)).to_pylist()
    assert row == {"customer_id": who(5), "side": "missing", "is_in_flight": False}


def test_the_table_keeps_each_segment_s_last_comparison_for_thirty_days(synced: Shop, monkeypatch: pytest.MonkeyPatch):
    """Rows of a segment are replaced, in several statements; those of another stay, until they are older than thirty days."""
    monkeypatch.setattr("rs_cio_assets.warehouse.differences.ROWS_PER_INSERT", 2)
    with Warehouse(synced.settings.redshift).session() as session:
        write_differences(session, "old", NOW - timedelta(days=30), [(who(1), "extra", False)])
        write_differences(session, "kept", NOW, [(who(1), "extra", False)])
        assert query(synced.settings, "SELECT count(*) FROM cio_sync.segment_differences WHERE segment = 'old'") == [(1,)]
        write_differences(session, "kept", NOW + timedelta(seconds=1), [(who(n), "missing", True) for n in range(5)])
    rows = query(synced.settings, "SELECT segment, side, count(*) FROM cio_sync.segment_differences GROUP BY 1, 2")
    assert rows == [("kept", "missing", 5)]
