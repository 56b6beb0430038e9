"""Each fault of the catalogue, planted in a sandbox that is in order, is caught by the check that names it, within one run."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance

from rs_cio_assets.contract import SHIPPED
from rs_cio_assets.demo.faults import FAULTS, copy_contract, plant
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.leaks import Hidden
from rs_cio_assets_tests.pipeline import query
from rs_cio_assets_tests.world import World, build_world

PROJECT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def world(redshift: RedshiftStandIn, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A small shop whose journeys run: nine days, and everybody of the months before."""
    return build_world(redshift, tmp_path_factory.mktemp("world") / "home", customers=5_000, days=9, age_days=80)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """An empty Dagster instance."""
    with DagsterInstance.ephemeral() as empty:
        yield empty


def test_before_anything_is_planted_nothing_is_wrong(world: World):
    """Every run of the demo's steps succeeded, and no check failed: what fails below fails for the fault."""
    assert [outcome.failures for outcome in world.outcomes if outcome.failures] == []
    failed = [check for outcome in world.outcomes for check in outcome.checks if not check.is_passed and check.is_error]
    assert failed == []
    assert {check.name for outcome in world.outcomes for check in outcome.checks} >= {
        fault.check for fault in FAULTS.values() if fault.check and fault.check != "who_left_stays_gone"
    }


@pytest.mark.parametrize("fault_id", FAULTS)
def test_a_planted_fault_is_caught_by_the_check_that_names_it(
    fault_id: str,
    world: World,
    instance: DagsterInstance,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
):
    """Within one run, and its text says what is wrong, without a word of whom: neither in Dagster, nor printed, nor logged."""
    caplog.set_level(logging.INFO)
    fault = FAULTS[fault_id]
    contract = copy_contract(SHIPPED, tmp_path / "contract")
    with world.copy(tmp_path / "home", environ={"RS_CIO_CONTRACT": str(contract)}) as sandbox:
        caught = plant(fault, sandbox.settings, instance, world.later, has_all_checks=False)
        ids, emails, names = zip(
            *query(sandbox.settings, "SELECT customer_id, email, first_name FROM shop.customers"), strict=True
        )
    said = [(c.name, c.description) for o in caught.outcomes for c in o.checks if not c.is_passed or c.name == fault.check]
    failures = [outcome.failures for outcome in caught.outcomes]
    assert caught.is_as_expected(fault), (fault.what, caught.refusal, said, failures)
    hidden = Hidden(ids=ids, emails=emails, names=names)
    shown = {
        "refusal": caught.refusal or "",
        "said": str((said, failures)),
        "logs": caplog.text,
        "output": str(capfd.readouterr()),
    }
    leaks = hidden.found_in_instance(instance).union(*(hidden.found_in(where, text) for where, text in shown.items()))
    assert leaks == set()
    assert len(ids) > 500


def test_every_fault_that_can_be_planted_is_in_the_table_of_the_docs():
    """docs/faults.md has a line for each, with the check that catches it, and says how to plant it."""
    page = (PROJECT / "docs" / "faults.md").read_text()
    for fault in FAULTS.values():
        (line,) = [line for line in page.splitlines() if line.startswith(f"| {fault.id} ")]
        assert f"`{fault.check}`" in line if fault.check else "refuse to load" in line
        assert f"FAULT={fault.id}" in line
