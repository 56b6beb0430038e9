"""CDNOW: eighteen months of real purchases from a file through Redshift views and Dagster into Customer.io, to the cent."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.sandbox.processes import ManagedProcess, answers_http, command_line
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.shop import load_cdnow
from rs_cio_assets.settings import environment, load_settings
from rs_cio_assets.sync import JobOutcome, days_between
from rs_cio_assets_tests.both_ways import read_both_ways
from rs_cio_assets_tests.pipeline import Pipeline, delivered_by_day, free_port, open_pipeline
from rs_cio_assets_tests.s3_stand_in import ScriptedS3, unloading
from rs_cio_assets_tests.shared import SHARED, SKIP_REASON

FILE = SHARED / "data" / "cdnow_master.txt" if SHARED else Path("absent")
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
DAYS_PER_RUN = 92

pytestmark = [pytest.mark.skipif(not FILE.is_file(), reason=SKIP_REASON), pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Purchase:
    """One line of the file as it should stand in Customer.io."""

    person: str
    timestamp: int  # unix seconds
    total: Decimal

    @property
    def day(self) -> str:
        """The UTC day."""
        return datetime.fromtimestamp(self.timestamp, UTC).date().isoformat()


def purchases() -> dict[str, Purchase]:
    """Every line by its order id, read without the product: noon UTC of its re-dated day, ties a second apart."""
    lines = [line.split() for line in FILE.read_text().splitlines()[1:]]
    days = [date(int(day[:4]), int(day[4:6]), int(day[6:])) for _, day, _, _ in lines]
    shift = YESTERDAY - max(days)
    seen: Counter[tuple[str, date]] = Counter()
    found = {}
    for number, ((customer, _, _, dollars), day) in enumerate(zip(lines, days, strict=True), 1):
        noon = datetime.combine(day + shift, datetime.min.time(), UTC) + timedelta(hours=12, seconds=seen[customer, day])
        seen[customer, day] += 1
        found[f"O{number:07d}"] = Purchase(f"C{int(customer):07d}", int(noon.timestamp()), Decimal(dollars))
    return found


@dataclass
class Synced:
    """The pipeline after one run over the whole file, and what that took."""

    pipeline: Pipeline
    purchases: dict[str, Purchase]
    outcomes: list[JobOutcome]
    seconds: float
    peak_mib: float | None

    @property
    def days(self) -> list[str]:
        """Every day from the first purchase to yesterday."""
        return days_between(date.fromisoformat(min(p.day for p in self.purchases.values())), YESTERDAY)


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, scripted_s3: ScriptedS3) -> Iterator[Synced]:
    """The file loaded, all its days read by UNLOAD and synced once; the Customer.io stand-in is a process of its own."""
    home = tmp_path_factory.mktemp("cdnow")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = command_line("sandbox", "customerio", "--port", str(port), "--data", str(home / "customerio"))
    stand_in = ManagedProcess("the Customer.io stand-in", command, home / "customerio.log", environment({}))
    with RedshiftStandIn(home / "redshift", s3=scripted_s3.cluster_client) as redshift, stand_in:
        settings = load_settings(
            {
                "REDSHIFT_PORT": str(redshift.port),
                "CUSTOMERIO_TRACK_URL": url,
                "CUSTOMERIO_APP_URL": url,
                "RS_CIO_STORE": str(home / "store"),
                **unloading(scripted_s3),
            }
        )
        load_cdnow(settings.redshift, FILE, last_day=YESTERDAY, on_progress=lambda _: None)
        stand_in.wait_until(lambda: answers_http(f"{url}/sandbox/counts"))
        shipped = load_contract()
        contract = Contract(workspace=shipped.workspace, feeds=(shipped.feed("people"), shipped.feed("order_completed")))
        with open_pipeline(settings, contract) as pipeline:
            assert pipeline.create_views().is_success
            synced = Synced(pipeline, purchases(), [], 0, None)
            reset_peak_memory()
            started = time.monotonic()
            synced.outcomes = pipeline.sync(synced.days, days_per_run=DAYS_PER_RUN)
            synced.seconds, synced.peak_mib = time.monotonic() - started, peak_memory_mib()
            yield synced


def test_all_purchases_are_in_customerio_with_person_time_and_cents(synced: Synced, capsys: pytest.CaptureFixture[str]):
    """69,659 purchases in, 69,659 events out: each with its person, its time in UTC and its total; the sum to the cent."""
    assert [outcome.failures for outcome in synced.outcomes if not outcome.is_success] == []
    events = read_events(synced.pipeline)
    assert len(events) == len(synced.purchases) == 69_659
    assert {order: Purchase(*event) for order, event in events.items()} == synced.purchases
    assert sum(total for _, _, total in events.values()) == Decimal("2500315.63")
    with capsys.disabled():
        memory = "peak memory not known here" if synced.peak_mib is None else f"peak memory {synced.peak_mib:,.0f} MiB"
        print(f"\nCDNOW: {len(events):,} purchases over {len(synced.days)} days in {synced.seconds:.0f} s, {memory}")  # noqa: T201


def test_everybody_who_bought_is_a_person(synced: Synced):
    """23,570 customers in the file are 23,570 people, none of them made by an event alone, none refused."""
    counts = synced.pipeline.counts()
    assert counts["people"] == len({p.person for p in synced.purchases.values()}) == 23_570
    assert counts["did_not_take"] == 0


def test_counts_per_day_are_those_of_the_file(synced: Synced):
    """Events per day in Customer.io, and rows per partition in Dagster, are the lines per day of the file."""
    in_file = Counter(p.day for p in synced.purchases.values())
    assert {row["day"]: row["events"] for row in synced.pipeline.counts()["by_day"]} == in_file
    by_day = {day: metadata["rows"] for day, metadata in delivered_by_day(synced.outcomes, "order_completed").items()}
    assert by_day == {day: in_file.get(day, 0) for day in synced.days}


@pytest.mark.parametrize("days", [DAYS_PER_RUN, pytest.param(None, marks=pytest.mark.long)], ids=["the first quarter", "all"])
def test_a_second_sync_changes_nothing(synced: Synced, days: int | None):
    """The days with the most purchases again (with --long the whole file): nothing is sent, nothing is different."""
    before, again = (synced.pipeline.counts(), read_events(synced.pipeline)), synced.days[:days]
    outcomes = synced.pipeline.sync(again, days_per_run=DAYS_PER_RUN)
    for feed, rows in (("order_completed", 69_659), ("people", 23_570)):
        first, second = (delivered_by_day(of, feed) for of in (synced.outcomes, outcomes))
        assert sum(day["requests"] for day in second.values()) == 0
        assert {day: second[day]["unchanged"] for day in again} == {day: first[day]["rows"] for day in again}
        assert days or sum(day["unchanged"] for day in second.values()) == rows
    assert (synced.pipeline.counts(), read_events(synced.pipeline)) == before


def test_the_driver_gives_the_same_rows_and_operations(synced: Synced):
    """Both ways of reading end in the same rows on every day, and in the same bytes of the last month's operations."""
    contract = load_contract()
    for name, rows in (("order_completed", 69_659), ("people", 23_570)):
        feed = contract.feed(name)
        driver, unload = read_both_ways(synced.pipeline.settings, contract, feed, synced.days, synced.days[-31:])
        assert driver.rows.num_rows == rows
        assert unload.rows.equals(driver.rows)
        assert unload.operations == driver.operations
        assert len(driver.operations) > 500


def read_events(pipeline: Pipeline) -> dict[str, tuple[str, int, Any]]:
    """Every Order Completed that the stand-in holds, by order id: person, unix seconds, total as it was written."""
    url = f"{pipeline.settings.customerio.app_url}/sandbox/events"
    with httpx.stream("GET", url, params={"name": "Order Completed"}, timeout=120) as response:
        rows = [json.loads(line, parse_float=Decimal) for line in response.iter_lines()]
    found = {row["data"]["order_id"]: (row["person"], row["timestamp"], Decimal(row["data"]["order_total"])) for row in rows}
    assert len(found) == len(rows)
    return found


def reset_peak_memory() -> None:
    """Let the kernel count this process's peak memory from now on (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_memory_mib() -> float | None:
    """This process's peak resident memory in MiB since the reset; None where the kernel does not say."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else None
