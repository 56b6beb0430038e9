"""`rs-cio lock`: what people are told of the taxonomy lock, and their word for a change. What is done stands in `locking.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rs_cio_assets.cli_options import json_option, print_json, progress

if TYPE_CHECKING:
    from rs_cio_assets.contract.lock import Difference
    from rs_cio_assets.locking import LockState, Usage

_ACCEPT = 'rs-cio lock --accept --reason "..."'
NOT_IN_THE_API = (
    "Customer.io's API holds neither the conditions of segments and campaigns nor the texts of messages. "
    "Search them for each old name, there, before you accept."
)


@click.command(short_help="What the contract changed of names that journeys may use; accept it.")
@click.option("--accept", "is_accepting", is_flag=True, help="Write the lock: the contract as it is now is what may be used.")
@click.option("--reason", default="", help="Why; kept in the lock for ever. Needed with --accept.")
@click.option("--although-used", is_flag=True, help="Accept although running campaigns use an old name, or none could be asked.")
@json_option
def lock(*, is_accepting: bool, reason: str, although_used: bool, as_json: bool) -> None:
    """How the contract differs from taxonomy.lock.yaml, and which running campaigns and segments use the old names.

    A contract that renames, retypes or removes what is locked does not load until somebody accepts it here, with a reason.
    Exits 1 when there is such a difference.

    \b
    Example: rs-cio lock --accept --reason "Welcome series moved to Order Placed on 1 December"
    """
    from rs_cio_assets.locking import accept, lock_state, usage_of  # noqa: PLC0415 - keeps the other commands quick
    from rs_cio_assets.settings import load_settings  # noqa: PLC0415

    if is_accepting != bool(reason.strip()):
        raise click.UsageError('--accept and --reason "..." go together: the reason is kept with the change')
    settings = load_settings()
    state = lock_state(settings.contract)
    with progress() as log:
        log("asking Customer.io who uses the names")
        usage = usage_of(state, settings.customerio)
    is_written = is_accepting and not state.is_current
    if is_written:
        accept(state, usage, reason.strip(), although_used=although_used)
    if as_json:
        print_json(_document(state, usage, is_written=is_written))
    else:
        click.echo("\n".join(_lines(state, usage, is_written=is_written)))
    sys.exit(1 if state.breaking and not is_written else 0)


def _lines(state: LockState, usage: Usage, *, is_written: bool) -> Iterator[str]:
    """The state for somebody at a terminal."""
    if state.lock is None and not is_written:
        yield f"There is no {state.shown}: names and types that journeys use may change unnoticed."
        yield f"A team may choose that. To lock them: {_ACCEPT}"
        return
    breaking = "Breaking, accepted now" if is_written else "Breaking: the contract does not load until it is mended or accepted"
    additions = [difference for difference in state.differences if not difference.is_breaking]
    for title, items in (
        (breaking, state.breaking),
        ("Breaks nothing; the lock does not say it yet", additions),
        ("Planned ends", state.endings),
    ):
        if items:
            yield f"{title}:"
            for difference in items:
                yield f"  {difference}"
                yield from (f"    runs in Customer.io and uses it: {campaign}" for campaign in usage.uses.get(difference, ()))
                yield from (f"    is started by this event and may use it: {c}" for c in usage.may_use.get(difference, ()))
    if usage.problem:
        yield f"Customer.io could not be asked which running campaigns use these names: {usage.problem}"
    elif usage.uses and not any(usage.uses.values()):
        yield "No running campaign is known to use these names."
    if state.breaking or state.endings:
        yield NOT_IN_THE_API
    if is_written:
        yield f"Written: {state.shown}. Commit it with the contract."
    elif state.is_current:
        yield f"{state.shown} is current."
    elif state.breaking:
        yield f"Next step: mend the contract, send both names until a date (docs/analyst.md), or {_ACCEPT}"
    else:
        yield f"Next step: {_ACCEPT}"


def _document(state: LockState, usage: Usage, *, is_written: bool) -> dict[str, Any]:
    def shown(items: Sequence[Difference]) -> list[dict[str, Any]]:
        return [
            {**asdict(d), "running_campaigns": usage.uses.get(d, ()), "may_be_used_by": usage.may_use.get(d, ())} for d in items
        ]

    return {
        "is_locked": state.lock is not None or is_written,
        "is_current": state.is_current or is_written,
        "is_written": is_written,
        "differences": shown(state.differences),
        "endings": shown(state.endings),
        "could_not_ask": usage.problem,
        "not_in_the_api": NOT_IN_THE_API,
    }
