"""What a sync did, as the tables that the command line prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

from rich.markup import escape
from rich.table import Table

from rs_cio_assets.checks.results import NOT_READY
from rs_cio_assets.sync import CheckOutcome, JobOutcome

# Metadata of a feed's materialization -> a column of the table. Columns that are zero everywhere and not essential are left out.
_COUNTED = {
    "rows": "rows",
    "delivered": "delivered",
    "unchanged": "unchanged",
    "amended": "amended, not re-sent",
    "duplicates": "duplicates",
    "rejected": "rejected",
    "held": "held",
    "seconds": "duration (s)",
}
_ESSENTIAL = ("rows", "delivered", "unchanged", "rejected", "held", "seconds")


@dataclass(frozen=True)
class FeedTotals:
    """One feed over all synced days. Rows are counted once each; seconds are those of delivering."""

    feed: str
    days: int = 0
    rows: int = 0
    delivered: int = 0
    unchanged: int = 0
    amended: int = 0
    duplicates: int = 0
    rejected: int = 0
    held: int = 0
    seconds: float = 0.0


def add_up(outcomes: Iterable[JobOutcome]) -> list[FeedTotals]:
    """One total per feed, in the order in which the feeds were first synced."""
    totals: dict[str, FeedTotals] = {}
    for outcome in outcomes:
        for done in outcome.materializations:
            *folder, feed = done.asset.path
            if folder == ["customerio", "feeds"]:
                before = totals.get(feed, FeedTotals(feed))
                counts = {name: getattr(before, name) + done.metadata[label] for name, label in _COUNTED.items()}
                totals[feed] = FeedTotals(feed, before.days + 1, **counts)
    return list(totals.values())


def feeds_table(totals: Iterable[FeedTotals]) -> Table:
    """One line per feed and one for all."""
    totals = list(totals)
    total = FeedTotals(
        "all feeds",
        max((t.days for t in totals), default=0),
        **{name: sum(getattr(t, name) for t in totals) for name in _COUNTED},
    )
    shown = [f.name for f in fields(FeedTotals) if f.name in _COUNTED and (f.name in _ESSENTIAL or getattr(total, f.name))]
    table = Table(title="What was synced", title_justify="left")
    for name in ("feed", "days", *shown):
        table.add_column(name, justify="left" if name == "feed" else "right", no_wrap=True)
    for line in (*totals, total):
        if line is total:
            table.add_section()
        table.add_row(line.feed, str(line.days), *(_number(getattr(line, name)) for name in shown))
    return table


def checks_table(outcomes: Iterable[JobOutcome]) -> Table:
    """One line per check over all assets, and one more for each thing that a failed one said, with its asset."""
    by_check: dict[str, list[CheckOutcome]] = {}
    for outcome in outcomes:
        for check in outcome.checks:
            by_check.setdefault(check.name, []).append(check)
    table = Table(title="Checks", title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("passed", justify="right", no_wrap=True)
    table.add_column("says", overflow="fold")
    for name, checks in sorted(by_check.items()):
        failed = Counter((check.asset, check.description) for check in checks if not check.is_passed)
        passed, waiting = (sum(getattr(check, name) for check in checks) for name in ("is_passed", "is_not_ready"))
        state = "[yellow]not ready[/]" if waiting == len(checks) else f"{passed}/{len(checks)}"
        table.add_row(name, state, "" if failed else escape(_what_all_say(checks)))
        for (asset, said), times in sorted(failed.items()):
            often = f" ({times} times)" if times > 1 else ""
            colour = "yellow" if said.startswith(NOT_READY) else "red"
            table.add_row("", "", f"[{colour}]{escape(f'{asset}: {said}{often}')}")
    return table


def _what_all_say(checks: list[CheckOutcome]) -> str:
    said = {check.description for check in checks}
    return said.pop() if len(said) == 1 else "passed everywhere"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
