"""Rows of named people, whatever their day: for events whose person was not delivered yet."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Manifest, Store
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Row, Session
from rs_cio_assets.warehouse.fingerprint import EMPTY
from rs_cio_assets.warehouse.staged_days import StagedDays

# One statement takes at most 32,767 values (the wire protocol counts them in 16 bits); fewer, larger statements save scans.
PEOPLE_PER_STATEMENT = 10_000


def stage_people(
    session: Session, feed: Feed, identifiers: Sequence[str], store: Store, day: str, *, now: Callable[[], datetime]
) -> Manifest:
    """Read the rows of *feed*'s view that name one of *identifiers* into *store*. The manifest is returned, not saved.

    *day* is the day of the events that need them. Ends the transaction. People who are not in the view are left out.
    Raises: WarehouseRefused, WarehouseUnavailable, StoreRefused, StoreUnavailable.
    """
    session.commit()
    read_at = now()
    with tempfile.TemporaryDirectory(prefix="rs-cio-people-") as scratch:
        staged = StagedDays(feed, store, Path(scratch), area="people_first")
        for rows in _rows(session, feed, identifiers):
            staged.add([(day, *row) for row in rows])
        staged.finish()
    session.commit()
    return Manifest(
        feed=feed.name,
        day=day,
        view=feed.view,
        fingerprint=EMPTY,
        rows=staged.rows(day),
        files=tuple(staged.files.get(day, ())),
        columns=tuple((name, column.type.value) for name, column in feed.columns.items()),
        read_at=read_at,
    )


def _rows(session: Session, feed: Feed, identifiers: Sequence[str]) -> Iterator[list[Row]]:
    names = ", ".join(sql.quoted(name) for name in feed.columns)
    for start in range(0, len(identifiers), PEOPLE_PER_STATEMENT):
        chunk = tuple(identifiers[start : start + PEOPLE_PER_STATEMENT])
        yield session.fetch(
            f"SELECT {names} FROM {sql.view_name(feed)} WHERE {sql.quoted(feed.identifier)} "  # noqa: S608 - values are bound
            f"IN ({', '.join(['%s'] * len(chunk))})",
            chunk,
        )
