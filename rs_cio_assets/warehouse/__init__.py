"""Redshift: connect, create and describe views, read days of a view into staged Parquet."""

from rs_cio_assets.warehouse.connection import Session, Warehouse
from rs_cio_assets.warehouse.fingerprint import count_undated, newest_day_with_rows, read_fingerprints
from rs_cio_assets.warehouse.people import stage_people
from rs_cio_assets.warehouse.questions import keep_answer
from rs_cio_assets.warehouse.stage import stage_days
from rs_cio_assets.warehouse.views import ColumnDifference, ViewColumn, compare_columns, create_view, describe_view

__all__ = [
    "ColumnDifference",
    "Session",
    "ViewColumn",
    "Warehouse",
    "compare_columns",
    "count_undated",
    "create_view",
    "describe_view",
    "keep_answer",
    "newest_day_with_rows",
    "read_fingerprints",
    "stage_days",
    "stage_people",
]
