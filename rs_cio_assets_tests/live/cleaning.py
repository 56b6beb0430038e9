"""Whatever a run makes is removed in the end, last made first; what cannot be removed is told."""

from __future__ import annotations

from collections.abc import Callable

from rs_cio_assets_tests.live.answers import AnswersFile


class Cleaning:
    """Removals to be done. `finish` is called once, also after a failure or Ctrl-C."""

    def __init__(self, file: AnswersFile) -> None:
        self._file = file
        self._removals: list[tuple[str, Callable[[], None]]] = []

    def add(self, what: str, remove: Callable[[], None]) -> None:
        """Before *what* is made: how it goes again. It stands in the answers file from now on, should this process be killed."""
        self._file.note("made", what)
        self._removals.append((what, remove))

    def finish(self) -> None:
        """Remove everything; one that fails does not keep the others."""
        while self._removals:
            what, remove = self._removals.pop()
            try:
                remove()
            except Exception as error:  # noqa: BLE001 - told, and the next is removed
                self._file.note("left_behind", f"{what} could not be removed: {type(error).__name__}: {error}")
