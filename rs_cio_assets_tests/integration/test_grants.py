"""`rs-cio grants`: with the script a restricted user does all that the product does, and without any one grant it does not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import load_contract
from rs_cio_assets.contract.tables import tables_of
from rs_cio_assets.doctor import LOOKS, Patient, grant_statements, process_policy, script
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import VARIABLES, Settings, load_settings
from rs_cio_assets.store import open_store
from rs_cio_assets.warehouse import Warehouse, create_view, keep_answer, stage_days
from rs_cio_assets.warehouse.differences import write_differences
from rs_cio_assets.warehouse.log_schema import create_log
from rs_cio_assets_tests.ready_world import USER, ReadyWorld, ready_world, statements_of

CONTRACT = load_contract()
NOW = datetime(2026, 11, 24, tzinfo=UTC)
TIMES = {"now": NOW, "since": datetime(2026, 11, 1, tzinfo=UTC)}
IN_WAREHOUSE = ("view", "delivery log", "unload", "tables")
OWNER, READER = "owner_of_a_test", "reader_of_a_test"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyWorld]:
    """One warehouse for all tests."""
    with ready_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@dataclass(frozen=True)
class Sync:
    """The product's work in the warehouse, as the user of *settings*; *owner* makes the export views where others do."""

    settings: Settings
    resources: dict[str, Any]
    folder: Path
    owner: Warehouse | None = None

    def problems(self) -> Iterator[str]:
        """What of it does not work, as it is found: the doctor's lines, views, a staged day, the checks' questions."""
        warehouse, store = self.resources["warehouse"], open_store(str(self.folder / "store"))
        patient = Patient(self.settings, lambda: CONTRACT, warehouse, store)
        for look in (look for look in LOOKS if look.name in IN_WAREHOUSE):
            yield from (f"{line.name}: {line.text}" for line in look.look(patient) if line.status != "ok")
        if self.owner:
            with self.owner.session() as session:
                yield from (
                    str(error) for feed in CONTRACT.enabled_feeds if (error := refusal(partial(session.describe, feed.sql)))
                )
        if self.settings.redshift.delivery_log:
            with warehouse.session() as session:
                if error := refusal(lambda: (create_log(session), write_differences(session, "winback_audience", NOW, []))):
                    yield str(error)
        for feed in CONTRACT.enabled_feeds:
            try:
                with warehouse.session() as session:
                    if self.settings.redshift.views == "create":
                        create_view(session, feed)
                    stage_days(session, feed, ["2026-11-20"], store, now=lambda: NOW)
            except RsCioError as error:
                yield str(error)
        for declared in (*CONTRACT.segments, *CONTRACT.journeys, *CONTRACT.logic):
            try:
                with warehouse.session() as session:
                    keep_answer(session, declared.sql, TIMES, pa.schema([("customer_id", pa.string())]), self.folder / "answer")
            except RsCioError as error:
                yield str(error)


def refusal(ask: Callable[[], Any]) -> RsCioError | None:
    """What the warehouse says no with, if it does."""
    try:
        ask()
    except RsCioError as error:
        return error
    return None


def needless(world: ReadyWorld, sync: Sync, grants: Sequence[str]) -> list[str]:
    """Those of *grants* without which everything works all the same. Each is given back."""
    found = []
    for grant in grants:
        world.as_administrator(re.sub(r" TO (\"\w+\")", r" FROM \1", grant.replace("GRANT", "REVOKE", 1)))
        if next(sync.problems(), None) is None:
            found.append(grant)
        world.as_administrator(grant)
    return found


def grants_of(statements: Sequence[Any]) -> list[str]:
    """The GRANTs alone."""
    return [statement.sql for statement in statements if statement.sql.startswith("GRANT")]


def test_the_script_is_enough_and_each_grant_is_needed(world: ReadyWorld, tmp_path: Path):
    """The script's user makes and reads views, stages a day, asks the checks' questions, tries UNLOAD, COPY and the log."""
    settings = world.settings
    sync = Sync(settings, resources_for(settings), tmp_path)
    assert list(sync.problems()) == []
    grants = grants_of(grant_statements(CONTRACT, settings.redshift, USER))
    assert len(grants) > 20
    assert needless(world, sync, grants) == []
    assert list(sync.problems()) == []


def test_whoever_reads_the_views_of_others_needs_no_table_of_theirs(world: ReadyWorld, tmp_path: Path):
    """REDSHIFT_VIEWS=verify: the reader has the views, their owner the tables; each grant is needed, of both."""
    changed = {"REDSHIFT_VIEWS": "verify", "REDSHIFT_USER": READER, "REDSHIFT_DELIVERY_LOG": "false", "REDSHIFT_ROLE": ""}
    settings = load_settings({**world.environ, **changed})
    text = script(CONTRACT, settings.redshift, READER, OWNER)
    world.as_administrator(f"CREATE USER {OWNER} PASSWORD DISABLE", *statements_of(text))
    for feed in CONTRACT.enabled_feeds:
        world.as_administrator(f"ALTER VIEW {feed.view} OWNER TO {OWNER}")
    owner = Warehouse(settings.redshift.model_copy(update={"user": OWNER}))
    sync = Sync(settings, resources_for(settings), tmp_path, owner)
    try:
        assert list(sync.problems()) == []
        grants = grants_of(grant_statements(CONTRACT, settings.redshift, READER, OWNER))
        assert not any("shop" in grant and "customers" in grant and READER in grant for grant in grants)
        assert needless(world, sync, grants) == []
    finally:
        for feed in CONTRACT.enabled_feeds:
            world.as_administrator(f"ALTER VIEW {feed.view} OWNER TO {USER}")


def test_the_script_may_be_run_again(world: ReadyWorld):
    """All but CREATE USER changes nothing the second time."""
    first, *others = statements_of(script(CONTRACT, world.settings.redshift, USER))
    assert first.startswith("CREATE USER")
    world.as_administrator(*others)
    world.as_administrator(*others)


def run(world: ReadyWorld, *arguments: str, **environ: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(
        rs_cio, ["grants", *arguments], env={**dict.fromkeys(VARIABLES), **world.environ, **environ}, catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.stdout


def test_the_command_prints_no_secret_and_nothing_that_the_settings_do_not_use(world: ReadyWorld):
    """No password; without a role no ASSUMEROLE, without the log no cio_sync; names that are given are quoted."""
    full = run(world)
    assert "FOR UNLOAD" in full
    assert "cio_sync" in full
    secrets = {value for name, value in world.environ.items() if "PASSWORD" in name or "KEY" in name}
    assert secrets
    assert not any(secret in full + run(world, "--iam") for secret in secrets - {"sandbox"})  # part of the bucket's name
    plain = run(world, "--user", 'a"b', REDSHIFT_ROLE="", REDSHIFT_DELIVERY_LOG="false", REDSHIFT_QUERY_GROUP="night")
    assert "ASSUMEROLE ON '" not in plain
    assert '"cio_sync"' not in plain
    assert 'CREATE USER "a""b" PASSWORD DISABLE' in plain


def test_the_policies_name_one_prefix_each(world: ReadyWorld):
    """The role may touch the exchange alone; this process its store and the exchange; the credentials of its own user."""
    policies = json.loads(run(world, "--iam"))
    objects = {
        name: {resource for s in policies[name]["Statement"] for resource in s["Resource"] if resource.endswith("/*")}
        for name in ("role", "this process")
    }
    exchange, store = "arn:aws:s3:::rs-cio-sandbox/unload/*", "arn:aws:s3:::rs-cio-sandbox/store/*"
    assert objects == {"role": {exchange}, "this process": {exchange, store}}
    assert "s3:DeleteObject" not in json.dumps(policies["role"])
    iam = {"REDSHIFT_AUTH": "iam", "REDSHIFT_CLUSTER": "shop", "REDSHIFT_AWS_REGION": "eu-west-1"}
    shown = json.dumps(process_policy(load_settings({**world.environ, **iam})))
    assert f"arn:aws:redshift:eu-west-1:000000000000:dbuser:shop/{USER}" in shown


def test_tables_are_found_wherever_sql_names_them():
    """FROM, JOIN and commas; not columns, functions, texts, comments, or the names of a WITH."""
    sql = """
    WITH w AS (SELECT x.a FROM "One"."Table" AS x) -- FROM not.this
    SELECT EXTRACT(day FROM a.col), 'FROM neither.this', w.a, b.c
    FROM w JOIN two.joined AS j ON j.a = w.a, three.listed AS l
    WHERE w.a IS DISTINCT FROM l.b AND j.k IN (SELECT y.k FROM four.inner_one AS y) ORDER BY w.a, l.b
    """
    assert tables_of(sql) == {"one.table", "two.joined", "three.listed", "four.inner_one"}
