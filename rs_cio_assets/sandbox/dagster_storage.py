"""Dagster's SQLite storage without waiting for the disk, named by the sandbox's dagster.yaml.

A run of a day commits some 600 times; a disk that takes milliseconds for each makes Dagster's share many times the work's own.
A process that is killed loses nothing. After a power cut the history may be unreadable (`make clean`): what was delivered stands
in the ledger, which does wait for the disk. Dagster's own makes an engine and a connection for each statement; here the engines
stay, and with them the SQL that was compiled, and connections to all files but those of runs.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME, SqliteEventLogStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.schedules.sqlite.sqlite_schedule_storage import SqliteScheduleStorage
from dagster._core.storage.sql import create_engine
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import NullPool, QueuePool, event
from sqlalchemy.engine import Connection, Engine


def stored_in(folder: Path) -> dict[str, Any]:
    """What `storage` is in a dagster.yaml whose history is kept in *folder*."""
    return {"custom": {"module": __name__, "class": SandboxStorage.__name__, "config": {"base_dir": str(folder)}}}


class SandboxStorage(DagsterSqliteStorage):
    """Runs, events and schedules in SQLite, in the same files as Dagster's own."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._run_storage = _Runs(self._run_storage._conn_string)  # noqa: SLF001 - the files that were just made
        self._event_log_storage = _Events(self._event_log_storage._base_dir)  # noqa: SLF001
        self._schedule_storage = _Schedules(self._schedule_storage._conn_string)  # noqa: SLF001

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]) -> Self:
        """See ConfigurableClass; Dagster's own makes a storage of its own class here."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _Pooled:
    """A storage of one file, whose connections stay open between statements."""

    _conn_string: str

    @cached_property
    def _engine(self) -> Engine:
        return _make_engine(self._conn_string, QueuePool)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            yield connection

    def dispose(self) -> None:
        self._engine.dispose()


class _Runs(_Pooled, SqliteRunStorage):
    pass


class _Schedules(_Pooled, SqliteScheduleStorage):
    pass


class _Events(SqliteEventLogStorage):
    @cached_property
    def _index(self) -> Engine:
        return _make_engine(self.conn_string_for_shard(INDEX_SHARD_NAME), QueuePool)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            engine = self._index if shard == INDEX_SHARD_NAME else _engine_of_a_run(self.conn_string_for_shard(shard))
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            with engine.begin() as connection:
                yield connection

    def dispose(self) -> None:
        super().dispose()
        self._index.dispose()


@lru_cache(maxsize=64)
def _engine_of_a_run(address: str) -> Engine:
    # No pool: who watches a run looks at its file, and SQLite writes that when the connection is closed.
    return _make_engine(address, NullPool)


def _make_engine(address: str, pool: type[QueuePool | NullPool]) -> Engine:
    engine = create_engine(address, poolclass=pool, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS})
    event.listen(engine, "connect", _do_not_wait)
    return engine


def _do_not_wait(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")
