"""The delivery log in Redshift: its tables and views, and what became of each day's rows. There only where it is turned on."""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import (
    AssetExecutionContext,
    AssetsDefinition,
    DagsterInstance,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets.deliveries import delivered_days
from rs_cio_assets.assets.exports import materialized
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.feeds import recording_finished
from rs_cio_assets.assets.keys import LOG_KEY, delivery_log_key, feed_key
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.delivery.log import OUTCOMES, DayLog, log_day, log_people_first
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.store import Manifest, Store, load_manifest
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets.warehouse.log import Written, write_day, write_deliveries
from rs_cio_assets.warehouse.log_schema import SCHEMA, TABLES, VIEWS, create_log


def build_log() -> AssetsDefinition:
    """The asset `redshift/log`: the tables and views of the schema cio_sync. Running it again changes nothing."""

    @asset(
        key=LOG_KEY,
        description=(
            f"The delivery log: the schema {SCHEMA} in Redshift, where analysts find what became of each row. Its tables are "
            f"{', '.join(table.name for table in TABLES)}; its views answer the usual questions: {', '.join(VIEWS)}. Creates "
            "what "
            "is missing and changes nothing else. Where this user may not create tables, a DBA runs what `rs-cio schema` prints."
        ),
        group_name="redshift_deliveries",
        kinds={"redshift", "table"},
        owners=["team:data"],
        pool="redshift",
    )
    def log(context: AssetExecutionContext, warehouse: ResourceParam[Warehouse]) -> MaterializeResult:
        with failing_clearly(), warehouse.session() as session:
            created = create_log(session)
        names = ", ".join(created.names) or "nothing: all of it was there"
        context.log.info(f"{SCHEMA}: created {names}")
        return MaterializeResult(metadata={"tables": len(TABLES), "views": len(VIEWS), "created": names})

    return log


def build_delivery_log(feed: Feed, contract: Contract, daily: DailyPartitionsDefinition) -> AssetsDefinition:
    """The asset `redshift/deliveries/<feed>`, by day: replaces the day in the log. Run again, it writes the same.

    The delivery is materialized before and apart from it: when the log fails, the delivery stands and is not repeated.
    """

    @asset(
        key=delivery_log_key(feed.name),
        deps=[feed_key(feed.name), LOG_KEY],
        partitions_def=daily,
        description=(
            f"What became of each row of one day, back in Redshift for analysts to join on: {SCHEMA}.deliveries says whether it "
            f"was delivered, held or rejected, when and by which run, {SCHEMA}.rejections why not. A run replaces its day; "
            f"running it again changes nothing.\n\n{feed.description}"
        ),
        group_name="redshift_deliveries",
        kinds={"redshift", "table"},
        owners=[feed.owner],
        pool="redshift",
        metadata={"dagster/table_name": f"{SCHEMA}.deliveries"},
    )
    def delivery_log(
        context: AssetExecutionContext, warehouse: ResourceParam[Warehouse], store: ResourceParam[Store]
    ) -> MaterializeResult:
        finished: dict[str, dict[str, Any]] = {}
        for day in context.partition_keys:
            with recording_finished(context, finished), failing_clearly(feed.name, day):
                finished[day] = write_log(feed, contract, day, context.instance, warehouse, store)
            context.log.info(f"{feed.name} {day}: logged in {finished[day]['duration (s)']} s")
        return materialized(context, finished)

    return delivery_log


def write_log(
    feed: Feed, contract: Contract, day: str, instance: DagsterInstance, warehouse: Warehouse, store: Store
) -> dict[str, Any]:
    """Replace *day* (ISO) of *feed* in the log, and add the people who were delivered before its events; the metadata of it.

    Raises: MismatchError, StoreRefused (the staged rows are gone), StoreUnavailable, WarehouseRefused, WarehouseUnavailable.
    """
    started, now = time.monotonic(), datetime.now(UTC)
    manifest = _manifest(store, feed, day)
    was = delivered_days(instance, feed.name, [day]).get(day)
    is_delivered = was is not None and was.source == manifest.fingerprint
    with tempfile.TemporaryDirectory(prefix="rs-cio-") as place:
        folder = Path(place)
        log = log_day(feed, contract, manifest, store, folder=folder, now=now, is_delivered=is_delivered)
        first = list(_people_first(feed, contract, manifest, store, folder, now))
        with warehouse.session() as session:
            written = write_day(session, feed.name, day, log.deliveries, log.rejections)
            people_first = sum(write_deliveries(session, path).rows for path in first)
    return _metadata(log, written, people_first, time.monotonic() - started)


def _manifest(store: Store, feed: Feed, day: str) -> Manifest:
    if (manifest := load_manifest(store, feed.name, day)) is None:
        raise MismatchError(
            "this day has not been exported from Redshift yet",
            next_step=f"materialize redshift/exports/{feed.name} and customerio/feeds/{feed.name} for {day} with it",
        )
    return manifest


def _people_first(
    feed: Feed, contract: Contract, manifest: Manifest, store: Store, folder: Path, now: datetime
) -> Iterator[Path]:
    """Files with the people who were delivered before *feed*'s rows of the day: only these rows say whose keys those are."""
    for other in contract.feeds_of(FeedKind.PEOPLE) if feed.kind in {FeedKind.EVENT, FeedKind.MERGE} else ():
        place = folder / other.name
        place.mkdir()
        staged = load_manifest(store, other.name, manifest.day)
        if path := log_people_first(manifest, feed, other, staged, store, folder=place, now=now):
            yield path


def _metadata(log: DayLog, written: Written, people_first: int, seconds: float) -> dict[str, Any]:
    return {
        "dagster/partition_row_count": sum(log.outcomes.values()),
        "rows of the day": log.rows,
        **{f"{outcome} (keys)": log.outcomes.get(outcome, 0) for outcome in OUTCOMES if outcome != "duplicate"},
        "duplicates (rows)": log.duplicates,
        "rejected (rows)": log.rejected,
        "delivered, left the view (keys)": log.left_the_view,
        "people delivered first": people_first,
        "written by": written.way,
        "attempts": written.attempts,
        "duration (s)": round(seconds, 3),
    }
