"""The delivery log in the Redshift stand-in: tables, views, and rows that are replaced whole or not at all."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.errors import MismatchError, WarehouseConflict, WarehouseForbidden, WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.settings import SANDBOX_ROLE, Settings
from rs_cio_assets.warehouse import Session, Warehouse
from rs_cio_assets.warehouse.differences import write_differences
from rs_cio_assets.warehouse.log import ATTEMPTS, BOUND_VALUES, write_day, write_deliveries
from rs_cio_assets.warehouse.log_schema import DELIVERIES, REJECTIONS, TABLES, VIEWS, LogTable, create_log
from rs_cio_assets_tests.pipeline import query, run_sql
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

DAY, NEXT_DAY = "2026-11-20", "2026-11-21"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
ARROW = {"INTEGER": pa.int32(), "BOOLEAN": pa.bool_()}


def text(moment: datetime) -> str:
    """As the log's files have times."""
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}"


def delivery(number: int, **changes: Any) -> dict[str, Any]:
    """A row of deliveries: loaded an hour after it happened, and delivered *number* minutes later."""
    loaded = NOON + timedelta(hours=1)
    usual = {
        "feed": "orders",
        "day": DAY,
        "row_key": f"{number:032d}",
        "identifier": f"C{number % 3}",
        "business_key": f"O{number}",
        "outcome": "delivered",
        "rows_in_view": 1,
        "duplicates": 0,
        "rejected": 0,
        "occurred_at": text(NOON),
        "loaded_at": text(loaded),
        "delivered_at": text(loaded + timedelta(minutes=number)),
        "content_hash": "c" * 32,
        "run_id": "11111111",
        "logged_at": text(NOON + timedelta(days=1)),
    }
    return {**dict.fromkeys(DELIVERIES.columns), **usual, **changes}


def rejection(number: int, **changes: Any) -> dict[str, Any]:
    """A row of rejections."""
    usual = {name: value for name, value in delivery(number).items() if name in REJECTIONS.columns}
    seen = {"first_seen": text(NOON), "last_seen": text(NOON), "attempts": 2}
    why = {"reason": "below_minimum", "column_name": "total", "message": "it's 100% wrong", "contract": "1"}
    return {**usual, **why, **seen, **changes}


class Log:
    """The tables in the stand-in, and files for them."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self._folder = settings, folder

    def file(self, table: LogTable, rows: Sequence[dict[str, Any]]) -> Path:
        """A Parquet file as the engine leaves it."""
        schema = pa.schema([(name, ARROW.get(kind, pa.string())) for name, (kind, _) in table.columns.items()])
        path = self._folder / f"{table.name}-{len(list(self._folder.iterdir()))}.parquet"
        pq.write_table(pa.Table.from_pylist(list(rows), schema), path)
        return path

    def write(
        self, deliveries: Sequence[dict[str, Any]], rejections: Sequence[dict[str, Any]] = (), *, day: str = DAY, **more: Any
    ) -> Any:
        """write_day of the feed orders over a connection of its own."""
        with self.session() as session:
            files = self.file(DELIVERIES, deliveries), self.file(REJECTIONS, rejections)
            return write_day(session, "orders", day, *files, **more)

    def session(self) -> Any:
        """A connection as the assets have it."""
        return Warehouse(self.settings.redshift).session()

    def keys(self, table: LogTable = DELIVERIES) -> list[tuple[Any, ...]]:
        """Days and keys in the table."""
        return query(self.settings, f"SELECT day::VARCHAR, business_key FROM {table.full_name} ORDER BY 1, 2")


@pytest.fixture
def log(settings: Settings, tmp_path: Path) -> Iterator[Log]:
    """Empty tables and the views."""
    run_sql(settings, "DROP SCHEMA IF EXISTS cio_sync CASCADE")
    made = Log(settings, tmp_path)
    with made.session() as session:
        create_log(session)
    yield made
    run_sql(settings, "DROP SCHEMA IF EXISTS cio_sync CASCADE")


@pytest.fixture
def reader(log: Log) -> Iterator[Log]:
    """The log as a user sees it who may only use the schema; the name is the role's."""
    run_sql(log.settings, "CREATE ROLE log_reader LOGIN", "GRANT USAGE ON SCHEMA cio_sync TO log_reader")
    other = log.settings.redshift.model_copy(update={"user": "log_reader", "password": SecretStr("sandbox")})
    yield Log(log.settings.model_copy(update={"redshift": other}), log._folder)
    run_sql(log.settings, "DROP OWNED BY log_reader", "DROP ROLE log_reader")


def test_a_day_is_replaced_whole_and_no_other(log: Log):
    """Written twice it is there once; rows that are gone are gone; other days and feeds stay."""
    log.write([delivery(1), delivery(2)], [rejection(9)])
    log.write([delivery(7, day=NEXT_DAY)], [rejection(8, day=NEXT_DAY)], day=NEXT_DAY)
    with log.session() as session:
        other = [delivery(1, feed="others")]
        write_day(session, "others", DAY, log.file(DELIVERIES, other), log.file(REJECTIONS, []))
    for _ in range(2):
        written = log.write([delivery(2), delivery(3)], [rejection(4)])
        assert (written.rows, written.way, written.attempts) == (3, "INSERT", 1)
    assert log.keys() == [(DAY, "O1"), (DAY, "O2"), (DAY, "O3"), (NEXT_DAY, "O7")]
    assert log.keys(REJECTIONS) == [(DAY, "O4"), (NEXT_DAY, "O8")]


def test_every_value_arrives_as_it_is(log: Log):
    """Times to the microsecond, nulls, and texts with quotes, percent signs and letters of four bytes."""
    odd = 'it\'s 100%% \\ "odd" \U0001f600'
    late = datetime(2026, 11, 20, 23, 59, 59, 999_999, tzinfo=UTC)
    rows = [
        delivery(1, identifier=odd, delivered_at=text(late)),
        delivery(2, identifier=None, loaded_at=None, held_until=text(late)),
    ]
    log.write(rows, [rejection(1, column_name=None)])
    found = query(log.settings, f"SELECT {', '.join(DELIVERIES.columns)} FROM cio_sync.deliveries ORDER BY row_key")
    for sent, back in zip(rows, found, strict=True):
        said = {
            name: text(value) if isinstance(value, datetime) else str(value) if name == "day" else value
            for name, value in zip(DELIVERIES.columns, back, strict=True)
        }
        assert said == sent
    assert query(log.settings, "SELECT message, column_name FROM cio_sync.rejections") == [("it's 100% wrong", None)]


def test_many_rows_go_in_few_statements(log: Log, monkeypatch: pytest.MonkeyPatch):
    """As many rows a statement as bound values allow, never one by one; all arrive."""
    statements: list[int] = []
    run = Session.run

    def counting(self: Session, sql: str, values: Sequence[Any] = ()) -> None:
        statements.append(len(values)) if sql.startswith("INSERT INTO cio_sync_deliveries_") else None
        run(self, sql, values)

    monkeypatch.setattr(Session, "run", counting)
    log.write([delivery(n) for n in range(5_000)])
    assert len(statements) == 3
    assert max(statements) <= BOUND_VALUES
    assert len(log.keys()) == 5_000


def test_who_left_the_view_keeps_the_name_that_the_log_has(log: Log):
    """The engine does not know whose a row is that no view holds any more: the log does, and goes on to."""
    gone = {"rows_in_view": 0, "identifier": None, "business_key": None, "loaded_at": None}
    log.write([delivery(1), delivery(2, business_key="kept")])
    for _ in range(2):
        log.write([delivery(1), delivery(2, **gone), delivery(3, **gone)])
    found = query(log.settings, "SELECT identifier, business_key, loaded_at FROM cio_sync.deliveries ORDER BY row_key")
    assert found[1] == ("C2", "kept", (NOON + timedelta(hours=1)).replace(tzinfo=None))
    assert found[2] == (None, None, None)


def test_people_of_another_day_are_added_and_replace_only_themselves(log: Log):
    """Rows beside those of the day: the same keys are replaced, the others stay."""
    log.write([delivery(1), delivery(2)])
    for run_id in ("a", "b"):
        with log.session() as session:
            written = write_deliveries(session, log.file(DELIVERIES, [delivery(2, run_id=run_id), delivery(3, run_id=run_id)]))
            assert written.rows == 2
    found = query(log.settings, "SELECT business_key, run_id FROM cio_sync.deliveries ORDER BY 1")
    assert found == [("O1", "11111111"), ("O2", "b"), ("O3", "b")]


def in_the_way(log: Log, monkeypatch: pytest.MonkeyPatch, times: int) -> list[float]:
    """Before the log deletes, another session changes the same rows and commits: so often. The waits, which are not slept."""
    waits: list[float] = []
    left = times
    run = Session.run

    def run_after_another(self: Session, sql: str, values: Sequence[Any] = ()) -> None:
        nonlocal left
        if sql.startswith("DELETE FROM cio_sync.deliveries") and left:
            left -= 1  # the snapshot was taken by the UPDATE before
            run_sql(log.settings, "UPDATE cio_sync.deliveries SET run_id = 'another'")
        run(self, sql, values)

    monkeypatch.setattr(Session, "run", run_after_another)
    return waits


def test_a_serialization_conflict_is_tried_again(log: Log, monkeypatch: pytest.MonkeyPatch):
    """Two real sessions on the same rows: the server undoes ours (40001), which waits a little and comes through, once."""
    log.write([delivery(1)])
    waits = in_the_way(log, monkeypatch, 2)
    written = log.write([delivery(1), delivery(2)], sleep=waits.append)
    assert (written.attempts, len(waits)) == (3, 2)
    assert len(set(waits)) == 2, "the waits have jitter"
    assert log.keys() == [(DAY, "O1"), (DAY, "O2")]


def test_conflicts_without_an_end_are_told(log: Log, monkeypatch: pytest.MonkeyPatch):
    """After a few attempts the step fails, to be retried by Dagster in minutes; the other session's state stands."""
    log.write([delivery(1)])
    waits = in_the_way(log, monkeypatch, 1_000)
    with pytest.raises(WarehouseConflict, match="serialization conflict"):
        log.write([delivery(2)], sleep=waits.append)
    assert len(waits) == ATTEMPTS - 1
    assert query(log.settings, "SELECT business_key, run_id FROM cio_sync.deliveries") == [("O1", "another")]


@pytest.mark.parametrize("statement", ["INSERT INTO cio_sync.deliveries", "INSERT INTO cio_sync.rejections"])
def test_a_crash_in_the_middle_leaves_the_former_state(log: Log, statement: str, monkeypatch: pytest.MonkeyPatch):
    """The process ends between delete and insert, or between the tables: readers see the day as it was."""
    log.write([delivery(1)], [rejection(1)])
    run = Session.run

    def run_until(self: Session, sql: str, values: Sequence[Any] = ()) -> None:
        if sql.startswith(statement):
            raise KeyboardInterrupt
        run(self, sql, values)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "run", run_until)
        with pytest.raises(KeyboardInterrupt):
            log.write([delivery(2)], [rejection(2)])
    assert (log.keys(), log.keys(REJECTIONS)) == ([(DAY, "O1")], [(DAY, "O1")])
    log.write([delivery(2)], [rejection(2)])
    assert (log.keys(), log.keys(REJECTIONS)) == ([(DAY, "O2")], [(DAY, "O2")])


def test_rows_that_do_not_all_arrive_change_nothing(log: Log, monkeypatch: pytest.MonkeyPatch):
    """What the TEMP table took is counted before a row of the log is touched."""
    log.write([delivery(1)])
    monkeypatch.setattr("rs_cio_assets.warehouse.log._chunks", lambda _path, _rows: iter([]))
    with pytest.raises(MismatchError, match=r"took 0 of 1 rows for cio_sync\.deliveries"):
        log.write([delivery(2)])
    assert log.keys() == [(DAY, "O1")]


def test_a_missing_grant_is_named(log: Log, reader: Log):
    """Who may not write is told exactly what to grant, and that the log can be turned off; with those grants it works."""
    with pytest.raises(WarehouseForbidden, match="permission denied for table deliveries") as error:
        reader.write([delivery(1)])
    assert "SELECT, INSERT, DELETE ON cio_sync.deliveries, cio_sync.rejections, to log_reader" in error.value.next_step
    assert "REDSHIFT_DELIVERY_LOG=false" in error.value.next_step
    run_sql(log.settings, "GRANT SELECT, INSERT, DELETE ON cio_sync.deliveries, cio_sync.rejections TO log_reader")
    assert reader.write([delivery(1)]).rows == 1
    assert reader.write([delivery(2)]).rows == 1
    assert log.keys() == [(DAY, "O2")]


def test_missing_tables_are_named(log: Log):
    """Before the first row is moved."""
    run_sql(log.settings, "DROP SCHEMA cio_sync CASCADE")
    with pytest.raises(WarehouseRefused, match=r"no cio_sync\.deliveries and no cio_sync\.rejections") as error:
        log.write([delivery(1)])
    assert "redshift/log" in error.value.next_step


def test_what_is_there_is_left_alone(log: Log, reader: Log):
    """Creating again makes nothing, also by a user without CREATE; where something is missing, that user is sent to a DBA."""
    run_sql(log.settings, "GRANT SELECT ON ALL TABLES IN SCHEMA cio_sync TO log_reader")
    for one in (log, reader):
        with one.session() as session:
            assert create_log(session).names == ()
    run_sql(log.settings, "DROP VIEW cio_sync.held_now")
    with reader.session() as session, pytest.raises(WarehouseRefused, match="permission denied") as error:
        create_log(session)
    assert "rs-cio schema" in error.value.next_step
    with log.session() as session:
        assert create_log(session).names == ("held_now",)


def test_an_upgrade_adds_the_columns_that_a_table_lacks(log: Log):
    """A table of an earlier version gets the new columns and keeps its rows; one of a later version is written all the same."""
    log.write([delivery(1)])
    run_sql(
        log.settings,
        "DROP VIEW cio_sync.held_now",
        "CREATE VIEW cio_sync.held_now AS SELECT feed FROM cio_sync.rejections",
        "ALTER TABLE cio_sync.deliveries DROP COLUMN content_hash",
        "ALTER TABLE cio_sync.deliveries ADD COLUMN of_a_later_version INTEGER",
    )
    with log.session() as session:
        assert create_log(session).names == ("deliveries.content_hash", "held_now")
    log.write([delivery(2)], day=NEXT_DAY)
    assert query(log.settings, "SELECT business_key, content_hash FROM cio_sync.deliveries ORDER BY 1") == [
        ("O1", None),
        ("O2", "c" * 32),
    ]


def test_a_dba_s_script_makes_what_the_asset_makes(log: Log):
    """`rs-cio schema` prints it; it can be run twice, and afterwards nothing is missing."""
    printed = CliRunner().invoke(rs_cio, ["schema"]).output
    statements = [statement for statement in printed.split(";\n\n") if statement.strip()]
    run_sql(log.settings, "DROP SCHEMA cio_sync CASCADE")
    for _ in range(2):
        run_sql(log.settings, *statements)
    with log.session() as session:
        assert create_log(session).names == ()
    for table in TABLES:
        assert f"DISTKEY ({table.dist}) SORTKEY ({', '.join(table.sort)})" in printed
        about = query(log.settings, f"SELECT obj_description('{table.full_name}'::regclass)")
        assert about == [(table.about,)]


def test_the_views_say_what_the_rows_say(log: Log):
    """Last delivery of each person, rejections by reason, latency by hour, what is held: against the same numbers in Python."""
    held = {"outcome": "held", "delivered_at": None, "held_until": text(NOON + timedelta(hours=72))}
    rows = [
        *(delivery(n) for n in range(90)),
        delivery(90, **held),
        delivery(91, outcome="rejected", rejected=1, delivered_at=None),
    ]
    log.write(rows, [rejection(91), rejection(92, reason="time_in_future"), rejection(93, reason="time_in_future")])
    delivered = [row for row in rows if row["delivered_at"]]
    last = {row["identifier"]: row for row in sorted(delivered, key=lambda row: row["delivered_at"])}
    found = query(log.settings, "SELECT identifier, feed, business_key FROM cio_sync.last_deliveries ORDER BY 1")
    assert found == [(who, "orders", last[who]["business_key"]) for who in sorted(last)]

    reasons = Counter({"below_minimum": 1, "time_in_future": 2})
    found = query(
        log.settings, "SELECT reason, rows_rejected, rows_in_view, rejected_percent FROM cio_sync.rejection_rates ORDER BY 1"
    )
    assert [(reason, count, view_rows, float(share)) for reason, count, view_rows, share in found] == [
        (reason, count, len(rows), round(100 * count / len(rows), 3)) for reason, count in sorted(reasons.items())
    ]

    found = query(log.settings, "SELECT * FROM cio_sync.latency_by_hour ORDER BY delivered_hour")
    hours = [[60.0 * n for n in range(60)], [60.0 * n for n in range(60, 90)]]
    for (feed, hour, count, median, p95, most, event_most), waited, start in zip(found, hours, (13, 14), strict=True):
        assert (feed, hour.hour, count) == ("orders", start, len(waited))
        assert median == pytest.approx(statistics.median(waited))
        assert p95 == pytest.approx(statistics.quantiles(waited, n=20, method="inclusive")[-1])
        assert (most, event_most) == (max(waited), max(waited) + 3_600)

    found = query(log.settings, "SELECT business_key, held_until::VARCHAR FROM cio_sync.held_now")
    assert found == [("O90", "2026-11-23 12:00:00")]
    assert set(VIEWS) == {"last_deliveries", "rejection_rates", "latency_by_hour", "held_now"}


def test_the_analyst_s_examples_work(log: Log):
    """Each example query of the page's section runs as it stands, and finds what it says it finds."""
    section = (Path(__file__).parents[2] / "docs" / "analyst.md").read_text().partition("## The delivery log")[2]
    unsent, by_mistake, slow = re.findall(r"```sql\n(.*?);\n```", section, re.DOTALL)
    today = datetime.now(UTC).date().isoformat()
    own = {"feed": "order_completed", "day": today}
    refused = delivery(1, **own, outcome="rejected", rejected=1, delivered_at=None)
    late = delivery(2, **own, identifier="C9", delivered_at=text(NOON + timedelta(hours=9)))
    with log.session() as session:
        files = log.file(DELIVERIES, [refused, late]), log.file(REJECTIONS, [rejection(1, **own)])
        write_day(session, "order_completed", today, *files)
        write_differences(session, "loyal", NOON, [("C9", "extra", False), ("C8", "missing", False)])
    assert [row[:3] for row in query(log.settings, unsent)] == [("O1", "rejected", "below_minimum")]
    assert [row[:4] for row in query(log.settings, by_mistake)] == [("loyal", "C9", "extra", "order_completed")]
    found = {row[3]: float(row[2]) for row in query(log.settings, slow)}
    assert found == {None: 8 * 3_600.0, "below_minimum": 50.0}


REFUSALS: dict[str, tuple[Callable[[ScriptedS3], None], type[Exception], str]] = {
    "S3 refuses": (lambda s3: s3.refuse("get_object", 403, "AccessDenied"), WarehouseRefused, "AccessDenied"),
    "S3 is busy": (lambda s3: s3.refuse("get_object", 503, "SlowDown"), WarehouseUnavailable, "SlowDown"),
    "conflict": (lambda s3: s3.conflict(), WarehouseUnavailable, "1023"),
}


@pytest.fixture
def copying(log: Log, s3: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session that has a place on S3 of its own, and two rows are more than one INSERT takes."""
    monkeypatch.setattr("rs_cio_assets.warehouse.log.BOUND_VALUES", len(DELIVERIES.columns))
    place = {"read": "auto", "role": SANDBOX_ROLE, "unload_to": f"s3://rs-cio-sandbox/unload/{uuid4().hex}"}
    with Warehouse(log.settings.redshift.model_copy(update=place), s3_client=lambda: s3.client).session() as session:
        yield session


def test_copy_writes_what_insert_writes_and_leaves_nothing_on_s3(log: Log, copying: Session):
    """The same rows by either way, with nulls and times; the file is gone afterwards."""
    files = log.file(DELIVERIES, [delivery(1), delivery(2)]), log.file(REJECTIONS, [])
    whole = f"SELECT * FROM {DELIVERIES.full_name} ORDER BY row_key"
    with Warehouse(log.settings.redshift).session() as session:
        assert write_day(session, "orders", DAY, *files).way == "INSERT"
    inserted = query(log.settings, whole)
    assert write_day(copying, "orders", DAY, *files).way == "COPY"
    assert query(log.settings, whole) == inserted
    assert len(inserted) == 2
    assert copying.exchange
    assert copying.exchange.store.list("") == []


def test_what_one_insert_takes_goes_without_s3(log: Log, s3: ScriptedS3):
    """A day of few rows asks nothing of S3, which would refuse."""
    s3.refuse("get_object", 403, "AccessDenied")
    place = {"read": "auto", "role": SANDBOX_ROLE, "unload_to": "s3://rs-cio-sandbox/unload/none"}
    with Warehouse(log.settings.redshift.model_copy(update=place), s3_client=lambda: s3.client).session() as session:
        assert write_day(session, "orders", DAY, log.file(DELIVERIES, [delivery(1)]), log.file(REJECTIONS, [])).way == "INSERT"
    assert log.keys() == [(DAY, "O1")]


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_copy_that_fails_changes_nothing_and_leaves_nothing_on_s3(log: Log, copying: Session, s3: ScriptedS3, refusal: str):
    """The log stays as it was; the next try writes it."""
    plant, kind, words = REFUSALS[refusal]
    files = log.file(DELIVERIES, [delivery(1), delivery(2)]), log.file(REJECTIONS, [])
    plant(s3)
    with pytest.raises(kind, match=words) as caught:
        write_day(copying, "orders", DAY, *files)
    assert getattr(caught.value, "next_step", "")
    assert copying.exchange
    assert copying.exchange.store.list("") == []
    assert log.keys() == []
    assert write_day(copying, "orders", DAY, *files).rows == 2
    assert log.keys() == [(DAY, "O1"), (DAY, "O2")]
