"""The asset `redshift/unlogged_days`: days whose log did not follow their delivery are logged after all.

A check that stops a day (too many rejected rows) stops its log too, and Redshift may have been away at that moment.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import (
    AssetExecutionContext,
    AssetMaterialization,
    AssetsDefinition,
    DagsterEventType,
    DagsterInstance,
    MaterializeResult,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets import LOG_KEY, UNLOGGED_KEY, delivery_log_key, feed_key
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.log import write_log
from rs_cio_assets.automation.stale_days import days_before
from rs_cio_assets.contract.models import Contract
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Store, load_manifest
from rs_cio_assets.store.manifest import has_staged_files
from rs_cio_assets.warehouse import Warehouse


def build_unlogged_days(contract: Contract, settings: Settings) -> AssetsDefinition:
    """The asset over today and the days that may still change. Where nothing is missing it does nothing."""

    @asset(
        key=UNLOGGED_KEY,
        deps=[LOG_KEY],
        description="Finds days that were delivered but not logged in Redshift, because a check stopped them or the warehouse "
        f"was away, and logs them. It looks at today and the {settings.lateness_days} days before it, as far as their staged "
        "rows are still in the store.",
        group_name="redshift_deliveries",
        kinds={"redshift", "table"},
        owners=["team:data"],
        pool="redshift",
    )
    def unlogged_days(
        context: AssetExecutionContext, warehouse: ResourceParam[Warehouse], store: ResourceParam[Store]
    ) -> MaterializeResult:
        today = datetime.now(UTC).date()
        days = {today.isoformat(), *days_before(today, settings.lateness_days, settings.start_date)}
        done, gone = 0, 0
        failed: list[RsCioError] = []
        for feed in contract.enabled_feeds:
            for day in unlogged(context.instance, feed.name, days):
                try:
                    manifest = load_manifest(store, feed.name, day)
                    if manifest is None or (manifest.rows and not has_staged_files(store, manifest)):
                        gone += 1
                        continue
                    metadata = write_log(feed, contract, day, context.instance, warehouse, store)
                except RsCioError as error:  # one day keeps no other from its log; the run fails in the end
                    failed.append(error.at(feed.name, day))
                    context.log.warning(str(failed[-1]))
                    continue
                context.log_event(AssetMaterialization(delivery_log_key(feed.name), partition=day, metadata=metadata))
                context.log.info(f"{feed.name} {day}: logged after all")
                done += 1
        with failing_clearly():
            if failed:
                raise failed[0]
        return MaterializeResult(metadata={"days logged": done, "days whose staged rows are gone": gone})

    return unlogged_days


def unlogged(instance: DagsterInstance, feed_name: str, days: set[str]) -> Iterator[str]:
    """Those of *days* (ISO), oldest first, whose latest delivery is younger than their latest log."""
    kind = DagsterEventType.ASSET_MATERIALIZATION
    delivered, logged = (
        instance.get_latest_storage_id_by_partition(key(feed_name), kind, days) for key in (feed_key, delivery_log_key)
    )
    yield from (day for day in sorted(delivered) if logged.get(day, -1) < delivered[day])
