"""What is kept between steps: staged days, the ledger and rejections, in a local folder or in S3."""

from rs_cio_assets.store.manifest import Fingerprint, Manifest, StagedFile, has_staged_files, load_manifest, save_manifest
from rs_cio_assets.store.objects import LocalStore, Store, StoredObject, open_store

__all__ = [
    "Fingerprint",
    "LocalStore",
    "Manifest",
    "StagedFile",
    "Store",
    "StoredObject",
    "has_staged_files",
    "load_manifest",
    "open_store",
    "save_manifest",
]
