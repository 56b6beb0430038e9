"""What the commands of `rs-cio` share: days, feeds and flags that mean the same everywhere, progress, and one way to print.

Exit codes of every command: 0 fine; 1 it was done, and a person must look at what it says; 2 it could not be done: usage,
settings, contract, or a service that refused or did not answer. docs/command-line.md says for each command what 1 means.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.markup import escape

from rs_cio_assets.settings import SANDBOX_HOME

if TYPE_CHECKING:
    from rs_cio_assets.contract import Contract
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


class _DagsterHome(click.Path):
    """Dagster's folder; where there is none, it says where one usually is."""

    def __init__(self) -> None:
        super().__init__(exists=True, file_okay=False, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The folder. Fails, as click's types do, with what to do."""
        if not Path(value).is_dir():
            self.fail(
                f"{value} is no folder. Give the command in the project's folder, after `make demo` or `make dev` made "
                ".rs_cio/dagster there, or set DAGSTER_HOME to the folder of your own instance.",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


def _feed_names(context: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of the contract's feeds, for the shell; none where the contract does not load."""
    from rs_cio_assets.errors import ConfigurationError  # noqa: PLC0415

    del context, param
    try:
        _, contract = loaded()
    except ConfigurationError:
        return []
    return [CompletionItem(feed.name) for feed in contract.enabled_feeds if feed.name.startswith(incomplete)]


DAY = DayType()
feed_argument = click.argument("feed", shell_complete=_feed_names)
any_feed_argument = click.argument("feed", required=False, shell_complete=_feed_names)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
dagster_home_option = click.option(
    "--dagster-home",
    type=_DagsterHome(),
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


def range_options(command: Command) -> Command:
    """--from, --to and --day, as `first_day`, `last_day` and `day`: for `chosen_range`."""
    command = click.option("--day", type=DAY, help="One day (UTC), in place of --from and --to.")(command)
    command = click.option("--to", "last_day", type=DAY, help="Last day (UTC).")(command)
    return click.option("--from", "first_day", type=DAY, help="First day (UTC).")(command)


def chosen_range(first_day: date | None, last_day: date | None, day: date | None) -> tuple[date | None, date | None]:
    """The first and the last day that the options name; None: without end. Raises: click.UsageError."""
    if day and (first_day or last_day):
        raise click.UsageError("--day goes without --from and --to")
    if first_day and last_day and first_day > last_day:
        raise click.UsageError(f"--from {first_day} is after --to {last_day}")
    return (day, day) if day else (first_day, last_day)


def whole_range(first_day: date | None, last_day: date | None, day: date | None) -> tuple[date, date]:
    """The same where both ends are needed. Raises: click.UsageError."""
    first, last = chosen_range(first_day, last_day, day)
    if first is None or last is None:
        raise click.UsageError("which days? Give --from and --to, or --day, for example --day 2026-11-20")
    return first, last


def loaded() -> tuple[Settings, Contract]:
    """The environment's settings and contract. Raises: SettingsError, ContractError."""
    from rs_cio_assets.contract import load_contract  # noqa: PLC0415
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    return settings, load_contract(settings.contract)


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
