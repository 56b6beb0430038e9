"""The jobs: create the views, sync a day of every feed, read back what Customer.io holds."""

from __future__ import annotations

from collections.abc import Sequence

from dagster import (
    AssetChecksDefinition,
    AssetSelection,
    define_asset_job,
    in_process_executor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from rs_cio_assets.assets import CHECK_RESULTS_KEY, LOG_KEY, UNLOGGED_KEY, delivery_log_key, export_key, feed_key, view_key
from rs_cio_assets.automation.housekeeping import HOUSEKEEPING_KEY
from rs_cio_assets.checks import CANARY_CHECK, READ_BACK_CHECK
from rs_cio_assets.contract.models import Contract
from rs_cio_assets.readiness import READINESS_KEY

CREATE_VIEWS = "create_views"
SYNC_DAY = "sync_day"
READ_BACK = "read_back"
CHECKS = "checks"
CANARY = "canary"
HOUSEKEEPING = "housekeeping"
READINESS = "write_readiness"  # an asset and a job cannot share a name
CATCH_UP_LOG = "catch_up_log"


def build_jobs(
    contract: Contract, checks: Sequence[AssetChecksDefinition], *, has_log: bool
) -> list[UnresolvedAssetJobDefinition]:
    """The jobs over the enabled feeds. `sync_day` runs with a partition key (a UTC day); the others look at many days at once.

    What stands on its own (*checks*) is in `checks`; read-back has a job of its own too, and the canary, which sends, only that.
    With the delivery log (*has_log*) `sync_day` writes it, `create_views` makes its tables, and `catch_up_log` is there.
    """
    feeds = contract.enabled_feeds
    day_keys = (export_key, feed_key, *((delivery_log_key,) if has_log else ()))
    synced = AssetSelection.assets(*(key(f.name) for f in feeds for key in day_keys))
    looking = [check for check in checks if not _names(check, CANARY_CHECK)]
    jobs = [
        _job(
            CREATE_VIEWS,
            AssetSelection.assets(*(view_key(f.name) for f in feeds), *((LOG_KEY,) if has_log else ())),
            "Create or replace every feed's export view in Redshift, or compare it with the contract where others own it "
            "(REDSHIFT_VIEWS=verify). Run it after the SQL changed.",
        ),
        _job(
            SYNC_DAY,
            synced - AssetSelection.checks(*checks),
            "Export one UTC day of every feed from Redshift and deliver it to Customer.io, people before events. Choose days "
            "with Materialize all; running a day again sends only what is new.",
        ),
        _job(
            READ_BACK,
            AssetSelection.checks(*(check for check in checks if _names(check, READ_BACK_CHECK))),
            "Ask Customer.io for a sample of what was delivered and compare it with what was exported.",
        ),
        _job(
            CHECKS,
            AssetSelection.checks(*looking),
            "Run every check that stands on its own and looks at many days at once: whether Customer.io holds what was sent, one "
            "person is one profile, segments and journeys do what the contract says, and how late the data is. Sends nothing.",
        ),
    ]
    jobs.append(
        _job(
            READINESS,
            AssetSelection.assets(READINESS_KEY),
            "Write the implementation checklist (asset readiness) anew from what the checks said last.",
        )
    )
    jobs.append(
        _job(
            HOUSEKEEPING,
            AssetSelection.assets(HOUSEKEEPING_KEY),
            "Remove personal data from the store that is old enough, and fold the ledgers of old days.",
        )
    )
    if has_log:
        text = "Write to the delivery log in Redshift what checks said since the last time, and days that it lacks."
        jobs.append(_job(CATCH_UP_LOG, AssetSelection.assets(CHECK_RESULTS_KEY, UNLOGGED_KEY), text))
    if canaries := [check for check in checks if _names(check, CANARY_CHECK)]:
        text = "Send two made-up people to Customer.io, a buyer and a browser, look where they land, and remove both."
        jobs.append(_job(CANARY, AssetSelection.checks(*canaries), text))
    return jobs


def _job(name: str, selection: AssetSelection, description: str) -> UnresolvedAssetJobDefinition:
    return define_asset_job(name, selection=selection, description=description, executor_def=in_process_executor)


def _names(check: AssetChecksDefinition, prefix: str) -> bool:
    return all(key.name.startswith(prefix) for key in check.check_keys)
