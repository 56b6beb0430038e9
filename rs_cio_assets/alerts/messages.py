"""One message in the three forms it is told in: plain text for the log, a JSON document, Slack's mrkdwn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rs_cio_assets.alerts.problems import Line, State

SOURCE = "rs_cio_assets"
LINES_SHOWN = 12
# Slack cuts a text off at 40,000 characters, and asks to stay under 4,000. Source: Slack's changelog "Truncating really long
# messages" (api.slack.com/changelog/2018-04-truncating-really-long-messages), read 2026-11-26.
SLACK_LENGTH = 3_900


@dataclass(frozen=True)
class Message:
    """What one receiver is told at one moment; at least one line."""

    lines: Sequence[Line]
    at: datetime

    @property
    def is_good_news(self) -> bool:
        """Everything in it is over."""
        return all(line.state is State.OVER for line in self.lines)

    def text(self) -> str:
        """Plain text, one line for each problem."""
        return self._fitted(_plain)

    def slack(self) -> str:
        """Slack's mrkdwn, escaped, within what one message holds."""
        return self._fitted(_mrkdwn, SLACK_LENGTH)

    def document(self) -> dict[str, Any]:
        """The JSON document of the generic webhook (docs/operator.md lists its fields)."""
        return {
            "source": SOURCE,
            "sent_at": self.at.isoformat(timespec="seconds"),
            "text": self.text(),
            "problems": [_record(line) for line in self.lines],
        }

    def _fitted(self, write: Callable[[Line], str], length: int | None = None) -> str:
        """As many lines as fit, at most LINES_SHOWN, and how many more there are."""
        counts = Counter(line.state.value for line in self.lines)
        written = [f"{SOURCE}: {', '.join(f'{count} {state}' for state, count in counts.items())}"]
        more = "and {} more: the Dagster UI has all"
        room = None if length is None else length - len(written[0]) - len(more) - 8
        for line in self.lines[:LINES_SHOWN]:
            text = write(line)
            if room is not None:
                room -= len(text) + 1
                if room < 0:
                    break
            written.append(text)
        left = len(self.lines) - len(written) + 1
        return "\n".join([*written, *([more.format(left)] if left else [])])


def _plain(line: Line) -> str:
    step = f". Next step: {line.next_step}" if line.next_step else ""
    return f"{line.state.value}: {line.kind}: {_where(line)}: {line.what.rstrip('.')}{step}{f' {line.link}' if line.link else ''}"


def _mrkdwn(line: Line) -> str:
    step = f"\n    _Next step:_ {_escaped(line.next_step)}" if line.next_step else ""
    link = f" <{_escaped(line.link)}|open>" if line.link else ""
    sign = ":white_check_mark:" if line.state is State.OVER else ":red_circle:"
    return f"{sign} *{line.state.value}: {line.kind}* {_escaped(_where(line))}: {_escaped(line.what)}{step}{link}"


def _where(line: Line) -> str:
    days = " to ".join(line.days)
    if line.count > 1:
        days = f"{line.count:,} times{f', {days}' if days else ''}"
    return f"{line.where} ({days})" if days else line.where


def _record(line: Line) -> dict[str, Any]:
    return {
        "id": line.id,
        "state": line.state.value,
        "kind": line.kind,
        "where": line.where,
        "days": list(line.days),
        "count": line.count,
        "what": line.what,
        "next_step": line.next_step,
        "link": line.link,
        "since": line.since.isoformat(timespec="seconds"),
    }


def _escaped(text: str) -> str:
    """Slack's three control characters, and no others, as entities.

    Source: "Formatting text for app surfaces", Escaping text (api.slack.com), read 2026-11-26.
    """
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
