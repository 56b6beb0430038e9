"""A staged day of a feed -> operations -> batches -> acknowledgements: nothing lost, nothing doubled. No Dagster here."""

from rs_cio_assets.delivery.engine import deliver_day, preview_day
from rs_cio_assets.delivery.late import LateArrivals, late_arrivals
from rs_cio_assets.delivery.ledger import compact_ledger
from rs_cio_assets.delivery.options import DeliveryOptions, Neighbours, OnBackfill
from rs_cio_assets.delivery.report import DeliveryProgress, DeliveryReport, Preview, RejectedExample

__all__ = [
    "DeliveryOptions",
    "DeliveryProgress",
    "DeliveryReport",
    "LateArrivals",
    "Neighbours",
    "OnBackfill",
    "Preview",
    "RejectedExample",
    "compact_ledger",
    "deliver_day",
    "late_arrivals",
    "preview_day",
]
