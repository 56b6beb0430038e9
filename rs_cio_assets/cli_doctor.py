"""`rs-cio doctor` and `rs-cio grants`: what a person at a terminal, or a program, is told. The looking stands in `doctor/`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from rs_cio_assets.cli_options import console, json_option, print_json
from rs_cio_assets.errors import SettingsError

if TYPE_CHECKING:
    from rs_cio_assets.doctor import Line

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command(short_help="Is everything in order to sync? Each thing with its remedy.")
@click.option("--only", multiple=True, metavar="LINE", help="This line alone, and what it needs; may be given again.")
@json_option
def doctor(*, only: Sequence[str], as_json: bool) -> None:
    """Look at everything that a sync needs: settings, contract, store, Redshift, UNLOAD and COPY, Customer.io, clocks.

    Sends no row and leaves nothing behind. Exits 1 when something failed, 2 when the settings do not load.
    Without a failure the preflight of these settings is passed.

    \b
    Example: rs-cio doctor
    Example: rs-cio doctor --only "redshift login" --only "track key"
    """
    from rs_cio_assets.contract import load_contract  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.doctor import Patient, Preflight, examine, worst  # noqa: PLC0415
    from rs_cio_assets.resources import resources_for  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    try:
        settings = load_settings()
    except SettingsError as error:
        _tell(_settings_lines(error), as_json=as_json)
        sys.exit(2)
    read_contract = partial(load_contract, settings.contract)
    resources = resources_for(settings)
    patient = Patient(settings, read_contract, resources["warehouse"], resources["store"])
    lines = _tell(examine(patient, only=only), as_json=as_json)
    if worst(lines) == "failure":
        sys.exit(1)
    if not only:
        Preflight(settings, read_contract).record(patient, lines)


@click.command(short_help="SQL with the smallest set of rights for the contract; or AWS policies.")
@click.option("--user", help="The user of the sync; default: REDSHIFT_USER, else cio_sync.")
@click.option("--role", help="ARN of the role for UNLOAD and COPY; default: REDSHIFT_ROLE.")
@click.option("--schema-owner", metavar="NAME", help="Who owns the export views (REDSHIFT_VIEWS=verify): their grants, too.")
@click.option("--iam", "is_iam", is_flag=True, help="The policies of the role and of this process, as JSON, in place of SQL.")
def grants(*, user: str | None, role: str | None, schema_owner: str | None, is_iam: bool) -> None:
    """Print what an administrator runs so that the sync can do what the contract says, and nothing else. Runs nothing.

    \b
    Example: rs-cio grants > grants.sql
    Example: rs-cio grants --iam
    """
    from rs_cio_assets.contract import load_contract  # noqa: PLC0415
    from rs_cio_assets.doctor import process_policy, role_policy, script, trust_policy  # noqa: PLC0415
    from rs_cio_assets.settings import environment, load_settings  # noqa: PLC0415

    settings = load_settings(environment({"REDSHIFT_ROLE": role} if role else {}))
    contract = load_contract(settings.contract)
    if is_iam:
        policies = {"role": role_policy(settings), "role trust": trust_policy(), "this process": process_policy(settings)}
        print_json(policies)
    else:
        click.echo(script(contract, settings.redshift, user or settings.redshift.user or "cio_sync", schema_owner), nl=False)


def _settings_lines(error: SettingsError) -> Iterator[Line]:
    """Each problem of the environment as a line."""
    from rs_cio_assets.doctor import failure  # noqa: PLC0415

    for problem in error.problem.splitlines()[1:]:
        yield failure("settings", problem.strip(), error.next_step)


def _tell(lines: Iterable[Line], *, as_json: bool) -> tuple[Line, ...]:
    """Print each line as soon as it is there, or one document; the lines."""
    from rs_cio_assets.doctor import worst  # noqa: PLC0415

    if as_json:
        found = tuple(lines)
        document: dict[str, Any] = {"status": worst(found), "lines": [asdict(line) for line in found]}
        print_json(document)
        return found
    terminal, told = console(), []
    with terminal.status("looking"):
        told.extend(lines)
    terminal.print(_table(told))
    counts = {status: sum(line.status == status for line in told) for status in _COLOURS}
    colour = _COLOURS[worst(told)]
    terminal.print(f"[{colour}]{counts['ok']} ok, {counts['warning']} warnings, {counts['failure']} failures[/]")
    return tuple(told)


def _table(lines: Iterable[Line]) -> Table:
    """One row for each line, its remedy below."""
    table = Table(title="rs-cio doctor", title_justify="left")
    for name in ("line", "status"):
        table.add_column(name, no_wrap=True)
    table.add_column("says", overflow="fold")
    for line in lines:
        colour = _COLOURS[line.status]
        remedy = f"\n[{colour}]Remedy:[/] {escape(line.remedy)}" if line.remedy else ""
        table.add_row(escape(line.name), f"[{colour}]{line.status}[/]", escape(line.text) + remedy)
    return table
