"""The one partitions definition: days in UTC."""

from __future__ import annotations

from datetime import date

from dagster import DailyPartitionsDefinition


def daily_partitions(start_date: date) -> DailyPartitionsDefinition:
    """Days from *start_date* to today, in UTC. Today is open: it may be run many times and sends only what is new.

    Build it once and share the object: a job over two different definitions does not load.
    """
    return DailyPartitionsDefinition(start_date=start_date.isoformat(), timezone="UTC", end_offset=1)
