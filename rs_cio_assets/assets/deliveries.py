"""What Dagster remembers of deliveries: by day, which state of the view was delivered last and which rows wait.

And whether the view holds another state now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dagster import (
    AssetCheckKey,
    AssetCheckSeverity,
    AssetMaterialization,
    AssetRecordsFilter,
    DagsterInstance,
    JsonMetadataValue,
    MetadataValue,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus

from rs_cio_assets.assets.keys import feed_key
from rs_cio_assets.contract.models import Feed, FeedKind
from rs_cio_assets.store import Fingerprint, Manifest

SOURCE, HELD, HELD_UNTIL = "source_fingerprint", "held", "held until (UTC)"  # labels of a delivery's metadata
_PER_PAGE = 1_000


@dataclass(frozen=True)
class DeliveredDay:
    """The latest delivery of one day: of which state of the view (None: not recorded), with which columns, when, how many rows
    were held until when (None with rows held: they wait for their person), and by which run."""

    source: Fingerprint | None
    columns: str
    at: datetime
    held: int = 0
    held_until: datetime | None = None
    run_id: str = ""


def source_metadata(manifest: Manifest) -> JsonMetadataValue:
    """The state of the view that a delivery is of, as `delivered_days` reads it."""
    source = manifest.fingerprint
    loaded = source.latest_loaded_at.isoformat() if source.latest_loaded_at else None
    columns = columns_text(manifest.columns)
    return MetadataValue.json({"rows": source.rows, "latest_loaded_at": loaded, "checksum": source.checksum, "columns": columns})


def columns_of(feed: Feed) -> str:
    """The feed's columns as `DeliveredDay.columns` has them: checksums over other columns cannot be compared."""
    return columns_text([(name, column.type.value) for name, column in feed.columns.items()])


def columns_text(columns: Sequence[tuple[str, str]]) -> str:
    """Names and types in their order, as one text."""
    return " ".join(f"{name}:{kind}" for name, kind in columns)


def delivered_days(instance: DagsterInstance, feed_name: str, days: Sequence[str]) -> dict[str, DeliveredDay]:
    """The latest delivery of each of *days* that was ever delivered, whoever started the run."""
    found: dict[str, DeliveredDay] = {}
    wanted = AssetRecordsFilter(asset_key=feed_key(feed_name), asset_partitions=list(days))
    cursor, has_more = None, bool(days)
    while has_more and len(found) < len(days):
        page = instance.fetch_materializations(wanted, limit=_PER_PAGE, cursor=cursor)
        for record in page.records:
            if record.asset_materialization and record.partition_key:
                at = datetime.fromtimestamp(record.timestamp, UTC)
                found.setdefault(record.partition_key, _delivered(record.asset_materialization, at, record.run_id))
        cursor, has_more = page.cursor, page.has_more
    return found


def stopped_days(instance: DagsterInstance, feed_name: str, days: Sequence[str], checks: Sequence[str]) -> set[str]:
    """Those of *days* whose latest delivery one of the feed's blocking *checks* stopped; of a run of several days, all of them.

    To Dagster such a day is materialized, for its rows were delivered before the check; its own 'failed' leaves it out.
    """
    runs: set[str] = set()
    for check in checks:
        cursor, has_more = None, True
        while has_more:
            page = instance.event_log_storage.get_asset_check_execution_history(
                AssetCheckKey(feed_key(feed_name), check),
                limit=_PER_PAGE,
                cursor=cursor,
                status={AssetCheckExecutionRecordStatus.FAILED},
            )
            runs |= {record.run_id for record in page if _is_error(record)}
            cursor, has_more = page[-1].id if page else None, len(page) == _PER_PAGE
    return {day for day, latest in delivered_days(instance, feed_name, days).items() if latest.run_id in runs} if runs else set()


def _is_error(record: AssetCheckExecutionRecord) -> bool:
    """True when the check failed, and not as a warning."""
    event = record.event and record.event.dagster_event
    return bool(event) and event.asset_check_evaluation_data.severity is AssetCheckSeverity.ERROR


def first_delivered_day(instance: DagsterInstance, feed_name: str) -> str | None:
    """The earliest day of the feed that was ever delivered."""
    return min(instance.get_materialized_partitions(feed_key(feed_name)), default=None)


def has_changed(feed: Feed, found: Fingerprint, was: DeliveredDay) -> bool:
    """True when the view holds rows of the day that were not delivered as they are.

    A checksum over other columns says nothing; then the rows and the newest load time decide. Of a feed with a row per person,
    rows leave a day whenever their person changes, and stand in a later one: fewer rows and no newer load are no news.
    """
    if was.source is None:
        return True
    has_newer = _is_newer(found.latest_loaded_at, was.source.latest_loaded_at)
    if feed.kind is FeedKind.PEOPLE and found.rows < was.source.rows and not has_newer:
        return False
    if was.columns != columns_of(feed):
        return (found.rows, found.latest_loaded_at) != (was.source.rows, was.source.latest_loaded_at)
    return found != was.source


def _is_newer(found: datetime | None, was: datetime | None) -> bool:
    return found is not None and (was is None or found > was)


def _delivered(materialization: AssetMaterialization, at: datetime, run_id: str) -> DeliveredDay:
    said: Mapping[str, Any] = {name: value.value for name, value in materialization.metadata.items()}
    source = said.get(SOURCE)
    source = source if isinstance(source, Mapping) else {}
    until = said.get(HELD_UNTIL)
    return DeliveredDay(
        source=_fingerprint(source) if source else None,
        columns=source.get("columns", ""),
        at=at,
        held=said.get(HELD) or 0,
        held_until=None if until is None else datetime.fromtimestamp(until, UTC),
        run_id=run_id,
    )


def _fingerprint(source: Mapping[str, Any]) -> Fingerprint:
    loaded = source["latest_loaded_at"]
    return Fingerprint(source["rows"], datetime.fromisoformat(loaded) if loaded else None, source["checksum"])
