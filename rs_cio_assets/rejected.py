"""Rejected rows over feeds and days: list what the store knows of them, and deliver their days again in Dagster runs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from dagster import DagsterInstance

from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import literal, parquet
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.operations import Log, staged_manifest
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Store
from rs_cio_assets.summary import FeedTotals, add_up
from rs_cio_assets.sync import replay_days

_KEY = re.compile(r"rejections/(?P<feed>[^/]+)/(?P<day>\d{4}-\d{2}-\d{2})\.parquet")
_COLUMNS = 'business_key, reason, column_name AS "column", message, first_seen, last_seen, attempts'


@dataclass(frozen=True)
class RejectedRow:
    """One rejected row: personal data. Times are UTC."""

    feed: str
    day: str
    business_key: str
    reason: str
    column: str | None
    message: str
    first_seen: datetime
    last_seen: datetime
    attempts: int


@dataclass(frozen=True)
class RejectionList:
    """Some *rows*, newest days first; *by_reason* counts all there are, most frequent first; *days* have any."""

    rows: tuple[RejectedRow, ...]
    by_reason: dict[str, int]
    days: tuple[str, ...]

    @property
    def total(self) -> int:
        """Rejected rows, also those that are not in *rows*."""
        return sum(self.by_reason.values())


@dataclass(frozen=True)
class ReplayedDay:
    """One day that was delivered again. *is_good*: the run succeeded and no row was rejected. *failures* in words."""

    day: str
    run_id: str
    is_good: bool
    totals: FeedTotals
    failures: tuple[str, ...]


@dataclass(frozen=True)
class Replay:
    """Every day that had such rejections is either in *days* or, where its staged files are gone, in *not_staged*."""

    days: tuple[ReplayedDay, ...]
    not_staged: tuple[str, ...]

    @property
    def is_good(self) -> bool:
        """True when nothing is left to do."""
        return not self.not_staged and all(day.is_good for day in self.days)


def list_rejections(
    store: Store,
    *,
    feed: str | None = None,
    first_day: date | None = None,
    last_day: date | None = None,
    reasons: Sequence[str] = (),
    limit: int = 50,
) -> RejectionList:
    """Rejected rows of *feed* (default: all) from *first_day* to *last_day*, of these *reasons* (default: all).

    Raises: MismatchError when a file cannot be read; StoreRefused, StoreUnavailable.
    """
    found = [match for key in store.list("rejections/") if (match := _KEY.fullmatch(key))]
    files = [
        (match["feed"], match["day"], match[0])
        for match in sorted(found, key=lambda match: (match["day"], match["feed"]), reverse=True)
        if (feed is None or match["feed"] == feed)
        and (first_day is None or match["day"] >= first_day.isoformat())
        and (last_day is None or match["day"] <= last_day.isoformat())
    ]
    rows: list[RejectedRow] = []
    by_reason: dict[str, int] = {}
    days: dict[str, None] = {}
    wanted = f"WHERE reason IN ({', '.join(map(literal, reasons))})" if reasons else ""
    with tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch, open_database() as database:
        for feed_name, day, key in files:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:  # a file of S3 is gone before the next one comes
                relation = f"{parquet([store.fetch(key, Path(folder))])} {wanted}"
                counted = database.execute(f"SELECT reason, count(*) FROM {relation} GROUP BY reason").fetchall()  # noqa: S608
                shown = database.sql(
                    f"SELECT {_COLUMNS} FROM {relation} ORDER BY reason, column_name, business_key LIMIT {limit - len(rows)}"  # noqa: S608
                )
                rows += [_row(feed_name, day, values) for values in shown.to_arrow_table().to_pylist()]
            for reason, count in counted:
                by_reason[reason] = by_reason.get(reason, 0) + count
            if counted:
                days[day] = None
    return RejectionList(tuple(rows), dict(sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))), tuple(sorted(days)))


def replay_rejected(
    settings: Settings,
    contract: Contract,
    feed: Feed,
    first_day: date,
    last_day: date,
    *,
    reasons: Sequence[str],
    on_backfill: str,
    dagster_home: Path,
    log: Log,
) -> Replay:
    """Deliver the staged days that have rejected rows of these *reasons* (none: of any) again, in one Dagster run each.

    Rows that Customer.io refused for them go again although nothing changed; every other row of a day is treated as in any run.
    """
    store = resources_for(settings)["store"]
    log("reading the rejections")
    found = list_rejections(store, feed=feed.name, first_day=first_day, last_day=last_day, reasons=reasons, limit=0)
    staged = [day for day in found.days if _is_staged(store, feed, day)]
    done: list[ReplayedDay] = []
    if staged:
        config = {"replay": list(reasons) or ["all"], "on_backfill": on_backfill}
        with DagsterInstance.from_config(str(dagster_home)) as instance:
            log(f"{len(staged)} days, {staged[0]} to {staged[-1]}, one Dagster run each")
            for outcome in replay_days(build_definitions(settings, contract), instance, feed.name, staged, config):
                totals = next(iter(add_up([outcome])), FeedTotals(feed.name))
                is_good = outcome.is_success and all(check.is_passed for check in outcome.checks)
                done.append(ReplayedDay(outcome.label, outcome.run_id, is_good, totals, outcome.failures))
                log(f"{outcome.label}: {totals.delivered:,} delivered, {totals.rejected:,} rejected ({len(done)}/{len(staged)})")
    return Replay(tuple(done), tuple(day for day in found.days if day not in staged))


def _is_staged(store: Store, feed: Feed, day: str) -> bool:
    try:
        return bool(staged_manifest(store, feed, day))
    except MismatchError:
        return False


def _row(feed: str, day: str, values: Mapping[str, Any]) -> RejectedRow:
    times = {name: values[name].astimezone(UTC) for name in ("first_seen", "last_seen")}
    return RejectedRow(feed=feed, day=day, **{**values, **times})
