"""The demo's steps, in the order in which a team goes live: history, then segments and journeys, then live days, then checks.

What it syncs with is the product, by settings only; a second run sends nothing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rs_cio_assets.assets import daily_partitions
from rs_cio_assets.assets.run_config import LATE_DATA
from rs_cio_assets.contract import SHIPPED, Contract, FeedKind, load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.demo.faults import FAULTS, Fault, copy_contract, plant
from rs_cio_assets.demo.sandbox import Ports, Sandbox, reload_definitions, sandbox, wait_for_ui, wait_until_interrupted
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.customerio.retention import has_journeys, make_journeys
from rs_cio_assets.sandbox.shop import ShopState, advance_shop, ensure_shop, load_cdnow
from rs_cio_assets.settings import Settings, environment, load_settings
from rs_cio_assets.store import load_manifest, open_store
from rs_cio_assets.summary import FeedTotals, add_up, checks_table, feeds_table
from rs_cio_assets.sync import (
    JobOutcome,
    create_views,
    days_between,
    read_back,
    run_checks,
    sync_days,
    sync_feed,
    write_readiness,
)

SEED = 20_261_124
SHOP_AGE_DAYS = 120  # long enough for people who became inactive, short enough to bring all of them in seconds


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
    shop_age_days: int = SHOP_AGE_DAYS
    seed: int = SEED
    fault: str | None = None


def run_demo(options: DemoOptions, console: Console) -> int:
    """Do all of it. Returns 0 when every run succeeded and no check failed (with a fault: when it was caught), else 1.

    Raises: ConfigurationError when a day is no partition, a port is taken, a process does not start, another shop is loaded, or
    nobody knows the fault.
    """
    started = time.monotonic()
    _require_partitions(options.first_day, options.last_day)
    fault = _fault(options)
    home = options.home / f"fault-{fault.id}" if fault else options.home
    contract = _contract_of_its_own(home) if fault else None
    with sandbox(home, options.ports, console, contract=contract, step="[bold]1/5[/] ") as running:
        outcomes = Demo(options, running, console).run()
        is_good = _summarize(outcomes, running.settings, console, time.monotonic() - started)
        if fault:
            is_good = _show_fault(fault, running, console)
        wait_for_ui(running, console)
        if fault:
            reload_definitions(running)
            console.print(f"The check         {_check_url(fault, running)}")
        if not options.is_once:
            console.print(
                "Both stay open until Ctrl-C. `make advance` lets the shop's time go on; `make dev` opens both again at once."
            )
            wait_until_interrupted(running.processes, console)
    return 0 if is_good else 1


def _fault(options: DemoOptions) -> Fault | None:
    if options.fault is None:
        return None
    if options.fault not in FAULTS or options.data:
        raise ConfigurationError(
            f"no fault {options.fault} can be planted in this shop",
            next_step=f"choose one of {', '.join(FAULTS)} (docs/faults.md)",
        )
    return FAULTS[options.fault]


def _contract_of_its_own(home: Path) -> Path:
    """A fresh folder for the sandbox of a fault, with a copy of the contract in it."""
    shutil.rmtree(home, ignore_errors=True)
    source = load_settings(environment({})).contract or SHIPPED
    return copy_contract(source, home / "contract")


def _show_fault(fault: Fault, running: Sandbox, console: Console) -> bool:
    """Plant it in the sandbox that is in order, and say what was caught."""
    console.print(f"[bold]Fault {fault.id}[/]: {fault.what}", highlight=False)
    caught = plant(fault, running.settings, running.instance, datetime.now(UTC), has_all_checks=True)
    console.print(checks_table(caught.outcomes))
    said = caught.refusal or (caught.check.description if caught.check else "nothing")
    is_caught = caught.is_as_expected(fault)
    who = f"{fault.asset}: {fault.check}" if fault.check else "The definitions refuse to load"
    console.print(f"[{'green' if is_caught else 'red'}]{'Caught' if is_caught else 'Not caught'}[/] by {who}: {escape(said)}")
    return is_caught


def _check_url(fault: Fault, running: Sandbox) -> str:
    place = f"/assets/{fault.asset}?view=checks&checkDetail={fault.check}" if fault.check else "/locations"
    return f"{running.dagster_url}{place}"


class Demo:
    """The steps, over a running sandbox."""

    def __init__(self, options: DemoOptions, running: Sandbox, console: Console, contract: Contract | None = None) -> None:
        self.options, self.running, self.console = options, running, console
        self.settings, self.instance = running.settings, running.instance
        self.contract = contract or load_contract(self.settings.contract)
        self.defs = build_definitions(self.settings, self.contract)
        self.today = datetime.now(UTC).date()
        self._shop: ShopState
        # Journeys are live business: they need every person, and the days up to now.
        self.has_journeys = options.data is None and options.last_day == self.today - timedelta(days=1)

    def run(self) -> list[JobOutcome]:
        """All of them; what each run did."""
        self.console.print(f"[bold]2/5[/] {self._load_shop()}")
        outcomes = [create_views(self.defs, self.instance), *self.history()]
        if self.has_journeys:
            outcomes += self.go_live()
        self.console.print("[bold]5/5[/] Checks: asking the warehouse and Customer.io whether they say the same")
        checked = (run_checks if self.has_journeys else read_back)(self.defs, self.instance)
        self._say_failures(checked)
        return [*outcomes, checked, write_readiness(self.defs, self.instance)]

    def history(self) -> Iterator[JobOutcome]:
        """The days asked for, and everybody whose latest change is older: a segment is right only with all people."""
        options, console = self.options, self.console
        days = days_between(options.first_day, options.last_day)
        per_run = "one Dagster run each" if options.days_per_run == 1 else f"{options.days_per_run} days in a Dagster run"
        console.print(f"[bold]3/5[/] Syncing {len(days)} days, {days[0]} to {days[-1]}, {per_run}, newest first")
        # Where campaigns run already, what these days hold that was not sent is live business that comes late, and no backfill.
        reason = LATE_DATA if has_journeys(self.settings.customerio.app_url) else "demo"
        with _progress(console) as progress:
            task = progress.add_task("syncing", total=len(days))
            for outcome in sync_days(self.defs, self.instance, days, reason=reason, days_per_run=options.days_per_run):
                progress.update(task, advance=len(outcome.days), description=f"synced {outcome.label}")
                self._say(outcome)
                yield outcome
            if self.has_journeys:
                yield from self._everybody_else(progress)

    def go_live(self) -> Iterator[JobOutcome]:
        """Make segments, start campaigns, and sync today: what happens from here on starts journeys."""
        self.console.print(
            "[bold]4/5[/] Going live: segments and campaigns are made in Customer.io, then today is synced as it is so far"
        )
        if not has_journeys(self.settings.customerio.app_url):
            make_journeys(self.settings.customerio.app_url)
        if self._shop.loaded_until == datetime.combine(self.today, datetime.min.time()):  # else today is under way already
            advance_shop(self.settings.redshift, until=datetime.now(UTC), late_orders=0, has_new_links=False)
        for outcome in sync_days(self.defs, self.instance, [self.today.isoformat()], reason="demo"):
            self._say(outcome)
            yield outcome

    def _everybody_else(self, progress: Progress) -> Iterator[JobOutcome]:
        """People whose row stands on an earlier day, in one run; passed over where every day was read before."""
        last = self.options.first_day - timedelta(days=1)
        days = days_between(max(self.settings.start_date, self._shop.opened_on), last)
        store = open_store(self.settings.store)
        for feed in self.contract.feeds_of(FeedKind.PEOPLE):
            missing = [day for day in days if load_manifest(store, feed.name, day) is None]
            if missing:
                progress.add_task(f"everybody else: {feed.name}, {len(days)} earlier days in one run", total=None)
                outcome = sync_feed(self.defs, self.instance, feed.name, days, reason="demo")
                self._say(outcome)
                yield outcome

    def _load_shop(self) -> str:
        with _progress(self.console) as progress:
            task = progress.add_task("loading the shop", total=None)

            def on_progress(what: str) -> None:
                progress.update(task, description=what)

            redshift, options = self.settings.redshift, self.options
            if options.data:
                last_day = self.today - timedelta(days=1)
                self._shop = load_cdnow(redshift, options.data, last_day=last_day, on_progress=on_progress)
            else:
                self._shop = ensure_shop(
                    redshift,
                    today=self.today,
                    customers=options.customers,
                    seed=options.seed,
                    age_days=options.shop_age_days,
                    on_progress=on_progress,
                    has_new_links=False,  # merges are off as shipped: a guest would stay beside the customer they became
                )
        shop = self._shop
        return f"The shop: {shop.orders:,} orders of {shop.customers:,} customers, {shop.first_day} to {shop.last_day}"

    def _say(self, outcome: JobOutcome) -> None:
        if not self.console.is_terminal:
            totals = add_up([outcome])
            self.console.print(
                f"      {outcome.label}: {sum(t.rows for t in totals):,} rows, {sum(t.delivered for t in totals):,} delivered"
            )
        self._say_failures(outcome)

    def _say_failures(self, outcome: JobOutcome) -> None:
        for failure in outcome.failures:
            self.console.print(f"[red]{outcome.label} failed:[/] {escape(failure)}", highlight=False)


def _require_partitions(first_day: date, last_day: date) -> None:
    daily = daily_partitions(load_settings(environment({})).start_date)
    if not (daily.has_partition_key(first_day.isoformat()) and daily.has_partition_key(last_day.isoformat())):
        raise ConfigurationError(
            f"{first_day} to {last_day} is not within the days that can be synced, "
            f"{daily.get_first_partition_key()} to {daily.get_last_partition_key()} (UTC)",
            next_step="choose other days with FROM and TO, or set RS_CIO_START_DATE to an earlier day",
        )


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    with Progress(
        TextColumn("      {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as progress:
        yield progress


def _summarize(outcomes: Sequence[JobOutcome], settings: Settings, console: Console, seconds: float) -> bool:
    totals = add_up(outcomes)
    console.print(feeds_table(totals))
    console.print(checks_table(outcomes))
    counts = httpx.get(f"{settings.customerio.app_url}/sandbox/counts", timeout=30).json()
    console.print(f"Customer.io now holds {counts['people']:,} people and {counts['events']:,} events.")
    console.print(_what_was_sent(totals))
    failed_runs = [outcome for outcome in outcomes if not outcome.is_success]
    checks = [check for outcome in outcomes for check in outcome.checks if not check.is_passed]
    failed_checks = [check for check in checks if check.is_error]
    waiting = sum(check.is_not_ready for check in checks)
    warned = len(checks) - len(failed_checks) - waiting
    others = f"{f', {warned} warn' if warned else ''}{f', {waiting} are not ready yet and say why' if waiting else ''}"
    verdict = "[green]All is well" if not failed_runs and not failed_checks else "[red]Not all is well"
    console.print(
        f"{verdict}[/]: {len(outcomes) - len(failed_runs)} of {len(outcomes)} runs succeeded, "
        f"{len(failed_checks)} checks failed{others}, {seconds:.0f} s."
    )
    return not failed_runs and not failed_checks


def _what_was_sent(totals: Sequence[FeedTotals]) -> str:
    sent = sum(total.delivered for total in totals)
    if sent:
        return f"{sent:,} operations were sent."
    return f"0 operations were sent: Customer.io already holds all {sum(total.unchanged for total in totals):,} rows."
