"""Which days of which feeds are being run, or are about to be: open runs, whoever started them, and open backfills."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, PARTITION_NAME_TAG

from rs_cio_assets.assets import feed_key
from rs_cio_assets.automation.jobs import SYNC_DAY

OPEN = (
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
)


def days_under_way(instance: DagsterInstance, feeds: Sequence[str], days: Sequence[str]) -> set[tuple[str, str]]:
    """(feed, day) pairs of *feeds* and *days* (ISO) that an open run covers or an open backfill has still to do.

    A run of other assets is not in the way. Backfills are read from Dagster's own records of them: no public way tells which
    days an open one has not launched yet (Dagster 1.13; a test would notice a change).
    """
    pairs: set[tuple[str, str]] = set()
    for record in instance.get_run_records(RunsFilter(statuses=list(OPEN))):
        covered = _feeds_of(record.dagster_run, feeds)
        pairs |= {(feed, day) for feed in covered for day in _days_of(record.dagster_run, days)}
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])):
        pairs |= set(_pairs_of(backfill, feeds))
    return pairs


def _feeds_of(run: DagsterRun, feeds: Sequence[str]) -> Iterator[str]:
    if run.asset_selection is None:
        yield from feeds if run.job_name == SYNC_DAY else ()
        return
    yield from (feed for feed in feeds if feed_key(feed) in run.asset_selection)


def _days_of(run: DagsterRun, days: Sequence[str]) -> Iterator[str]:
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG) or run.tags.get(PARTITION_NAME_TAG, "")
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG) or first
    yield from (day for day in days if first <= day <= last)


def _pairs_of(backfill: PartitionBackfill, feeds: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What *backfill* has still to do: neither materialized nor failed."""
    if (data := backfill.asset_backfill_data) is None:
        yield from ((feed, day) for feed in feeds for day in backfill.partition_names or ())
        return
    done = (data.materialized_subset, data.failed_and_downstream_subset)
    for feed in feeds:
        target, *ended = (_keys(subset, feed_key(feed)) for subset in (data.target_subset, *done))
        yield from ((feed, day) for day in target - ended[0] - ended[1])


def _keys(subset: AssetGraphSubset, key: AssetKey) -> set[str]:
    partitions = subset.partitions_subsets_by_asset_key.get(key)
    return set(partitions.get_partition_keys()) if partitions else set()
