"""What was read from the warehouse for one day of a feed: its files, counts, fingerprint and when.

The manifest is written last; until then readers see the day as it was read before.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from rs_cio_assets.errors import StoreRefused
from rs_cio_assets.store.objects import Store

STAGED = "staged"


@dataclass(frozen=True)
class Fingerprint:
    """A day's rows in one view, in three numbers: how many, the newest load time (UTC), and a checksum of the content."""

    rows: int
    latest_loaded_at: datetime | None
    checksum: str

    def text(self) -> str:
        """A short text that is equal when, and only when, the fingerprints are."""
        loaded = self.latest_loaded_at.isoformat() if self.latest_loaded_at else ""
        return f"{self.rows}-{hashlib.sha256(f'{loaded}|{self.checksum}'.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class StagedFile:
    """One Parquet file of a staged day."""

    key: str
    rows: int
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """One staged day. *columns* are (name, contract type) in the files' order; *read_at* is aware UTC.

    *extra_columns* are those of the view that the contract does not list: they are not read. *view_rows* are all rows of the
    view, of any day, in the same snapshot; counted for feeds with a brake only. *read_by*: `unload` or `driver`.
    """

    feed: str
    day: str
    view: str
    fingerprint: Fingerprint
    rows: int
    files: tuple[StagedFile, ...]
    columns: tuple[tuple[str, str], ...]
    read_at: datetime
    extra_columns: tuple[str, ...] = ()
    view_rows: int | None = None
    read_by: str = "driver"


def staged_prefix(feed: str, day: str) -> str:
    """Where a day's files and manifest stand."""
    return f"{STAGED}/{feed}/{day}/"


def has_staged_files(store: Store, manifest: Manifest) -> bool:
    """False for an empty day, and for one whose files have expired, even some of them."""
    stored = set(store.list(staged_prefix(manifest.feed, manifest.day)))
    return bool(manifest.files) and all(file.key in stored for file in manifest.files)


def save_manifest(store: Store, manifest: Manifest) -> None:
    """Write it, replacing the day's earlier one."""
    fingerprint = manifest.fingerprint
    document = {
        "feed": manifest.feed,
        "day": manifest.day,
        "view": manifest.view,
        "fingerprint": {
            "rows": fingerprint.rows,
            "latest_loaded_at": fingerprint.latest_loaded_at.isoformat() if fingerprint.latest_loaded_at else None,
            "checksum": fingerprint.checksum,
        },
        "rows": manifest.rows,
        "files": [vars(file) for file in manifest.files],
        "columns": manifest.columns,
        "read_at": manifest.read_at.astimezone(UTC).isoformat(),
        "extra_columns": manifest.extra_columns,
        "view_rows": manifest.view_rows,
        "read_by": manifest.read_by,
    }
    store.put(_key(manifest.feed, manifest.day), json.dumps(document, indent=1).encode())


def load_manifest(store: Store, feed: str, day: str) -> Manifest | None:
    """The day's manifest, or None when the day was never exported. Raises: StoreRefused when it cannot be read."""
    data = store.get(_key(feed, day))
    if data is None:
        return None
    try:
        document = json.loads(data)
        fingerprint = document["fingerprint"]
        loaded = fingerprint["latest_loaded_at"]
        return Manifest(
            feed=document["feed"],
            day=document["day"],
            view=document["view"],
            fingerprint=Fingerprint(
                fingerprint["rows"], datetime.fromisoformat(loaded) if loaded else None, fingerprint["checksum"]
            ),
            rows=document["rows"],
            files=tuple(StagedFile(**file) for file in document["files"]),
            columns=tuple((name, kind) for name, kind in document["columns"]),
            read_at=datetime.fromisoformat(document["read_at"]),
            extra_columns=tuple(document["extra_columns"]),
            view_rows=document.get("view_rows"),
            read_by=document.get("read_by", "driver"),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise StoreRefused(
            f"the manifest cannot be read: {type(error).__name__}",
            next_step="run the export of that day again",
            feed=feed,
            day=day,
        ) from None


def _key(feed: str, day: str) -> str:
    return f"{staged_prefix(feed, day)}manifest.json"
