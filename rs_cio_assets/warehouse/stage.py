"""Read days of a view into staged Parquet, by UNLOAD to S3 or by DECLARE and FETCH over the driver, in constant memory.

The driver's own fetchmany buffers the whole result; a cursor on the server does not. Fingerprint and rows are read in one
transaction, from one snapshot: if they disagree, something was lost on the way and nothing is kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import uuid4

from rs_cio_assets.contract.models import Feed
from rs_cio_assets.errors import MismatchError, WarehouseRefused
from rs_cio_assets.store import Manifest, Store, save_manifest
from rs_cio_assets.store.objects import refused_by_disk
from rs_cio_assets.warehouse import sql
from rs_cio_assets.warehouse.connection import Session
from rs_cio_assets.warehouse.fingerprint import count_rows, read_fingerprints
from rs_cio_assets.warehouse.staged_days import StagedDays
from rs_cio_assets.warehouse.unload import unload_rows
from rs_cio_assets.warehouse.views import compare_columns, describe_view


def stage_days(
    session: Session,
    feed: Feed,
    days: Sequence[str],
    store: Store,
    *,
    now: Callable[[], datetime],
    on_progress: Callable[[int], None] | None = None,
) -> dict[str, Manifest]:
    """Read *days* (contiguous, ISO) of the feed's view into *store*; one manifest per day, also for empty days.

    Guarantees: each manifest counts exactly the rows of its fingerprint, from one snapshot; a day's earlier files stay valid
    until its new manifest stands. *on_progress* gets the rows read so far, now and then. Ends the transaction.

    Raises: WarehouseRefused (columns differ from the contract, a value does not fit its type), WarehouseUnavailable,
    MismatchError (rows read differ from rows counted), StoreRefused, StoreUnavailable.
    """
    difference = compare_columns(feed, describe_view(session, feed))
    if difference.is_blocking:
        raise WarehouseRefused(
            f"{feed.view} does not match the contract: {'; '.join(difference.sentences())}",
            next_step=f"mend the view or the contract, materialize redshift/views/{feed.name}, then run this day again",
            feed=feed.name,
        )
    session.commit()
    read_at = now()
    fingerprints = read_fingerprints(session, feed, days)
    view_rows = count_rows(session, feed) if feed.kind.is_irreversible else None
    with tempfile.TemporaryDirectory(prefix="rs-cio-stage-") as scratch:
        staged = StagedDays(feed, store, Path(scratch))
        try:
            read_by = _way_of(session, feed, sum(fingerprint.rows for fingerprint in fingerprints.values()))
            if read_by == "unload":
                unload_rows(session, feed, days, staged, on_progress)
            else:
                _fetch_rows(session, feed, days, staged, on_progress)
        except OSError as error:
            raise refused_by_disk(error, "the scratch folder for staged files") from None
        session.commit()
        for day in days:
            if staged.rows(day) != fingerprints[day].rows:
                staged.discard()
                raise MismatchError(
                    f"{staged.rows(day):,} rows were read and {fingerprints[day].rows:,} were counted in the same snapshot",
                    next_step="run this day again; if it repeats, the connection loses rows",
                    feed=feed.name,
                    day=day,
                )
    manifests = {}
    for day in days:
        manifests[day] = Manifest(
            feed=feed.name,
            day=day,
            view=feed.view,
            fingerprint=fingerprints[day],
            rows=staged.rows(day),
            files=tuple(staged.files.get(day, ())),
            columns=tuple((name, column.type.value) for name, column in feed.columns.items()),
            read_at=read_at,
            extra_columns=difference.extra,
            read_by=read_by,
            view_rows=view_rows,
        )
        save_manifest(store, manifests[day])
        staged.remove_superseded(day)
    return manifests


def _way_of(session: Session, feed: Feed, rows: int) -> Literal["unload", "driver"]:
    """How *rows* rows are read: as the contract says, else as the settings say. UNLOAD of no rows is not asked for.

    Raises: WarehouseRefused where UNLOAD is wanted and there is no place on S3 or no role.
    """
    settings = session.settings
    way = settings.read if feed.read == "auto" else feed.read
    if way == "unload" and session.exchange is None:
        raise WarehouseRefused(
            "the contract reads this feed by UNLOAD, and there is no place on S3 or no role for it",
            next_step="set REDSHIFT_ROLE, and REDSHIFT_UNLOAD_TO or a store on S3; or write read: driver",
            feed=feed.name,
        )
    if rows and session.exchange and (way == "unload" or (way == "auto" and rows >= settings.unload_rows)):
        return "unload"
    return "driver"


def _fetch_rows(
    session: Session,
    feed: Feed,
    days: Sequence[str],
    staged: StagedDays,
    on_progress: Callable[[int], None] | None,
) -> None:
    names = ", ".join(sql.quoted(name) for name in feed.columns)
    start, end = (sql.timestamp_literal(moment) for moment in sql.window_of(days))
    # The driver keeps the columns of a statement by its text: the same FETCH for another feed would be read wrongly.
    cursor = f"rs_cio_rows_{uuid4().hex[:12]}"
    session.run(
        f"DECLARE {cursor} CURSOR FOR SELECT {sql.day_expression(feed)} AS day_of_row, {names} "  # noqa: S608
        f"FROM {sql.view_name(feed)} WHERE {sql.slice_condition(feed, start, end)}" + (" ORDER BY 1" if len(days) > 1 else "")
    )
    count = 0
    while rows := session.fetch(f"FETCH FORWARD {session.fetch_rows} FROM {cursor}"):
        staged.add(rows)
        count += len(rows)
        if on_progress and count % (100 * session.fetch_rows) < session.fetch_rows:
            on_progress(count)
    staged.finish()
    session.run(f"CLOSE {cursor}")
