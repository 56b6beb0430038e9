"""The one Definitions object that workspace.yaml loads; it only assembles.

Tests call `build_definitions` with settings, a contract or resources of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from dagster import Definitions, in_process_executor

from rs_cio_assets.assets import build_delivery_log, build_export, build_feed, build_log, build_view, daily_partitions
from rs_cio_assets.automation import (
    build_alerts,
    build_check_results,
    build_housekeeping,
    build_jobs,
    build_late_data_sensor,
    build_schedules,
    build_sensors,
    build_unlogged_days,
)
from rs_cio_assets.checks import build_checks
from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.contract.load import load_lock
from rs_cio_assets.doctor import Preflight
from rs_cio_assets.readiness import build_readiness
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings, load_settings


def build_definitions(
    settings: Settings | None = None,
    contract: Contract | None = None,
    *,
    resource_overrides: Mapping[str, Any] | None = None,
) -> Definitions:
    """Assets, checks, jobs, schedules and sensors of every enabled feed. Opens no connection.

    Raises: SettingsError, ContractError: each lists every problem at once.
    """
    settings = settings or load_settings()
    contract = contract or load_contract(settings.contract)
    daily = daily_partitions(settings.start_date)
    feeds = contract.enabled_feeds
    checks = build_checks(contract, has_canary=settings.canary, lateness_days=settings.lateness_days)
    has_log = settings.redshift.delivery_log
    jobs = build_jobs(contract, checks, has_log=has_log)
    preflight = Preflight(settings, lambda: contract).require if settings.preflight else None
    build_checked_feed = partial(build_feed, require_preflight=preflight, ui_url=settings.customerio.ui_url)
    builders = (build_export, build_checked_feed, *((build_delivery_log,) if has_log else ()))
    by_day = [build(feed, contract, daily) for build in builders for feed in feeds]
    checked = [key for definition in (*by_day, *checks) for key in definition.check_keys]
    return Definitions(
        assets=[
            *(build_view(feed, settings.redshift.views) for feed in feeds),
            *by_day,
            *((build_log(), build_check_results(checked), build_unlogged_days(contract, settings)) if has_log else ()),
            build_readiness(contract, checked, locked_on=locked_on(settings)),
            build_housekeeping(staged_days=settings.staged_days, rejections_days=settings.rejections_days),
        ],
        asset_checks=checks,
        jobs=jobs,
        schedules=build_schedules(contract, jobs, by_day, settings),
        sensors=[
            *build_sensors(jobs, settings),
            build_late_data_sensor(contract, jobs, by_day, settings),
            build_alerts(contract, checked, jobs, settings),
        ],
        resources={**resources_for(settings), **(resource_overrides or {})},
        executor=in_process_executor,
    )


def locked_on(settings: Settings) -> str | None:
    """The day (ISO) of the lock's latest acceptance; None where the contract has no lock."""
    lock = load_lock(settings.contract)
    return lock.accepted[0].accepted_on.isoformat() if lock and lock.accepted else None


defs = build_definitions()
