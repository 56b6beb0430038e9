"""What an operation does to the workspace: people, their attributes with times, events, and the activity log.

Applies operations that passed `rules.py`. As in Customer.io, applying is silent: what does not take is an activity, never an
error. Source of the behaviour: customerio-api.md, sections 2, 4, 7 and 8.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rs_cio_assets.sandbox.customerio.database import Database, Row
from rs_cio_assets.sandbox.customerio.rules import EVENT_ACTIONS

MAX_CIO_ID_DIGITS = 19  # longer ones do not fit SQLite's integers
HOUR_S = 3_600
LOST = "did not take: a fault that was switched on in this stand-in"
MAX_STEPS = 200  # of one move in time: longer moves take longer steps
CREATING_IDENTIFIERS = frozenset({"id", "email"})  # an unknown cio_id is dropped, and phone is not enabled in this workspace


class Follower(Protocol):
    """Who must know what happens in the workspace, as it happens: called within the workspace's transaction."""

    def settle(self, now: int) -> None:
        """Do what time alone brings about, up to *now*: before every change, before every read, and as time is moved on."""

    def event(self, cio_id: int, name: str, event_id: str | None, timestamp: int, data: Mapping[str, Any], now: int) -> None:
        """An event was stored: for the first time, and not one of a page or screen."""

    def gone(self, cio_id: int) -> None:
        """The person is about to be deleted, or merged into another one."""


class Workspace(Database):
    """One workspace in the file *database*. Thread-safe. *clock* gives unix seconds."""

    def __init__(self, database: Path, clock: Callable[[], float]) -> None:
        super().__init__(database, clock)
        self.followers: list[Follower] = []
        self._faults: Mapping[str, Any] = json.loads(self.setting("faults") or "{}")

    def apply(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """Apply accepted operations in their order, all or none."""
        with self.transaction():
            now = self.now()
            self._settle(now)
            for operation in operations:
                self._apply(operation, now)

    def settle(self) -> None:
        """Bring everything that depends on time up to now."""
        with self.transaction():
            self._settle(self.now())

    def advance(self, advance_s: int) -> None:
        """Move the workspace's time on, an hour at a time: what comes due on the way is settled in its order."""
        step_s = HOUR_S * max(1, math.ceil(advance_s / HOUR_S / MAX_STEPS))
        for moved_s in range(0, advance_s, step_s):
            with self.transaction():
                self.move_time(min(step_s, advance_s - moved_s))
                self.settle()

    def faults(self) -> Mapping[str, Any]:
        """What is misconfigured on purpose; `controls.py` says what there is."""
        return self._faults

    def set_faults(self, faults: Mapping[str, Any]) -> None:
        """Replace the whole set; kept over a restart."""
        self.set_setting("faults", json.dumps(faults))
        self._faults = faults

    def find(self, kind: str, value: str) -> Row | None:
        """The person with that identifier (`id`, `email` or `cio_id`)."""
        with self._lock:
            return self._find(kind, value)

    def _settle(self, now: int) -> None:
        for follower in self.followers:
            follower.settle(now)

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
        action, name, data = operation["action"], operation["name"].strip(), operation.get("attributes", {})
        timestamp = operation.get("timestamp", now)
        event_id = operation["id"].upper() if "id" in operation else None
        if name in self._faults.get("lost_events", ()):
            # Without its id: sent again after the mistake was mended, it is no duplicate.
            self._log(cio_id, "failed_event", name, timestamp, now, {"error": LOST, "id": event_id})
            return
        self._log(cio_id, action, name, timestamp, now, data, event_id)
        if action == "event":
            for follower in self.followers:
                follower.event(cio_id, name, event_id, timestamp, data, now)

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
        self._set_attributes(person, attributes, timestamp, now, by=kind)

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

    def _set_attributes(self, person: Row, attributes: Mapping[str, Any], timestamp: int, now: int, *, by: str) -> None:
        values, set_at = json.loads(person["attributes"]), json.loads(person["set_at"])
        changes: dict[str, dict[str, str | None]] = {}
        skipped: list[str] = []
        for name, raw in attributes.items():
            if set_at.get(name, -1) > timestamp:
                skipped.append(name)
                continue
            text = _as_text(raw)
            if (refused := self._refusal(person, name, text, by)) is not None:
                self._log(person["cio_id"], "failed_attribute_change", name, timestamp, now, {name: refused})
                continue
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

    def _refusal(self, person: Row, name: str, text: str | None, by: str) -> str | None:
        """Why the attribute does not take; None when it does."""
        if name in self._faults.get("lost_attributes", ()):
            return LOST
        if name != "email" or text == person["email"]:
            return None
        if self._faults.get("frozen_email") and by == "id" and person["email"] is not None:
            return "cannot be changed by id: the workspace does not allow it"
        if text is None:
            return None
        if self._is_suppressed("email", text):
            return "is suppressed"
        other = self._find("email", text)
        return None if other is None or other["cio_id"] == person["cio_id"] else "belongs to another person"

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
            self._tell_gone(person["cio_id"])
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
        self._tell_gone(gone["cio_id"])
        self._connection.execute("UPDATE activities SET cio_id = ? WHERE cio_id = ?", (kept["cio_id"], gone["cio_id"]))
        self._connection.execute("DELETE FROM people WHERE cio_id = ?", (gone["cio_id"],))
        attributes = json.loads(gone["attributes"]) | json.loads(kept["attributes"])
        set_at = json.loads(gone["set_at"]) | json.loads(kept["set_at"])
        self._connection.execute(
            "UPDATE people SET email = ?, attributes = ?, set_at = ? WHERE cio_id = ?",
            (attributes.get("email"), _dump(attributes), _dump(set_at), kept["cio_id"]),
        )
        self._log(kept["cio_id"], "profile_merge", None, now, now, {})

    def _tell_gone(self, cio_id: int) -> None:
        for follower in self.followers:
            follower.gone(cio_id)
        self._connection.execute("DELETE FROM manual_members WHERE cio_id = ?", (cio_id,))

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
