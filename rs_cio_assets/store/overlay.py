"""A store over another one: what is written stays in a folder, what is read is found in both.

For work by hand: the engine runs as always, and the store beneath keeps only what it is allowed to keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from rs_cio_assets.store.objects import LocalStore, Store, StoredObject


class OverlayStore:
    """*beneath* with a private *folder* on top, which hides objects of the same key. Keys that begin with *shared* go beneath.

    An object that is only beneath cannot be removed, so removing it is passed over.
    """

    def __init__(self, beneath: Store, folder: Path, *, shared: str | None = None) -> None:
        self._beneath, self._above, self._shared = beneath, LocalStore(folder), shared

    def put(self, key: str, data: bytes) -> None:
        """See Store.put."""
        self._written(key).put(key, data)

    def put_file(self, key: str, path: Path) -> None:
        """See Store.put_file."""
        self._written(key).put_file(key, path)

    def get(self, key: str) -> bytes | None:
        """See Store.get."""
        data = self._above.get(key)
        return self._beneath.get(key) if data is None else data

    def fetch(self, key: str, directory: Path) -> Path:
        """See Store.fetch."""
        return (self._above if key in self._above.list(key) else self._beneath).fetch(key, directory)

    def list(self, prefix: str) -> list[str]:
        """See Store.list."""
        return sorted({*self._above.list(prefix), *self._beneath.list(prefix)})

    def objects(self, prefix: str) -> Sequence[StoredObject]:
        """See Store.objects."""
        found = {item.key: item for item in (*self._beneath.objects(prefix), *self._above.objects(prefix))}
        return sorted(found.values(), key=lambda item: item.key)

    def delete(self, keys: Iterable[str]) -> None:
        """See Store.delete."""
        for key in keys:
            self._written(key).delete([key])

    def _written(self, key: str) -> Store:
        return self._beneath if self._shared and key.startswith(self._shared) else self._above
