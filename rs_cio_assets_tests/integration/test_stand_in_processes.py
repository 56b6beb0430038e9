"""The stand-ins as processes of their own: started alone, ended by a signal, never left behind, state kept."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.processes import accepts_connections, command_line, is_port_free
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets_tests.pipeline import free_port, query, run_sql

DEADLINE_S = 30.0
KINDS = ("redshift", "customerio")


def wait_until(is_so: Callable[[], bool]) -> bool:
    """True as soon as *is_so*, False when that takes too long."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.05)
    return False


def is_alive(process_id: int) -> bool:
    """True while a process of that id exists and is no zombie."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def descendants(process_id: int) -> list[int]:
    """Process ids of all children, and theirs."""
    children = []
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            children += [child, *descendants(child)]
    return children


def stand_in(kind: str, port: int, data: Path) -> list[str]:
    """The command that starts a stand-in alone; S3, where there is one beside it, on any free port."""
    s3 = ("--s3-port", str(free_port())) if kind == "redshift" else ()
    return command_line("sandbox", kind, "--port", str(port), "--data", str(data), *s3)


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads Linux's /proc")


@pytest.mark.parametrize("kind", KINDS)
def test_started_alone_it_says_where_it_is_and_ends_on_a_signal(kind: str, tmp_path: Path):
    """`rs-cio sandbox <kind> --port --data` serves on that port, keeps its state in that folder and ends on SIGTERM with 0."""
    port = free_port()
    command = stand_in(kind, port, tmp_path / "data")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert wait_until(lambda: accepts_connections(port))
            process.terminate()
            output, _ = process.communicate(timeout=DEADLINE_S)
        finally:
            process.kill()
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert any((tmp_path / "data").iterdir())
    assert is_port_free(port)


@needs_proc
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_when_its_starter_is_killed(kind: str, tmp_path: Path):
    """SIGKILL of the process that started it, which can clean up nothing: the stand-in and its children end by themselves."""
    port = free_port()
    command = stand_in(kind, port, tmp_path)
    starter = subprocess.Popen([sys.executable, "-c", f"import subprocess; subprocess.run({command!r})"])
    try:
        assert wait_until(lambda: accepts_connections(port))
        family = descendants(starter.pid)
        assert family
    finally:
        starter.kill()
        starter.wait()
    assert wait_until(lambda: not any(map(is_alive, family)))
    assert is_port_free(port)


@needs_proc
def test_no_server_is_left_when_the_redshift_stand_in_is_killed(tmp_path: Path):
    """SIGKILL of the stand-in itself: the PostgreSQL behind it ends, and the next start finds all its data."""
    port = free_port()
    command = stand_in("redshift", port, tmp_path)
    settings = load_settings({"REDSHIFT_PORT": str(port)})
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            assert wait_until(lambda: accepts_connections(port))
            run_sql(settings, "CREATE TABLE public.kept AS SELECT 42 AS answer")
            servers = descendants(process.pid)
            assert servers
        finally:
            process.kill()
    assert wait_until(lambda: not any(map(is_alive, servers)))
    with RedshiftStandIn(tmp_path, port):
        assert query(settings, "SELECT answer FROM public.kept") == [(42,)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_port_is_named_with_what_to_do(kind: str, tmp_path: Path):
    """Exit code 2, the port and the next step; no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = stand_in(kind, port, tmp_path / "data")
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2, done.stderr
    assert f"port {port}" in done.stderr
    assert "Next step" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_of_s3_that_is_taken_is_named_with_what_to_do(tmp_path: Path):
    """Exit code 2 and the variable that changes it, where the server itself would wait for ever; no PostgreSQL is left."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = command_line("sandbox", "redshift", "--port", str(free_port()), "--s3-port", str(port), "--data", str(tmp_path))
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, "S3_PORT=<port>" in done.stderr) == (2, True), done.stderr
    assert list(tmp_path.rglob("postmaster.pid")) == []


def test_a_second_stand_in_on_the_same_folder_is_refused(tmp_path: Path):
    """Two servers on one data folder would destroy it: the second says who is there."""
    with RedshiftStandIn(tmp_path) as first, pytest.raises(ConfigurationError, match=str(first.postgres_process_id)):
        RedshiftStandIn(tmp_path).start()


@needs_proc
def test_it_listens_on_the_loopback_address_only(redshift: RedshiftStandIn):
    """Neither the wire nor the server behind it can be reached from another machine."""
    inodes = {
        str(link.readlink())
        for process in (os.getpid(), redshift.postgres_process_id)
        for link in Path(f"/proc/{process}/fd").iterdir()
        if link.is_symlink()
    }
    listening = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    ours = [fields[1] for fields in listening if f"socket:[{fields[9]}]" in inodes]
    assert f"0100007F:{redshift.port:04X}" in ours
    assert {address.split(":")[0] for address in ours} == {"0100007F"}


def test_the_signal_that_ends_a_guarded_command_reaches_its_whole_group(tmp_path: Path):
    """What the guard runs is ended with its children, so that no web server keeps its port."""
    port = free_port()
    script = tmp_path / "serve.py"
    script.write_text(
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-m', 'http.server', '{port}', '--bind', '127.0.0.1'], stderr=subprocess.DEVNULL)\n"
    )
    guard = subprocess.Popen([sys.executable, "-m", "rs_cio_assets.sandbox.guard", sys.executable, str(script)])
    try:
        assert wait_until(lambda: accepts_connections(port))
    finally:
        guard.send_signal(signal.SIGTERM)
        guard.wait(DEADLINE_S)
    assert is_port_free(port)
