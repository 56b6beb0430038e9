"""What the doctor says: lines, each with a status and, where it is not ok, with what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rs_cio_assets.errors import RsCioError

Status = Literal["ok", "warning", "failure"]
STATUSES: Sequence[Status] = ("ok", "warning", "failure")  # from best to worst


@dataclass(frozen=True)
class Line:
    """One thing that was looked at. *text* is a sentence, *remedy* an instruction, empty where the status is ok.

    A failure means that a sync cannot go well; a warning, that it can, and what to know before.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""


def ok(name: str, text: str) -> Line:
    """All is well."""
    return Line(name, "ok", text)


def warning(name: str, text: str, remedy: str) -> Line:
    """Worth a person's look; no reason to send nothing."""
    return Line(name, "warning", text, remedy)


def failure(name: str, text: str, remedy: str) -> Line:
    """Nothing may be sent until it is mended."""
    return Line(name, "failure", text, remedy)


def failed(name: str, error: RsCioError, remedy: str = "") -> Line:
    """An error of ours as a line; *remedy* takes the place of the error's own next step."""
    return failure(name, error.problem, remedy or error.next_step or "look at the log, and run rs-cio doctor again")


def worst(lines: Iterable[Line]) -> Status:
    """The status of all of them together; ok where there is none."""
    found = {line.status for line in lines}
    for status in reversed(STATUSES):
        if status in found:
            return status
    return "ok"
