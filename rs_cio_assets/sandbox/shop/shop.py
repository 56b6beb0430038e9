"""Load the skincare shop, and let its time go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.shop.draws import CENTS, SKUS, YEAR_DAYS, YEARS
from rs_cio_assets.sandbox.shop.skincare import Span, blocks, products, tables_of
from rs_cio_assets.sandbox.shop.tables import Clock, ShopState, ShopTables, open_tables, require_same_shop
from rs_cio_assets.settings import RedshiftSettings

KIND = "skincare"
_LATE_DAYS = (1, 4)


@dataclass(frozen=True)
class AdvanceReport:
    """What changed in the warehouse: new orders, late ones, the time now, and the days (UTC) that have other rows than before."""

    until: datetime
    orders: int
    late_orders: int
    days: tuple[date, ...]

    def sentence(self) -> str:
        """For people."""
        days = ", ".join(day.isoformat() for day in self.days)
        return (
            f"The shop's time went on to {self.until:%Y-%m-%d %H:%M} UTC: {self.orders:,} new orders, {self.late_orders:,} late "
            f"ones for past days. Days with new or changed orders: {days or 'none'}."
        )


def ensure_shop(
    settings: RedshiftSettings,
    *,
    today: date,
    customers: int,
    seed: int,
    on_progress: Callable[[str], None],
    age_days: int = YEAR_DAYS,
    has_new_links: bool = True,
) -> ShopState:
    """The shop with everything loaded by *today*'s midnight (UTC): loaded when there is none, advanced when it is older.

    *customers* is how many are new in its first year, of which *age_days* have passed where it is loaded for the first time.
    Without *has_new_links* no guest becomes a customer while it is advanced.
    Raises: ConfigurationError when another shop is loaded.
    """
    midnight = datetime.combine(today, time())
    with open_tables(settings) as tables:
        clock = tables.clock()
        if clock is None:
            clock = Clock(KIND, seed, customers, midnight - timedelta(days=age_days), midnight)
            tables.put("products", products(), is_new=True)
            _load(tables, clock, since=None, on_progress=on_progress)
        else:
            require_same_shop(clock, KIND, seed, customers)
            if clock.loaded_until < midnight:
                moved = _moved(clock, midnight)
                _load(tables, moved, since=clock.loaded_until, on_progress=on_progress, has_links=has_new_links)
        return tables.state()


def advance_shop(settings: RedshiftSettings, *, until: datetime, late_orders: int, has_new_links: bool = True) -> AdvanceReport:
    """Load what happened up to *until* (aware), and *late_orders* orders of the days before that arrive only now.

    Without *has_new_links* no guest becomes a customer meanwhile.

    Raises: ConfigurationError when no skincare shop is loaded or *until* is not after what is loaded.
    """
    with open_tables(settings) as tables:
        clock = tables.clock()
        if clock is None or clock.kind != KIND:
            raise ConfigurationError(
                "no skincare shop is loaded here, and no other shop's time goes on",
                next_step="start `make demo` first",
            )
        moment = until.astimezone(UTC).replace(tzinfo=None, microsecond=0)
        if moment <= clock.loaded_until:
            raise ConfigurationError(
                f"the shop is loaded until {clock.loaded_until:%Y-%m-%d %H:%M:%S} UTC already", next_step="try again later"
            )
        before = tables.count("orders")
        moved = _moved(clock, moment)
        _load(tables, moved, since=clock.loaded_until, on_progress=lambda _: None, has_links=has_new_links)
        orders = tables.count("orders") - before
        late_orders = _add_late_orders(tables, clock.seed, moment, late_orders)
        days = tables.rows(
            "SELECT DISTINCT TRUNC(placed_at) FROM shop.orders WHERE loaded_at > %s ORDER BY 1",
            (clock.loaded_until,),
        )
        tables.set_clock(_moved(clock, moment))
        return AdvanceReport(moment, orders, late_orders, tuple(day for (day,) in days))


def _moved(clock: Clock, until: datetime) -> Clock:
    if until > clock.first_day + timedelta(days=YEAR_DAYS * YEARS):
        raise ConfigurationError("the demo shop's two years are over", next_step="make clean, then make demo makes a new one")
    return Clock(clock.kind, clock.seed, clock.customers, clock.first_day, until)


def _load(
    tables: ShopTables,
    clock: Clock,
    *,
    since: datetime | None,
    on_progress: Callable[[str], None],
    has_links: bool = True,
) -> None:
    def seconds(moment: datetime) -> int:
        return int((moment - clock.first_day).total_seconds())

    span = Span(-1 if since is None else seconds(since), seconds(clock.loaded_until))
    done = 0
    for draws in blocks(clock.seed, clock.customers, clock.first_day):
        for name, table in tables_of(draws, clock.first_day, span).items():
            if has_links or name != "account_links":
                tables.put(name, table, is_new=since is None)
        done += len(draws.created_s)
        on_progress(f"loading the shop: {min(done, clock.customers):,} of {clock.customers:,} customers")
    tables.set_clock(clock)


def _add_late_orders(tables: ShopTables, seed: int, loaded_at: datetime, count: int) -> int:
    """Paid orders of customers that are there, 1 to 4 days old, loaded now; none when nobody is a customer that long."""
    since_1970 = int((loaded_at - datetime(1970, 1, 1)).total_seconds())  # noqa: DTZ001 - naive UTC
    rng = np.random.default_rng([seed, since_1970])
    known = tables.rows(
        "SELECT customer_id FROM shop.customers WHERE created_at < %s ORDER BY customer_id",
        (loaded_at - timedelta(days=_LATE_DAYS[1] + 1),),
    )
    count = count if known else 0
    for number in range(count):
        order_id = f"L{since_1970}{number:05d}"
        (customer_id,) = known[int(rng.integers(len(known)))]
        age_s = int(rng.integers(_LATE_DAYS[0] * 86_400, _LATE_DAYS[1] * 86_400))
        placed = loaded_at - timedelta(seconds=age_s)
        sku = int(rng.integers(20))
        price = f"{CENTS[sku] / 100:.2f}"
        tables.run(
            "INSERT INTO shop.orders (order_id, customer_id, placed_at, paid_at, currency, discount, total, is_test, loaded_at) "
            "VALUES (%s, %s, %s, %s, 'EUR', 0, %s::NUMERIC(12,2), FALSE, %s)",
            (order_id, customer_id, placed, placed + timedelta(minutes=2), price, loaded_at),
        )
        tables.run("INSERT INTO shop.order_lines VALUES (%s, 1, %s, 1, %s::NUMERIC(12,2))", (order_id, str(SKUS[sku]), price))
    return count
