"""Who a guest turns out to be, and what people ask about their data: drawn beside what they buy, from numbers of its own.

A stream of its own keeps every other table as it is, whatever changes here. Times are seconds since the shop's first midnight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rs_cio_assets.sandbox.shop.draws import DAY_S, NEVER, Draws

REQUESTS = np.array(["delete", "suppress", "unsuppress"])
_STREAM = 1  # of the block's seed; `draws.py` uses the one without a number
_SHARE_OF_GUESTS = 0.4
_SHARE_OF_PEOPLE = 0.05


@dataclass(frozen=True)
class Identity:
    """Columns for one block of customers. `guest`, `customer` and `requester` are places in the block, `request` in REQUESTS."""

    guest: np.ndarray
    customer: np.ndarray
    linked_s: np.ndarray

    requester: np.ndarray
    request: np.ndarray
    requested_s: np.ndarray


def draw_identity(draws: Draws) -> Identity:
    """Some guests become a customer who signs up later; some others ask for deletion or suppression when they are done here."""
    rng = np.random.default_rng([draws.seed, draws.first_number, _STREAM])
    guest, customer = _links(rng, draws)
    # Before the account's first checkout: what it orders is counted after what the guest ordered, from the beginning.
    linked_s = draws.created_s[customer] + rng.integers(5, 60, len(customer))
    may_ask = np.ones(len(draws.created_s), bool)
    may_ask[guest] = may_ask[customer] = False
    asking = np.flatnonzero(may_ask & (rng.random(len(may_ask)) < _SHARE_OF_PEOPLE))
    asked_s = _last_seen_s(draws)[asking] + rng.integers(DAY_S, 30 * DAY_S, len(asking))
    request = rng.integers(0, 2, len(asking))
    is_withdrawn = (request == 1) & (rng.random(len(asking)) < 0.4)
    withdrawn_s = (asked_s + rng.integers(DAY_S // 24, 20 * DAY_S, len(asking)))[is_withdrawn]
    return Identity(
        guest=guest,
        customer=customer,
        linked_s=linked_s,
        requester=np.concatenate([asking, asking[is_withdrawn]]),
        request=np.concatenate([request, np.full(len(withdrawn_s), 2)]),
        requested_s=np.concatenate([asked_s, withdrawn_s]),
    )


def _links(rng: np.random.Generator, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Guests, and for each the account that is made next after some weeks; an account belongs to one guest."""
    created_s = draws.created_s
    guests = np.flatnonzero(draws.is_guest & (rng.random(len(created_s)) < _SHARE_OF_GUESTS))
    customers = np.flatnonzero(~draws.is_guest)
    customers = customers[np.argsort(created_s[customers], kind="stable")]
    weeks_later_s = created_s[guests] + (rng.lognormal(3, 0.8, len(guests)) * DAY_S).astype(np.int64)
    nth, which = np.unique(np.searchsorted(created_s[customers], weeks_later_s), return_index=True)
    is_there = nth < len(customers)
    return guests[which[is_there]], customers[nth[is_there]]


def _last_seen_s(draws: Draws) -> np.ndarray:
    """When anything last happens to each person: nobody who asked for deletion comes back by themselves."""
    last_s = draws.created_s.copy()
    for who, moment_s in _facts(draws):
        is_set = moment_s != NEVER
        np.maximum.at(last_s, who[is_set], moment_s[is_set])
    return last_s


def _facts(draws: Draws) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield np.arange(len(draws.created_s)), draws.email_changed_s
    for moment_s in (draws.started_s, draws.placed_s, draws.paid_s, draws.cancelled_s):
        yield draws.owner, moment_s
    yield draws.owner[draws.refund_checkout], draws.refunded_s
    for moment_s in (draws.subscribed_s, draws.paused_s, draws.unsubscribed_s):
        yield draws.subscriber, moment_s
