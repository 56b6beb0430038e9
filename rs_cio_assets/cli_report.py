"""`rs-cio report`: the readiness checklist as a page that can be sent to somebody."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from rs_cio_assets.cli_options import dagster_home_option, json_option, print_json, progress


@click.command()
@click.option("--html", "is_html", is_flag=True, help="Write HTML in place of Markdown.")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; default: the terminal.")
@dagster_home_option
@json_option
def report(*, is_html: bool, output: Path | None, dagster_home: Path, as_json: bool) -> None:
    """The implementation checklist, line by line, each with the checks that prove it and when they ran.

    \b
    Example: rs-cio report
    Example: rs-cio report --html --output readiness.html
    """
    from dagster import DagsterInstance  # noqa: PLC0415 - keeps other commands quick

    from rs_cio_assets.contract import load_contract  # noqa: PLC0415
    from rs_cio_assets.definitions import build_definitions, locked_on  # noqa: PLC0415
    from rs_cio_assets.readiness import as_html, as_markdown, known_facts, latest_evidence, readiness, summary  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415
    from rs_cio_assets.store import open_store  # noqa: PLC0415

    if as_json and (is_html or output):
        raise click.UsageError("--json goes to the terminal, without --html and --output")
    settings, now = load_settings(), datetime.now(UTC)
    contract = load_contract(settings.contract)
    with DagsterInstance.from_config(str(dagster_home)) as instance, progress() as log:
        log("looking for evidence")
        checks = build_definitions(settings, contract).resolve_asset_graph().asset_check_keys
        facts = known_facts(contract, open_store(settings.store), now, locked_on=locked_on(settings))
        lines = readiness(latest_evidence(instance, checks), facts, now)
    if as_json:
        print_json({"summary": summary(lines, now), "lines": [asdict(line) for line in lines]})
        return
    page = (as_html if is_html else as_markdown)(lines, now)
    if output is None:
        click.echo(page)
    else:
        output.write_text(page, encoding="utf-8")
        click.echo(f"{summary(lines, now)} Written to {output}")
