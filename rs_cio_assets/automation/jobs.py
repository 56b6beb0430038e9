"""The jobs: create the views, sync a day of every feed, read back what Customer.io holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster import (
    AssetChecksDefinition,
    AssetSelection,
    define_asset_job,
    in_process_executor,
)

from rs_cio_assets.assets import export_key, feed_key, view_key
from rs_cio_assets.contract.models import Contract

CREATE_VIEWS = "create_views"
SYNC_DAY = "sync_day"
READ_BACK = "read_back"


def build_jobs(contract: Contract, read_back_checks: Sequence[AssetChecksDefinition]) -> list[Any]:
    """The three jobs over the enabled feeds. `sync_day` runs with a partition key (a UTC day) and leaves read-back out."""
    feeds = contract.enabled_feeds
    read_back = AssetSelection.checks(*read_back_checks)
    synced = AssetSelection.assets(*(key(f.name) for f in feeds for key in (export_key, feed_key)))
    return [
        define_asset_job(
            CREATE_VIEWS,
            selection=AssetSelection.assets(*(view_key(f.name) for f in feeds)),
            description="Create or replace every feed's export view in Redshift. Run it after the contract's SQL changed.",
            executor_def=in_process_executor,
        ),
        define_asset_job(
            SYNC_DAY,
            selection=synced - read_back,
            description="Export one UTC day of every feed from Redshift and deliver it to Customer.io, people before events.",
            executor_def=in_process_executor,
        ),
        define_asset_job(
            READ_BACK,
            selection=read_back,
            description="Ask Customer.io for a sample of what was delivered and compare it with what was exported.",
            executor_def=in_process_executor,
        ),
    ]
