"""The store: a local folder and S3 keep the same promises, and a whole day of the pipeline does not notice which it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.stub import Stubber

from rs_cio_assets.errors import StoreRefused, StoreUnavailable
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Fingerprint, LocalStore, Manifest, StagedFile, Store, load_manifest, open_store, save_manifest
from rs_cio_assets_tests.pipeline import delivered, free_port, open_pipeline, run_sql
from rs_cio_assets_tests.s3_stand_in import running_s3
from rs_cio_assets_tests.staging import contract_of, feed_of

DAY = "2026-11-20"
BUCKET = "rs-cio"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3_url() -> Iterator[str]:
    """S3 on 127.0.0.1, with one bucket."""
    with running_s3(BUCKET) as url:
        yield url


def client_of(url: str) -> BaseClient:
    """An S3 client without retries."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5),
    )


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "local":
        return open_store(str(tmp_path / "store"))
    return open_store(f"s3://{BUCKET}/{uuid4().hex}", s3_client=client_of(request.getfixturevalue("s3_url")))


def test_what_is_put_is_what_comes_back(store: Store, tmp_path: Path):
    """Bytes and files, empty ones too, come back whole by get and by fetch; a second put replaces the first."""
    data = bytes(range(256)) * 9_000
    source = tmp_path / "source"
    source.write_bytes(data)
    store.put("a/bytes", b"first")
    store.put("a/bytes", b"")
    store.put_file("a/file", source)
    assert (store.get("a/bytes"), store.get("a/file")) == (b"", data)
    assert store.fetch("a/file", tmp_path).read_bytes() == data
    assert source.read_bytes() == data


def test_a_missing_object_is_none_or_says_what_to_do(store: Store, tmp_path: Path):
    """get answers None; fetch names the key and the next step."""
    assert store.get("staged/orders/none") is None
    with pytest.raises(StoreRefused, match="the store has no object staged/orders/none") as error:
        store.fetch("staged/orders/none", tmp_path)
    assert error.value.next_step == "run the export of that day again; its staged files were removed"


def test_a_list_is_sorted_and_holds_exactly_the_prefix(store: Store):
    """Keys that begin with the prefix, letter by letter, in order; a prefix may end within a name, and may match nothing."""
    keys = ["b/2", "a/10", "a/9", "ab/1", "a/sub/x", "b/21", "a/A"]
    for key in keys:
        store.put(key, b"x")
    assert store.list("a/") == ["a/10", "a/9", "a/A", "a/sub/x"]
    assert store.list("a") == ["a/10", "a/9", "a/A", "a/sub/x", "ab/1"]
    assert store.list("b/2") == ["b/2", "b/21"]
    assert store.list("") == sorted(keys)
    assert store.list("c/") == store.list("a/sub/x/") == []


def test_objects_say_their_size_and_when_they_were_written(store: Store):
    """Sorted, of exactly the prefix, as `list` gives them; a second put is a new writing."""
    for key in ("a/2", "a/1", "b/1"):
        store.put(key, b"xyz")
    found = store.objects("a/")
    assert [(item.key, item.size_bytes) for item in found] == [("a/1", 3), ("a/2", 3)]
    assert all(abs(datetime.now(UTC) - item.written_at) < timedelta(minutes=1) for item in found)
    assert store.objects("c/") == []


def test_deleting_removes_what_is_named_and_passes_over_the_rest(store: Store):
    """Named objects go, absent ones do not matter, neighbours stay, and nothing to delete is no error."""
    for key in ("d/1", "d/11", "d/2"):
        store.put(key, b"x")
    store.delete(iter(["d/1", "d/none", "d/2"]))
    store.delete([])
    assert store.list("d/") == ["d/11"]


@pytest.mark.parametrize("key", ["a-b_c.d=e+f/0", "...", "a/.hidden", "ledger/x/2026-11-20/2026+1=2.parquet"])
def test_keys_with_odd_but_allowed_characters_round_trip(store: Store, tmp_path: Path, key: str):
    """Every allowed character means itself: nothing is quoted, folded or read as a path."""
    store.put(key, key.encode())
    assert store.list("") == [key]
    assert store.fetch(key, tmp_path).read_bytes() == key.encode() == store.get(key)
    store.delete([key])
    assert store.list("") == []


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a b", "~a", "a\n", "caf\xe9", "a\\b"])
def test_a_key_that_could_leave_the_store_is_refused(store: Store, tmp_path: Path, key: str):
    """No verb takes a key that is not plain names joined by slashes."""
    verbs: list[Callable[[], Any]] = [
        lambda: store.put(key, b"x"),
        lambda: store.put_file(key, Path(__file__)),
        lambda: store.get(key),
        lambda: store.fetch(key, tmp_path),
        lambda: store.delete([key]),
    ]
    for verb in verbs:
        with pytest.raises(ValueError, match="not a store key"):
            verb()


def test_a_put_that_fails_leaves_the_old_object_whole(store: Store, tmp_path: Path):
    """A source that cannot be read replaces nothing and leaves no half object behind."""
    store.put("a/file", b"old")
    with pytest.raises(StoreRefused):
        store.put_file("a/file", tmp_path / "absent")
    with pytest.raises(StoreRefused):
        store.put_file("a/other", tmp_path)
    assert (store.get("a/file"), store.list("")) == (b"old", ["a/file"])


def test_a_disk_that_fills_up_leaves_the_old_object_and_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The write fails after its first bytes: the old object is still there, alone, and the message says what to do."""
    store = LocalStore(tmp_path / "store")
    store.put("a/file", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreRefused, match="no space left on device") as error:
        store.put("a/file", b"new")
    assert "free space" in error.value.next_step
    assert [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()] == ["file"]
    assert store.get("a/file") == b"old"


def test_a_store_that_is_a_file_says_what_to_do(tmp_path: Path):
    """RS_CIO_STORE on something that is no folder: our error for writing and reading, with the variable's name."""
    place = tmp_path / "store"
    place.write_text("")
    for verb in (lambda: LocalStore(place).put("a/b", b""), lambda: LocalStore(place).get("a/b")):
        with pytest.raises(StoreRefused) as error:
            verb()
        assert "RS_CIO_STORE" in error.value.next_step


@pytest.mark.parametrize("loaded", [None, datetime(2026, 11, 20, 3, 4, 5, 678, tzinfo=UTC)], ids=["empty day", "rows"])
def test_a_manifest_comes_back_as_it_was_saved(store: Store, loaded: datetime | None):
    """Every field, microseconds and order included; another day has none; a damaged one names feed and day."""
    manifest = Manifest(
        feed="orders",
        day=DAY,
        view="cio_export.orders",
        fingerprint=Fingerprint(2, loaded, "abc"),
        rows=2,
        files=(StagedFile("staged/orders/x.parquet", 2, 99),) if loaded else (),
        columns=(("order_id", "string"), ("total", "decimal")),
        read_at=datetime(2026, 11, 24, 6, 0, 0, 1, tzinfo=UTC),
        extra_columns=("note",),
    )
    save_manifest(store, manifest)
    assert load_manifest(store, "orders", DAY) == manifest
    assert load_manifest(store, "orders", "2026-11-21") is None
    (key,) = store.list(f"staged/orders/{DAY}/")
    for damaged in (b"", b"{}", b"[]", b"\xff", b'{"fingerprint": 1}'):
        store.put(key, damaged)
        with pytest.raises(StoreRefused, match=f"feed orders, {DAY}: the manifest cannot be read"):
            load_manifest(store, "orders", DAY)


VERBS: dict[str, tuple[str, Callable[[Store, Path], Any]]] = {
    "put": ("put_object", lambda store, _: store.put("a", b"")),
    "put_file": ("put_object", lambda store, _: store.put_file("a", Path(__file__))),
    "get": ("get_object", lambda store, _: store.get("a")),
    "fetch": ("head_object", lambda store, path: store.fetch("a", path)),
    "list": ("list_objects_v2", lambda store, _: store.list("a")),
    "objects": ("list_objects_v2", lambda store, _: store.objects("a")),
    "delete": ("delete_objects", lambda store, _: store.delete(["a"])),
}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "fetch"])
def test_a_bucket_that_is_not_there_is_named(s3_url: str, tmp_path: Path, verb: str):
    """A missing bucket is no missing object: every verb says to create it or to correct the setting."""
    store = open_store("s3://no-such-bucket/x", s3_client=client_of(s3_url))
    with pytest.raises(StoreRefused, match="NoSuchBucket") as error:
        VERBS[verb][1](store, tmp_path)
    assert error.value.next_step == "create the bucket, or correct RS_CIO_STORE"


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (403, "AccessDenied", StoreRefused),
        (400, "ExpiredToken", StoreRefused),
        (503, "SlowDown", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_each_answer_of_s3_says_whether_to_try_again(
    tmp_path: Path, verb: str, status: int, code: str, expected: type[Exception]
):
    """Denied and expired are refused with what to do; 5xx and slow down may work later; the message names the place."""
    client = client_of("http://127.0.0.1:9")
    with Stubber(client) as stub:
        stub.add_client_error(VERBS[verb][0], service_error_code=code, http_status_code=status)
        with pytest.raises(expected, match=f"{status} {code} for s3://bucket/prefix/") as error:
            VERBS[verb][1](open_store("s3://bucket/prefix", s3_client=client), tmp_path)
    if isinstance(error.value, StoreRefused):
        assert error.value.next_step.startswith(("grant s3:GetObject", "renew the AWS credentials"))


def test_a_fetch_that_is_denied_without_a_body_says_what_to_grant(tmp_path: Path):
    """HEAD answers 403 without a code of its own (the S3 API gives no body): the next step is the same as for AccessDenied."""
    client = client_of("http://127.0.0.1:9")
    with Stubber(client) as stub:
        stub.add_client_error("head_object", service_error_code="403", http_status_code=403)
        with pytest.raises(StoreRefused) as error:
            open_store("s3://bucket/prefix", s3_client=client).fetch("a", tmp_path)
    assert error.value.next_step.startswith("grant s3:GetObject")


def test_objects_that_s3_keeps_are_not_taken_for_deleted():
    """DeleteObjects answers 200 and lists what it refused: that is an error, not a success."""
    client = client_of("http://127.0.0.1:9")
    with Stubber(client) as stub:
        stub.add_response("delete_objects", {"Errors": [{"Key": "prefix/a", "Code": "AccessDenied", "Message": "no"}]})
        with pytest.raises(StoreRefused, match="AccessDenied"):
            open_store("s3://bucket/prefix", s3_client=client).delete(["a"])


def test_opening_a_store_on_s3_makes_no_client_yet(s3_url: str):
    """Making a client may ask for credentials over the network: that waits for the first use, and happens once."""
    made: list[BaseClient] = []

    def make() -> BaseClient:
        made.append(client_of(s3_url))
        return made[-1]

    store = open_store(f"s3://{BUCKET}/later", s3_client=make)
    assert made == []
    store.put("a", b"x")
    assert (store.get("a"), len(made)) == (b"x", 1)


def test_s3_that_cannot_be_reached_may_work_later():
    """Nothing listens: transient, and no traceback of the client."""
    with pytest.raises(StoreUnavailable, match="S3 cannot be reached for s3://bucket/"):
        open_store("s3://bucket", s3_client=client_of(f"http://127.0.0.1:{free_port()}")).get("a")


def test_a_list_goes_on_where_s3_cut_it_off():
    """S3 gives 1,000 keys at a time: every page is asked for, with the token of the page before."""
    client = client_of("http://127.0.0.1:9")
    pages: list[dict[str, Any]] = [
        {"Contents": [{"Key": "prefix/a/2"}], "IsTruncated": True, "NextContinuationToken": "more"},
        {"Contents": [{"Key": "prefix/a/1"}], "IsTruncated": False},
    ]
    asked: dict[str, Any] = {"Bucket": "bucket", "Prefix": "prefix/a/"}
    with Stubber(client) as stub:
        stub.add_response("list_objects_v2", pages[0], asked)
        stub.add_response("list_objects_v2", pages[1], {**asked, "ContinuationToken": "more"})
        assert open_store("s3://bucket/prefix", s3_client=client).list("a/") == ["a/1", "a/2"]


def test_more_objects_than_one_request_takes_are_deleted(s3_url: str, monkeypatch: pytest.MonkeyPatch):
    """Deleting goes in as many requests as S3's limit asks for, and the last, smaller one goes too."""
    monkeypatch.setattr("rs_cio_assets.store.s3.DELETE_KEYS", 2)
    store = open_store(f"s3://{BUCKET}/many", s3_client=client_of(s3_url))
    for number in range(5):
        store.put(f"n/{number}", b"")
    store.delete(store.list("n/"))
    assert store.list("") == []


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_a_day_of_the_pipeline_is_the_same_on_either_store(settings: Settings, s3_url: str, kind: str):
    """Export, deliver, run again: the second run sends nothing, whichever store holds the ledger."""
    settings = settings.model_copy(update={"s3": settings.s3.model_copy(update={"endpoint_url": s3_url})})
    schema = f"store_{uuid4().hex[:8]}"
    if kind == "s3":
        settings = settings.model_copy(update={"store": f"s3://{BUCKET}/{schema}"})
    run_sql(
        settings,
        f"CREATE SCHEMA {schema}",
        f"CREATE TABLE {schema}.orders (customer_id VARCHAR(50), occurred_at TIMESTAMP, loaded_at TIMESTAMP, order_id VARCHAR)",
        f"INSERT INTO {schema}.orders VALUES ('C0000001', '{DAY} 12:00', '{DAY} 13:00', 'O1'), "
        f"('C0000002', '{DAY} 12:00', '{DAY} 13:00', 'O2'), ('wrong', '{DAY} 12:00', '{DAY} 13:00', 'O3')",
    )
    sql = f"SELECT customer_id, occurred_at, loaded_at, order_id FROM {schema}.orders"
    feed = feed_of("event", {"order_id": {"type": "string"}}, view=f"{schema}.v", sql=sql, max_rejected_share=0.5)
    with open_pipeline(settings, contract_of(feed)) as pipeline:
        assert pipeline.create_views().is_success
        outcomes = [pipeline.sync_one(DAY) for _ in range(2)]
        counts = [delivered(outcome)["tested"] for outcome in outcomes]
        assert [outcome.is_success for outcome in outcomes] == [True, True]
        shown = [{name: count[name] for name in ("rows", "delivered", "unchanged", "rejected")} for count in counts]
        assert shown == [
            {"rows": 3, "delivered": 2, "unchanged": 0, "rejected": 1},
            {"rows": 3, "delivered": 0, "unchanged": 2, "rejected": 1},
        ]
        assert counts[1]["requests"] == 0
        assert pipeline.counts()["by_name"] == {"Order Completed": 2}
    kept = open_store(settings.store, s3_client=client_of(s3_url))
    assert len(kept.list("ledger/")) == 1
    assert len(kept.list("rejections/")) == 1
    assert any(key.endswith("/manifest.json") for key in kept.list(f"staged/tested/{DAY}/"))
    run_sql(settings, f"DROP SCHEMA {schema} CASCADE")
