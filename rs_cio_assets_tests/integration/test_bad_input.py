"""Bad input through the whole pipeline: a clear message that says where and what to do, the rest goes on, nothing is lost."""

from __future__ import annotations

import gc
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from uuid import uuid4

import pytest
from dagster import DagsterRunStatus, RunsFilter
from pydantic import SecretStr

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.automation import SYNC_DAY
from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.errors import ContractError
from rs_cio_assets.settings import Settings
from rs_cio_assets.sync import JobOutcome
from rs_cio_assets_tests.pipeline import delivered, free_port, open_pipeline, query, run_sql
from rs_cio_assets_tests.staging import contract_of, feed_of

DAY = "2026-11-20"


class Case:
    """Two feeds over tables of the test's own: orders, and people beside them that must go on whatever orders do."""

    def __init__(self, settings: Settings) -> None:
        self.schema = f"bad_{uuid4().hex[:8]}"
        self.settings = settings
        run_sql(
            settings,
            f"CREATE SCHEMA {self.schema}",
            f"CREATE TABLE {self.schema}.orders (customer_id VARCHAR(50), occurred_at TIMESTAMP, loaded_at TIMESTAMP, "
            "order_id VARCHAR(50), total NUMERIC(12,2), note VARCHAR(65535))",
            f"CREATE TABLE {self.schema}.folk (customer_id VARCHAR(50), updated_at TIMESTAMP, loaded_at TIMESTAMP, tier VARCHAR)",
            f"INSERT INTO {self.schema}.folk VALUES ('C0000001', '{DAY} 12:00', '{DAY} 13:00', 'gold')",
        )
        self.add(order_id="O1")

    def add(self, **values: str | None) -> None:
        """One more order; values given replace good ones."""
        row = {
            "customer_id": "C0000001",
            "occurred_at": f"{DAY} 12:00",
            "loaded_at": f"{DAY} 13:00",
            "total": "9.90",
            "note": "-",
        }
        row |= values  # type: ignore[arg-type]
        marks = ", ".join(["%s"] * len(row))
        run_sql(self.settings, (f"INSERT INTO {self.schema}.orders ({', '.join(row)}) VALUES ({marks})", list(row.values())))

    def contract(self, sql: str = "*") -> Contract:
        """The two feeds; *sql* is what the orders view selects."""
        orders = feed_of(
            "event",
            {
                "order_id": {"type": "string", "required": True},
                "total": {"type": "decimal", "precision": 12, "scale": 2},
                "note": {"type": "string"},
            },
            name="orders",
            view=f"{self.schema}.v_orders",
            sql=f"SELECT {sql} FROM {self.schema}.orders",
            max_rejected_share=0.5,
        )
        folk = feed_of(
            "people",
            {"tier": {"type": "string"}},
            name="folk",
            view=f"{self.schema}.v_folk",
            sql=f"SELECT * FROM {self.schema}.folk",
        )
        return contract_of(orders, folk)


@pytest.fixture
def case(settings: Settings) -> Iterator[Case]:
    """Fresh tables with one good order and one person."""
    case = Case(settings)
    yield case
    run_sql(settings, f"DROP SCHEMA {case.schema} CASCADE")


def one_failure(outcome: JobOutcome) -> str:
    """The only failure of a run, in words."""
    assert not outcome.is_success
    return "\n".join(outcome.failures)


def test_rows_that_cannot_be_sent_are_rejected_and_the_rest_of_the_day_goes_on(case: Case):
    """No identifier, no time, 40 KB: each is rejected with its reason, kept, and counted; the good rows are delivered."""
    case.add(order_id="O2", customer_id=None)
    case.add(order_id="O3", occurred_at=None)
    case.add(order_id="O4", note="n" * 40_000)
    case.add(order_id="O5")
    case.add(order_id="O6")
    with open_pipeline(case.settings, case.contract()) as pipeline:
        pipeline.create_views()
        outcome = pipeline.sync_one(DAY)
        assert outcome.is_success, outcome.failures
        orders = delivered(outcome)["orders"]
        assert (orders["rows"], orders["delivered"], orders["rejected"]) == (6, 3, 3)
        reasons = {record.data["reason"]: record.data["rows"] for record in orders["rejected by reason"].records}
        assert reasons == {"identifier_missing": 1, "time_missing": 1, "operation_too_large": 1}
        (check,) = [c for c in outcome.checks if c.name == "rejections_within_budget" and not c.is_passed]
        assert "3 of " in check.description
        assert "rows were rejected and not sent" in check.description
        assert "1 identifier_missing in customer_id, 1 operation_too_large, 1 time_missing in occurred_at" in check.description
        assert "`rs-cio rejections orders` names the rows" in check.description
        assert not check.is_error
        assert pipeline.counts()["by_name"] == {"Order Completed": 3}
        assert delivered(pipeline.sync_one(DAY))["orders"]["delivered"] == 0


def test_too_many_rejected_rows_fail_the_day(case: Case):
    """Above the feed's budget the blocking check is red and says on which day."""
    for number in range(2, 5):
        case.add(order_id=f"O{number}", customer_id="not an id")
    with open_pipeline(case.settings, case.contract()) as pipeline:
        pipeline.create_views()
        outcome = pipeline.sync_one(DAY)
        (check,) = [c for c in outcome.checks if c.name == "rejections_within_budget" and not c.is_passed]
        assert check.is_error
        assert DAY in check.description
        assert not outcome.is_success


def test_a_missing_view_is_named_with_the_step_that_makes_it(case: Case):
    """The export of a feed without its view says which view and what to materialize; the other feed is delivered."""
    with open_pipeline(case.settings, case.contract()) as pipeline:
        pipeline.create_views()
        run_sql(case.settings, f"DROP VIEW {case.schema}.v_orders")
        outcome = pipeline.sync_one(DAY)
        failure = one_failure(outcome)
        assert f"feed orders, {DAY}" in failure
        assert "v_orders" in failure
        assert "redshift/views/orders" in failure
        assert delivered(outcome)["folk"]["delivered"] == 1


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        (
            "customer_id, occurred_at, loaded_at, order_id, note, total AS order_total",
            ["column total is missing", "renamed to order_total"],
        ),
        (
            "customer_id, occurred_at, loaded_at, order_id, note, total::VARCHAR(20) AS total",
            ["column total", "the contract says decimal", "VARCHAR"],
        ),
    ],
    ids=["renamed", "another type"],
)
def test_a_column_that_drifted_blocks_the_day_before_a_row_is_read(sql: str, words: list[str], case: Case):
    """NM2: a renamed column, or one of another type, is shown as a difference; nothing of the feed is sent."""
    with open_pipeline(case.settings, case.contract(sql)) as pipeline:
        pipeline.create_views()
        outcome = pipeline.sync_one(DAY)
        failure = one_failure(outcome)
        for word in words:
            assert word in failure
        assert "orders" not in delivered(outcome)
        assert delivered(outcome)["folk"]["delivered"] == 1
        (check,) = [c for c in outcome.checks if c.name == "contract" and not c.is_passed]
        assert check.is_error
        assert pipeline.counts()["by_name"] == {}


def test_a_column_that_the_contract_does_not_list_is_named_and_not_sent(case: Case):
    """NM3: a new column of the view is a warning, and never reaches Customer.io."""
    with open_pipeline(case.settings, case.contract("*, 'x'::VARCHAR(9) AS surprise")) as pipeline:
        pipeline.create_views()
        outcome = pipeline.sync_one(DAY)
        assert outcome.is_success, outcome.failures
        (check,) = [c for c in outcome.checks if c.name == "contract" and not c.is_passed]
        assert "surprise" in check.description
        assert not check.is_error


# The driver leaves its socket to the garbage collector when a login is refused (2.2, core.Connection.__init__).
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_wrong_credentials_of_redshift_name_the_variables(case: Case):
    """A refused login says which variables to check, and is not tried again."""
    settings = case.settings.model_copy(
        update={"redshift": case.settings.redshift.model_copy(update={"password": SecretStr("wrong")})}
    )
    with open_pipeline(settings, case.contract()) as pipeline:
        failure = one_failure(pipeline.create_views())
        assert "REDSHIFT_USER" in failure
        assert "REDSHIFT_PASSWORD" in failure
        assert "wrong" not in failure
    gc.collect()


def test_wrong_credentials_of_customerio_name_the_variables_and_send_nothing(case: Case):
    """DL3: a 401 stops the feed with what to check; the export stands, and a later run completes the day."""
    wrong = case.settings.customerio.model_copy(update={"api_key": SecretStr("wrong-key")})
    with open_pipeline(case.settings.model_copy(update={"customerio": wrong}), case.contract()) as pipeline:
        pipeline.create_views()
        failure = one_failure(pipeline.sync_one(DAY))
        assert "CUSTOMERIO_API_KEY" in failure
        assert "CUSTOMERIO_REGION" in failure
        assert "wrong-key" not in failure
    with open_pipeline(case.settings, case.contract()) as pipeline:
        assert pipeline.counts()["events"] == 0
        assert delivered(pipeline.sync_one(DAY))["orders"]["delivered"] == 1


def test_an_unreachable_warehouse_is_named_with_its_address(case: Case, monkeypatch: pytest.MonkeyPatch):
    """Nothing listens: host and port are named; the failure is one that may pass, so Dagster tries the step again."""
    monkeypatch.setattr("rs_cio_assets.assets.failures.RETRY_WAIT_S", 0.1)
    port = free_port()
    settings = case.settings.model_copy(update={"redshift": case.settings.redshift.model_copy(update={"port": port})})
    with open_pipeline(settings, case.contract()) as pipeline:
        outcome = pipeline.create_views()
        failure = one_failure(outcome)
        retries = [
            e for e in pipeline.instance.all_logs(outcome.run_id) if e.is_dagster_event and e.dagster_event.is_step_up_for_retry
        ]
        assert len(retries) == 2 * 2  # two feeds, two more attempts each
        assert f"127.0.0.1:{port}" in failure
        assert "REDSHIFT_HOST" in failure


def test_a_full_disk_is_named_and_the_day_completes_once_there_is_space(case: Case):
    """A store that takes no more bytes fails the export with the place and the remedy; nothing half-written counts."""
    for number in range(2, 400):
        case.add(order_id=f"O{number}", note=token_hex(400))
    with open_pipeline(case.settings, case.contract()) as pipeline:
        pipeline.create_views()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # the kernel says EFBIG where a full disk says ENOSPC
        try:
            (failure,) = pipeline.materialize([export_key("orders")], DAY)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert f"feed orders, {DAY}" in failure
        assert "file too large" in failure
        assert "RS_CIO_STORE" in failure
        assert delivered(pipeline.sync_one(DAY))["orders"]["delivered"] == 399


def test_an_interrupt_in_the_middle_of_a_run_ends_the_sync_and_the_next_one_completes(
    case: Case, monkeypatch: pytest.MonkeyPatch
):
    """Ctrl-C while a day is delivered: that run is marked failed, no other day begins; afterwards each row is sent once."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with open_pipeline(case.settings, case.contract()) as pipeline:
        pipeline.create_views()
        with monkeypatch.context() as patch:
            patch.setattr(TrackClient, "send_batch", interrupted)
            with pytest.raises(KeyboardInterrupt):
                pipeline.sync(["2026-11-19", DAY])
        runs = pipeline.instance.get_runs(RunsFilter(job_name=SYNC_DAY))
        assert [(run.status, run.tags["dagster/partition"]) for run in runs] == [(DagsterRunStatus.FAILURE, DAY)]
        assert pipeline.counts()["events"] == 0
        assert delivered(pipeline.sync_one(DAY))["orders"]["delivered"] == 1
        assert pipeline.counts()["events"] == 1


def test_a_store_that_cannot_be_written_is_named(case: Case, tmp_path: Path):
    """A store path that is a file, not a folder, is refused with the variable to change."""
    (tmp_path / "occupied").write_text("a file")
    settings = case.settings.model_copy(update={"store": str(tmp_path / "occupied" / "store")})
    with open_pipeline(settings, case.contract()) as pipeline:
        pipeline.create_views()
        failure = one_failure(pipeline.sync_one(DAY))
        assert "RS_CIO_STORE" in failure


def test_a_feed_run_before_its_export_says_what_to_materialize(case: Case):
    """Somebody who materializes only the feed learns that the export of that day comes first."""
    with open_pipeline(case.settings, case.contract()) as pipeline:
        (failure,) = pipeline.materialize([feed_key("orders")], DAY)
        assert "redshift/exports/orders" in failure


def test_a_contract_with_three_mistakes_reports_all_three_with_their_lines(tmp_path: Path):
    """One start shows every mistake: file, line, field, what was found and what is allowed."""
    folder = tmp_path / "contract"
    shipped = Path(load_contract.__code__.co_filename).parent
    shutil.copytree(shipped, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    path = folder / "feeds" / "order_completed.yaml"
    text = path.read_text()
    lines = text.splitlines()
    text = text.replace("event_name: Order Completed", "event_name: order_completed")
    text = text.replace("order_total: {type: decimal, required", "order_total: {type: decimel, required")
    text = text.replace("\nloaded_at: loaded_at", "\nloadedat: loaded_at")
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        load_contract(folder)
    shown = str(caught.value)
    total = next(n for n, line in enumerate(lines, 1) if "order_total" in line)
    fresh = next(n for n, line in enumerate(lines, 1) if line == "loaded_at: loaded_at")
    assert f"feeds/order_completed.yaml:{total}: columns.order_total.type: found 'decimel'" in shown
    assert f"feeds/order_completed.yaml:{fresh}: loadedat: is not a known field; did you mean loaded_at?" in shown
    assert "loaded_at: is required" in shown


def test_nothing_is_lost_when_a_row_has_neither_time_nor_load_time(case: Case):
    """Rows that belong to no day are counted by the contract check instead of vanishing."""
    case.add(order_id="O2", occurred_at=None, loaded_at=None)
    with open_pipeline(case.settings, case.contract()) as pipeline:
        pipeline.create_views()
        outcome = pipeline.sync_one(DAY)
        (check,) = [c for c in outcome.checks if c.name == "contract" and not c.is_passed]
        assert "1 rows" in check.description
        ((held,),) = query(case.settings, f"SELECT COUNT(*) FROM {case.schema}.orders")
        assert delivered(outcome)["orders"]["rows"] == held - 1
