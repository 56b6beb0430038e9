"""What libraries log by themselves and nobody may read: addresses that are secrets, paths that name a person, passwords."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_silent = ContextVar("is_silent", default=False)


def _passes(_: logging.LogRecord) -> bool:
    return not _is_silent.get()


@contextmanager
def silenced(logger_name: str) -> Iterator[None]:
    """Within the block, this thread logs nothing under *logger_name*, at any level; other threads go on.

    Its children are loggers of their own. The filter stays: taking it away while others log could pass a record over it.
    """
    logging.getLogger(logger_name).addFilter(_passes)  # once, however often
    token = _is_silent.set(True)
    try:
        yield
    finally:
        _is_silent.reset(token)
