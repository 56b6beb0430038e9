"""The summary that the command line prints: sums that add up, and nothing that went wrong left out."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import pytest
from dagster import AssetKey
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from rs_cio_assets.assets.metadata import delivery_metadata
from rs_cio_assets.checks.results import NOT_READY
from rs_cio_assets.delivery import DeliveryReport, LateArrivals
from rs_cio_assets.store import Fingerprint, Manifest
from rs_cio_assets.summary import FeedTotals, add_up, checks_table, feeds_table
from rs_cio_assets.sync import CheckOutcome, JobOutcome, Materialization
from rs_cio_assets_tests.staging import READ_AT

COUNTS = ("delivered", "unchanged", "amended", "duplicates", "held", "rejected")
DAYS = [f"2026-11-{day:02d}" for day in range(1, 31)]


def materialization(feed: str, day: str, seconds: float = 0.5, **counts: int) -> Materialization:
    """What the feed's asset says after delivering a day: the product's own metadata of a report."""
    report = DeliveryReport(feed=feed, day=day, rows=sum(counts.values()), seconds=seconds, **counts)
    manifest = Manifest(feed, day, f"cio_export.{feed}", Fingerprint(report.rows, None, "x"), report.rows, (), (), READ_AT)
    said = delivery_metadata(report, manifest, LateArrivals())
    metadata = {name: getattr(value, "value", value) for name, value in said.items()}
    return Materialization(AssetKey(["customerio", "feeds", feed]), day, metadata)


def outcome(
    days: Sequence[str], materializations: Sequence[Materialization] = (), checks: Sequence[CheckOutcome] = ()
) -> JobOutcome:
    """One run."""
    return JobOutcome("sync_day", tuple(days), "run", True, tuple(materializations), tuple(checks), ())


def check(
    asset: str, *, name: str = "row_conservation", is_passed: bool = False, says: str = "said", **more: Any
) -> CheckOutcome:
    """One evaluated check."""
    return CheckOutcome(asset, name, is_passed, more.get("is_error", True), says)


def printed(table: Table, width: int = 200) -> str:
    """The table as a terminal shows it."""
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def shown_rows(table: Table) -> dict[str, dict[str, str]]:
    """Cells by feed and column."""
    heads = [str(column.header) for column in table.columns]
    cells = zip(*(column.cells for column in table.columns), strict=True)
    return {str(row[0]): dict(zip(heads, map(str, row), strict=True)) for row in cells}


a_day = st.fixed_dictionaries({name: st.integers(0, 10**9) for name in COUNTS})


@given(
    st.dictionaries(st.sampled_from(["people", "orders", "checkouts"]), st.lists(a_day, min_size=1, max_size=30)),
    st.integers(1, 8),
)
def test_totals_are_the_sums_over_all_days_however_they_were_run(by_feed: dict[str, list[dict[str, int]]], days_per_run: int):
    """A run for each day and runs over ranges of days give the same totals, and they are the plain sums."""
    wanted = {
        feed: {name: sum(day[name] for day in days) for name in COUNTS} | {"days": len(days)} for feed, days in by_feed.items()
    }
    for size in (1, days_per_run):
        runs = []
        for start in range(0, 30, size):
            days = DAYS[start : start + size]
            done = [
                materialization(feed, day, **counts[DAYS.index(day)])
                for feed, counts in by_feed.items()
                for day in days
                if DAYS.index(day) < len(counts)
            ]
            runs.append(outcome(days, done))
        totals = add_up(runs)
        assert {t.feed: {name: getattr(t, name) for name in (*COUNTS, "days")} for t in totals} == wanted
        for total in totals:
            assert total.rows == sum(getattr(total, name) for name in COUNTS)
            assert total.seconds == pytest.approx(0.5 * total.days)


def test_only_deliveries_are_counted():
    """Views, exports and checks' runs add nothing: a row is counted where it was delivered."""
    exported = Materialization(AssetKey(["redshift", "exports", "people"]), DAYS[0], {"rows": 5})
    view = Materialization(AssetKey(["redshift", "views", "people"]), None, {})
    assert add_up([outcome(DAYS[:1], [view, exported]), outcome([])]) == []
    (people,) = add_up([outcome(DAYS[:1], [exported, materialization("people", DAYS[0], delivered=5)])])
    assert people == FeedTotals("people", days=1, rows=5, delivered=5, seconds=0.5)


def test_the_last_line_is_the_sum_of_the_others():
    """All feeds together: rows and outcomes add up in print, the days are those of the longest feed."""
    totals = add_up(
        [
            outcome(DAYS[:2], [materialization("people", day, delivered=1_234, held=2) for day in DAYS[:2]]),
            outcome(DAYS[:1], [materialization("orders", DAYS[0], rejected=7, unchanged=3)]),
        ]
    )
    rows = shown_rows(feeds_table(totals))
    assert list(rows) == ["people", "orders", "all feeds"]
    assert rows["people"]["delivered"] == "2,468"
    assert rows["all feeds"] == {
        "feed": "all feeds",
        "days": "2",
        "rows": "2,482",
        "delivered": "2,468",
        "unchanged": "3",
        "rejected": "7",
        "held": "4",
        "seconds": "1.5",
    }


@pytest.mark.parametrize("name", COUNTS)
def test_no_outcome_of_a_row_is_left_out_of_the_table(name: str):
    """Whatever happened to a single row stands in print, also the outcomes that have no column when there are none."""
    rows = shown_rows(feeds_table(add_up([outcome(DAYS[:1], [materialization("people", DAYS[0], **{name: 1})])])))
    assert rows["people"][name] == rows["all feeds"][name] == "1"


def test_nothing_synced_is_a_table_of_zeros():
    """No run at all prints a line that says so, and no error."""
    rows = shown_rows(feeds_table([]))
    assert list(rows) == ["all feeds"]
    assert {float(value) for name, value in rows["all feeds"].items() if name != "feed"} == {0.0}


def test_every_different_thing_that_a_failed_check_said_is_shown():
    """One asset failing on three days in two ways shows both texts and how often, whatever passed beside it."""
    runs = [
        outcome(DAYS[:1], checks=[check("customerio/feeds/people", says="2 rows are missing")]),
        outcome(DAYS[1:2], checks=[check("customerio/feeds/people", says="7 rows are missing")]),
        outcome(DAYS[2:3], checks=[check("customerio/feeds/people", says="7 rows are missing")]),
        outcome(DAYS[3:4], checks=[check("customerio/feeds/people", is_passed=True, says="all there")]),
        outcome(DAYS[3:4], checks=[check("customerio/feeds/orders", says="1 row is missing", is_error=False)]),
    ]
    text = printed(checks_table(runs))
    assert re.search(r"row_conservation\W+1/5", text)
    assert "customerio/feeds/people: 2 rows are missing" in text
    assert "customerio/feeds/people: 7 rows are missing (2 times)" in text
    assert "customerio/feeds/orders: 1 row is missing" in text
    assert "all there" not in text


def test_a_check_that_could_say_nothing_yet_is_not_ready_and_no_failure():
    """In place of 0/1, which looks like one; where some of its assets could be judged, those are counted."""
    waiting = check("customerio/feeds/people", says=f"{NOT_READY} nothing is due")
    assert re.search(r"row_conservation\W+not ready", printed(checks_table([outcome(DAYS[:1], checks=[waiting])])))
    passed = check("customerio/feeds/orders", is_passed=True)
    assert re.search(r"row_conservation\W+1/2", printed(checks_table([outcome(DAYS[:1], checks=[waiting, passed])])))


def test_a_long_failure_is_folded_and_never_cut():
    """On a narrow terminal every word of a failed check still stands there, marks of rich's own markup included."""
    says = " ".join(f"[word{n}]" for n in range(60))
    text = printed(checks_table([outcome(DAYS[:1], checks=[check("customerio/feeds/people", says=says)])]), width=80)
    assert re.findall(r"\[word(\d+)\]", re.sub(r"[│┃\s]", "", text)) == [str(n) for n in range(60)]
    assert "…" not in text


@pytest.mark.parametrize(
    ("says", "shown"),
    [(["Fine.", "Fine."], "Fine."), (["3 rows.", "4 rows."], "passed everywhere")],
    ids=["the same words", "different words"],
)
def test_checks_that_passed_take_one_line(says: list[str], shown: str):
    """Green over all assets: what they all say, or that they passed everywhere, and how many there were."""
    runs = [
        outcome([day], checks=[check("customerio/feeds/people", is_passed=True, says=s)])
        for day, s in zip(DAYS, says, strict=False)
    ]
    text = printed(checks_table(runs))
    assert re.search(rf"row_conservation\W+2/2\W+{re.escape(shown)}", text)
