"""The sandbox's Dagster history: Dagster's own files, without waiting for the disk, in every process that opens them."""

from __future__ import annotations

import json
from pathlib import Path

from dagster import DagsterInstance
from dagster._core.storage.event_log import SqliteEventLogStorage

from rs_cio_assets.sandbox.dagster_storage import SandboxStorage


def synchronous(instance: DagsterInstance) -> int:
    """SQLite's setting on a connection to the event log: 0 does not wait, 2 is the default."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqliteEventLogStorage)
    with storage.index_connection() as connection:
        return connection.exec_driver_sql("PRAGMA synchronous").scalar()


def test_no_process_waits_for_the_disk_and_the_files_are_dagster_s_own(tmp_path: Path):
    """An instance, and one made of its reference as each run's process makes it, commit without waiting."""
    storage = {"module": SandboxStorage.__module__, "class": "SandboxStorage", "config": {"base_dir": str(tmp_path)}}
    (tmp_path / "dagster.yaml").write_text(f"storage:\n  custom: {json.dumps(storage)}\n")
    with DagsterInstance.from_config(str(tmp_path)) as instance, DagsterInstance.from_ref(instance.get_ref()) as of_a_run:
        assert [synchronous(instance), synchronous(of_a_run)] == [0, 0]
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.db")} == {
        "history/runs.db",
        "history/runs/index.db",
        "schedules/schedules.db",
    }
