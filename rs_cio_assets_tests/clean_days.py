"""Clean days of a shop: it goes on, days are synced every night, all checks run every morning. Nobody may be alarmed."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

from dagster import DagsterInstance

from rs_cio_assets.contract import load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import advance_shop
from rs_cio_assets.sync import CheckOutcome, run_checks, sync_days
from rs_cio_assets_tests.world import NOW, build_world, running


def clean_days(redshift: RedshiftStandIn, home: Path, seed: int, days: int) -> list[tuple[str, CheckOutcome]]:
    """Every check's word on each of *days* mornings, with merges on, as a shop whose guests make accounts has them."""
    shipped = load_contract()
    merges = shipped.feed("merges").model_copy(update={"enabled": True})
    contract = shipped.model_copy(update={"feeds": tuple(merges if f.name == "merges" else f for f in shipped.feeds)})
    world = build_world(redshift, home, customers=1_500, days=9, age_days=70, seed=seed, contract=contract)
    words = []
    with (
        running(redshift.port, world.database, home, world.now) as sandbox,
        DagsterInstance.ephemeral() as instance,
    ):
        defs = build_definitions(sandbox.settings, contract)
        for number in range(1, days + 1):
            morning = (NOW + timedelta(days=number)).replace(hour=4, minute=0)
            sandbox.move_to(morning)
            advance_shop(sandbox.settings.redshift, until=morning, late_orders=0)
            yesterday = (morning - timedelta(days=1)).date().isoformat()
            outcomes = [*sync_days(defs, instance, [yesterday], reason="test"), run_checks(defs, instance)]
            assert [outcome.failures for outcome in outcomes if outcome.failures] == [], morning
            words += [(f"{morning:%Y-%m-%d}", check) for outcome in outcomes for check in outcome.checks]
    return words


def require_no_alarm(words: list[tuple[str, CheckOutcome]], *, too_early: Collection[str] = ()) -> None:
    """Not one check fails or warns on any morning; and each but those that it is *too_early* for says good at least once."""
    alarms = [(day, check.name, check.description) for day, check in words if not check.is_passed and not check.is_not_ready]
    assert alarms == [], "\n".join(map(str, alarms))
    silent = {check.name for _, check in words} - {check.name for _, check in words if check.is_passed}
    assert silent == set(too_early), sorted(silent)
