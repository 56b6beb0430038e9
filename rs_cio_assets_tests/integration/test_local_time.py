"""A shop that keeps its own local time: the days of the pipeline stay UTC days, also where the shop's day has 23 or 25 hours."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.sync import days_between
from rs_cio_assets.warehouse import Warehouse, create_view, stage_days
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.staging import feed_of

HALF_HOUR = timedelta(minutes=30)


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("UTC", "2028-02-29", 24),
    ],
)
def test_every_row_of_a_short_or_long_day_is_in_its_utc_day(settings: Settings, tmp_path: Path, zone: str, day: str, hours: int):
    """A sale every half hour of the shop's day, converted in the view: each is exported once, on its UTC day.

    Who stores local time cannot tell the hour that happens twice apart: its rows count, their hour is the warehouse's guess.
    """
    begun = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    moments = [begun + n * HALF_HOUR for n in range(hours * 2)]
    local = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    run_sql(
        settings,
        "DROP SCHEMA IF EXISTS clock CASCADE",
        "CREATE SCHEMA clock",
        "CREATE TABLE clock.sales (customer_id VARCHAR(32), sold_at TIMESTAMP, order_id VARCHAR(32))",
        *(("INSERT INTO clock.sales VALUES (%s, %s, %s)", ("C0000001", at, f"O{n}")) for n, at in enumerate(local)),
    )
    moment = f"CONVERT_TIMEZONE('{zone}', 'UTC', sold_at)"
    feed = feed_of(
        "event",
        {"order_id": {"type": "string", "required": True}},
        view="clock_export.sales",
        sql=f"SELECT customer_id, {moment} AS occurred_at, {moment} AS loaded_at, order_id FROM clock.sales",
    )
    days = days_between((begun - timedelta(days=1)).date(), (moments[-1] + timedelta(days=1)).date())
    with Warehouse(settings.redshift).session() as session:
        create_view(session, feed)
        manifests = stage_days(session, feed, days, LocalStore(tmp_path), now=lambda: datetime.now(UTC))
    found = {name: manifest.rows for name, manifest in manifests.items() if manifest.rows}
    assert sum(found.values()) == hours * 2
    expected = Counter(moment.date().isoformat() for moment in moments)
    assert found == dict(expected)
