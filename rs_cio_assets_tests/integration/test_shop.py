"""The demo shop: the same from the same seed, dated from a given day, plausible, and going on in time without rewriting it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import advance_shop, ensure_shop, load_cdnow, skincare
from rs_cio_assets.sandbox.shop.tables import KEYS
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets_tests.pipeline import query, run_sql

TODAY = date(2026, 11, 24)
MIDNIGHT = datetime(2026, 11, 24)  # noqa: DTZ001 - the tables hold naive UTC
TABLES = tuple(KEYS)
EVENT_TIMES = {
    "customers": ("created_at", "updated_at"),
    "orders": ("placed_at", "paid_at", "cancelled_at"),
    "checkouts": ("started_at", "completed_at"),
    "subscriptions": ("started_at", "paused_at", "cancelled_at"),
    "refunds": ("refunded_at",),
    "product_views": ("viewed_at",),
    "account_links": ("linked_at",),
    "privacy_requests": ("requested_at",),
}
Rows = dict[str, Counter[tuple[Any, ...]]]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A warehouse of this file's own: shops stand in the schema `shop`, so they cannot share one with other tests."""
    home = tmp_path_factory.mktemp("shop")
    with RedshiftStandIn(home / "redshift") as stand_in:
        yield load_settings({"REDSHIFT_PORT": str(stand_in.port), "RS_CIO_STORE": str(home / "store")})


@pytest.fixture
def empty(warehouse: Settings) -> Settings:
    """The warehouse without a shop."""
    run_sql(warehouse, "DROP SCHEMA IF EXISTS shop CASCADE")
    return warehouse


@pytest.fixture(scope="module")
def usual(warehouse: Settings) -> Settings:
    """A shop of 1,000 customers in the schema `usual`, which no test changes."""
    run_sql(warehouse, "DROP SCHEMA IF EXISTS shop CASCADE")
    load(warehouse)
    run_sql(warehouse, "ALTER SCHEMA shop RENAME TO usual")
    return warehouse


def load(settings: Settings, *, today: date = TODAY, customers: int = 1_000, seed: int = 5) -> list[str]:
    """ensure_shop; what it said on the way."""
    said: list[str] = []
    ensure_shop(settings.redshift, today=today, customers=customers, seed=seed, on_progress=said.append)
    return said


def contents(settings: Settings, schema: str = "shop") -> Rows:
    """Every row of every table."""
    return {table: Counter(query(settings, f"SELECT * FROM {schema}.{table}")) for table in TABLES}


def fresh(settings: Settings, **options: Any) -> Rows:
    """The rows of a shop loaded into an empty warehouse."""
    run_sql(settings, "DROP SCHEMA IF EXISTS shop CASCADE")
    load(settings, **options)
    return contents(settings)


def shifted(rows: Rows, days: int) -> Rows:
    """The same rows with every time that many days later."""

    def later(value: Any) -> Any:
        return value + timedelta(days=days) if isinstance(value, datetime) else value

    return {table: Counter({tuple(map(later, row)): n for row, n in found.items()}) for table, found in rows.items()}


def one(settings: Settings, sql: str) -> Any:
    """The only value of a query."""
    ((value,),) = query(settings, sql)
    return value


def test_the_seed_alone_decides_what_happens(empty: Settings):
    """The same seed, size and day give the same rows in every table; another seed gives another shop."""
    first = fresh(empty, customers=100)
    assert fresh(empty, customers=100) == first
    other = fresh(empty, customers=100, seed=6)
    assert all(other[table] != first[table] for table in EVENT_TIMES)


def test_everything_is_dated_from_the_given_day(empty: Settings):
    """The same shop 364 days (52 whole weeks) earlier is the same rows 364 days earlier, to the second."""
    now = fresh(empty, customers=100)
    assert shifted(fresh(empty, customers=100, today=TODAY - timedelta(days=364)), 364) == now


def test_a_year_lies_behind_and_nothing_ahead(usual: Settings):
    """Orders on nearly every day of the year before the day given; nothing happened or was loaded after its midnight."""
    first, last, days = query(usual, "SELECT MIN(placed_at), MAX(placed_at), COUNT(DISTINCT TRUNC(placed_at)) FROM usual.orders")[
        0
    ]
    assert first < MIDNIGHT - timedelta(days=360)
    assert last > MIDNIGHT - timedelta(days=2)
    assert days > 300
    for table, times in EVENT_TIMES.items():
        for column in (*times, "loaded_at"):
            assert one(usual, f"SELECT MAX({column}) FROM usual.{table}") <= MIDNIGHT, (table, column)


@pytest.mark.parametrize(
    ("what", "at_least"),
    [
        ("checkouts WHERE completed_at IS NULL", 0.3),
        ("checkouts WHERE completed_at IS NOT NULL", 0.3),
        ("orders WHERE paid_at IS NULL AND cancelled_at IS NULL", 0.002),
        ("orders WHERE cancelled_at IS NOT NULL AND paid_at IS NOT NULL", 0.005),
        ("orders WHERE cancelled_at IS NOT NULL AND paid_at IS NULL", 0.002),
        ("orders WHERE is_test", 0.0005),
        ("orders WHERE discount_code IS NOT NULL AND discount > 0", 0.1),
        ("refunds WHERE kind = 'refund'", 0.5),
        ("refunds WHERE kind = 'chargeback'", 0.01),
        ("refunds AS r JOIN usual.orders AS o ON o.order_id = r.order_id WHERE r.amount < o.total", 0.1),
        ("customers WHERE is_guest", 0.1),
        ("customers WHERE updated_at > created_at", 0.01),
        ("subscriptions WHERE paused_at IS NULL AND cancelled_at IS NULL", 0.3),
        ("subscriptions WHERE paused_at IS NOT NULL AND cancelled_at IS NULL", 0.03),
        ("subscriptions WHERE cancelled_at IS NOT NULL", 0.1),
        ("order_lines AS l JOIN usual.products AS p ON p.sku = l.sku WHERE p.is_gift_card", 0.005),
        ("products WHERE is_gift_card", 0.05),
        ("product_views WHERE sku IS NOT NULL", 1),
        ("privacy_requests WHERE request = 'delete'", 0.2),
        ("privacy_requests WHERE request = 'unsuppress'", 0.02),
    ],
)
def test_what_a_retention_team_has_to_tell_apart_is_there(usual: Settings, what: str, at_least: float):
    """Abandoned, unpaid, cancelled, test, refunded, charged back, guest, paused: each is there, in a share that shows."""
    assert one(usual, f"SELECT COUNT(*) FROM usual.{what}") > 0
    table = what.split(maxsplit=1)[0]
    assert one(usual, f"SELECT COUNT(*) FROM usual.{what}") >= at_least * one(usual, f"SELECT COUNT(*) FROM usual.{table}")


def test_links_and_requests_are_a_trickle(usual: Settings):
    """Of 1,000 customers a year about one guest a week makes an account and one person a week asks about their data."""
    for table in ("account_links", "privacy_requests"):
        assert 15 <= one(usual, f"SELECT COUNT(*) FROM usual.{table}") <= 90, table


def test_volumes_follow_the_hours_and_the_week(usual: Settings):
    """Nights (0 to 5 h UTC) are quieter than half the evenings (18 to 23 h), and Sunday is the strongest day of the week."""
    by_hour = dict(query(usual, "SELECT EXTRACT(hour FROM started_at)::INT, COUNT(*) FROM usual.checkouts GROUP BY 1"))
    night, evening = (sum(by_hour.get(hour, 0) for hour in hours) for hours in (range(5), range(18, 23)))
    assert 0 < night * 2 < evening
    by_weekday = Counter(day.weekday() for (day,) in query(usual, "SELECT started_at FROM usual.checkouts"))
    assert max(by_weekday, key=by_weekday.__getitem__) == 6
    assert min(by_weekday.values()) * 3 > max(by_weekday.values())


_IMPOSSIBLE = {
    "paid or cancelled before it was placed": "orders WHERE paid_at < placed_at OR cancelled_at < placed_at",
    "checkout ends before it starts": "checkouts WHERE completed_at < started_at",
    "checkout and order disagree": """
        checkouts AS k LEFT JOIN usual.orders AS o ON o.checkout_id = k.checkout_id
        WHERE (k.completed_at IS NULL) <> (o.order_id IS NULL) OR k.completed_at <> o.placed_at""",
    "order of nobody, or before they came": """
        orders AS o LEFT JOIN usual.customers AS c ON c.customer_id = o.customer_id
        WHERE c.created_at IS NULL OR o.placed_at < c.created_at""",
    "subscription paused after its end": """
        subscriptions WHERE paused_at < started_at OR cancelled_at < started_at OR paused_at >= cancelled_at""",
    "a guest subscribes": """
        subscriptions AS s JOIN usual.customers AS c ON c.customer_id = s.customer_id WHERE c.is_guest""",
    "a reason without an end": "subscriptions WHERE (cancelled_at IS NULL) <> (cancel_reason IS NULL)",
    "refund of what was not paid or not kept": """
        refunds AS r LEFT JOIN usual.orders AS o ON o.order_id = r.order_id
        WHERE o.paid_at IS NULL OR o.cancelled_at IS NOT NULL OR r.refunded_at <= o.paid_at
            OR r.amount > o.total OR r.amount < 0""",
    "line at another price": """
        order_lines AS l LEFT JOIN usual.products AS p ON p.sku = l.sku WHERE p.sku IS NULL OR l.unit_price <> p.price""",
    "link of somebody who is no guest, or not there yet, or to a guest": """
        account_links AS a LEFT JOIN usual.customers AS c USING (customer_id)
        LEFT JOIN usual.customers AS g ON g.customer_id = a.guest_id
        WHERE NOT NVL(g.is_guest, FALSE) OR NVL(c.is_guest, TRUE) OR a.linked_at < g.created_at OR a.linked_at < c.created_at""",
    "an account orders before its link": "account_links JOIN usual.orders USING (customer_id) WHERE placed_at <= linked_at",
    "an unsuppress without a suppress before it": """
        privacy_requests AS r LEFT JOIN usual.privacy_requests AS s
            ON s.customer_id = r.customer_id AND s.request = 'suppress' AND s.requested_at < r.requested_at
        WHERE r.request = 'unsuppress' AND s.customer_id IS NULL""",
    "somebody deleted orders again": """
        privacy_requests JOIN usual.orders USING (customer_id) WHERE request = 'delete' AND placed_at >= requested_at""",
    "page seen before they came": """
        product_views AS v LEFT JOIN usual.customers AS c ON c.customer_id = v.customer_id
        WHERE c.created_at IS NULL OR v.viewed_at < c.created_at""",
}


@pytest.mark.parametrize("sql", _IMPOSSIBLE.values(), ids=_IMPOSSIBLE)
def test_the_shop_holds_no_impossible_row(usual: Settings, sql: str):
    """What cannot happen in a real shop, by name, is in none of its rows."""
    assert one(usual, f"SELECT COUNT(*) FROM usual.{sql}") == 0


def test_an_order_costs_its_lines_less_its_discount(usual: Settings):
    """Every order's total is the sum of its lines minus the discount, to the cent."""
    lines: Counter[str] = Counter()
    for order_id, quantity, price in query(usual, "SELECT order_id, quantity, unit_price FROM usual.order_lines"):
        lines[order_id] += quantity * price
    orders = query(usual, "SELECT order_id, total, discount FROM usual.orders")
    assert {order: total + discount for order, total, discount in orders} == dict(lines)
    assert all(total >= 0 and discount >= 0 and isinstance(total, Decimal) for _, total, discount in orders)


def test_no_row_is_loaded_before_what_it_says_has_happened(usual: Settings):
    """loaded_at is never older than any time of its row: facts take time to reach a warehouse."""
    for table, times in EVENT_TIMES.items():
        for column in times:
            assert one(usual, f"SELECT COUNT(*) FROM usual.{table} WHERE loaded_at <= {column}") == 0, (table, column)


def test_keys_are_unique_and_identifiers_keep_their_shape_over_several_blocks(empty: Settings, monkeypatch: pytest.MonkeyPatch):
    """A shop drawn in blocks has no key twice in any table, and every person is C or G and seven digits."""
    monkeypatch.setattr(skincare, "CUSTOMERS_PER_BLOCK", 150)
    said = load(empty, customers=400)
    assert [re.findall(r"[\d,]+ of [\d,]+", text)[0] for text in said[:3]] == ["150 of 400", "300 of 400", "400 of 400"]
    for table, key in KEYS.items():
        text = " || '/' || ".join(f"{column}::VARCHAR" for column in key)
        assert one(empty, f"SELECT COUNT(*) - COUNT(DISTINCT {text}) FROM shop.{table}") == 0, table
    assert one(empty, "SELECT COUNT(*) FROM shop.customers WHERE NOT customer_id ~ '^[CG][0-9]{7}$'") == 0


def test_memory_does_not_grow_with_the_shop(usual: Settings):
    """A shop of four million is drawn block by block, as it is asked for, and no block holds more than 50,000 customers."""
    (block,) = islice(skincare.blocks(5, 4_000_000, MIDNIGHT), 1)
    assert len(block.created_s) == skincare.CUSTOMERS_PER_BLOCK == 50_000


def test_size_is_the_number_of_customers_and_orders_grow_with_it(empty: Settings, usual: Settings):
    """100 customers are 100, 1,000 are 1,000 (less those of the last quarter of an hour), and orders follow in proportion."""
    load(empty, customers=100)
    small, large = (one(empty, f"SELECT COUNT(*) FROM {schema}.customers") for schema in ("shop", "usual"))
    assert 98 <= small <= 100
    assert 995 <= large <= 1_000
    small, large = (one(empty, f"SELECT COUNT(*) FROM {schema}.orders") for schema in ("shop", "usual"))
    assert 7 < large / small < 14


def test_the_same_shop_again_changes_nothing(empty: Settings):
    """Loading a second time, also for an earlier day, loads no row and says nothing."""
    before = fresh(empty, customers=100)
    assert load(empty, customers=100) == []
    assert load(empty, customers=100, today=TODAY - timedelta(days=30)) == []
    assert contents(empty) == before


@pytest.mark.parametrize(
    ("other", "words"),
    [({"seed": 6}, "100 customers (seed 5), not skincare with 100 (seed 6)"), ({"customers": 101}, "not skincare with 101")],
    ids=["seed", "size"],
)
def test_another_shop_is_refused_with_the_next_step(empty: Settings, other: dict[str, int], words: str):
    """A shop of another seed or size is not silently shown as the one asked for, and the one that is there stays."""
    before = fresh(empty, customers=100)
    with pytest.raises(ConfigurationError, match=r"make clean") as refused:
        load(empty, **{"customers": 100, **other})
    assert words in refused.value.problem
    assert contents(empty) == before


def test_stepping_through_time_and_jumping_to_its_end_give_the_same_tables(empty: Settings):
    """Nine days in uneven steps or in one: every table ends the same, so nothing depends on when somebody looked."""
    fresh(empty, customers=300)
    moment = datetime(2026, 11, 24, tzinfo=UTC)
    for hours in (1, 5.5, 0.26, 17, 48, 0.01, 100.2, 44.03):
        moment += timedelta(hours=hours)
        advance_shop(empty.redshift, until=moment, late_orders=0)
    ensure_shop(empty.redshift, today=TODAY + timedelta(days=9), customers=300, seed=5, on_progress=lambda _: None)
    stepped = contents(empty)
    fresh(empty, customers=300)
    load(empty, customers=300, today=TODAY + timedelta(days=9))
    assert contents(empty) == stepped


def test_time_going_on_adds_new_and_late_rows_and_changes_only_what_something_happened_to(empty: Settings):
    """New rows are loaded after the earlier end; late ones arrive now for 1 to 4 days ago; every other row stays as it was."""
    before = fresh(empty, customers=3_000)
    until = datetime(2026, 12, 12, 15, 30, tzinfo=UTC)
    report = advance_shop(empty.redshift, until=until, late_orders=9)
    after = contents(empty)
    for table in EVENT_TIMES:
        is_newer = {row[-1] > MIDNIGHT for row in after[table] - before[table]}
        assert is_newer == {True}, f"a row of {table} that changed says when it was loaded"
        keys_before, keys_after = ({row[0] for row in rows[table]} for rows in (before, after))
        assert keys_before <= keys_after, f"a row of {table} is gone"
    now = until.replace(tzinfo=None)
    late = [row for row in after["orders"] if row[-1] == now]
    assert len(late) == report.late_orders == 9
    assert {timedelta(days=1) <= now - row[3] <= timedelta(days=4) for row in late} == {True}
    assert {row[0] for row in late} <= {row[0] for row in after["order_lines"] - before["order_lines"]}
    assert before["orders"] - after["orders"], "no order was paid or cancelled meanwhile: the test proves too little"
    new = {row[0] for row in after["orders"]} - {row[0] for row in before["orders"]} - {row[0] for row in late}
    assert report.orders == len(new) > 0
    assert set(report.days) == {row[3].date() for row in after["orders"] - before["orders"]}
    assert f"{len(new):,} new orders, 9 late" in report.sentence()


def test_the_same_time_again_is_refused_and_changes_nothing(empty: Settings):
    """Advancing to where the shop already is neither doubles the late orders nor loads anything."""
    fresh(empty, customers=100)
    until = datetime(2026, 11, 24, 10, tzinfo=UTC)
    advance_shop(empty.redshift, until=until, late_orders=3)
    before = contents(empty)
    for moment in (until, until - timedelta(hours=1)):
        with pytest.raises(ConfigurationError, match="loaded until 2026-11-24 10:00:00 UTC already"):
            advance_shop(empty.redshift, until=moment, late_orders=3)
    assert contents(empty) == before


def test_where_time_cannot_go_on_it_says_why(empty: Settings):
    """No shop, or its two years over: the next step is named and nothing is loaded."""
    with pytest.raises(ConfigurationError, match="make demo"):
        advance_shop(empty.redshift, until=datetime(2026, 11, 25, tzinfo=UTC), late_orders=0)
    before = fresh(empty, customers=100)
    with pytest.raises(ConfigurationError, match="two years are over"):
        advance_shop(empty.redshift, until=datetime(2027, 12, 1, tzinfo=UTC), late_orders=0)
    assert contents(empty) == before


def test_a_shop_without_an_order_says_how_to_get_one(empty: Settings):
    """One customer who bought nothing: a sentence and the next step, not a crash; late orders then are none."""
    seed = next(s for s in range(50) if all((b.placed_s == skincare.NEVER).all() for b in skincare.blocks(s, 1, MIDNIGHT)))
    with pytest.raises(ConfigurationError, match="make demo CUSTOMERS="):
        load(empty, customers=1, seed=seed)
    run_sql(empty, "DELETE FROM shop.customers")
    assert advance_shop(empty.redshift, until=datetime(2026, 11, 25, tzinfo=UTC), late_orders=4).late_orders == 0


def test_no_address_could_be_a_real_one(usual: Settings, tmp_path: Path):
    """Every address of both shops is at a domain that RFC 2606 reserves."""
    run_sql(usual, "DROP SCHEMA IF EXISTS shop CASCADE")
    load_cdnow(usual.redshift, cdnow_file(tmp_path), last_day=TODAY, on_progress=lambda _: None)
    reserved = re.compile(r"[^@]+@(?:[a-z0-9-]+\.)*(?:example\.(?:com|net|org)|example|invalid|test|localhost)")
    emails = [email for s in ("usual", "shop") for (email,) in query(usual, f"SELECT email FROM {s}.customers")]
    assert len(emails) > 995
    assert [email for email in emails if not reserved.fullmatch(email)] == []


def test_a_loaded_purchase_file_stays_as_it_is(empty: Settings, tmp_path: Path):
    """Loading it again keeps its rows and dates; the other shop is refused in its place, and its time does not go on."""
    file = cdnow_file(tmp_path)
    state = load_cdnow(empty.redshift, file, last_day=TODAY, on_progress=lambda _: None)
    assert (state.orders, state.customers, state.last_day) == (2, 2, TODAY)
    before = contents(empty)
    assert load_cdnow(empty.redshift, file, last_day=TODAY + timedelta(days=1), on_progress=lambda _: None) == state
    with pytest.raises(ConfigurationError, match="holds the shop cdnow"):
        load(empty)
    with pytest.raises(ConfigurationError, match="no skincare shop is loaded"):
        advance_shop(empty.redshift, until=datetime(2026, 11, 25, tzinfo=UTC), late_orders=1)
    assert contents(empty) == before


def cdnow_file(folder: Path, *lines: str) -> Path:
    """A purchase file: *lines*, or two good ones."""
    path = folder / "cdnow.txt"
    path.write_text("\n".join(lines or ("00001 19970101 1 11.77", "00002 19970112 5 77.00")))
    return path


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (("00001 19970101 1 11.77", "00001 19970101 1"), "line 2"),
        (("00001 19970231 1 11.77",), "line 1"),
        (("00001 19970101 1 11.777",), "line 1"),
        (("00001 19970101 1 -5.00",), "line 1"),
        (("00001 19970101 1 \xff",), "line 1"),
        (("customer day items dollars",), "no purchase"),
        (("",), "no purchase"),
    ],
    ids=["a field short", "no such day", "a third decimal", "negative", "not ASCII", "only a heading", "empty"],
)
def test_a_purchase_file_that_cannot_be_read_is_refused_by_its_line(
    empty: Settings, tmp_path: Path, lines: tuple[str, ...], words: str
):
    """A wrong line is named, with the next step, and no purchase of the file is loaded."""
    with pytest.raises(ConfigurationError, match=words) as refused:
        load_cdnow(empty.redshift, cdnow_file(tmp_path, *lines), last_day=TODAY, on_progress=lambda _: None)
    assert "DATA=<file>" in refused.value.next_step
    assert query(empty, "SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'shop'") == [(0,)]
