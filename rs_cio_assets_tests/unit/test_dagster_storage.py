"""The sandbox's Dagster history: Dagster's own files, without waiting for the disk, in every process that opens them."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from dagster import DagsterInstance, asset, job, materialize
from dagster._core.storage.event_log import SqliteEventLogStorage

from rs_cio_assets_tests.pipeline import write_dagster_yaml


def synchronous(instance: DagsterInstance) -> int:
    """SQLite's setting on a connection to the event log: 0 does not wait, 2 is the default."""
    storage = instance.event_log_storage
    assert isinstance(storage, SqliteEventLogStorage)
    with storage.index_connection() as connection:
        return connection.exec_driver_sql("PRAGMA synchronous").scalar()


@asset
def something() -> None:
    """An asset to materialize."""


@job
def nothing() -> None:
    """A job to watch."""


def test_no_process_waits_for_the_disk_and_the_files_are_dagster_s_own(tmp_path: Path):
    """An instance, and one made of its reference as each run's process makes it, commit without waiting."""
    write_dagster_yaml(home := tmp_path / "home")
    with DagsterInstance.from_config(str(home)) as instance, DagsterInstance.from_ref(instance.get_ref()) as of_a_run:
        assert [synchronous(instance), synchronous(of_a_run)] == [0, 0]
    assert {path.relative_to(home).as_posix() for path in home.rglob("*.db")} == {
        "history/runs.db",
        "history/runs/index.db",
        "schedules/schedules.db",
    }


READ = """
import sys
from dagster import AssetKey, DagsterInstance
with DagsterInstance.from_config(sys.argv[1]) as instance:
    assert instance.get_latest_materialization_event(AssetKey("something")) is not None
    assert [run.status.value for run in instance.get_runs()] == ["SUCCESS"]
"""


def test_what_one_process_wrote_another_reads_while_it_is_open(tmp_path: Path):
    """The files hold everything as soon as it is said, although connections stay open."""
    write_dagster_yaml(home := tmp_path / "home")
    with DagsterInstance.from_config(str(home)) as instance:
        assert materialize([something], instance=instance).success
        subprocess.run([sys.executable, "-c", READ, home], check=True, timeout=60)


def test_who_watches_a_run_is_told_what_happens_in_it(tmp_path: Path):
    """The UI follows a run by its file: an event of another instance of the same files arrives without being asked for."""
    write_dagster_yaml(home := tmp_path / "home")
    with DagsterInstance.from_config(str(home)) as instance, DagsterInstance.from_ref(instance.get_ref()) as of_a_run:
        run = instance.create_run_for_job(job_def=nothing)
        told = threading.Event()
        instance.watch_event_logs(run.run_id, None, lambda event, _: told.set() if event.message == "Here." else None)
        of_a_run.report_engine_event("Here.", dagster_run=run)
        assert told.wait(30)
