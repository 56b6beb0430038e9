"""The asset `store/housekeeping`: rows of people leave the store in time, and the ledger stays few objects."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster import AssetExecutionContext, AssetKey, AssetsDefinition, MaterializeResult, ResourceParam, asset

from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.activities import LOOK
from rs_cio_assets.checks.segments import DIFFERENCES_KEPT
from rs_cio_assets.delivery.folding import fold_ledgers
from rs_cio_assets.delivery.rejections import REJECTIONS
from rs_cio_assets.store import Store
from rs_cio_assets.store.retention import expire, expire_staged, remove_orphans
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets.warehouse.exchange import remove_leftovers

HOUSEKEEPING_KEY = AssetKey(["store", "housekeeping"])


def build_housekeeping(*, staged_days: int, rejections_days: int) -> AssetsDefinition:
    """Staged rows go *staged_days* after they were read; what else names people *rejections_days* after it was last written."""

    @asset(
        key=HOUSEKEEPING_KEY,
        description="Removes personal data from the store when it is old enough: staged rows go "
        f"{staged_days} days after they were read, rejected rows and segment differences {rejections_days} days after they were "
        "last written, and so does what dead runs left behind. Ledgers of days that nobody touched for 30 days are folded into "
        "one file each. The ledger itself never goes: it keeps a second run from sending again.",
        group_name="store",
        kinds={"parquet"},
        owners=["team:data"],
    )
    def housekeeping(
        context: AssetExecutionContext, store: ResourceParam[Store], warehouse: ResourceParam[Warehouse]
    ) -> MaterializeResult:
        now = datetime.now(UTC)
        before = now - timedelta(days=rejections_days)
        with failing_clearly(), tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch:
            removed = {
                "staged, expired": expire_staged(store, now - timedelta(days=staged_days)),
                "staged, of no manifest": remove_orphans(store, now),
                "rejections": expire(store, REJECTIONS, before),
                "segment differences": expire(store, DIFFERENCES_KEPT, before),
                "looks at activities": expire(store, LOOK, before),
            }
            if warehouse.exchange:
                removed["files of UNLOAD and COPY, left behind"] = remove_leftovers(warehouse.exchange, now)
            folded = fold_ledgers(store, now, Path(scratch))
        for kind, what in removed.items():
            context.log.info(f"{kind}: {what.objects:,} objects removed, {what.size_bytes:,} bytes")
        context.log.info(f"ledger: {folded.days:,} days folded, {folded.days_left:,} left for the next run")
        return MaterializeResult(
            metadata={
                **{f"{kind} (objects)": what.objects for kind, what in removed.items()},
                **{f"{kind} (bytes)": what.size_bytes for kind, what in removed.items()},
                "ledger, folded (days)": folded.days,
                "ledger, left to fold (days)": folded.days_left,
            }
        )

    return housekeeping
