"""Plant one fault in a sandbox that is in order, let the product go on as it does every day, and look which check says what."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dagster import AssetCheckKey, AssetKey, DagsterInstance

from rs_cio_assets.contract import load_contract
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.demo.faults.scene import Fault, Scene
from rs_cio_assets.errors import ContractError
from rs_cio_assets.settings import Settings
from rs_cio_assets.sync import CheckOutcome, JobOutcome, create_views, run_checks, sync_feed


@dataclass(frozen=True)
class Caught:
    """What the product did and said. *check* is the word of the check that had to catch it; *refusal* of what did not load."""

    outcomes: tuple[JobOutcome, ...]
    check: CheckOutcome | None
    refusal: str | None

    def is_as_expected(self, fault: Fault) -> bool:
        """True when the named check, or the refusal, says what the catalogue expects."""
        if fault.check is None:
            return self.refusal is not None and fault.says in self.refusal
        check = self.check
        return (
            check is not None
            and not check.is_passed
            and fault.says in check.description
            and check.is_not_ready == fault.is_not_ready
        )


def copy_contract(source: Path, folder: Path) -> Path:
    """A copy of the contract in *source* that a fault may edit. Its segments notice at once, as the stand-in does."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for path in (folder / "segments").glob("*.yaml"):
        path.write_text(re.sub(r"^lag_minutes: \d+$", "lag_minutes: 0", path.read_text(), flags=re.MULTILINE))
    return folder


def plant(fault: Fault, settings: Settings, instance: DagsterInstance, now: datetime, *, has_all_checks: bool) -> Caught:
    """Edit the contract of *settings* (a copy!), change the sandbox, sync the fault's feeds, run its check, or all of them.

    Raises: ValueError when there is no copy to edit.
    """
    if fault.edit:
        if settings.contract is None:
            raise ValueError(f"{fault.id} edits the contract, and the settings name no copy of it")
        fault.edit(settings.contract)
    try:
        load_contract(settings.contract, today=now.date())
    except ContractError as error:
        return Caught((), None, str(error))
    outcomes = tuple(_go_on(fault, settings, instance, now, has_all_checks))
    words = [c for o in outcomes for c in o.checks if (c.asset, c.name) == (fault.asset, fault.check)]
    return Caught(outcomes, words[-1] if words else None, None)


def _go_on(
    fault: Fault, settings: Settings, instance: DagsterInstance, now: datetime, has_all_checks: bool
) -> Iterator[JobOutcome]:
    scene = Scene(settings, now)
    contract = scene.contract
    defs = build_definitions(settings, contract)
    if fault.edit:
        yield create_views(defs, instance)
    if fault.plant:
        fault.plant(scene)
    day = scene.today if fault.is_today else scene.yesterday
    for feed in fault.feeds:
        yield sync_feed(defs, instance, feed, [day], reason="fault")
    if fault.afterwards:
        fault.afterwards(scene)
    standing = {key for check in defs.asset_checks or () for key in check.check_keys}
    wanted = AssetCheckKey(AssetKey(fault.asset.split("/")), fault.check or "")
    if has_all_checks:
        yield run_checks(defs, instance)
    elif wanted in standing:
        yield run_checks(defs, instance, only=wanted)
