"""Deliver one staged day: classify its rows, send what the ledger does not hold, record what is acknowledged.

Whatever ends it (an error, Ctrl-C), every acknowledgement received so far is in the ledger; running it again completes it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery.classify import Outcome
from rs_cio_assets.delivery.database import open_database
from rs_cio_assets.delivery.day import StagedDay
from rs_cio_assets.delivery.guards import Brake, campaigns_at_risk, refuse_triggers
from rs_cio_assets.delivery.ledger import LedgerWriter
from rs_cio_assets.delivery.merges import in_waves
from rs_cio_assets.delivery.options import ALONE, AS_THE_CONTRACT_SAYS, DeliveryOptions, Neighbours
from rs_cio_assets.delivery.rejections import clear_rejections
from rs_cio_assets.delivery.report import DeliveryProgress, DeliveryReport, Preview
from rs_cio_assets.delivery.sending import Sending
from rs_cio_assets.store import Manifest, Store
from rs_cio_assets.store.overlay import OverlayStore


def deliver_day(
    feed: Feed,
    contract: Contract,
    manifest: Manifest,
    store: Store,
    track: TrackClient,
    *,
    run_id: str,
    now: Callable[[], datetime],
    scratch: Path,
    concurrency: int,
    on_progress: Callable[[DeliveryProgress], None] | None = None,
    options: DeliveryOptions = AS_THE_CONTRACT_SAYS,
    neighbours: Neighbours = ALONE,
) -> DeliveryReport:
    """Send the rows of *manifest*'s day that Customer.io has not acknowledged with this content.

    Idempotent: run again it sends only what is new, and without anything to send it makes no request. A row is delivered
    only when its operation was acknowledged. A bad row is rejected with its reason and the others go on. Before the first row
    is sent, Customer.io is asked whether the credentials belong to the region of the settings, and a backfill whether a running
    campaign would start.

    Raises: DeliveryRefused before the first row; CustomerioRefused, CustomerioUnavailable, StoreRefused, StoreUnavailable,
    MismatchError: what was acknowledged until then is recorded.
    """
    started = time.monotonic()
    brake = Brake(feed, manifest, store) if feed.kind.is_irreversible else None
    if brake and not options.has_no_brake:
        brake.check_view()
    if not manifest.rows:
        if brake:
            brake.remember(is_released=options.has_no_brake)
        if not options.is_of_any_day:
            clear_rejections(store, feed.name, manifest.day)
        return DeliveryReport(feed.name, manifest.day, 0, seconds=time.monotonic() - started)
    with tempfile.TemporaryDirectory(dir=scratch) as folder, open_database() as database:
        day = StagedDay(feed, contract, manifest, store, Path(folder), database, now(), options)
        _check(day, brake, options, neighbours)
        people_first = day.deliver_people_first(neighbours)
        ledger = LedgerWriter(store, feed.name, manifest.day, run_id, Path(folder), now)
        sending = Sending(track, ledger, concurrency, on_progress, interrupt=database.interrupt)
        waves = in_waves(day.people_of_rows(), list(day.operations())) if feed.kind is FeedKind.MERGE else [day.operations()]
        for wave in waves:
            sending.run(day.bodies(wave))
        day.save_rejections(sending.refused)
        if brake:
            brake.remember(is_released=options.has_no_brake)
        return day.report(sending, people_first, time.monotonic() - started)


def preview_day(
    feed: Feed,
    contract: Contract,
    manifest: Manifest,
    store: Store,
    *,
    now: datetime,
    scratch: Path,
    rows: int,
    options: DeliveryOptions = AS_THE_CONTRACT_SAYS,
    neighbours: Neighbours = ALONE,
) -> Preview:
    """What `deliver_day` would do with this day now, and the first *rows* operations exactly as they would be sent.

    Sends nothing and writes nothing but scratch files; asks for the campaigns where a row could start one.
    """
    if not manifest.rows:
        return Preview(feed.name, manifest.day, 0, {outcome.name.lower(): 0 for outcome in Outcome}, {}, 0, 0, 0, 0, (), None)
    with tempfile.TemporaryDirectory(dir=scratch) as folder, open_database() as database:
        above = OverlayStore(store, Path(folder) / "store")  # what a look writes on the way (a folded ledger) stays here
        day = StagedDay(feed, contract, manifest, above, Path(folder), database, now, options)
        unknown_people = len(day.find_unknown_people(is_outcome=feed.unknown_person != "deliver"))
        _, could_trigger = day.counts.get(Outcome.SEND, (0, 0))
        campaigns = campaigns_at_risk(feed, neighbours.campaigns()) if could_trigger and day.may_trigger else None
        requests, request_bytes = 0, 0
        operations: list[Mapping[str, Any]] = []
        for body in day.bodies(day.operations()):
            requests, request_bytes = requests + 1, request_bytes + len(body.data)
            if len(operations) < rows:
                operations += json.loads(body.data)["batch"][: rows - len(operations)]
        return Preview(
            feed=feed.name,
            day=manifest.day,
            rows=manifest.rows,
            outcomes={outcome.name.lower(): count for outcome, count in day.outcomes().items()},
            rejected_by_reason=day.rejected_by_reason(),
            could_trigger=could_trigger,
            unknown_people=unknown_people,
            requests=requests,
            request_bytes=request_bytes,
            operations=tuple(operations),
            campaigns=campaigns,
        )


def _check(day: StagedDay, brake: Brake | None, options: DeliveryOptions, neighbours: Neighbours) -> None:
    """Stop before the first row where a guard says so."""
    feed = day.feed
    if feed.unknown_person != "deliver":
        day.find_unknown_people()  # whose rows do not go
    if brake and not options.has_no_brake:
        rows, _ = day.counts.get(Outcome.SEND, (0, 0))
        if rows:
            brake.check_rows(rows + day.rows_acknowledged, day.people_known)
    policy = options.on_backfill or feed.on_backfill
    is_refused = policy == "refuse" or (policy == "hold" and feed.kind is FeedKind.PEOPLE)  # an attribute cannot wait
    if options.is_backfill and is_refused and day.may_trigger:
        _, could_trigger = day.counts.get(Outcome.SEND, (0, 0))
        if could_trigger:
            refuse_triggers(feed, day.day, could_trigger, campaigns_at_risk(feed, neighbours.campaigns()))
