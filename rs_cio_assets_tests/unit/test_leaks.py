"""The leak scan finds what it is there for: a leak of each kind, place and writing; and listeners beyond this machine."""

from __future__ import annotations

import ast
import base64
import json
import os
import socket
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets_tests.leaks import Hidden, Leak
from rs_cio_assets_tests.listeners import listening, processes_of

PROJECT = Path(__file__).parents[2]
PLANTED = {"email": "zoë.o'neill+1@mail.example.com", "name": "Kateřina", "id": "C7654321", "secret": "hush-5f1c"}
HIDDEN = Hidden(emails=[PLANTED["email"]], names=[PLANTED["name"]], ids=[PLANTED["id"]], secrets=[PLANTED["secret"]])
WRITINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda value: f"the person '{value}', refused",
    "beside others": lambda value: f"key={value};x=1",
    "JSON": lambda value: json.dumps({"a": value}),
    "JSON within JSON": lambda value: json.dumps(json.dumps([value])),
    "address": lambda value: f"GET /v1/customers/{quote(value, safe='')}/activities?x=1",
    "compressed": lambda value: base64.b64encode(zlib.compress(f"{value} {'x' * 99}{os.urandom(30).hex()}".encode())).decode(),
}


@pytest.mark.parametrize("writing", WRITINGS)
@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_value_is_found_however_it_is_written(kind: str, writing: str):
    """Each kind in each writing, in text and in bytes."""
    text = f"before\n{WRITINGS[writing](PLANTED[kind])}\nafter"
    assert HIDDEN.found_in("x", text) == HIDDEN.found_in("x", text.encode()) == {Leak("x", kind)}


def test_what_only_looks_like_a_value_is_none():
    """Other people of the same shape, and words that hold a name within."""
    assert HIDDEN.found_in("x", "C7654320 AC7654321 C76543210 ada@mail.example.com Kateřinas hush") == set()


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_value_is_found_in_every_kind_of_file(kind: str, tmp_path: Path):
    """Text, SQLite (a cell that is cut over pages), Parquet, a file's name; folders that are left out are left out."""
    value, filling = PLANTED[kind], "x " * 9_000
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text(f"{filling}{value}")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as database, database:
        database.execute("CREATE TABLE events (body TEXT)")
        database.executemany(
            "INSERT INTO events VALUES (?)", [(f"{filling[:n]}{value} {filling}",) for n in range(4000, 4100, 7)]
        )
    pq.write_table(pa.table({"a": [[{"b": value}]]}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / f"{value}~.txt").touch()
    found, files = HIDDEN.found_in_folder(tmp_path)
    assert found == {Leak(where, kind) for where in ("logs/a.log", "runs.db", "a.parquet", f"{value}~.txt")}
    assert files == 4
    assert Leak("logs/a.log", kind) not in HIDDEN.found_in_folder(tmp_path, but=["logs"])[0]


def test_a_planted_value_is_found_in_what_dagster_keeps():
    """A check's description, a table in metadata, a tag, run config, a log line and an exception: each alone is found."""

    value = PLANTED["email"]
    for place in ("nothing", "log", "table", "check", "error", "config", "tag"):
        with dg.DagsterInstance.ephemeral() as instance:
            speaking(place, value).execute_in_process(
                instance=instance,
                tags={"said": value if place == "tag" else "-"},
                run_config={"ops": {"speak": {"config": {"text": value if place == "config" else "-"}}}},
                raise_on_error=False,
            )
            kinds = {leak.kind for leak in HIDDEN.found_in_instance(instance)}
        assert kinds == (set() if place == "nothing" else {"email"}), place


def speaking(place: str, value: str) -> dg.JobDefinition:
    """A job that says *value* in one *place*."""

    def at(name: str) -> str:
        return value if name == place else "-"

    @dg.op(config_schema={"text": str})
    def speak(context) -> None:
        context.log.info(at("log"))
        table = dg.MetadataValue.table([dg.TableRecord({"a": at("table")})])
        context.log_event(dg.AssetMaterialization("a", metadata={"t": table}))
        context.log_event(dg.AssetCheckEvaluation(dg.AssetKey("a"), "c", passed=False, metadata={}, description=at("check")))
        if place == "error":
            raise ValueError(value)

    @dg.job
    def speaks() -> None:
        speak()

    return speaks


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="Linux alone tells which sockets listen")
def test_a_listener_beyond_this_machine_is_seen():
    """Every address of IPv4, which is what an empty host means, is told apart from 127.0.0.1; other processes' are not seen."""
    with socket.create_server(("127.0.0.1", 0)) as inner, socket.create_server(("", 0)) as outer:
        ports = {"127.0.0.1": inner.getsockname()[1], "0.0.0.0": outer.getsockname()[1]}  # noqa: S104 - what must be seen
        assert set(ports.items()) <= listening(processes_of(os.getpid()))
    assert not set(ports.items()) & listening(processes_of(os.getpid()))


def hosts_listened_on(source: str) -> list[str]:
    """Hosts in *source* on which something would listen beyond this machine: every address, or an empty host."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and node.value in {"0.0.0.0", "::"}:  # noqa: S104 - what is looked for
            found.append(f"line {node.lineno}: {node.value}")
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            is_address = name in {"bind", "create_server", "__init__"} or name.endswith("HTTPServer")
            if is_address and isinstance(first, ast.Tuple) and first.elts:
                host = first.elts[0]
                if not (isinstance(host, ast.Constant) and host.value == "127.0.0.1"):
                    found.append(f"line {node.lineno}: {ast.unparse(first)}")
            hosts = [k.value for k in node.keywords if k.arg in {"host", "ip_address"}]
            found += [f"line {node.lineno}: empty host" for h in hosts if isinstance(h, ast.Constant) and h.value == ""]
            if name == "ThreadedMotoServer" and not node.args and not hosts:
                found.append(f"line {node.lineno}: moto's own default")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "socket.create_server(('', 80))",
        "listener.bind(('0.0.0.0', 1))",
        "listener.bind((host, 1))",
        "ThreadingHTTPServer(('', 0), H)",
        "super().__init__(('', 0), H)",
        "uvicorn.run(app, host='')",
        "ThreadedMotoServer(port=1)",
        "command = ['-h', '0.0.0.0']",
        "HOST = '::'",
    ],
)
def test_code_that_would_listen_beyond_this_machine_is_seen(source: str):
    """Empty hosts, every address, and a host that the code alone does not tell."""
    assert hosts_listened_on(source)


def test_no_code_listens_beyond_this_machine():
    """Product, tests and benchmarks name 127.0.0.1 wherever they listen."""
    files = [
        path for folder in ("rs_cio_assets", "rs_cio_assets_tests", "benchmarks") for path in (PROJECT / folder).rglob("*.py")
    ]
    found = {
        path.relative_to(PROJECT).as_posix(): hosts_listened_on(path.read_text()) for path in files if path != Path(__file__)
    }
    assert len(found) > 200
    assert {name: hosts for name, hosts in found.items() if hosts} == {}
