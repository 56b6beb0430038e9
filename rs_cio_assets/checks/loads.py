"""How old is the newest row of a feed's view, by its own load time? One bounded query, a second where that is not enough."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rs_cio_assets.contract import Feed
from rs_cio_assets.warehouse import Session, sql

LOOKED_AT = timedelta(days=3)  # of rows before those that must be there: a load that is late brings older rows, too


def newest_load(session: Session, feed: Feed, now: datetime) -> datetime | None:
    """The newest load time (aware UTC) in the view; None where no row has one.

    Looks at recent rows only. Where none of them is fresh, at all: rows that came late are of older days, and a load that stopped
    long ago has left no recent ones. Raises: WarehouseRefused, WarehouseUnavailable.
    """
    assert feed.freshness_hours is not None  # noqa: S101 - a feed without has no check
    allowed = timedelta(hours=feed.freshness_hours)
    moment, loaded, since = sql.quoted(feed.time_column), sql.quoted(feed.loaded_at), _naive(now - allowed - LOOKED_AT)
    newest = f"SELECT MAX({loaded}) FROM {sql.view_name(feed)}"  # noqa: S608 - names of the contract, quoted
    recent = session.fetch(f"{newest} WHERE {moment} >= %s OR ({moment} IS NULL AND {loaded} >= %s)", (since, since))[0][0]
    if recent is None or _aware(recent) < now - allowed:
        recent = session.fetch(newest)[0][0]
    session.commit()
    return None if recent is None else _aware(recent)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
