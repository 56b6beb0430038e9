"""The CDNOW purchase file as a shop: every line an order, re-dated by whole days so that its last day is a given one."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.shop.tables import Clock, ShopState, open_tables, require_same_shop
from rs_cio_assets.settings import RedshiftSettings

KIND = "cdnow"
_NEXT_STEP = "give the CDNOW master file: make demo SHOP=cdnow DATA=<file>"
_PAID_AT_S = 12 * 3600  # the file knows days only
_LOAD_TAKES_S = 3600
_MONEY = re.compile(r"[0-9]+(\.[0-9]{0,2})?")


def load_cdnow(settings: RedshiftSettings, file: Path, *, last_day: date, on_progress: Callable[[str], None]) -> ShopState:
    """Load *file* (customer, yyyymmdd, items, dollars; one purchase a line) unless it is loaded already.

    A loaded one keeps its dates. Customers become C and seven digits; a purchase is paid at 12:00:00 UTC of its day, a
    customer's further ones of the same day a second later each, in file order.
    Raises: ConfigurationError when another shop is loaded or a line of the file cannot be read.
    """
    customer, day, items, cents = _read(file)
    people = len(np.unique(customer))
    with open_tables(settings) as tables:
        clock = tables.clock()
        if clock is not None:
            require_same_shop(clock, KIND, 0, people)
            return tables.state()
        on_progress(f"loading {len(customer):,} purchases of {people:,} customers")
        shift = np.datetime64(last_day, "D") - day.max()
        paid = (day + shift).astype("datetime64[s]") + _PAID_AT_S + _nth_of_day(customer, day)
        loaded = paid + _LOAD_TAKES_S
        count = len(customer)
        ids = pa.array([f"C{number:07d}" for number in customer])
        orders = pa.array([f"O{number:07d}" for number in range(1, count + 1)])
        total = pa.array([f"{c // 100}.{c % 100:02d}" for c in cents])
        none, no = pa.nulls(count, pa.string()), pa.repeat(pa.scalar(value=False), count)
        zero, usd = pa.repeat("0.00", count), pa.repeat("USD", count)
        first = _first_of_each(customer, paid)
        tables.put("products", pa.table([["CD"], ["Music CD"], ["music"], ["0.00"], [False]], names=list("abcde")), is_new=True)
        tables.put("customers", _customers(ids.take(pa.array(first)), customer[first], paid[first], loaded[first]), is_new=True)
        tables.put(
            "orders",
            _table(a=orders, b=ids, c=none, d=paid, e=paid, f=none, g=usd, h=none, i=zero, j=total, k=no, l=loaded),
            is_new=True,
        )
        price = pa.array([f"{c / i / 100:.2f}" for c, i in zip(cents, np.maximum(items, 1), strict=True)])
        tables.put(
            "order_lines",
            _table(a=orders, b=np.ones(count, np.int64), c=pa.repeat("CD", count), d=items, e=price),
            is_new=True,
        )
        end = datetime.combine(last_day, datetime.min.time()) + timedelta(days=1)
        tables.set_clock(Clock(KIND, 0, people, _as_datetime(paid.min()), end))
        return tables.state()


def _read(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Customer, day, items and cents of every line; a first line with words is a heading."""
    customers, days, items, cents = [], [], [], []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        fields = line.split()
        if not fields or (number == 1 and not fields[0].isdigit()):
            continue
        try:
            customer, day, count, total = fields
            if not _MONEY.fullmatch(total):
                raise ValueError(total)  # noqa: TRY301 - told below, with the line
            dollars, _, fraction = total.partition(".")
            customers.append(int(customer))
            days.append(datetime.strptime(day, "%Y%m%d").date())  # noqa: DTZ007 - a day, without a time
            items.append(int(count))
            cents.append(int(dollars) * 100 + int(f"{fraction:0<2}"))
        except ValueError:
            raise ConfigurationError(
                f"line {number} of {file.name} is not customer, yyyymmdd, items, dollars",
                next_step=_NEXT_STEP,
            ) from None
    if not customers:
        raise ConfigurationError(f"{file.name} has no purchase in it", next_step=_NEXT_STEP)
    return np.array(customers), np.array(days, "datetime64[D]"), np.array(items), np.array(cents)


def _nth_of_day(customer: np.ndarray, day: np.ndarray) -> np.ndarray:
    """0 for a customer's first purchase of a day, 1 for the second, in file order."""
    order = np.lexsort((np.arange(len(day)), day, customer))
    is_first = np.ones(len(day), bool)
    is_first[1:] = (customer[order][1:] != customer[order][:-1]) | (day[order][1:] != day[order][:-1])
    starts = np.flatnonzero(is_first)
    nth = np.arange(len(day)) - starts[np.cumsum(is_first) - 1]
    result = np.empty(len(day), np.int64)
    result[order] = nth
    return result


def _first_of_each(customer: np.ndarray, paid: np.ndarray) -> np.ndarray:
    """The place of each customer's earliest purchase."""
    order = np.lexsort((paid, customer))
    return order[np.unique(customer[order], return_index=True)[1]]


def _customers(ids: pa.Array, numbers: np.ndarray, created: np.ndarray, loaded: np.ndarray) -> pa.Table:
    count = len(numbers)
    email = pa.array([f"customer.{number}@example.com" for number in numbers])
    none, no = pa.nulls(count, pa.string()), pa.repeat(pa.scalar(value=False), count)
    return _table(a=ids, b=email, c=none, d=none, e=pa.repeat("US", count), f=no, g=created, h=created, i=loaded)


def _table(**columns: object) -> pa.Table:
    return pa.table({name: column if isinstance(column, pa.Array) else pa.array(column) for name, column in columns.items()})


def _as_datetime(moment: np.datetime64) -> datetime:
    return moment.astype("datetime64[s]").item()
