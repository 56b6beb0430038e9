"""Jobs, schedules and sensors: what runs together, and when."""

from rs_cio_assets.automation.alerts import build_alerts
from rs_cio_assets.automation.jobs import CANARY, CHECKS, CREATE_VIEWS, READ_BACK, READINESS, SYNC_DAY, build_jobs
from rs_cio_assets.automation.schedules import build_schedules, build_sensors

__all__ = [
    "CANARY",
    "CHECKS",
    "CREATE_VIEWS",
    "READINESS",
    "READ_BACK",
    "SYNC_DAY",
    "build_alerts",
    "build_jobs",
    "build_schedules",
    "build_sensors",
]
