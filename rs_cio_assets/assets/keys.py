"""Asset keys: one function per kind of asset, so that a name is spelled in one place."""

from __future__ import annotations

from dagster import AssetKey


def view_key(feed_name: str) -> AssetKey:
    """Key of the export view in Redshift (not partitioned)."""
    return AssetKey(["redshift", "views", feed_name])


def export_key(feed_name: str) -> AssetKey:
    """Key of a day's rows of that view, staged as Parquet."""
    return AssetKey(["redshift", "exports", feed_name])


def feed_key(feed_name: str) -> AssetKey:
    """Key of a day's rows, delivered to Customer.io and acknowledged."""
    return AssetKey(["customerio", "feeds", feed_name])


# The tables and views of the schema cio_sync in Redshift (not partitioned).
LOG_KEY = AssetKey(["redshift", "log"])
# What checks said and in whom segments differ, in that schema (not partitioned).
CHECK_RESULTS_KEY = AssetKey(["redshift", "check_results"])

# Days whose log did not follow their delivery, logged after all (not partitioned).
UNLOGGED_KEY = AssetKey(["redshift", "unlogged_days"])


def delivery_log_key(feed_name: str) -> AssetKey:
    """Key of what became of a day's rows, back in Redshift."""
    return AssetKey(["redshift", "deliveries", feed_name])
