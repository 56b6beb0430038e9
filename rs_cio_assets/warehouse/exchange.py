"""Where Redshift and this process hand files to each other: a prefix on S3 that UNLOAD writes to and COPY reads from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rs_cio_assets.settings import RedshiftSettings
from rs_cio_assets.store import Store, open_store
from rs_cio_assets.store.retention import Removed, expire

# Where in it: files of readings, of the delivery log, and of the doctor's probe.
READS, LOG, PROBE = "reads/", "log/", "doctor/"
LEFT_AFTER = timedelta(days=1)  # longer than any statement runs


@dataclass(frozen=True)
class Exchange:
    """*url* is `s3://bucket/prefix`, *store* its objects; *role* is what Redshift takes to get there. Nothing in it lasts."""

    url: str
    role: str
    kms_key_id: str | None
    file_mb: int
    store: Store

    @property
    def iam_role(self) -> str:
        """The clause of UNLOAD and COPY. Settings allow no quote in a role."""
        return "IAM_ROLE default" if self.role == "default" else f"IAM_ROLE '{self.role}'"


def open_exchange(settings: RedshiftSettings, s3_client: Callable[[], Any] | None) -> Exchange | None:
    """The exchange of the settings, or None where there is no place on S3 or no role. Opens nothing yet."""
    if not settings.unload_to or not settings.role:
        return None
    store = open_store(settings.unload_to, s3_client=s3_client)
    return Exchange(settings.unload_to, settings.role, settings.kms_key_id, settings.unload_file_mb, store)


def remove_leftovers(exchange: Exchange, now: datetime) -> Removed:
    """Remove what runs that died left there: files of ours older than a day at *now* (aware UTC). Raises: as the store does."""
    removed = [expire(exchange.store, prefix, now - LEFT_AFTER) for prefix in (READS, LOG, PROBE)]
    return Removed(sum(part.objects for part in removed), sum(part.size_bytes for part in removed))
