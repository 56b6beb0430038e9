"""What stops a day before its first row: old journeys that a backfill would start, and more of what cannot be undone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from rs_cio_assets.assets.neighbours import read_campaigns
from rs_cio_assets.assets.run_config import is_backfill
from rs_cio_assets.contract import Feed
from rs_cio_assets.customerio import Campaign
from rs_cio_assets.delivery import DeliveryOptions, DeliveryReport, Neighbours, deliver_day, preview_day
from rs_cio_assets.delivery.guards import FEW_ROWS
from rs_cio_assets.errors import DeliveryRefused
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import LocalStore, Store
from rs_cio_assets_tests.staging import NOW, RecordingTrack, contract_of, feed_of, stage

DAY = "2026-11-20"
AT = datetime(2026, 11, 20, 12, tzinfo=UTC)
YOUNG = AT + timedelta(hours=30)  # a clock by which AT could still start a campaign
ORDERS = feed_of("event", {"order_id": {"type": "string"}}, name="orders", view="cio_export.orders")
FOLK = feed_of("people", {"tier": {"type": "string"}}, name="folk", view="cio_export.folk")
BRAKED: dict[str, Any] = {"enabled": True, "max_rows_per_day": 3, "max_people_share": 0.5}
DELETIONS = feed_of("deletion", {}, name="deletions", view="cio_export.deletions", **BRAKED)
BY_EVENT = Campaign(7, "After the order", is_running=True, event_name="Order Completed", trigger_segment_ids=())
BY_SEGMENT = Campaign(9, "Win back", is_running=True, event_name=None, trigger_segment_ids=(4,))
BACKFILL = DeliveryOptions(is_backfill=True)
Answer = Callable[[httpx.Request], httpx.Response | None]


class Days:
    """Days of some feeds over one store. No two runs have the same id or the same clock."""

    def __init__(self, scratch: Path, *feeds: Feed, store: Store | None = None) -> None:
        self.scratch, self.contract = scratch, contract_of(*feeds)
        self.store = store or LocalStore(scratch / "store")
        self.tracks: dict[str, RecordingTrack] = {}
        self._runs = 0

    def run(
        self,
        feed: Feed,
        rows: Sequence[Mapping[str, Any]],
        *,
        day: str = DAY,
        now: datetime = NOW,
        options: DeliveryOptions = DeliveryOptions(),  # noqa: B008 - frozen
        answer: Answer = lambda _: None,
        view_rows: int = 100,
        campaigns: Callable[[], Sequence[Campaign]] = tuple,
        deliver_people: Callable[[pa.ChunkedArray], None] | None = None,
    ) -> DeliveryReport:
        """Export *rows* as the feed's day and deliver them; every row has exactly one outcome."""
        self._runs += 1
        manifest = replace(stage(self.store, feed, day, rows, self.scratch), view_rows=view_rows)
        self.tracks[feed.name] = RecordingTrack(answer)
        with self.tracks[feed.name].client() as client:
            report = deliver_day(
                feed,
                self.contract,
                manifest,
                self.store,
                client,
                run_id=f"{self._runs:08d}-test",
                now=lambda moment=now + timedelta(milliseconds=self._runs): moment,
                scratch=self.scratch,
                concurrency=3,
                options=options,
                neighbours=Neighbours(campaigns, deliver_people),
            )
        assert report.is_conserved
        return report

    def sent(self, feed: Feed) -> list[dict[str, Any]]:
        """What Customer.io took of the latest run of *feed*, in order."""
        return self.tracks[feed.name].operations

    def is_untouched(self, feed: Feed) -> bool:
        """True when the latest run made no request at all and left nothing behind."""
        track = self.tracks[feed.name]
        kept = [key for key in self.store.list("") if not key.startswith("staged/")]
        return (track.bodies, track.times_asked_for_region, kept) == ([], 0, [])


def never() -> Sequence[Campaign]:
    """Fails the test: nobody may ask for the campaigns."""
    raise AssertionError("the campaigns were asked for")


def order(number: int, **changes: Any) -> dict[str, Any]:
    """A good order."""
    return {"customer_id": "C0000001", "occurred_at": AT, "loaded_at": AT, "order_id": f"O{number}", **changes}


def person(number: int, **changes: Any) -> dict[str, Any]:
    """A good row of a feed with one row per person."""
    return {"customer_id": f"C{number:07d}", "updated_at": AT, "loaded_at": AT, **changes}


@pytest.mark.parametrize(
    ("feed", "row", "campaign", "name"),
    [(ORDERS, order(1), BY_EVENT, "After the order"), (FOLK, person(1), BY_SEGMENT, "Win back")],
    ids=["event", "people"],
)
def test_a_backfill_that_would_start_a_running_campaign_is_refused_before_the_first_row(
    feed: Feed, row: dict[str, Any], campaign: Campaign, name: str, tmp_path: Path
):
    """JR2: it is named with its number and the count of rows; no request, no ledger, no rejection is made."""
    days = Days(tmp_path, ORDERS, FOLK)
    rejected = {**row, "customer_id": None}
    with pytest.raises(DeliveryRefused) as refused:
        days.run(feed, [row, rejected], now=YOUNG, options=BACKFILL, campaigns=lambda: [BY_EVENT, BY_SEGMENT])
    assert f"would send 1 {'events' if feed is ORDERS else 'changes'}" in str(refused.value)
    assert f"{name} (campaign {campaign.campaign_id})" in str(refused.value)
    assert "on_backfill: accept" in refused.value.next_step
    assert ("hold" in refused.value.next_step) == (feed is ORDERS)
    assert (refused.value.feed, refused.value.day) == (feed.name, DAY)
    assert days.is_untouched(feed)
    assert days.run(feed, [row], now=YOUNG, options=replace(BACKFILL, on_backfill="accept"), campaigns=never).delivered == 1


@pytest.mark.parametrize(
    ("feed", "row", "harmless"),
    [
        (ORDERS, order(1), [replace(BY_EVENT, is_running=False), replace(BY_EVENT, event_name="Order"), BY_SEGMENT]),
        (FOLK, person(1), [replace(BY_SEGMENT, is_running=False), replace(BY_SEGMENT, trigger_segment_ids=()), BY_EVENT]),
    ],
    ids=["event", "people"],
)
def test_campaigns_that_the_rows_cannot_start_do_not_stop_a_backfill(
    feed: Feed, row: dict[str, Any], harmless: list[Campaign], tmp_path: Path
):
    """JR2: drafts, stopped ones, other events and other triggers are no reason to refuse."""
    assert Days(tmp_path, feed).run(feed, [row], now=YOUNG, options=BACKFILL, campaigns=lambda: harmless).delivered == 1


def test_only_rows_that_would_go_and_could_start_something_are_counted(tmp_path: Path):
    """JR2: of a day with older rows, delivered ones, doubles and a bad one, the refusal counts the two that matter."""
    days = Days(tmp_path, ORDERS)
    assert days.run(ORDERS, [order(1)], now=YOUNG).delivered == 1
    noon = AT + timedelta(hours=72)
    rows = [order(1), order(2), order(3), order(3), order(4, occurred_at=None), order(5, occurred_at=AT - timedelta(hours=1))]
    with pytest.raises(DeliveryRefused, match="would send 2 events"):
        days.run(ORDERS, rows, now=noon, options=BACKFILL, campaigns=lambda: [BY_EVENT])


@pytest.mark.parametrize(
    ("rows", "now", "options"),
    [
        ([order(1)], YOUNG, DeliveryOptions()),
        ([order(1)], YOUNG, DeliveryOptions(on_backfill="refuse")),
        ([order(1)], AT + timedelta(days=9), BACKFILL),
        ([order(1, customer_id=None)], YOUNG, BACKFILL),
        ([], YOUNG, BACKFILL),
    ],
    ids=["no_backfill", "no_backfill_but_a_wish", "all_older_than_72_hours", "nothing_to_send", "empty_day"],
)
def test_the_campaigns_are_asked_for_only_where_a_backfill_sends_young_rows(
    rows: list[dict[str, Any]], now: datetime, options: DeliveryOptions, tmp_path: Path
):
    """JR2: everyday runs and old days need no App API."""
    days = Days(tmp_path, ORDERS)
    expected = sum(row["customer_id"] is not None for row in rows)
    assert days.run(ORDERS, rows, now=now, options=options, campaigns=never).delivered == expected


@pytest.mark.parametrize("is_by_contract", [True, False], ids=["contract", "run_config"])
def test_a_backfill_on_hold_waits_until_its_rows_are_history(is_by_contract: bool, tmp_path: Path):
    """JR2: held with the date at which the last of them may go, then sent without asking anybody."""
    orders = ORDERS.model_copy(update={"on_backfill": "hold"}) if is_by_contract else ORDERS
    options = BACKFILL if is_by_contract else replace(BACKFILL, on_backfill="hold")
    days, rows = Days(tmp_path, orders), [order(1), order(2, occurred_at=AT + timedelta(hours=2))]
    first = days.run(orders, rows, now=YOUNG, options=options, campaigns=never)
    due = AT + timedelta(hours=74, minutes=5)
    assert (first.held, first.held_until, first.requests) == (2, due, 0)
    second = days.run(orders, rows, now=due, options=options, campaigns=never)
    assert (second.delivered, second.could_trigger, second.held_until) == (2, 0, None)


def test_the_refusal_names_ten_campaigns_at_most(tmp_path: Path):
    """JR2: a workspace with many journeys gives a text that can be read."""
    many = [replace(BY_EVENT, campaign_id=number, name="" if number == 1 else f"N{number}") for number in range(1, 13)]
    with pytest.raises(DeliveryRefused) as refused:
        Days(tmp_path, ORDERS).run(ORDERS, [order(1)], now=YOUNG, options=BACKFILL, campaigns=lambda: many)
    assert "unnamed (campaign 1), N2 (campaign 2)" in str(refused.value)
    assert "N10 (campaign 10) and 2 more" in str(refused.value)


def test_the_campaigns_are_those_that_the_workspace_lists_at_that_moment(tmp_path: Path, customerio: CustomerioStandIn):
    """JR2: a campaign that is switched on in Customer.io stops the next backfill; stopped again, it goes through."""
    settings = load_settings({"CUSTOMERIO_TRACK_URL": customerio.url, "CUSTOMERIO_APP_URL": customerio.url}).customerio
    days, wanted = Days(tmp_path, ORDERS), {"name": "After the order", "event_name": "Order Completed"}
    for state, is_refused in (("draft", False), ("running", True), ("stopped", False)):
        httpx.put(f"{customerio.url}/sandbox/campaigns/7", json={**wanted, "state": state}).raise_for_status()
        rows = [order(1, order_id=state)]
        if is_refused:
            with pytest.raises(DeliveryRefused, match="After the order"):
                days.run(ORDERS, rows, now=YOUNG, options=BACKFILL, campaigns=lambda: read_campaigns(settings))
        else:
            report = days.run(ORDERS, rows, now=YOUNG, options=BACKFILL, campaigns=lambda: read_campaigns(settings))
            assert report.delivered == 1


def test_without_an_app_key_a_backfill_of_young_rows_is_refused_with_the_variable(tmp_path: Path):
    """JR2: who cannot ask does not send; the text names what to set, and the other ways."""
    settings = load_settings({}).customerio.model_copy(update={"app_api_key": None})
    days = Days(tmp_path, ORDERS)
    with pytest.raises(DeliveryRefused) as refused:
        days.run(ORDERS, [order(1)], now=YOUNG, options=BACKFILL, campaigns=lambda: read_campaigns(settings))
    assert "CUSTOMERIO_APP_API_KEY" in refused.value.next_step
    assert days.is_untouched(ORDERS)


def test_a_preview_names_the_campaigns_and_refuses_nothing(tmp_path: Path):
    """JR2: what would be started is shown before anybody asks for it; nothing is written."""
    days = Days(tmp_path, ORDERS)
    manifest = stage(days.store, ORDERS, DAY, [order(1)], tmp_path)
    neighbours = Neighbours(campaigns=lambda: [BY_EVENT, BY_SEGMENT])
    for now, could_trigger, campaigns in ((YOUNG, 1, (BY_EVENT,)), (NOW + timedelta(days=9), 0, None)):
        shown = preview_day(
            ORDERS,
            days.contract,
            manifest,
            days.store,
            now=now,
            scratch=tmp_path,
            rows=1,
            options=BACKFILL,
            neighbours=neighbours,
        )
        assert (shown.could_trigger, shown.campaigns) == (could_trigger, campaigns)
        assert [operation["name"] for operation in shown.operations] == ["Order Completed"]
    assert all(key.startswith("staged/") for key in days.store.list(""))


@pytest.mark.parametrize(
    ("tags", "day", "expected"),
    [
        ({}, "2026-11-24", False),
        ({}, "2026-11-23", False),
        ({}, "2026-11-22", True),
        ({"dagster/backfill": "abc"}, "2026-11-24", True),
        ({"dagster/backfill": "abc", "rs_cio/reason": "late_data"}, "2026-11-20", False),
        ({"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}, "2026-11-24", True),
        ({"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "a"}, "2026-11-24", False),
    ],
)
def test_a_run_is_a_backfill_unless_it_is_everyday_business(tags: dict[str, str], day: str, expected: bool):
    """JR2: today, yesterday and late data are live; Dagster's backfills, ranges and older days are not."""
    assert is_backfill(tags, day, date(2026, 11, 24)) is expected


def test_more_than_the_ceiling_sends_none(tmp_path: Path):
    """A day with more deletions than max_rows_per_day makes no request; with as many it goes; has_no_brake lets it through."""
    days, rows = Days(tmp_path, DELETIONS), [person(n) for n in range(4)]
    with pytest.raises(DeliveryRefused, match="4 rows of the day would be sent, max_rows_per_day is 3") as refused:
        days.run(DELETIONS, rows)
    assert "has_no_brake: true" in refused.value.next_step
    assert days.is_untouched(DELETIONS)
    assert days.run(DELETIONS, rows[:3]).delivered == 3
    everything = days.run(DELETIONS, rows, options=DeliveryOptions(has_no_brake=True))
    assert (everything.delivered, everything.unchanged) == (1, 3)


def test_more_than_the_share_of_all_people_sends_none(tmp_path: Path):
    """Half of 25 people is 12: 13 deletions are too many, 12 are not; ten may always go, so that a small shop can begin."""
    assert FEW_ROWS == 10
    days = Days(tmp_path, FOLK, DELETIONS.model_copy(update={"max_rows_per_day": 100}))
    feed = days.contract.feed(DELETIONS.name)
    days.run(FOLK, [person(n) for n in range(25)])
    with pytest.raises(DeliveryRefused, match=r"13 rows of the day would be sent, more than max_people_share \(50.00%\) of 25"):
        days.run(feed, [person(n) for n in range(13)])
    assert days.run(feed, [person(n) for n in range(12)]).delivered == 12
    few = Days(tmp_path, FOLK, feed, store=LocalStore(tmp_path / "few"))
    few.run(FOLK, [person(1)])
    assert few.run(feed, [person(n) for n in range(10)]).delivered == 10


@pytest.mark.parametrize("view_rows", [0, 89], ids=["empty", "shrunk"])
def test_a_view_that_is_empty_or_shrank_sends_none(view_rows: int, tmp_path: Path):
    """SZ3: also on a day without rows; once mended, or once let through on purpose, it goes on from there."""
    days = Days(tmp_path, DELETIONS)
    assert days.run(DELETIONS, [person(1)], view_rows=100).delivered == 1
    for rows in ([person(1), person(2)], []):
        with pytest.raises(DeliveryRefused, match=f"holds {view_rows} rows and held 100 before"):
            days.run(DELETIONS, rows, day="2026-11-21", view_rows=view_rows)
    rows = [person(2, updated_at=AT + timedelta(days=1))]
    assert days.run(DELETIONS, rows, day="2026-11-21", view_rows=90).delivered == 1
    accepted = DeliveryOptions(has_no_brake=True)
    days.run(DELETIONS, [], day="2026-11-22", view_rows=view_rows, options=accepted)
    assert days.run(DELETIONS, [], day="2026-11-23", view_rows=view_rows).rows == 0


def test_a_view_that_shrinks_a_little_each_day_is_found_out(tmp_path: Path):
    """SZ3: it is compared with the largest size it ever had, not with yesterday's."""
    days = Days(tmp_path, DELETIONS)
    for number, view_rows in enumerate((100, 95, 91)):
        days.run(DELETIONS, [], day=f"2026-11-{20 + number}", view_rows=view_rows)
    with pytest.raises(DeliveryRefused, match="holds 87 rows and held 100 before"):
        days.run(DELETIONS, [], day="2026-11-23", view_rows=87)
