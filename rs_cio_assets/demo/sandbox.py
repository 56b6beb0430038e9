"""The sandbox's processes, running while a block runs: the stand-ins and the Dagster UI, and settings that reach them."""

from __future__ import annotations

import importlib.resources
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from dagster import DagsterInstance
from rich.console import Console

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.dagster_storage import stored_in
from rs_cio_assets.sandbox.processes import (
    ManagedProcess,
    accepts_connections,
    answers_http,
    command_line,
    require_free_ports,
)
from rs_cio_assets.settings import Settings, environment, load_settings


@dataclass(frozen=True)
class Ports:
    """Where the demo listens, always on 127.0.0.1."""

    redshift: int
    customerio: int
    dagster: int
    s3: int

    def require_free(self) -> None:
        """Raises: ConfigurationError naming every taken port."""
        require_free_ports(
            {"Redshift": self.redshift, "S3": self.s3, "Customer.io": self.customerio, "the Dagster UI": self.dagster},
            {
                "Redshift": "REDSHIFT_PORT",
                "S3": "S3_PORT",
                "Customer.io": "CUSTOMERIO_PORT",
                "the Dagster UI": "DAGSTER_PORT",
            },
        )


@dataclass(frozen=True)
class Sandbox:
    """The running sandbox: settings that reach it, the Dagster instance of its UI, and its processes (the UI last)."""

    settings: Settings
    instance: DagsterInstance
    dagster_url: str
    processes: Sequence[ManagedProcess]


@contextmanager
def sandbox(
    home: Path,
    ports: Ports,
    console: Console,
    *,
    contract: Path | None = None,
    dagster_yaml: Path | None = None,
    step: str = "",
) -> Iterator[Sandbox]:
    """The stand-ins and the Dagster UI, running until the block ends; yields what reaches them.

    *contract* is a contract's folder in place of that of the environment, *dagster_yaml* the instance's settings in place of the
    shipped ones, *step* what stands before the first word, where it is one of several.
    Raises: ConfigurationError when a port is taken or a process does not start.
    """
    if environment({}).get("RS_CIO_MODE", "sandbox") != "sandbox":
        raise ConfigurationError(
            "RS_CIO_MODE is set to production; the demo and the stand-ins are for the sandbox",
            next_step="unset RS_CIO_MODE, or run `dagster dev -w workspace.yaml` against production",
        )
    if not Path("workspace.yaml").exists():
        raise ConfigurationError("there is no workspace.yaml here", next_step="run the command in the project's folder")
    ports.require_free()
    console.print(f"{step}Starting the Redshift stand-in, the Customer.io stand-in and the Dagster UI (127.0.0.1)")
    dagster_home = _dagster_home(home, dagster_yaml)
    environ = environment(
        {
            "REDSHIFT_PORT": str(ports.redshift),
            "RS_CIO_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports.s3}",
            "CUSTOMERIO_TRACK_URL": f"http://127.0.0.1:{ports.customerio}",
            "CUSTOMERIO_APP_URL": f"http://127.0.0.1:{ports.customerio}",
            "CUSTOMERIO_UI_URL": f"http://127.0.0.1:{ports.customerio}",
            "RS_CIO_UI_URL": f"http://127.0.0.1:{ports.dagster}",
            "DAGSTER_HOME": str(dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "1",
            **({"RS_CIO_CONTRACT": str(contract.resolve())} if contract else {}),
        }
    )
    environ.setdefault("RS_CIO_STORE", str(home.resolve() / "store"))
    settings = load_settings(environ)
    logs = home / "logs"
    with ExitStack() as stack:
        # Its storage is made here: two processes that make it at the same time get in each other's way.
        instance = stack.enter_context(DagsterInstance.from_config(str(dagster_home)))
        processes = [
            stack.enter_context(ManagedProcess(name, command, logs / log, environ))
            for name, command, log in (
                (
                    "the Redshift stand-in",
                    [*_stand_in("redshift", ports.redshift, home), "--s3-port", str(ports.s3)],
                    "redshift.log",
                ),
                (
                    "the Customer.io stand-in",
                    [*_stand_in("customerio", ports.customerio, home), "--dagster-url", f"http://127.0.0.1:{ports.dagster}"],
                    "customerio.log",
                ),
                ("the Dagster UI", _dagster_dev(ports.dagster), "dagster.log"),
            )
        ]
        processes[0].wait_until(lambda: accepts_connections(ports.redshift))
        processes[1].wait_until(lambda: answers_http(f"{settings.customerio.app_url}/sandbox/counts"))
        yield Sandbox(settings, instance, f"http://127.0.0.1:{ports.dagster}", processes)


def wait_until_interrupted(processes: Sequence[ManagedProcess], console: Console) -> None:
    """Wait for Ctrl-C, and say that stopping takes a while. Raises: ConfigurationError when one of *processes* ends by itself."""
    try:
        while all(process.is_running for process in processes):
            time.sleep(0.5)
    except KeyboardInterrupt:
        console.print("Stopping what was started: a few seconds.")
        return
    ended = next(process for process in processes if not process.is_running)
    raise ConfigurationError(
        f"{ended.name} ended; the end of {ended.log} says:\n{ended.log_end()}", next_step="mend what it says, and start it again"
    )


def _stand_in(name: str, port: int, home: Path) -> list[str]:
    return command_line("sandbox", name, "--port", str(port), "--data", str(home / name))


def _dagster_dev(port: int) -> list[str]:
    python, *_ = command_line()
    dagster = [python, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    return [python, "-m", "rs_cio_assets.sandbox.guard", *dagster]


def _dagster_home(home: Path, dagster_yaml: Path | None) -> Path:
    folder = (home / "dagster").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    source = dagster_yaml or importlib.resources.files("rs_cio_assets.sandbox").joinpath("dagster.yaml")
    (folder / "dagster.yaml").write_text(f"{source.read_text()}storage: {json.dumps(stored_in(folder))}\n")
    return folder


def wait_for_ui(running: Sandbox, console: Console) -> None:
    """Wait until the Dagster UI answers, and say where it and the stand-in's page are."""
    with console.status("waiting for the Dagster UI"):
        running.processes[-1].wait_until(lambda: answers_http(f"{running.dagster_url}/server_info"))
    console.print(f"Dagster UI        {running.dagster_url}/asset-groups")
    console.print(f"Customer.io page  {running.settings.customerio.app_url}/")


def reload_definitions(running: Sandbox) -> None:
    """Have the UI load the contract anew. Raises: httpx.HTTPError when it does not answer."""
    query = 'mutation { reloadRepositoryLocation(repositoryLocationName: "rs_cio_assets") { __typename } }'
    httpx.post(f"{running.dagster_url}/graphql", json={"query": query}, timeout=120).raise_for_status()
