"""The one Definitions object that workspace.yaml loads; it only assembles.

Tests call `build_definitions` with settings, a contract or resources of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import Definitions, in_process_executor

from rs_cio_assets.assets import build_export, build_feed, build_view, daily_partitions
from rs_cio_assets.automation import build_jobs
from rs_cio_assets.checks import build_read_back_check
from rs_cio_assets.contract import Contract, FeedKind, load_contract
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings, load_settings


def build_definitions(
    settings: Settings | None = None,
    contract: Contract | None = None,
    *,
    resource_overrides: Mapping[str, Any] | None = None,
) -> Definitions:
    """Assets, checks and jobs of every enabled feed. Opens no connection.

    Raises: SettingsError, ContractError: each lists every problem at once.
    """
    settings = settings or load_settings()
    contract = contract or load_contract(settings.contract)
    daily = daily_partitions(settings.start_date)
    feeds = contract.enabled_feeds
    read_back_checks = [build_read_back_check(feed, contract) for feed in contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT)]
    return Definitions(
        assets=[
            *(build_view(feed) for feed in feeds),
            *(build_export(feed, daily) for feed in feeds),
            *(build_feed(feed, contract, daily) for feed in feeds),
        ],
        asset_checks=read_back_checks,
        jobs=build_jobs(contract, read_back_checks),
        resources={**resources_for(settings), **(resource_overrides or {})},
        executor=in_process_executor,
    )


defs = build_definitions()
