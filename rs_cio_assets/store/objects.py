"""The store's few verbs, and the one on a local folder. S3 is in `s3.py`; what the objects hold is others' business."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rs_cio_assets.errors import StoreRefused

if TYPE_CHECKING:
    from botocore.client import BaseClient

_KEY = re.compile(r"[A-Za-z0-9_.=+-]+(/[A-Za-z0-9_.=+-]+)*")
_REMEDIES = {
    errno.ENOSPC: "free space there, or set RS_CIO_STORE to a place that has some",
    errno.EDQUOT: "free space within the quota, or set RS_CIO_STORE to another place",
    errno.EFBIG: "raise the file-size limit of this process, or set RS_CIO_STORE to another place",
    errno.EROFS: "set RS_CIO_STORE to a place that can be written",
    errno.EACCES: "give this user write access there, or set RS_CIO_STORE to another place",
    errno.EPERM: "give this user write access there, or set RS_CIO_STORE to another place",
    errno.ENOTDIR: "set RS_CIO_STORE to a folder",
}


@dataclass(frozen=True)
class StoredObject:
    """One object: its size, and when it was written (aware UTC, by the store's own clock)."""

    key: str
    size_bytes: int
    written_at: datetime


class Store(Protocol):
    """Objects by key (`a/b/c`). A put is atomic: readers see the old object or the whole new one.

    Every verb raises StoreRefused (no space, no permission, missing bucket) or StoreUnavailable (may work later).
    """

    def put(self, key: str, data: bytes) -> None:
        """Write *data* as the object *key*."""
        ...

    def put_file(self, key: str, path: Path) -> None:
        """Write the file at *path* as the object *key*."""
        ...

    def get(self, key: str) -> bytes | None:
        """The object's bytes, or None when there is none."""
        ...

    def fetch(self, key: str, directory: Path) -> Path:
        """A local file with the whole object, in *directory* unless it is local already. Raises: StoreRefused if absent."""
        ...

    def list(self, prefix: str) -> list[str]:
        """Keys that begin with *prefix*, sorted."""
        ...

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """The objects whose keys begin with *prefix*, sorted by key."""
        ...

    def delete(self, keys: Iterable[str]) -> None:
        """Remove the objects; absent ones are passed over."""
        ...


def open_store(location: str, *, s3_client: BaseClient | Callable[[], BaseClient] | None = None) -> Store:
    """The store at *location*: a folder, or `s3://bucket/prefix`. Opens nothing yet; a function for a client is called later."""
    if location.startswith("s3://"):
        from rs_cio_assets.store.s3 import S3Store  # noqa: PLC0415 - boto3 is slow to import and a folder needs none

        return S3Store(location, s3_client)
    return LocalStore(Path(location))


class LocalStore:
    """A folder. A put writes beside the target, syncs it to disk and renames."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, data: bytes) -> None:
        """See Store.put."""
        with self._replacing(key) as file:
            file.write_bytes(data)

    def put_file(self, key: str, path: Path) -> None:
        """See Store.put_file. Copies in chunks."""
        with self._replacing(key) as file, path.open("rb") as source, file.open("wb") as target:
            while chunk := source.read(1 << 20):
                target.write(chunk)

    def get(self, key: str) -> bytes | None:
        """See Store.get."""
        with self._refusing():
            try:
                return self._path(key).read_bytes()
            except FileNotFoundError:
                return None

    def fetch(self, key: str, directory: Path) -> Path:  # noqa: ARG002 - the file is local already
        """See Store.fetch: the store's own file, which must not be changed."""
        path = self._path(key)
        if not path.is_file():
            raise missing_object(key)
        return path

    def list(self, prefix: str) -> list[str]:
        """See Store.list."""
        folder = self._root / prefix.rpartition("/")[0]
        keys = (p.relative_to(self._root).as_posix() for p in folder.rglob("*") if p.is_file())
        return sorted(key for key in keys if key.startswith(prefix) and _KEY.fullmatch(key))

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """See Store.objects."""
        return list(self._objects(prefix))

    def delete(self, keys: Iterable[str]) -> None:
        """See Store.delete."""
        with self._refusing():
            for key in keys:
                self._path(key).unlink(missing_ok=True)

    def _objects(self, prefix: str) -> Iterator[StoredObject]:
        for key in self.list(prefix):
            with self._refusing(), suppress(FileNotFoundError):  # removed since it was listed
                file = self._path(key).stat()
                yield StoredObject(key, file.st_size, datetime.fromtimestamp(file.st_mtime, UTC))

    def _path(self, key: str) -> Path:
        return self._root / require_key(key)

    @contextmanager
    def _replacing(self, key: str) -> Iterator[Path]:
        target = self._path(key)
        with self._refusing():
            target.parent.mkdir(parents=True, exist_ok=True)
            # The `~` keeps a half-written file out of `list`.
            handle, name = tempfile.mkstemp(prefix="~", dir=target.parent)
            temporary = Path(name)
            try:
                yield temporary
                os.fsync(handle)
                temporary.replace(target)
            finally:
                os.close(handle)
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise refused_by_disk(error, str(self._root)) from None


def require_key(key: str) -> str:
    """*key* itself. Raises: ValueError unless it is plain names joined by `/`, none of them `.` or `..`."""
    if not _KEY.fullmatch(key) or {".", ".."} & set(key.split("/")):
        raise ValueError(f"not a store key: {key!r}")
    return key


def missing_object(key: str) -> StoreRefused:
    """The error for an object that should be there."""
    return StoreRefused(
        f"the store has no object {key}",
        next_step="run the export of that day again; its staged files were removed",
    )


def refused_by_disk(error: OSError, place: str) -> StoreRefused:
    """An operating system error as ours, with what to do about it. Also used for scratch files."""
    what = os.strerror(error.errno).lower() if error.errno else "the file system refused"
    return StoreRefused(
        f"cannot use {place}: {what}",
        next_step=_REMEDIES.get(error.errno or 0, "look at the disk, or set RS_CIO_STORE to another place"),
    )
