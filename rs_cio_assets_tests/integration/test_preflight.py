"""Before the first row goes to a workspace the doctor's failures stop it; once passed, it costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from rs_cio_assets.assets import feed_key
from rs_cio_assets.contract import load_contract
from rs_cio_assets.doctor import Preflight
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.sync import JobOutcome, sync_feed
from rs_cio_assets_tests.pipeline import Pipeline, open_pipeline, run_assets
from rs_cio_assets_tests.ready_world import ReadyWorld, ready_world

CONTRACT = load_contract()
DAY = "2026-11-23"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyWorld]:
    """One for all tests."""
    with ready_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
def settings(world: ReadyWorld) -> Settings:
    """Production's, with a store that nothing was ever sent from."""
    return load_settings({**world.environ, "RS_CIO_STORE": f"s3://rs-cio-sandbox/{uuid4().hex}"})


def sync_people(pipeline: Pipeline) -> JobOutcome:
    """One day of the people feed, exported and delivered."""
    return sync_feed(pipeline.defs, pipeline.instance, "people", [DAY], reason="test")


def people(settings: Settings) -> int:
    """How many people Customer.io holds."""
    return httpx.get(f"{settings.customerio.app_url}/sandbox/counts", timeout=30).json()["people"]


def test_a_failure_stops_the_first_sync_before_its_first_row(world: ReadyWorld, settings: Settings):
    """The run fails with each failure and its remedy, nothing is sent and no record is written; mended, the same run passes."""
    wrong = settings.model_copy(update={"customerio": settings.customerio.model_copy(update={"workspace_id": 7})})
    before = people(settings)
    with open_pipeline(wrong, CONTRACT) as pipeline:
        (failure,) = sync_people(pipeline).failures
        assert "workspace: the Track key belongs to workspace 100001" in failure
        assert "Remedy: take site id and API key of workspace 7" in failure
    assert people(settings) == before
    assert resources_for(settings)["store"].list("preflight/") == []
    with open_pipeline(settings, CONTRACT) as pipeline:
        assert sync_people(pipeline).failures == ()
    assert people(settings) > before
    assert resources_for(settings)["store"].list("preflight/") == [Preflight(settings, lambda: CONTRACT).key]


def test_every_failure_is_listed_at_once(world: ReadyWorld, settings: Settings):
    """Whoever mends one thing does not find the next one an hour later."""
    redshift = settings.redshift.model_copy(update={"role": "arn:aws:iam::000000000000:role/other"})
    customerio = settings.customerio.model_copy(update={"workspace_id": 7})
    wrong = settings.model_copy(update={"redshift": redshift, "customerio": customerio})
    resources = resources_for(wrong)
    with pytest.raises(ConfigurationError, match="2 failures") as caught:
        Preflight(wrong, lambda: CONTRACT).require(resources["warehouse"], resources["store"])
    assert "unload: " in caught.value.problem
    assert "workspace: " in caught.value.problem


def test_without_an_app_key_rows_go_all_the_same(world: ReadyWorld, settings: Settings):
    """The App key is for checks: without it the preflight warns and passes."""
    keyless = settings.model_copy(update={"customerio": settings.customerio.model_copy(update={"app_api_key": None})})
    resources = resources_for(keyless)
    preflight = Preflight(keyless, lambda: CONTRACT)
    preflight.require(resources["warehouse"], resources["store"])
    assert b'"app key"' in (resources["store"].get(preflight.key) or b"")


class CountingStore:
    """The store, counting its reads; it has nothing else."""

    def __init__(self, data: bytes | None) -> None:
        self.data, self.reads = data, 0

    def get(self, _: str) -> bytes | None:
        """What it was given."""
        self.reads += 1
        return self.data


def test_once_passed_it_costs_one_read_per_process(settings: Settings):
    """With a record neither warehouse nor Customer.io is asked, and the record itself once."""
    store, preflight = CountingStore(b"{}"), Preflight(settings, lambda: CONTRACT)
    for _ in range(5):
        preflight.require(None, store)  # type: ignore[arg-type] - asked of nothing, a warehouse would be an AttributeError
    assert store.reads == 1


def test_many_runs_may_ask_at_once(world: ReadyWorld, settings: Settings):
    """Runs that begin together pass together, and leave one record and nothing else."""

    def ask(_: int) -> None:
        resources = resources_for(settings)
        Preflight(settings, lambda: CONTRACT).require(resources["warehouse"], resources["store"])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, range(3)))
    assert len(resources_for(settings)["store"].list("")) == 1


def test_other_settings_are_another_preflight(settings: Settings):
    """Another host, user, role, workspace, region or store was never passed; a timeout or the contract changes nothing."""

    def key(**changes: object) -> str:
        redshift = {name: value for name, value in changes.items() if name in type(settings.redshift).model_fields}
        customerio = {name: value for name, value in changes.items() if name in type(settings.customerio).model_fields}
        changed = {"redshift": settings.redshift.model_copy(update=redshift)}
        changed |= {"customerio": settings.customerio.model_copy(update=customerio)}
        return Preflight(settings.model_copy(update=changed), lambda: CONTRACT).key

    others = [key(host="other"), key(user="other"), key(role=None), key(site_id="other"), key(workspace_id=7), key(region="eu")]
    others.append(Preflight(settings.model_copy(update={"store": "other"}), lambda: CONTRACT).key)
    assert len({key(), *others}) == len(others) + 1
    assert key(statement_timeout_s=1) == key(concurrency=1) == key()


def test_a_dry_run_and_a_setting_pass_it_over(world: ReadyWorld, settings: Settings):
    """Where nothing is sent nothing has to be in order; RS_CIO_PREFLIGHT=false is a person's word."""
    wrong = settings.model_copy(update={"customerio": settings.customerio.model_copy(update={"workspace_id": 7})})
    with open_pipeline(wrong.model_copy(update={"preflight": False}), CONTRACT) as pipeline:
        assert sync_people(pipeline).failures == ()
    with open_pipeline(wrong, CONTRACT) as pipeline:
        op = feed_key("people").to_python_identifier()
        config = {"ops": {op: {"config": {"is_dry_run": True}}}}
        result = run_assets(pipeline.defs, pipeline.instance, [feed_key("people")], day=DAY, run_config=config)
        assert result.success
