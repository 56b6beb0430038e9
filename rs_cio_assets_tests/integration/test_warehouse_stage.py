"""Days of a view into staged Parquet: nothing changed on the way, fingerprints that tell, flat memory, atomic days."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import Feed
from rs_cio_assets.errors import MismatchError, StoreRefused, WarehouseRefused
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import SANDBOX_ROLE, Settings, load_settings
from rs_cio_assets.store import Fingerprint, LocalStore, Manifest, load_manifest
from rs_cio_assets.warehouse import Session, Warehouse, create_view, read_fingerprints, stage_days, staged_days
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.s3_stand_in import ScriptedS3
from rs_cio_assets_tests.staging import feed_of

DAY, NEXT = "2026-11-20", "2026-11-21"
NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
AT = datetime(2026, 11, 20, 12, 30, 15, 999_999, tzinfo=UTC)
COLUMNS: dict[str, dict[str, Any]] = {
    "order_id": {"type": "string", "required": True},
    "order": {"type": "string"},
    "pieces": {"type": "integer"},
    "total": {"type": "decimal", "precision": 14, "scale": 4},
    "ratio": {"type": "float"},
    "is_gift": {"type": "boolean"},
    "paid_at": {"type": "timestamp"},
    "due_on": {"type": "date"},
    "extra": {"type": "json"},
}
TYPES = "VARCHAR(64), VARCHAR(2000), BIGINT, NUMERIC(14,4), DOUBLE PRECISION, BOOLEAN, TIMESTAMP, DATE, SUPER"


@pytest.fixture
def settings(redshift: RedshiftStandIn) -> Settings:
    """Settings of the warehouse alone."""
    return load_settings({"REDSHIFT_PORT": str(redshift.port)})


@pytest.fixture
def warehouse(settings: Settings, request: pytest.FixtureRequest) -> Warehouse:
    """The warehouse, read by the driver, or by UNLOAD where the test says so."""
    if getattr(request, "param", "driver") == "driver":
        return Warehouse(settings.redshift)
    s3: ScriptedS3 = request.getfixturevalue("s3")
    place = {"read": "unload", "role": SANDBOX_ROLE, "unload_to": f"s3://rs-cio-sandbox/unload/{uuid4().hex}"}
    return Warehouse(settings.redshift.model_copy(update=place), s3_client=lambda: s3.client)


@pytest.fixture
def session(warehouse: Warehouse) -> Iterator[Session]:
    """An open session."""
    with warehouse.session() as session:
        yield session


either_way = pytest.mark.parametrize("warehouse", ["driver", "unload"], indirect=True)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty store."""
    return LocalStore(tmp_path / "store")


class Shelf:
    """A table with a column of every type and the feed over it, in a schema of its own."""

    def __init__(self, settings: Settings) -> None:
        self.schema, self._settings = f"stage_{uuid4().hex[:8]}", settings
        columns = ", ".join(f'"{n}" {t}' for n, t in zip(COLUMNS, re.split(r", (?=[A-Z])", TYPES), strict=True))
        times = "customer_id VARCHAR(64), occurred_at TIMESTAMP, loaded_at TIMESTAMP"
        run_sql(settings, f"CREATE SCHEMA {self.schema}", f"CREATE TABLE {self.schema}.t ({times}, {columns})")
        self.feed = feed_of("event", COLUMNS, view=f"{self.schema}.order", sql=f"SELECT * FROM {self.schema}.t")

    def add(self, **values: Any) -> None:
        """One row; times and key have defaults, other columns are null."""
        row = {"customer_id": "C0000001", "occurred_at": AT, "loaded_at": AT, "order_id": "O1"} | values
        names = ", ".join(f'"{name}"' for name in row)
        marks = ", ".join("JSON_PARSE(%s)" if name == "extra" else "%s" for name in row)
        run_sql(self._settings, (f"INSERT INTO {self.schema}.t ({names}) VALUES ({marks})", [*map(_naive, row.values())]))

    def empty(self) -> None:
        """No rows."""
        run_sql(self._settings, f"TRUNCATE {self.schema}.t")

    def change(self, setting: str) -> None:
        """UPDATE every row."""
        run_sql(self._settings, f"UPDATE {self.schema}.t SET {setting}")


def _naive(value: Any) -> Any:
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


@pytest.fixture
def shelf(settings: Settings) -> Shelf:
    """An empty table of every type."""
    return Shelf(settings)


def read(store: LocalStore, manifest: Manifest) -> list[dict[str, Any]]:
    """Every staged row of a day."""
    return [row for file in manifest.files for row in pq.read_table(store.fetch(file.key, Path())).to_pylist()]


def staged(session: Session, feed: Feed, store: LocalStore, *days: str) -> dict[str, Manifest]:
    """Create the view and stage *days*."""
    create_view(session, feed)
    return stage_days(session, feed, days, store, now=lambda: NOW)


VALUES: dict[str, list[Any]] = {
    "order": ["", "plain", "Ünïcödé 🌊 日本語", "two\nlines\t\"quoted\" 'single' \\ back", "x" * 2000, None],
    "pieces": [0, -1, 2**63 - 1, -(2**63), None],
    "total": [Decimal("0.0001"), Decimal("-9999999999.9999"), Decimal("410.9000"), None],
    "ratio": [0.1, -1e300, 5e-324, None],
    "is_gift": [True, False, None],
    "paid_at": [AT, datetime(1969, 12, 31, 23, 59, 59, 1, tzinfo=UTC), datetime(2099, 1, 1, tzinfo=UTC), None],
    "due_on": [date(2024, 2, 29), date(1900, 1, 1), None],
}


@either_way
def test_every_type_comes_through_unchanged(session: Session, shelf: Shelf, store: LocalStore):
    """What stands in the view stands in the file: cents, microseconds, Unicode, extremes, null beside the empty text."""
    expected = {}
    for number, (name, value) in enumerate((name, value) for name, values in VALUES.items() for value in values):
        expected[f"O{number}"] = (name, value)
        shelf.add(order_id=f"O{number}", **{name: value})
    manifest = staged(session, shelf.feed, store, DAY)[DAY]
    rows = {row["order_id"]: row for row in read(store, manifest)}
    assert len(rows) == manifest.rows == manifest.fingerprint.rows == len(expected)
    assert {key: rows[key][name] for key, (name, _) in expected.items()} == {key: value for key, (_, value) in expected.items()}
    assert all(row["occurred_at"] == AT for row in rows.values())


@either_way
def test_nested_values_come_through_as_json(session: Session, shelf: Shelf, store: LocalStore):
    """SUPER arrives as JSON text with the same content."""
    shelf.add(extra='{"a": [1, 2.50, null, {"ü": "\\u00fc"}], "b": true}')
    (row,) = read(store, staged(session, shelf.feed, store, DAY)[DAY])
    assert re.sub(r"\s", "", row["extra"]) == '{"a":[1,2.50,null,{"ü":"ü"}],"b":true}'


CHANGES = [
    "customer_id = 'C0000002'",
    "occurred_at = occurred_at + INTERVAL '1 microsecond'",
    "loaded_at = loaded_at + INTERVAL '1 second'",
    "order_id = 'O2'",
    "\"order\" = ''",
    "pieces = 0",
    "total = 0.0001",
    "ratio = 0.5",
    "is_gift = FALSE",
    "paid_at = '2020-01-01'",
    "due_on = '2020-01-01'",
    "extra = JSON_PARSE('{}')",
    "extra = JSON_PARSE('null')",
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_any_column_changes_the_fingerprint(session: Session, shelf: Shelf, change: str):
    """One value of one row, or null that becomes empty: the day's fingerprint differs. A repeated look does not."""
    shelf.add()
    create_view(session, shelf.feed)

    def look() -> Fingerprint:
        fingerprint = read_fingerprints(session, shelf.feed, [DAY])[DAY]
        session.commit()
        return fingerprint

    before = look()
    assert look() == before
    shelf.change(change)
    assert look() != before


def test_the_order_of_rows_does_not_matter_and_their_number_does(session: Session, shelf: Shelf):
    """The same rows in another order are the same; a row twice is not the row once."""
    create_view(session, shelf.feed)
    found = {}
    for order in ("O1 O2", "O2 O1", "O2 O1 O1"):
        shelf.empty()
        for key in order.split():
            shelf.add(order_id=key)
        found[order] = read_fingerprints(session, shelf.feed, [DAY])[DAY]
        session.commit()  # or emptying the table would wait for this transaction
    assert found["O1 O2"] == found["O2 O1"]
    assert found["O2 O1 O1"].rows == 3
    assert found["O2 O1 O1"].checksum != found["O1 O2"].checksum
    assert read_fingerprints(session, shelf.feed, [NEXT])[NEXT] == Fingerprint(0, None, "0")
    session.commit()


@either_way
def test_a_range_of_days_is_the_same_as_its_days_one_by_one(session: Session, shelf: Shelf, store: LocalStore, tmp_path: Path):
    """One read of three days leaves each day as its own read would, the empty one included."""
    days = ["2026-11-19", DAY, NEXT]
    for number in range(40):
        shelf.add(order_id=f"O{number:02}", occurred_at=AT + timedelta(days=number % 2))
    shelf.add(order_id="midnight", occurred_at=datetime(2026, 11, 21, tzinfo=UTC))
    together = staged(session, shelf.feed, store, *days)
    alone_store = LocalStore(tmp_path / "alone")
    for day in days:
        alone = stage_days(session, shelf.feed, [day], alone_store, now=lambda: NOW)[day]
        assert (alone.rows, alone.fingerprint) == (together[day].rows, together[day].fingerprint)
        key = "order_id"
        assert sorted(r[key] for r in read(alone_store, alone)) == sorted(r[key] for r in read(store, together[day]))
    assert [together[day].rows for day in days] == [0, 20, 21]
    assert together[days[0]].files == ()


@either_way
def test_many_rows_are_several_files_that_add_up(
    session: Session, shelf: Shelf, store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    """Files are bounded; the manifest counts each, and together they are the day."""
    monkeypatch.setattr(staged_days, "ROWS_PER_FILE", 1_000)
    monkeypatch.setattr(staged_days, "ROWS_PER_GROUP", 300)
    feed = generated(shelf, 3_500)
    manifest = staged(session, feed, store, DAY)[DAY]
    assert len(manifest.files) >= 2
    assert sum(file.rows for file in manifest.files) == manifest.rows == 3_500
    assert len({row["order_id"] for row in read(store, manifest)}) == 3_500


def generated(shelf: Shelf, rows: int) -> Feed:
    """A feed of *rows* rows that the warehouse makes up."""
    return feed_of(
        "event",
        {"order_id": {"type": "string", "required": True}, "note": {"type": "string"}},
        view=f"{shelf.schema}.generated_{rows}",
        sql=f"SELECT 'C0000001'::VARCHAR AS customer_id, '{DAY} 10:00'::TIMESTAMP AS occurred_at, '{DAY} 11:00'::TIMESTAMP "
        f"AS loaded_at, n::VARCHAR AS order_id, repeat('x', 100)::VARCHAR AS note FROM generate_series(1, {rows}) AS s (n)",
    )


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of peak memory")
def test_memory_does_not_grow_with_the_rows(session: Session, shelf: Shelf, store: LocalStore):
    """Ten times the rows take hardly more memory: the driver alone would need a gigabyte for a million."""
    peaks = []
    for rows in (20_000, 200_000):
        feed = generated(shelf, rows)
        create_view(session, feed)
        Path("/proc/self/clear_refs").write_text("5")
        stage_days(session, feed, [DAY], store, now=lambda: NOW)
        peaks.append(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024)  # type: ignore[index]
    assert peaks[1] - peaks[0] < 40, f"MiB at 20,000 and 200,000 rows: {peaks}"


@either_way
def test_the_old_day_stays_until_the_new_one_stands(
    warehouse: Warehouse, session: Session, shelf: Shelf, store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    """A read that fails at its second file leaves the days as they were; the next good one removes all other files."""
    shelf.add(order_id="old")
    old = staged(session, shelf.feed, store, DAY)[DAY]
    shelf.add(order_id="new")
    shelf.add(order_id="next", occurred_at=AT + timedelta(days=1))
    put_file = LocalStore.put_file

    def full(self: LocalStore, key: str, path: Path) -> None:
        if f"/{NEXT}/" in key:
            raise StoreRefused("no space left")
        put_file(self, key, path)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "put_file", full)
        with pytest.raises(StoreRefused):
            stage_days(session, shelf.feed, [DAY, NEXT], store, now=lambda: NOW)
    assert load_manifest(store, shelf.feed.name, DAY) == old
    assert load_manifest(store, shelf.feed.name, NEXT) is None
    assert [row["order_id"] for row in read(store, old)] == ["old"]
    session.close()
    with warehouse.session() as fresh:
        new = stage_days(fresh, shelf.feed, [DAY], store, now=lambda: NOW)[DAY]
    assert {row["order_id"] for row in read(store, new)} == {"old", "new"}
    assert [k for k in store.list(f"staged/{shelf.feed.name}/{DAY}/") if k.endswith(".parquet")] == [f.key for f in new.files]


def test_rows_that_go_missing_on_the_way_fail_the_read(
    session: Session, shelf: Shelf, store: LocalStore, monkeypatch: pytest.MonkeyPatch
):
    """WH1: fewer rows read than counted in the same snapshot is an error, and nothing of it is kept."""
    for number in range(5):
        shelf.add(order_id=f"O{number}")
    create_view(session, shelf.feed)
    fetch: Callable[..., Any] = Session.fetch

    def lossy(self: Session, sql: str, values: Any = ()) -> Any:
        rows = fetch(self, sql, values)
        return rows[1:] if sql.startswith("FETCH") else rows

    monkeypatch.setattr(Session, "fetch", lossy)
    with pytest.raises(MismatchError, match="4 rows were read and 5 were counted"):
        stage_days(session, shelf.feed, [DAY], store, now=lambda: NOW)
    assert load_manifest(store, shelf.feed.name, DAY) is None
    assert store.list("staged/") == []


@either_way
def test_a_value_that_no_type_of_ours_holds_is_named_by_its_column(session: Session, shelf: Shelf, store: LocalStore):
    """A number with more digits than a staged decimal keeps: column, type and the cast to make; never the value."""
    columns = {"order_id": {"type": "string", "required": True}, "big": {"type": "decimal", "precision": 38, "scale": 0}}
    feed = feed_of(
        "event",
        columns,
        view=f"{shelf.schema}.big",
        sql=f"SELECT 'C0000001'::VARCHAR AS customer_id, '{DAY} 10:00'::TIMESTAMP AS occurred_at, '{DAY} 11:00'::TIMESTAMP AS "
        "loaded_at, 'O1'::VARCHAR AS order_id, 12345678901234567890123456789012345678::NUMERIC(38,0) AS big",
    )
    with pytest.raises(WarehouseRefused, match="column big") as caught:
        staged(session, feed, store, DAY)
    assert "12345678901234567890" not in str(caught.value)
    assert "ROUND(big, 2)" in caught.value.next_step
