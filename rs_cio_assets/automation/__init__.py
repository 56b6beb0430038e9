"""Jobs and schedules: what runs together, and when."""

from rs_cio_assets.automation.jobs import CREATE_VIEWS, READ_BACK, SYNC_DAY, build_jobs

__all__ = ["CREATE_VIEWS", "READ_BACK", "SYNC_DAY", "build_jobs"]
