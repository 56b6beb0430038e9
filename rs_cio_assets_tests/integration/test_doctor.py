"""`rs-cio doctor` in production settings: all green where all is well, and each thing that is broken by its own line."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from click.testing import CliRunner

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import load_contract
from rs_cio_assets.doctor import LOOKS, Preflight
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import VARIABLES
from rs_cio_assets.warehouse import create_view
from rs_cio_assets.warehouse.exchange import PROBE
from rs_cio_assets_tests.pipeline import free_port
from rs_cio_assets_tests.ready_world import USER, ReadyWorld, make_views, ready_world

READ_ONCE = functools.cache(load_contract)
CONTRACT = load_contract()
SECRET = "not-the-key-4711"
OTHER_ROLE = "arn:aws:iam::000000000000:role/somebody-elses"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyWorld]:
    """One for all tests: each puts back what it breaks."""
    with ready_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each contract is read once."""
    monkeypatch.setattr("rs_cio_assets.contract.load_contract", READ_ONCE)


@dataclass(frozen=True)
class Examined:
    """What the command said."""

    exit_code: int
    status: str
    lines: Mapping[str, Mapping[str, str]]

    def not_ok(self) -> dict[str, str]:
        """Lines that are not ok, without those that were not looked at, and their status."""
        found = {name: line["status"] for name, line in self.lines.items() if line["status"] != "ok"}
        return {name: status for name, status in found.items() if not self.lines[name]["text"].startswith("not looked at")}


def examine(environ: Mapping[str, str | None]) -> Examined:
    """Run the command with the variables of *environ* and no other of ours."""
    result = CliRunner().invoke(rs_cio, ["doctor", "--json"], env={**dict.fromkeys(VARIABLES), **environ})
    document = json.loads(result.stdout)
    lines = {line["name"]: line for line in document["lines"]}
    assert len(lines) == len(document["lines"])
    return Examined(result.exit_code, document["status"], lines)


def test_everything_is_green_in_production_settings(world: ReadyWorld):
    """With the grants of `rs-cio grants` and every variable set, each line is ok, and the preflight is passed."""
    examined = examine(world.environ)
    assert examined.not_ok() == {}
    assert (examined.exit_code, examined.status) == (0, "ok")
    named = {name for look in LOOKS for name in examined.lines if name == look.name or name.startswith(f"{look.name} ")}
    assert named | {"copy"} | {f"app scope {scope}" for scope in ("people", "messages")} <= set(examined.lines)
    assert {f"view {feed.name}" for feed in CONTRACT.enabled_feeds} <= set(examined.lines)
    store = resources_for(world.settings)["store"]
    assert store.get(Preflight(world.settings, lambda: CONTRACT).key) is not None


def test_nothing_is_left_behind(world: ReadyWorld):
    """No object of a probe, and no table in the warehouse, outlives the doctor."""
    before = world.as_administrator("SELECT COUNT(*) FROM pg_class")
    examine(world.environ)
    resources = resources_for(world.settings)
    # Tests that run before in this process may have left files of theirs beside them.
    assert resources["store"].list("doctor/") == resources["warehouse"].exchange.store.list(PROBE) == []
    assert world.as_administrator("SELECT COUNT(*) FROM pg_class") == before


@dataclass(frozen=True)
class Broken:
    """What is broken: variables, SQL and SQL that mends it, answers of Customer.io; and the line that must say so."""

    line: str
    words: str  # in its text or its remedy
    status: str = "failure"
    environ: Mapping[str, str | None] = field(default_factory=dict)
    sql: tuple[str, str] | None = None
    answers: Mapping[str, tuple[int, Any]] = field(default_factory=dict)
    rules_without: str = ""


def ahead(seconds: int) -> tuple[str, str]:
    """GETDATE() so many seconds ahead, and back."""
    body = f"SELECT (clock_timestamp() AT TIME ZONE 'UTC' + INTERVAL '{seconds} seconds')::TIMESTAMP"
    return f"CREATE FUNCTION public.getdate() RETURNS TIMESTAMP LANGUAGE sql AS $$ {body} $$", "DROP FUNCTION public.getdate()"


PEOPLE = "cio_export.people"
SERIALIZABLE = "CREATE VIEW public.stv_db_isolation_level AS SELECT 'shop' AS db_name, 'Serializable' AS isolation_level"
RENAMED = f"ALTER VIEW {PEOPLE} RENAME COLUMN vip_tier TO vip_level"
DENIED = (403, {"errors": [{"detail": "no", "status": "403"}]})
BROKEN = {
    "wrong password": Broken("redshift login", "REDSHIFT_PASSWORD", environ={"REDSHIFT_PASSWORD": SECRET}),
    "no such database": Broken("redshift login", "REDSHIFT_DATABASE", environ={"REDSHIFT_DATABASE": "none"}),
    "host down": Broken("redshift host", "REDSHIFT_HOST", environ={"REDSHIFT_PORT": str(free_port())}),
    "view missing": Broken(
        "view people",
        "materialize redshift/views/people",
        sql=(f"ALTER VIEW {PEOPLE} RENAME TO gone", "ALTER VIEW cio_export.gone RENAME TO people"),
    ),
    "column renamed": Broken(
        "view people",
        "was it renamed to vip_level?",
        sql=(RENAMED, RENAMED.replace("vip_tier TO vip_level", "vip_level TO vip_tier")),
    ),
    "no SELECT on a view": Broken(
        "view people",
        f"SELECT on it to {USER}",
        sql=(f"REVOKE SELECT ON {PEOPLE} FROM {USER}", f"GRANT SELECT ON {PEOPLE} TO {USER}"),
    ),
    "serializable": Broken(
        "redshift isolation",
        "ISOLATION LEVEL SNAPSHOT",
        "warning",
        sql=(
            f"{SERIALIZABLE}; GRANT SELECT ON public.stv_db_isolation_level TO PUBLIC",
            "DROP VIEW public.stv_db_isolation_level",
        ),
    ),
    "warehouse ten minutes ahead": Broken("redshift clock", "NTP", sql=ahead(600)),
    "warehouse a minute behind": Broken("redshift clock", "behind", "warning", sql=ahead(-60)),
    "no INSERT into the log": Broken(
        "delivery log",
        "rs-cio grants",
        sql=(f"REVOKE INSERT ON cio_sync.deliveries FROM {USER}", f"GRANT INSERT ON cio_sync.deliveries TO {USER}"),
    ),
    "a table of the log missing": Broken(
        "delivery log",
        "rs-cio schema",
        sql=("ALTER TABLE cio_sync.rejections RENAME TO gone", "ALTER TABLE cio_sync.gone RENAME TO rejections"),
    ),
    "wrong role": Broken("unload", "rs-cio grants", environ={"REDSHIFT_ROLE": OTHER_ROLE}),
    "role not granted for COPY": Broken(
        "copy",
        "GRANT ASSUMEROLE",
        sql=(f"REVOKE ASSUMEROLE ON ALL FROM {USER} FOR COPY", f"GRANT ASSUMEROLE ON ALL TO {USER} FOR COPY"),
    ),
    "bucket of the exchange missing": Broken(
        "exchange", "create the bucket", environ={"REDSHIFT_UNLOAD_TO": "s3://not-there/unload"}
    ),
    "bucket of the store missing": Broken("store", "create the bucket", environ={"RS_CIO_STORE": "s3://not-there/store"}),
    "rule of staged rows missing": Broken("store expiry staged", '"Prefix": "store/staged/"', "warning", rules_without="staged"),
    "rule of the exchange missing": Broken("exchange expiry", '"Prefix": "unload/"', "warning", rules_without="unload"),
    "contract missing": Broken("contract", "RS_CIO_CONTRACT", environ={"RS_CIO_CONTRACT": "not-there"}),
    "Track key wrong": Broken("track key", "CUSTOMERIO_API_KEY", environ={"CUSTOMERIO_API_KEY": SECRET}),
    "other region": Broken("region", "CUSTOMERIO_REGION=us", environ={"CUSTOMERIO_REGION": "eu"}),
    "other workspace": Broken("workspace", "CUSTOMERIO_WORKSPACE_ID=100001", environ={"CUSTOMERIO_WORKSPACE_ID": "7"}),
    "no workspace named": Broken(
        "workspace", "CUSTOMERIO_WORKSPACE_ID=100001", "warning", environ={"CUSTOMERIO_WORKSPACE_ID": None}
    ),
    "App key missing": Broken("app key", "set it", "warning", environ={"CUSTOMERIO_APP_API_KEY": None}),
    "App key wrong": Broken("app key", "CUSTOMERIO_APP_API_KEY", environ={"CUSTOMERIO_APP_API_KEY": SECRET}),
    "App key without messages": Broken("app scope messages", "scope for messages", "warning", answers={"/v1/messages": DENIED}),
    "App key of another account": Broken(
        "app workspace", "both keys from the same workspace", answers={"/v1/workspaces": (200, {"workspaces": [{"id": 7}]})}
    ),
    "preflight off": Broken("automation", "RS_CIO_PREFLIGHT", "warning", environ={"RS_CIO_PREFLIGHT": "false"}),
    "automation without alerts": Broken("automation", "RS_CIO_ALERT_SLACK_URL", "warning", environ={"RS_CIO_AUTOMATION": "true"}),
}


@contextmanager
def broken(world: ReadyWorld, case: Broken) -> Iterator[None]:
    """Break it, and mend it."""
    if case.sql:
        world.as_administrator(*case.sql[0].split("; "))
    world.answers.update(case.answers)
    if case.rules_without:
        world.set_rules(case.rules_without)
    try:
        yield
    finally:
        if case.sql:
            world.as_administrator(case.sql[1])
        world.answers.clear()
        world.set_rules()


# The driver leaves its socket to the garbage collector when a login is refused (2.2, core.Connection.__init__).
@pytest.mark.filterwarnings("ignore:unclosed <:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_named_by_its_own_line_with_its_remedy(world: ReadyWorld, case: Broken):
    """That line alone is not ok, its remedy says what to do; what needs it says that it was not looked at. No secret is shown."""
    with broken(world, case):
        examined = examine({**world.environ, **case.environ})
    assert examined.not_ok() == {case.line: case.status}
    line = examined.lines[case.line]
    assert case.words in f"{line['text']} {line['remedy']}"
    assert line["remedy"]
    assert (examined.exit_code, examined.status) == ((1, "failure") if case.status == "failure" else (0, "warning"))
    assert SECRET not in json.dumps(list(examined.lines.values()))


def test_a_person_reads_a_table_with_remedies(world: ReadyWorld):
    """Without --json each line stands in a table, its remedy below, and the counts at the end."""
    environ = {**dict.fromkeys(VARIABLES), **world.environ, "CUSTOMERIO_WORKSPACE_ID": None}
    result = CliRunner().invoke(rs_cio, ["doctor", "--only", "workspace"], env=environ)
    assert result.exit_code == 0
    assert "Remedy: set CUSTOMERIO_WORKSPACE_ID=100001" in result.stdout
    assert "1 ok, 1 warnings, 0 failures" in result.stdout  # the Track key, which the line needs, and the line


def test_settings_that_do_not_load_are_lines(world: ReadyWorld):
    """Each variable that is missing or wrong is a line of its own, and the exit code says that nothing was looked at."""
    examined = CliRunner().invoke(
        rs_cio,
        ["doctor", "--json"],
        env={**dict.fromkeys(VARIABLES), **world.environ, "REDSHIFT_HOST": None, "CUSTOMERIO_REGION": "mars"},
    )
    document = json.loads(examined.stdout)
    texts = [line["text"] for line in document["lines"]]
    assert (examined.exit_code, document["status"], len(texts)) == (2, "failure", 2)
    assert any(text.startswith("REDSHIFT_HOST: is not set") for text in texts)
    assert any(text.startswith("CUSTOMERIO_REGION: ") for text in texts)
    assert {line["name"] for line in document["lines"]} == {"settings"}


def test_with_only_some_lines_the_preflight_is_not_passed(world: ReadyWorld):
    """What was not looked at cannot be in order."""
    store, key = resources_for(world.settings)["store"], Preflight(world.settings, lambda: CONTRACT).key
    store.delete([key])
    CliRunner().invoke(rs_cio, ["doctor", "--only", "track key"], env={**dict.fromkeys(VARIABLES), **world.environ})
    assert store.get(key) is None


def test_two_things_broken_at_once_are_two_lines(world: ReadyWorld):
    """A view that somebody replaced by one of the same columns is a warning; two things broken at once are two lines."""
    feed = CONTRACT.feed("subscription_paused")
    replaced = feed.model_copy(update={"sql": f"SELECT * FROM ({feed.sql}) AS other"})
    with resources_for(world.settings)["warehouse"].session() as session:
        create_view(session, replaced)
    try:
        examined = examine({**world.environ, "CUSTOMERIO_API_KEY": SECRET})
    finally:
        make_views(world.settings, CONTRACT, [feed.name])
    assert examined.not_ok() == {"definitions": "warning", "track key": "failure"}
