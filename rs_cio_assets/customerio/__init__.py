"""Customer.io's Track API (send) and App API (read back): one thin client each."""

from rs_cio_assets.customerio.answers import Activity, Campaign, Members, Message, Profile, SegmentState
from rs_cio_assets.customerio.app import SCOPES, AppClient
from rs_cio_assets.customerio.limits import BATCH_BYTES, OPERATION_BYTES
from rs_cio_assets.customerio.track import BatchAnswer, RefusedOperation, TrackClient, WorkspaceRegion

__all__ = [
    "BATCH_BYTES",
    "OPERATION_BYTES",
    "SCOPES",
    "Activity",
    "AppClient",
    "BatchAnswer",
    "Campaign",
    "Members",
    "Message",
    "Profile",
    "RefusedOperation",
    "SegmentState",
    "TrackClient",
    "WorkspaceRegion",
]
