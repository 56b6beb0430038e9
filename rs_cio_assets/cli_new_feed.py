"""`rs-cio new-feed` and `rs-cio create-views`: from a table that exists to a view that a feed reads. Shows no row."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rs_cio_assets.cli_options import any_feed_argument, dagster_home_option, json_option, loaded, print_json, progress

if TYPE_CHECKING:
    from rs_cio_assets.new_feed import NewFeed


@click.command(name="new-feed", short_help="Draft a feed's files from a table or view of the warehouse.")
@click.argument("feed")
@click.argument("source", metavar="SCHEMA.TABLE")
@click.option("--kind", type=click.Choice(["event", "people"]), help="In place of a guess by the names.")
@click.option("--identifier", metavar="COLUMN", help="Who: the column that names the person.")
@click.option("--time", "time_column", metavar="COLUMN", help="When it happened, or the person last changed; in UTC.")
@click.option("--loaded-at", metavar="COLUMN", help="When the row reached the warehouse.")
@click.option("--key", "key", metavar="COLUMN", multiple=True, help="What no two events share; may be given again.")
@json_option
def new_feed(
    *,
    feed: str,
    source: str,
    kind: str | None,
    identifier: str | None,
    time_column: str | None,
    loaded_at: str | None,
    key: tuple[str, ...],
    as_json: bool,
) -> None:
    """Write feeds/FEED.yaml, feeds/FEED.sql and samples/FEED.yaml into the contract of RS_CIO_CONTRACT, from SCHEMA.TABLE.

    Reads the columns and counts rows, nulls and keys; no value is read or shown. Every guess is marked GUESS. Where a person must
    decide something first, the feed is off and the command exits 1. Nothing is overwritten, nothing is sent.

    \b
    Example: rs-cio new-feed order_refunded shop.refunds
    Example: rs-cio new-feed order_placed shop.orders --time placed_at --key order_id
    """
    from rs_cio_assets import new_feed as engine  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.contract import FeedKind  # noqa: PLC0415
    from rs_cio_assets.contract.scaffold import Choices  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    said = Choices(FeedKind(kind) if kind else None, identifier, time_column, loaded_at, key)
    with progress() as log:
        made = engine.new_feed(load_settings(), feed, source, said, log=log)
    steps = engine.next_steps(made.draft)
    if as_json:
        print_json(_document(made) | {"next_steps": list(steps)})
    else:
        click.echo("\n".join((*_lines(made), "Next steps:", *(f"  {n}. {step}" for n, step in enumerate(steps, 1)))))
    sys.exit(1 if made.draft.to_decide else 0)


@click.command(name="create-views", short_help="Create or replace the export views.")
@any_feed_argument
@dagster_home_option
@json_option
def create_views(*, feed: str | None, dagster_home: Path, as_json: bool) -> None:
    """Create or replace the export view of FEED, or of all feeds, from the contract's SQL, in a Dagster run.

    Give it after a feed is new or its SQL changed. Where others own the views (REDSHIFT_VIEWS=verify) it compares them instead.
    Exits 1 when a view could not be created, or is not the contract's; the earlier one then stays.

    \b
    Example: rs-cio create-views order_refunded
    """
    from dagster import DagsterInstance  # noqa: PLC0415 - keeps the other commands quick

    from rs_cio_assets import sync  # noqa: PLC0415
    from rs_cio_assets.definitions import build_definitions  # noqa: PLC0415
    from rs_cio_assets.operations import find_feed, require_warehouse  # noqa: PLC0415

    settings, contract = loaded()
    feeds = (find_feed(contract, feed),) if feed else contract.enabled_feeds
    require_warehouse(settings)
    with DagsterInstance.from_config(str(dagster_home)) as instance, progress() as log:
        log(f"creating views: {len(feeds)}")
        outcome = sync.create_views(build_definitions(settings, contract), instance, only=feed)
    if as_json:
        views = [each.view for each in feeds]
        print_json({"views": views, "run_id": outcome.run_id, "is_good": outcome.is_good, "failures": list(outcome.failures)})
    else:
        made = f"As the contract says: {', '.join(each.view for each in feeds)}"
        click.echo(made if outcome.is_good else "\n".join(outcome.failures))
    sys.exit(0 if outcome.is_good else 1)


def _document(made: NewFeed) -> dict[str, Any]:
    draft = made.draft
    return {
        "feed": draft.name,
        "source": draft.source,
        "rows": made.rows,
        "kind": draft.kind.value,
        "is_on": not draft.to_decide,
        "files": [str(path) for path in made.files],
        "notes": dict(draft.notes),
        "to_decide": list(draft.to_decide),
        "left_out": dict(draft.left_out),
    }


def _lines(made: NewFeed) -> Iterator[str]:
    """What was found, for somebody at a terminal."""
    draft = made.draft
    state = "off until you decide what is listed here" if draft.to_decide else "on"
    columns = len(draft.columns) + len(draft.left_out)
    yield f"{draft.name}: {len(draft.columns)} of {columns} columns of {draft.source}, {made.rows:,} rows. The feed is {state}."
    yield from (f"  {field}: {note}" for field, note in draft.notes.items())
    yield from (f"  TO DECIDE: {text}" for text in draft.to_decide)
    yield from (f"  left out: {name} ({reason})" for name, reason in draft.left_out.items())
    yield "Written:"
    yield from (f"  {path}" for path in made.files)
