"""What an operator does by hand with one staged day: look at it before it goes, and send one row and read it back.

Through the engine, as every run; without a Dagster run. The real store is read, and gets nothing but acknowledgements.
"""

from __future__ import annotations

import difflib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq

from rs_cio_assets.assets.neighbours import Surroundings
from rs_cio_assets.checks.compare import differing_columns, is_this_event, unix_seconds
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.delivery import DeliveryOptions, DeliveryReport, Preview
from rs_cio_assets.delivery.classify import staged_rows
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.expressions import compile_expressions, literal, quoted
from rs_cio_assets.delivery.rules import FOUND_BY_ENGINE, PERSON_UNKNOWN, compile_rules, size_rule
from rs_cio_assets.doctor import Preflight
from rs_cio_assets.errors import ConfigurationError, DeliveryRefused, MismatchError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import Manifest, StagedFile, Store, load_manifest
from rs_cio_assets.store.overlay import OverlayStore
from rs_cio_assets.warehouse import newest_day_with_rows, stage_days

LOOK_AGAIN_AFTER_S = 1.0
Log = Callable[[str], None]


@dataclass(frozen=True)
class ReadBack:
    """What Customer.io holds of a row: *found* by column (None: nothing), and what is wrong with it (None: as sent)."""

    found: Mapping[str, Any] | None
    problem: str | None


@dataclass(frozen=True)
class SentRow:
    """One row sent by hand. *staged*: its columns as they go to Customer.io. *read_back* is None where the row was neither sent
    nor delivered before: *report* says why."""

    report: DeliveryReport
    staged: Mapping[str, Any]
    read_back: ReadBack | None

    @property
    def is_good(self) -> bool:
        """True when Customer.io holds the row as it is staged."""
        return self.read_back is not None and self.read_back.problem is None


def find_feed(contract: Contract, name: str) -> Feed:
    """The enabled feed *name*. Raises: ConfigurationError naming those that there are, or how to turn it on."""
    feed = any_feed(contract, name)
    if not feed.enabled:
        raise ConfigurationError(
            "the feed is off",
            next_step=f"set enabled: true in feeds/{name}.yaml once it may be sent, then reload the definitions",
            feed=name,
        )
    return feed


def any_feed(contract: Contract, name: str) -> Feed:
    """The feed *name*, on or off. Raises: ConfigurationError naming those that there are."""
    names = [feed.name for feed in contract.feeds]
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        choice = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(names)}."
        raise ConfigurationError(
            f"the contract has no feed {name}",
            next_step=f"{choice} If another contract has it, set RS_CIO_CONTRACT to that, in this terminal too",
        )
    return contract.feed(name)


def require_days(settings: Settings, first: date, last: date) -> None:
    """Raises: ConfigurationError where *first* or *last* is no daily partition."""
    today = datetime.now(UTC).date()
    if first < settings.start_date or last > today:
        raise ConfigurationError(
            f"the days go from {settings.start_date} to {today} (UTC)",
            next_step="choose days among them, or set RS_CIO_START_DATE to an earlier one",
        )


def require_local_store(settings: Settings) -> None:
    """Raises: ConfigurationError where the store is a folder that is not there: most likely the command was given elsewhere."""
    if not settings.store.startswith("s3://") and not Path(settings.store).is_dir():
        raise ConfigurationError(
            f"there is no store at {settings.store}: nothing was exported from here",
            next_step="give the command in the project's folder, set RS_CIO_STORE, or sync a day first (`make demo`)",
        )


def require_warehouse(settings: Settings) -> None:
    """Raises: WarehouseUnavailable, WarehouseRefused when Redshift does not take a login now.

    For commands that start runs and wait for them: each run would ask again, for minutes and without a word.
    """
    with resources_for(settings)["warehouse"].session():
        return


def newest_day(settings: Settings, feed: Feed) -> str:
    """The newest day, up to today, of which the feed's view has rows. Raises: ConfigurationError; what the warehouse raises."""
    days = [settings.start_date.isoformat(), datetime.now(UTC).date().isoformat()]
    with resources_for(settings)["warehouse"].session() as session:
        day = newest_day_with_rows(session, feed, *days)
    if day is None:
        raise ConfigurationError(
            f"{feed.view} has no row from {days[0]} to {days[1]} (UTC)",
            next_step="look at the view's SQL and its tables; for older rows set RS_CIO_START_DATE to an earlier day",
            feed=feed.name,
        )
    return day


def preview(
    settings: Settings,
    contract: Contract,
    feed: Feed,
    day: str,
    *,
    rows: int,
    options: DeliveryOptions,
    has_export: bool,
    log: Log,
) -> Preview:
    """What a delivery of the staged day would do now, with its first *rows* operations. Sends nothing, leaves nothing behind.

    *has_export*: the day as the export view holds it now, in place of the staged one.
    Raises: MismatchError when the day is not staged; whatever the engine and the warehouse raise.
    """
    require_days(settings, date.fromisoformat(day), date.fromisoformat(day))
    with surroundings(settings, contract, log) as around:
        if has_export:
            log(f"reading {feed.view}")
            with around.warehouse.session() as session:
                manifest = stage_days(session, feed, [day], around.store, now=_now)[day]
        else:
            manifest = staged_manifest(around.store, feed, day)
        log("looking at every row")
        return around.preview(feed, manifest, options, rows)


def next_steps(feed: Feed, contract: Contract, day: str) -> dict[str, str]:
    """What to do about each reason for which a row of *feed* may be rejected before it is sent."""
    messages: dict[str, list[str]] = {}
    rules = compile_rules(feed, contract, date.fromisoformat(day), _now())
    for rule in (*rules, size_rule(feed), *FOUND_BY_ENGINE):
        messages.setdefault(rule.reason, []).append(rule.message)
    steps = {
        reason: texts[0]
        if len(texts) == 1
        else f"One of {len(texts)} columns: a run of the day names it; docs/analyst.md explains."
        for reason, texts in messages.items()
    }
    if feed.unknown_person == "deliver":
        steps[PERSON_UNKNOWN.reason] = (
            "A run looks these people up in the people view and delivers them first. Rejected are only those who are not there."
        )
    steps["refused by Customer.io before"] = f"See them with rs-cio rejections {feed.name}; rs-cio replay sends them again."
    return steps


def send_one(
    settings: Settings,
    contract: Contract,
    feed: Feed,
    key: str,
    day: str,
    *,
    options: DeliveryOptions,
    wait_s: float,
    log: Log,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> SentRow:
    """Deliver the staged row of *day* whose business key is *key*, and look for it in Customer.io for up to *wait_s* seconds.

    The day's own rejections stay as they are; a row that Customer.io refused before goes again. Delivered unchanged before, it
    is only read back. Raises: DeliveryRefused for feeds that cannot be undone; MismatchError without such a row; SettingsError
    without an App API key, before anything is sent; whatever the engine raises.
    """
    if feed.kind.is_irreversible:
        raise DeliveryRefused(
            f"{feed.kind}s cannot be undone and go by their day, with its brake",
            next_step=f"look with rs-cio preview {feed.name} {day}, then materialize customerio/feeds/{feed.name}",
            feed=feed.name,
            day=day,
        )
    require_days(settings, date.fromisoformat(day), date.fromisoformat(day))
    if settings.preflight:
        resources = resources_for(settings)
        Preflight(settings, lambda: contract).require(resources["warehouse"], resources["store"])
    with surroundings(settings, contract, log, shared="ledger/") as around, AppClient(settings.customerio) as app:
        manifest, row = _pick(around, feed, key, day)
        staged = _as_json(feed, row)
        log("delivering it")
        report = around.deliver(feed, manifest, replace(options, replay=frozenset({"all"})))
        if report.rejected or report.held:
            return SentRow(report, staged, None)
        log("reading it back")
        until = clock() + wait_s
        while (read := _read_back(feed, row, app)).problem and clock() < until:
            sleep(LOOK_AGAIN_AFTER_S)
        return SentRow(report, staged, read)


def staged_manifest(store: Store, feed: Feed, day: str) -> Manifest:
    """The staged *day*. Raises: MismatchError when it was not exported, or its files have expired."""
    manifest = load_manifest(store, feed.name, day)
    if manifest and all(file.key in store.list(file.key) for file in manifest.files):
        return manifest
    raise MismatchError(
        f"this day is not staged: {'its files have expired' if manifest else 'it has not been exported'}",
        next_step=f"materialize redshift/exports/{feed.name} for it and give the command again; preview also takes --export",
        feed=feed.name,
        day=day,
    )


@contextmanager
def surroundings(settings: Settings, contract: Contract, log: Log, shared: str | None = None) -> Iterator[Surroundings]:
    """Resources whose store keeps nothing but what begins with *shared*."""
    resources = resources_for(settings)
    with tempfile.TemporaryDirectory(prefix="rs-cio-") as folder, TrackClient(settings.customerio) as track:
        scratch = Path(folder)
        store = OverlayStore(resources["store"], scratch / "store", shared=shared)
        yield Surroundings(contract, resources["warehouse"], store, settings.customerio, track, str(uuid4()), scratch, log)


def _pick(around: Surroundings, feed: Feed, key: str, day: str) -> tuple[Manifest, Mapping[str, Any]]:
    """A staged day of the rows with this key alone (several where the view repeats it), and the first of them."""
    manifest = staged_manifest(around.store, feed, day)
    path, columns = around.scratch / "one.parquet", ", ".join(map(quoted, feed.columns))
    business_key = compile_expressions(feed, around.contract, 0).business_key
    found: Sequence[Mapping[str, Any]] = ()
    if manifest.files:
        staged = staged_rows({n: around.store.fetch(file.key, around.scratch) for n, file in enumerate(manifest.files)})
        with open_database() as database:
            chosen = f"SELECT {columns} FROM {staged} WHERE {business_key} = ?"  # noqa: S608 - names are quoted, the key is bound
            database.execute(f"COPY ({chosen}) TO {literal(str(path))} (FORMAT parquet)", [key])
        found = pq.read_table(path).to_pylist()
    if not found:
        raise MismatchError(
            "no staged row of this day has this key",
            next_step=f"give the key as rs-cio rejections shows it: {', '.join(feed.key_columns)}, joined by a space",
            feed=feed.name,
            day=day,
        )
    object_key = f"staged/{feed.name}/{day}/one/part-00000.parquet"
    around.store.put_file(object_key, path)
    return replace(manifest, rows=len(found), files=(StagedFile(object_key, len(found), path.stat().st_size),)), found[0]


def _as_json(feed: Feed, row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of *row* that are sent, and an event's time, as JSON says them; decimals as text."""
    names = (feed.time_column, *feed.sent_columns) if feed.kind is FeedKind.EVENT else feed.sent_columns
    values = {name: row[name] for name in names if row[name] is not None or feed.columns[name].on_null == "clear"}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, date):  # a datetime is one
        return unix_seconds(value)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return value


def _read_back(feed: Feed, row: Mapping[str, Any], app: AppClient) -> ReadBack:
    """One look at what Customer.io holds of *row*."""
    person = row[feed.identifier]
    if feed.kind is FeedKind.PEOPLE:
        profile = app.attributes([person]).get(person)
        if profile is None:
            return ReadBack(None, "there is no profile")
        found: Mapping[str, Any] = {name: profile.attributes.get(name) for name in feed.sent_columns}
        names = differing_columns(feed, row, profile.attributes)
    else:
        events = [e for e in app.activities(person, "event", name=feed.event_name) if is_this_event(feed, row, e)]
        if len(events) != 1:
            return ReadBack(None, f"Customer.io has this event {len(events)} times")
        found = {feed.time_column: events[0].timestamp, **events[0].data}
        is_same_time = events[0].timestamp == unix_seconds(row[feed.time_column])
        names = (*(() if is_same_time else (feed.time_column,)), *differing_columns(feed, row, events[0].data))
    return ReadBack(found, f"differs in {', '.join(names)}" if names else None)


def _now() -> datetime:
    return datetime.now(UTC)
