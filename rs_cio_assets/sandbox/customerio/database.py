"""The SQLite file behind the workspace: its tables, one lock, transactions within each other, settings, and the time in it.

What the rows mean, and what an operation does to them, is `workspace.py`'s matter.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS people (
    cio_id INTEGER PRIMARY KEY, id TEXT UNIQUE, email TEXT, attributes TEXT NOT NULL, set_at TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS people_by_email ON people (lower(email)) WHERE email IS NOT NULL;
CREATE TABLE IF NOT EXISTS activities (
    number INTEGER PRIMARY KEY, event_id TEXT UNIQUE, cio_id INTEGER NOT NULL, type TEXT NOT NULL, name TEXT,
    timestamp INTEGER NOT NULL, received_at INTEGER NOT NULL, data TEXT NOT NULL
) STRICT;
DROP INDEX IF EXISTS activities_of_person; -- of an earlier version: it had no timestamp
CREATE INDEX IF NOT EXISTS activities_by_person ON activities (cio_id, type, name, timestamp);
CREATE INDEX IF NOT EXISTS activities_by_type ON activities (type); -- newest first within a type, without a sort
CREATE INDEX IF NOT EXISTS events_by_name ON activities (name, timestamp) WHERE type = 'event';
CREATE TABLE IF NOT EXISTS suppressions (kind TEXT, value TEXT, cause TEXT NOT NULL, PRIMARY KEY (kind, value)) STRICT;
CREATE TABLE IF NOT EXISTS forgotten_events (event_id TEXT PRIMARY KEY) STRICT;
CREATE TABLE IF NOT EXISTS campaigns (id INTEGER PRIMARY KEY, campaign TEXT NOT NULL) STRICT; -- as Customer.io's pages show it
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL, tags TEXT NOT NULL,
    condition TEXT, -- null: a manual segment
    created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, build_s INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS manual_members (
    segment_id INTEGER, cio_id INTEGER, PRIMARY KEY (segment_id, cio_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS manual_members_by_person ON manual_members (cio_id);
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
Row = sqlite3.Row


class Database:
    """The file *database*. Thread-safe. *clock* gives unix seconds; `move_time` puts the workspace ahead of it."""

    def __init__(self, database: Path, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._depth = 0  # of transactions within each other: the outermost begins and commits
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

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; other threads wait. `rows`, `change` and further transactions within it are part of it."""
        with self._lock:
            if self._depth == 0:
                self._connection.execute("BEGIN")
            self._depth += 1
            try:
                yield
            except BaseException:
                if self._depth == 1:
                    self._connection.execute("ROLLBACK")
                raise
            else:
                if self._depth == 1:
                    self._connection.execute("COMMIT")
            finally:
                self._depth -= 1

    def now(self) -> int:
        """The workspace's time in unix seconds."""
        return int(self._clock()) + self._ahead_s()

    def move_time(self, advance_s: int) -> None:
        """Put the workspace's time ahead by that much more; kept over a restart."""
        with self.transaction():
            self.set_setting("ahead_s", str(self._ahead_s() + advance_s))

    def _ahead_s(self) -> int:
        return int(self.setting("ahead_s") or 0)

    def setting(self, name: str) -> str | None:
        """A kept value; None when it was never set."""
        found = self.rows("SELECT value FROM settings WHERE name = ?", (name,))
        return found[0]["value"] if found else None

    def set_setting(self, name: str, value: str) -> None:
        """Keep a value over restarts."""
        self.change("INSERT OR REPLACE INTO settings VALUES (?, ?)", (name, value))
