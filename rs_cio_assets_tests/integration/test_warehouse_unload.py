"""Days by UNLOAD: chosen as contract and settings say, counted in four places; what goes wrong is told and keeps nothing."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import Feed
from rs_cio_assets.errors import MismatchError, RsCioError, StoreRefused, WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.resources import resources_for
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, environment, load_settings
from rs_cio_assets.store import LocalStore, Manifest, load_manifest
from rs_cio_assets.warehouse import Session, Warehouse, create_view, stage_days
from rs_cio_assets.warehouse.exchange import Exchange, remove_leftovers
from rs_cio_assets.warehouse.unload import read_manifest, unload_statement
from rs_cio_assets_tests.integration.test_warehouse_session import Relay
from rs_cio_assets_tests.integration.test_warehouse_stage import DAY, NEXT, NOW, Shelf, generated
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

ROWS = 200


@pytest.fixture
def opened(settings_with_s3: Settings, s3: ScriptedS3) -> Callable[..., Warehouse]:
    """Makes a warehouse with a place on S3 of the test's own, with other settings where they are given."""
    redshift, client = settings_with_s3.redshift, s3.client
    return lambda **changes: Warehouse(redshift.model_copy(update=changes), s3_client=lambda: client)


@pytest.fixture
def warehouse(opened: Callable[..., Warehouse]) -> Warehouse:
    """The warehouse with a place on S3 of the test's own."""
    return opened()


@pytest.fixture
def session(warehouse: Warehouse) -> Iterator[Session]:
    """An open session."""
    with warehouse.session() as session:
        yield session


@pytest.fixture
def exchange(warehouse: Warehouse) -> Exchange:
    """Where the files go."""
    assert warehouse.exchange
    return warehouse.exchange


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


@pytest.fixture
def feed(settings: Settings, session: Session) -> Feed:
    """A feed of ROWS rows on DAY."""
    feed = generated(Shelf(settings), ROWS)
    create_view(session, feed)
    return feed


def stage(session: Session, feed: Feed, store: LocalStore, *days: str) -> dict[str, Manifest]:
    """Stage DAY, or *days*."""
    return stage_days(session, feed, days or [DAY], store, now=lambda: NOW)


def keys_of(store: LocalStore, manifest: Manifest) -> set[str]:
    """The order numbers that are staged."""
    tables = [pq.read_table(store.fetch(file.key, Path()), columns=["order_id"]) for file in manifest.files]
    return {key for table in tables for key in table["order_id"].to_pylist()}


def test_a_day_comes_whole_and_leaves_nothing_on_s3(session: Session, feed: Feed, store: LocalStore, exchange: Exchange):
    """Every row is staged once; the files that carried them are gone."""
    manifest = stage(session, feed, store)[DAY]
    assert (manifest.read_by, manifest.rows) == ("unload", ROWS)
    assert keys_of(store, manifest) == {str(n) for n in range(1, ROWS + 1)}
    assert load_manifest(store, feed.name, DAY) == manifest
    assert exchange.store.list("") == []


def test_many_files_are_one_day(session: Session, settings: Settings, store: LocalStore, exchange: Exchange, s3: ScriptedS3):
    """A day in several files of UNLOAD: each is counted, and together they are the day."""
    sizes: list[int] = []
    s3.change_manifest(lambda manifest: sizes.append(len(manifest["entries"])))
    feed = generated(Shelf(settings), 60_000)
    create_view(session, feed)
    manifest = stage(session, feed, store)[DAY]
    assert sizes[0] > 1
    assert len(keys_of(store, manifest)) == manifest.rows == 60_000


@pytest.mark.parametrize(
    ("contract", "read", "unload_rows", "expected"),
    [
        ("auto", "auto", ROWS, "unload"),
        ("auto", "auto", ROWS + 1, "driver"),
        ("auto", "driver", 1, "driver"),
        ("auto", "unload", ROWS + 1, "unload"),
        ("driver", "unload", 1, "driver"),
        ("unload", "driver", ROWS + 1, "unload"),
    ],
)
def test_the_contract_says_how_then_the_settings_then_the_rows(
    opened: Callable[..., Warehouse],
    feed: Feed,
    store: LocalStore,
    contract: Any,
    read: str,
    unload_rows: int,
    expected: str,
):
    """A feed's own word goes first; `auto` counts the rows of the reading."""
    with opened(read=read, unload_rows=unload_rows).session() as session:
        manifest = stage(session, feed.model_copy(update={"read": contract}), store)[DAY]
    assert (manifest.read_by, manifest.rows) == (expected, ROWS)


def test_without_a_place_the_driver_reads_and_a_feed_that_insists_is_told(settings: Settings, feed: Feed, store: LocalStore):
    """`auto` needs no S3; `read: unload` names the settings that are missing."""
    with resources_for(settings)["warehouse"].session() as session:
        auto = settings.redshift.model_copy(update={"read": "auto", "unload_rows": 1})
        with Warehouse(auto).session() as plain:
            assert stage(plain, feed, store)[DAY].read_by == "driver"
        with pytest.raises(WarehouseRefused, match="no place on S3") as caught:
            stage(session, feed.model_copy(update={"read": "unload"}), store)
    assert "REDSHIFT_ROLE" in caught.value.next_step


def test_a_day_without_rows_asks_for_no_unload(session: Session, feed: Feed, store: LocalStore, s3: ScriptedS3):
    """What Redshift leaves behind for no rows is not documented: an empty day needs none of it."""
    s3.refuse("list_objects_v2", 500, "InternalError")  # would end any UNLOAD
    manifest = stage(session, feed, store, NEXT)[NEXT]
    assert (manifest.rows, manifest.files, manifest.read_by) == (0, (), "driver")


@pytest.mark.parametrize("left_behind", ["nothing", "manifest", "files"])
def test_whatever_unload_leaves_for_no_rows_is_understood(
    tmp_path: Path, s3: ScriptedS3, opened: Callable[..., Warehouse], left_behind: Any
):
    """No manifest, one without files, or files without rows: none of them is a row, and none an error."""
    with RedshiftStandIn(tmp_path / "redshift", s3=s3.cluster_client, empty_unload=left_behind) as stand_in:
        warehouse = opened(port=stand_in.port)
        with warehouse.session() as session:
            session.run(unload_statement("SELECT 1 AS n WHERE 1 = 0", warehouse.exchange, "reads/empty/"))
            session.commit()
        files = read_manifest(warehouse.exchange, "reads/empty/", 0)
    assert sum(file.rows for file in files) == 0
    assert bool(files) == (left_behind == "files")


def drop_entry(manifest: dict[str, Any]) -> None:
    """The manifest does not name one of the files."""
    manifest["entries"].pop()


def count_one_more(manifest: dict[str, Any]) -> None:
    """One file has a row more than it holds; the total follows."""
    manifest["entries"][0]["meta"]["record_count"] += 1
    manifest["meta"]["record_count"] += 1


def count_elsewhere(manifest: dict[str, Any]) -> None:
    """The sum is right, the files' shares are not."""
    first, last = manifest["entries"][0]["meta"], manifest["entries"][-1]["meta"]
    first["record_count"], last["record_count"] = first["record_count"] - 1, last["record_count"] + 1


FAULTS: dict[str, tuple[Callable[[ScriptedS3], None], type[RsCioError], str]] = {
    "a file that is cut off": (lambda s3: s3.truncate_file(), MismatchError, "another size"),
    "a missing file": (lambda s3: s3.lose_file(), MismatchError, "1 files of the manifest are missing"),
    "an extra file": (lambda s3: s3.add_file(), MismatchError, "1 files are not in the manifest"),
    "a file that is not named": (lambda s3: s3.change_manifest(drop_entry), MismatchError, "1 files are not in the manifest"),
    "a wrong total": (
        lambda s3: s3.change_manifest(lambda m: m["meta"].update(record_count=ROWS - 1)),
        MismatchError,
        f"the statement counts {ROWS} rows, the manifest {ROWS - 1}",
    ),
    "a wrong count and total": (
        lambda s3: s3.change_manifest(count_one_more),
        MismatchError,
        f"counts {ROWS} rows, the manifest",
    ),
    "wrong shares": (lambda s3: s3.change_manifest(count_elsewhere), MismatchError, "holds .* rows and the manifest says"),
    "half a manifest": (lambda s3: s3.halve_manifest(), MismatchError, "is cut off or is none"),
    "a manifest of another kind": (
        lambda s3: s3.change_manifest(lambda m: m.pop("meta")),
        MismatchError,
        "is cut off or is none",
    ),
    "S3 fails": (lambda s3: s3.refuse("put_object", 503, "SlowDown"), WarehouseUnavailable, "S3 answered Redshift 503 SlowDown"),
    "credentials that expired": (
        lambda s3: s3.refuse("put_object", 400, "ExpiredToken"),
        WarehouseUnavailable,
        "S3 answered Redshift 400 ExpiredToken",
    ),
    "no permission": (
        lambda s3: s3.refuse("list_objects_v2", 403, "AccessDenied"),
        WarehouseRefused,
        "S3 answered Redshift 403 AccessDenied",
    ),
    "serialization conflict": (lambda s3: s3.conflict(), WarehouseUnavailable, "serialization conflict"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_goes_wrong_on_s3_is_told_and_nothing_is_kept(
    session: Session, feed: Feed, store: LocalStore, s3: ScriptedS3, exchange: Exchange, fault: str
):
    """WH1: each ends in an error that names the next step; the next reading, after it, is whole."""
    plant, kind, words = FAULTS[fault]
    plant(s3)
    with pytest.raises(kind, match=words) as caught:
        stage(session, feed, store)
    assert caught.value.next_step
    assert load_manifest(store, feed.name, DAY) is None
    assert store.list("staged/") == []
    assert exchange.store.list("") == []
    assert keys_of(store, stage(session, feed, store)[DAY]) == {str(n) for n in range(1, ROWS + 1)}


def test_our_own_reading_that_fails_is_told(session: Session, feed: Feed, store: LocalStore, monkeypatch: pytest.MonkeyPatch):
    """Credentials of this process that expired: refused with what to renew, although Redshift wrote everything."""
    exchange = session.exchange
    assert exchange
    fetch = type(exchange.store).fetch

    def expired(self: Any, key: str, directory: Path) -> Path:
        if "_part_" in key:
            raise StoreRefused("S3 answered 400 ExpiredToken", next_step="renew the AWS credentials and start again")
        return fetch(self, key, directory)

    with monkeypatch.context() as patch:
        patch.setattr(type(exchange.store), "fetch", expired)
        with pytest.raises(StoreRefused, match="ExpiredToken"):
            stage(session, feed, store)
    assert exchange.store.list("") == []
    assert stage(session, feed, store)[DAY].rows == ROWS


def test_files_of_an_attempt_that_died_are_never_taken(session: Session, feed: Feed, store: LocalStore, exchange: Exchange):
    """What lies there from before is another attempt's: it is not read, and goes by its age."""
    left = f"reads/{feed.name}/{DAY}/dead/0000_part_00.parquet"
    exchange.store.put(left, b"half a file")
    assert stage(session, feed, store)[DAY].rows == ROWS
    assert exchange.store.list("") == [left]
    assert remove_leftovers(exchange, NOW.replace(year=2030)).objects == 1
    assert exchange.store.list("") == []


@pytest.mark.parametrize("seed", range(20))
def test_a_reading_that_is_cut_anywhere_is_an_error_and_never_fewer_rows(
    settings: Settings, opened: Callable[..., Warehouse], feed: Feed, store: LocalStore, seed: int
):
    """WH1: the connection is cut after any number of the server's bytes: the day is whole, or there is none."""
    with closing(Relay(settings.redshift.port)) as relay, opened(port=relay.port).session() as session:
        relay.limit = random.Random(seed).randrange(2_000)  # noqa: S311 - a point to cut at
        try:
            manifest = stage(session, feed, store)[DAY]
        except WarehouseUnavailable:
            assert load_manifest(store, feed.name, DAY) is None
            with pytest.raises(WarehouseUnavailable, match="thrown away"):
                session.fetch("SELECT 1")
        else:
            assert keys_of(store, manifest) == {str(n) for n in range(1, ROWS + 1)}


def test_cuts_do_hit_the_reading(settings: Settings, opened: Callable[..., Warehouse], feed: Feed, store: LocalStore):
    """The range of the cuts above is not longer than what the server says in a reading."""
    with closing(Relay(settings.redshift.port)) as relay, opened(port=relay.port).session() as session:
        relay.limit = 2_000
        stage(session, feed, store)
        assert relay.limit < 2_000 - 500


def test_a_view_that_may_not_be_read_names_the_grant(
    settings: Settings, opened: Callable[..., Warehouse], feed: Feed, store: LocalStore
):
    """Permission denied on one view: the error says which and what to grant; other views go on."""
    run_sql(settings, "DROP ROLE IF EXISTS unload_reader", "CREATE USER unload_reader PASSWORD 'x'")
    with opened(user="unload_reader").session() as session, pytest.raises(WarehouseRefused, match="permission denied") as caught:
        stage(session, feed, store)
    assert "unload_reader" in caught.value.next_step


def test_a_statement_that_takes_too_long_is_ended(settings: Settings, opened: Callable[..., Warehouse], store: LocalStore):
    """WH2: the statement timeout holds for UNLOAD, too."""
    shelf = Shelf(settings)
    slow = generated(shelf, 5)
    slow = slow.model_copy(update={"sql": slow.sql.replace("repeat('x', 100)", "(repeat('x', 100) || pg_sleep(0.5)::VARCHAR)")})
    with opened().session() as session:
        create_view(session, slow)
        session.run("SET statement_timeout TO 1000")
        session.commit()
        with pytest.raises(WarehouseUnavailable, match="timeout"):
            stage(session, slow, store)
    assert store.list("staged/") == []


def test_the_statement_says_what_is_documented():
    """Quotes doubled, the role quoted unless it is `default`, a KMS key with ENCRYPTED, files of a bounded size."""
    exchange = Exchange("s3://bucket/prefix", "default", None, 64, LocalStore(Path("none")))
    said = unload_statement("SELECT 'it''s' AS \"a\"", exchange, "reads/x/")
    assert said == (
        "UNLOAD ('SELECT ''it''''s'' AS \"a\"') TO 's3://bucket/prefix/reads/x/' IAM_ROLE default "
        "FORMAT AS PARQUET MANIFEST VERBOSE MAXFILESIZE 64 MB"
    )
    keyed = Exchange("s3://b", "arn:aws:iam::123456789012:role/r", "key-1", 32, LocalStore(Path("none")))
    assert unload_statement("SELECT 1", keyed, "p/").endswith(
        "IAM_ROLE 'arn:aws:iam::123456789012:role/r' FORMAT AS PARQUET MANIFEST VERBOSE MAXFILESIZE 32 MB "
        "KMS_KEY_ID 'key-1' ENCRYPTED"
    )


def test_the_settings_say_what_is_missing_for_unload():
    """REDSHIFT_READ=unload without a role or a place is refused at start; a store on S3 is a place."""
    given = {"RS_CIO_STORE": "s3://bucket/x/", "REDSHIFT_ROLE": "arn:aws:iam::123456789012:role/r"}
    assert load_settings(given).redshift.unload_to == "s3://bucket/x/unload"
    with pytest.raises(RsCioError, match="REDSHIFT_ROLE"):
        load_settings({"REDSHIFT_READ": "unload"})
    with pytest.raises(RsCioError, match="REDSHIFT_ROLE"):
        load_settings({"REDSHIFT_ROLE": "arn'; DROP TABLE x"})


def test_the_manifest_of_awss_own_example_is_read(exchange: Exchange):
    """Entries and totals are found where AWS's page on UNLOAD has them.

    Source: Redshift developer guide, "Unload tables: examples", the manifest with VERBOSE, read 2026-11-26; its lengths of types
    are not JSON and left out here.
    """
    place = "reads/golden/"
    entries = [("0000_part_00", 32295, 10), ("0001_part_00", 32771, 20), ("0002_part_00", 32302, 10), ("0003_part_00", 31810, 15)]
    for name, size, _ in entries:
        exchange.store.put(f"{place}{name}", b"x" * size)
    manifest = {
        "entries": [
            {"url": f"{exchange.url}/{place}{name}", "meta": {"content_length": size, "record_count": rows}}
            for name, size, rows in entries
        ],
        "schema": {"elements": [{"name": "venueid", "type": {"base": "integer"}}]},
        "meta": {"content_length": 129178, "record_count": 55},
        "author": {"name": "Amazon Redshift", "version": "1.0.0"},
    }
    exchange.store.put(f"{place}manifest", json.dumps(manifest).encode())
    assert [(file.rows, file.size_bytes) for file in read_manifest(exchange, place, 55)] == [
        (10, 32295),
        (20, 32771),
        (10, 32302),
        (15, 31810),
    ]
    exchange.store.delete(exchange.store.list(place))


_CHILD = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from rs_cio_assets.contract import Feed
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.warehouse import stage_days

with resources_for(load_settings())["warehouse"].session() as session:
    feed = Feed.model_validate_json(sys.argv[1])
    manifest = stage_days(session, feed, [sys.argv[2]], LocalStore(Path(sys.argv[3])), now=lambda: datetime.now(UTC))[sys.argv[2]]
print(manifest.read_by, manifest.rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of peak memory is Linux's")
def test_memory_does_not_grow_with_the_rows(settings_with_s3: Settings, session: Session, settings: Settings, tmp_path: Path):
    """Ten times the rows take hardly more memory in the process that reads them."""
    redshift, s3 = settings_with_s3.redshift, settings_with_s3.s3
    environ = environment(
        {
            "REDSHIFT_PORT": str(redshift.port),
            "REDSHIFT_UNLOAD_TO": str(redshift.unload_to),
            "REDSHIFT_UNLOAD_FILE_MB": "32",
            "RS_CIO_S3_ENDPOINT_URL": str(s3.endpoint_url),
        }
    )
    peaks = []
    for rows in (20_000, 200_000):
        feed = generated(Shelf(settings), rows)
        create_view(session, feed)
        command = [sys.executable, "-c", _CHILD, feed.model_dump_json(), DAY, str(tmp_path / str(rows))]
        said = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.split()
        assert said[:2] == ["unload", str(rows)]
        peaks.append(int(said[2]) / 1024)
    assert peaks[1] - peaks[0] < 60, f"MiB at 20,000 and 200,000 rows: {peaks}"
