"""The demo: one command from an empty folder to fourteen days of a shop in the Customer.io stand-in, and the UI.

It starts the sandbox's processes, loads the shop, creates the views, runs the days and the checks through Dagster, prints a
summary and waits. What it syncs with is the product, by settings only; a second run sends nothing.
"""

from __future__ import annotations

import importlib.resources
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
from dagster import DagsterInstance, Definitions
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rs_cio_assets.assets import daily_partitions
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.processes import (
    ManagedProcess,
    accepts_connections,
    answers_http,
    command_line,
    require_free_ports,
)
from rs_cio_assets.sandbox.shop import ShopState, ensure_shop, load_cdnow
from rs_cio_assets.settings import Settings, environment, load_settings
from rs_cio_assets.summary import FeedTotals, add_up, checks_table, feeds_table
from rs_cio_assets.sync import JobOutcome, create_views, days_between, read_back, sync_days

SEED = 20_261_124
# Opens the graph with every group unfolded; the form of the parameter is that of the UI's own links.
_ALL_GROUPS = ",".join(f"global@global:{group}" for group in ("redshift_views", "redshift_exports", "customerio_feeds"))


@dataclass(frozen=True)
class Ports:
    """Where the demo listens, always on 127.0.0.1."""

    redshift: int
    customerio: int
    dagster: int

    def require_free(self) -> None:
        """Raises: ConfigurationError naming every taken port."""
        require_free_ports(
            {"Redshift": self.redshift, "Customer.io": self.customerio, "the Dagster UI": self.dagster},
            {"Redshift": "REDSHIFT_PORT", "Customer.io": "CUSTOMERIO_PORT", "the Dagster UI": "DAGSTER_PORT"},
        )


@dataclass(frozen=True)
class DemoOptions:
    """What to show. *first_day* to *last_day* are UTC days, both synced; *data* is the CDNOW file."""

    home: Path
    ports: Ports
    first_day: date
    last_day: date
    customers: int
    days_per_run: int = 1
    data: Path | None = None
    is_once: bool = False


def run_demo(options: DemoOptions, console: Console) -> int:
    """Do all of it. Returns 0 when every run succeeded and every check passed, else 1.

    Raises: ConfigurationError when a day is no partition, a port is taken, a process does not start, or another shop is loaded.
    """
    started = time.monotonic()
    _require_partitions(options.first_day, options.last_day)
    with sandbox(options.home, options.ports, console) as running:
        console.print(f"[bold]2/4[/] {_load_shop(options, running.settings, console)}")
        defs = build_definitions(running.settings)
        outcomes = [create_views(defs, running.instance)]
        outcomes += _sync(defs, running.instance, options, console)
        console.print("[bold]4/4[/] Checks: asking Customer.io for a sample of what was delivered")
        outcomes.append(read_back(defs, running.instance))
        is_good = _summarize(outcomes, running.settings, console, time.monotonic() - started)
        wait_for_ui(running, console)
        if not options.is_once:
            console.print("Both stay open until Ctrl-C. `make advance` lets the shop's time go on; `make demo` again is quick.")
            wait_until_interrupted(running.processes)
    return 0 if is_good else 1


def _require_partitions(first_day: date, last_day: date) -> None:
    daily = daily_partitions(load_settings(environment({})).start_date)
    if not (daily.has_partition_key(first_day.isoformat()) and daily.has_partition_key(last_day.isoformat())):
        raise ConfigurationError(
            f"{first_day} to {last_day} is not within the days that can be synced, "
            f"{daily.get_first_partition_key()} to {daily.get_last_partition_key()} (UTC)",
            next_step="choose other days with FROM and TO, or set RS_CIO_START_DATE to an earlier day",
        )


@dataclass(frozen=True)
class Sandbox:
    """The running sandbox: settings that reach it, the Dagster instance of its UI, and its processes (the UI last)."""

    settings: Settings
    instance: DagsterInstance
    dagster_url: str
    processes: Sequence[ManagedProcess]


@contextmanager
def sandbox(home: Path, ports: Ports, console: Console) -> Iterator[Sandbox]:
    """The two stand-ins and the Dagster UI, running until the block ends; yields what reaches them.

    Raises: ConfigurationError when a port is taken or a process does not start.
    """
    if environment({}).get("RS_CIO_MODE", "sandbox") != "sandbox":
        raise ConfigurationError(
            "RS_CIO_MODE is set to production; the demo and the stand-ins are for the sandbox",
            next_step="unset RS_CIO_MODE, or run `dagster dev -w workspace.yaml` against production",
        )
    if not Path("workspace.yaml").exists():
        raise ConfigurationError("there is no workspace.yaml here", next_step="run the command in the project's folder")
    ports.require_free()
    console.print("[bold]1/4[/] Starting the Redshift stand-in, the Customer.io stand-in and the Dagster UI (127.0.0.1)")
    dagster_home = _dagster_home(home)
    environ = environment(
        {
            "REDSHIFT_PORT": str(ports.redshift),
            "CUSTOMERIO_TRACK_URL": f"http://127.0.0.1:{ports.customerio}",
            "CUSTOMERIO_APP_URL": f"http://127.0.0.1:{ports.customerio}",
            "DAGSTER_HOME": str(dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }
    )
    environ.setdefault("RS_CIO_STORE", str(home.resolve() / "store"))
    settings = load_settings(environ)
    logs = home / "logs"
    with ExitStack() as stack:
        # Its storage is made here: two processes that make it at the same time get in each other's way.
        instance = stack.enter_context(DagsterInstance.from_config(str(dagster_home)))
        processes = [
            stack.enter_context(ManagedProcess(name, command, logs / log, environ))
            for name, command, log in (
                ("the Redshift stand-in", _stand_in("redshift", ports.redshift, home), "redshift.log"),
                ("the Customer.io stand-in", _stand_in("customerio", ports.customerio, home), "customerio.log"),
                ("the Dagster UI", _dagster_dev(ports.dagster), "dagster.log"),
            )
        ]
        processes[0].wait_until(lambda: accepts_connections(ports.redshift))
        processes[1].wait_until(lambda: answers_http(f"{settings.customerio.app_url}/sandbox/counts"))
        yield Sandbox(settings, instance, f"http://127.0.0.1:{ports.dagster}", processes)


def wait_until_interrupted(processes: Sequence[ManagedProcess]) -> None:
    """Wait for Ctrl-C. Raises: ConfigurationError when one of *processes* ends by itself."""
    try:
        while all(process.is_running for process in processes):
            time.sleep(0.5)
    except KeyboardInterrupt:
        return
    ended = next(process for process in processes if not process.is_running)
    raise ConfigurationError(f"{ended.name} ended; the end of {ended.log} says:\n{ended.log_end()}")


def _stand_in(name: str, port: int, home: Path) -> list[str]:
    return command_line("sandbox", name, "--port", str(port), "--data", str(home / name))


def _dagster_dev(port: int) -> list[str]:
    python, *_ = command_line()
    dagster = [python, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    return [python, "-m", "rs_cio_assets.sandbox.guard", *dagster]


def _dagster_home(home: Path) -> Path:
    folder = (home / "dagster").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shipped = importlib.resources.files("rs_cio_assets.sandbox").joinpath("dagster.yaml").read_text()
    (folder / "dagster.yaml").write_text(shipped)
    return folder


def _load_shop(options: DemoOptions, settings: Settings, console: Console) -> str:
    with _progress(console) as progress:
        task = progress.add_task("loading the shop", total=None)

        def on_progress(what: str) -> None:
            progress.update(task, description=what)

        today = datetime.now(UTC).date()
        if options.data:
            state = load_cdnow(settings.redshift, options.data, last_day=today - timedelta(days=1), on_progress=on_progress)
        else:
            state = ensure_shop(settings.redshift, today=today, customers=options.customers, seed=SEED, on_progress=on_progress)
    return _shop_sentence(state)


def _shop_sentence(state: ShopState) -> str:
    return f"The shop: {state.orders:,} orders of {state.customers:,} customers, {state.first_day} to {state.last_day}"


def _sync(defs: Definitions, instance: DagsterInstance, options: DemoOptions, console: Console) -> list[JobOutcome]:
    days = days_between(options.first_day, options.last_day)
    per_run = "one Dagster run each" if options.days_per_run == 1 else f"{options.days_per_run} days in a Dagster run"
    console.print(f"[bold]3/4[/] Syncing {len(days)} days, {days[0]} to {days[-1]}, {per_run}, newest first")
    outcomes = []
    with _progress(console) as progress:
        task = progress.add_task("syncing", total=len(days))
        for outcome in sync_days(defs, instance, days, reason="demo", days_per_run=options.days_per_run):
            outcomes.append(outcome)
            progress.update(task, advance=len(outcome.days), description=f"synced {outcome.label}")
            if not console.is_terminal:
                totals = add_up([outcome])
                console.print(
                    f"      {outcome.label}: {sum(t.rows for t in totals):,} rows, {sum(t.delivered for t in totals):,} delivered"
                )
            for failure in outcome.failures:
                console.print(f"[red]{outcome.label} failed:[/] {escape(failure)}", highlight=False)
    return outcomes


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("      {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _summarize(outcomes: Sequence[JobOutcome], settings: Settings, console: Console, seconds: float) -> bool:
    totals = add_up(outcomes)
    console.print(feeds_table(totals))
    console.print(checks_table(outcomes))
    counts = httpx.get(f"{settings.customerio.app_url}/sandbox/counts", timeout=30).json()
    console.print(f"Customer.io now holds {counts['people']:,} people and {counts['events']:,} events.")
    console.print(_what_was_sent(totals))
    failed_runs = [outcome for outcome in outcomes if not outcome.is_success]
    failed_checks = [check for outcome in outcomes for check in outcome.checks if not check.is_passed]
    verdict = "[green]All is well" if not failed_runs and not failed_checks else "[red]Not all is well"
    console.print(
        f"{verdict}[/]: {len(outcomes) - len(failed_runs)} of {len(outcomes)} runs succeeded, "
        f"{len(failed_checks)} checks failed, {seconds:.0f} s."
    )
    return not failed_runs and not failed_checks


def _what_was_sent(totals: Sequence[FeedTotals]) -> str:
    sent = sum(total.delivered for total in totals)
    if sent:
        return f"{sent:,} operations were sent."
    return f"0 operations were sent: Customer.io already holds all {sum(total.unchanged for total in totals):,} rows."


def wait_for_ui(running: Sandbox, console: Console) -> None:
    """Wait until the Dagster UI answers, and say where it and the stand-in's page are."""
    with console.status("waiting for the Dagster UI"):
        running.processes[-1].wait_until(lambda: answers_http(f"{running.dagster_url}/server_info"))
    console.print(f"Dagster UI        {running.dagster_url}/asset-groups?expanded={_ALL_GROUPS}")
    console.print(f"Customer.io page  {running.settings.customerio.app_url}/")
