"""Two made-up people who prove what a journey's audience does: one starts a checkout, the other buys as well. No Dagster here.

They have no email address and no phone number, so nothing can be sent to them; they are marked `is_canary`, and deleted.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pyarrow as pa

from rs_cio_assets.checks.results import CANARY_PREFIX
from rs_cio_assets.contract.models import Column, ColumnType, Contract, Feed
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.delivery.packing import ulids
from rs_cio_assets.errors import CustomerioRefused
from rs_cio_assets.store import Store

NOTES = "canaries/"  # in the store: who may have been left behind, by a run that died
IS_CANARY = "is_canary"
LONGER_THAN_A_RUN = timedelta(minutes=10)  # beside its wait


@dataclass(frozen=True)
class Flight:
    """What was seen of the two at last. *is_visible*: Customer.io shows everything that was sent of both. *waited_s* seconds."""

    is_visible: bool
    is_browser_in: bool
    is_buyer_in: bool
    waited_s: float
    leftovers_removed: int

    @property
    def is_good(self) -> bool:
        """The browser qualifies and the buyer does not."""
        return self.is_visible and self.is_browser_in and not self.is_buyer_in


def fly_canaries(
    checkout: Feed,
    purchase: Feed,
    segment_id: int,
    contract: Contract,
    track: TrackClient,
    app: AppClient,
    store: Store,
    *,
    now: Callable[[], datetime],
    wait_s: float,
    poll_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Flight:
    """Send both people, look every *poll_s* until both are as they should be, twice in a row, or *wait_s* is over; delete both.

    They are deleted whatever happens meanwhile, Ctrl-C included; a run that is killed leaves a note, and the next one deletes.
    Raises: CustomerioRefused when an operation of theirs is refused; whatever the clients and the store raise.
    """
    track.region()
    leftovers_removed = _remove_leftovers(track, store, now())
    with _two_people(track, store, now() + timedelta(seconds=wait_s) + LONGER_THAN_A_RUN) as (buyer, browser):
        _send(track, list(_operations(buyer, browser, checkout, purchase, contract, now())))
        started, good_looks = clock(), 0
        while True:
            flight = Flight(
                is_visible=_has(app, browser, checkout) and _has(app, buyer, checkout) and _has(app, buyer, purchase),
                is_browser_in=segment_id in app.segments_of(browser),
                is_buyer_in=segment_id in app.segments_of(buyer),
                waited_s=clock() - started,
                leftovers_removed=leftovers_removed,
            )
            good_looks = good_looks + 1 if flight.is_good else 0
            # The segment may not have looked at the buyer yet when it holds the browser already.
            if good_looks == 2 or clock() - started >= wait_s:
                return flight
            sleep(poll_s)


@contextmanager
def _two_people(track: TrackClient, store: Store, until: datetime) -> Iterator[Sequence[str]]:
    """Ids that no real person has; noted before anything is sent, and deleted when the block ends in any way."""
    name = f"{CANARY_PREFIX}{uuid4().hex[:12]}"
    people = [f"{name}-buyer", f"{name}-browser"]
    for person in people:
        store.put(f"{NOTES}{person}", until.astimezone(UTC).isoformat().encode())
    try:
        yield people
    finally:
        _remove(track, store, people)


def _remove_leftovers(track: TrackClient, store: Store, now: datetime) -> int:
    """Delete the canaries of runs that must be over; how many there were. Others may be flying at this moment."""
    people = []
    for key in store.list(NOTES):
        until = store.get(key)
        if until is not None and datetime.fromisoformat(until.decode()) < now:
            people.append(key.removeprefix(NOTES))
    if people:
        _remove(track, store, people)
    return len(people)


def _remove(track: TrackClient, store: Store, people: Sequence[str]) -> None:
    """The notes go when the deletion is acknowledged."""
    _send(track, [{"type": "person", "action": "delete", "identifiers": {"id": person}} for person in people])
    store.delete(f"{NOTES}{person}" for person in people)


def _send(track: TrackClient, operations: Sequence[Mapping[str, Any]]) -> None:
    answer = track.send_batch(json.dumps({"batch": operations}).encode(), len(operations))
    if answer.refused:
        raise CustomerioRefused(
            f"Customer.io refused a canary's {operations[answer.refused[0].index]['action']}: {answer.refused[0].message}",
            next_step="report this: what a canary sends is made from the contract",
        )


def _operations(
    buyer: str, browser: str, checkout: Feed, purchase: Feed, contract: Contract, now: datetime
) -> Iterator[dict[str, Any]]:
    """The browser is last, so that whoever sees all of the browser has been given all of the buyer."""
    begun, bought = now - timedelta(seconds=60), now - timedelta(seconds=30)
    for person in (buyer, browser):
        yield {
            "type": "person",
            "action": "identify",
            "identifiers": {"id": person},
            "timestamp": int(begun.timestamp()),
            "attributes": {IS_CANARY: True},
        }
    yield _event(buyer, checkout, contract, begun)
    yield _event(buyer, purchase, contract, bought)
    yield _event(browser, checkout, contract, begun)


def _event(person: str, feed: Feed, contract: Contract, moment: datetime) -> dict[str, Any]:
    key = hashlib.sha256(f"{feed.name} {person}".encode()).hexdigest()[:32]
    values = {name: _plausible(feed.columns[name], contract, person, moment) for name in feed.sent_columns}
    return {
        "type": "person",
        "action": "event",
        "id": ulids(pa.array([key])).tobytes().decode(),
        "identifiers": {"id": person},
        "name": feed.event_name,
        "timestamp": int(moment.timestamp()),
        "attributes": {**{name: value for name, value in values.items() if value is not None}, IS_CANARY: True},
    }


def _plausible(column: Column, contract: Contract, person: str, moment: datetime) -> Any:
    """A value that the column may hold; None where nothing is sure to fit: a pattern, JSON."""
    match column.type:
        case ColumnType.STRING:
            declared = contract.declared_values(column)
            return declared[0] if declared else None if column.pattern else person[: column.max_bytes]
        case ColumnType.INTEGER | ColumnType.DECIMAL | ColumnType.FLOAT:
            number = max(1, 1 if column.minimum is None else column.minimum)
            number = number if column.maximum is None else min(number, column.maximum)
            return int(number) if column.type is ColumnType.INTEGER else number
        case ColumnType.BOOLEAN:
            return False
        case ColumnType.TIMESTAMP:
            return int(moment.timestamp())
        case ColumnType.DATE:
            return int(moment.timestamp()) // 86_400 * 86_400
    return None


def _has(app: AppClient, person: str, feed: Feed) -> bool:
    return any(True for _ in app.activities(person, "event", name=feed.event_name))
