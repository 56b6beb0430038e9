"""Checks that stand on their own, in runs that take them along: a backfill's day is no reason to look, nor is a day to send."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dagster import (
    AssetCheckKey,
    AssetCheckResult,
    AssetKey,
    AssetSelection,
    DagsterInstance,
    DailyPartitionsDefinition,
    Definitions,
    asset,
    define_asset_job,
)
from dagster._core.storage.tags import BACKFILL_ID_TAG, PARTITION_NAME_TAG

from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.readiness.evidence import latest_evidence
from rs_cio_assets.readiness.lines import Verdict

FEED = AssetKey("feed")
DAY = "2026-11-20"


@asset(key=FEED, partitions_def=DailyPartitionsDefinition("2026-11-01"))
def feed() -> None:
    """A feed by day."""


@standing_check(asset=FEED, name="looks", description="Looks.", pool="redshift")
def looks() -> AssetCheckResult:
    """What it says does not matter."""
    return AssetCheckResult(passed=True)


@standing_check(
    asset=FEED, name="sends", description="Sends.", pool="redshift", silent_with=(BACKFILL_ID_TAG, PARTITION_NAME_TAG)
)
def sends() -> AssetCheckResult:
    """Nor here."""
    return AssetCheckResult(passed=True)


CHECKS = [looks, sends]
JOB = define_asset_job("sync_day", selection=AssetSelection.assets(FEED) - AssetSelection.checks(*CHECKS))
DEFS = Definitions(assets=[feed], asset_checks=CHECKS, jobs=[JOB, define_asset_job("checks", AssetSelection.checks(*CHECKS))])


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    """An instance without history."""
    with DagsterInstance.ephemeral() as instance:
        yield instance


def said(instance: DagsterInstance, job: str, *, is_subset: bool = False, **how: object) -> set[str]:
    """Names of the checks that said something in a run; a subset is what the UI launches of a job's assets."""
    definition = DEFS.resolve_job_def(job)
    if is_subset:
        definition = definition.get_subset(asset_selection={FEED})
        assert {"feed", "feed_looks", "feed_sends"} <= {node.name for node in definition.nodes}, "Dagster takes the checks along"
    result = definition.execute_in_process(instance=instance, **how)  # type: ignore[arg-type]
    assert result.success
    return {evaluation.check_name for evaluation in result.get_asset_check_evaluations()}


def test_a_backfill_of_the_ui_looks_at_nothing_and_sends_nothing(instance: DagsterInstance):
    """Their job asks the checks; the day of a backfill that takes them along asks none, and a day by hand none that sends."""
    assert said(instance, "checks") == {"looks", "sends"}
    assert said(instance, "sync_day", partition_key=DAY) == set()
    assert said(instance, "sync_day", is_subset=True, partition_key=DAY, tags={BACKFILL_ID_TAG: "a backfill"}) == set()
    assert said(instance, "sync_day", is_subset=True, partition_key=DAY) == {"looks"}


def test_what_a_check_said_before_a_backfill_stands(instance: DagsterInstance):
    """For readiness its latest word counts, also when a backfill took it along since; one that never spoke has not failed."""
    keys = [AssetCheckKey(FEED, name) for name in ("looks", "sends")]
    backfill = {"is_subset": True, "partition_key": DAY, "tags": {BACKFILL_ID_TAG: "a backfill"}}
    said(instance, "sync_day", **backfill)
    assert [one.verdict for one in latest_evidence(instance, keys)] == [Verdict.NEVER_RUN] * 2
    said(instance, "checks")
    said(instance, "sync_day", **backfill)
    assert [one.verdict for one in latest_evidence(instance, keys)] == [Verdict.PASSED] * 2
