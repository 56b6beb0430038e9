"""What goes again and what does not: refused rows, replays, re-syncs, changed contracts, rows that stand twice; odd columns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import Feed
from rs_cio_assets.delivery import DeliveryOptions
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.integration.test_delivery_guards import AT, BRAKED, DAY, Answer, Days, order, person
from rs_cio_assets_tests.staging import NOW, contract_of, feed_of

COLUMNS: dict[str, dict[str, Any]] = {"order_id": {"type": "string"}, "total": {"type": "integer", "minimum": 0}}
ORDERS = feed_of("event", COLUMNS, name="orders", view="cio_export.orders", unknown_person="send")
FOLK = feed_of("people", {"tier": {"type": "string"}, "city": {"type": "string"}}, name="folk", view="cio_export.folk")
RESEND = DeliveryOptions(has_resend=True)


def replaying(*reasons: str) -> DeliveryOptions:
    """Options that ask for the rows refused for these reasons."""
    return DeliveryOptions(replay=frozenset(reasons))


def refusing(*indexes: int, reason: str = "invalid") -> Answer:
    """Customer.io refuses the operations of these numbers."""
    errors = [{"batch_index": n, "reason": reason, "field": "attributes.total", "message": "too odd"} for n in indexes]
    return lambda _: httpx.Response(207, json={"errors": errors})


def rejections(days: Days, feed: Feed = ORDERS) -> list[dict[str, Any]]:
    """The rejections of the day, as any Parquet tool reads them."""
    path = days.scratch / "store" / f"rejections/{feed.name}/{DAY}.parquet"
    return pq.read_table(path).to_pylist() if path.exists() else []


def refused_once(tmp_path: Path) -> Days:
    """A day of two orders, the second of which Customer.io refused."""
    days = Days(tmp_path, ORDERS)
    report = days.run(ORDERS, [order(1), order(2)], answer=refusing(1))
    assert (report.delivered, report.rejected_by_reason) == (1, {"customerio_invalid": 1})
    return days


def ids(days: Days, feed: Feed = ORDERS) -> list[str]:
    """Orders that the latest run sent, in order."""
    return [operation["attributes"]["order_id"] for operation in days.sent(feed)]


def test_what_customerio_refused_waits_without_a_request_until_something_changes(tmp_path: Path):
    """DL1: it stays rejected with Customer.io's words; looking again is no attempt."""
    days = refused_once(tmp_path)
    (first,) = rejections(days)
    for hours in (1, 2):
        report = days.run(ORDERS, [order(1), order(2)], now=NOW + timedelta(hours=hours))
        assert (report.unchanged, report.rejected_by_reason, report.requests) == (1, {"customerio_invalid": 1}, 0)
    (last,) = rejections(days)
    assert (last["attempts"], last["column_name"], last["business_key"]) == (1, "total", "O2")
    assert last["message"] == first["message"] == "Customer.io refused it: too odd"
    assert last["first_seen"] == first["first_seen"] < last["last_seen"]


@pytest.mark.parametrize(
    ("row", "options", "is_sent"),
    [
        (order(2, total=5), DeliveryOptions(), True),
        (order(2, loaded_at=AT + timedelta(hours=1)), DeliveryOptions(), False),
        (order(2), replaying("customerio_invalid"), True),
        (order(2), replaying("customerio_other", "customerio_invalid"), True),
        (order(2), replaying("all"), True),
        (order(2), replaying("customerio_other"), False),
        (order(2), replaying("it's; DROP TABLE"), False),
    ],
    ids=["content", "no_content", "its_reason", "two_reasons", "all", "another_reason", "odd_reason"],
)
def test_a_refused_row_goes_again_when_it_changed_or_is_asked_for(
    row: dict[str, Any], options: DeliveryOptions, is_sent: bool, tmp_path: Path
):
    """DL1: changed content or the reason in replay sends it, and nothing else does; once taken it leaves the rejections."""
    days = refused_once(tmp_path)
    report = days.run(ORDERS, [order(1), row], options=options)
    assert (report.delivered, report.rejected, ids(days)) == ((1, 0, ["O2"]) if is_sent else (0, 1, []))
    assert len(rejections(days)) == (0 if is_sent else 1)
    assert days.run(ORDERS, [order(1), row]).requests == 0


def test_a_refused_row_goes_again_with_another_contract(tmp_path: Path):
    """DL1: whatever was changed in the contract may be what Customer.io asked for; what is delivered stays unchanged."""
    days = refused_once(tmp_path)
    wider = ORDERS.model_copy(update={"max_rejected_share": 0.5})
    days.contract = contract_of(wider)
    report = days.run(wider, [order(1), order(2)], answer=refusing(0))
    assert (report.unchanged, report.rejected, report.requests) == (1, 1, 1)
    (row,) = rejections(days)
    assert row["attempts"] == 2
    assert days.run(wider, [order(1), order(2)]).requests == 0


def test_attempts_count_requests_and_first_seen_stays(tmp_path: Path):
    """DL1: refused, passed over, asked for twice: three attempts since the first one, by the reason of each."""
    days, rows = refused_once(tmp_path), [order(1), order(2)]
    (first,) = rejections(days)
    for hours, options in enumerate((DeliveryOptions(), replaying("all"), DeliveryOptions(), replaying("all")), start=1):
        days.run(ORDERS, rows, now=NOW + timedelta(hours=hours), options=options, answer=refusing(0))
    (row,) = rejections(days)
    assert (row["attempts"], row["first_seen"]) == (3, first["first_seen"])
    days.run(ORDERS, rows, options=replaying("all"), answer=refusing(0, reason="other"))
    (row,) = rejections(days)
    assert (row["reason"], row["attempts"]) == ("customerio_other", 1)


def test_a_person_refused_after_a_delivery_keeps_the_delivered_content(tmp_path: Path):
    """DL1: refused as gold they wait; back to what Customer.io holds they are unchanged; gold again goes again."""
    days, plain, gold = Days(tmp_path, FOLK), [person(1)], [person(1, tier="gold")]
    assert days.run(FOLK, plain).delivered == 1
    assert days.run(FOLK, gold, answer=refusing(0)).rejected == 1
    assert days.run(FOLK, gold).requests == 0
    assert days.run(FOLK, plain).unchanged == 1
    assert days.run(FOLK, gold).delivered == 1


def test_a_row_that_our_own_rules_reject_is_looked_at_each_time(tmp_path: Path):
    """Validation costs no request, so such a row needs no replay: mended it goes, and each look is an attempt."""
    days = Days(tmp_path, ORDERS)
    for attempts in (1, 2):
        assert days.run(ORDERS, [order(1, total=-1)], options=replaying("all")).rejected_by_reason == {"below_minimum": 1}
        assert rejections(days)[0]["attempts"] == attempts
    assert days.run(ORDERS, [order(1, total=1)]).delivered == 1


def test_every_row_of_a_day_may_be_rejected(tmp_path: Path):
    """A day of bad rows alone makes no request, keeps each of them, and has no ledger."""
    days = Days(tmp_path, ORDERS)
    rows = [order(1, total=-1), order(2, customer_id=None), {}, {"order_id": "O4"}]
    report = days.run(ORDERS, rows)
    assert (report.rejected, report.requests, len(rejections(days))) == (4, 0, 4)
    assert days.store.list("ledger/") == []
    assert days.run(ORDERS, []).rows == 0
    assert rejections(days) == []


def test_a_resend_sends_every_valid_row_once(tmp_path: Path):
    """DU1, DU3: unchanged and amended rows go, a double and a bad row do not; afterwards the ledger holds what went last."""
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [order(1), order(2)])
    rows = [order(1), order(2, total=7), order(3), order(3), order(4, total=-1)]
    report = days.run(ORDERS, rows, options=RESEND)
    assert (report.delivered, report.duplicates, report.rejected, ids(days)) == (3, 1, 1, ["O1", "O2", "O3"])
    again = days.run(ORDERS, rows)
    assert (again.unchanged, again.amended, again.duplicates, again.rejected, again.requests) == (3, 0, 1, 1, 0)


def test_a_resend_still_holds_what_may_not_go_yet(tmp_path: Path):
    """TM7: all rows again does not mean old journeys again."""
    careful = ORDERS.model_copy(update={"max_trigger_age_hours": 1})
    report = Days(tmp_path, careful).run(careful, [order(1)], now=AT + timedelta(hours=5), options=RESEND)
    assert (report.held, report.requests) == (1, 0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([order(1), order(1)], {"unchanged": 1, "duplicates": 1}),
        ([order(1), order(1), order(1)], {"unchanged": 1, "duplicates": 2}),
        ([order(1), order(1, total=2)], {"rejected": 2}),
        ([order(1, total=2), order(1)], {"rejected": 2}),
        ([order(1, total=2), order(1, total=2)], {"amended": 1, "duplicates": 1}),
        ([order(1), order(1, total=-1)], {"unchanged": 1, "rejected": 1}),
        ([order(1), order(1, loaded_at=AT + timedelta(hours=1))], {"unchanged": 1, "duplicates": 1}),
    ],
    ids=["twice", "thrice", "differs_after", "differs_before", "both_differ", "one_is_bad", "equal_but_for_what_is_not_sent"],
)
def test_a_delivered_row_that_now_stands_twice_is_told_like_any_other(
    rows: list[dict[str, Any]], expected: Mapping[str, int], tmp_path: Path
):
    """DU1: also where one of the rows is what the ledger holds; the short cut by source hash must not hide the other."""
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [order(1)])
    report = days.run(ORDERS, rows)
    names = ("delivered", "unchanged", "amended", "duplicates", "rejected")
    assert {name: count for name in names if (count := getattr(report, name))} == expected
    assert report.requests == 0


def rewrite_ledger(days: Days, feed: Feed) -> None:
    """As if another version of DuckDB or of the contract had computed the source hashes."""
    for key in days.store.list(f"ledger/{feed.name}/"):
        path = days.scratch / "store" / key
        table = pq.read_table(path)
        other = pa.array([n * 7 + 1 for n in range(table.num_rows)], pa.uint64())
        pq.write_table(table.set_column(table.column_names.index("source_hash"), "source_hash", other), path)


@pytest.mark.parametrize("feed", [ORDERS, FOLK], ids=["event", "people"])
def test_the_source_hash_is_only_a_short_cut(feed: Feed, tmp_path: Path):
    """With source hashes of another DuckDB or contract every row is compared by content: nothing is sent again."""
    days = Days(tmp_path, feed)
    rows = [order(n, total=n) if feed is ORDERS else person(n, tier="gold") for n in range(1, 6)]
    days.run(feed, rows)
    rewrite_ledger(days, feed)
    report = days.run(feed, rows)
    assert (report.unchanged, report.requests) == (5, 0)


def test_a_changed_contract_sends_whoever_it_changes_and_nobody_else(tmp_path: Path):
    """A column that is no longer sent changes the people who had a value there; delivered events are amended, never resent."""
    days = Days(tmp_path, ORDERS, FOLK)
    people = [person(1, tier="gold", city="Oslo"), person(2, tier="gold")]
    days.run(FOLK, people)
    days.run(ORDERS, [order(1, total=3), order(2)])
    hidden = {"is_sent": False}
    folk = FOLK.model_copy(update={"columns": {**FOLK.columns, "city": FOLK.columns["city"].model_copy(update=hidden)}})
    orders = ORDERS.model_copy(update={"columns": {**ORDERS.columns, "total": ORDERS.columns["total"].model_copy(update=hidden)}})
    days.contract = contract_of(orders, folk)
    report = days.run(folk, people)
    assert (report.delivered, report.unchanged) == (1, 1)
    assert [operation["attributes"] for operation in days.sent(folk)] == [{"tier": "gold"}]
    report = days.run(orders, [order(1, total=3), order(2)])
    assert (report.amended, report.unchanged, report.requests) == (1, 1, 0)


def test_a_row_that_becomes_invalid_stays_delivered(tmp_path: Path):
    """A stricter contract rejects a row that Customer.io holds; the ledger keeps it, so a mild one finds it unchanged."""
    days = Days(tmp_path, ORDERS)
    days.run(ORDERS, [order(1, total=3)])
    column = ORDERS.columns["total"].model_copy(update={"minimum": 10})
    strict = ORDERS.model_copy(update={"columns": {**ORDERS.columns, "total": column}})
    days.contract = contract_of(strict)
    assert days.run(strict, [order(1, total=3)]).rejected == 1
    days.contract = contract_of(ORDERS)
    report = days.run(ORDERS, [order(1, total=3)])
    assert (report.unchanged, report.requests) == (1, 0)


def test_a_refusal_in_a_body_that_was_split_is_the_right_row(tmp_path: Path):
    """DL1, SZ1: the index counts within the half that was answered, also after two splits."""

    def answer(request: httpx.Request) -> httpx.Response | None:
        if request.content.count(b'"type":"person"') > 2:
            return httpx.Response(413)
        index = next((i for i, part in enumerate(request.content.split(b'"type":"person"')[1:]) if b'"O6"' in part), None)
        return None if index is None else httpx.Response(207, json={"errors": [{"batch_index": index, "reason": "invalid"}]})

    days = Days(tmp_path, ORDERS)
    report = days.run(ORDERS, [order(n) for n in range(8)], answer=answer)
    assert (report.delivered, report.rejected) == (7, 1)
    assert rejections(days)[0]["business_key"] == "O6"
    assert sorted(ids(days)) == [f"O{n}" for n in range(8) if n != 6]


@pytest.mark.parametrize("feed", [ORDERS, FOLK], ids=["event", "people"])
def test_the_edges_of_a_day_belong_to_one_day_each(feed: Feed, tmp_path: Path):
    """TM5: midnight begins the day, the microsecond before the next ends it, and the next midnight is outside."""
    start = datetime(2026, 11, 20, tzinfo=UTC)
    end = start + timedelta(days=1)
    moments = (start - timedelta(microseconds=1), start, end - timedelta(microseconds=1), end)
    rows = [(order(n) if feed is ORDERS else person(n)) | {feed.time_column: at} for n, at in enumerate(moments)]
    report = Days(tmp_path, feed).run(feed, rows)
    assert (report.delivered, report.rejected_by_reason) == (2, {"time_outside_day": 2})


def test_a_day_that_has_not_begun_is_rejected_as_the_future(tmp_path: Path):
    """TM2: run before its day, every row is in the future but for the five minutes that clocks may differ."""
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    rows = [order(1, occurred_at=midnight), order(2, occurred_at=midnight + timedelta(seconds=241)), order(3)]
    report = Days(tmp_path, ORDERS).run(ORDERS, rows, now=midnight - timedelta(minutes=1))
    assert (report.delivered, report.rejected_by_reason) == (1, {"time_in_future": 2})


@pytest.mark.parametrize("answer", [{}, {"errors": [{"batch_index": 99}]}, {"errors": [{"reason": "x"}]}])
def test_a_refusal_that_names_no_row_is_an_error(answer: dict[str, Any], tmp_path: Path):
    """DL1: an answer that cannot be matched to rows counts nothing as delivered."""
    days = Days(tmp_path, ORDERS)
    with pytest.raises(MismatchError):
        days.run(ORDERS, [order(1)], answer=lambda _: httpx.Response(207, json=answer))
    assert days.store.list("ledger/") == []


PLAIN_NAMES = [
    "l",
    "k",
    "r",
    "p",
    "t",
    "people",
    "gone",
    "identifier",
    "operation",
    "business_key",
    "reason",
    "until",
    "suspects",
]
OUR_NAMES = [
    "attributes",
    "source",
    "rule",
    "pos",
    "us",
    "code",
    "row_key",
    "broken",
    "is_same",
    "known_content",
    "first_pos",
    "h",
]
TEXT, JSON = {"type": "string"}, {"type": "json"}
ODD = [
    *((name, column) for name in PLAIN_NAMES for column in (TEXT, JSON)),
    *((name, column) for name in OUR_NAMES for column in (TEXT, JSON)),
]


@pytest.mark.parametrize(("name", "column"), ODD)
def test_a_column_may_have_any_name_that_the_contract_allows(name: str, column: dict[str, Any], tmp_path: Path):
    """NM3: names that the engine or DuckDB use themselves are names like others: sent as they are, unchanged the next time."""
    orders = feed_of("event", {"order_id": TEXT, name: column}, name="orders", view="c.orders", unknown_person="hold")
    folk = feed_of("people", {name: column}, name="folk", view="c.folk")
    deletions = feed_of("deletion", {name: column}, name="deletions", view="c.gone", **BRAKED)
    days, value = Days(tmp_path, orders, folk, deletions), {name: '{"a": 1}'}
    days.run(folk, [person(1, **value), person(2), person(3)])
    days.run(deletions, [person(3, **value)])
    rows = [order(1) | value, order(2), order(2), order(3, customer_id="C0000003"), order(4, customer_id="C0000004")]
    report = days.run(orders, rows)
    assert (report.delivered, report.duplicates, report.held, report.rejected_by_reason) == (2, 1, 1, {"person_deleted": 1})
    sent = {operation["attributes"]["order_id"]: operation["attributes"].get(name) for operation in days.sent(orders)}
    assert sent == {"O1": {"a": 1} if column is JSON else value[name], "O2": None}
    again = days.run(orders, rows)
    assert (again.unchanged, again.duplicates, again.requests) == (2, 1, 0)


def test_a_held_row_beside_one_without_a_time(tmp_path: Path):
    """TM1, TM7: the one is held with its date and the other rejected, whatever batch they share."""
    careful = ORDERS.model_copy(update={"max_trigger_age_hours": 1})
    report = Days(tmp_path, careful).run(careful, [order(1), order(2, occurred_at=None)], now=AT + timedelta(hours=5))
    assert (report.held, report.rejected_by_reason) == (1, {"time_missing": 1})
    assert report.held_until == AT + timedelta(hours=72, minutes=5)


def test_a_folder_named_like_a_column_changes_no_value(tmp_path: Path):
    """The store may lie under tier=gold/: DuckDB must not take that for the column's value."""
    days = Days(tmp_path, FOLK, store=LocalStore(tmp_path / "tier=gold"))
    days.run(FOLK, [person(1, tier="none")])
    assert [operation["attributes"]["tier"] for operation in days.sent(FOLK)] == ["none"]


def test_two_keys_that_read_the_same_are_never_sent_under_one_id(tmp_path: Path):
    """DU1: Customer.io would take the second for a repetition and drop it without a word."""
    lines = feed_of(
        "event", {"order_id": TEXT, "line": TEXT}, business_key=("order_id", "line"), name="lines", unknown_person="send"
    )
    days = Days(tmp_path, lines)
    rows = [order(1) | {"order_id": "a\x1fb", "line": "c"}, order(1) | {"order_id": "a", "line": "b\x1fc"}]
    report = days.run(lines, rows)
    assert len({operation["id"] for operation in days.sent(lines)}) == report.delivered


KEYS = ["a\0b", "a\0c", "a", "a'b", 'a"b', "\u00e4", "a\u0308", "\U0001f600", "\n", " ", "\\", "\x1f", "%s", "{}", "NULL", ""]


def test_any_text_may_be_a_business_key(tmp_path: Path):
    """DU1, DU2: NUL, quotes, marks that combine, blanks: each is its own event, delivered once and known afterwards."""
    days, rows = Days(tmp_path, ORDERS), [order(1, order_id=key) for key in KEYS]
    assert days.run(ORDERS, rows).delivered == len(KEYS)
    assert sorted(ids(days)) == sorted(KEYS)
    assert len({operation["id"] for operation in days.sent(ORDERS)}) == len(KEYS)
    report = days.run(ORDERS, rows)
    assert (report.unchanged, report.requests) == (len(KEYS), 0)


def test_feeds_with_equal_business_keys_do_not_share_ids(tmp_path: Path):
    """DU2: the same order number in two event feeds makes two events, each known in its own ledger only."""
    other = feed_of("event", COLUMNS, name="refunds", view="c.refunds", event_name="Order Refunded", unknown_person="send")
    days = Days(tmp_path, ORDERS, other)
    assert (days.run(ORDERS, [order(1)]).delivered, days.run(other, [order(1)]).delivered) == (1, 1)
    assert days.sent(ORDERS)[0]["id"] != days.sent(other)[0]["id"]
