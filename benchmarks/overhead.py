"""What Dagster costs on top of the work: of an empty day, of a day with rows, and of a backfill of many days of all feeds.

`python -m benchmarks.overhead`. A demo shop with its stand-ins and a real `dagster dev` in a temporary folder. *Own work* is the
time in which the same functions that the assets call (read the view, stage, profile and judge, deliver) do the same days, in one
process, one after another, without Dagster, into a store and a Customer.io stand-in that are empty.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.storage.tags import BACKFILL_ID_TAG
from rich.console import Console

from benchmarks.own_work import sync_without_dagster
from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.contract import load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.demo import Ports, sandbox
from rs_cio_assets.demo.sandbox import Sandbox
from rs_cio_assets.sandbox.processes import ManagedProcess, answers_http, command_line
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.settings import Settings, environment
from rs_cio_assets.sync import backfill_days, create_views, days_between, sync_days

SEED = 20_261_126
REPEATS = 3
# The job in the UI; assets selected in the UI, whose runs bring every check of theirs; the command line, in its own process.
WAYS = ("job", "assets", "process")
CUSTOMERS = 8_000  # new in the shop's first year, as in the demo; 200,000 make about 1,000 rows of all feeds a day
ENDED = {DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED}
_LAUNCH = """
mutation ($tags: [ExecutionTag!]) {
  launchRun(executionParams: {
    selector: {repositoryName: "__repository__", repositoryLocationName: "rs_cio_assets", jobName: "sync_day"}
    executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}"""

_SYNC_DAY = {
    "partitionSetName": "sync_day_partition_set",
    "repositorySelector": {"repositoryName": "__repository__", "repositoryLocationName": "rs_cio_assets"},
}


def main() -> None:
    """Load, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=90, help="days of the backfill; 0: none")
    parser.add_argument("--customers", type=int, default=CUSTOMERS, help="new in the shop's first year")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="days of each kind, done each way (median); 0: none")
    parser.add_argument("--days-per-run", type=int, default=1, help="of the way process")
    parser.add_argument("--way", choices=WAYS, default="job", help="who launches the backfill")
    parser.add_argument("--json", type=Path, help="also write every figure here")
    parser.add_argument("--dagster-yaml", type=Path, help="in place of the sandbox's, to try settings")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="rs-cio-overhead-") as folder, ExitStack() as stack:
        # Installed packages may have no bytecode (a read-only image): what is compiled is kept, as on a user's own machine.
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/pycache"
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        bench = Bench(stack, Path(folder), options)
        figures = {}
        if options.repeats:
            figures = {"empty day": bench.single(bench.empty_days), "day with rows": bench.single(bench.row_days)}
        for what, found in figures.items():
            click.echo(f"\n{what}: {', '.join(f'{name} {value:,}' for name, value in found.items())}")
        if options.days:
            figures["backfill"] = bench.backfill()
            click.echo(f"\nbackfill: {', '.join(f'{name} {value:,}' for name, value in figures['backfill'].items())}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


class Bench:
    """The running sandbox with a shop in it, and the two kinds of days."""

    def __init__(self, stack: ExitStack, home: Path, options: argparse.Namespace) -> None:
        self._home, self._repeats, self._way, self._days_per_run = home, options.repeats, options.way, options.days_per_run
        self._today = datetime.now(UTC).date()
        age_days = options.days + 2 * self._repeats + 2
        self.sandbox = _started(stack, home, options.dagster_yaml)
        self.settings, self.instance = self.sandbox.settings, self.sandbox.instance
        self.contract = load_contract(self.settings.contract)
        self.defs = build_definitions(self.settings, self.contract)
        shop = ensure_shop(
            self.settings.redshift,
            today=self._today,
            customers=options.customers,
            seed=SEED,
            age_days=age_days,
            on_progress=lambda _: None,
            has_new_links=False,
        )
        _require(create_views(self.defs, self.instance).is_success, "views")
        before_the_shop = shop.opened_on - timedelta(days=40)
        first, *self.empty_days = days_between(before_the_shop, before_the_shop + timedelta(days=2 * self._repeats))
        self._launched(first)  # the code server has its definitions, and Python its bytecode
        self.row_days = self._until_yesterday(2 * self._repeats, end=1)
        self.backfill_days = self._until_yesterday(options.days, end=1 + 2 * self._repeats)

    def _until_yesterday(self, count: int, end: int) -> list[str]:
        last = self._today - timedelta(days=end)
        return days_between(last - timedelta(days=count - 1), last) if count else []

    def single(self, days: Sequence[str]) -> dict[str, float]:
        """Medians of one day's seconds: engines alone, in process, launched through the daemon."""
        work = self._own_work(days)
        ours, rows = [seconds for seconds, _ in work], [rows for _, rows in work]
        in_process = [_seconds(lambda d=day: self._in_process(d)) for day in days[: self._repeats]]
        launched = [self._launched(day) for day in days[self._repeats :]]
        return {
            "rows": round(statistics.median(rows)),
            "own work (s)": _median(ours),
            "in one process (s)": _median(in_process),
            "Dagster's share in one process (s)": round(_median(in_process) - _median(ours), 2),
            "launched, from the click to the end (s)": _median([total for total, _, _ in launched]),
            "of it in the queue (s)": _median([queued for _, queued, _ in launched]),
            "of it starting the process (s)": _median([starting for _, _, starting in launched]),
        }

    def _own_work(self, days: Sequence[str]) -> list[tuple[float, int]]:
        """Seconds and rows of each day, without Dagster, into places of their own."""
        with ExitStack() as stack:
            settings = _elsewhere(stack, self.settings, self._home / f"own-{days[0]}")
            took = []
            for day in days:
                started = time.monotonic()
                rows = sync_without_dagster(settings, self.contract, day)
                took.append((time.monotonic() - started, rows))
            return took

    def _in_process(self, day: str) -> None:
        (outcome,) = sync_days(self.defs, self.instance, [day], reason="bench")
        _require(outcome.is_success, day, outcome.failures)

    def _launched(self, day: str) -> tuple[float, float, float]:
        started = time.monotonic()
        answer = self._ask(_LAUNCH, {"tags": [{"key": "dagster/partition", "value": day}]})["launchRun"]
        _require("run" in answer, day, [str(answer)])
        run_id = answer["run"]["runId"]
        while (record := self.instance.get_run_record_by_id(run_id)) is None or record.dagster_run.status not in ENDED:
            time.sleep(0.1)
        total = time.monotonic() - started
        _require(record.dagster_run.status is DagsterRunStatus.SUCCESS, day)
        queued, starting = _waits(self.instance, run_id)
        return total, queued, starting

    def backfill(self) -> dict[str, float]:
        """All feeds of many days, beside the sum of their own work."""
        days = self.backfill_days
        work = self._own_work(days)
        own_s = sum(seconds for seconds, _ in work)
        started_at = time.time()
        if self._way == "process":
            feeds = [feed.name for feed in self.contract.enabled_feeds]
            config = {"on_backfill": "accept"}
            outcomes = list(
                backfill_days(self.defs, self.instance, dict.fromkeys(days, feeds), config, days_per_run=self._days_per_run)
            )
            _require(all(outcome.is_success for outcome in outcomes), "backfill")
            found = RunsFilter(run_ids=[outcome.run_id for outcome in outcomes])
        else:
            found = RunsFilter(tags={BACKFILL_ID_TAG: self._launched_backfill(days)})
        reported_s = time.time() - started_at
        runs = self.instance.get_run_records(found)
        wall_s = max(run.end_time or 0 for run in runs) - started_at
        return {
            "days": len(days),
            "rows": sum(rows for _, rows in work),
            "own work (s)": round(own_s, 1),
            "until the last day is materialized (s)": round(wall_s, 1),
            "times its own work": round(wall_s / own_s, 2),
            "per day (s)": round(wall_s / len(days), 2),
            "until Dagster says so (s)": round(reported_s, 1),
            "until the first run began (s)": round(min(run.start_time or 0 for run in runs) - started_at, 1),
            "runs": len(runs),
            "a run, median (s)": _median([(run.end_time or 0) - (run.start_time or 0) for run in runs]),
        }

    def _launched_backfill(self, days: Sequence[str]) -> str:
        """Launch as the UI does, and wait; the backfill's id."""
        selected = [{"path": list(key(feed.name).path)} for feed in self.contract.enabled_feeds for key in (export_key, feed_key)]
        what = {"assetSelection": selected} if self._way == "assets" else {"selector": _SYNC_DAY}
        answer = self._ask(_BACKFILL, {"params": {**what, "partitionNames": days}})["launchPartitionBackfill"]
        _require("backfillId" in answer, "backfill", [str(answer)])
        while (found := self.instance.get_backfill(answer["backfillId"])) is None or found.status is BulkActionStatus.REQUESTED:
            time.sleep(0.5)
        _require(found.status is BulkActionStatus.COMPLETED_SUCCESS, f"backfill: {found.status}")
        return answer["backfillId"]

    def _ask(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.post(
            f"{self.sandbox.dagster_url}/graphql", json={"query": query, "variables": variables}, timeout=120
        ).json()
        _require(not answer.get("errors"), "GraphQL", [str(answer.get("errors"))])
        return answer["data"]


def _started(stack: ExitStack, home: Path, dagster_yaml: Path | None) -> Sandbox:
    """The sandbox, with its daemon at work."""
    running = stack.enter_context(sandbox(home / "shop", Ports(*_ports()), Console(quiet=True), dagster_yaml=dagster_yaml))
    running.processes[-1].wait_until(lambda: answers_http(f"{running.dagster_url}/server_info"))
    deadline = time.monotonic() + 120
    while not all(status.healthy for status in running.instance.get_daemon_statuses().values()):
        _require(time.monotonic() < deadline, "the daemon did not start")
        time.sleep(0.5)
    return running


def _elsewhere(stack: ExitStack, settings: Settings, home: Path) -> Settings:
    """The same warehouse, and an empty store and workspace."""
    (port,) = _ports(1)
    url = f"http://127.0.0.1:{port}"
    command = command_line("sandbox", "customerio", "--port", str(port), "--data", str(home / "customerio"))
    process = stack.enter_context(ManagedProcess("a Customer.io stand-in", command, home / "customerio.log", environment({})))
    process.wait_until(lambda: answers_http(f"{url}/sandbox/counts"))
    customerio = settings.customerio.model_copy(update={"track_url": url, "app_url": url})
    return settings.model_copy(update={"store": str(home / "store"), "customerio": customerio})


def _waits(instance: DagsterInstance, run_id: str) -> tuple[float, float]:
    """Seconds in the queue, and from there to the first step."""
    at = {}
    for entry in instance.all_logs(run_id):
        if entry.dagster_event:
            at.setdefault(entry.dagster_event.event_type_value, entry.timestamp)
    return at["PIPELINE_STARTING"] - at["PIPELINE_ENQUEUED"], at["PIPELINE_START"] - at["PIPELINE_STARTING"]


def _ports(count: int = 4) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on at this moment."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _seconds(do: Callable[[], None]) -> float:
    started = time.monotonic()
    do()
    return time.monotonic() - started


def _median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 2)


def _require(is_well: bool, what: str, why: Sequence[str] = ()) -> None:
    if not is_well:
        raise RuntimeError("; ".join([what, *why]))


if __name__ == "__main__":
    main()
