"""The definitions: what is in the graph, what depends on what, what stops a day, and that the README lists exactly that."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import time_machine
from click.testing import CliRunner
from dagster import AssetCheckKey, AssetKey, Definitions

from rs_cio_assets.assets import (
    CHECK_RESULTS_KEY,
    LOG_KEY,
    UNLOGGED_KEY,
    build_feed,
    daily_partitions,
    delivery_log_key,
    export_key,
    feed_key,
    view_key,
)
from rs_cio_assets.automation import (
    CANARY,
    CATCH_UP_LOG,
    CREATE_VIEWS,
    HOUSEKEEPING,
    HOUSEKEEPING_KEY,
    READ_BACK,
    READINESS,
    SYNC_DAY,
)
from rs_cio_assets.automation import CHECKS as CHECKS_JOB
from rs_cio_assets.checks import READ_BACK_CHECK
from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import SHIPPED, FeedKind, load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.errors import SettingsError
from rs_cio_assets.readiness import READINESS_KEY
from rs_cio_assets.settings import environment, load_settings

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text()
CONTRACT = load_contract()
FEEDS = ["checkout_started", "order_completed", "people", "subscription_cancelled", "subscription_paused"]
DEFINITIONS = build_definitions(load_settings({"RS_CIO_START_DATE": "2026-11-01", "REDSHIFT_DELIVERY_LOG": "true"}), CONTRACT)
GRAPH = DEFINITIONS.resolve_asset_graph()
EVENTS = [name for name in FEEDS if name != "people"]
CHECKS = {  # check -> assets it stands on, of which feeds, how the README says that, and whether it stops the day
    "contract": ("redshift/exports", FEEDS, "every export", True),
    "volume": ("redshift/exports", FEEDS, "every export", False),
    "times": ("redshift/exports", EVENTS, "every export of events", False),
    "values": ("redshift/exports", FEEDS, "every export with declared values", False),
    "every_row_is_accounted_for": ("customerio/feeds", FEEDS, "every feed", True),
    "rejections_within_budget": ("customerio/feeds", FEEDS, "every feed", True),
    "customerio_holds_what_was_sent": ("customerio/feeds", FEEDS, "every feed", False),
}
PEOPLE, ORDERS, CHECKOUTS = "people", "order_completed", "checkout_started"
TRIGGERS = {"post_purchase": ORDERS, "cart_recovery": CHECKOUTS, "second_purchase": ORDERS, "winback": PEOPLE}
STANDING = {  # check, as the README writes it -> the checks and the feeds they stand on
    "customerio_refused_nothing_later": {("customerio_refused_nothing_later", PEOPLE)},
    "identities_agree": {("identities_agree", PEOPLE)},
    "logic_<query>": {(f"logic_{logic.name}", logic.feed) for logic in CONTRACT.logic},
    "fresh": {("fresh", feed) for feed in (PEOPLE, ORDERS, CHECKOUTS)},
    "older_days_are_as_delivered": {("older_days_are_as_delivered", feed) for feed in FEEDS},
    "latency": {("latency", feed) for feed in FEEDS},
    "segment_<segment>": {(f"segment_{segment.name}", PEOPLE) for segment in CONTRACT.segments},
    "<journey>_reaches_nobody_it_must_not": {
        (f"{name}_reaches_nobody_it_must_not", TRIGGERS[name]) for name in ("cart_recovery", "winback")
    },
    "journey_<journey>_fires": {(f"journey_{name}_fires", feed) for name, feed in TRIGGERS.items()},
    "journey_<journey>_keeps_its_promise": {(f"journey_{name}_keeps_its_promise", feed) for name, feed in TRIGGERS.items()},
    "canary_<journey>": {("canary_cart_recovery", CHECKOUTS)},
}


def table(heading: str) -> list[list[str]]:
    """Rows of the README's table whose first column has that heading, without backquotes."""
    (rows,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    return [[cell.strip().replace("`", "") for cell in row.strip("|").split("|")] for row in rows.splitlines()]


OTHERS = {"readiness", "store/housekeeping"}
OF_THE_LOG = {"redshift/log", "redshift/check_results", "redshift/unlogged_days"}


def test_the_graph_is_four_assets_for_each_feed_that_is_on():
    """View, export, feed and log for the five enabled feeds; the feeds that are off have none."""
    kinds = ("redshift/views", "redshift/exports", "customerio/feeds", "redshift/deliveries")
    expected = {f"{kind}/{name}" for name in FEEDS for kind in kinds}
    assert {key.to_user_string() for key in GRAPH.get_all_asset_keys()} == expected | OTHERS | OF_THE_LOG


def test_without_the_delivery_log_nothing_of_it_is_there():
    """A user who may not write to the warehouse has three assets for each feed, and no job or schedule of the log."""
    defs = build_definitions(load_settings({"REDSHIFT_DELIVERY_LOG": "false"}), CONTRACT)
    expected = {key(name).to_user_string() for name in FEEDS for key in (view_key, export_key, feed_key)}
    assert {key.to_user_string() for key in defs.resolve_all_asset_keys()} == expected | OTHERS
    assert CATCH_UP_LOG not in {job.name for job in defs.resolve_all_job_defs()}
    assert "catch_up_log_hourly" not in {schedule.name for schedule in defs.get_repository_def().schedule_defs}


def test_feeds_depend_on_exports_depend_on_views_and_events_on_people():
    """The order of a day is part of the graph: view, export, people, events."""
    for name in FEEDS:
        assert GRAPH.get(view_key(name)).parent_keys == set()
        assert GRAPH.get(export_key(name)).parent_keys == {view_key(name)}
        people = set() if name == "people" else {feed_key("people")}
        assert GRAPH.get(feed_key(name)).parent_keys == {export_key(name), *people}
        assert GRAPH.get(delivery_log_key(name)).parent_keys == {feed_key(name), LOG_KEY}
    assert [GRAPH.get(key).parent_keys for key in (CHECK_RESULTS_KEY, UNLOGGED_KEY)] == [{LOG_KEY}, {LOG_KEY}]


def test_an_event_of_a_day_depends_on_the_people_of_the_same_day():
    """One day of an event feed needs that one day of its export and of the people feed, not the days before."""
    for parent in (feed_key("people"), export_key("order_completed")):
        mapping = GRAPH.get_partition_mapping(feed_key("order_completed"), parent)
        days = GRAPH.get(parent).partitions_def
        assert days is not None
        upstream = mapping.get_upstream_mapped_partitions_result_for_partitions(
            days.subset_with_partition_keys(["2026-11-20"]), days, days, datetime(2026, 11, 25, tzinfo=UTC)
        )
        assert set(upstream.partitions_subset.get_partition_keys()) == {"2026-11-20"}


def test_days_are_utc_and_one_shared_object():
    """Exports and feeds share one daily UTC partitions object; views have none."""
    daily = {id(GRAPH.get(key(name)).partitions_def) for name in FEEDS for key in (export_key, feed_key, delivery_log_key)}
    assert len(daily) == 1
    assert {GRAPH.get(view_key(name)).partitions_def for name in FEEDS} == {None}


@pytest.mark.parametrize("moment", ["2026-11-20T00:00:01+00:00", "2026-11-20T23:59:59+00:00"])
def test_today_is_open(moment: str):
    """From the first second of a UTC day to its last, that day is the newest partition."""
    daily = GRAPH.get(feed_key("people")).partitions_def
    assert daily is not None
    with time_machine.travel(moment, tick=False):
        days = daily.get_partition_keys()
    assert (days[0], days[-1], len(days)) == ("2026-11-01", "2026-11-20", 20)


@pytest.mark.parametrize("name", FEEDS)
def test_every_asset_says_what_it_is(name: str):
    """Kinds, group, owner, pool, description and the contract's columns in its order stand on every asset."""
    feed = CONTRACT.feed(name)
    for key, group, kinds, pool in (
        (view_key(name), "redshift_views", {"redshift", "view"}, "redshift"),
        (export_key(name), "redshift_exports", {"redshift", "parquet"}, "redshift"),
        (feed_key(name), "customerio_feeds", {"customerio", "api"}, "customerio"),
    ):
        node = GRAPH.get(key)
        assert (node.group_name, set(node.kinds), node.owners, node.pools) == (group, kinds, [feed.owner], {pool})
        assert node.description
        assert node.description.endswith(feed.description)
        shown = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in shown] == list(feed.columns)
        assert [column.constraints.nullable for column in shown] == [not column.required for column in feed.columns.values()]
        assert all(column.description for column in shown)


def test_the_checks_that_stop_a_day_are_those_that_must():
    """Contract, conservation and budget block what comes after; what compares days or reads back does not."""
    expected = {
        AssetCheckKey(AssetKey([*on.split("/"), feed]), check): is_blocking
        for check, (on, feeds, _, is_blocking) in CHECKS.items()
        for feed in feeds
    }
    standing = {AssetCheckKey(feed_key(feed), name): False for checks in STANDING.values() for name, feed in checks}
    assert {key: GRAPH.get_check_spec(key).blocking for key in GRAPH.asset_check_keys} == expected | standing
    assert all(GRAPH.get_check_spec(key).description for key in GRAPH.asset_check_keys)


def test_every_job_runs_in_one_process_and_has_its_assets():
    """The in-process executor everywhere: the default one starts a process a step and takes 16 times as long."""
    jobs = {job.name: job for job in DEFINITIONS.resolve_all_job_defs()}
    assert {name: job.executor_def.name for name, job in jobs.items()} == dict.fromkeys(jobs, "in_process")
    expected = {CREATE_VIEWS, SYNC_DAY, READ_BACK, CHECKS_JOB, CANARY, HOUSEKEEPING, READINESS, CATCH_UP_LOG, "__ASSET_JOB"}
    assert set(jobs) == expected
    assert jobs[CREATE_VIEWS].asset_layer.executable_asset_keys == {LOG_KEY, *(view_key(name) for name in FEEDS)}
    assert jobs[CATCH_UP_LOG].asset_layer.executable_asset_keys == {CHECK_RESULTS_KEY, UNLOGGED_KEY}
    synced = {key(name) for name in FEEDS for key in (export_key, feed_key, delivery_log_key)}
    assert jobs[SYNC_DAY].asset_layer.executable_asset_keys == synced
    checks = {name: {key.name for key in job.asset_layer.asset_graph.asset_check_keys} for name, job in jobs.items()}
    assert checks[SYNC_DAY] == {name for name in CHECKS if name != READ_BACK_CHECK}
    assert checks[READ_BACK] == {READ_BACK_CHECK}
    assert checks[CANARY] == {"canary_cart_recovery"}
    standing = {name for found in STANDING.values() for name, _ in found}
    assert checks[CHECKS_JOB] == {READ_BACK_CHECK, *standing} - checks[CANARY]
    assert jobs[SYNC_DAY].partitions_def is GRAPH.get(feed_key("people")).partitions_def
    assert {jobs[name].partitions_def for name in (READ_BACK, CHECKS_JOB, CANARY)} == {None}


SENTENCE = re.compile(r"^[A-Z`][^\n]{25,}?[.:]( |\n|$)")


def test_everything_says_in_sentences_what_it_is():
    """Assets, jobs, schedules and sensors begin with a sentence; each asset has an owner, kinds and a group."""
    repository = DEFINITIONS.get_repository_def()
    jobs = [job for job in DEFINITIONS.resolve_all_job_defs() if job.name != "__ASSET_JOB"]
    told = {key.to_user_string(): GRAPH.get(key).description for key in GRAPH.get_all_asset_keys()}
    told |= {found.name: found.description for found in (*jobs, *repository.schedule_defs, *repository.sensor_defs)}
    assert [name for name, text in told.items() if not SENTENCE.search(text or "")] == []
    nodes = [GRAPH.get(key) for key in GRAPH.get_all_asset_keys()]
    assert [node.key for node in nodes if not (node.owners and node.kinds) or node.group_name == "default"] == []


def test_every_check_says_what_red_means_and_what_to_do():
    """Under *About*, each check has a sentence of what it proves, what red means, and the way on."""
    told = {key.name: GRAPH.get_check_spec(key).description or "" for key in GRAPH.asset_check_keys}
    assert [name for name, text in told.items() if not SENTENCE.search(text)] == []
    steps = {
        name: re.findall(r"^\*\*(Red|What to do):\*\* ([a-z][^\n]{15,}\.)$", text, re.MULTILINE) for name, text in told.items()
    }
    assert {name for name, parts in steps.items() if [label for label, _ in parts] != ["Red", "What to do"]} == set()


def test_a_feed_leads_to_its_segments_and_journeys_in_customerio():
    """With the address of the workspace's pages a feed links each segment and campaign that uses it; without, it numbers them."""
    base, feed = "https://pages.example.com/journeys", CONTRACT.feed("checkout_started")
    for url, said in (
        (f"{base}/", f"[segment cart_recovery_audience]({base}/segments/5), [journey cart_recovery]({base}/campaigns/2)"),
        ("", "segment cart_recovery_audience (segment 5), journey cart_recovery (campaign 2)"),
    ):
        built = build_feed(feed, CONTRACT, daily_partitions(date(2026, 11, 1)), ui_url=url)
        assert f"\n\n**In Customer.io:** {said}.\n\n" in built.descriptions_by_key[feed_key(feed.name)]


def test_without_a_canary_there_is_none():
    """In production nothing made-up is sent unless somebody turned it on."""
    defs = build_definitions(load_settings({"RS_CIO_CANARY": "false"}), CONTRACT)
    names = {key.name for key in defs.resolve_asset_graph().asset_check_keys}
    assert {name for name in names if name.startswith("canary")} == set()
    assert CANARY not in {job.name for job in defs.resolve_all_job_defs()}
    assert "canary_hourly" not in {schedule.name for schedule in defs.get_repository_def().schedule_defs}


def test_schedules_and_sensors_are_off_until_somebody_turns_them_on():
    """Nothing is enabled by accident; each says what it does and is in the README."""
    repository = DEFINITIONS.get_repository_def()
    automation = [*repository.schedule_defs, *repository.sensor_defs]
    assert {found.name for found in automation} == {
        "sync_daily",
        "sync_today",
        "housekeeping_daily",
        "checks_daily",
        "canary_hourly",
        "catch_up_log_hourly",
        "checks_after_sync",
        "readiness_after_checks",
        "alerts",
        "late_data",
    }
    assert {found.default_status.value for found in automation} == {"STOPPED"}
    assert all(found.description for found in automation)
    assert {name for name, _ in table(r"schedule or sensor \(off until you turn it on\)")} == {found.name for found in automation}


def test_one_variable_turns_all_of_them_on():
    """A deployment that declares its automation runs it without a click for each; the checks by their schedule alone."""
    settings = load_settings({"RS_CIO_AUTOMATION": "true", "REDSHIFT_DELIVERY_LOG": "true"})
    repository = build_definitions(settings, CONTRACT).get_repository_def()
    automation = [*repository.schedule_defs, *repository.sensor_defs]
    stopped = [found.name for found in automation if found.default_status.value == "STOPPED"]
    assert stopped == ["checks_after_sync"], "it is in place of checks_daily"


@pytest.mark.parametrize("variable", ["RS_CIO_SYNC_CRON", "RS_CIO_CHECKS_CRON"])
@pytest.mark.parametrize("cron", ["at five", "0 5 * *", "0 5 * * * *", "61 5 * * *", "0 5 31 2 *"])
def test_a_time_that_is_none_is_named(variable: str, cron: str):
    """A cron string that Dagster would never run stops the definitions, with the variable's name and an example."""
    with pytest.raises(SettingsError, match=variable) as error:
        build_definitions(load_settings({variable: cron}), CONTRACT)
    assert "30 5 * * *" in error.value.next_step


@pytest.mark.parametrize("place", [".rs_cio/store", "s3://bucket/prefix"], ids=["local", "s3"])
def test_loading_opens_no_connection(place: str, monkeypatch: pytest.MonkeyPatch):
    """Definitions load and resolve where nothing listens: in CI, and while the warehouse is down."""
    asked: list[object] = []

    def refuse(_: object, address: object) -> None:
        asked.append(address)
        raise AssertionError(f"a connection to {address} was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    Definitions.validate_loadable(build_definitions(load_settings({"RS_CIO_STORE": place}), CONTRACT))
    assert asked == []


def validate(tmp_path: Path, contract: Path) -> subprocess.CompletedProcess[str]:
    """`dagster definitions validate -w workspace.yaml` with a contract and a Dagster home of the test's own."""
    home = tmp_path / "home"
    home.mkdir()
    given = {"RS_CIO_CONTRACT": str(contract), "DAGSTER_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "1"}
    command: Sequence[str] = [str(Path(sys.executable).with_name("dagster")), "definitions", "validate", "-w", "workspace.yaml"]
    return subprocess.run(command, cwd=PROJECT, env=environment(given), capture_output=True, text=True, timeout=120, check=False)


def test_the_workspace_validates(tmp_path: Path):
    """`dagster definitions validate` loads the one code location and exits 0."""
    done = validate(tmp_path, SHIPPED)
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location rs_cio_assets" in done.stdout + done.stderr


def test_a_broken_contract_does_not_validate_and_is_named(tmp_path: Path):
    """A mistake in the contract stops the location before anything runs, with file and line in the output."""
    folder = tmp_path / "contract"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    people = folder / "feeds" / "people.yaml"
    people.write_text(people.read_text().replace("kind: people", "kind: folk", 1))
    done = validate(tmp_path, folder)
    assert done.returncode != 0
    assert "feeds/people.yaml:2: kind: found 'folk'; allowed: 'merge'" in done.stdout + done.stderr


def test_the_readme_lists_the_shipped_feeds():
    """Feed, kind, event name and whether it is on: the README's table is the contract, in its order or another."""
    rows = {name: (kind, what, state) for name, kind, what, state in table("feed")}
    assert set(rows) == {feed.name for feed in CONTRACT.feeds}
    for feed in CONTRACT.feeds:
        kind, what, state = rows[feed.name]
        assert (kind, state) == (feed.kind.value, "on" if feed.enabled else "off")
        assert what == feed.event_name if feed.event_name else what
        assert feed.kind is not FeedKind.PEOPLE or what.startswith("attributes")


def test_the_readme_lists_the_assets_jobs_and_checks():
    """The other tables name exactly what the definitions hold, what has days and what stops a day."""
    assets = {name: partitions for name, partitions, _ in table("asset")}
    feeds = GRAPH.get_all_asset_keys() - {READINESS_KEY, HOUSEKEEPING_KEY, LOG_KEY, CHECK_RESULTS_KEY, UNLOGGED_KEY}
    expected = dict.fromkeys(OTHERS | OF_THE_LOG) | {
        f"{'/'.join(key.path[:-1])}/<feed>": GRAPH.get(key).partitions_def for key in feeds
    }
    assert {name: days == "UTC days" for name, days in assets.items()} == {name: bool(d) for name, d in expected.items()}
    jobs = {job.name for job in DEFINITIONS.resolve_all_job_defs()} - {"__ASSET_JOB"}
    assert {name for name, _ in table("job")} == jobs
    checks = {name: (on, stops) for name, on, _, stops in table("check")}
    assert set(checks) == {*CHECKS, *STANDING, "who_left_stays_gone"}  # the last is there once somebody may be deleted
    for name, (_, _, words, is_blocking) in CHECKS.items():
        assert checks[name][0] == words
        assert checks[name][1].startswith("no") is not is_blocking


@pytest.mark.parametrize("has_log", ["true", "false"])
def test_the_assets_that_make_check_expects_are_those_that_load(has_log: str, monkeypatch: pytest.MonkeyPatch):
    """`rs-cio contract assets --assert-loaded` names exactly the definitions' assets, with and without the delivery log."""
    monkeypatch.setenv("REDSHIFT_DELIVERY_LOG", has_log)
    result = CliRunner().invoke(rs_cio, ["contract", "assets", "--assert-loaded"])
    assert (result.exit_code, "store/housekeeping" in result.output) == (0, True), result.output
