"""What the tests of the Customer.io clients share: waits that are noted and not slept, and a clock for the App API's pace."""

from __future__ import annotations

import pytest

from rs_cio_assets.customerio.limits import APP_REQUESTS_PER_S
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets_tests.customerio_clients import Clock


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited between attempts, in order; nothing sleeps."""
    waited: list[float] = []
    monkeypatch.setattr("rs_cio_assets.customerio.http.Http._pause", lambda _, seconds: waited.append(seconds))
    return waited


@pytest.fixture(autouse=True)
def app_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock of the test's own behind the pace that all App API clients share."""
    clock = Clock()
    pace = Pace(APP_REQUESTS_PER_S * 0.9, clock=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr("rs_cio_assets.customerio.app._PACE", pace)
    return clock
