"""Thirty clean days of a shop raise no alarm."""

from __future__ import annotations

from pathlib import Path

import pytest

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets_tests.clean_days import clean_days, require_no_alarm


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_thirty_clean_days_raise_no_alarm(redshift: RedshiftStandIn, tmp_path: Path, seed: int):
    """Not one check fails on any of thirty mornings, and each has looked at something by the end."""
    require_no_alarm(clean_days(redshift, tmp_path / "home", seed=seed))
