"""`rs-cio contract ...`: begin a contract, lint it, try it on made-up rows, and say what it gives. Asks no service."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from rs_cio_assets.cli_options import any_feed_argument, json_option, loaded, print_json


@click.group(short_help="The contract: what may be sent.")
def contract() -> None:
    """The contract: what may be sent. Its folder is that of RS_CIO_CONTRACT, else the shipped one.

    \b
    Example: rs-cio contract init my_contract
    """


@contract.command(short_help="Begin a contract of your own.")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--empty", "is_empty", is_flag=True, help="Conventions alone, no feed: for a warehouse that is not the demo shop's."
)
@json_option
def init(*, folder: Path, is_empty: bool, as_json: bool) -> None:
    """Copy the shipped contract into FOLDER, which is new or empty, to be edited and kept in your own repository.

    \b
    Example: rs-cio contract init my_contract
    """
    from rs_cio_assets.contract.folder import begin_contract  # noqa: PLC0415 - keeps the other commands quick

    files = begin_contract(folder, is_empty=is_empty)
    if as_json:
        print_json({"folder": str(folder.resolve()), "files": [path.relative_to(folder).as_posix() for path in files]})
        return
    click.echo(f"{folder} holds {len(files)} files. It is used where RS_CIO_CONTRACT says so, in each terminal and deployment:")
    click.echo(f"  export RS_CIO_CONTRACT={folder.resolve()}")
    if is_empty:
        click.echo("Decide what workspace.yaml marks TO DECIDE, then add a feed: rs-cio new-feed FEED SCHEMA.TABLE")


@contract.command(short_help="Load the contract and lint its SQL.")
@json_option
def lint(*, as_json: bool) -> None:
    """Load the contract and lint its SQL; every problem is listed, with file and line.

    Exits 1 when the SQL has findings, 2 when the contract does not load. Names that are not in the lock yet are warned of.

    \b
    Example: rs-cio contract lint
    """
    from rs_cio_assets.contract import lint_contract, load_contract  # noqa: PLC0415
    from rs_cio_assets.contract.load import load_as_written  # noqa: PLC0415
    from rs_cio_assets.locking import lock_state  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    folder = load_settings().contract
    load_contract(folder)
    as_written = load_as_written(folder)  # the SQL gives old names until it is changed
    findings = lint_contract(as_written)
    unlocked = [str(difference) for difference in lock_state(folder).differences]
    if as_json:
        found = [asdict(finding) for finding in findings]
        print_json({"feeds": len(as_written.feeds), "findings": found, "not_in_the_lock": unlocked, "is_good": not findings})
    else:
        for finding in findings:
            click.echo(str(finding))
        for difference in unlocked:
            click.echo(f"warning: {difference}; not in the lock yet: rs-cio lock shows it")
        off = [feed.name for feed in as_written.feeds if not feed.enabled]
        click.echo(f"off: {', '.join(off) or 'none'}")
        which = f"{folder}" if folder else "the shipped contract (RS_CIO_CONTRACT is not set)"
        click.echo(f"{which}: {len(as_written.feeds)} feeds, {len(findings)} findings")
    sys.exit(1 if findings else 0)


@contract.command(name="test", short_help="Try feeds on made-up rows.")
@any_feed_argument
@json_option
def try_on_samples(*, feed: str | None, as_json: bool) -> None:
    """Try FEED, or every feed that has samples/FEED.yaml, on the made-up rows there: is each sent, or rejected for its reason?

    The rows go through the engine of a run, also where the feed is off; no warehouse and no Customer.io is asked. The SQL of the
    view is not tried: rs-cio preview FEED DAY --export does that. Exits 1 when a row becomes something else than its case says.

    \b
    Example: rs-cio contract test order_refunded
    """
    from rs_cio_assets.contract import SHIPPED  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.operations import any_feed  # noqa: PLC0415
    from rs_cio_assets.samples import sampled_feeds, try_samples  # noqa: PLC0415

    settings, rules = loaded()
    folder = settings.contract or SHIPPED
    feeds = [any_feed(rules, feed)] if feed else sampled_feeds(folder, rules)
    results = [result for each in feeds for result in try_samples(folder, rules, each, now=datetime.now(UTC))]
    is_good = all(result.is_good for result in results)
    if as_json:
        print_json({"results": [{**asdict(result), "is_good": result.is_good} for result in results], "is_good": is_good})
    else:
        for result in results:
            became = result.became if result.is_good else f"{result.became}, and the case says {result.wanted}"
            click.echo(f"{'ok   ' if result.is_good else 'WRONG'} {result.feed}: {result.case}: {became}")
            if feed and result.operation:
                click.echo(json.dumps(result.operation, indent=2, ensure_ascii=False))
        click.echo(f"{len(results)} cases, {sum(not result.is_good for result in results)} wrong.")
    sys.exit(0 if is_good else 1)


@contract.command(short_help="Write the JSON Schemas for editors.")
@json_option
def schema(*, as_json: bool) -> None:
    """Write the JSON Schemas that editors complete the YAML files from, beside workspace.yaml.

    \b
    Example: rs-cio contract schema
    """
    from rs_cio_assets.contract import SHIPPED  # noqa: PLC0415
    from rs_cio_assets.contract.schema import schema_files  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    folder = load_settings().contract or SHIPPED
    written = []
    for name, text in schema_files().items():
        (folder / name).write_text(text)
        written.append(str(folder / name))
    if as_json:
        print_json({"files": written})
    else:
        click.echo("\n".join(written))
