"""Housekeeping on a local folder and on S3: rows of people go when they are old enough, what keeps days right stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.automation import HOUSEKEEPING
from rs_cio_assets.delivery.folding import Folded, fold_ledgers
from rs_cio_assets.delivery.ledger import first_delivery_day, last_written
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore, Store, has_staged_files, load_manifest, open_store
from rs_cio_assets.store.retention import Removed, expire, expire_staged, remove_orphans
from rs_cio_assets.sync import failures
from rs_cio_assets_tests.integration.test_delivery_guards import AT, Days, order
from rs_cio_assets_tests.pipeline import delivered, open_pipeline, run_sql
from rs_cio_assets_tests.s3_stand_in import KEYS, running_s3
from rs_cio_assets_tests.staging import NOW, contract_of, feed_of, stage

BUCKET = "rs-cio"
DAY = "2026-11-20"
ORDERS = feed_of("event", {"order_id": {"type": "string"}}, name="orders", view="cio_export.orders")


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """S3 on 127.0.0.1, with one bucket."""
    with running_s3(BUCKET) as url:
        yield url


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    client = boto3.client("s3", endpoint_url=request.getfixturevalue("s3_url"), **KEYS)
    return open_store(f"s3://{BUCKET}/{uuid4().hex}", s3_client=client)


def let_be_old(store: Store, monkeypatch: pytest.MonkeyPatch, ages: Mapping[str, timedelta]) -> None:
    """Objects whose keys hold a word were written so long ago: S3 takes no time of ours."""
    listed = store.objects

    def aged(prefix: str):
        def age(key: str) -> timedelta:
            return next((age for word, age in ages.items() if word in key), timedelta())

        return [replace(found, written_at=found.written_at - age(found.key)) for found in listed(prefix)]

    monkeypatch.setattr(store, "objects", aged)


def test_staged_rows_go_with_their_age_and_the_manifest_stays(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows read before that moment go, younger ones stay; the manifest goes on saying what was read, and that it is gone."""
    old = stage(store, ORDERS, DAY, [order(1), order(2)], tmp_path)
    young = stage(store, ORDERS, "2026-11-21", [order(3)], tmp_path)
    empty = stage(store, ORDERS, "2026-11-22", [], tmp_path)
    let_be_old(store, monkeypatch, {DAY: timedelta(days=8), "2026-11-21": timedelta(days=6)})
    before = datetime.now(UTC) - timedelta(days=7)
    assert expire_staged(store, before) == Removed(1, old.files[0].size_bytes)
    assert not has_staged_files(store, old)
    assert has_staged_files(store, young)
    assert [load_manifest(store, "orders", m.day) for m in (old, young, empty)] == [old, young, empty]
    assert expire_staged(store, before) == Removed(0, 0)


def test_files_that_no_manifest_names_go_after_a_day(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What a killed reading left goes, with a manifest beside it or without; a reading that is under way is left alone."""
    kept = stage(store, ORDERS, DAY, [order(1)], tmp_path)
    for key in (f"{DAY}/dead/part-00000", f"{DAY}/underway/part-00000", "2026-11-21/dead/part-00000"):
        store.put(f"staged/orders/{key}.parquet", b"12345")
    let_be_old(
        store, monkeypatch, {"/dead/": timedelta(hours=25), "/underway/": timedelta(hours=23), "/test/": timedelta(days=3)}
    )
    assert remove_orphans(store, datetime.now(UTC)) == Removed(2, 10)
    left = store.list("staged/")
    assert left == sorted(
        [kept.files[0].key, f"staged/orders/{DAY}/manifest.json", f"staged/orders/{DAY}/underway/part-00000.parquet"]
    )


def test_other_rows_of_people_go_by_prefix(store: Store, monkeypatch: pytest.MonkeyPatch):
    """Rejections not seen for long go; younger ones, other prefixes and the ledger stay however old they are."""
    keys = ["rejections/orders/2026-01-01.parquet", "rejections/orders/2026-11-20.parquet", "ledger/orders/2026-01-01/x.parquet"]
    for key in keys:
        store.put(key, b"123")
    let_be_old(store, monkeypatch, {"2026-01-01": timedelta(days=91), DAY: timedelta(days=89)})
    assert expire(store, "rejections/", datetime.now(UTC) - timedelta(days=90)) == Removed(1, 3)
    assert store.list("") == sorted(keys[1:])


def test_old_ledgers_are_folded_a_bounded_number_a_run_and_nothing_is_sent_again(store: Store, tmp_path: Path):
    """Days that nobody touched for 30 days, those first that were touched least lately; what a fold replaced goes with the next
    run; the feed's first delivery is the same day as before.
    """
    days = Days(tmp_path, ORDERS, store=store)
    rows = {f"2026-11-{number}": [order(number), order(100 + number)] for number in (18, 19, 20)}
    for touched, day in enumerate(("2026-11-19", "2026-11-18", "2026-11-20")):
        for count in (1, 2):
            at = AT - timedelta(days=20 - int(day[-2:]))
            dated = [{**row, "occurred_at": at} for row in rows[day][:count]]
            assert days.run(ORDERS, dated, day=day, now=NOW + timedelta(days=touched)).delivered == 1
        rows[day] = dated
    first_day = NOW.date()
    assert first_delivery_day(store, "orders") == first_day

    def folded() -> list[str]:
        return sorted({key.split("/")[2] for key in store.list("ledger/") if "compacted" in key})

    assert fold_ledgers(store, NOW + timedelta(days=30), tmp_path) == Folded(0, 0)
    assert fold_ledgers(store, NOW + timedelta(days=40), tmp_path, most_days=2) == Folded(2, 1)
    assert folded() == ["2026-11-18", "2026-11-19"]
    assert fold_ledgers(store, NOW + timedelta(days=41), tmp_path) == Folded(3, 0)
    assert fold_ledgers(store, NOW + timedelta(days=42), tmp_path) == Folded(1, 0)
    assert fold_ledgers(store, NOW + timedelta(days=43), tmp_path) == Folded(0, 0)
    assert folded() == sorted(rows)
    assert len(store.list("ledger/")) == 3
    assert first_delivery_day(store, "orders") == first_day
    assert {date.fromisoformat(last_written(key)) for key in store.list("ledger/")} == {
        first_day + timedelta(days=n) for n in range(3)
    }
    for day, dated in rows.items():
        report = days.run(ORDERS, dated, day=day, now=NOW + timedelta(days=44))
        assert (report.unchanged, report.requests) == (2, 0)


def test_a_fold_of_an_earlier_version_is_as_old_as_its_name():
    """Names without the days of their segments are read as before."""
    assert last_written("ledger/orders/2026-11-20/20261124T070000000000-compacted.parquet") == "20261124"
    assert last_written("ledger/orders/2026-11-20/20261125T070000000000-compacted-20261120-20261124.parquet") == "20261124"
    assert last_written("ledger/orders/2026-11-20/20261123T070000000000-00000001-0000.parquet") == "20261123"


def test_a_day_whose_rows_expired_says_so_alone_and_is_synced_again_with_its_export(settings: Settings):
    """The job housekeeping removes a day's rows and shows how many; the feed alone is refused with what to do; export and feed
    together read the day again and send nothing.
    """
    schema = f"upkeep_{uuid4().hex[:8]}"
    run_sql(
        settings,
        f"CREATE SCHEMA {schema}",
        f"CREATE TABLE {schema}.orders (customer_id VARCHAR(50), occurred_at TIMESTAMP, loaded_at TIMESTAMP, order_id VARCHAR)",
        f"INSERT INTO {schema}.orders VALUES ('C0000001', '{DAY} 12:00', '{DAY} 13:00', 'O1'), "
        f"('wrong', '{DAY} 12:00', '{DAY} 13:00', 'O2')",
    )
    sql = f"SELECT * FROM {schema}.orders"
    feed = feed_of("event", {"order_id": {"type": "string"}}, view=f"{schema}.v", sql=sql, max_rejected_share=0.5)
    with open_pipeline(settings, contract_of(feed)) as pipeline:
        assert pipeline.create_views().is_success
        assert pipeline.sync_one(DAY).is_success
        store = LocalStore(Path(settings.store))
        ledger = store.list("ledger/")
        for days in (14, 16):
            grow_old(settings, timedelta(days=days))
            result = pipeline.defs.resolve_job_def(HOUSEKEEPING).execute_in_process(instance=pipeline.instance)
            assert result.success
        (event,) = result.get_asset_materialization_events()
        shown = {name: value.value for name, value in event.materialization.metadata.items()}
        assert (shown["staged, expired (objects)"], shown["staged, of no manifest (objects)"]) == (1, 0)
        assert (shown["rejections (objects)"], shown["ledger, folded (days)"]) == (0, 0)
        assert isinstance(shown["staged, expired (bytes)"], int)
        assert [key.rpartition("/")[2] for key in store.list("staged/")] == ["manifest.json"]
        assert store.list("ledger/") == ledger
        (refused,) = pipeline.materialize([feed_key("tested")], DAY)
        assert f"feed tested, {DAY}: the store has no object staged/tested/{DAY}/" in refused
        assert "Next step: run the export of that day again; its staged files were removed" in refused
        assert pipeline.materialize([export_key("tested"), feed_key("tested")], DAY) == []
        again = delivered(pipeline.sync_one(DAY))["tested"]
        assert (again["unchanged"], again["rejected"], again["requests"]) == (1, 1, 0)
        assert pipeline.counts()["by_name"] == {"Order Completed": 1}
        grow_old(settings, timedelta(days=91))
        assert pipeline.defs.resolve_job_def(HOUSEKEEPING).execute_in_process(instance=pipeline.instance).success
        assert (store.list("rejections/"), store.list("ledger/")) == ([], ledger)
    run_sql(settings, f"DROP SCHEMA {schema} CASCADE")


def test_a_store_that_cannot_be_used_fails_with_the_next_step(settings: Settings, s3_url: str):
    """Rows that could not be removed are no success: the run fails and says what to do."""
    s3 = settings.s3.model_copy(update={"endpoint_url": s3_url})
    elsewhere = settings.model_copy(update={"store": "s3://no-such-bucket/x", "s3": s3})
    with open_pipeline(elsewhere, contract_of(ORDERS)) as pipeline:
        job = pipeline.defs.resolve_job_def(HOUSEKEEPING)
        result = job.execute_in_process(instance=pipeline.instance, raise_on_error=False)
    (said,) = failures(result)
    assert said.startswith("S3 answered 404 NoSuchBucket for s3://no-such-bucket/x/")
    assert said.endswith("Next step: create the bucket, or correct RS_CIO_STORE")


def grow_old(settings: Settings, age: timedelta) -> None:
    """Everything in the store was written so long ago."""
    moment = time.time() - age.total_seconds()
    for path in Path(settings.store).rglob("*"):
        os.utime(path, (moment, moment))
