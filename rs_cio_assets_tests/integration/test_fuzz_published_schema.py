"""Ten thousand hostile rows: what is sent is as published, and every row is delivered or rejected with a reason.

Source: track-v2-operation-schemas.json in the shared reference folder, from Customer.io's Track API document of 2026-08-13.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.contract import ColumnType, Feed
from rs_cio_assets.customerio import BATCH_BYTES, OPERATION_BYTES
from rs_cio_assets.sandbox.customerio.rules import problems_of
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON
from rs_cio_assets_tests.staging import RecordingTrack, contract_of, deliver, feed_of, stage

ROWS = 5_000  # of each feed
DAY = "2026-11-20"
START = datetime(2026, 11, 20, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST, LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
COLUMNS: dict[str, dict[str, Any]] = {
    "row_number": {"type": "integer", "required": True},  # never hostile: tells which row an operation came from
    "order_id": {"type": "string", "required": True},
    "a_string": {"type": "string"},
    "a_short_string": {"type": "string", "max_bytes": 20},
    "a_tier": {"type": "string", "values": ("gold", "it's", "Zoë 🎁")},
    "any_tier": {"type": "string", "values": ("gold",), "on_undeclared_value": "pass"},
    "a_code": {"type": "string", "pattern": "[A-Z]{2}[0-9]+"},
    "an_integer": {"type": "integer"},
    "a_small_integer": {"type": "integer", "minimum": -5, "maximum": 5},
    "a_decimal": {"type": "decimal", "precision": 38, "scale": 10},
    "a_price": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 0},
    "a_whole": {"type": "decimal", "precision": 20, "scale": 0},
    "a_float": {"type": "float"},
    "a_share": {"type": "float", "minimum": 0, "maximum": 1},
    "a_boolean": {"type": "boolean"},
    "a_timestamp": {"type": "timestamp"},
    "a_date": {"type": "date"},
    "a_json": {"type": "json"},
    "a_short_json": {"type": "json", "max_bytes": 50},
    "not_sent": {"type": "string", "is_sent": False},
    "a_required": {"type": "integer", "required": True},
}
CLEARED = {f"{name}_cleared": {**column, "on_null": "clear"} for name, column in COLUMNS.items() if name.startswith("a")}
EVENTS = feed_of("event", COLUMNS)
PEOPLE = feed_of("people", {**COLUMNS, **CLEARED, "email": {"type": "string", "on_null": "clear"}})
PLANES = [(0x20, 0x7F), (0, 0x20), (0x7F, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x2028, 0x202A), (0xFFFE, 0x10000)]
PLANES += [(plane << 16, plane + 1 << 16) for plane in range(1, 17)]
WORDS = [
    "",
    " ",
    '"',
    "\\",
    '"}]}',
    "\x00",
    "\u2028",
    "</script>",
    "NaN",
    "null",
    "\ufeff",
    "e\u0301",
    "👩‍👩‍👧",
    "gold",
    "it's",
    "AB1",
]
HUGE = (1_000, 1_001, 31_000, 33_000, 600_000)
BROKEN_JSON = [
    "",
    "{",
    "NaN",
    "[1, -Infinity]",
    "{'a': 1}",
    "nul",
    "[1,]",
    '{"a" 1}',
    "1 2",
    '"\x01"',
    "0x1",
    "+1",
    "01",
    "\ufeff1",
]
ODD_JSON = [
    '{"a":1,"a":2}',
    "-1e-400",
    "1" * 400,
    '"\\ud800"',
    '"\\u0000"',
    "[" * 99 + "]" * 99,
]
ODD_JSON += ["null", '""', "-0", "-0.0", "1E5", ' { "a" : [ ] } ', '{"":""}', '"\\/"', "12345678901234567890.123456789"]
UNREADABLE_JSON = {
    "deeper_than_parsers_go": "[" * 5_000 + "]" * 5_000,
    "no_double": "1e400",
    "no_double_within": '{"a": [-1e999]}',
    "no_double_with_all_its_digits": "[99999e305]",
    "no_double_of_many_digits": "1" * 250 + "e99",
}
REPAIRED_JSON = {"[1,]": "[1]"}  # DuckDB takes a comma too many and writes it without
Dice = random.Random


def text_of(dice: Dice) -> str:
    """Any text without lone surrogates: words that hurt, characters of every plane, sometimes huge."""
    if dice.random() < 0.4:
        return dice.choice(WORDS)
    drawn = "".join(chr(dice.randrange(*dice.choice(PLANES))) for _ in range(dice.choice((1, 3, 8, 40))))
    return drawn * (dice.choice(HUGE) // len(drawn)) if dice.random() < 0.01 else drawn


def json_of(dice: Dice, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = dice.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [json_of(dice, depth + 1) for _ in range(dice.randrange(4))]
    if kind == 7:
        return {text_of(dice)[:40]: json_of(dice, depth + 1) for _ in range(dice.randrange(4))}
    return (None, dice.random() < 0.5, dice.randrange(-(2**70), 2**70), dice.random() * 1e300, text_of(dice)[:200], "")[kind]


def json_text(dice: Dice) -> str:
    """JSON as a view may hold it: well-formed in many ways, odd, or broken."""
    drawn = dice.random()
    if drawn < 0.1:
        return dice.choice(ODD_JSON)
    if drawn < 0.13:
        return dice.choice(BROKEN_JSON)
    return json.dumps(json_of(dice), ensure_ascii=dice.random() < 0.5, indent=dice.choice((None, 1)))


def float_of(dice: Dice) -> float:
    """Any 64 bits read as a double, or one of the ends."""
    ends = (0.0, -0.0, 5e-324, -2.2250738585072014e-308, 1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), 0.1)
    return dice.choice(ends) if dice.random() < 0.5 else struct.unpack("d", dice.randbytes(8))[0]


def decimal_of(dice: Dice) -> Decimal:
    """Any number that the staged type holds, often one at its limits."""
    ends = ("0", "-0", "1.005", "0.0000000001", "9999999999.99", "10000000000", "9" * 28 + "." + "9" * 10, "-" + "9" * 28)
    digits = dice.randrange(1, 38)
    return Decimal(dice.choice(ends)) if dice.random() < 0.5 else Decimal(dice.randrange(-(10**digits), 10**digits)).scaleb(-10)


def moment_of(dice: Dice) -> datetime:
    """From year 1 to 9999, to the microsecond."""
    ends = (FIRST, LAST, EPOCH - timedelta(microseconds=1), datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC))
    if dice.random() < 0.2:
        return dice.choice(ends)
    return FIRST + timedelta(microseconds=dice.randrange((LAST - FIRST) // timedelta(microseconds=1)))


DRAWN: dict[ColumnType, Callable[[Dice], Any]] = {
    ColumnType.STRING: text_of,
    ColumnType.INTEGER: lambda dice: dice.choice((0, -5, 5, 6, 2**53 + 1, 2**63 - 1, -(2**63), dice.randrange(-(2**63), 2**63))),
    ColumnType.DECIMAL: decimal_of,
    ColumnType.FLOAT: float_of,
    ColumnType.BOOLEAN: lambda dice: dice.random() < 0.5,
    ColumnType.TIMESTAMP: moment_of,
    ColumnType.DATE: lambda dice: dice.choice((date.min, date.max, date(1970, 1, 1), moment_of(dice).date())),
    ColumnType.JSON: json_text,
}
GOOD = {"a_tier": "gold", "a_code": "AB1", "a_price": Decimal("9.99"), "a_share": 0.5, "a_small_integer": 1, "a_float": 1.5}


def row_of(dice: Dice, feed: Feed, number: int) -> dict[str, Any]:
    """A row of which a few columns are hostile: if all were, none would be sent."""
    hostile = set(dice.sample(sorted(feed.columns), dice.choice((0, 1, 1, 2, 3))))
    row: dict[str, Any] = {}
    for name, column in feed.columns.items():
        usual = GOOD.get(name.removesuffix("_cleared"))
        row[name] = DRAWN[column.type](dice) if name in hostile else usual if dice.random() < 0.5 else None
    row |= {name: 7 for name in feed.columns if name.startswith("a_required")}
    row |= {"row_number": number, "customer_id": f"C{number:07d}", "loaded_at": START}
    row |= {"order_id": f"O{number}", feed.time_column: START + timedelta(microseconds=dice.randrange(86_400_000_000))}
    if number % 50 == 0:
        name = dice.choice(("customer_id", "order_id", feed.time_column, "loaded_at", "a_required"))
        row[name] = None if dice.random() < 0.5 else DRAWN[feed.columns[name].type](dice)
    return row


class Fuzzed:
    """Hostile rows, what was sent of them, and what was said about the others."""

    def __init__(self, feed: Feed, folder: Path) -> None:
        dice = random.Random(feed.kind.value)  # noqa: S311 - repeatable, not secret
        self.feed = feed
        self.rows = [row_of(dice, feed, number) for number in range(ROWS)]
        store, track = LocalStore(folder / "store"), RecordingTrack()
        manifest = stage(store, feed, DAY, self.rows, folder)
        self.report = deliver(feed, contract_of(feed), manifest, store, track.client(), folder)
        self.bodies = track.bodies
        self.operations: list[dict[str, Any]] = [o for body in self.bodies for o in json.loads(body)["batch"]]
        # The same, with numbers that have a point as Decimal.
        self.exact = [o for body in self.bodies for o in json.loads(body, parse_float=Decimal)["batch"]]
        self.rejections = pq.read_table(folder / "store" / "rejections" / feed.name / f"{DAY}.parquet").to_pylist()


@pytest.fixture(scope="module", params=[EVENTS, PEOPLE], ids=["event", "people"])
def fuzzed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Fuzzed:
    """One delivered day of hostile rows of each kind of feed."""
    return Fuzzed(request.param, tmp_path_factory.mktemp("fuzz"))


def test_every_row_is_sent_or_rejected_once(fuzzed: Fuzzed):
    """No row is in two operations, none in an operation and the rejections, none in neither; each rejection has a reason."""
    sent = [operation["attributes"]["row_number"] for operation in fuzzed.operations]
    assert len(set(sent)) == len(sent) == fuzzed.report.delivered > ROWS / 3
    (key,) = fuzzed.feed.key_columns
    others = [row[key] or "" for row in fuzzed.rows if row["row_number"] not in set(sent)]
    assert sorted(others) == sorted(rejection["business_key"] for rejection in fuzzed.rejections)
    assert len(others) == fuzzed.report.rejected > ROWS / 10
    assert fuzzed.report.is_conserved
    assert all(rejection["reason"] and rejection["message"] for rejection in fuzzed.rejections)
    assert len(fuzzed.report.rejected_by_reason) >= 12


def test_every_body_is_plain_json_within_the_limits(fuzzed: Fuzzed):
    """A plain parser reads each body, and the stand-in's rules take every operation in it; none is larger than allowed."""
    assert fuzzed.bodies
    for body in fuzzed.bodies:
        assert len(body) <= BATCH_BYTES
        assert set(json.loads(body)) == {"batch"}
    largest = max(len(json.dumps(o, ensure_ascii=False, separators=(",", ":")).encode()) for o in fuzzed.operations)
    assert largest <= OPERATION_BYTES
    assert [problems for operation in fuzzed.operations if (problems := problems_of(operation))] == []


def test_what_is_sent_is_what_the_row_held(fuzzed: Fuzzed):
    """Text, numbers and times arrive to the last digit and character; numbers within nested JSON to a double's."""
    for exact, plain in zip(fuzzed.exact, fuzzed.operations, strict=True):
        attributes = exact["attributes"]
        row = fuzzed.rows[attributes["row_number"]]
        for name in fuzzed.feed.sent_columns:
            column, value = fuzzed.feed.columns[name], row[name]
            if value is None and column.on_null == "omit":
                assert name not in attributes
            elif column.type is ColumnType.JSON and value is not None:
                assert plain["attributes"][name] == json.loads(REPAIRED_JSON.get(value) or value), name
            else:
                assert same(attributes[name], value), name


@pytest.mark.parametrize("unreadable", UNREADABLE_JSON.values(), ids=UNREADABLE_JSON)
def test_json_that_the_receiver_cannot_read_never_takes_its_body_along(unreadable: str, tmp_path: Path):
    """JSON by the book that common parsers refuse: that row is rejected, the good one beside it is delivered."""
    feed = feed_of("event", {"order_id": {"type": "string"}, "a_json": {"type": "json"}})
    usual = {"customer_id": "C0000001", "occurred_at": START, "loaded_at": START}
    rows = [{**usual, "order_id": "bad", "a_json": unreadable}, {**usual, "order_id": "good", "a_json": "[[1]]"}]
    store, track = LocalStore(tmp_path / "store"), RecordingTrack()
    report = deliver(feed, contract_of(feed), stage(store, feed, DAY, rows, tmp_path), store, track.client(), tmp_path)
    assert [operation["attributes"]["order_id"] for operation in track.operations] == ["good"]
    assert (report.delivered, report.rejected, report.is_conserved) == (1, 1, True)


@pytest.mark.skipif(SHARED is None, reason=SKIP_REASON)
def test_every_operation_is_as_published(fuzzed: Fuzzed):
    """The published schema of one operation holds for all of them."""
    assert SHARED is not None
    document = SHARED / "reference" / "customerio-openapi" / "track-v2-operation-schemas.json"
    validator = jsonschema.Draft202012Validator(json.loads(document.read_text("utf-8"))["entityOperation"])
    assert [error.message for operation in fuzzed.operations for error in validator.iter_errors(operation)] == []


def same(sent: Any, value: Any) -> bool:
    """True when a JSON value says what a cell held; times and dates are unix seconds, floored."""
    if value is None:
        return sent is None
    if isinstance(value, datetime):
        return sent == (value - EPOCH) // timedelta(seconds=1)
    if isinstance(value, date):
        return sent == (value - EPOCH.date()).days * 86_400
    if isinstance(value, float):
        return float(sent) == value
    return type(sent) is type(value) and sent == value if isinstance(value, str | bool) else Decimal(sent) == value
