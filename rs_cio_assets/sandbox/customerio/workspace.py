"""The workspace's state in SQLite: people, their attributes with times, events, the activity log, and campaigns.

Applies operations that passed `rules.py`. As in Customer.io, applying is silent: what does not take is an activity, never an
error. Source of the behaviour: customerio-api.md, sections 2, 4, 7 and 8.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rs_cio_assets.sandbox.customerio.rules import EVENT_ACTIONS

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    cio_id INTEGER PRIMARY KEY, id TEXT UNIQUE, email TEXT, attributes TEXT NOT NULL, set_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS people_by_email ON people (lower(email)) WHERE email IS NOT NULL;
CREATE TABLE IF NOT EXISTS activities (
    number INTEGER PRIMARY KEY, event_id TEXT UNIQUE, cio_id INTEGER NOT NULL, type TEXT NOT NULL, name TEXT,
    timestamp INTEGER NOT NULL, received_at INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS activities_of_person ON activities (cio_id, type, name);
CREATE INDEX IF NOT EXISTS events_by_name ON activities (name, timestamp) WHERE type = 'event';
CREATE TABLE IF NOT EXISTS suppressions (kind TEXT, value TEXT, cause TEXT NOT NULL, PRIMARY KEY (kind, value)) STRICT;
CREATE TABLE IF NOT EXISTS forgotten_events (event_id TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS campaigns (id INTEGER PRIMARY KEY, campaign TEXT NOT NULL) STRICT; -- as the App API lists it
"""
Row = sqlite3.Row
MAX_CIO_ID_DIGITS = 19  # longer ones do not fit SQLite's integers
CREATING_IDENTIFIERS = frozenset({"id", "email"})  # an unknown cio_id is dropped, and phone is not enabled in this workspace


class Workspace:
    """One workspace in the file *database*. Thread-safe. *clock* gives unix seconds."""

    def __init__(self, database: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Read: every row of a query."""
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def change(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Write: one statement; how many rows it changed."""
        with self._lock:
            return self._connection.execute(sql, values).rowcount

    def now(self) -> int:
        """The workspace's time in unix seconds."""
        return int(self._clock())

    def apply(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Apply accepted operations in their order, all or none."""
        with self._transaction():
            for operation in operations:
                self._apply(operation, self.now())

    def find(self, kind: str, value: str) -> Row | None:
        """The person with that identifier (`id`, `email` or `cio_id`)."""
        with self._lock:
            return self._find(kind, value)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._connection.execute("BEGIN")
            try:
                yield
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def _apply(self, operation: Mapping[str, Any], now: int) -> None:
        action = operation["action"]
        if action == "merge":
            self._merge(operation["primary"], operation["secondary"], now)
            return
        ((kind, value),) = operation["identifiers"].items()
        if action == "unsuppress":
            self._unsuppress(kind, value)
        elif self._is_suppressed(kind, value):
            return
        elif action in EVENT_ACTIONS:
            self._event(kind, value, operation, now)
        elif action == "identify":
            self._identify(kind, value, operation, now)
        elif action == "suppress":
            self._suppress(kind, value)
        elif action == "delete":
            self._delete(kind, value)

    def _event(self, kind: str, value: str, operation: Mapping[str, Any], now: int) -> None:
        if "id" in operation and self._is_received(operation["id"].upper()):
            return  # "we ignore the duplicate"
        person = self._find(kind, value)
        if person is None and kind not in CREATING_IDENTIFIERS:
            return
        cio_id = person["cio_id"] if person else self._create(kind, value, now)
        self._log(
            cio_id,
            operation["action"],
            operation["name"].strip(),
            operation.get("timestamp", now),
            now,
            operation.get("attributes", {}),
            operation["id"].upper() if "id" in operation else None,
        )

    def _identify(self, kind: str, value: str, operation: Mapping[str, Any], now: int) -> None:
        attributes = dict(operation.get("attributes", {}))
        is_update_only = attributes.pop("_update", False) is True
        person = self._find(kind, value)
        if person is None and kind == "id" and isinstance(attributes.get("email"), str):
            person = self._adopt(value, attributes["email"])
        if person is None:
            if is_update_only or kind not in CREATING_IDENTIFIERS:
                return
            self._create(kind, value, now)
            person = self._find(kind, value)
        assert person is not None  # noqa: S101 - just made
        timestamp = operation.get("timestamp", now)
        attributes.pop("cio_id", None)  # assigned by the workspace, never by a request
        if "id" in attributes:
            self._set_id(person, _as_text(attributes.pop("id")), timestamp, now, may_change=kind == "cio_id")
        self._set_attributes(person, attributes, timestamp, now)

    def _set_id(self, person: Row, person_id: str | None, timestamp: int, now: int, *, may_change: bool) -> None:
        """An id among the attributes: taken by who has none; "once set" it is changed by those who name the cio_id only."""
        if person_id == person["id"]:
            return
        is_free = person_id is not None and self._find("id", person_id) is None and not self._is_suppressed("id", person_id)
        if is_free and (may_change or person["id"] is None):
            self._connection.execute("UPDATE people SET id = ? WHERE cio_id = ?", (person_id, person["cio_id"]))
        else:
            data = {"id": "cannot be changed, or is not free"}
            self._log(person["cio_id"], "failed_attribute_change", "id", timestamp, now, data)

    def _adopt(self, person_id: str, email: str) -> Row | None:
        """Somebody known by email alone gets the id."""
        known = self._find("email", email)
        if known is None or known["id"] is not None:
            return None
        self._connection.execute("UPDATE people SET id = ? WHERE cio_id = ?", (person_id, known["cio_id"]))
        return self._find("id", person_id)

    def _set_attributes(self, person: Row, attributes: Mapping[str, Any], timestamp: int, now: int) -> None:
        values, set_at = json.loads(person["attributes"]), json.loads(person["set_at"])
        changes: dict[str, dict[str, str | None]] = {}
        skipped: list[str] = []
        for name, raw in attributes.items():
            if set_at.get(name, -1) > timestamp:
                skipped.append(name)
                continue
            if name == "email" and not self._can_have_email(person, raw, timestamp, now):
                continue
            text = _as_text(raw)
            if values.get(name) != text:
                changes[name] = {"from": values.get(name), "to": text}
            set_at[name] = timestamp
            values.pop(name, None) if text is None else values.update({name: text})
        self._connection.execute(
            "UPDATE people SET email = ?, attributes = ?, set_at = ? WHERE cio_id = ?",
            (values.get("email"), _dump(values), _dump(set_at), person["cio_id"]),
        )
        if changes:
            self._log(person["cio_id"], "attribute_change", None, timestamp, now, changes)
        if skipped:
            self._log(person["cio_id"], "skipped_update", None, timestamp, now, {"attributes": skipped})

    def _can_have_email(self, person: Row, email: Any, timestamp: int, now: int) -> bool:
        text = _as_text(email)
        if text is None:
            return True
        other, is_suppressed = self._find("email", text), self._is_suppressed("email", text)
        if not is_suppressed and (other is None or other["cio_id"] == person["cio_id"]):
            return True
        data = {"email": "is suppressed" if is_suppressed else "belongs to another person"}
        self._log(person["cio_id"], "failed_attribute_change", "email", timestamp, now, data)
        return False

    def _create(self, kind: str, value: str, now: int) -> int:
        columns = (value, None) if kind == "id" else (None, value)
        attributes = {"email": value} if kind == "email" else {}
        cursor = self._connection.execute(
            "INSERT INTO people (id, email, attributes, set_at) VALUES (?, ?, ?, '{}')", (*columns, _dump(attributes))
        )
        cio_id = int(cursor.lastrowid or 0)
        self._log(cio_id, "profile_create", None, now, now, {})
        return cio_id

    def _delete(self, kind: str, value: str) -> None:
        person = self._find(kind, value)
        if person is not None:
            self._connection.execute(  # the history goes, but an id that was received stays a duplicate
                "INSERT OR IGNORE INTO forgotten_events SELECT event_id FROM activities WHERE cio_id = ? AND event_id > ''",
                (person["cio_id"],),
            )
            self._connection.execute("DELETE FROM activities WHERE cio_id = ?", (person["cio_id"],))
            self._connection.execute("DELETE FROM people WHERE cio_id = ?", (person["cio_id"],))

    def _merge(self, primary: Mapping[str, str], secondary: Mapping[str, str], now: int) -> None:
        kept, gone = (self._find(*next(iter(who.items()))) for who in (primary, secondary))
        if kept is None or gone is None or kept["cio_id"] == gone["cio_id"]:
            return
        self._connection.execute("UPDATE activities SET cio_id = ? WHERE cio_id = ?", (kept["cio_id"], gone["cio_id"]))
        self._connection.execute("DELETE FROM people WHERE cio_id = ?", (gone["cio_id"],))
        attributes = json.loads(gone["attributes"]) | json.loads(kept["attributes"])
        set_at = json.loads(gone["set_at"]) | json.loads(kept["set_at"])
        self._connection.execute(
            "UPDATE people SET email = ?, attributes = ?, set_at = ? WHERE cio_id = ?",
            (attributes.get("email"), _dump(attributes), _dump(set_at), kept["cio_id"]),
        )
        self._log(kept["cio_id"], "profile_merge", None, now, now, {})

    def _suppress(self, kind: str, value: str) -> None:
        """Delete, and block every identifier that the person had."""
        person = self._find(kind, value)
        blocked = {_blocked(kind, value)}
        if person is not None:
            blocked |= {_blocked(other, person[other]) for other in ("id", "email") if person[other] is not None}
        for other, text in blocked:
            self._connection.execute("INSERT OR IGNORE INTO suppressions VALUES (?, ?, ?)", (other, text, f"{kind}:{value}"))
        self._delete(kind, value)

    def _unsuppress(self, kind: str, value: str) -> None:
        """Free every identifier that was blocked together with this one."""
        self._connection.execute(
            "DELETE FROM suppressions WHERE cause = (SELECT cause FROM suppressions WHERE kind = ? AND value = ?)",
            _blocked(kind, value),
        )

    def _is_received(self, event_id: str) -> bool:
        known = "SELECT 1 FROM activities WHERE event_id = ? UNION ALL SELECT 1 FROM forgotten_events WHERE event_id = ?"
        return self._one(known, event_id, event_id) is not None

    def _is_suppressed(self, kind: str, value: str) -> bool:
        return self._one("SELECT 1 FROM suppressions WHERE kind = ? AND value = ?", *_blocked(kind, value)) is not None

    def _find(self, kind: str, value: str) -> Row | None:
        if kind == "id":
            return self._one("SELECT * FROM people WHERE id = ?", value)
        if kind == "email":
            return self._one("SELECT * FROM people WHERE lower(email) = lower(?) AND email IS NOT NULL", value)
        if kind == "cio_id":
            number = value.removeprefix("cio_").removeprefix("a")
            is_number = number.isdecimal() and len(number) < MAX_CIO_ID_DIGITS
            return self._one("SELECT * FROM people WHERE cio_id = ?", int(number)) if is_number else None
        return None

    def _one(self, sql: str, *values: Any) -> Row | None:
        return self._connection.execute(sql, values).fetchone()

    def _log(
        self,
        cio_id: int,
        kind: str,
        name: str | None,
        timestamp: int,
        now: int,
        data: Mapping[str, Any],
        event_id: str | None = None,
    ) -> None:
        self._connection.execute(
            "INSERT INTO activities (event_id, cio_id, type, name, timestamp, received_at, data) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (event_id, cio_id, kind, name, timestamp, now, _dump(data)),
        )


def _blocked(kind: str, value: str) -> tuple[str, str]:
    """An identifier as it is kept among the suppressions: email addresses without regard to case."""
    return (kind, value.lower() if kind == "email" else value)


def _as_text(value: Any) -> str | None:
    """An attribute as Customer.io keeps it: text. Null and the empty text remove it."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else _dump(value)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
