"""What the commands of `cli_delivery.py` say to a person at a terminal. Shows rows: nothing here may reach a log or metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rs_cio_assets.delivery import DeliveryReport, Preview
from rs_cio_assets.operations import SentRow
from rs_cio_assets.rejected import RejectedRow, RejectionList, Replay

_NUMBERS = {"rows", "delivered", "unchanged", "held", "rejected", "attempts"}
_NOT_SENT = {
    "unchanged": "It was delivered before with this content, so nothing was sent; --resend sends it again.",
    "amended": (
        "The event was delivered before with other content, so nothing was sent: Customer.io ignores a repeated event. "
        "--resend sends it all the same."
    ),
}


def print_preview(console: Console, preview: Preview, next_steps: Mapping[str, str], *, is_refused: bool) -> None:
    """The day in counts, the journeys it could start, and its first operations. *is_refused*: a backfill that may start none."""
    console.print(f"[bold]{preview.feed} {preview.day}[/]: {preview.rows:,} rows. Nothing was sent.")
    if not preview.rows:
        console.print(
            "The day is empty: rows stand on the UTC day of their time. --export without a day takes the newest that has some."
        )
        return
    console.print(_table(("rows", "outcome"), [(f"{n:,}", name) for name, n in preview.outcomes.items() if n]))
    if preview.rejected_by_reason:
        rejected = sorted(preview.rejected_by_reason.items(), key=lambda item: (-item[1], item[0]))
        rows = [(f"{n:,}", reason, next_steps.get(reason, "")) for reason, n in rejected]
        console.print(_table(("rows", "rejected for", "next step"), rows))
    console.print(f"To send: {preview.requests:,} requests, {preview.request_bytes:,} bytes.")
    if preview.unknown_people:
        console.print(f"People who were never delivered, of rows to be sent: {preview.unknown_people:,}.")
    _print_campaigns(console, preview, is_refused=is_refused)
    if preview.operations:
        console.print(f"The first {len(preview.operations)} operations (personal data):")
        for operation in preview.operations:
            _print_plain(console, json.dumps(operation, indent=2, ensure_ascii=False))


def _print_campaigns(console: Console, preview: Preview, *, is_refused: bool) -> None:
    if not preview.campaigns:
        young = f"{preview.could_trigger:,} rows are young enough to start a campaign, and none is running that they could start."
        console.print(young if preview.could_trigger else "No row that would be sent could start a campaign.")
        return
    console.print(f"{preview.could_trigger:,} rows could start these running campaigns:")
    for campaign in preview.campaigns:
        console.print(f"  {escape(campaign.name or 'unnamed')} (campaign {campaign.campaign_id})")
    if is_refused:
        console.print("[red]A run would refuse to send them[/]: it is a backfill. --on-backfill hold or accept shows the others.")


def print_sent(console: Console, sent: SentRow) -> None:
    """What became of the row, and both sides of it column by column."""
    report = sent.report
    console.print(f"[bold]{report.feed} {report.day}[/]: {escape(_fate(report))}")
    if report.people_first:
        console.print(f"{report.people_first:,} person was delivered first.")
    for example in report.examples:
        console.print(f"[red]{example.reason}[/]: {escape(example.message)}")
    if sent.read_back is None:
        return
    found = sent.read_back.found or {}
    rows = [(name, _value(value), _value(found.get(name))) for name, value in sent.staged.items()]
    console.print(_table(("column", "as staged", "in Customer.io"), rows))
    if sent.is_good:
        console.print("[green]Customer.io holds the row as it is staged.[/]")
    else:
        console.print(f"[red]Not as staged[/]: {escape(sent.read_back.problem or '')}.")
        console.print("Next step: look the person up in Customer.io's activity log (failed attribute change, skipped update).")


def _fate(report: DeliveryReport) -> str:
    for outcome, text in _NOT_SENT.items():
        if getattr(report, outcome):
            return text
    if report.held:
        until = f" until {report.held_until:%Y-%m-%d %H:%M} UTC" if report.held_until else ": its person was never delivered"
        return f"The row is held{until}; nothing was sent."
    if report.rejected:
        return "The row was rejected and not delivered."
    return "The row was sent and acknowledged."


def print_rejections(console: Console, found: RejectionList) -> None:
    """Rows under the reason that they share, and the counts of all."""
    rows = sorted(found.rows, key=lambda row: (row.feed, row.reason, row.column or "", row.message))
    for (feed, reason, column, message), group in groupby(rows, key=lambda r: (r.feed, r.reason, r.column, r.message)):
        console.print(f"\n[bold]{feed}: {escape(reason)}[/]{f' in {column}' if column else ''}\n{escape(message)}")
        console.print(_rejected_table(sorted(group, key=lambda row: row.day, reverse=True)))
    if not found.total:
        console.print("No rejected row.")
        return
    console.print(_table(("rows", "reason"), [(f"{n:,}", reason) for reason, n in found.by_reason.items()]))
    left_out = (
        "" if len(found.rows) == found.total else f" {len(found.rows):,} of them are shown: raise --limit, or narrow the days."
    )
    console.print(f"{found.total:,} rejected rows on {len(found.days):,} days.{left_out}")


def _rejected_table(rows: Sequence[RejectedRow]) -> Table:
    return _table(
        ("day", "business key", "first seen (UTC)", "last seen (UTC)", "attempts"),
        [
            (row.day, row.business_key, f"{row.first_seen:%Y-%m-%d %H:%M}", f"{row.last_seen:%Y-%m-%d %H:%M}", str(row.attempts))
            for row in rows
        ],
    )


def print_replay(console: Console, feed: str, replay: Replay) -> None:
    """The days together, each day that did not go well, and what to do about those that are not staged."""
    if not replay.days and not replay.not_staged:
        console.print("No day in this range has such rejections.")
    if replay.days:
        counts = ("rows", "delivered", "unchanged", "held", "rejected")
        rows = [(day.day, *(f"{getattr(day.totals, name):,}" for name in counts), day.run_id) for day in replay.days]
        console.print(_table(("day", *counts, "Dagster run"), rows))
    for day in replay.days:
        for failure in day.failures:
            console.print(f"[red]{day.day}[/]: {escape(failure)}")
        if day.totals.rejected:
            command = f"rs-cio rejections {feed} --from {day.day} --to {day.day}"
            console.print(f"{day.day}: {day.totals.rejected:,} rows are rejected still; {command} shows them.")
    if replay.not_staged:
        console.print(f"[red]Not staged any more[/]: {', '.join(replay.not_staged)}.")
        console.print(
            f"Next step: materialize redshift/exports/{feed} with customerio/feeds/{feed} for them; mended rows go along."
        )


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for name in names:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _value(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_plain(console: Console, text: str) -> None:
    console.print(text, markup=False, soft_wrap=True)
