"""Jobs, schedules and sensors: what runs together, and when."""

from rs_cio_assets.automation.alerts import build_alerts
from rs_cio_assets.automation.check_results import build_check_results
from rs_cio_assets.automation.housekeeping import HOUSEKEEPING_KEY, build_housekeeping
from rs_cio_assets.automation.jobs import (
    CANARY,
    CATCH_UP_LOG,
    CHECKS,
    CREATE_VIEWS,
    HOUSEKEEPING,
    READ_BACK,
    READINESS,
    SYNC_DAY,
    build_jobs,
)
from rs_cio_assets.automation.late_data import build_late_data_sensor
from rs_cio_assets.automation.schedules import build_schedules, build_sensors
from rs_cio_assets.automation.unlogged_days import build_unlogged_days

__all__ = [
    "CANARY",
    "CATCH_UP_LOG",
    "CHECKS",
    "CREATE_VIEWS",
    "HOUSEKEEPING",
    "HOUSEKEEPING_KEY",
    "READINESS",
    "READ_BACK",
    "SYNC_DAY",
    "build_alerts",
    "build_check_results",
    "build_housekeeping",
    "build_jobs",
    "build_late_data_sensor",
    "build_schedules",
    "build_sensors",
    "build_unlogged_days",
]
