"""The commands of `rs-cio` that look at deliveries and work on them by hand: preview, send-one, rejections, replay.

Each parses its options, calls one function of the package and prints what it returns; the texts for people are in
`cli_output.py`. Results go to stdout, progress to stderr.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rs_cio_assets.cli_options import (
    DAY,
    any_feed_argument,
    chosen_range,
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
    from rs_cio_assets.delivery import DeliveryOptions


@click.command(short_help="What a delivery of a staged day would do now; sends nothing.")
@feed_argument
@click.argument("day", type=DAY, required=False)
@click.option("--day", "named_day", type=DAY, help="The day (UTC), in place of DAY.")
@click.option("--rows", type=click.IntRange(0), default=3, show_default=True, help="Operations to show.")
@click.option("--export", "has_export", is_flag=True, help="Look at what Redshift holds now, not at the staged day.")
@click.option("--resend", is_flag=True, help="As with resend: all, whatever the ledger holds.")
@click.option("--backfill", is_flag=True, help="As part of a backfill; days before yesterday always are.")
@on_backfill_option
@json_option
def preview(
    *,
    feed: str,
    day: date | None,
    named_day: date | None,
    rows: int,
    has_export: bool,
    resend: bool,
    backfill: bool,
    on_backfill: str,
    as_json: bool,
) -> None:
    """What a delivery of DAY of FEED would do now. Sends nothing and keeps nothing. With --export DAY may be left out: it is then
    the newest day of which the view has rows.

    The operations are shown exactly as they would be sent: this is personal data, for your own terminal.

    \b
    Example: rs-cio preview order_completed 2026-11-20 --rows 1
    """
    from rs_cio_assets import cli_output, operations  # noqa: PLC0415 - keeps the other commands quick

    if (day and named_day) or not (day or named_day or has_export):
        raise click.UsageError("which day? Give DAY or --day, for example 2026-11-20; with --export it may be left out")
    settings, contract = loaded()
    found = operations.find_feed(contract, feed)
    day = day or named_day or date.fromisoformat(operations.newest_day(settings, found))
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
@feed_argument
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
@any_feed_argument
@range_options
@click.option("--reason", "reasons", multiple=True, help="Only this reason; may be given several times.")
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="Rows to show; all are counted.")
@json_option
def rejections(
    *,
    feed: str | None,
    first_day: date | None,
    last_day: date | None,
    day: date | None,
    reasons: tuple[str, ...],
    limit: int,
    as_json: bool,
) -> None:
    """Rejected rows of FEED, or of all feeds, as the store keeps them: newest days first, counted by reason.

    Business keys are personal data, for your own terminal.

    \b
    Example: rs-cio rejections order_completed --from 2026-11-01 --reason undeclared_value
    """
    from rs_cio_assets import cli_output  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.operations import find_feed, require_local_store  # noqa: PLC0415
    from rs_cio_assets.rejected import list_rejections  # noqa: PLC0415
    from rs_cio_assets.resources import resources_for  # noqa: PLC0415

    first_day, last_day = chosen_range(first_day, last_day, day)
    settings, contract = loaded()
    if feed:
        find_feed(contract, feed)
    require_local_store(settings)
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
@feed_argument
@range_options
@click.option("--reason", "reasons", multiple=True, help="Only days with this reason, and only such rows; default all.")
@dagster_home_option
@on_backfill_option
@json_option
def replay(
    *,
    feed: str,
    first_day: date | None,
    last_day: date | None,
    day: date | None,
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
    from rs_cio_assets.operations import find_feed, require_local_store  # noqa: PLC0415
    from rs_cio_assets.rejected import replay_rejected  # noqa: PLC0415

    first, last = whole_range(first_day, last_day, day)
    settings, contract = loaded()
    found = find_feed(contract, feed)
    require_local_store(settings)
    with progress() as log:
        result = replay_rejected(
            settings,
            contract,
            found,
            first,
            last,
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


def _options(day: date, on_backfill: str, *, resend: bool) -> DeliveryOptions:
    """What a run of that day with this config would ask of the engine."""
    from rs_cio_assets.assets.run_config import FeedConfig, OnBackfillChoice, Resend  # noqa: PLC0415

    config = FeedConfig(resend=Resend.all if resend else Resend.changed, on_backfill=OnBackfillChoice(on_backfill))
    return config.options({}, day.isoformat(), datetime.now(UTC).date())
