"""Dagster's SQLite storage without waiting for the disk, named by the sandbox's dagster.yaml.

A run of a day commits some 600 times; a disk that takes milliseconds for each makes Dagster's share many times the work's own.
A process that is killed loses nothing. After a power cut the history may be unreadable (`make clean`): what was delivered stands
in the ledger, which does wait for the disk.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, Self

from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import event
from sqlalchemy.engine import Engine


class SandboxStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite, in the same files as Dagster's own."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        # Dagster makes an engine for each statement: only all of the process's can be reached.
        if not event.contains(Engine, "connect", _do_not_wait):
            event.listen(Engine, "connect", _do_not_wait)
        super().__init__(base_dir, inst_data)

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """See ConfigurableClass; Dagster's own makes a storage of its own class here."""
        return cls.from_local(inst_data=inst_data, **config_value)


def _do_not_wait(connection: object, _: object) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA synchronous=OFF")
