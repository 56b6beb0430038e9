"""The command line `rs-cio`: its commands together, the demo, the stand-ins, the shop's clock.

Each command parses its options and calls one function of the package. Exit codes: `cli_options.py`.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from rs_cio_assets.cli_backfill import backfill
from rs_cio_assets.cli_completion import completion
from rs_cio_assets.cli_contract import contract
from rs_cio_assets.cli_delivery import COMMANDS
from rs_cio_assets.cli_doctor import doctor, grants
from rs_cio_assets.cli_lock import lock
from rs_cio_assets.cli_new_feed import create_views, new_feed
from rs_cio_assets.cli_options import DAY, json_option, print_json, progress
from rs_cio_assets.cli_report import report
from rs_cio_assets.cli_warehouse import schema as log_schema
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.settings import SANDBOX_CUSTOMERIO_PORT, SANDBOX_HOME, SANDBOX_REDSHIFT_PORT, SANDBOX_S3_PORT

DAGSTER_PORT = 3000
DAYS = 14
CUSTOMERS = 8_000
Command = Callable[..., Any]


def _port_options(command: Command) -> Command:
    for name, default in (
        ("dagster", DAGSTER_PORT),
        ("customerio", SANDBOX_CUSTOMERIO_PORT),
        ("s3", SANDBOX_S3_PORT),
        ("redshift", SANDBOX_REDSHIFT_PORT),
    ):
        option = click.option(f"--{name}-port", type=click.IntRange(1, 65535), default=default, show_default=True)
        command = option(command)
    return command


def _end_by_signals() -> None:
    """SIGTERM ends the command as Ctrl-C does; both also where a shell started it in the background, which ignores SIGINT.

    Dagster gives SIGTERM the handler that SIGINT has.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rs_cio() -> None:
    """Redshift export views to Customer.io feeds, as Dagster assets by day.

    Exit codes: 0 fine, 1 done and to be looked at, 2 not done (usage, settings, contract, or a service that did not take it).

    \b
    Example: rs-cio preview order_completed 2026-11-20
    """


for _command in (*COMMANDS, backfill, doctor, grants, lock, report, log_schema):
    rs_cio.add_command(_command)
for _command in (completion, contract, create_views, new_feed):
    rs_cio.add_command(_command)


@rs_cio.command()
@_port_options
@click.option("--fault", type=str, help="Plant one fault of the catalogue (docs/faults.md) and show the check that catches it.")
@click.option("--once", is_flag=True, help="Exit when done: 0 when all is well, 1 when not.")
@click.option("--shop", type=click.Choice(["skincare", "cdnow"]), default="skincare", show_default=True)
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="The CDNOW file.")
@click.option("--customers", type=click.IntRange(1), default=CUSTOMERS, show_default=True, help="Skincare shop's size.")
@click.option("--days", type=click.IntRange(1, 730), default=DAYS, show_default=True, help="Finished days to sync.")
@click.option("--from", "first_day", type=DAY, help="First day (UTC), in place of --days.")
@click.option("--to", "last_day", type=DAY, help="Last day (UTC); default yesterday.")
@click.option("--days-per-run", type=click.IntRange(1), default=1, show_default=True, help="Days in one Dagster run.")
def demo(
    *,
    fault: str | None,
    once: bool,
    shop: str,
    data: Path | None,
    customers: int,
    days: int,
    first_day: date | None,
    last_day: date | None,
    days_per_run: int,
    redshift_port: int,
    s3_port: int,
    customerio_port: int,
    dagster_port: int,
) -> None:
    """Put days of a shop into the Customer.io stand-in through Dagster, print a summary and leave the UI open.

    Exits 1 when a run or a check failed; with --fault, when nothing caught it.

    \b
    Example: rs-cio demo --once --days 3
    """
    from rs_cio_assets.demo import DemoOptions, Ports, run_demo  # noqa: PLC0415 - keeps other commands quick

    if (shop == "cdnow") != (data is not None):
        raise click.UsageError("--shop cdnow goes with --data FILE (make demo SHOP=cdnow DATA=cdnow_master.txt)")
    last = last_day or datetime.now(UTC).date() - timedelta(days=1)
    options = DemoOptions(
        home=_home(shop),
        ports=Ports(redshift=redshift_port, s3=s3_port, customerio=customerio_port, dagster=dagster_port),
        first_day=first_day or last - timedelta(days=days - 1),
        last_day=last,
        customers=customers,
        days_per_run=days_per_run,
        data=data,
        is_once=once,
        fault=fault,
    )
    if options.first_day > options.last_day:
        raise click.UsageError(f"--from {options.first_day} is after --to {options.last_day}")
    _end_by_signals()
    sys.exit(run_demo(options, _console()))


@rs_cio.command()
@_port_options
@click.option("--shop", type=click.Choice(["skincare", "cdnow"]), default="skincare", show_default=True)
def dev(*, shop: str, redshift_port: int, s3_port: int, customerio_port: int, dagster_port: int) -> None:
    """Run the stand-ins and the Dagster UI on the state that is there, until Ctrl-C.

    \b
    Example: rs-cio dev
    """
    from rs_cio_assets.demo import Ports, sandbox, wait_for_ui, wait_until_interrupted  # noqa: PLC0415

    console = _console()
    ports = Ports(redshift=redshift_port, s3=s3_port, customerio=customerio_port, dagster=dagster_port)
    _end_by_signals()
    with sandbox(_home(shop), ports, console) as running:
        wait_for_ui(running, console)
        console.print("Both stay open until Ctrl-C. Commands go into a second terminal.")
        wait_until_interrupted(running.processes, console)


@rs_cio.group(name="sandbox")
def sandbox_group() -> None:
    """Start one of the stand-ins alone.

    \b
    Example: rs-cio sandbox customerio --port 18080
    """


@sandbox_group.command()
@click.option("--port", type=click.IntRange(1, 65535), default=SANDBOX_REDSHIFT_PORT, show_default=True)
@click.option("--s3-port", type=click.IntRange(1, 65535), default=SANDBOX_S3_PORT, show_default=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default=SANDBOX_HOME / "redshift")
def redshift(*, port: int, s3_port: int, data: Path) -> None:
    """The Redshift stand-in, until Ctrl-C: a PostgreSQL behind Redshift's wire, and S3 for UNLOAD and COPY.

    \b
    Example: rs-cio sandbox redshift --port 15439
    """
    from rs_cio_assets.sandbox.redshift import serve  # noqa: PLC0415

    serve(data, port, s3_port)


@sandbox_group.command()
@click.option("--port", type=click.IntRange(1, 65535), default=SANDBOX_CUSTOMERIO_PORT, show_default=True)
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), default=SANDBOX_HOME / "customerio")
@click.option("--dagster-url", metavar="URL", help="Dagster's UI: the pages then lead to the contract's feeds and checks there.")
def customerio(*, port: int, data: Path, dagster_url: str | None) -> None:
    """The Customer.io stand-in, until Ctrl-C: Track API, the App API's read side, and a page to look people up.

    \b
    Example: rs-cio sandbox customerio --port 18080
    """
    from rs_cio_assets.contract import load_contract  # noqa: PLC0415
    from rs_cio_assets.sandbox.customerio import serve, ways_back  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    serve(data, port, ways_back(load_contract(load_settings().contract), dagster_url) if dagster_url else None)


@rs_cio.group()
def shop() -> None:
    """The demo shop behind the Redshift stand-in.

    \b
    Example: rs-cio shop advance
    """


@shop.command()
@click.option("--redshift-port", type=click.IntRange(1, 65535), default=SANDBOX_REDSHIFT_PORT, show_default=True)
@click.option("--late-orders", type=click.IntRange(0), default=20, show_default=True, help="Orders for past days.")
@json_option
def advance(*, redshift_port: int, late_orders: int, as_json: bool) -> None:
    """Let the shop's time go on to now, and let some orders of past days arrive late.

    \b
    Example: rs-cio shop advance --late-orders 5
    """
    from rs_cio_assets.sandbox.shop import advance_shop  # noqa: PLC0415
    from rs_cio_assets.settings import environment, load_settings  # noqa: PLC0415

    settings = load_settings(environment({"REDSHIFT_PORT": str(redshift_port)}))
    with progress() as log:
        log("the shop goes on")
        report = advance_shop(settings.redshift, until=datetime.now(UTC), late_orders=late_orders)
    if as_json:
        print_json(asdict(report))
        return
    click.echo(report.sentence())
    if report.days:
        click.echo(
            "Next: materialize these days in the UI (job sync_day), or end the demo and run "
            f"`make demo TO={report.days[-1]}`: only new rows are sent."
        )


@contract.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--assert-loaded", is_flag=True, help="Exit 1 unless the definitions hold exactly these assets.")
def assets(*, as_json: bool, assert_loaded: bool) -> None:
    """The asset keys that the contract's enabled feeds give, and the others: checklist, housekeeping, delivery log.

    \b
    Example: rs-cio contract assets --assert-loaded
    """
    from rs_cio_assets.assets import (  # noqa: PLC0415
        CHECK_RESULTS_KEY,
        LOG_KEY,
        UNLOGGED_KEY,
        delivery_log_key,
        export_key,
        feed_key,
        view_key,
    )
    from rs_cio_assets.automation import HOUSEKEEPING_KEY  # noqa: PLC0415
    from rs_cio_assets.contract import load_contract  # noqa: PLC0415
    from rs_cio_assets.definitions import build_definitions  # noqa: PLC0415
    from rs_cio_assets.readiness import READINESS_KEY  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    feeds = load_contract(settings.contract).enabled_feeds
    has_log = settings.redshift.delivery_log
    kinds = (view_key, export_key, feed_key, *((delivery_log_key,) if has_log else ()))
    others = (READINESS_KEY, HOUSEKEEPING_KEY, *((LOG_KEY, CHECK_RESULTS_KEY, UNLOGGED_KEY) if has_log else ()))
    expected = sorted(key.to_user_string() for key in (*(kind(f.name) for f in feeds for kind in kinds), *others))
    click.echo(json.dumps(expected) if as_json else "\n".join(expected))
    if assert_loaded:
        loaded = sorted(key.to_user_string() for key in build_definitions(settings).resolve_all_asset_keys())
        if loaded != expected:
            raise click.ClickException(f"the definitions hold {loaded}. Next step: report this: the two lists must be one")


def _console() -> Console:
    """As wide as the terminal; wide enough for the tables where the output goes to a file."""
    return Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)


def _home(shop_name: str) -> Path:
    return SANDBOX_HOME if shop_name == "skincare" else SANDBOX_HOME / shop_name


def main(words: Sequence[str] | None = None) -> None:
    """Entry point; *words* in place of the process's own. Our errors become one message and exit code 2, Ctrl-C exit code 130."""
    try:
        rs_cio(words, prog_name="rs-cio", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RsCioError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nStopped. What was acknowledged is recorded; the same command goes on from there.", err=True)
        sys.exit(130)


if __name__ == "__main__":
    main()
