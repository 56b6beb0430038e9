"""Asset checks that people run alone, by job or on a schedule: one module per question."""

from rs_cio_assets.checks.read_back import ReadBackConfig, build_read_back_check

__all__ = ["ReadBackConfig", "build_read_back_check"]
