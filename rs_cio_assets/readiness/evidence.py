"""What the checks said last, from the Dagster instance, and what the store and the contract's lock say without them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dagster import AssetCheckEvaluation, AssetCheckKey, AssetCheckSeverity, DagsterInstance
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus

from rs_cio_assets.checks.results import NOT_READY
from rs_cio_assets.contract.models import Contract, FeedKind
from rs_cio_assets.readiness.lines import BACKFILL_DAYS, Evidence, Facts, Verdict
from rs_cio_assets.store import Store, load_manifest

# Of a check that ran: its word, in place of a plan that came to none.
SAID = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def latest_evidence(instance: DagsterInstance, keys: Iterable[AssetCheckKey]) -> tuple[Evidence, ...]:
    """The latest word of each check, in the order of their names; one that never ran is there too."""
    wanted = sorted(keys, key=lambda key: key.to_user_string())
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(wanted)
    return tuple(_evidence(instance, key, records.get(key)) for key in wanted)


def _evidence(instance: DagsterInstance, key: AssetCheckKey, record: AssetCheckExecutionRecord | None) -> Evidence:
    asset = key.asset_key.to_user_string()
    if record is None:
        return Evidence(asset, key.name, Verdict.NEVER_RUN, "", None)
    at, evaluation = datetime.fromtimestamp(record.create_timestamp, UTC), record.evaluation
    if isinstance(evaluation, AssetCheckEvaluation):
        return Evidence(asset, key.name, _verdict(evaluation), evaluation.description or "", at)
    run = instance.get_run_by_id(record.run_id)  # it was planned, and has not said a word
    if run is not None and not run.is_finished:
        return Evidence(asset, key.name, Verdict.NOT_READY, "it is running", at)
    if run is not None and run.is_success:  # a backfill took it along, where it does not look
        earlier = instance.event_log_storage.get_asset_check_execution_history(key, limit=1, status=SAID)
        return _evidence(instance, key, next(iter(earlier), None))
    return Evidence(asset, key.name, Verdict.FAILED, "it did not end: read its run", at)


def _verdict(evaluation: AssetCheckEvaluation) -> Verdict:
    if evaluation.passed:
        return Verdict.PASSED
    if (evaluation.description or "").startswith(NOT_READY):
        return Verdict.NOT_READY
    return Verdict.WARNED if evaluation.severity is AssetCheckSeverity.WARN else Verdict.FAILED


def known_facts(contract: Contract, store: Store, now: datetime, *, locked_on: str | None) -> Facts:
    """Counts the finished days of the last 30 that hold an export and, where it had rows, a delivery.

    Empty days count for events alone, which may be rare: days without anybody prove nothing about people.
    """
    days = [(now.date() - timedelta(days=n)).isoformat() for n in range(1, BACKFILL_DAYS[1] + 1)]
    delivered = {}
    for feed in contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT):
        manifests = {day: load_manifest(store, feed.name, day) for day in days}
        noted = {key.split("/")[2] for key in store.list(f"ledger/{feed.name}/")}
        may_be_empty = feed.kind is not FeedKind.PEOPLE or bool(noted)
        delivered[feed.name] = sum(
            m is not None and (day in noted or (m.rows == 0 and may_be_empty)) for day, m in manifests.items()
        )
    return Facts(contract, delivered, locked_on)
