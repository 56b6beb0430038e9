"""The read-back check: green for what was sent and for nothing else, clear when it cannot know, and without a name in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rs_cio_assets.checks import build_read_back_check
from rs_cio_assets.customerio import TrackClient, app
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.delivery import deliver_day
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore, load_manifest
from rs_cio_assets.sync import CheckOutcome, JobOutcome
from rs_cio_assets_tests.pipeline import open_pipeline
from rs_cio_assets_tests.running_checks import ChecksRun, run_checks
from rs_cio_assets_tests.staging import contract_of, feed_of, stage

FOLK = feed_of(
    "people",
    {
        "tier": {"type": "string", "required": True},
        "nickname": {"type": "string"},
        "worth": {"type": "decimal", "precision": 14, "scale": 2},
        "orders_count": {"type": "integer"},
        "is_guest": {"type": "boolean"},
        "seen_at": {"type": "timestamp", "on_null": "clear"},
        "born_on": {"type": "date"},
        "share": {"type": "float"},
        "likes": {"type": "json"},
    },
    name="folk",
    view="cio_export.folk",
)
ORDERS = feed_of(
    "event",
    {
        "order_id": {"type": "string", "required": True},
        "total": {"type": "decimal", "precision": 12, "scale": 2},
        "likes": {"type": "json"},
    },
    name="orders",
    view="cio_export.orders",
)
PAUSES = feed_of(
    "event",
    {"subscription_id": {"type": "string", "required": True}},
    name="pauses",
    view="cio_export.pauses",
    event_name="Subscription Paused",
    business_key=("subscription_id", "occurred_at"),
)
CONTRACT = contract_of(FOLK, ORDERS, PAUSES)
GREEN = {"folk", "orders", "pauses"}
YESTERDAY = datetime.now(UTC).replace(hour=12, minute=30, second=15, microsecond=999_999) - timedelta(days=1)
LIKES = ['{"a": [1, 2.5, true], "b": null}', '"1"', "null", '""', '"O\'Neill"', "[true]"]
ROWS: dict[str, list[dict[str, Any]]] = {
    "folk": [
        {
            "customer_id": f"C000000{n}",
            "updated_at": YESTERDAY,
            "loaded_at": YESTERDAY,
            "tier": "gold",
            "nickname": ["Zoë", "", None, " x ", "1", "true"][n],
            "worth": Decimal("410.90"),
            "orders_count": n,
            "is_guest": n % 2 == 0,
            "seen_at": [YESTERDAY, None, datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)][n % 3],
            "born_on": datetime(1960 + 5 * n, 2, 28, tzinfo=UTC).date(),
            "share": [0.1, 1e22, -0.0, 5e-324, 1.0, None][n],
            "likes": likes,
        }
        for n, likes in enumerate(LIKES)
    ],
    "orders": [
        {
            "customer_id": f"C000000{n % 2}",
            "occurred_at": YESTERDAY - timedelta(minutes=n),
            "loaded_at": YESTERDAY,
            "order_id": f"O{n}",
            "total": Decimal("9.90"),
            "likes": likes,
        }
        for n, likes in enumerate(LIKES)
    ],
    # Paused twice: two events of one subscription, told apart by their time alone.
    "pauses": [
        {
            "customer_id": "C0000003",
            "occurred_at": YESTERDAY - timedelta(hours=n),
            "loaded_at": YESTERDAY,
            "subscription_id": "S1",
        }
        for n in range(2)
    ],
}


class Answers:
    """A layer around the stand-in that answers for its App API: *scripted* is by the path's last word."""

    def __init__(self) -> None:
        self.scripted: dict[str, Any] = {}

    def around(self, inner: ASGIApp) -> ASGIApp:
        """The application behind this layer."""

        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            word = scope["path"].rpartition("/")[2] if scope["type"] == "http" else ""
            answer = JSONResponse(self.scripted[word]) if word in self.scripted else inner
            await answer(scope, receive, send)

        return layer


class Synced:
    """Three feeds in a store and in the Customer.io stand-in, and the check over them."""

    def __init__(self, settings: Settings, scratch: Path, answers: Answers) -> None:
        self.settings = settings
        self.answers = answers
        self.store = LocalStore(scratch / "store")
        self.shown = ""
        self._scratch = scratch

    def stage(self, rows: Mapping[str, list[dict[str, Any]]] = ROWS) -> None:
        """Leave the export of yesterday for the feeds in *rows*."""
        for name, found in rows.items():
            stage(self.store, CONTRACT.feed(name), DAY, found, self._scratch, read_at=datetime.now(UTC) - timedelta(minutes=5))

    def deliver(self) -> None:
        """Send what is staged, as the feeds' assets do."""
        for feed in CONTRACT.enabled_feeds:
            manifest = load_manifest(self.store, feed.name, DAY)
            with TrackClient(self.settings.customerio) as track:
                assert manifest
                report = deliver_day(
                    feed,
                    CONTRACT,
                    manifest,
                    self.store,
                    track,
                    run_id="11111111-test",
                    now=lambda: datetime.now(UTC),
                    scratch=self._scratch,
                    concurrency=2,
                )
            assert report.delivered == len(ROWS[feed.name]), report.rejected_by_reason

    def send(self, *operations: dict[str, Any]) -> None:
        """What somebody else sends to the workspace through the Track API."""
        customerio = self.settings.customerio
        answer = httpx.post(
            f"{customerio.track_url}/api/v2/batch",
            json={"batch": [{"type": "person", **operation} for operation in operations]},
            auth=(customerio.site_id, customerio.api_key.get_secret_value()),
        )
        assert (answer.status_code, answer.text) == (200, "{}")

    def check(self, feed: str, **config: Any) -> ChecksRun:
        """One feed's check alone, with its config."""
        return run_checks(self.settings, [build_read_back_check(CONTRACT.feed(feed), CONTRACT)], config)

    def run(self, settings: Settings | None = None) -> JobOutcome:
        """One run of the job read_back; everything that it showed is kept."""
        with open_pipeline(settings or self.settings, CONTRACT) as pipeline:
            outcome = pipeline.read_back()
            self.shown = "\n".join(str(record) for record in pipeline.instance.all_logs(outcome.run_id)) + str(outcome)
        return outcome

    def checks(self) -> dict[str, CheckOutcome]:
        """The check of each feed; none of them may show whom it looked at."""
        outcome = self.run()
        assert outcome.is_success, outcome.failures
        assert not re.search("C000000[0-9]|Zoë", self.shown)
        return {check.asset.rpartition("/")[2]: check for check in outcome.checks}


DAY = YESTERDAY.date().isoformat()


@pytest.fixture
def unsent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Synced]:
    """An empty store and an empty workspace, read at any pace: the pace has tests of its own."""
    monkeypatch.setattr(app, "_PACE", Pace(10_000))
    answers = Answers()
    with CustomerioStandIn(tmp_path / "customerio", wrap=answers.around) as stand_in:
        urls = {"CUSTOMERIO_TRACK_URL": stand_in.url, "CUSTOMERIO_APP_URL": stand_in.url}
        others = {"RS_CIO_STORE": str(tmp_path / "store"), "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000"}
        yield Synced(load_settings(urls | others), tmp_path, answers)


@pytest.fixture
def synced(unsent: Synced) -> Synced:
    """Everything staged and delivered."""
    unsent.stage()
    unsent.deliver()
    return unsent


def of(person: str, action: str, **more: Any) -> dict[str, Any]:
    """An operation on one person."""
    return {"action": action, "identifiers": {"id": person}, **more}


def event(order_id: str, **more: Any) -> dict[str, Any]:
    """An Order Completed of the first customer, as it was delivered but for *more*."""
    row = next(row for row in ROWS["orders"] if row["order_id"] == order_id)
    attributes = {"order_id": order_id, "total": 9.9, "likes": json.loads(row["likes"]), **more.pop("attributes", {})}
    usual = {"name": "Order Completed", "timestamp": int(row["occurred_at"].timestamp())}
    return of(row["customer_id"], "event", attributes=attributes, **{**usual, **more})


def test_what_was_sent_is_green_and_says_how_much_was_looked_at(synced: Synced):
    """Every type of value, empty texts, JSON scalars, far times and two events of one key: all rows read back as sent."""
    checks = synced.checks()
    assert {name for name, check in checks.items() if check.is_passed} == GREEN, checks
    assert {name: check.description for name, check in checks.items()} == {
        "folk": "All 6 sampled rows are in Customer.io as they were sent (today and the 14 days before).",
        "orders": "All 6 sampled rows are in Customer.io as they were sent (today and the 14 days before).",
        "pauses": "All 2 sampled rows are in Customer.io as they were sent (today and the 14 days before).",
    }


@pytest.mark.parametrize(
    ("operations", "red", "said"),
    [
        ([of("C0000001", "identify", attributes={"tier": "silver"})], {"folk": 1}, "differs in tier"),
        ([of("C0000001", "identify", attributes={"worth": 410.91, "is_guest": 1})], {"folk": 1}, "differs in worth, is_guest"),
        ([of("C0000000", "identify", attributes={"seen_at": None})], {"folk": 1}, "differs in seen_at"),
        ([of("C0000001", "identify", attributes={"seen_at": 5})], {"folk": 1}, "differs in seen_at"),
        ([of("C0000000", "identify", attributes={"likes": {"a": [1, 2.5, 1], "b": None}})], {"folk": 1}, "differs in likes"),
        ([of(f"C000000{n}", "identify", attributes={"tier": "none"}) for n in range(4)], {"folk": 4}, "differs in tier"),
        ([of("C0000005", "delete")], {"folk": 1}, "there is no profile"),
        ([of("C0000003", "delete")], {"folk": 1, "pauses": 2}, "has this event 0 times"),
        ([event("O1", id="01ARZ3NDEKTSV4RRFFQ69G5FAV")], {"orders": 1}, "has this event 2 times"),
        (
            [
                of("C0000000", "delete"),
                event("O0"),
                event("O2", attributes={"total": 9.91}),
                event("O4", timestamp=1_700_000_000),
            ],
            {"folk": 1, "orders": 2},
            "differs in occurred_at",
        ),
        ([of("C0000001", "delete"), event("O1"), event("O3")], {"folk": 1, "orders": 1}, "has this event 0 times"),
        ([event("O0", name="order completed"), of("C0000000", "identify", attributes={"added": "by hand"})], {}, ""),
    ],
    ids=[
        "an attribute changed",
        "two attributes of one person",
        "an attribute gone",
        "an attribute that should be gone",
        "true became 1 in JSON",
        "four people",
        "a person deleted",
        "a person with events deleted",
        "an event doubled",
        "an event's property and another's time",
        "an event missing",
        "what is none of the feed's business",
    ],
)
def test_what_differs_in_customerio_is_red_with_how_many(
    synced: Synced, operations: list[dict[str, Any]], red: dict[str, int], said: str
):
    """DL4: whatever somebody changes, deletes or doubles turns the right feed red, with the number of rows and what it is."""
    synced.send(*operations)
    checks = synced.checks()
    assert {name for name, check in checks.items() if not check.is_passed} == set(red)
    for name, count in red.items():
        rows, are = len(ROWS[name]), "is" if count == 1 else "are"
        assert checks[name].description.startswith(f"{count} of {rows} sampled rows {are} not in Customer.io as they were sent.")
        assert "Next step" in checks[name].description
        assert checks[name].is_error
    assert said in synced.shown


NAME = "customerio_holds_what_was_sent"


def test_a_complete_look_asks_for_every_row_and_counts_its_requests(synced: Synced):
    """Every delivered row: people by the hundred, events once a person; a small sample asks for less. One row differs."""
    synced.send(of("C0000003", "identify", attributes={"tier": "none"}))
    people, orders = synced.check("folk", is_complete=True), synced.check("orders", is_complete=True)
    assert not people.evaluations[NAME].passed
    assert "1 of 6 delivered rows is not in Customer.io as they were sent" in (people.evaluations[NAME].description or "")
    assert (people.numbers(NAME)["rows asked for"], people.numbers(NAME)["App API requests"]) == (6, 1)
    numbers = orders.numbers(NAME)
    assert orders.evaluations[NAME].passed
    assert (numbers["rows asked for"], numbers["people asked for"], numbers["App API requests"]) == (6, 2, 2)
    assert synced.check("orders", sample_size=1).numbers(NAME)["App API requests"] == 1


@pytest.mark.parametrize(
    ("operations", "people", "words"),
    [
        ([of("C0000009", "delete")], 0, "All 6 sampled rows"),
        ([event("O1", attributes={"order_id": "O99"})], 1, "For 1 of 2 people Customer.io has another number of Order Completed"),
        ([event("O0", attributes={"order_id": "O98"}), event("O1", attributes={"order_id": "O99"})], 2, "2 of 2 people"),
        ([event("O1", attributes={"order_id": "O99"}, timestamp=1_700_000_000)], 0, "All 6 sampled rows"),
        ([event("O1", attributes={"order_id": "O99"}, timestamp=int(datetime.now(UTC).timestamp()))], 0, "All 6 sampled rows"),
        ([of("C0000001", "delete"), event("O1")], 1, "For 1 of 2 people Customer.io has another number"),
    ],
    ids=["as many as delivered", "a stray one", "two people's", "before the days", "today, under way", "fewer"],
)
def test_the_number_of_events_of_a_person_is_that_which_was_delivered(
    synced: Synced, operations: list[dict[str, Any]], people: int, words: str
):
    """More events of a name than were delivered in the finished days is red, though each sampled row is there; so are fewer."""
    synced.send(*operations)
    run = synced.check("orders")
    assert words in (run.evaluations[NAME].description or "")
    assert run.numbers(NAME)["people with another number of events"] == people
    assert run.evaluations[NAME].passed == (not people)


@pytest.mark.parametrize(
    ("rows", "is_green", "words"),
    [
        ({}, False, "None of these days has been exported"),
        (ROWS, False, "rows were exported and none was delivered"),
        ({name: [] for name in ROWS}, True, "The warehouse has no row in the 1 day that was exported"),
    ],
    ids=["nothing exported", "nothing delivered", "nothing in the warehouse"],
)
def test_without_a_delivered_row_it_is_green_only_where_there_was_none(
    unsent: Synced, rows: dict[str, list[dict[str, Any]]], is_green: bool, words: str
):
    """Nothing to compare is no proof: green only where the warehouse was read and had no row."""
    unsent.stage(rows)
    checks = unsent.checks()
    assert {check.is_passed for check in checks.values()} == {is_green}
    assert all(words in check.description for check in checks.values())


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "CUSTOMERIO_APP_API_KEY is not set, so nothing can be read back"),
        (SecretStr("another-key"), "Customer.io refused the credentials of its App API (401)"),
    ],
    ids=["missing", "wrong"],
)
def test_without_the_right_key_it_fails_and_names_the_setting(synced: Synced, key: SecretStr | None, words: str):
    """No App API key, or one that is refused: a failed run that says which setting, never a green check, and not the key."""
    customerio = synced.settings.customerio.model_copy(update={"app_api_key": key})
    outcome = synced.run(synced.settings.model_copy(update={"customerio": customerio}))
    assert not outcome.is_success
    assert [check for check in outcome.checks if check.is_passed] == []
    assert len(outcome.failures) == 3
    assert all(words in failure and "CUSTOMERIO_APP_API_KEY" in failure for failure in outcome.failures)
    assert "another-key" not in synced.shown


def _without(name: str) -> Callable[[Synced], dict[str, Any]]:
    """The stand-in's own profiles, each without one field."""

    def script(synced: Synced) -> dict[str, Any]:
        customerio = synced.settings.customerio
        assert customerio.app_api_key
        answer = httpx.post(
            f"{customerio.app_url}/v1/customers/attributes",
            json={"ids": [row["customer_id"] for row in ROWS["folk"]]},
            headers={"Authorization": f"Bearer {customerio.app_api_key.get_secret_value()}"},
        ).json()
        for item in answer["customers"]:
            del item["customer"][name]
        return answer

    return script


@pytest.mark.parametrize(
    ("word", "script", "feed"),
    [
        ("attributes", lambda _: {}, "folk"),
        ("attributes", lambda _: {"customers": None}, "folk"),
        ("attributes", lambda _: {"customers": [{}]}, "folk"),
        ("attributes", lambda _: {"customers": [{"customer": None}]}, "folk"),
        ("attributes", lambda _: ["customers"], "folk"),
        ("attributes", _without("attributes"), "folk"),
        ("activities", lambda _: {}, "orders"),
        ("activities", lambda _: {"activities": None}, "orders"),
        ("activities", lambda _: {"activities": [{}]}, "orders"),
        ("activities", lambda _: {"activities": [{"type": "event", "name": "Order Completed", "timestamp": 1}]}, "orders"),
    ],
    ids=[
        "no customers",
        "customers are null",
        "an empty customer",
        "a null customer",
        "a list",
        "profiles without attributes",
        "no activities",
        "activities are null",
        "an empty activity",
        "an event without data",
    ],
)
def test_an_answer_that_lacks_what_is_published_is_never_green(
    synced: Synced, word: str, script: Callable[[Synced], Any], feed: str
):
    """Fields that are missing from the App API's answer: the check is red or fails in words of ours; no feed is green on it."""
    synced.answers.scripted[word] = script(synced)
    outcome = synced.run()
    checks = {check.asset.rpartition("/")[2]: check for check in outcome.checks}
    if feed in checks:
        assert not checks[feed].is_passed
        assert f"{len(ROWS[feed])} of {len(ROWS[feed])} sampled rows" in checks[feed].description
    else:
        assert any("Customer.io's App API answered" in failure and feed in failure for failure in outcome.failures)
    assert "C000000" not in synced.shown
