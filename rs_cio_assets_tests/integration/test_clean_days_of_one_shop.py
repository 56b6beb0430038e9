"""Thirty clean days of one shop raise no alarm. Each shop is a file of its own, so that they run side by side."""

from __future__ import annotations

from pathlib import Path

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.clean_days import clean_days, require_no_alarm


def test_thirty_clean_days_raise_no_alarm(redshift: RedshiftStandIn, tmp_path: Path):
    """Not one check fails on any of thirty mornings, and each has looked at something by the end."""
    require_no_alarm(clean_days(redshift, tmp_path / "home", seed=1))
