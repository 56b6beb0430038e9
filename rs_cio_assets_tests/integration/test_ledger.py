"""The ledger on a local folder and on S3: nothing acknowledged is forgotten, however often it is folded, cached or shared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from botocore.client import BaseClient

from rs_cio_assets.delivery import (
    DeliveryOptions,
    DeliveryReport,
    Neighbours,
    compact_ledger,
    deliver_day,
    ledger,
    people,
    preview_day,
)
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.store import Manifest, Store, open_store
from rs_cio_assets_tests.integration.test_delivery_guards import AT, DAY, Days, order, person
from rs_cio_assets_tests.s3_stand_in import running_s3
from rs_cio_assets_tests.staging import NOW, RecordingTrack, feed_of, stage

BUCKET = "rs-cio"
COLUMNS = {"order_id": {"type": "string"}, "total": {"type": "integer"}}
ORDERS = feed_of("event", COLUMNS, name="orders", view="cio_export.orders")
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="cio_export.folk")
# A feed whose name begins with the other's: their ledgers must not be taken for one.
FOLK_OLD = feed_of("people", {"tier": {"type": "string"}}, name="folk_old", view="cio_export.folk_old")
RESEND = DeliveryOptions(has_resend=True)


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """S3 on 127.0.0.1, with one bucket."""
    with running_s3(BUCKET) as url:
        yield url


def client_of(url: str) -> BaseClient:
    """An S3 client."""
    return boto3.client("s3", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{BUCKET}/{uuid4().hex}", s3_client=client_of(request.getfixturevalue("s3_url")))


def segments(store: Store, feed_name: str = "orders", day: str = DAY) -> list[str]:
    """The day's objects."""
    return store.list(f"ledger/{feed_name}/{day}/")


def read(store: Store, key: str) -> pa.Table:
    """An object as any Parquet tool reads it."""
    data = store.get(key)
    assert data is not None
    return pq.read_table(pa.BufferReader(data))


def compact(store: Store, scratch: Path, now: datetime, feed_name: str = "orders", day: str = DAY) -> bool:
    """Fold the day's segments in a database of its own."""
    with open_database() as database:
        return compact_ledger(database, store, feed_name, day, scratch, now)


def one_by_one(days: Days, count: int) -> list[dict[str, Any]]:
    """A day that grows by one order a run: a segment for each."""
    for number in range(count):
        assert days.run(ORDERS, [order(n) for n in range(number + 1)]).delivered == 1
    return [order(n) for n in range(count)]


def test_a_fold_keeps_the_latest_of_each_row_and_the_day_does_not_notice(store: Store, tmp_path: Path):
    """Three versions of a day folded into one segment: each row once, as it was sent last; nothing is sent again."""
    days = Days(tmp_path, ORDERS, store=store)
    days.run(ORDERS, [order(1), order(2)])
    days.run(ORDERS, [order(1, total=1), order(2), order(3)], options=RESEND)
    days.run(ORDERS, [order(1, total=2)], options=RESEND)
    latest = {row["row_key"]: row for key in segments(store) for row in read(store, key).to_pylist()}
    assert compact(store, tmp_path, NOW + timedelta(minutes=1))
    (folded,) = [key for key in segments(store) if "compacted" in key]
    rows = read(store, folded).to_pylist()
    assert {row["row_key"]: row for row in rows} == latest
    assert len(rows) == 3
    assert read(store, folded).schema.equals(ledger.SCHEMA)
    report = days.run(ORDERS, [order(1, total=2), order(2), order(3)])
    assert (report.unchanged, report.requests) == (3, 0)
    assert days.run(ORDERS, [order(1)]).amended == 1


def test_replaced_segments_are_passed_over_at_once_and_removed_later(store: Store, tmp_path: Path):
    """Whoever reads the day right now finds every segment; after an hour the next fold removes those that were replaced."""
    days = Days(tmp_path, ORDERS, store=store)
    rows = one_by_one(days, 3)
    before = segments(store)
    assert compact(store, tmp_path, NOW + timedelta(minutes=1))
    assert set(before) < set(segments(store))
    assert not compact(store, tmp_path, NOW + timedelta(minutes=2))
    assert len(ledger.ledger_files(store, "orders", DAY, tmp_path)) == 1
    rows.append(order(3))
    days.run(ORDERS, rows, now=NOW + timedelta(minutes=3))
    assert compact(store, tmp_path, NOW + timedelta(minutes=59))
    assert set(before) < set(segments(store))
    assert compact(store, tmp_path, NOW + timedelta(hours=2))
    assert len(segments(store)) == 1
    report = days.run(ORDERS, rows)
    assert (report.unchanged, report.requests) == (4, 0)


def test_a_segment_that_comes_while_others_are_folded_is_kept(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DL6: two folds and a run at once: whatever the order of their writes, every row stays known."""
    days = Days(tmp_path, ORDERS, store=store)
    one_by_one(days, 2)
    put_file = type(store).put_file

    def meanwhile(self: Store, key: str, path: Path) -> None:
        monkeypatch.setattr(type(store), "put_file", put_file)
        held = path.read_bytes()
        days.run(ORDERS, [order(2)], now=NOW + timedelta(minutes=1))
        assert compact(store, tmp_path, NOW + timedelta(minutes=2))
        path.write_bytes(held)
        put_file(self, key, path)

    monkeypatch.setattr(type(store), "put_file", meanwhile)
    assert compact(store, tmp_path, NOW + timedelta(minutes=1))
    for minutes in (3, 200, 400):
        compact(store, tmp_path, NOW + timedelta(minutes=minutes))
        report = days.run(ORDERS, [order(n) for n in range(3)])
        assert (report.unchanged, report.requests) == (3, 0)


def test_a_run_folds_a_day_of_many_segments_by_itself(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A day that was run very often is read from few files, and stays complete."""
    monkeypatch.setattr("rs_cio_assets.delivery.day.COMPACT_SEGMENTS", 4)
    days = Days(tmp_path, ORDERS, store=store)
    rows = one_by_one(days, 12)
    assert len(ledger.ledger_files(store, "orders", DAY, tmp_path)) <= 5
    report = days.run(ORDERS, rows)
    assert (report.unchanged, report.requests) == (12, 0)


def test_segments_have_bounded_size_and_hold_what_was_sent(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """DL5: acknowledgements are written as they come, so a crash forgets at most one segment; each names its run."""
    monkeypatch.setattr(ledger, "FLUSH_AFTER_ROWS", 1)
    days = Days(tmp_path, ORDERS, store=store)
    half = httpx.Response(413)
    days.run(ORDERS, [order(n) for n in range(8)], answer=lambda r: half if r.content.count(b'"person"') > 2 else None)
    found = [read(store, key) for key in segments(store)]
    assert [table.num_rows for table in found] == [2, 2, 2, 2]
    assert all(table.schema.equals(ledger.SCHEMA) for table in found)
    rows = pa.concat_tables(found).to_pylist()
    assert {row["occurred_at"] for row in rows} == {AT}
    assert {row["run_id"] for row in rows} == {"00000001-test"}
    assert len({row["row_key"] for row in rows}) == 8


def test_two_runs_of_one_day_at_once_lose_nothing(store: Store, tmp_path: Path):
    """DL6: both send what neither had found delivered, under the same ids; afterwards the day is done."""
    days = Days(tmp_path, ORDERS, store=store)
    rows = [order(n) for n in range(40)]
    manifest = stage(store, ORDERS, DAY, rows, tmp_path)
    both_classified = threading.Barrier(2, timeout=60)
    reports: list[DeliveryReport] = []

    def answer(_: httpx.Request) -> None:
        both_classified.wait()

    tracks = [RecordingTrack(answer), RecordingTrack(answer)]

    def run(number: int) -> None:
        scratch = tmp_path / f"scratch{number}"
        scratch.mkdir()
        with tracks[number].client() as client:
            reports.append(deliver(manifest, store, client, scratch, number, days))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [report.delivered for report in reports] == [40, 40]
    first, second = ({operation["id"] for operation in track.operations} for track in tracks)
    assert first == second
    assert len(first) == 40
    assert len(segments(store)) == 2
    report = days.run(ORDERS, rows)
    assert (report.unchanged, report.requests) == (40, 0)


def deliver(manifest: Manifest, store: Store, client: Any, scratch: Path, number: int, days: Days) -> DeliveryReport:
    """One of two runs at the same moment."""
    return deliver_day(
        ORDERS,
        days.contract,
        manifest,
        store,
        client,
        run_id=f"{number}1111111-test",
        now=lambda: NOW,
        scratch=scratch,
        concurrency=2,
        neighbours=Neighbours(),
    )


def known(store: Store, scratch: Path, feed: Any = FOLK) -> set[tuple[str, str, datetime]]:
    """Everybody's latest day and time, as the engine looks them up."""
    with open_database() as database:
        relation = people.acknowledged_keys(database, store, feed, scratch)
        found = database.execute(f"SELECT row_key, max(day), max(occurred_at) FROM {relation} GROUP BY row_key").fetchall()
    return {(key, day, at.astimezone(UTC)) for key, day, at in found}


def test_the_cache_of_keys_says_what_the_ledger_says(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """ID6: over many days, with the cache new, old or removed, and with folded days, the same people are known."""
    monkeypatch.setattr(people, "FOLD_SEGMENTS", 3)
    days = Days(tmp_path, FOLK, FOLK_OLD, store=store)
    assert known(store, tmp_path) == set()
    everybody: set[tuple[str, str, datetime]] = set()
    days.run(FOLK_OLD, [person(99)])
    for number in range(9):
        at = AT + timedelta(days=number - 9)
        rows = [person(n, updated_at=at) for n in (number, number + 100, 500)]
        days.run(FOLK, rows, day=at.date().isoformat())
        found = known(store, tmp_path)
        assert len(found) == 2 * number + 3
        assert {day for _, day, _ in found - everybody} == {at.date().isoformat()}
        everybody = found
        if number == 5:
            assert compact(store, tmp_path, NOW, "folk", at.date().isoformat()) is False
    assert store.list("keys/") == ["keys/folk.parquet"]
    store.delete(["keys/folk.parquet"])
    assert known(store, tmp_path) == everybody
    assert len(known(store, tmp_path, FOLK_OLD)) == 1


def test_the_cache_stays_right_when_its_segments_are_folded_and_removed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """ID6: the cache names segments that are gone by then; whoever they named is still known, and whoever came later too."""
    monkeypatch.setattr(people, "FOLD_SEGMENTS", 2)
    days = Days(tmp_path, FOLK, store=store)
    for number in range(4):
        days.run(FOLK, [person(number)])
    before = known(store, tmp_path)
    assert len(before) == 4
    assert compact(store, tmp_path, NOW + timedelta(minutes=1), "folk")
    days.run(FOLK, [person(9)], now=NOW + timedelta(hours=1))
    assert compact(store, tmp_path, NOW + timedelta(hours=3), "folk")
    assert compact(store, tmp_path, NOW + timedelta(hours=9), "folk")
    assert len(segments(store, "folk")) == 1
    assert before < known(store, tmp_path)
    assert len(known(store, tmp_path)) == 5


def test_a_segment_removed_between_listing_and_reading_is_no_error_for_its_day(store: Store, tmp_path: Path):
    """A fold of the same day may remove what was just listed: the day is listed anew."""
    days = Days(tmp_path, ORDERS, store=store)
    one_by_one(days, 2)
    assert compact(store, tmp_path, NOW)
    listed = store.list
    calls: list[str] = []

    def stale(prefix: str) -> list[str]:
        found = listed(prefix)
        calls.append(prefix)
        return [*found, f"ledger/orders/{DAY}/20261124T000000000000-gone0000-0000.parquet"] if len(calls) == 1 else found

    store.list = stale
    assert len(ledger.ledger_files(store, "orders", DAY, tmp_path)) == 1
    assert len(calls) == 2


def test_a_segment_removed_between_listing_and_reading_is_no_error_for_a_look_up_either(store: Store, tmp_path: Path):
    """ID6: events look people up while a run of the people feed removes segments that were replaced an hour ago."""
    days = Days(tmp_path, FOLK, store=store)
    for number in range(2):
        days.run(FOLK, [person(number)])
    assert compact(store, tmp_path, NOW + timedelta(minutes=1), "folk")
    listed = store.list

    def meanwhile(prefix: str) -> list[str]:
        found = listed(prefix)
        if prefix == "ledger/folk/":
            store.list = listed
            compact(store, tmp_path, NOW + timedelta(hours=2), "folk")
        return found

    store.list = meanwhile
    assert len(known(store, tmp_path)) == 2


def test_a_preview_folds_nothing(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A preview writes nothing but scratch files, however many segments the day has."""
    monkeypatch.setattr("rs_cio_assets.delivery.day.COMPACT_SEGMENTS", 2)
    days = Days(tmp_path, ORDERS, store=store)
    rows = one_by_one(days, 3)
    manifest = stage(store, ORDERS, DAY, rows, tmp_path)
    before = store.list("")
    preview_day(ORDERS, days.contract, manifest, store, now=NOW, scratch=tmp_path, rows=1)
    assert store.list("") == before
