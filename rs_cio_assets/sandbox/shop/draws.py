"""The skincare shop's random numbers: what each customer does over two years, as columns. Deterministic from a seed.

Times are whole seconds since the shop's first midnight. Nothing here knows what is already loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

YEAR_DAYS = 365
DAY_S = 86_400
YEARS = 2
NEVER = np.iinfo(np.int64).max

# Orders by hour (UTC) of a shop whose customers live in Western Europe, and by weekday from Monday.
_HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 12, 11, 10, 9, 10, 12, 15, 18, 20, 17, 10, 5], float)
_WEEKDAYS = np.array([1.0, 0.95, 0.95, 0.95, 0.9, 1.05, 1.3])
_MAX_CHECKOUTS = 12

SKUS = np.array(
    [f"{kind}-{n}" for kind in ("CLEAN", "SERUM", "MOIST", "SUN", "MASK") for n in range(1, 6)]
    + ["GIFT-25", "GIFT-50", "GIFT-100"]
)
CATEGORIES = np.array(
    ["cleanser"] * 5 + ["serum"] * 5 + ["moisturizer"] * 5 + ["sunscreen"] * 5 + ["mask"] * 5 + ["gift_card"] * 3
)
CENTS = np.concatenate(
    [
        [1490, 1890, 2290, 1250, 2650, 3490, 4290, 5490, 2990, 6990, 2490, 3290, 3990, 1990, 4590],
        [1790, 2190, 2590, 1590, 2890, 990, 1490, 1990, 2450, 3150, 2500, 5000, 10000],
    ]
)
_POPULARITY = np.array([9, 7, 5, 8, 4, 9, 7, 4, 6, 3, 8, 6, 5, 7, 4, 5, 4, 3, 4, 2, 4, 3, 3, 2, 2, 1, 0.8, 0.4])
GIFT_CARDS = CATEGORIES == "gift_card"


@dataclass(frozen=True)
class Draws:
    """Columns of one block of customers; times are seconds since the shop's first midnight, NEVER where there is none.

    Per customer: the first group. Per checkout: `owner` is the customer's place in the block. Per line: `checkout` is the
    checkout's place. Per subscription and refund: the place of the customer or the checkout it belongs to.
    """

    seed: int
    first_number: int
    is_guest: np.ndarray
    name: np.ndarray
    surname: np.ndarray
    country: np.ndarray
    created_s: np.ndarray
    email_changed_s: np.ndarray

    owner: np.ndarray
    started_s: np.ndarray
    placed_s: np.ndarray
    paid_s: np.ndarray
    cancelled_s: np.ndarray
    is_test: np.ndarray
    discount_code: np.ndarray
    discount_cents: np.ndarray
    viewed_s: np.ndarray

    line_checkout: np.ndarray
    line_sku: np.ndarray
    line_quantity: np.ndarray

    refund_checkout: np.ndarray
    refunded_s: np.ndarray
    refund_share: np.ndarray
    is_chargeback: np.ndarray

    subscriber: np.ndarray
    subscribed_s: np.ndarray
    subscription_sku: np.ndarray
    interval_days: np.ndarray
    paused_s: np.ndarray
    unsubscribed_s: np.ndarray
    cancel_reason: np.ndarray


def draw_customers(seed: int, first_number: int, count: int, year: int, first_weekday: int) -> Draws:
    """What *count* customers, numbered from *first_number* and new in *year* (0 or 1), do. *first_weekday*: 0 is Monday."""
    rng = np.random.default_rng([seed, first_number])
    created_s = _moments(rng, _new_days(rng, count, year, first_weekday))
    is_guest = rng.random(count) < 0.15
    owner, started_s = _checkouts(rng, created_s, is_guest, first_weekday)
    n = len(owner)
    is_completed = rng.random(n) < np.where(is_guest[owner], 0.8, 0.42)
    placed_s = np.where(is_completed, started_s + rng.integers(90, 1500, n), NEVER)
    is_paid = is_completed & (rng.random(n) >= 0.02)
    paid_s = np.where(is_paid, placed_s + rng.integers(5, 600, n), NEVER)
    is_cancelled = is_completed & (rng.random(n) < np.where(is_paid, 0.02, 0.6))
    cancelled_s = np.where(is_cancelled, placed_s + rng.integers(3600, 48 * 3600, n), NEVER)
    line_checkout, line_sku, line_quantity = _lines(rng, n)
    gross = np.bincount(line_checkout, CENTS[line_sku] * line_quantity, n).astype(np.int64)
    has_code = is_completed & (rng.random(n) < 0.2)
    discount_code = np.where(has_code, rng.integers(0, 4, n), -1)
    discount_cents = np.where(has_code, gross * np.array([10, 15, 20, 25])[discount_code] // 100, 0)
    kept = np.flatnonzero(is_paid & ~is_cancelled)
    roll = rng.random(len(kept))
    refund_checkout, is_chargeback = kept[roll < 0.043], roll[roll < 0.043] < 0.003
    r = len(refund_checkout)
    days_until = np.where(is_chargeback, rng.integers(20, 50, r), rng.integers(2, 21, r))
    is_full = is_chargeback | (rng.random(r) < 0.6)
    subscriber, subscribed_s = _subscribers(rng, owner, paid_s, is_guest)
    s = len(subscriber)
    is_over, is_paused = rng.random(s) < 0.4, rng.random(s) < 0.2
    paused_s = np.where(is_paused, subscribed_s + rng.integers(20 * DAY_S, 200 * DAY_S, s), NEVER)
    unsubscribed_s = np.where(is_over, subscribed_s + rng.integers(25 * DAY_S, 330 * DAY_S, s), NEVER)
    return Draws(
        seed=seed,
        first_number=first_number,
        is_guest=is_guest,
        name=rng.integers(0, 1 << 30, count),
        surname=rng.integers(0, 1 << 30, count),
        country=rng.integers(0, 1 << 30, count),
        created_s=created_s,
        email_changed_s=np.where(rng.random(count) < 0.05, created_s + rng.integers(DAY_S, 300 * DAY_S, count), NEVER),
        owner=owner,
        started_s=started_s,
        placed_s=placed_s,
        paid_s=paid_s,
        cancelled_s=cancelled_s,
        is_test=rng.random(n) < 0.003,
        discount_code=discount_code,
        discount_cents=discount_cents,
        viewed_s=np.where(rng.random(n) < 0.3, started_s - rng.integers(60, 900, n), NEVER),
        line_checkout=line_checkout,
        line_sku=line_sku,
        line_quantity=line_quantity,
        refund_checkout=refund_checkout,
        refunded_s=paid_s[refund_checkout] + days_until * DAY_S + rng.integers(0, DAY_S, r),
        refund_share=np.where(is_full, 100, rng.integers(20, 80, r)),
        is_chargeback=is_chargeback,
        subscriber=subscriber,
        subscribed_s=subscribed_s,
        subscription_sku=rng.integers(0, 20, s),
        interval_days=rng.choice([30, 45, 60], s),
        paused_s=np.where(paused_s < unsubscribed_s, paused_s, NEVER),  # what is cancelled is not paused any more
        unsubscribed_s=unsubscribed_s,
        cancel_reason=rng.integers(0, 5, s),
    )


def _new_days(rng: np.random.Generator, count: int, year: int, first_weekday: int) -> np.ndarray:
    days = np.arange(YEAR_DAYS) + year * YEAR_DAYS
    growth = 1 + days / YEAR_DAYS
    weights = growth * _WEEKDAYS[(days + first_weekday) % 7]
    return rng.choice(days, count, p=weights / weights.sum())


def _moments(rng: np.random.Generator, days: np.ndarray) -> np.ndarray:
    """Seconds for whole days, by the hour profile."""
    hours = rng.choice(24, len(days), p=_HOURS / _HOURS.sum())
    return days * DAY_S + hours * 3600 + rng.integers(0, 3600, len(days))


def _checkouts(
    rng: np.random.Generator, created_s: np.ndarray, is_guest: np.ndarray, first_weekday: int
) -> tuple[np.ndarray, np.ndarray]:
    """Who checks out when: the first time minutes after signing up, then again with growing patience."""
    count = len(created_s)
    times = np.minimum(rng.geometric(np.where(is_guest, 0.85, 0.27), count), _MAX_CHECKOUTS)
    owner = np.repeat(np.arange(count), times)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(times) - times, times)
    gap_days = np.ceil(rng.lognormal(2.9, 0.9, len(owner))).astype(np.int64) * (nth > 0)
    total_days = np.cumsum(gap_days)
    days = created_s[owner] // DAY_S + total_days - (total_days[np.cumsum(times) - times])[owner]
    # Quieter weekdays hand some of their checkouts to the next day.
    days += (rng.random(len(owner)) > _WEEKDAYS[(days + first_weekday) % 7]) & (nth > 0)
    return owner, np.where(nth == 0, created_s[owner] + rng.integers(60, 1200, len(owner)), _moments(rng, days))


def _lines(rng: np.random.Generator, checkouts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One to four lines a cart, each another product; some carts hold one gift card and nothing else."""
    is_gift = rng.random(checkouts) < 0.02
    sizes = np.where(is_gift, 1, rng.choice([1, 2, 3, 4], checkouts, p=[0.5, 0.28, 0.15, 0.07]))
    checkout = np.repeat(np.arange(checkouts), sizes)
    nth = np.arange(len(checkout)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    products = _POPULARITY * ~GIFT_CARDS
    first = rng.choice(len(SKUS), checkouts, p=products / products.sum())
    sku = (first[checkout] + nth * 7) % np.count_nonzero(~GIFT_CARDS)
    gifts = _POPULARITY * GIFT_CARDS
    sku = np.where(is_gift[checkout], rng.choice(len(SKUS), len(checkout), p=gifts / gifts.sum()), sku)
    return checkout, sku, rng.choice([1, 2, 3], len(checkout), p=[0.85, 0.12, 0.03])


def _subscribers(
    rng: np.random.Generator, owner: np.ndarray, paid_s: np.ndarray, is_guest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Some customers (no guests) subscribe right after their first paid order."""
    paid = np.flatnonzero(paid_s != NEVER)
    who, first = np.unique(owner[paid], return_index=True)
    chosen = (rng.random(len(who)) < 0.14) & ~is_guest[who]
    return who[chosen], paid_s[paid[first[chosen]]] + rng.integers(30, 900, int(chosen.sum()))
