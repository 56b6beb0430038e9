"""The sensor `alerts` over a real Dagster instance and real HTTP: each kind of problem, storms, failing receivers, no secrets."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import dagster as dg
import pytest
from dagster import AssetCheckEvaluation, AssetCheckKey, AssetCheckSeverity, AssetKey, AssetMaterialization, DagsterInstance
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.assets.deliveries import HELD, HELD_UNTIL
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.feeds import REJECTIONS_CHECK
from rs_cio_assets.automation import SYNC_DAY
from rs_cio_assets.automation.failed_runs import failed_runs, steps_of
from rs_cio_assets.checks.latency import WHOLE, Latency, Leg
from rs_cio_assets.checks.results import bad, not_ready
from rs_cio_assets.checks.timing import latency_result
from rs_cio_assets.contract import load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.errors import RsCioError, WarehouseRefused
from rs_cio_assets.settings import load_settings
from rs_cio_assets.sync import QUIET

TODAY = datetime.now(UTC).date()
ORDERS, PEOPLE = feed_key("order_completed"), feed_key("people")
SECRET, EMAIL = "T0000-B0000-hush-hush", "jane.doe@example.com"
DAILY = dg.DailyPartitionsDefinition((TODAY - timedelta(days=400)).isoformat(), end_offset=1)


class Post(BaseHTTPRequestHandler):
    """Keeps each body under its path; answers with the server's status."""

    def do_POST(self) -> None:
        """One message."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert isinstance(self.server, Receivers)
        self.server.asked += 1
        status = self.server.statuses.get(self.path.split("/")[1], 200)
        if status == 200:
            self.server.bodies.setdefault(self.path.split("/")[1], []).append(body)
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Nothing on the console."""


class Receivers(ThreadingHTTPServer):
    """A webhook under /webhook and Slack under /slack, on 127.0.0.1."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.bodies: dict[str, list[Any]] = {}
        self.statuses: dict[str, int] = {}
        self.asked = 0

    def url(self, name: str) -> str:
        """Where *name* is told; it ends with a secret, as Slack's does."""
        return f"http://127.0.0.1:{self.server_address[1]}/{name}/{SECRET}"

    def take(self, name: str) -> list[Any]:
        """What *name* was told since the last time."""
        return self.bodies.pop(name, [])


@contextmanager
def listening() -> Iterator[Receivers]:
    """Receivers that listen until the block ends."""
    with Receivers() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Desk:
    """An instance in which things go wrong, and the sensor of the real definitions over it."""

    def __init__(self, instance: DagsterInstance, receivers: Receivers, defs: dg.Definitions) -> None:
        self.instance, self.receivers, self.defs = instance, receivers, defs
        self.cursor: str | None = None
        self.skipped = ""

    def tick(self) -> list[dict[str, Any]]:
        """One tick of the sensor; the problems that the webhook was told of."""
        sensor = self.defs.get_repository_def().get_sensor_def("alerts")
        with dg.build_sensor_context(instance=self.instance, cursor=self.cursor, definitions=self.defs) as context:
            result = sensor.evaluate_tick(context)
        self.cursor, self.skipped = result.cursor, result.skip_message or ""
        assert result.run_requests == []
        return [problem for body in self.receivers.take("webhook") for problem in body["problems"]]

    def said(self, asset: AssetKey, name: str, result: dg.AssetCheckResult) -> None:
        """A check on its own said something."""
        self.instance.report_runless_asset_event(
            AssetCheckEvaluation(
                asset, name, result.passed, result.metadata or {}, severity=result.severity, description=result.description
            )
        )

    def delivered(self, day: str, held: int, due: datetime | None) -> None:
        """A day of orders was delivered, and so many rows are held."""
        metadata = {HELD: held} | ({HELD_UNTIL: dg.MetadataValue.timestamp(due)} if due else {})
        self.instance.report_runless_asset_event(AssetMaterialization(ORDERS, partition=day, metadata=metadata))

    def sync(self, days: Sequence[str], error: Exception | None = None, *, rejected: str = "", job: str = SYNC_DAY) -> list[str]:
        """Runs of a job, one a day, over the export and the delivery of orders: *error* from the export, or too many rejected."""
        resolved = orders_job(error, rejected, job)
        given: dict[str, Any] = {"instance": self.instance, "raise_on_error": False, "run_config": QUIET}
        return [resolved.execute_in_process(partition_key=day, **given).run_id for day in days]

    def sync_range(self, first: str, last: str, error: Exception) -> None:
        """One run of several days."""
        tags = {ASSET_PARTITION_RANGE_START_TAG: first, ASSET_PARTITION_RANGE_END_TAG: last}
        job = orders_job(error, "", SYNC_DAY)
        job.execute_in_process(instance=self.instance, tags=tags, raise_on_error=False, run_config=QUIET)


def orders_job(error: Exception | None, rejected: str, name: str) -> dg.JobDefinition:
    """A job over the export and the delivery of orders; it fails as it is told to."""

    @dg.asset(key=export_key("order_completed"), partitions_def=DAILY)
    def export() -> dg.MaterializeResult:
        with failing_clearly("order_completed"):
            if error:
                raise error
        return dg.MaterializeResult()

    spec = dg.AssetCheckSpec(REJECTIONS_CHECK, asset=ORDERS, blocking=True)

    @dg.asset(key=ORDERS, deps=[export], partitions_def=DAILY, check_specs=[spec])
    def deliver() -> dg.MaterializeResult:
        said = dg.AssetCheckResult(check_name=REJECTIONS_CHECK, passed=not rejected, description=rejected)
        return dg.MaterializeResult(check_results=[said])

    job = dg.define_asset_job(name, [export, deliver], executor_def=dg.in_process_executor)
    return dg.Definitions(assets=[export, deliver], jobs=[job]).resolve_job_def(name)


@pytest.fixture(scope="module")
def listening_receivers() -> Iterator[Receivers]:
    """One server for the file."""
    with listening() as server:
        yield server


@pytest.fixture(scope="module")
def defs(listening_receivers: Receivers) -> dg.Definitions:
    """The real definitions, whose alerts go to that server."""
    addresses = {f"RS_CIO_ALERT_{name.upper()}_URL": listening_receivers.url(name) for name in ("webhook", "slack")}
    return build_definitions(load_settings({**addresses, "RS_CIO_UI_URL": "http://ui.example/"}))


@pytest.fixture
def receivers(listening_receivers: Receivers, monkeypatch: pytest.MonkeyPatch) -> Receivers:
    """Receivers that were told nothing yet; a second attempt does not wait."""
    monkeypatch.setattr("rs_cio_assets.alerts.notifier.WAIT_S", 0.0)
    listening_receivers.bodies, listening_receivers.statuses, listening_receivers.asked = {}, {}, 0
    return listening_receivers


@pytest.fixture
def desk(receivers: Receivers, defs: dg.Definitions) -> Iterator[Desk]:
    """A desk with an empty instance."""
    with DagsterInstance.ephemeral() as instance:
        yield Desk(instance, receivers, defs)


def day(back: int = 0) -> str:
    """An ISO day, counted back from today."""
    return (TODAY - timedelta(days=back)).isoformat()


def test_nothing_wrong_nothing_told(desk: Desk):
    """A fresh instance: no message to anybody, and the tick says so."""
    desk.delivered(day(1), 0, None)
    desk.sync([day(1)])
    assert desk.tick() == []
    assert desk.receivers.asked == 0
    assert desk.skipped == "nothing is wrong; nothing new"


def test_a_failed_run_is_told_with_its_link_and_next_step(desk: Desk):
    """Problem, day, next step and the run's page; over when the day ran well."""
    (run_id,) = desk.sync([day(1)], WarehouseRefused("the view is gone", next_step="create it"))
    (told,) = desk.tick()
    assert (told["state"], told["kind"], told["where"], told["days"]) == ("new", "run failed", "sync_day", [day(1)])
    assert (told["what"], told["next_step"]) == ("the view is gone", "create it")
    assert told["link"] == f"http://ui.example/runs/{run_id}"
    assert desk.tick() == []
    desk.sync([day(2)])
    assert desk.tick() == []
    desk.sync([day(1)])
    (told,) = desk.tick()
    assert (told["state"], told["kind"], told["what"]) == ("over", "run failed", "the view is gone")
    assert desk.tick() == []


def test_a_failed_day_is_made_good_from_the_asset_s_page_too(desk: Desk):
    """Materialized by another job: what failed is there now."""
    desk.sync([day(1)], WarehouseRefused("the view is gone"))
    desk.tick()
    desk.sync([day(1)], job="__anonymous_asset_job")
    assert [told["state"] for told in desk.tick()] == ["over"]


def test_a_run_that_failed_again_takes_the_place_of_the_first(desk: Desk):
    """The hourly sync of an open day that fails for hours is one problem, and the newest run is linked."""
    desk.sync([day(), day()], WarehouseRefused("the view is gone"))
    (run_id,) = desk.sync([day()], WarehouseRefused("the view is gone"))
    (told,) = desk.tick()
    assert (told["count"], told["link"]) == (1, f"http://ui.example/runs/{run_id}")


def test_a_range_of_days_is_made_good_day_by_day(desk: Desk):
    """A run of several days is over when each of its days was made since, by whatever runs."""
    desk.sync_range(day(3), day(1), WarehouseRefused("the view is gone"))
    (told,) = desk.tick()
    assert told["days"] == [f"{day(3)} to {day(1)}"]
    desk.sync([day(3), day(1)])
    assert desk.tick() == []
    desk.sync([day(2)])
    assert [told["state"] for told in desk.tick()] == ["over"]


def test_canceled_and_retried_runs_are_no_failures(desk: Desk):
    """A person's cancel is no failure; of a run that Dagster starts anew only the last is told."""
    first, second = desk.sync([day(1), day(2)], WarehouseRefused("the view is gone"))
    desk.instance.add_run_tags(first, {"dagster/will_retry": "true"})
    run = desk.instance.get_run_by_id(second)
    assert run
    desk.instance.report_run_canceled(run)
    assert desk.tick() == []


def test_an_error_that_is_not_ours_is_told_without_its_text(desk: Desk):
    """A driver's text may quote a row: its type and its step are told, and nothing else."""
    desk.sync([day(1)], ValueError(f"invalid input: ({EMAIL}, 12)"))
    (told,) = desk.tick()
    assert told["what"] == "ValueError in the step redshift__exports__order_completed"
    assert "open the run" in told["next_step"]


def test_a_storm_of_thirty_failures_is_one_message(desk: Desk):
    """Thirty days that fail alike: one message of one line to each receiver, and none at the next tick."""
    desk.sync([day(n) for n in range(1, 31)], WarehouseRefused("Redshift refused the password"))
    (told,) = desk.tick()
    assert (told["count"], told["days"]) == (30, [day(30), day(1)])
    (slack,) = desk.receivers.take("slack")
    assert f"sync_day (30 times, {day(30)} to {day(1)}): Redshift refused the password" in slack["text"]
    assert desk.tick() == []
    assert desk.receivers.asked == 2


def test_a_flood_is_read_over_several_ticks_and_nothing_is_over_meanwhile(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """A tick reads a bounded number of runs; until all are read, a known problem among them is not taken for mended."""
    desk.sync([day(9)], rejected="9 of 10 rows were rejected")
    assert [told["kind"] for told in desk.tick()] == ["rejected rows"]
    desk.defs = build_definitions(load_settings({"RS_CIO_ALERT_WEBHOOK_URL": desk.receivers.url("webhook")}))  # started anew
    monkeypatch.setattr("rs_cio_assets.automation.failed_runs.MOST_READ", 2)
    desk.sync([day(1), day(2), day(3)], WarehouseRefused("the view is gone"))
    assert [(told["state"], told["kind"], told["count"]) for told in desk.tick()] == [("new", "run failed", 2)]
    assert desk.tick() == []
    assert desk.skipped.startswith("4 problems")


def test_rejected_rows_are_told_for_their_day_as_what_they_are(desk: Desk):
    """The blocking check that failed the run is the problem, not the run; a good day afterwards does not end it."""
    text = f"{day(1)}: 40 of 100 rows were rejected"
    (run_id,) = desk.sync([day(1)], rejected=f"{text}. Next step: mend the view.")
    (told,) = desk.tick()
    assert (told["kind"], told["where"], told["days"]) == ("rejected rows", "customerio/feeds/order_completed", [day(1)])
    assert (told["what"], told["next_step"]) == (f"{REJECTIONS_CHECK}: {text}", "mend the view.")
    assert told["link"] == f"http://ui.example/runs/{run_id}"
    desk.sync([day()])
    assert desk.tick() == []
    desk.sync([day(1)])
    assert [(told["state"], told["kind"]) for told in desk.tick()] == [("over", "rejected rows")]


@pytest.mark.parametrize(
    ("asset", "check", "kind"),
    [
        (PEOPLE, "fresh", "freshness"),
        (PEOPLE, "segment_repeat_buyers", "segment"),
        (ORDERS, "journey_post_purchase_fires", "journey"),
        (ORDERS, "journey_post_purchase_keeps_its_promise", "latency"),
        (PEOPLE, "winback_reaches_nobody_it_must_not", "journey"),
        (PEOPLE, "identities_agree", "check failed"),
    ],
)
def test_a_failed_check_is_told_by_its_kind(desk: Desk, asset: AssetKey, check: str, kind: str):
    """An error is told with the check's words; a warning is not, and what is not ready ends nothing; a pass does."""
    desk.said(asset, check, bad("12 people are wrong", "look at them", {}))
    (told,) = desk.tick()
    assert (told["kind"], told["where"]) == (kind, asset.to_user_string())
    assert (told["what"], told["next_step"]) == (f"{check}: 12 people are wrong", "look at them.")
    desk.said(asset, check, not_ready("Customer.io does not answer", "wait", {}))
    assert desk.tick() == []
    desk.said(asset, check, dg.AssetCheckResult(passed=True))
    assert [told["state"] for told in desk.tick()] == ["over"]
    desk.said(asset, check, dg.AssetCheckResult(passed=False, severity=AssetCheckSeverity.WARN))
    assert desk.tick() == []


def test_a_check_that_runs_anew_keeps_its_last_word(desk: Desk):
    """Planned and not evaluated yet: the problem is neither over nor new again."""
    desk.said(PEOPLE, "fresh", bad("3 h old", "look", {}))
    assert len(desk.tick()) == 1
    job = desk.defs.resolve_job_def("checks").get_subset(
        asset_selection=set(), asset_check_selection={AssetCheckKey(PEOPLE, "fresh")}
    )
    desk.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert desk.tick() == []


def test_holds_are_told_before_they_pass_and_when_nobody_delivered_them(desk: Desk):
    """Hours before: what to do if it is not meant. Delivered: over. Due two hours ago and still held: nobody ran it."""
    now = datetime.now(UTC)
    desk.delivered(day(3), 7, now + timedelta(hours=5))
    desk.delivered(day(2), 7, now + timedelta(hours=7))
    desk.delivered(day(4), 2, now - timedelta(hours=1))
    (told,) = desk.tick()
    assert (told["kind"], told["where"], told["days"]) == ("hold", "customerio/feeds/order_completed", [day(3)])
    assert told["what"].startswith("7 rows are held until ")
    assert "max_trigger_age_hours" in told["next_step"]
    assert told["link"] == f"http://ui.example/assets/customerio/feeds/order_completed?view=partitions&partition={day(3)}"
    desk.delivered(day(3), 0, None)
    desk.delivered(day(4), 2, now - timedelta(hours=3))
    over, late = sorted(desk.tick(), key=lambda told: told["state"], reverse=True)
    assert (over["state"], over["kind"], late["state"], late["days"]) == ("over", "hold", "new", [day(4)])
    assert late["what"].startswith("2 rows are still held")
    assert late["next_step"] == "turn on the sensor late_data, or run sync_day for that day: both deliver them as history"


def test_rows_near_72_hours_are_told_by_the_latency_check_s_own_numbers(desk: Desk):
    """p95 above 48 h, or more than one row in twenty after 72 h; 47 h is nobody's business here."""
    feed = load_contract().feed("order_completed")

    def measured(hours: float, history: int = 0) -> None:
        legs = {name: Leg(60.0, hours * 60, hours * 60) for name in ("occurred to loaded", "loaded to delivered", WHOLE)}
        desk.said(ORDERS, "latency", latency_result(feed, Latency(100, 100, history, 0, legs), 7))

    measured(47, history=5)
    assert desk.tick() == []
    measured(49)
    (told,) = desk.tick()
    assert (told["kind"], told["where"]) == ("latency", "customerio/feeds/order_completed")
    assert told["what"].startswith("5 of 100 rows take 49 h or more")
    measured(2)
    assert [told["state"] for told in desk.tick()] == ["over"]
    measured(2, history=6)
    assert [told["what"] for told in desk.tick()] == ["6 of 106 rows came after 72 h, as history: they started no journey"]


def test_a_receiver_that_was_down_is_told_once_and_the_other_not_again(desk: Desk):
    """Slack answers 500, then is back: it hears it once, the webhook heard it once, and the tick said who could not be told."""
    desk.receivers.statuses["slack"] = 500
    desk.said(PEOPLE, "fresh", bad("3 h old", "look", {}))
    assert len(desk.tick()) == 1
    assert "Slack answered 500" in desk.skipped
    assert desk.tick() == []
    desk.receivers.statuses.clear()
    assert desk.tick() == []
    (message,) = desk.receivers.take("slack")
    assert "3 h old" in message["text"]
    assert desk.skipped == "1 problem; told"
    assert desk.tick() == []
    assert desk.receivers.take("slack") == []


@pytest.mark.parametrize("status", [200, 302, 403, 404, 429, 503])
def test_no_address_and_no_personal_data_is_anywhere(
    desk: Desk, status: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    """Whatever Slack answers, and with every logger at its most talkative. A refusal names the setting."""
    desk.sync([day(1)], ValueError(f"invalid input: {EMAIL}"))
    caplog.clear()
    capfd.readouterr()
    caplog.set_level(logging.DEBUG)
    desk.receivers.statuses["slack"] = status
    desk.tick()
    captured, told = capfd.readouterr(), json.dumps(desk.receivers.bodies)
    assert ("RS_CIO_ALERT_SLACK_URL" in desk.skipped) is (f"Slack answered {status}" in desk.skipped) is (status != 200)
    assert "ValueError in the step" in captured.err
    for shown in (captured.out, captured.err, caplog.text, desk.skipped, str(desk.cursor), told):
        assert SECRET not in shown
        assert EMAIL not in shown


def test_a_receiver_that_is_not_there_is_no_end_of_the_tick(desk: Desk):
    """Nothing listens: the tick says so without the address, and the memory keeps that it has not been told."""
    desk.defs = build_definitions(load_settings({"RS_CIO_ALERT_WEBHOOK_URL": f"http://127.0.0.1:9/{SECRET}"}))
    desk.said(PEOPLE, "fresh", bad("3 h old", "look", {}))
    desk.tick()
    assert "the webhook could not be reached: ConnectError" in desk.skipped
    assert SECRET not in desk.skipped
    assert json.loads(desk.cursor or "")["the webhook"] == {}


def test_without_addresses_the_log_alone_is_told(desk: Desk, capfd: pytest.CaptureFixture[str]):
    """Nothing set: the sensor works, asks nobody over the network, and its log has the message."""
    desk.defs = build_definitions(load_settings({}))
    desk.said(PEOPLE, "fresh", bad("3 h old", "look", {}))
    desk.tick()
    assert desk.skipped == "1 problem; told"
    assert desk.receivers.asked == 0
    assert "new: freshness: customerio/feeds/people: fresh: 3 h old. Next step: look" in capfd.readouterr().err


@pytest.mark.parametrize(("location", "count"), [("here", 1), ("elsewhere", 0)])
def test_runs_of_another_code_location_are_its_own_business(desk: Desk, location: str, count: int):
    """One instance may hold several projects, each with a job of that name."""
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(location), "__repository__"), SYNC_DAY)
    job = desk.defs.resolve_job_def(SYNC_DAY)
    run = desk.instance.create_run_for_job(job, remote_job_origin=origin)
    desk.instance.report_run_failed(run)
    found = failed_runs(desk.instance, steps_of([SYNC_DAY], [], []), {}, str, datetime.now(UTC), "here", {}).problems
    assert [problem.what for problem in found] == [
        "it ended without a word of a step: its process died, or could not start"
    ] * count


def test_every_error_of_ours_can_be_told(desk: Desk):
    """The text of each class of the tree arrives with its next step."""
    error = RsCioError("something is wrong", next_step="mend it")
    desk.sync([day(1)], error)
    (told,) = desk.tick()
    assert (told["what"], told["next_step"]) == ("something is wrong", "mend it")
