"""The logic checks: the shipped queries agree with the shipped views over a whole shop, and catch each planted mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rs_cio_assets.checks.logic import build_logic_checks
from rs_cio_assets.checks.recomputed import recompute
from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.contract.segments import Logic
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets_tests.pipeline import query
from rs_cio_assets_tests.running_checks import run_checks

CONTRACT = load_contract()
LOGIC = {logic.name: logic for logic in CONTRACT.logic}
NOW = datetime.now(UTC)
EVER = timedelta(days=3_000)


@dataclass(frozen=True)
class Shop:
    """A drawn shop behind the shipped views."""

    settings: Settings

    def create(self, feed: str, *replacements: tuple[str, str]) -> None:
        """Create the feed's view with parts of its SQL replaced, each of which must be there."""
        sql = CONTRACT.feed(feed).sql
        for old, new in replacements:
            assert old in sql
            sql = sql.replace(old, new)
        with Warehouse(self.settings.redshift).session() as session:
            create_view(session, CONTRACT.feed(feed).model_copy(update={"sql": sql}))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The shop, once."""
    home = tmp_path_factory.mktemp("logic")
    with RedshiftStandIn(home / "redshift") as stand_in:
        settings = load_settings({"REDSHIFT_PORT": str(stand_in.port), "RS_CIO_STORE": str(home / "store")})
        ensure_shop(settings.redshift, today=NOW.date(), customers=1_500, seed=11, on_progress=lambda _: None)
        yield Shop(settings)


@pytest.fixture
def shop(loaded: Shop) -> Shop:
    """The shop with its views as they are shipped."""
    for feed in ("people", "order_completed"):
        loaded.create(feed)
    return loaded


@pytest.mark.parametrize("name", sorted(LOGIC))
def test_over_a_whole_shop_there_is_no_mistake(shop: Shop, tmp_path: Path, name: str):
    """Refunds, chargebacks, cancellations, test orders, linked guests: the shipped SQL and its recomputation agree."""
    logic = LOGIC[name]
    with Warehouse(shop.settings.redshift).session() as session:
        report = recompute(session, logic, CONTRACT.feed(logic.feed), NOW - EVER, NOW, tmp_path)
    assert (report.mistakes, report.people, dict(report.by_problem)) == (0, 0, {})
    assert report.rows > 1_000


NUMBER = "d.order_number::BIGINT AS order_number"
FIRST = "CASE WHEN d.order_number = 1 THEN TRUE ELSE FALSE END AS is_first_time_buyer"
PAID = "o.paid_at IS NOT NULL AND NOT NVL(o.is_test, FALSE)"
KEPT = "MAX(CASE WHEN o.order_state = 'paid' THEN o.paid_at END) AS last_paid_order_at"
PLACE = "order_number is not the place among the paid orders"
FLAG = "is_first_time_buyer contradicts order_number"
MONEY = "lifetime_value is not what was paid and kept"
LAST = "last_paid_order_at is not the latest order that was kept"
UNPAID = "the event is of an order that was not paid then"


@pytest.mark.parametrize(
    ("feed", "replacements", "red"),
    [
        ("order_completed", [(NUMBER, "1::BIGINT AS order_number")], {"first_orders": PLACE}),
        ("order_completed", [(NUMBER, "NULL::BIGINT AS order_number")], {"first_orders": PLACE}),
        ("order_completed", [(FIRST, "d.order_number <= 2 AS is_first_time_buyer")], {"first_orders": FLAG}),
        ("order_completed", [(FIRST, "NULL::BOOLEAN AS is_first_time_buyer")], {"first_orders": FLAG}),
        (
            "order_completed",
            [("ORDER BY o.paid_at, o.order_id", "ORDER BY o.placed_at DESC, o.order_id")],
            {"first_orders": PLACE},
        ),
        ("order_completed", [(PAID, "o.paid_at IS NOT NULL")], {"first_orders": PLACE, "paid_orders": UNPAID}),
        (
            "order_completed",
            [(PAID, "NOT NVL(o.is_test, FALSE)"), ("        o.paid_at,\n", "        NVL(o.paid_at, o.placed_at) AS paid_at,\n")],
            {"first_orders": "the shop knows no such paid order", "paid_orders": UNPAID},
        ),
        (
            "order_completed",
            [("d.total::NUMERIC(12, 2)", "NULL::NUMERIC(12, 2)")],
            {"paid_orders": "order_total or the time differs"},
        ),
        (
            "order_completed",
            [(PAID, f"{PAID} AND o.discount_code IS NULL")],
            {"first_orders": PLACE, "paid_orders": "a paid order has no event"},
        ),
        ("people", [("o.total - o.refunded_amount", "o.total")], {"kept_money": MONEY}),
        ("people", [("NVL(o.lifetime_value, 0)::NUMERIC", "NULLIF(o.lifetime_value, 0)::NUMERIC")], {"kept_money": MONEY}),
        ("people", [("f.amount >= o.total AND f.amount > 0", "f.amount > 99999")], {"kept_money": LAST}),
        ("people", [(KEPT, "MAX(o.paid_at) AS last_paid_order_at")], {"kept_money": LAST}),
        (
            "people",
            [("SUM(CASE WHEN o.paid_at IS NOT NULL AND o.order_state <> 'cancelled' THEN 1", "SUM(CASE WHEN TRUE THEN 1")],
            {"kept_money": "orders_count is not the number of paid orders"},
        ),
    ],
    ids=[
        "LG1: everybody's order is their first",
        "LG1: no order number",
        "LG1: two first orders",
        "LG1: no flag",
        "LG1: numbered by another time",
        "test orders are events",
        "unpaid orders are events",
        "no total",
        "paid orders are missing",
        "LG2: refunds stay in lifetime_value",
        "LG2: no lifetime_value",
        "LG2: refunded orders keep people active",
        "LG2: cancelled orders keep people active",
        "LG2: cancelled and unpaid orders are counted",
    ],
)
def test_a_planted_mistake_is_named(
    shop: Shop, tmp_path: Path, feed: str, replacements: list[tuple[str, str]], red: dict[str, str]
):
    """LG1, LG2: a view that is wrong in one way has mistakes of that name in the query that recomputes it, and in no other."""
    shop.create(feed, *replacements)
    with Warehouse(shop.settings.redshift).session() as session:
        found = {
            name: recompute(session, logic, CONTRACT.feed(logic.feed), NOW - EVER, NOW, tmp_path) for name, logic in LOGIC.items()
        }
    assert {name for name, report in found.items() if report.mistakes} == set(red)
    for name, problem in red.items():
        assert any(problem in said for said in found[name].by_problem)
        assert sum(found[name].by_problem.values()) == found[name].mistakes >= found[name].people > 0


def test_the_checks_are_green_on_the_shipped_views(shop: Shop):
    """Through Dagster: each shipped query is a check of its feed, green, with the number of rows it looked at."""
    run = run_checks(shop.settings, build_logic_checks(CONTRACT))
    assert run.failures == ()
    assert {name: evaluation.passed for name, evaluation in run.evaluations.items()} == {
        "logic_first_orders": True,
        "logic_kept_money": True,
        "logic_paid_orders": True,
    }
    assert all(run.numbers(name)["rows looked at"] > 10 for name in run.evaluations)


def test_a_red_check_says_what_for_how_many_and_what_to_do(shop: Shop):
    """LG1, LG2 through Dagster: both feeds wrong; an error each, people counted and hashed, the file to mend, no identifier."""
    shop.create("order_completed", (FIRST, "TRUE AS is_first_time_buyer"))
    shop.create("people", ("o.total - o.refunded_amount", "o.total"), (KEPT, "MAX(o.paid_at) AS last_paid_order_at"))
    run = run_checks(shop.settings, build_logic_checks(CONTRACT), {"days_back": 400})
    assert run.failures == ()
    orders, money = run.evaluations["logic_first_orders"], run.evaluations["logic_kept_money"]
    assert not orders.passed
    assert not money.passed
    assert run.evaluations["logic_paid_orders"].passed
    assert FLAG in (orders.description or "")
    assert "mend feeds/order_completed.sql" in (orders.description or "")
    assert MONEY in (money.description or "")
    assert LAST in (money.description or "")
    assert run.numbers("logic_kept_money")["people concerned"] > 10
    ids = [who for (who,) in query(shop.settings, "SELECT customer_id FROM shop.customers")]
    assert not any(who in run.shown for who in ids)


def test_orders_newer_than_now_and_older_than_the_days_are_left_out(shop: Shop, tmp_path: Path):
    """A window that ends before the warehouse's newest rows: as many rows as lie in it, and no false alarm at its edges."""
    now = NOW - timedelta(days=100)
    ((expected,),) = query(
        shop.settings,
        "SELECT COUNT(*) FROM cio_export.order_completed WHERE occurred_at >= %s AND occurred_at < %s",
        ((now - timedelta(days=14)).replace(tzinfo=None), now.replace(tzinfo=None)),
    )
    with Warehouse(shop.settings.redshift).session() as session:
        for logic in LOGIC.values():
            report = recompute(session, logic, CONTRACT.feed(logic.feed), now - timedelta(days=14), now, tmp_path)
            assert report.mistakes == 0
            assert logic.feed == "people" or report.rows == expected > 0


def logic_of(sql: str) -> Contract:
    """The shipped contract with one query of a test's own."""
    logic = Logic(name="tested", description="A query.", feed="order_completed", sql=sql)
    return CONTRACT.model_copy(update={"logic": (logic,)})


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT customer_id FROM cio_export.people", "problem"),
        ("SELECT customer_id, 'x' AS problem FROM shop.gone", "gone"),
        ("SELECT 1 AS customer_id, 'x' AS problem", "customer_id of the query holds something else than string"),
    ],
    ids=["no column problem", "no such table", "a number for a person"],
)
def test_a_query_that_cannot_run_fails_clearly(shop: Shop, sql: str, words: str):
    """Bad SQL is a failed step in words, never green."""
    run = run_checks(shop.settings, build_logic_checks(logic_of(sql)))
    assert dict(run.evaluations) == {}
    assert words in run.failures[0]


def test_problems_are_few_and_short(shop: Shop):
    """A query whose problems are all different and long shows ten of them, cut; every one of the mistakes is counted."""
    sql = "SELECT customer_id, order_id || RPAD('', 200, 'x') AS problem FROM cio_export.order_completed"
    run = run_checks(shop.settings, build_logic_checks(logic_of(sql)))
    problems = run.column("logic_tested", "problems", "problem")
    assert len(problems) == 10
    assert {len(str(problem)) for problem in problems} == {80}
    assert run.numbers("logic_tested")["mistakes"] > 1_000


def test_nothing_to_look_at_is_not_ready(loaded: Shop):
    """An empty view is neither green nor an error; a query of a feed that is off has no check."""
    loaded.create("order_completed", (PAID, "FALSE"))
    run = run_checks(loaded.settings, build_logic_checks(logic_of("SELECT '' AS customer_id, '' AS problem WHERE FALSE")))
    evaluation = run.evaluations["logic_tested"]
    assert (evaluation.passed, evaluation.severity.value) == (False, "WARN")
    assert "has no row in the last 14 days" in (evaluation.description or "")
    off = CONTRACT.model_copy(update={"feeds": tuple(f for f in CONTRACT.feeds if f.name != "order_completed")})
    assert [check.check_key.name for check in build_logic_checks(off)] == ["logic_kept_money"]
