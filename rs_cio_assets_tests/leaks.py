"""What nobody may read in output, logs, metadata and files: people and secrets; and where they were found all the same.

People and secrets are looked for as they are written, and as JSON, an address or Dagster's storage may write them: escaped,
percent-encoded, compressed within base64, in cells of SQLite (long ones are cut in its file) and of Parquet.
"""

from __future__ import annotations

import base64
import binascii
import re
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq
from dagster import DagsterInstance
from dagster._serdes import serialize_value

_EMAIL = re.compile(r"[\w.+'-]+@[\w-]+(?:\.[\w-]+)+")
_ESCAPED = re.compile(r"\\+u([0-9a-fA-F]{4})")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}")
SHORTEST_NAME = 4  # shorter ones are words of other things


@dataclass(frozen=True)
class Leak:
    """One value where it must not stand: of which *kind*, and *where*. The value itself is not told: a test's output is a log."""

    where: str
    kind: str


class Hidden:
    """The values that nobody may read. *emails*, *names* and *ids* are of people; *secrets* are found within longer texts."""

    def __init__(
        self, *, emails: Iterable[str] = (), names: Iterable[str] = (), ids: Iterable[str] = (), secrets: Iterable[str] = ()
    ) -> None:
        self.emails = {email.lower() for email in emails if email}
        self.names = {name for name in names if name and len(name) >= SHORTEST_NAME}
        self.ids = {person_id for person_id in ids if person_id}
        self.secrets = tuple(secrets)
        # Words that begin as one of them does: most of a log begins otherwise, and is passed over at once.
        first = "".join(sorted(re.escape(word[0]) for word in {*self.names, *self.ids})) or "\0"
        self._word = re.compile(rf"(?<!\w)[{first}]\w*(?:['-]\w+)*")

    def found_in(self, where: str, data: str | bytes) -> set[Leak]:
        """Every kind that stands in *data*."""
        kinds = set()
        for text in _readings(data if isinstance(data, str) else data.decode(errors="replace")):
            words = set(self._word.findall(text))
            if not self.emails.isdisjoint(_emails(text)):
                kinds.add("email")
            if not self.names.isdisjoint(words):
                kinds.add("name")
            if not self.ids.isdisjoint(words):
                kinds.add("id")
            if any(secret in text for secret in self.secrets):
                kinds.add("secret")
        return {Leak(where, kind) for kind in kinds}

    def found_in_file(self, path: Path, where: str) -> set[Leak]:
        """The same of a file: its bytes, its name and, of SQLite and Parquet, every cell."""
        found = self.found_in(where, path.read_bytes()) | self.found_in(where, path.name)
        if path.suffix == ".parquet":
            return found.union(*(self.found_in(where, str(row)) for row in pq.read_table(path).to_pylist()))
        if path.suffix == ".db" and path.read_bytes()[:6] == b"SQLite":
            return found.union(*(self.found_in(where, cell) for cell in _cells(path)))
        return found

    def found_in_folder(self, folder: Path, *, but: Iterable[str] = ()) -> tuple[set[Leak], int]:
        """The same of every file below *folder* but those below the folders *but*; and how many files were read."""
        others = [folder / name for name in but]
        files = [p for p in sorted(folder.rglob("*")) if p.is_file() and not any(p.is_relative_to(other) for other in others)]
        found: set[Leak] = set()
        for path in files:
            found |= self.found_in_file(path, path.relative_to(folder).as_posix())
        return found, len(files)

    def found_in_instance(self, instance: DagsterInstance) -> set[Leak]:
        """The same of what Dagster keeps: each run with its tags and its configuration, and every event of it."""
        found: set[Leak] = set()
        for run in instance.get_runs():
            found |= self.found_in(f"the run {run.run_id}", serialize_value(run))
            for record in instance.all_logs(run.run_id):
                what = record.dagster_event.event_type_value if record.dagster_event else "log"
                found |= self.found_in(f"{what} of {run.job_name}", serialize_value(record))
        return found


def _emails(text: str) -> Iterator[str]:
    """What may be an address, in small letters; looked for around each @ alone."""
    for at in re.finditer("@", text):
        for email in _EMAIL.findall(text[max(at.start() - 64, 0) : at.start() + 192]):
            yield from (email.lower(), email.lower().lstrip("'"))  # it may be quoted


def _readings(text: str) -> Iterator[str]:
    """A text as it is, and as its encodings may be read."""
    yield text
    if "\\u" in text:
        yield _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    if "%" in text:
        yield unquote(text)
    for found in _BASE64.findall(text):
        try:
            yield zlib.decompress(base64.b64decode(found)).decode(errors="replace")
        except (binascii.Error, zlib.error):  # almost always: something else of these letters
            continue


def _cells(path: Path) -> Iterator[str]:
    """Every cell of an SQLite file, as text."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield from (cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell) for cell in row)
