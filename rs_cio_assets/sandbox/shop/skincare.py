"""The skincare shop's rows as they stand in the warehouse at a given time: what has been loaded by then, and nothing later.

Facts are loaded every quarter of an hour. A row shows the facts loaded so far (an order may be unpaid at first), so that
stepping through time and jumping to its end give the same tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rs_cio_assets.sandbox.shop.draws import CATEGORIES, CENTS, GIFT_CARDS, NEVER, SKUS, YEARS, Draws, draw_customers
from rs_cio_assets.sandbox.shop.identity import REQUESTS, Identity, draw_identity

CUSTOMERS_PER_BLOCK = 50_000
_LOAD_EVERY_S = 900
_LOAD_TAKES_S = 180
_NAMES = ["Ada", "Bjørn", "Chloé", "Dàibhidh", "Eun-ji", "Françoise", "Gül", "Håkon", "Ines", "Jürgen", "Kateřina", "Łukasz"]
_NAMES += ["Mei", "Núria", "O'Shea", "Paweł", "Quinn", "Renée", "Søren", "Tạ", "Ümit", "Věra", "Wanda", "Xóchitl", "Zoë", "小春"]
_SURNAMES = [
    "Álvarez",
    "Berg",
    "D'Angelo",
    "Fischer",
    "García",
    "Ito",
    "Jensen",
    "Kowalska",
    "Moreau",
    "Novák",
    "O'Neill",
    "Rossi",
]
_COUNTRIES = ["DE", "FR", "GB", "NL", "IT", "ES", "PL", "SE"]
_CODES = ["WELCOME10", "GLOW15", "FRIENDS20", "VIP25"]
_REASONS = ["too_expensive", "too_much_product", "did_not_work", "moved", "other"]


@dataclass(frozen=True)
class Span:
    """Rows that changed between *since_s* (exclusive) and *until_s* (inclusive), as of *until_s*; seconds of the shop's time."""

    since_s: int
    until_s: int


def products() -> pa.Table:
    """What the shop sells."""
    titles = [f"{c.replace('_', ' ').title()} {s.split('-')[1]}" for c, s in zip(CATEGORIES, SKUS, strict=True)]
    return pa.table(
        [pa.array(SKUS), pa.array(titles), pa.array(CATEGORIES), _money(CENTS), pa.array(GIFT_CARDS)], names=list("abcde")
    )


def blocks(seed: int, customers: int, first_day: datetime) -> Iterator[Draws]:
    """All customers of both years (*customers* new ones a year), a block at a time."""
    for year in range(YEARS):
        for start in range(0, customers, CUSTOMERS_PER_BLOCK):
            count = min(CUSTOMERS_PER_BLOCK, customers - start)
            yield draw_customers(seed, year * customers + start + 1, count, year, first_day.weekday())


def tables_of(draws: Draws, first_day: datetime, span: Span) -> dict[str, pa.Table]:
    """Each table's rows of this block that changed in *span*."""
    view, identity = _View(first_day, span), draw_identity(draws)
    numbers = draws.first_number + np.arange(len(draws.created_s))
    people = _ids(np.where(draws.is_guest, "G", "C"), numbers, 7)
    # A checkout's number leaves room for every checkout that a block of this size can have.
    checkout_numbers = draws.first_number * 12 + np.arange(len(draws.owner))
    checkout_ids, order_ids = _ids("K", checkout_numbers, 9), _ids("O", checkout_numbers, 9)
    owners = people.take(pa.array(draws.owner))
    gross = np.bincount(draws.line_checkout, CENTS[draws.line_sku] * draws.line_quantity, len(draws.owner)).astype(np.int64)
    return {
        "customers": _customers(draws, view, people, numbers),
        "checkouts": _checkouts(draws, view, checkout_ids, owners, gross),
        "orders": _orders(draws, view, order_ids, checkout_ids, owners, gross - draws.discount_cents),
        "order_lines": _order_lines(draws, view, order_ids),
        "subscriptions": _subscriptions(draws, view, people, numbers),
        "refunds": _refunds(draws, view, order_ids, checkout_numbers, owners, gross - draws.discount_cents),
        "product_views": _product_views(draws, view, checkout_numbers, owners),
        "account_links": _account_links(identity, view, people),
        "privacy_requests": _privacy_requests(identity, view, people),
    }


class _View:
    """What is visible at the end of a span, and which rows it touched."""

    def __init__(self, first_day: datetime, span: Span) -> None:
        self._epoch_s = int((first_day - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001 - naive UTC throughout
        self._span = span

    def changed(self, *facts: np.ndarray) -> np.ndarray:
        """Places of rows whose first fact is loaded and any of whose facts was loaded in the span."""
        loaded = [_loaded_s(fact) for fact in facts]
        is_new = np.zeros(len(facts[0]), bool)
        for times in loaded:
            is_new |= (times > self._span.since_s) & (times <= self._span.until_s)
        return np.flatnonzero((loaded[0] <= self._span.until_s) & is_new)

    def time(self, fact: np.ndarray) -> pa.Array:
        """The fact's time where it is loaded, else null."""
        hidden = _loaded_s(fact) > self._span.until_s
        seconds = np.where(hidden, 0, fact) + self._epoch_s
        return pa.array(seconds.astype("datetime64[s]"), pa.timestamp("s"), mask=hidden)

    def is_loaded(self, fact: np.ndarray) -> np.ndarray:
        return _loaded_s(fact) <= self._span.until_s

    def loaded_at(self, *facts: np.ndarray) -> pa.Array:
        """When the newest visible fact was loaded."""
        newest = np.full(len(facts[0]), -1)
        for fact in facts:
            loaded = _loaded_s(fact)
            newest = np.maximum(newest, np.where(loaded <= self._span.until_s, loaded, -1))
        return pa.array((newest + self._epoch_s).astype("datetime64[s]"), pa.timestamp("s"))


def _loaded_s(fact: np.ndarray) -> np.ndarray:
    """When a fact reaches the warehouse. Never earlier for a later fact, so a row never precedes what it refers to."""
    is_set = fact != NEVER
    loaded = (np.where(is_set, fact, 0) // _LOAD_EVERY_S + 1) * _LOAD_EVERY_S + _LOAD_TAKES_S
    return np.where(is_set, loaded, NEVER)


def _customers(d: Draws, view: _View, people: pa.Array, numbers: np.ndarray) -> pa.Table:
    rows = view.changed(d.created_s, d.email_changed_s)
    created, changed = d.created_s[rows], d.email_changed_s[rows]
    has_new_email = view.is_loaded(changed)
    domain = pa.array(np.where(has_new_email, "@example.net", "@example.com"))
    email = _joined("customer.", _text(numbers[rows]), domain)
    updated = np.where(has_new_email, changed, created)
    return _table(
        people.take(pa.array(rows)),
        email,
        _pick(_NAMES, d.name[rows]),
        _pick(_SURNAMES, d.surname[rows]),
        _pick(_COUNTRIES, d.country[rows]),
        pa.array(d.is_guest[rows]),
        view.time(created),
        view.time(updated),
        view.loaded_at(created, changed),
    )


def _checkouts(d: Draws, view: _View, ids: pa.Array, owners: pa.Array, gross: np.ndarray) -> pa.Table:
    rows = view.changed(d.started_s, d.placed_s)
    started, placed = d.started_s[rows], d.placed_s[rows]
    pieces = np.bincount(d.line_checkout, d.line_quantity, len(d.owner)).astype(np.int64)
    hero = np.zeros(len(d.owner), np.int64)
    by_value = np.lexsort((CENTS[d.line_sku] * d.line_quantity, d.line_checkout))
    hero[d.line_checkout[by_value]] = d.line_sku[by_value]  # the most valuable line comes last and stays
    return _table(
        ids.take(pa.array(rows)),
        owners.take(pa.array(rows)),
        view.time(started),
        view.time(placed),
        _money(gross[rows]),
        _same("EUR", len(rows)),
        pa.array(pieces[rows]),
        pa.array(SKUS[hero[rows]]),
        view.loaded_at(started, placed),
    )


def _orders(d: Draws, view: _View, ids: pa.Array, checkouts: pa.Array, owners: pa.Array, total: np.ndarray) -> pa.Table:
    rows = view.changed(d.placed_s, d.paid_s, d.cancelled_s)
    facts = (d.placed_s[rows], d.paid_s[rows], d.cancelled_s[rows])
    code = d.discount_code[rows]
    return _table(
        ids.take(pa.array(rows)),
        owners.take(pa.array(rows)),
        checkouts.take(pa.array(rows)),
        *(view.time(fact) for fact in facts),
        _same("EUR", len(rows)),
        pa.array(_CODES).take(pa.array(code, mask=code < 0)),
        _money(d.discount_cents[rows]),
        _money(total[rows]),
        pa.array(d.is_test[rows]),
        view.loaded_at(*facts),
    )


def _order_lines(d: Draws, view: _View, order_ids: pa.Array) -> pa.Table:
    lines = view.changed(d.placed_s[d.line_checkout])
    sizes = np.bincount(d.line_checkout, minlength=len(d.owner))
    first = np.cumsum(sizes) - sizes
    number = np.arange(len(d.line_checkout)) - first[d.line_checkout] + 1
    sku = d.line_sku[lines]
    return _table(
        order_ids.take(pa.array(d.line_checkout[lines])),
        pa.array(number[lines]),
        pa.array(SKUS[sku]),
        pa.array(d.line_quantity[lines]),
        _money(CENTS[sku]),
    )


def _subscriptions(d: Draws, view: _View, people: pa.Array, numbers: np.ndarray) -> pa.Table:
    rows = view.changed(d.subscribed_s, d.paused_s, d.unsubscribed_s)
    facts = (d.subscribed_s[rows], d.paused_s[rows], d.unsubscribed_s[rows])
    is_over = view.is_loaded(facts[2])
    return _table(
        _ids("S", numbers[d.subscriber[rows]], 7),
        people.take(pa.array(d.subscriber[rows])),
        pa.array(SKUS[d.subscription_sku[rows]]),
        _money(CENTS[d.subscription_sku[rows]] * 85 // 100),
        pa.array(d.interval_days[rows]),
        *(view.time(fact) for fact in facts),
        pa.array(_REASONS).take(pa.array(d.cancel_reason[rows], mask=~is_over)),
        view.loaded_at(*facts),
    )


def _refunds(d: Draws, view: _View, order_ids: pa.Array, numbers: np.ndarray, owners: pa.Array, total: np.ndarray) -> pa.Table:
    rows = view.changed(d.refunded_s)
    checkout, refunded = d.refund_checkout[rows], d.refunded_s[rows]
    return _table(
        _ids("R", numbers[checkout], 9),
        order_ids.take(pa.array(checkout)),
        owners.take(pa.array(checkout)),
        view.time(refunded),
        _money(total[checkout] * d.refund_share[rows] // 100),
        pa.array(np.where(d.is_chargeback[rows], "chargeback", "refund")),
        view.loaded_at(refunded),
    )


def _product_views(d: Draws, view: _View, numbers: np.ndarray, owners: pa.Array) -> pa.Table:
    rows = view.changed(np.maximum(d.viewed_s, d.created_s[d.owner]))
    viewed = np.maximum(d.viewed_s, d.created_s[d.owner])[rows]
    first_line = np.searchsorted(d.line_checkout, rows)
    return _table(
        _ids("V", numbers[rows], 9),
        owners.take(pa.array(rows)),
        pa.array(SKUS[d.line_sku[first_line]]),
        view.time(viewed),
        view.loaded_at(viewed),
    )


def _account_links(links: Identity, view: _View, people: pa.Array) -> pa.Table:
    rows = view.changed(links.linked_s)
    linked = links.linked_s[rows]
    guest, customer = (people.take(pa.array(who[rows])) for who in (links.guest, links.customer))
    return _table(guest, customer, view.time(linked), view.loaded_at(linked))


def _privacy_requests(requests: Identity, view: _View, people: pa.Array) -> pa.Table:
    rows = view.changed(requests.requested_s)
    requested = requests.requested_s[rows]
    return _table(
        people.take(pa.array(requests.requester[rows])),
        pa.array(REQUESTS[requests.request[rows]]),
        view.time(requested),
        view.loaded_at(requested),
    )


def _table(*columns: pa.Array) -> pa.Table:
    return pa.table(list(columns), names=[str(n) for n in range(len(columns))])


def _ids(letter: str | np.ndarray, numbers: np.ndarray, digits: int) -> pa.Array:
    letters = pa.array(letter) if isinstance(letter, np.ndarray) else letter
    return _joined(letters, pc.call_function("utf8_lpad", [_text(numbers)], pc.PadOptions(digits, "0")))


def _joined(*parts: pa.Array | str) -> pa.Array:
    """The parts of each row as one text."""
    return pc.call_function(
        "binary_join_element_wise", [*(pa.scalar(p) if isinstance(p, str) else p for p in parts), pa.scalar("")]
    )


def _text(numbers: np.ndarray) -> pa.Array:
    return pa.array(numbers).cast(pa.string())


def _money(cents: np.ndarray) -> pa.Array:
    """Cents as NUMERIC(12,2)."""
    hundredths = pa.array(np.asarray(cents, np.int64)).cast(pa.decimal128(21, 0))
    total = pc.call_function("divide", [hundredths.cast(pa.decimal128(23, 2)), pa.scalar(100, pa.decimal128(3, 0))])
    return total.cast(pa.decimal128(12, 2), safe=False)


def _pick(values: list[str], numbers: np.ndarray) -> pa.Array:
    return pa.array(values).take(pa.array(numbers % len(values)))


def _same(value: str, count: int) -> pa.Array:
    return pa.repeat(value, count)
