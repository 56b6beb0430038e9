"""The command `rs-cio backfill`: its options, its progress by day, and what it says in the end. Shows no row."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rs_cio_assets.cli_options import (
    console,
    dagster_home_option,
    feed_argument,
    json_option,
    loaded,
    on_backfill_option,
    print_json,
    progress,
    range_options,
    whole_range,
)

if TYPE_CHECKING:
    from rs_cio_assets.backfill import BackfilledDay
    from rs_cio_assets.backfill_plan import BackfillPlan, DayPlan, FeedPlan

_NUMBER = re.compile(r"\d+")
DAYS_SHOWN = 14  # of a feed; more are added up by month


class RangeType(click.ParamType):
    """Days as FROM..TO, or one day."""

    name = "FROM..TO"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[date, date]:
        """The first and the last day. Fails, as click's types do, with an example."""
        if isinstance(value, tuple):
            return value
        first, dots, last = value.partition("..")
        try:
            days = (date.fromisoformat(first), date.fromisoformat(last if dots else first))
        except ValueError:
            self.fail(f"{value!r} are no days such as 2026-11-01..2026-11-20", param, ctx)
        if days[0] > days[1]:
            self.fail(f"{days[0]} is after {days[1]}", param, ctx)
        return days


@click.command(short_help="Run a range of days of a feed, or say what that would take.")
@feed_argument
@click.argument("days", type=RangeType(), metavar="[FROM..TO]", required=False)
@range_options
@click.option("--plan", "is_plan", is_flag=True, help="Say rows, operations, requests, time and journeys at risk; send nothing.")
@click.option(
    "--only",
    type=click.Choice(["missing-and-failed", "missing", "failed", "all"]),
    default="missing-and-failed",
    show_default=True,
    help="missing: never delivered; failed: the latest run failed; all: also what was delivered, of which only changes are sent.",
)
@click.option(
    "--days-per-run",
    type=click.IntRange(1, 31),
    default=1,
    show_default=True,
    help="Days in one Dagster run: quicker for many small days. A run that fails is followed by one for each of its days.",
)
@on_backfill_option
@dagster_home_option
@json_option
def backfill(
    *,
    feed: str,
    days: tuple[date, date] | None,
    first_day: date | None,
    last_day: date | None,
    day: date | None,
    is_plan: bool,
    only: str,
    days_per_run: int,
    on_backfill: str,
    dagster_home: Path,
    as_json: bool,
) -> None:
    """Export and deliver the days FROM..TO (or --from, --to, --day) of FEED, or of `all` feeds, newest first, a Dagster run each.

    By default only days that are missing or failed, so that the same command goes on where it was stopped. Before the first run
    it is asked whether rows of any of the days could start a running campaign. Exits 1 when a day did not go well.

    \b
    Example: rs-cio backfill order_completed 2025-11-01..2026-10-31 --plan
    """
    from dagster import DagsterInstance  # noqa: PLC0415 - keeps the other commands quick

    from rs_cio_assets.backfill import (  # noqa: PLC0415
        chosen_feeds,
        days_of_range,
        feeds_by_day,
        require_no_trigger,
        run_backfill,
    )
    from rs_cio_assets.backfill_plan import plan_backfill  # noqa: PLC0415
    from rs_cio_assets.operations import require_warehouse  # noqa: PLC0415

    if days and (first_day or last_day or day):
        raise click.UsageError("FROM..TO goes without --from, --to and --day")
    first, last = days or whole_range(first_day, last_day, day)
    settings, contract = loaded()
    feeds, wanted = chosen_feeds(contract, feed), days_of_range(settings, first, last)
    with DagsterInstance.from_config(str(dagster_home)) as instance:
        if is_plan:
            with progress() as log:
                plan = plan_backfill(settings, contract, instance, feeds, wanted, only=only, on_backfill=on_backfill, log=log)
            print_json(_plan_document(plan)) if as_json else print_plan(console(), plan, on_backfill)
            return
        by_day = feeds_by_day(settings, instance, feeds, wanted, only)
        if by_day:
            require_warehouse(settings)
        with progress() as log:
            require_no_trigger(settings, contract, by_day, on_backfill, log)
        done: list[BackfilledDay] = []
        with _days_progress(len(by_day)) as show:
            for run in run_backfill(settings, contract, instance, by_day, on_backfill, days_per_run):
                done.append(run)
                show(done)
    left_out = len(wanted) - len(by_day)
    is_good = all(run.is_good for run in done)
    if as_json:
        print_json({"days": list(map(_day_document, done)), "days_left_out": left_out, "is_good": is_good})
    else:
        print_done(console(), done, left_out)
    sys.exit(0 if is_good else 1)


def print_plan(out: Console, plan: BackfillPlan, on_backfill: str) -> None:
    """Each feed by day or month, then time and journeys; in words what is counted and what is estimated."""
    for feed in plan.feeds:
        _print_feed(out, feed, on_backfill)
    requests = sum(day.requests for feed in plan.feeds for day in feed.days)
    out.print(
        f"Time: {plan.runs:,} runs; {requests:,} requests take at least {_duration(plan.sending_s)} at "
        f"{plan.max_requests_per_s:g} a second, the pace of the settings, and ten times that while a live sync sends."
    )
    if plan.expected_s is None:
        out.print("How long a run takes besides is not known: no earlier run of one day of these feeds is in Dagster's instance.")
    else:
        out.print(
            f"Expected in all: about {_duration(plan.expected_s)}, by the median of the latest {plan.runs_measured} runs "
            f"of these feeds ({plan.run_s:.1f} s a day)."
        )
    out.print("Nothing was sent.")


def _print_feed(out: Console, feed: FeedPlan, on_backfill: str) -> None:
    out.print(
        f"\n[bold]{feed.feed}[/]: {len(feed.days):,} days to run. In the range, {feed.days_delivered:,} are delivered, "
        f"{feed.days_missing:,} missing, {feed.days_failed:,} failed."
    )
    if not feed.days:
        return
    out.print(_feed_table(feed))
    exact = sum(day.is_exact for day in feed.days)
    size = f", {feed.operation_bytes:,.0f} bytes an operation as on a sample day" if feed.operation_bytes else ""
    out.print(
        f"Rows of the view and of the ledger are counted. Operations and requests of {exact:,} days are exact (every row was "
        f"looked at, or there is none); those of {len(feed.days) - exact:,} days are estimated: rows that are not in the "
        f"ledger, with those that will be rejected and without those that changed{size}."
    )
    if feed.campaigns is None:
        out.print(
            "[yellow]Journeys at risk: not known[/], CUSTOMERIO_APP_API_KEY is not set: rows that may start one are refused."
        )
    elif feed.could_trigger and feed.campaigns:
        out.print(f"[red]Journeys at risk[/]: {feed.could_trigger:,} rows could start {escape(', '.join(feed.campaigns))}.")
        if on_backfill != "accept":
            out.print("Unless the feed accepts that, the backfill refuses before its first row; see --on-backfill.")
    else:
        out.print("Journeys at risk: none.")


def _feed_table(feed: FeedPlan) -> Table:
    is_by_day = len(feed.days) <= DAYS_SHOWN
    names = ("day" if is_by_day else "month", "days", "rows in the view", "delivered already", "operations", "requests")
    table = Table()
    for name in names:
        table.add_column(name, justify="left" if name in {"day", "month"} else "right", no_wrap=True)
    for label, group in groupby(feed.days, key=lambda day: day.day if is_by_day else day.day[:7]):
        table.add_row(label, *_counts(list(group)))
    table.add_section()
    table.add_row("all", *_counts(feed.days))
    return table


def _counts(days: Sequence[DayPlan]) -> tuple[str, ...]:
    about = "" if all(day.is_exact for day in days) else "~"
    counted = (f"{len(days):,}", f"{sum(day.rows for day in days):,}", f"{sum(day.delivered for day in days):,}")
    return (*counted, f"{about}{sum(d.operations for d in days):,}", f"{about}{sum(d.requests for d in days):,}")


def _plan_document(plan: BackfillPlan) -> Mapping[str, Any]:
    feeds = [{**asdict(feed), "could_trigger": feed.could_trigger} for feed in plan.feeds]
    return {**asdict(plan), "feeds": feeds, "sending_s": plan.sending_s, "expected_s": plan.expected_s}


def print_done(out: Console, done: Sequence[BackfilledDay], left_out: int) -> None:
    """All days together, and each that did not go well."""
    from rs_cio_assets.summary import add_up, feeds_table  # noqa: PLC0415

    if totals := add_up(day.outcome for day in done):
        out.print(feeds_table(totals))
    bad = [day for day in done if not day.is_good]
    alike: dict[str, list[BackfilledDay]] = {}  # what differs in numbers alone is said once
    for day in bad:
        for failure in day.outcome.failures or ("a check failed: see the run in Dagster",):
            days = alike.setdefault(_NUMBER.sub("", failure), [])
            if not days:
                out.print(f"[red]{day.outcome.label}[/] (run {day.outcome.run_id}): {escape(failure)}")
            days.append(day)
    for first, *others in alike.values():
        if others:
            out.print(f"As on {first.outcome.label}, so on: {', '.join(day.outcome.label for day in others)}")
    if bad:
        out.print(f"{_days_of(bad):,} of {_days_of(done):,} days did not go well. The same command runs failed days again.")
    if left_out:
        out.print(f"{left_out:,} days were left out as they are: --only all runs them too, and sends what changed.")


def _day_document(day: BackfilledDay) -> Mapping[str, Any]:
    outcome = day.outcome
    document = {"day": outcome.label, "run_id": outcome.run_id, "is_good": day.is_good, "failures": outcome.failures}
    return {**document, "feeds": [asdict(feed) for feed in day.feeds]}


@contextmanager
def _days_progress(total: int) -> Iterator[Callable[[Sequence[BackfilledDay]], None]]:
    """Days as they end, on stderr: a bar with counts on a terminal, else a line each."""
    err = Console(stderr=True, soft_wrap=True, highlight=False)

    def counts(done: Sequence[BackfilledDay]) -> str:
        failed = sum(not day.is_good for day in done)
        return f"{sum(day.delivered for day in done):,} rows delivered, {failed:,} days failed"

    if not err.is_terminal:
        yield lambda done: err.print(
            f"{done[-1].outcome.label}: {done[-1].delivered:,} delivered{'' if done[-1].is_good else ', FAILED'} "
            f"({_days_of(done)}/{total}; {counts(done)})"
        )
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    text = TextColumn("{task.description}", markup=False)
    with Progress(text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err) as bar:
        task = bar.add_task("days", total=total)
        yield lambda done: bar.update(task, completed=_days_of(done), description=f"{done[-1].outcome.label}: {counts(done)}")


def _days_of(done: Sequence[BackfilledDay]) -> int:
    return sum(len(day.outcome.days) for day in done)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
