"""Clean days of a shop raise no alarm: a week, and with --long thirty days of two shops."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.clean_days import clean_days, require_no_alarm


@pytest.mark.parametrize(
    ("seed", "days"), [(1, 7), pytest.param(1, 30, marks=pytest.mark.long), pytest.param(2, 30, marks=pytest.mark.long)]
)
def test_clean_days_raise_no_alarm(redshift: RedshiftStandIn, tmp_path: Path, seed: int, days: int):
    """Not one check fails on any morning, and each has looked at something by the end: what waits ten days for its message, if
    there were as many."""
    slow = {"journey_second_purchase_fires"} if days < 14 else set()
    require_no_alarm(clean_days(redshift, tmp_path / "home", seed=seed, days=days), too_early=slow)
