"""What the delivery log says of a day is what the delivery said: every row once, under the same outcome."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import Feed
from rs_cio_assets.delivery import DeliveryOptions
from rs_cio_assets.delivery.log import IDENTIFIER_BYTES, KEY_BYTES, MESSAGE_BYTES, log_people_first
from rs_cio_assets.errors import StoreRefused
from rs_cio_assets.store import load_manifest
from rs_cio_assets.warehouse.log_schema import DELIVERIES, REJECTIONS
from rs_cio_assets_tests.integration.test_delivery_guards import DAY, Days
from rs_cio_assets_tests.logged_days import Row, as_reported, log_of, outcomes, reported, rows_of
from rs_cio_assets_tests.staging import NOW, feed_of, stage

AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
KEY = {"type": "string", "required": True}
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="cio_export.folk")
ORDERS = feed_of(
    "event", {"order_id": KEY, "total": {"type": "integer", "minimum": 0}}, name="orders", view="cio_export.orders", live_from=AT
)
BRAKED: dict[str, Any] = {"enabled": True, "max_rows_per_day": 50, "max_people_share": 1.0}
DELETIONS = feed_of("deletion", {}, name="deletions", view="cio_export.deletions", **BRAKED)
MERGES = feed_of(
    "merge", {"guest_id": KEY}, merged_column="guest_id", name="merges", view="cio_export.merges", unknown_person="send", **BRAKED
)
SUPPRESSIONS = feed_of(
    "suppression",
    {"is_suppressed": {"type": "boolean", "required": True}},
    suppressed_column="is_suppressed",
    name="suppressions",
    view="cio_export.suppressions",
    **BRAKED,
)
YOUNG = AT + timedelta(hours=30)


def row(number: int, **changes: Any) -> Row:
    """A row of any feed: its person, its key and its times."""
    times = dict.fromkeys(("occurred_at", "updated_at", "loaded_at"), AT)
    keys = {"customer_id": f"C{number:07d}", "order_id": f"O{number}", "guest_id": f"G{number:07d}", "is_suppressed": True}
    return {**keys, **times, "tier": "gold", "total": 5, **changes}


def refuse(person: str) -> Any:
    """An answer of Customer.io that refuses the operations on one person."""

    def answer(request: httpx.Request) -> httpx.Response:
        batch = json.loads(request.content)["batch"]
        error = {"reason": "invalid", "field": "attributes.tier", "message": "no"}
        refused = [n for n, operation in enumerate(batch) if operation["identifiers"]["id"] == person]
        return httpx.Response(207, json={"errors": [{"batch_index": n, **error} for n in refused]})

    return answer


@pytest.mark.parametrize("feed", [FOLK, ORDERS, DELETIONS, MERGES, SUPPRESSIONS], ids=lambda feed: feed.kind.value)
def test_every_row_stands_in_the_log_once(feed: Feed, tmp_path: Path):
    """For every kind of feed the log's numbers are those of the report: of a mixed day, of its second run, of an empty one."""
    days = Days(tmp_path, feed)
    rows = [row(1), row(2), row(2), row(3), row(3, customer_id=""), row(4, customer_id="x" * 200)]
    for changed in (rows, [*rows[1:], row(5), row(6, loaded_at=AT + timedelta(hours=1))], []):
        report = days.run(feed, changed)
        log = log_of(days, feed)
        assert as_reported(log) == reported(report)
        assert log.rejections_rows == report.rejected == len(rows_of(log.rejections))
        assert log.rows == sum(row["rows_in_view"] for row in rows_of(log.deliveries)) == len(changed)
    assert (log.rows, log.left_the_view) == (0, sum(log.outcomes.values()))
    assert set(log.outcomes) == {"delivered"}


def test_every_outcome_of_an_event_is_told(tmp_path: Path):
    """Delivered, amended, held with a date, rejected by us and by Customer.io, duplicate: as the report counts them."""
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [row(1), row(2)], now=YOUNG)
    early = AT - timedelta(hours=1)
    rows = [row(1), row(2, total=6), row(3, occurred_at=early), row(4, total=-1), row(5), row(5), row(6)]
    report = days.run(ORDERS, rows, now=YOUNG, answer=refuse("C0000006"))
    log = log_of(days, ORDERS, now=YOUNG)
    assert as_reported(log) == reported(report)
    said = {row["business_key"]: row for row in rows_of(log.deliveries)}
    assert {key: row["outcome"] for key, row in said.items()} == {
        "O1": "delivered",
        "O2": "amended",
        "O3": "held",
        "O4": "rejected",
        "O5": "delivered",
        "O6": "rejected",
    }
    assert (said["O3"]["held_until"], said["O3"]["delivered_at"]) == ("2026-11-23 11:05:00.000000", None)
    assert (said["O5"]["rows_in_view"], said["O5"]["duplicates"]) == (2, 1)
    assert (said["O1"]["identifier"], said["O1"]["run_id"]) == ("C0000001", "00000001-test")
    assert said["O1"]["occurred_at"] == said["O1"]["loaded_at"] == "2026-11-20 12:00:00.000000"
    assert said["O1"]["delivered_at"].startswith("2026-11-21 18:00:00")
    rejected = [(row["business_key"], row["identifier"], row["reason"]) for row in rows_of(log.rejections)]
    assert rejected == [("O4", "C0000004", "below_minimum"), ("O6", "C0000006", "customerio_invalid")]


def test_what_was_held_is_told_as_held_although_it_is_due_by_now(tmp_path: Path):
    """The log may be written long after the delivery: a held row stays held, and one that a backfill held, too."""
    days = Days(tmp_path, ORDERS)
    rows = [row(1, occurred_at=AT - timedelta(hours=1)), row(2)]
    report = days.run(ORDERS, rows, now=YOUNG, options=DeliveryOptions(is_backfill=True, on_backfill="hold"))
    assert report.held == 2
    log = log_of(days, ORDERS, now=YOUNG + timedelta(days=30))
    assert as_reported(log) == reported(report)
    assert [row["held_until"][:16] for row in rows_of(log.deliveries)] == ["2026-11-23 11:05", "2026-11-23 12:05"]


def test_rows_of_an_export_that_nobody_delivered_yet_are_pending(tmp_path: Path):
    """A day that was exported anew since its delivery says so of the new rows alone."""
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [row(1)])
    stage(days.store, ORDERS, DAY, [row(1), row(2)], tmp_path)
    assert outcomes(log_of(days, ORDERS, is_delivered=False)) == {"O1": "delivered", "O2": "pending"}


def test_a_delivered_row_that_left_the_view_stays(tmp_path: Path):
    """It is delivered, is in no view, and only the warehouse's own log still knows whose it was."""
    days = Days(tmp_path, FOLK)
    days.run(FOLK, [row(1), row(2)])
    days.run(FOLK, [row(2)])
    log = log_of(days, FOLK)
    gone = [row for row in rows_of(log.deliveries) if not row["rows_in_view"]]
    assert [(row["outcome"], row["identifier"], row["delivered_at"] is None) for row in gone] == [("delivered", None, False)]


def test_a_person_whose_latest_content_was_refused_was_delivered_all_the_same(tmp_path: Path):
    """The outcome is that of the row in the view; delivered_at tells what Customer.io has acknowledged before."""
    days = Days(tmp_path, FOLK)
    days.run(FOLK, [row(1)])
    report = days.run(FOLK, [row(1, tier="silver")], answer=refuse("C0000001"))
    log = log_of(days, FOLK)
    (said,) = rows_of(log.deliveries)
    assert (said["outcome"], said["rejected"], said["delivered_at"] is None) == ("rejected", 1, False)
    assert as_reported(log) == reported(report)


def test_a_key_shared_by_a_good_and_a_bad_row_is_one_key(tmp_path: Path):
    """One row per key, whose outcome is the good row's; the bad one is counted beside it and stands in the rejections."""
    days = Days(tmp_path, ORDERS)
    report = days.run(ORDERS, [row(1), row(1, total=-1), row(2, order_id=None), row(3, order_id=None)])
    log = log_of(days, ORDERS)
    assert as_reported(log) == reported(report)
    said = {row["business_key"]: (row["outcome"], row["rows_in_view"], row["rejected"]) for row in rows_of(log.deliveries)}
    assert said == {"O1": ("delivered", 2, 1), "": ("rejected", 2, 2)}
    found = [(row["business_key"], row["identifier"]) for row in rows_of(log.rejections)]
    assert found == [("", None), ("", None), ("O1", "C0000001")], "whose a row without a key is, nobody can say"


def test_many_keys_go_in_shares_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A day of more keys than are joined at once comes out the same."""
    days = Days(tmp_path, ORDERS)
    report = days.run(ORDERS, [row(n) for n in range(300)] + [row(n) for n in range(50)])
    whole = rows_of(log_of(days, ORDERS).deliveries)
    monkeypatch.setattr("rs_cio_assets.delivery.log.KEYS_PER_PASS", 40)
    log = log_of(days, ORDERS)
    assert rows_of(log.deliveries) == whole
    assert as_reported(log) == reported(report)


def test_long_texts_fit_the_tables(tmp_path: Path):
    """What is too long for Customer.io is rejected, and is cut for the warehouse, in bytes."""
    assert f"VARCHAR({IDENTIFIER_BYTES})" == DELIVERIES.columns["identifier"][0]
    assert f"VARCHAR({KEY_BYTES})" == DELIVERIES.columns["business_key"][0] == REJECTIONS.columns["business_key"][0]
    assert f"VARCHAR({MESSAGE_BYTES})" == REJECTIONS.columns["message"][0]
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [row(1, customer_id="ö" * 5_000, order_id="€" * 5_000)])
    for path in (log_of(days, ORDERS).deliveries, log_of(days, ORDERS).rejections):
        (said,) = rows_of(path)
        assert len(said["identifier"].encode()) <= IDENTIFIER_BYTES
        assert len(said["business_key"].encode()) <= KEY_BYTES


@pytest.mark.parametrize("feed", [FOLK, ORDERS], ids=["people", "event"])
def test_the_files_have_the_tables_columns_in_their_order(feed: Feed, tmp_path: Path):
    """COPY of Parquet goes by position: of a full day and of an empty one."""
    days = Days(tmp_path, feed)
    for rows in ([row(1), row(2, customer_id="")], []):
        days.run(feed, rows)
        log = log_of(days, feed)
        for path, table in ((log.deliveries, DELIVERIES), (log.rejections, REJECTIONS)):
            schema = pq.read_schema(path)
            assert schema.names == list(table.columns)
            kinds = {name: kind for name, (kind, _) in table.columns.items()}
            assert [str(field.type) for field in schema] == ["int32" if kinds[n] == "INTEGER" else "string" for n in schema.names]


def test_staged_rows_that_are_gone_are_named(tmp_path: Path):
    """Without the rows nobody can say whose keys they were: the log asks for the export."""
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [row(1)])
    days.store.delete(days.store.list("staged/orders/2026-11-20/test"))
    with pytest.raises(StoreRefused, match="no object") as error:
        log_of(days, ORDERS)
    assert "run the export of that day again" in error.value.next_step


def test_people_who_went_before_their_events_are_told_by_those(tmp_path: Path):
    """Their own day is another one: only the event names the person behind the key."""
    orders = feed_of("event", {"order_id": KEY}, name="orders", view="cio_export.orders", unknown_person="deliver")
    days = Days(tmp_path, FOLK, orders)
    own, stranger = row(1), row(2)
    days.run(FOLK, [own])

    def deliver_people(identifiers: pa.ChunkedArray) -> None:
        assert identifiers.to_pylist() == [stranger["customer_id"]]
        options = DeliveryOptions(is_of_any_day=True)
        staged = load_manifest(days.store, FOLK.name, DAY)
        days.run(FOLK, [stranger], options=options)
        assert staged
        days.run(FOLK, [own])  # the day's own export stands there again

    days.run(orders, [own, stranger], deliver_people=deliver_people)
    events, people = load_manifest(days.store, "orders", DAY), load_manifest(days.store, "folk", DAY)
    assert events
    assert people
    path = log_people_first(events, orders, FOLK, people, days.store, folder=tmp_path, now=NOW)
    assert path
    (said,) = rows_of(path)
    assert (said["feed"], said["day"], said["identifier"], said["rows_in_view"]) == ("folk", DAY, stranger["customer_id"], 0)
    assert list(said) == list(DELIVERIES.columns)
    assert said["row_key"] in {row["row_key"] for row in rows_of(log_of(days, FOLK).deliveries)}
