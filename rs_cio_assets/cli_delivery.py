"""The commands of `rs-cio` that look at deliveries and work on them by hand: preview, send-one, rejections, replay.

Each parses its options, calls one function of the package and prints what it returns; the texts for people are in
`cli_output.py`. Results go to stdout, progress to stderr. Exit codes: 0 well, 1 not all is well, 2 it could not be done.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape

from rs_cio_assets.settings import SANDBOX_HOME

if TYPE_CHECKING:
    from rs_cio_assets.contract import Contract
    from rs_cio_assets.delivery import DeliveryOptions
    from rs_cio_assets.settings import Settings

Command = Callable[..., Any]


class DayType(click.ParamType):
    """A day as YYYY-MM-DD."""

    name = "YYYY-MM-DD"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        """The date. Fails, as click's types do, with an example."""
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a day such as 2026-11-20", param, ctx)


DAY = DayType()
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
dagster_home_option = click.option(
    "--dagster-home",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="DAGSTER_HOME",
    default=SANDBOX_HOME / "dagster",
    show_default="DAGSTER_HOME, else .rs_cio/dagster",
    help="Dagster's instance, which shows the runs.",
)
on_backfill_option = click.option(
    "--on-backfill",
    type=click.Choice(["contract", "refuse", "hold", "accept"]),
    default="contract",
    show_default=True,
    help="Rows that could start a running campaign, where the day is older than yesterday.",
)


@click.command(short_help="What a delivery of a staged day would do now; sends nothing.")
@click.argument("feed")
@click.argument("day", type=DAY)
@click.option("--rows", type=click.IntRange(0), default=3, show_default=True, help="Operations to show.")
@click.option("--export", "has_export", is_flag=True, help="Look at what Redshift holds now, not at the staged day.")
@click.option("--resend", is_flag=True, help="As with resend: all, whatever the ledger holds.")
@click.option("--backfill", is_flag=True, help="As part of a backfill; days before yesterday always are.")
@on_backfill_option
@json_option
def preview(
    *, feed: str, day: date, rows: int, has_export: bool, resend: bool, backfill: bool, on_backfill: str, as_json: bool
) -> None:
    """What a delivery of DAY of FEED would do now. Sends nothing and keeps nothing.

    The operations are shown exactly as they would be sent: this is personal data, for your own terminal.

    \b
    Example: rs-cio preview order_completed 2026-11-20 --rows 1
    """
    from rs_cio_assets import cli_output, operations  # noqa: PLC0415 - keeps the other commands quick

    settings, contract = loaded()
    found = operations.find_feed(contract, feed)
    options = _options(day, on_backfill, resend=resend)
    options = replace(options, is_backfill=options.is_backfill or backfill)
    with progress() as log:
        result = operations.preview(
            settings, contract, found, day.isoformat(), rows=rows, options=options, has_export=has_export, log=log
        )
    if as_json:
        print_json(asdict(result))
    else:
        steps = operations.next_steps(found, contract, day.isoformat())
        is_refused = options.is_backfill and (options.on_backfill or found.on_backfill) == "refuse"
        cli_output.print_preview(console(), result, steps, is_refused=is_refused)


@click.command(name="send-one", short_help="Send one staged row and read it back.")
@click.argument("feed")
@click.argument("key")
@click.option("--day", type=DAY, required=True, help="The staged day (UTC) that holds the row.")
@click.option(
    "--wait-s", type=click.FloatRange(0), default=30.0, show_default=True, help="Seconds to look for it in Customer.io."
)
@click.option("--resend", is_flag=True, help="Send it although it was delivered before.")
@on_backfill_option
@json_option
def send_one(*, feed: str, key: str, day: date, wait_s: float, resend: bool, on_backfill: str, as_json: bool) -> None:
    """Send the row KEY of FEED through the same engine as a run, and read it back from Customer.io.

    KEY is the business key as `rs-cio rejections` shows it (parts joined by a space); for people, their identifier. What is
    shown is personal data, for your own terminal. Exits 1 when Customer.io does not hold the row as it is staged.

    \b
    Example: rs-cio send-one order_completed O0001234 --day 2026-11-20
    """
    from rs_cio_assets import cli_output, operations  # noqa: PLC0415 - keeps the other commands quick

    settings, contract = loaded()
    found = operations.find_feed(contract, feed)
    options = _options(day, on_backfill, resend=resend)
    with progress() as log:
        result = operations.send_one(settings, contract, found, key, day.isoformat(), options=options, wait_s=wait_s, log=log)
    if as_json:
        print_json({**asdict(result), "is_good": result.is_good})
    else:
        cli_output.print_sent(console(), result)
    sys.exit(0 if result.is_good else 1)


@click.command(short_help="Rows that were not sent, and why.")
@click.argument("feed", required=False)
@click.option("--from", "first_day", type=DAY, help="First day (UTC).")
@click.option("--to", "last_day", type=DAY, help="Last day (UTC).")
@click.option("--reason", "reasons", multiple=True, help="Only this reason; may be given several times.")
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="Rows to show; all are counted.")
@json_option
def rejections(
    *, feed: str | None, first_day: date | None, last_day: date | None, reasons: tuple[str, ...], limit: int, as_json: bool
) -> None:
    """Rejected rows of FEED, or of all feeds, as the store keeps them: newest days first, counted by reason.

    Business keys are personal data, for your own terminal.

    \b
    Example: rs-cio rejections order_completed --from 2026-11-01 --reason undeclared_value
    """
    from rs_cio_assets import cli_output  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.operations import find_feed  # noqa: PLC0415
    from rs_cio_assets.rejected import list_rejections  # noqa: PLC0415
    from rs_cio_assets.resources import resources_for  # noqa: PLC0415

    _require_order(first_day, last_day)
    settings, contract = loaded()
    if feed:
        find_feed(contract, feed)
    with progress() as log:
        log("reading the store")
        found = list_rejections(
            resources_for(settings)["store"], feed=feed, first_day=first_day, last_day=last_day, reasons=reasons, limit=limit
        )
    if as_json:
        print_json({**asdict(found), "total": found.total})
    else:
        cli_output.print_rejections(console(), found)


@click.command(short_help="Deliver days with rejected rows again, those rows included.")
@click.argument("feed")
@click.option("--from", "first_day", type=DAY, required=True, help="First day (UTC).")
@click.option("--to", "last_day", type=DAY, required=True, help="Last day (UTC).")
@click.option("--reason", "reasons", multiple=True, help="Only days with this reason, and only such rows; default all.")
@dagster_home_option
@on_backfill_option
@json_option
def replay(
    *,
    feed: str,
    first_day: date,
    last_day: date,
    reasons: tuple[str, ...],
    dagster_home: Path,
    on_backfill: str,
    as_json: bool,
) -> None:
    """Deliver the days of FEED that have rejected rows again, as they are staged, one Dagster run each.

    Rows that Customer.io refused are sent again although nothing changed; rows that the contract refused are looked at anew by
    every run. Exits 1 when a run failed, a row was rejected again, or a day is not staged any more.

    \b
    Example: rs-cio replay order_completed --from 2026-11-01 --to 2026-11-20 --reason customerio_invalid
    """
    from rs_cio_assets import cli_output  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.operations import find_feed  # noqa: PLC0415
    from rs_cio_assets.rejected import replay_rejected  # noqa: PLC0415

    _require_order(first_day, last_day)
    settings, contract = loaded()
    found = find_feed(contract, feed)
    with progress() as log:
        result = replay_rejected(
            settings,
            contract,
            found,
            first_day,
            last_day,
            reasons=reasons,
            on_backfill=on_backfill,
            dagster_home=dagster_home,
            log=log,
        )
    if as_json:
        print_json({**asdict(result), "is_good": result.is_good})
    else:
        cli_output.print_replay(console(), found.name, result)
    sys.exit(0 if result.is_good else 1)


COMMANDS = (preview, send_one, rejections, replay)


def loaded() -> tuple[Settings, Contract]:
    """The environment's settings and contract. Raises: SettingsError, ContractError."""
    from rs_cio_assets.contract import load_contract  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    return settings, load_contract(settings.contract)


def _options(day: date, on_backfill: str, *, resend: bool) -> DeliveryOptions:
    """What a run of that day with this config would ask of the engine."""
    from rs_cio_assets.assets.run_config import FeedConfig, OnBackfillChoice, Resend  # noqa: PLC0415

    config = FeedConfig(resend=Resend.all if resend else Resend.changed, on_backfill=OnBackfillChoice(on_backfill))
    return config.options({}, day.isoformat(), datetime.now(UTC).date())


def _require_order(first_day: date | None, last_day: date | None) -> None:
    if first_day and last_day and first_day > last_day:
        raise click.UsageError(f"--from {first_day} is after --to {last_day}")


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr: in one changing line of a terminal, else line by line."""
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    if not console.is_terminal:
        yield lambda text: console.print(escape(text))
        return
    with console.status("starting") as status:
        yield lambda text: status.update(escape(text))


def console() -> Console:
    """As wide as the terminal; wide enough for the tables where the output goes to a file."""
    return Console(soft_wrap=True, highlight=False, width=None if sys.stdout.isatty() else 120)


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))
