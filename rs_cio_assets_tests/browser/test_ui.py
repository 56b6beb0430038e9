"""What a person sees: the graph, a day's numbers, a check, a run started by hand, and a customer in the stand-in's page."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import httpx
import pytest
from dagster import DagsterEventType, DagsterInstance
from dagster._core.storage.tags import BACKFILL_ID_TAG
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.contract import FeedKind, load_contract
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.demo_process import PROJECT, DemoFolder
from rs_cio_assets_tests.pipeline import run_sql

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SCREENSHOTS = PROJECT / "build" / "screenshots"
TODAY = datetime.now(UTC).date()
DAY = (TODAY - timedelta(days=2)).isoformat()
UI_TIMEOUT_MS = 20_000
FORTNIGHT_TIMEOUT_MS = 900_000  # fourteen runs, two at a time, on a machine that does other things too
BACKFILL_TIMEOUT_MS = 180_000  # the daemon looks at backfills twice a minute
GROUPS = ("redshift_views", "redshift_exports", "customerio_feeds", "redshift_deliveries")
ZOOM_STEPS = 6  # the whole graph at once: what is out of sight is not drawn

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),  # playwright leaves its pipes to the garbage collector
]


@dataclass(frozen=True)
class Shown:
    """The running demo: where its two pages are, and its folder."""

    graph_url: str
    customerio_url: str
    folder: Path
    redshift_port: int

    @property
    def dagster_url(self) -> str:
        """The UI without a path."""
        return self.graph_url.partition("/asset-groups")[0]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    """The demo after its sync, with the UI open; Ctrl-C in the end exits 0 and leaves nothing running."""
    demo = DemoFolder(tmp_path_factory.mktemp("demo"))
    with demo.run("--customers=1500", "--days=2") as process:
        graph = process.wait_for(r"Dagster UI +(http\S+)")[1]
        page = process.wait_for(r"Customer\.io page +(http\S+)")[1]
        yield Shown(graph, page, demo.folder, demo.redshift_port)
        process.interrupt()
        assert process.wait(60) == 0, process.output
    assert demo.is_quiet()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    with sync_playwright() as playwright:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@contextmanager
def tab(browser: Browser) -> Iterator[Page]:
    """A new tab; requests to anywhere but 127.0.0.1 are cut off."""
    page = browser.new_page(viewport={"width": 1600, "height": 1000})
    page.set_default_timeout(UI_TIMEOUT_MS)
    page.route(lambda url: "//127.0.0.1" not in url, lambda route: route.abort())
    yield page
    page.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab of the test's own."""
    with tab(browser) as page:
        yield page


def choose_days(shown: Shown, page: Page, days: Sequence[str]) -> Locator:
    """The dialog of the page of sync_day with *days* chosen as a range, before it is launched."""
    page.goto(f"{shown.dagster_url}/locations/rs_cio_assets/jobs/sync_day")
    page.get_by_role("button", name="Materialize").first.click()
    dialog = page.get_by_role("dialog")
    dialog.locator("input[type=text]").first.fill(f"[{days[0]}...{days[-1]}]")
    page.keyboard.press("Enter")
    expect(dialog.get_by_text(f"{len(days)} partitions", exact=True)).to_be_visible()
    return dialog


@pytest.fixture(scope="module")
def launched(shown: Shown, browser: Browser) -> tuple[str, str]:
    """Two days that were never synced, launched from the job's page as a range: what else there is to see is seen meanwhile,
    but for what checks said, since each run of a backfill takes their place."""
    first, last = ((TODAY - timedelta(days=n)).isoformat() for n in (6, 5))
    with tab(browser) as page:
        dialog = choose_days(shown, page, (first, last))
        keep(page, "backfill-dialog")
        dialog.get_by_role("button", name=re.compile("^Launch")).last.click()
        expect(dialog).to_be_hidden(timeout=UI_TIMEOUT_MS)
    return first, last


def visible(page: Page, text: str | re.Pattern[str]) -> Locator:
    """The first element with *text* that can be seen: the UI keeps hidden ones to measure by."""
    return page.get_by_text(text).locator("visible=true").first


def keep(page: Page, name: str) -> None:
    """Keep a screenshot as build output, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png")


LAUNCH = """
mutation ($tags: [ExecutionTag!], $config: RunConfigData) {
  launchRun(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: "rs_cio_assets", jobName: "sync_day"}
    runConfigData: $config, executionMetadata: {tags: $tags}
  }) { ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""


def launch(shown: Shown, tags: Mapping[str, str], **config: Any) -> str:
    """The id of a run of sync_day with these tags; *config* is that of order_completed."""
    ops = {"ops": {"customerio__feeds__order_completed": {"config": config}}} if config else {}
    variables = {"tags": [{"key": key, "value": value} for key, value in tags.items()], "config": ops}
    answer = httpx.post(f"{shown.dagster_url}/graphql", json={"query": LAUNCH, "variables": variables}, timeout=60)
    return answer.json()["data"]["launchRun"]["run"]["runId"]


def test_the_printed_link_opens_the_whole_graph(shown: Shown, page: Page):
    """The groups stand in a row, from the views to the log; unfolded, every asset of every feed of the contract is there."""
    page.goto(shown.graph_url)
    for group in GROUPS:
        expect(page.get_by_text(group).first).to_be_visible(timeout=UI_TIMEOUT_MS)
    expect(page.get_by_text("fetching statuses")).to_have_count(0, timeout=UI_TIMEOUT_MS)
    keep(page, "graph-groups")
    page.goto(f"{shown.graph_url}?expanded={','.join(f'global@global:{group}' for group in GROUPS)}")
    for _ in range(ZOOM_STEPS):
        page.get_by_role("button", name="zoom_out").click()
    for feed in load_contract().enabled_feeds:
        label = re.compile(f"^({feed.name}|{feed.name[:4]}.*….*{feed.name[-5:]})$")  # the UI shortens long names
        expect(page.get_by_text(label)).to_have_count(len(GROUPS), timeout=UI_TIMEOUT_MS)
    keep(page, "graph")


def test_a_day_of_a_feed_shows_what_happened_in_numbers(shown: Shown, page: Page):
    """The partition's page answers: rows, delivered, unchanged, rejected, held, requests."""
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/order_completed?view=partitions&partition={DAY}")
    for name in ("rows", "delivered", "unchanged", "rejected", "held", "requests", "source_fingerprint"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible(timeout=UI_TIMEOUT_MS)
    keep(page, "partition")


def test_the_log_of_a_day_says_what_was_written_to_redshift(shown: Shown, page: Page):
    """The delivery log has a page for each day of a feed: how many rows of which outcome stand in the warehouse."""
    page.goto(f"{shown.dagster_url}/assets/redshift/deliveries/order_completed?view=partitions&partition={DAY}")
    for name in ("delivered (keys)", "rejected (keys)", "held (keys)"):
        expect(visible(page, name)).to_be_visible(timeout=UI_TIMEOUT_MS)
    keep(page, "deliveries")


def test_a_check_says_what_it_found(shown: Shown, page: Page):
    """The checks of a feed are there, passed, and the read-back says how many rows it compared."""
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/people?view=checks")
    for check in ("every_row_is_accounted_for", "rejections_within_budget", "customerio_holds_what_was_sent"):
        expect(visible(page, check)).to_be_visible(timeout=UI_TIMEOUT_MS)
    visible(page, "customerio_holds_what_was_sent").click()
    expect(visible(page, re.compile(r"All \d+ sampled rows are in Customer.io as they were sent"))).to_be_visible()
    keep(page, "check")


def test_a_check_is_executed_and_a_failing_one_says_what_is_wrong(shown: Shown, page: Page):
    """Somebody deletes a segment; the check, executed alone from its page, fails and names the segment and the next step."""
    httpx.delete(f"{shown.customerio_url.rstrip('/')}/sandbox/segments/3").raise_for_status()
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/people?view=checks&checkDetail=segment_first_order_last_14_days")
    expect(visible(page, re.compile("Compares everybody in Customer.io's segment 3"))).to_be_visible(timeout=UI_TIMEOUT_MS)
    page.get_by_text("Execute", exact=True).locator("visible=true").first.click()
    expect(visible(page, re.compile("no segment 3"))).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "check-failed")


def test_the_latency_is_drawn_by_hour(shown: Shown, page: Page):
    """What people would rather look at: a bar for each hour of the day, beside the numbers, of what today's sync delivered."""
    changed = "SELECT customer_id FROM shop.customers WHERE NOT is_guest ORDER BY 1 LIMIT 20"
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    sql = f"UPDATE shop.customers SET updated_at = %s, loaded_at = %s WHERE customer_id IN ({changed})"
    run_sql(load_settings({"REDSHIFT_PORT": str(shown.redshift_port)}), (sql, (now, now)))
    page.goto(f"{shown.dagster_url}/runs/{launch(shown, {'dagster/partition': now.date().isoformat()})}")
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/people?view=checks&checkDetail=latency")
    page.get_by_text("Execute", exact=True).locator("visible=true").first.click()
    expect(visible(page, re.compile("█"))).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "latency")


def test_a_launched_range_is_listed_with_its_days(shown: Shown, page: Page, launched: tuple[str, str]):
    """The page of backfills has it at once, with how many days it is of."""
    page.goto(f"{shown.dagster_url}/runs?view=backfills")
    expect(visible(page, f"{len(launched)} partitions")).to_be_visible(timeout=UI_TIMEOUT_MS)


def test_readiness_is_one_table(shown: Shown, page: Page):
    """The checklist of the guide, line by line, with state and evidence."""
    page.goto(f"{shown.dagster_url}/assets/readiness")
    expect(visible(page, re.compile("Canonical person identifier chosen"))).to_be_visible(timeout=UI_TIMEOUT_MS)
    expect(visible(page, re.compile("Suppression rules validated"))).to_be_visible(timeout=UI_TIMEOUT_MS)
    keep(page, "readiness")


def test_schedules_and_sensors_can_be_found(shown: Shown, page: Page):
    """What runs the checks by itself stands on one page, each with a switch."""
    page.goto(f"{shown.dagster_url}/automation")
    for name in ("checks_daily", "canary_hourly", "checks_after_sync", "readiness_after_checks", "late_data"):
        expect(visible(page, name)).to_be_visible(timeout=UI_TIMEOUT_MS)
    expect(visible(page, re.compile("At 05:00"))).to_be_visible(timeout=UI_TIMEOUT_MS)  # sync_daily, which is drawn late
    keep(page, "automation")


def test_late_data_is_turned_on_looks_and_is_turned_off(shown: Shown, page: Page):
    """A click starts the sensor, the daemon has it look once and says how many runs it asked for, a click stops it."""
    page.goto(f"{shown.dagster_url}/locations/rs_cio_assets/sensors/late_data")
    switch = page.locator("input[type=checkbox]").first  # drawn by CSS: the box itself is out of sight
    expect(switch).not_to_be_checked(timeout=UI_TIMEOUT_MS)
    expect(visible(page, "Sensor has never run")).to_be_visible()
    switch.dispatch_event("click")
    expect(switch).to_be_checked(timeout=UI_TIMEOUT_MS)
    expect(visible(page, re.compile(r"^\d+ runs? requested$"))).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "late-data-on")
    switch.dispatch_event("click")
    expect(switch).not_to_be_checked(timeout=UI_TIMEOUT_MS)


def test_a_day_materialized_by_hand_sends_nothing_again(shown: Shown, page: Page):
    """Materialize in the UI, on a day that is delivered: the run succeeds through the daemon and every row is unchanged."""
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/order_completed?view=partitions&partition={DAY}")
    page.get_by_role("button", name="Materialize").first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    keep(page, "materialize-dialog")
    page.get_by_role("dialog").get_by_role("button", name="Launch 1 run").click()
    page.locator("a, button").filter(has_text=re.compile(r"^View$")).first.click()
    expect(page.get_by_text("Success", exact=True).first).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "run")


FORTNIGHT = [(TODAY - timedelta(days=n)).isoformat() for n in range(20, 6, -1)]  # days that the demo did not sync one by one


def launch_fortnight(shown: Shown, page: Page, *, only_failed_and_missing: bool) -> str:
    """Launch the fortnight from the job's page; the backfill's id."""
    dialog = choose_days(shown, page, FORTNIGHT)
    if only_failed_and_missing:
        dialog.get_by_text("Backfill only failed and missing partitions within selection").click()
        keep(page, "fortnight-again-dialog")
    with page.expect_response(lambda r: "launchPartitionBackfill" in (r.request.post_data or "")) as launched:
        dialog.get_by_role("button", name=re.compile("^Launch")).last.click()
    return launched.value.json()["data"]["launchPartitionBackfill"]["backfillId"]


@pytest.mark.long
@pytest.mark.timeout(2_400)
def test_a_fortnight_is_backfilled_cancelled_and_finished_later(shown: Shown, page: Page):
    """Fourteen days launched, watched, cancelled; then only failed and missing of the same: all there, nothing sent twice."""
    page.goto(f"{shown.dagster_url}/runs/b/{launch_fortnight(shown, page, only_failed_and_missing=False)}")
    expect(visible(page, re.compile(r"^[1-9]\d*% completed$"))).to_be_visible(timeout=FORTNIGHT_TIMEOUT_MS)
    keep(page, "fortnight-watched")
    page.locator("button").filter(has=page.get_by_label("expand_more")).last.click()
    page.get_by_role("menuitem", name="Cancel backfill").click()
    keep(page, "fortnight-cancel-dialog")
    page.get_by_role("dialog").get_by_role("button", name="Cancel backfill").click()
    expect(visible(page, re.compile("^Canceled$"))).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "fortnight-cancelled")
    assert synced_days(shown) < set(FORTNIGHT)

    page.goto(f"{shown.dagster_url}/runs/b/{launch_fortnight(shown, page, only_failed_and_missing=True)}")
    expect(visible(page, "100% completed")).to_be_visible(timeout=FORTNIGHT_TIMEOUT_MS)
    keep(page, "fortnight-finished")
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/order_completed?view=partitions&partition={FORTNIGHT[0]}")
    expect(visible(page, "source_fingerprint")).to_be_visible(timeout=UI_TIMEOUT_MS)
    keep(page, "fortnight-partitions")
    assert synced_days(shown) == set(FORTNIGHT)
    counts = httpx.get(f"{shown.customerio_url.rstrip('/')}/sandbox/counts").json()["by_day"]
    for feed in load_contract().feeds_of(FeedKind.EVENT):
        held = sum(row["events"] for row in counts if row["name"] == feed.event_name and row["day"] in FORTNIGHT)
        assert acknowledged(shown, feed.name) == (held, held), feed.name


def synced_days(shown: Shown) -> set[str]:
    """Days of the fortnight that every export and feed has: what the UI goes by, even if a run was cancelled at its end."""
    keys = [key(feed.name) for feed in load_contract().enabled_feeds for key in (export_key, feed_key)]
    with DagsterInstance.from_config(str(shown.folder / ".rs_cio" / "dagster")) as instance:
        return set(FORTNIGHT).intersection(*(instance.get_materialized_partitions(key) for key in keys))


def acknowledged(shown: Shown, feed: str) -> tuple[int, int]:
    """Acknowledgements of the fortnight in the ledger, and how many rows they are of: twice the same row is a second delivery."""
    days = [shown.folder / ".rs_cio" / "store" / "ledger" / feed / day for day in FORTNIGHT]
    if files := [str(path) for day in days for path in day.glob("*.parquet")]:
        counted = duckdb.execute("SELECT count(*), count(DISTINCT row_key) FROM read_parquet($1)", [files]).fetchone()
        return counted or (0, 0)
    return 0, 0


def test_a_backfill_that_would_start_a_campaign_says_so_on_the_run_s_page(shown: Shown, page: Page):
    """JR2: sent again as a backfill, young orders would start a running campaign: the run stops, and names it and the way on."""
    campaign = {"name": "After the order", "state": "running", "event_name": "Order Completed"}
    httpx.put(f"{shown.customerio_url.rstrip('/')}/sandbox/campaigns/7", json=campaign).raise_for_status()
    run = launch(shown, {"dagster/partition": DAY}, resend="all")
    page.goto(f"{shown.dagster_url}/runs/{run}")
    expect(page.get_by_text("Failure", exact=True).first).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    page.get_by_text("customerio__feeds__order_completed").locator("visible=true").last.click()  # the errored step: its log alone
    expect(visible(page, re.compile("could start .*After the order .campaign 7."))).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "backfill-refused")
    httpx.delete(f"{shown.customerio_url.rstrip('/')}/sandbox/campaigns/7").raise_for_status()


def test_a_customer_can_be_looked_up_in_the_stand_in(shown: Shown, page: Page):
    """From the home page to a person with attributes and activity, found by the id that the warehouse knows them by."""
    page.goto(shown.customerio_url)
    expect(page.get_by_text("Order Completed").first).to_be_visible()
    keep(page, "customerio-home")
    with sqlite3.connect(shown.folder / ".rs_cio" / "customerio" / "workspace.db") as database:
        ((person,),) = database.execute(
            "SELECT p.id FROM people AS p JOIN activities AS a USING (cio_id) WHERE a.name = 'Order Completed' LIMIT 1"
        ).fetchall()
    database.close()
    page.goto(f"{shown.customerio_url.rstrip('/')}/people")
    page.get_by_role("searchbox").or_(page.locator("input[name=search]")).first.fill(person)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=person).click()
    for text in ("lifetime_value", "vip_tier", "Order Completed", "order_total"):
        expect(page.get_by_text(text).first).to_be_visible()
    keep(page, "customerio-person")


def test_a_feed_and_its_campaign_lead_to_each_other(shown: Shown, page: Page):
    """From the feed's page to the campaign that it starts, in the stand-in, and from there to the journey's check in Dagster."""
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/checkout_started")
    link = page.get_by_role("link", name="journey cart_recovery", exact=True)
    expect(link).to_have_attribute("href", f"{shown.customerio_url.rstrip('/')}/campaigns/2", timeout=UI_TIMEOUT_MS)
    keep(page, "feed")
    page.goto(link.get_attribute("href") or "")
    expect(page.get_by_role("heading", name="Cart recovery")).to_be_visible()
    keep(page, "customerio-campaign")
    page.get_by_role("link", name=re.compile("check in Dagster")).click()
    expect(visible(page, re.compile("What to do:"))).to_be_visible(timeout=UI_TIMEOUT_MS)
    keep(page, "check-of-a-journey")


def test_the_range_that_was_launched_is_backfilled(shown: Shown, page: Page, launched: tuple[str, str]):
    """One run for each of its days through the daemon; both are materialized, and no check that stands on its own was asked."""
    page.goto(f"{shown.dagster_url}/runs?view=backfills")
    expect(visible(page, re.compile("^Success$"))).to_be_visible(timeout=BACKFILL_TIMEOUT_MS)
    keep(page, "backfill")
    for day in launched:
        page.goto(f"{shown.dagster_url}/assets/customerio/feeds/order_completed?view=partitions&partition={day}")
        expect(visible(page, "source_fingerprint")).to_be_visible(timeout=UI_TIMEOUT_MS)
    with DagsterInstance.from_config(str(shown.folder / ".rs_cio" / "dagster")) as instance:
        runs = [run.run_id for run in instance.get_runs() if BACKFILL_ID_TAG in run.tags]
        logs = [instance.all_logs(run, DagsterEventType.ASSET_CHECK_EVALUATION) for run in runs]
    asked = [{log.dagster_event.asset_check_evaluation_data.check_name for log in of_run if log.dagster_event} for of_run in logs]
    assert asked == [{"contract", "volume", "times", "values", "every_row_is_accounted_for", "rejections_within_budget"}] * 2
    page.goto(f"{shown.dagster_url}/assets/customerio/feeds/people?view=checks")
    expect(visible(page, "older_days_are_as_delivered")).to_be_visible(timeout=UI_TIMEOUT_MS)
    keep(page, "checks-after-a-backfill")
