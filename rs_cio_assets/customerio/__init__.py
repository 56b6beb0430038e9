"""Customer.io's Track API (send) and App API (read back): one thin client each."""

from rs_cio_assets.customerio.app import Activity, AppClient, Campaign, Profile
from rs_cio_assets.customerio.limits import BATCH_BYTES, OPERATION_BYTES
from rs_cio_assets.customerio.track import BatchAnswer, RefusedOperation, TrackClient, WorkspaceRegion

__all__ = [
    "BATCH_BYTES",
    "OPERATION_BYTES",
    "Activity",
    "AppClient",
    "BatchAnswer",
    "Campaign",
    "Profile",
    "RefusedOperation",
    "TrackClient",
    "WorkspaceRegion",
]
