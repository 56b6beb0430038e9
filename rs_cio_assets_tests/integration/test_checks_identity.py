"""The identity check: one person is one profile under one identifier, or it says who is not and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from rs_cio_assets.checks.identities import IdentityReport, Questions, compare_identities
from rs_cio_assets.checks.identity import build_identity_checks
from rs_cio_assets.checks.read_back import last_days
from rs_cio_assets.contract import Contract
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.settings import Settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.running_checks import ChecksRun, run_checks
from rs_cio_assets_tests.staging import contract_of, deliver, feed_of, stage

NOW = datetime.now(UTC)
AT = NOW.replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=3)
DAY = AT.date().isoformat()
NAME = "identities_agree"
FOLK = feed_of(
    "people",
    {"email": {"type": "string"}},
    name="folk",
    view="ids_export.folk",
    sql="SELECT customer_id, updated_at, loaded_at, email FROM ids_shop.folk",
)
ORDERS = feed_of(
    "event",
    {"order_id": {"type": "string", "required": True}},
    name="orders",
    view="ids_export.orders",
    unknown_person="reject",
    sql="SELECT customer_id, occurred_at, loaded_at, order_id FROM ids_shop.orders",
)
LINKS = feed_of(
    "merge",
    {"guest_id": {"type": "string", "required": True}, "occurred_at": {"type": "timestamp", "required": True}},
    name="links",
    view="ids_export.links",
    time_column="occurred_at",
    merged_column="guest_id",
    max_rows_per_day=10,
    sql="SELECT customer_id, occurred_at, loaded_at, guest_id FROM ids_shop.links -- all of them\n;\n",
)
CONTRACT = contract_of(FOLK, ORDERS, LINKS)
TABLES = {
    "folk": "customer_id VARCHAR(64), updated_at TIMESTAMP, loaded_at TIMESTAMP, email VARCHAR(255)",
    "orders": "customer_id VARCHAR(64), occurred_at TIMESTAMP, loaded_at TIMESTAMP, order_id VARCHAR(32)",
    "links": "customer_id VARCHAR(64), occurred_at TIMESTAMP, loaded_at TIMESTAMP, guest_id VARCHAR(64)",
}


def person(number: int, email: str | None = None, *, at: datetime = AT, customer_id: str | None = None) -> dict[str, Any]:
    """A row of folk; everybody has an email of their own."""
    email = f"p{number}@example.com" if email is None else email
    return {"customer_id": customer_id or f"C{number:07d}", "updated_at": at, "loaded_at": at, "email": email or None}


def order(who: str | None, number: int, *, at: datetime = AT) -> dict[str, Any]:
    """A row of orders."""
    return {"customer_id": who, "occurred_at": at, "loaded_at": at, "order_id": f"O{number}"}


def link(guest: str, customer: str, *, at: datetime = AT, loaded_at: datetime | None = None) -> dict[str, Any]:
    """A row of links."""
    return {"customer_id": customer, "occurred_at": at, "loaded_at": loaded_at or at, "guest_id": guest}


@dataclass
class Desk:
    """A warehouse, a store and a workspace that hold the same people, until a test says otherwise."""

    settings: Settings
    store: LocalStore
    scratch: Path

    def load(self, **tables: Sequence[Mapping[str, Any]]) -> None:
        """Replace the warehouse's tables, and the views over folk and orders; links has none, as while its feed is off."""
        statements: list[str | tuple[str, Sequence[Any]]] = [
            "DROP SCHEMA IF EXISTS ids_export CASCADE",
            "DROP SCHEMA IF EXISTS ids_shop CASCADE",
            "CREATE SCHEMA ids_shop",
        ]
        for name, columns in TABLES.items():
            statements.append(f"CREATE TABLE ids_shop.{name} ({columns})")
            for row in tables.get(name, ()):
                values = [v.replace(tzinfo=None) if isinstance(v, datetime) else v for v in row.values()]
                marks = ", ".join(["%s"] * len(values))
                statements.append((f"INSERT INTO ids_shop.{name} ({', '.join(row)}) VALUES ({marks})", values))
        run_sql(self.settings, *statements)
        with Warehouse(self.settings.redshift).session() as session:
            for feed in (FOLK, ORDERS):
                create_view(session, feed)

    def deliver(self, rows: Mapping[str, Sequence[Mapping[str, Any]]], *, minutes_ago: int = 5) -> None:
        """Stage *rows* of DAY and deliver them."""
        for name, found in rows.items():
            feed, read_at = CONTRACT.feed(name), NOW - timedelta(minutes=minutes_ago)
            manifest = stage(self.store, feed, DAY, found, self.scratch, read_at=read_at)
            track, at = TrackClient(self.settings.customerio), read_at + timedelta(minutes=1)
            deliver(feed, CONTRACT, manifest, self.store, track, self.scratch, now=at)

    def send(self, *operations: Mapping[str, Any]) -> None:
        """What somebody else sends to the workspace."""
        with CustomerioHttp(self.settings.customerio.track_url) as cio:
            cio.send(*({"type": "person", **operation} for operation in operations))

    def break_(self, **faults: Any) -> None:
        """Misconfigure the workspace."""
        httpx.put(f"{self.settings.customerio.app_url}/sandbox/faults", json=faults).raise_for_status()

    def ask(self, contract: Contract = CONTRACT, **changes: Any) -> IdentityReport:
        """What the engine says."""
        with AppClient(self.settings.customerio) as client:
            days = last_days(14, NOW)
            warehouse, now = Warehouse(self.settings.redshift), datetime.now(UTC)
            questions = Questions(contract, warehouse, self.store, self.scratch, now, FOLK, client, days)
            return compare_identities(replace(questions, **changes))

    def check(self, contract: Contract = CONTRACT) -> ChecksRun:
        """The check, through Dagster."""
        return run_checks(self.settings, build_identity_checks(contract))


@pytest.fixture
def desk(settings: Settings, tmp_path: Path) -> Desk:
    """Empty stand-ins."""
    return Desk(settings, LocalStore(tmp_path / "store"), tmp_path)


GOOD: dict[str, list[dict[str, Any]]] = {
    "folk": [person(n) for n in range(1, 6)],
    "orders": [order(f"C{1 + n % 5:07d}", n) for n in range(10)],
}


def test_when_all_agree_it_is_green_and_says_how_much_it_compared(desk: Desk):
    """People, events and emails that agree: green, the same numbers as ever, and the guests were asked for."""
    desk.load(**GOOD, links=[link("G0000009", "C0000001")])
    desk.deliver(GOOD)
    run = desk.check()
    assert run.failures == ()
    assert run.evaluations[NAME].passed
    assert run.evaluations[NAME].description == (
        "Identities agree: 5 people, 10 events of the last 14 days, 5 emails and 1 merged guests were compared."
    )
    numbers = run.numbers(NAME)
    assert (numbers["guests asked for"], numbers["guests with two profiles"]) == (1, 0)
    assert not [label for label in numbers if "not asked" in label]
    assert numbers["App API requests"] == 3


def test_every_fault_is_in_one_red_result_with_its_own_next_step(desk: Desk):
    """ID2, ID3, ID4, ID5, ID6 through Dagster, all at once: each is named, counted and hashed, and nobody is named."""
    folk = [*GOOD["folk"], person(7, "P1@Example.com")]
    orders = [*GOOD["orders"], order("C0000077", 77), order("1.0", 78), order("ada@example.com", 79)]
    desk.deliver({"folk": [*GOOD["folk"], person(9, customer_id="G0000009")]})
    desk.break_(frozen_email=True)
    changed = [person(2, "new@example.com"), *(row for row in folk if row["customer_id"] != "C0000002")]
    desk.load(folk=changed, orders=orders, links=[link("G0000009", "C0000003")])
    desk.deliver({"folk": changed, "orders": orders}, minutes_ago=2)
    run = desk.check()
    assert run.failures == ()
    evaluation = run.evaluations[NAME]
    assert (evaluation.passed, evaluation.severity.value) == (False, "ERROR")
    description = evaluation.description or ""
    for words in (
        "1 person shares another one's email",
        "wrong shape in orders (2 of 13 rows, 15%)",
        "Events of people who are in no people view, in orders (3 of 13 rows, 23%)",
        "Guests who became customers and have a profile of their own still, 1:",
        "For 2 of 6 people Customer.io has another email",  # the one that is frozen, and the one whose address is taken
        "Guests: enable the merges feed",
        "Emails: look one up",
    ):
        assert words in description
    assert "another identifier than" not in description
    assert not re.search(r"[CG]00000[0-9]{2}|@[eE]xample", run.shown)
    assert len(run.column(NAME, "unknown people (hashed)", "person")) == 3


@pytest.mark.parametrize(
    ("emails", "pairs"),
    [
        (["a@x.org", "A@X.org"], 1),
        (["a@x.org", " a@x.org "], 1),
        (["a@x.org", "a@x.org", "A@x.ORG", "b@x.org"], 2),
        (["a@x.org", "a@x.org", "b@x.org", "b@x.org"], 2),
        (["a@x.org", "a+1@x.org", "a@x.org.uk"], 0),
        (["", "", "  ", " "], 0),
    ],
    ids=["capitals", "blanks around", "three of one", "two pairs", "similar", "none at all"],
)
def test_who_shares_an_email(desk: Desk, emails: list[str], pairs: int):
    """ID3: addresses are compared without regard to case and blanks; nobody shares an empty one."""
    desk.load(folk=[person(n, email) for n, email in enumerate(emails)])
    report = desk.ask()
    assert (report.shared_emails.wrong, report.shared_emails.of, len(report.shared_emails.samples)) == (pairs, len(emails), pairs)


@pytest.mark.parametrize(
    ("ids", "wrong", "is_over"),
    [
        (["C0000001"] * 20, 0, False),
        (["C0000001"] * 19 + ["1"], 1, False),
        (["C0000001"] * 18 + ["C000001", "C0000001.0"], 2, True),
        (["C0000001"] * 18 + [None, " C0000001"], 2, True),
    ],
    ids=["all well", "as many as the feed may have", "lost zeros and a float", "null and blank"],
)
def test_identifiers_of_the_wrong_shape(desk: Desk, ids: list[str | None], wrong: int, is_over: bool):
    """ID2: the share of staged rows whose identifier is not of the workspace's shape, against the feed's own budget of 5%."""
    desk.load(folk=GOOD["folk"])
    stage(desk.store, ORDERS, DAY, [order(who, n) for n, who in enumerate(ids)], desk.scratch)
    stage(desk.store, FOLK, DAY, [], desk.scratch)
    (shapes,) = desk.ask().shapes
    assert (shapes.feed, shapes.rows, shapes.wrong, shapes.is_over) == ("orders", 20, wrong, is_over)


@pytest.mark.parametrize(
    ("unknown_person", "strangers", "is_over", "has_another_identifier"),
    [
        ("reject", 0, False, False),
        ("reject", 1, True, False),
        ("reject", 5, True, False),
        ("reject", 6, True, True),
        ("send", 5, False, False),
        ("send", 6, True, True),
    ],
)
def test_events_of_people_who_are_in_no_view(
    desk: Desk, unknown_person: str, strangers: int, is_over: bool, has_another_identifier: bool
):
    """ID6: one event is one too many, unless the contract lets Customer.io make profiles: then half of them is."""
    rows = [order(f"C000009{n}" if n < strangers else "C0000001", n) for n in range(10)]
    old_or_new = [order("C0000099", 11, at=NOW - timedelta(days=40)), order("C0000099", 12, at=NOW + timedelta(days=1))]
    desk.load(folk=GOOD["folk"], orders=[*rows, *old_or_new])
    feed = ORDERS.model_copy(update={"unknown_person": unknown_person})
    contract = contract_of(FOLK, feed, LINKS)
    (unknown,) = desk.ask(contract).unknown
    assert (unknown.rows, unknown.wrong, unknown.is_over) == (10, strangers, is_over)
    if is_over:
        said = desk.check(contract).evaluations[NAME].description or ""
        assert ("another identifier than the people" in said) == has_another_identifier


OLD = NOW - timedelta(days=70)


@pytest.mark.parametrize(
    ("links", "is_enabled", "wrong", "asked"),
    [
        ([link("G0000001", "C0000001")], False, 1, 1),
        ([link("G0000002", "C0000001")], False, 0, 1),
        ([link("G0000001", "C0000099")], False, 0, 1),
        ([link("G0000001", "C0000001", at=OLD)], False, 0, 0),
        ([link("G0000001", "C0000001")], True, 1, 1),
        ([link("G0000001", "C0000001", loaded_at=NOW - timedelta(hours=30))], True, 0, 0),
        ([link("G0000001", "C0000001"), link("G0000001", "C0000001", at=AT - timedelta(days=1))], False, 1, 1),
    ],
    ids=[
        "both exist",
        "the guest has none",
        "the customer has none",
        "long ago",
        "on and not run",
        "on and not its time",
        "twice",
    ],
)
def test_guests_who_became_customers(desk: Desk, links: list[dict[str, Any]], is_enabled: bool, wrong: int, asked: int):
    """ID5: two profiles of one person, whether the merges feed is on or off; one that is on gets two days to do its work."""
    desk.load(folk=GOOD["folk"], links=links)
    desk.send(*({"action": "identify", "identifiers": {"id": who}, "attributes": {}} for who in ("G0000001", "C0000001")))
    report = desk.ask(contract_of(FOLK, ORDERS, LINKS.model_copy(update={"enabled": is_enabled})))
    assert (report.guests.wrong, report.guests.of) == (wrong, asked)


def test_without_a_merges_feed_it_says_so(desk: Desk):
    """A part that cannot be asked is named in the metadata, and does not turn the check red."""
    desk.load(**GOOD)
    evaluation = desk.check(contract_of(FOLK, ORDERS)).evaluations[NAME]
    assert evaluation.passed
    said = {label: value.value for label, value in evaluation.metadata.items() if "not asked" in label}
    assert said == {
        "guests: not asked": "the contract has no merges feed, so nobody knows which guests became customers",
        "identifiers: not asked": "no feed was exported in these days",
    }


def test_an_email_that_failed_counts_whoever_is_in_the_sample_until_it_took(desk: Desk):
    """ID4: somebody outside of the sample is found by the failed change; once the address is right, it counts no longer."""
    desk.deliver({"folk": GOOD["folk"]})
    desk.break_(frozen_email=True)
    rows = [person(1, "new@example.com", at=AT - timedelta(hours=1)), *GOOD["folk"][1:]]
    desk.load(folk=rows)
    desk.deliver({"folk": rows}, minutes_ago=2)
    report = desk.ask(sample_size=2)
    assert (report.emails.wrong, report.emails.of, report.is_cut) == (1, 3, False)
    assert report.emails.samples[0]["change failed"] == "yes"
    desk.break_()
    desk.send({"action": "identify", "identifiers": {"id": "C0000001"}, "attributes": {"email": "NEW@example.com"}})
    assert desk.ask(sample_size=2).emails.wrong == 0


def test_an_email_that_was_not_delivered_yet_did_not_fail(desk: Desk):
    """A new address in the view that no run has delivered is no fault of Customer.io's."""
    desk.load(folk=[person(1, "new@example.com"), *GOOD["folk"][1:]])
    desk.deliver({"folk": GOOD["folk"]})
    assert desk.ask().emails.wrong == 0


def test_an_empty_warehouse_is_not_ready_and_a_missing_view_fails(desk: Desk):
    """No people: neither green nor an error. No view: a failed step that says so."""
    desk.load()
    evaluation = desk.check().evaluations[NAME]
    assert (evaluation.passed, evaluation.severity.value) == (False, "WARN")
    assert "ids_export.folk has no row" in (evaluation.description or "")
    run_sql(desk.settings, "DROP VIEW ids_export.folk")
    run = desk.check()
    assert dict(run.evaluations) == {}
    assert "ids_export" in run.failures[0]


@pytest.mark.parametrize(
    ("faults", "has_key", "words"),
    [({}, False, "CUSTOMERIO_APP_API_KEY is not set"), ({"app_scope_missing": True}, True, "(403)")],
    ids=["no key", "no scope"],
)
def test_a_key_that_is_missing_or_without_scope_is_never_green(desk: Desk, faults: dict[str, Any], has_key: bool, words: str):
    """The step fails in words that name the key."""
    desk.load(**GOOD)
    desk.deliver(GOOD)
    desk.break_(**faults)
    if not has_key:
        customerio = desk.settings.customerio.model_copy(update={"app_api_key": None})
        desk.settings = desk.settings.model_copy(update={"customerio": customerio})
    run = desk.check()
    assert dict(run.evaluations) == {}
    assert words in run.failures[0]


def test_no_people_feed_no_check():
    """Without people there is nothing to agree with."""
    assert build_identity_checks(contract_of(ORDERS)) == []
