"""The readiness checklist as a page that can be sent to somebody: Markdown or HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from datetime import datetime

from rs_cio_assets.readiness.lines import Line, State

_HEAD = ("", "checklist", "state", "evidence", "checked (UTC)", "next step")
_SIGNS = {State.READY: "✅", State.FAILING: "❌", State.NOT_READY: "⏳"}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Readiness</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ border-bottom: 1px solid #ccc; padding: .5rem; text-align: left; vertical-align: top; }}
</style></head><body><h1>Readiness</h1><p>{summary}</p><table><thead><tr>{head}</tr></thead><tbody>
{rows}
</tbody></table></body></html>
"""


def summary(lines: Sequence[Line], now: datetime) -> str:
    """One sentence over all lines."""
    ready = sum(line.state is State.READY for line in lines)
    return f"{ready} of {len(lines)} lines are ready, as of {now:%Y-%m-%d %H:%M} UTC."


def as_markdown(lines: Sequence[Line], now: datetime) -> str:
    """A heading, the summary and one table."""
    rows = [_HEAD, ("---",) * len(_HEAD), *map(_cells, lines)]
    table = "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in rows)
    return f"# Readiness\n\n{summary(lines, now)}\n\n{table}\n"


def as_html(lines: Sequence[Line], now: datetime) -> str:
    """The same as a page of its own."""
    rows = "\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _cells(line))}</tr>" for line in lines)
    head = "".join(f"<th>{cell}</th>" for cell in _HEAD)
    return _PAGE.format(summary=summary(lines, now), head=head, rows=rows)


def _cells(line: Line) -> tuple[str, ...]:
    checked = f"{line.oldest:%Y-%m-%d %H:%M}" if line.oldest else "never"
    return (_SIGNS[line.state], line.item, line.state.value, line.evidence, checked, line.next_step)
