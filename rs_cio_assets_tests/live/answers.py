"""The answers file: what was asked, what came back, and whether it is what the product assumes. Kept by the team.

It is written after every answer, so that an interrupted run leaves what it has. It holds no secret: whatever the settings say
(hosts, users, keys, buckets, roles) stands there as the name of its variable. People in it are made up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import httpx
from pydantic import SecretStr

from rs_cio_assets.settings import VARIABLES, Settings

Verdict = Literal["holds", "differs", "not seen"]
HEADERS = ("content-type", "content-length", "retry-after", "location", "www-authenticate", "allow")
BODY_SHOWN = 4_000
_PUBLIC = {"us", "eu", "true", "false", "password", "auto", "create"}  # values that hide nothing and stand in many texts
_SHORTEST = 4  # a shorter value would be found everywhere


@dataclass
class Answer:
    """One test's: *exchanges* are requests with their answers, *facts* what was measured. *where* in the code it is assumed."""

    test: str
    question: str
    assumes: str
    where: str
    relies: bool
    verdict: Verdict = "not seen"
    words: str = "nothing was seen"
    exchanges: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def judge(self, holds: bool, words: str) -> None:
        """Say whether the assumption holds. Raises: AssertionError where it does not and the product relies on it."""
        self.verdict, self.words = "holds" if holds else "differs", words
        assert holds or not self.relies, f"the product assumes that {self.assumes} ({self.where}): {words}"

    def exchange(self, request: Mapping[str, Any], response: httpx.Response) -> None:
        """Note a request (without its credentials) and what came back."""
        headers = {name: response.headers[name] for name in HEADERS if name in response.headers}
        try:
            body: Any = response.json()
            if len(response.text) > BODY_SHOWN:
                body = response.text[:BODY_SHOWN]
        except ValueError:
            body = response.text[:BODY_SHOWN]
        self.exchanges.append({"request": dict(request), "status": response.status_code, "headers": headers, "body": body})


class AnswersFile:
    """One run's file: `<folder>/<date>.json`, with a number where the day has one already."""

    def __init__(
        self, folder: Path, run: str, settings: Settings, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._now = now
        self._hidden = hidden_values(settings)
        earlier = (json.loads(path.read_text()) for path in folder.glob("*.json"))
        self._earlier = sorted(earlier, key=lambda content: content["started_at"])
        folder.mkdir(parents=True, exist_ok=True)
        self.path = _free(folder, f"{now():%Y-%m-%d}")
        self._content: dict[str, Any] = {
            "run": run,
            "started_at": now().isoformat(timespec="seconds"),
            "workspace_id": settings.customerio.workspace_id,
            "answers": [],
            "made": [],
            "left_behind": [],
            "second_steps": [],
            "settled": [],
        }
        self._write()

    def add(self, answer: Answer) -> None:
        """Keep one answer."""
        self._content["answers"].append({**vars(answer), "asked_at": self._now().isoformat(timespec="seconds")})
        self._write()

    def note(self, what: Literal["made", "left_behind", "second_steps"], item: Any) -> None:
        """Keep what was made (to be found even if the process is killed), could not be removed, or is to be compared later."""
        self._content[what].append(item)
        self._write()

    @property
    def left_behind(self) -> list[str]:
        """What could not be removed."""
        return self._content["left_behind"]

    @property
    def kept(self) -> list[dict[str, Any]]:
        """What this run leaves to be compared."""
        return self._content["second_steps"]

    def second_steps(self) -> list[dict[str, Any]]:
        """What the latest earlier run in the same workspace left to be compared, unless it was settled since."""
        settled = {run for content in self._earlier for run in content["settled"]}
        for content in reversed(self._earlier):
            if content["workspace_id"] == self._content["workspace_id"] and content["second_steps"]:
                return [step for step in content["second_steps"] if step["run"] not in settled]
        return []

    def settle(self, run: str) -> None:
        """Nothing of that run is left to be compared."""
        self._content["settled"].append(run)
        self._write()

    def _write(self) -> None:
        text = json.dumps(scrub(self._content, self._hidden), indent=1, ensure_ascii=False, default=str)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(text + "\n")
        beside.replace(self.path)  # an interruption leaves the earlier one whole


def hidden_values(settings: Settings) -> dict[str, str]:
    """What must not be written -> what is written in its place: the name of the variable that says it. Longest first."""
    hidden: dict[str, str] = {}
    for variable, path in VARIABLES.items():
        value: Any = settings
        for part in path:
            value = getattr(value, part)
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if isinstance(text, str) and len(text) >= _SHORTEST and text not in _PUBLIC:
            hidden[text] = f"<{variable}>"
            if text.startswith("s3://"):
                hidden[text.removeprefix("s3://").split("/")[0]] = f"<bucket of {variable}>"
    return dict(sorted(hidden.items(), key=lambda item: -len(item[0])))


def scrub(value: Any, hidden: Mapping[str, str]) -> Any:
    """*value* with every hidden text replaced, in keys and values, however deep."""
    if isinstance(value, Mapping):
        return {scrub(key, hidden): scrub(inner, hidden) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(inner, hidden) for inner in value]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        for text, shown in hidden.items():
            value = value.replace(text, shown)
    return value


def _free(folder: Path, name: str) -> Path:
    path, number = folder / f"{name}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{name}-{number}.json"
    return path
