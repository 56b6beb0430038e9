"""A staged day of a feed -> operations -> batches -> acknowledgements: nothing lost, nothing doubled. No Dagster here."""

from rs_cio_assets.delivery.engine import deliver_day
from rs_cio_assets.delivery.report import DeliveryProgress, DeliveryReport, RejectedExample
from rs_cio_assets.delivery.sample import sample_delivered

__all__ = ["DeliveryProgress", "DeliveryReport", "RejectedExample", "deliver_day", "sample_delivered"]
