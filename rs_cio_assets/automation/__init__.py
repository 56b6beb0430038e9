"""Jobs, schedules and sensors: what runs together, and when."""

from rs_cio_assets.automation.jobs import CANARY, CHECKS, CREATE_VIEWS, READ_BACK, READINESS, SYNC_DAY, build_jobs
from rs_cio_assets.automation.late_data import build_late_data_sensor
from rs_cio_assets.automation.schedules import build_schedules, build_sensors

__all__ = [
    "CANARY",
    "CHECKS",
    "CREATE_VIEWS",
    "READINESS",
    "READ_BACK",
    "SYNC_DAY",
    "build_jobs",
    "build_late_data_sensor",
    "build_schedules",
    "build_sensors",
]
