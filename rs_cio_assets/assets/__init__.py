"""Dagster assets: what depends on what, by day. The work itself lives in the folders they call."""

from rs_cio_assets.assets.exports import build_export
from rs_cio_assets.assets.feeds import build_feed
from rs_cio_assets.assets.keys import CHECK_RESULTS_KEY, LOG_KEY, UNLOGGED_KEY, delivery_log_key, export_key, feed_key, view_key
from rs_cio_assets.assets.log import build_delivery_log, build_log
from rs_cio_assets.assets.partitions import daily_partitions
from rs_cio_assets.assets.views import build_view

__all__ = [
    "CHECK_RESULTS_KEY",
    "LOG_KEY",
    "UNLOGGED_KEY",
    "build_delivery_log",
    "build_export",
    "build_feed",
    "build_log",
    "build_view",
    "daily_partitions",
    "delivery_log_key",
    "export_key",
    "feed_key",
    "view_key",
]
