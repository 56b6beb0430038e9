"""The delivery engine: what is sent, what is not and why, and that nothing is lost or doubled whatever breaks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.delivery.ledger import SCHEMA
from rs_cio_assets.errors import CustomerioRefused, CustomerioUnavailable, MismatchError, StoreRefused
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.staging import NOW, RecordingTrack, contract_of, deliver, feed_of, stage

DAY = "2026-11-20"
AT = datetime(2026, 11, 20, 12, 30, 15, 999_999, tzinfo=UTC)
ORDERS = feed_of(
    "event",
    {
        "order_id": {"type": "string", "required": True},
        "total": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 0},
        "note": {"type": "string"},
    },
)
PEOPLE = feed_of(
    "people",
    {"tier": {"type": "string"}, "seen_at": {"type": "timestamp", "on_null": "clear"}},
    name="folk",
    view="cio_export.folk",
)
CONTRACT = contract_of(ORDERS, PEOPLE)


def order(number: int, **changes: Any) -> dict[str, Any]:
    """A good order of customer C0000001."""
    row = {"customer_id": "C0000001", "occurred_at": AT, "loaded_at": AT, "order_id": f"O{number}", "total": Decimal("9.90")}
    return {**row, **changes}


def person(number: int, **changes: Any) -> dict[str, Any]:
    """A good person."""
    return {"customer_id": f"C{number:07d}", "updated_at": AT, "loaded_at": AT, "tier": "gold", "seen_at": AT, **changes}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


def test_a_second_run_sends_nothing_and_makes_no_request(store: LocalStore, tmp_path: Path):
    """The ledger holds what was acknowledged: the same day again is unchanged, without a single request."""
    manifest = stage(store, ORDERS, DAY, [order(n) for n in range(5)], tmp_path)
    first = deliver(ORDERS, CONTRACT, manifest, store, RecordingTrack().client(), tmp_path)
    track = RecordingTrack()
    second = deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path)
    assert (first.delivered, first.unchanged, first.requests) == (5, 0, 1)
    assert (second.delivered, second.unchanged, second.requests) == (0, 5, 0)
    assert (track.bodies, track.times_asked_for_region) == ([], 0)
    assert first.is_conserved
    assert second.is_conserved


def test_only_new_rows_of_a_day_are_sent(store: LocalStore, tmp_path: Path):
    """DU2: rows that arrive late for a delivered day go alone, with their own time."""
    deliver(ORDERS, CONTRACT, stage(store, ORDERS, DAY, [order(1)], tmp_path), store, RecordingTrack().client(), tmp_path)
    track = RecordingTrack()
    later = stage(store, ORDERS, DAY, [order(1), order(2)], tmp_path)
    report = deliver(ORDERS, CONTRACT, later, store, track.client(), tmp_path)
    assert (report.delivered, report.unchanged) == (1, 1)
    (sent,) = track.operations
    assert sent["attributes"]["order_id"] == "O2"
    assert sent["timestamp"] == int(AT.timestamp())


def test_an_amended_event_is_reported_and_not_sent_again(store: LocalStore, tmp_path: Path):
    """DU3: an event that was delivered and changed in the warehouse stays as it was sent."""
    deliver(ORDERS, CONTRACT, stage(store, ORDERS, DAY, [order(1)], tmp_path), store, RecordingTrack().client(), tmp_path)
    changed = stage(store, ORDERS, DAY, [order(1, total=Decimal("1.00"))], tmp_path)
    report = deliver(ORDERS, CONTRACT, changed, store, RecordingTrack().client(), tmp_path)
    assert (report.amended, report.delivered, report.requests) == (1, 0, 0)
    assert report.is_conserved


def test_a_person_who_changes_back_is_sent_each_time(store: LocalStore, tmp_path: Path):
    """A to B to A are three deliveries: the latest content counts, not any earlier one."""
    delivered = []
    for minute, tier in enumerate(["gold", "none", "gold", "gold"]):
        manifest = stage(store, PEOPLE, DAY, [person(1, tier=tier)], tmp_path)
        now = NOW + timedelta(minutes=minute)
        report = deliver(PEOPLE, CONTRACT, manifest, store, RecordingTrack().client(), tmp_path, now=now)
        delivered.append(report.delivered)
    assert delivered == [1, 1, 1, 0]


def test_an_unchanged_person_is_not_sent_because_the_day_was_read_again(store: LocalStore, tmp_path: Path):
    """The version timestamp of an identify is no content: reading the warehouse again re-sends nobody."""
    for hours, expected in ((0, 1), (5, 0)):
        manifest = stage(store, PEOPLE, DAY, [person(1)], tmp_path, read_at=NOW + timedelta(hours=hours))
        assert deliver(PEOPLE, CONTRACT, manifest, store, RecordingTrack().client(), tmp_path).delivered == expected


def test_equal_duplicates_are_sent_once_and_different_ones_not_at_all(store: LocalStore, tmp_path: Path):
    """DU1: a join fan-out never doubles an event, and rows that contradict each other are rejected, all of them."""
    rows = [order(1), order(1), order(2), order(2, total=Decimal("1.00")), order(3)]
    track = RecordingTrack()
    report = deliver(ORDERS, CONTRACT, stage(store, ORDERS, DAY, rows, tmp_path), store, track.client(), tmp_path)
    assert sorted(o["attributes"]["order_id"] for o in track.operations) == ["O1", "O3"]
    assert (report.delivered, report.duplicates, report.rejected) == (2, 1, 2)
    assert report.rejected_by_reason == {"duplicate_key_differs": 2}
    assert report.is_conserved


@pytest.mark.parametrize(
    ("changes", "reason", "column"),
    [
        ({"customer_id": None}, "identifier_missing", "customer_id"),
        ({"customer_id": "  "}, "identifier_missing", "customer_id"),
        ({"customer_id": "ada@example.com"}, "identifier_shape", "customer_id"),
        ({"customer_id": "1234567.0"}, "identifier_shape", "customer_id"),
        ({"customer_id": "C" * 151}, "identifier_too_long", "customer_id"),
        ({"order_id": None}, "business_key_missing", "order_id"),
        ({"occurred_at": None}, "time_missing", "occurred_at"),
        ({"occurred_at": datetime(1970, 1, 1, tzinfo=UTC)}, "time_before_2000", "occurred_at"),
        ({"occurred_at": datetime(9000, 1, 1, tzinfo=UTC)}, "time_in_milliseconds", "occurred_at"),
        ({"occurred_at": NOW + timedelta(minutes=6)}, "time_in_future", "occurred_at"),
        ({"occurred_at": AT - timedelta(days=1)}, "time_outside_day", "occurred_at"),
        ({"loaded_at": None}, "required_missing", "loaded_at"),
        ({"total": Decimal("-0.01")}, "below_minimum", "total"),
        ({"total": Decimal("1.005")}, "too_many_digits", "total"),
        ({"total": Decimal(10) ** 10}, "too_many_digits", "total"),
        ({"note": "x" * 40_000}, "operation_too_large", None),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason_and_the_others_go_on(
    changes: dict[str, Any], reason: str, column: str | None, store: LocalStore, tmp_path: Path
):
    """ID1, ID2, TM1, TM2, TM5, SZ1: each names its reason and column, keeps the row in the rejections, and stops nothing else."""
    manifest = stage(store, ORDERS, DAY, [order(1), order(2, **changes), order(3)], tmp_path)
    track = RecordingTrack()
    report = deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path)
    assert [o["attributes"]["order_id"] for o in track.operations] == ["O1", "O3"]
    assert report.rejected_by_reason == {reason: 1}
    assert report.is_conserved
    (example,) = report.examples
    assert (example.reason, example.column) == (reason, column)
    assert "C0000001" not in str(report)
    (row,) = pq.read_table(tmp_path / "store" / f"rejections/tested/{DAY}.parquet").to_pylist()
    assert (row["reason"], row["column_name"], row["attempts"]) == (reason, column, 1)
    assert row["message"] == example.message


@pytest.mark.parametrize(("policy", "sent"), [("reject", ["O1", "O3"]), ("pass", ["O1", "O2", "O3"])])
def test_a_value_that_the_contract_does_not_declare_is_treated_as_it_says(
    policy: str, sent: list[str], store: LocalStore, tmp_path: Path
):
    """NM6: rejected with the column, or passed on; a declared value and no value go either way."""
    categories = {"type": "string", "values": ("serum",), "on_undeclared_value": policy}
    feed = feed_of("event", {"order_id": {"type": "string"}, "category": categories}, unknown_person="send")
    rows = [order(1, category="serum"), order(2, category="Serum"), order(3, category=None)]
    track = RecordingTrack()
    report = deliver(feed, contract_of(feed), stage(store, feed, DAY, rows, tmp_path), store, track.client(), tmp_path)
    assert [o["attributes"]["order_id"] for o in track.operations] == sent
    assert [(e.reason, e.column) for e in report.examples] == ([("undeclared_value", "category")] if policy == "reject" else [])


def test_a_mended_row_is_sent_and_leaves_the_rejections(store: LocalStore, tmp_path: Path):
    """Rejections count attempts while a row stays bad, and forget it once it is fine."""
    bad = stage(store, ORDERS, DAY, [order(1, total=Decimal(-1))], tmp_path)
    for _ in range(2):
        deliver(ORDERS, CONTRACT, bad, store, RecordingTrack().client(), tmp_path)
    path = tmp_path / "store" / f"rejections/tested/{DAY}.parquet"
    assert pq.read_table(path).to_pylist()[0]["attempts"] == 2
    good = stage(store, ORDERS, DAY, [order(1)], tmp_path)
    assert deliver(ORDERS, CONTRACT, good, store, RecordingTrack().client(), tmp_path).delivered == 1
    assert not path.exists()


def test_a_stale_event_is_held_and_delivered_as_history(store: LocalStore, tmp_path: Path):
    """TM7, TM8: too old for the feed's live window, it waits until 72 h have passed, then goes by itself."""
    feed = feed_of("event", {"order_id": {"type": "string"}}, max_trigger_age_hours=24)
    contract = contract_of(feed)
    manifest = stage(store, feed, DAY, [order(1)], tmp_path)
    for age_hours, outcome in ((20, "delivered"), (30, "held"), (71, "held"), (73, "delivered")):
        fresh = LocalStore(tmp_path / f"store-{age_hours}")
        for file in manifest.files:
            fresh.put(file.key, store.get(file.key) or b"")
        now = AT + timedelta(hours=age_hours)
        report = deliver(feed, contract, manifest, fresh, RecordingTrack().client(), tmp_path, now=now)
        assert getattr(report, outcome) == 1, age_hours
        assert report.is_conserved
        assert report.held_until == (AT + timedelta(hours=72, minutes=5) if outcome == "held" else None)


def test_a_workspace_of_another_region_gets_no_row(store: LocalStore, tmp_path: Path):
    """DL3: before the first row the region is asked for, once; another one than the settings' stops at once with the remedy."""
    manifest = stage(store, ORDERS, DAY, [order(1)], tmp_path)
    european = RecordingTrack(region="eu")
    with pytest.raises(CustomerioRefused, match="CUSTOMERIO_REGION=eu"):
        deliver(ORDERS, CONTRACT, manifest, store, european.client(), tmp_path)
    assert european.bodies == []
    track = RecordingTrack()
    assert deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path).delivered == 1
    assert track.times_asked_for_region == 1


def many(count: int) -> list[dict[str, Any]]:
    """Orders with a note, about 20 kB each: a body takes some twenty."""
    return [order(n, note="n" * 20_000) for n in range(count)]


def test_an_error_in_the_middle_keeps_what_was_acknowledged(store: LocalStore, tmp_path: Path):
    """DL3: at a 401 it stops at once; a later run sends the rest and nothing twice."""
    manifest = stage(store, ORDERS, DAY, many(200), tmp_path)
    track = RecordingTrack(lambda _: httpx.Response(401) if len(track.bodies) >= 3 else None)
    with pytest.raises(CustomerioRefused, match="CUSTOMERIO_API_KEY"):
        deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path)
    acknowledged = {o["id"] for o in track.operations}
    assert 0 < len(acknowledged) < 200
    rest = RecordingTrack()
    report = deliver(ORDERS, CONTRACT, manifest, store, rest.client(), tmp_path)
    assert report.is_conserved
    assert report.unchanged == len(acknowledged)
    assert acknowledged.isdisjoint(o["id"] for o in rest.operations)
    assert len(acknowledged) + report.delivered == 200


def test_ctrl_c_in_the_middle_keeps_what_was_acknowledged(store: LocalStore, tmp_path: Path):
    """DL5: an interrupt between two bodies loses no acknowledgement; the same command completes the day."""
    manifest = stage(store, ORDERS, DAY, many(200), tmp_path)

    def interrupt(_: httpx.Request) -> httpx.Response | None:
        if len(track.bodies) == 3:
            raise KeyboardInterrupt
        return None

    track = RecordingTrack(interrupt)
    with pytest.raises(KeyboardInterrupt):
        deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path)
    rest = RecordingTrack()
    report = deliver(ORDERS, CONTRACT, manifest, store, rest.client(), tmp_path)
    assert report.is_conserved
    sent = [o["id"] for o in (*track.operations, *rest.operations)]
    assert len(sent) == len(set(sent)) == 200


def test_storms_are_retried_until_every_row_is_acknowledged_once(store: LocalStore, tmp_path: Path, fast_retries: None):
    """DL2: 429, 5xx and lost connections are tried again within a request; the report counts each row once."""
    failures = iter([httpx.Response(429, headers={"Retry-After": "0"}), httpx.Response(503), httpx.ReadTimeout("lost")] * 3)

    def storm(_: httpx.Request) -> httpx.Response | None:
        failure = next(failures, None) if len(seen) % 5 == 0 else None
        seen.append(1)
        if isinstance(failure, Exception):
            raise failure
        return failure

    seen: list[int] = []
    track = RecordingTrack(storm)
    manifest = stage(store, ORDERS, DAY, many(100), tmp_path)
    with track.client() as client:
        report = deliver(ORDERS, CONTRACT, manifest, store, client, tmp_path)
    assert report.delivered == 100
    assert report.is_conserved


def test_an_endless_storm_ends_as_a_transient_error(store: LocalStore, tmp_path: Path, fast_retries: None):
    """When retries run out, the day fails in a way that Dagster tries again, and nothing is half-counted."""
    manifest = stage(store, ORDERS, DAY, [order(1)], tmp_path)
    track = RecordingTrack(lambda _: httpx.Response(503, headers={"Retry-After": "0"}))
    with pytest.raises(CustomerioUnavailable, match="503"):
        deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path)
    assert store.list("ledger/") == []


def test_bodies_keep_within_the_limit_and_hold_every_operation_once(store: LocalStore, tmp_path: Path):
    """Packing loses nothing, doubles nothing, and never exceeds 475,000 bytes."""
    rows = [order(n, note="é" * (n % 9_000)) for n in range(1_000)]
    track = RecordingTrack()
    report = deliver(ORDERS, CONTRACT, stage(store, ORDERS, DAY, rows, tmp_path), store, track.client(), tmp_path)
    assert report.delivered == 1_000
    assert max(len(body) for body in track.bodies) <= 475_000
    assert {o["attributes"]["order_id"] for o in track.operations} == {f"O{n}" for n in range(1_000)}
    assert len(track.operations) == 1_000
    assert report.request_bytes == sum(len(body) for body in track.bodies)


def test_staged_files_that_lost_rows_are_not_delivered(store: LocalStore, tmp_path: Path):
    """A staged file with fewer rows than its manifest says stops the day before anything is sent."""
    manifest = stage(store, ORDERS, DAY, [order(1), order(2)], tmp_path)
    stage(store, ORDERS, DAY, [order(1)], tmp_path)
    track = RecordingTrack()
    with pytest.raises(MismatchError, match="1 rows, their manifest says 2"):
        deliver(ORDERS, CONTRACT, manifest, store, track.client(), tmp_path)
    assert track.bodies == []


def test_missing_staged_files_are_named(store: LocalStore, tmp_path: Path):
    """A day whose staged files were removed says so and what to do."""
    manifest = stage(store, ORDERS, DAY, [order(1)], tmp_path)
    store.delete([manifest.files[0].key])
    with pytest.raises(StoreRefused, match="run the export of that day again"):
        deliver(ORDERS, CONTRACT, manifest, store, RecordingTrack().client(), tmp_path)


def test_an_older_snapshot_delivered_later_changes_nothing(
    store: LocalStore, tmp_path: Path, customerio: CustomerioStandIn, settings: Settings
):
    """LG3: identifies carry the time of reading, so running days in any order ends with the newest state."""
    newer = stage(store, PEOPLE, "2026-11-20", [person(1, tier="gold")], tmp_path, read_at=NOW)
    older_rows = [person(1, tier="none", updated_at=AT - timedelta(days=1))]
    older = stage(store, PEOPLE, "2026-11-19", older_rows, tmp_path, read_at=NOW - timedelta(hours=1))
    for manifest in (newer, older):
        report = deliver(PEOPLE, CONTRACT, manifest, store, TrackClient(settings.customerio), tmp_path)
        assert report.delivered == 1
    with AppClient(settings.customerio) as app:
        profile = app.attributes(["C0000001"])["C0000001"]
    assert profile.attributes["tier"] == "gold"
    assert profile.set_at["tier"] == int(NOW.timestamp())


def test_a_cleared_attribute_is_gone_and_an_omitted_one_stays(
    store: LocalStore, tmp_path: Path, customerio: CustomerioStandIn, settings: Settings
):
    """The null policy of the contract is what happens in Customer.io."""
    for minute, row in enumerate([person(1), person(1, tier=None, seen_at=None)]):
        manifest = stage(store, PEOPLE, DAY, [row], tmp_path, read_at=NOW + timedelta(minutes=minute))
        deliver(PEOPLE, CONTRACT, manifest, store, TrackClient(settings.customerio), tmp_path)
    with AppClient(settings.customerio) as app:
        attributes = app.attributes(["C0000001"])["C0000001"].attributes
    assert attributes["tier"] == "gold"
    assert "seen_at" not in attributes


def test_the_ledger_is_plain_parquet(store: LocalStore, tmp_path: Path):
    """Any Parquet tool reads what was acknowledged, of which time, when and by which run."""
    manifest = stage(store, ORDERS, DAY, [order(1), order(2)], tmp_path)
    deliver(ORDERS, CONTRACT, manifest, store, RecordingTrack().client(), tmp_path)
    (key,) = store.list(f"ledger/tested/{DAY}/")
    rows = pq.read_table(tmp_path / "store" / key).to_pylist()
    assert {tuple(row) for row in rows} == {tuple(SCHEMA.names)}
    assert {row["run_id"] for row in rows} == {"11111111-test"}
    assert {(row["acknowledged_at"], row["occurred_at"]) for row in rows} == {(NOW, AT)}


def test_the_event_id_depends_on_name_and_key_alone(store: LocalStore, tmp_path: Path):
    """The same event has the same id whatever else changes, on any machine: this value must never change."""
    ids = set()
    for number, changes in enumerate([{}, {"total": Decimal(1)}, {"occurred_at": AT + timedelta(seconds=5)}]):
        fresh = LocalStore(tmp_path / f"s{number}")
        track = RecordingTrack()
        deliver(ORDERS, CONTRACT, stage(fresh, ORDERS, DAY, [order(1001, **changes)], tmp_path), fresh, track.client(), tmp_path)
        ids |= {o["id"] for o in track.operations}
    assert ids == {"7A67XC8BY71SAHPZC0ARYPQBEE"}


def test_every_body_is_json_with_exact_decimals(store: LocalStore, tmp_path: Path):
    """Cents stay cents: a decimal is written as the number it is, never through a double."""
    totals = [Decimal("410.90"), Decimal("0.10"), Decimal("9999999999.99"), Decimal("0.00")]
    rows = [order(n, total=total) for n, total in enumerate(totals)]
    track = RecordingTrack()
    deliver(ORDERS, CONTRACT, stage(store, ORDERS, DAY, rows, tmp_path), store, track.client(), tmp_path)
    assert [o["attributes"]["total"] for o in track.operations] == totals
    assert b"410.90," in track.bodies[0] or b"410.90}" in track.bodies[0]
    assert json.loads(track.bodies[0])["batch"][0]["type"] == "person"
