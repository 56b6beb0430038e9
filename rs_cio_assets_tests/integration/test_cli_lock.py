"""`rs-cio lock` as somebody types it who changed the contract: what it shows, whom it asks, what it writes; and a staged rename.

What a lock holds and refuses is tested in unit/test_lock.py. Catalogue: NM4.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import time_machine
import yaml
from click.testing import CliRunner, Result

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import SHIPPED, load_contract
from rs_cio_assets.contract.lock import LOCK_FILE
from rs_cio_assets.errors import ContractError, RsCioError
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.staging import RecordingTrack, deliver, stage

ORDERS, PEOPLE = "feeds/order_completed.yaml", "feeds/people.yaml"
ACCEPT = ("lock", "--accept", "--reason", "Moved the welcome series")
PRODUCTION = {
    "RS_CIO_MODE": "production",
    "RS_CIO_START_DATE": "2026-01-01",
    "REDSHIFT_HOST": "localhost",
    "REDSHIFT_DATABASE": "dev",
    "REDSHIFT_USER": "reader",
    "REDSHIFT_PASSWORD": "a-password",
    "CUSTOMERIO_SITE_ID": "site",
    "CUSTOMERIO_API_KEY": "key",
    "CUSTOMERIO_REGION": "us",
}


@dataclass(frozen=True)
class Team:
    """Who keeps a contract: its folder, the command line, and campaigns and segments in Customer.io."""

    folder: Path
    url: str

    def type(self, *words: str) -> Result:
        """Run `rs-cio` with these words."""
        result = CliRunner().invoke(rs_cio, words)
        if result.exception and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, RsCioError), result.exc_info
        return result

    def replace(self, file: str, old: str, new: str) -> None:
        """Change one text in one file of the contract."""
        text = (self.folder / file).read_text()
        assert old in text
        (self.folder / file).write_text(text.replace(old, new))

    def rename_event(self) -> None:
        """The change that every test of a refusal needs."""
        self.replace(ORDERS, "event_name: Order Completed", "event_name: Order Placed")

    def lock(self) -> dict[str, Any]:
        """What the lock file holds."""
        return yaml.safe_load((self.folder / LOCK_FILE).read_text())

    def campaign(self, number: int, name: str, *, state: str = "running", **trigger: Any) -> None:
        """A campaign in Customer.io."""
        self._put(f"campaigns/{number}", {"name": name, "state": state, **trigger})

    def segment(self, number: int) -> None:
        """A segment in Customer.io."""
        condition = {"attribute": {"field": "orders_count", "operator": "exists"}}
        self._put(f"segments/{number}", {"name": f"Segment {number}", "condition": condition})

    def _put(self, path: str, body: Mapping[str, Any]) -> None:
        answer = httpx.put(f"{self.url}/sandbox/{path}", json=body)
        assert answer.status_code < 300, answer.text


@pytest.fixture
def team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Team]:
    """A copy of the shipped contract with its lock, and an empty workspace."""
    folder = tmp_path / "contract"
    shutil.copytree(SHIPPED, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with CustomerioStandIn(tmp_path / "customerio", app_requests_per_s=None) as stand_in:
        for name, value in {
            "RS_CIO_CONTRACT": str(folder),
            "RS_CIO_STORE": str(tmp_path / "store"),
            "CUSTOMERIO_TRACK_URL": stand_in.url,
            "CUSTOMERIO_APP_URL": stand_in.url,
        }.items():
            monkeypatch.setenv(name, value)
        yield Team(folder, stand_in.url)


def test_a_lock_that_is_current_says_so(team: Team):
    """Nothing to do: exit 0, and Customer.io is not asked."""
    result = team.type("lock")
    assert (result.exit_code, result.stdout) == (0, f"contract/{LOCK_FILE} is current.\n")


def test_a_rename_is_shown_with_the_campaigns_that_it_would_end(team: Team):
    """NM4: the difference, the contract's journeys and segments, running campaigns by event and by segment; no drafts."""
    team.segment(5)
    team.campaign(1, "After the order", event_name="Order Completed")
    team.campaign(8, "Cart", event_name="Checkout Started", filter_segment_ids=[5])
    team.campaign(9, "Another draft", state="draft", event_name="Order Completed")
    team.rename_event()
    result = team.type("lock")
    assert result.exit_code == 1
    assert "event_name: the lock says Order Completed, found Order Placed; used by the journeys cart_recovery," in result.stdout
    assert "    runs in Customer.io and uses it: After the order (campaign 1)\n" in result.stdout
    assert "    runs in Customer.io and uses it: Cart (campaign 8)\n" in result.stdout
    assert "Another draft" not in result.stdout
    assert "API holds neither the conditions of segments and campaigns nor the texts of messages" in result.stdout


def test_a_property_names_who_uses_it_and_who_may(team: Team):
    """The declared journey's campaign uses order_number by its SQL; another campaign of that event only may."""
    team.campaign(3, "Second purchase", event_name="Order Completed")
    team.campaign(7, "Thanks", event_name="Order Completed")
    team.replace(ORDERS, "order_number: {type: integer", "order_number: {type: float")
    document = json.loads(team.type("lock", "--json").stdout)
    (difference,) = document["differences"]
    assert (difference["item"], difference["field"]) == ("feeds/order_completed", "columns.order_number")
    assert difference["is_breaking"] is True
    assert difference["used_by"] == ["journeys/second_purchase"]
    assert difference["running_campaigns"] == ["Second purchase (campaign 3)"]
    assert difference["may_be_used_by"] == ["Thanks (campaign 7)"]
    assert (document["is_locked"], document["is_current"], document["could_not_ask"]) == (True, False, None)


def test_an_attribute_names_the_campaigns_of_its_segments(team: Team):
    """People have no event: a running campaign is found through the declared segment that uses the attribute."""
    team.segment(1)
    team.campaign(20, "Loyal", trigger_segment_ids=[1])
    team.campaign(21, "Was loyal", state="stopped", trigger_segment_ids=[1])
    team.replace(PEOPLE, "orders_count: {type: integer", "orders_count: {type: float")
    (difference,) = json.loads(team.type("lock", "--json").stdout)["differences"]
    assert difference["running_campaigns"] == ["Loyal (campaign 20)"]


def test_what_nobody_uses_is_accepted_with_its_reason(team: Team):
    """The contract loads again; the lock keeps the reason and the change for ever, newest first."""
    team.rename_event()
    with pytest.raises(ContractError, match="Run rs-cio lock"):
        load_contract(team.folder)
    result = team.type(*ACCEPT)
    assert (result.exit_code, "Written: contract/taxonomy.lock.yaml" in result.stdout) == (0, True)
    assert "No running campaign is known to use these names." in result.stdout
    assert load_contract(team.folder).feed("order_completed").event_name == "Order Placed"
    newest, first = team.lock()["accepted"]
    assert (newest["accepted_on"], newest["reason"]) == (datetime.now(UTC).date(), "Moved the welcome series")
    assert newest["changes"][0].startswith("feeds/order_completed: event_name: the lock says Order Completed, found Order Placed")
    assert first["changes"] == [f"The first lock: {len(load_contract().feeds)} feeds, 6 segments, 4 journeys"]
    assert team.type("lock").exit_code == 0
    before = (team.folder / LOCK_FILE).read_bytes()
    assert "is current" in team.type(*ACCEPT).stdout
    assert (team.folder / LOCK_FILE).read_bytes() == before


def test_what_a_running_campaign_uses_is_accepted_only_on_purpose(team: Team):
    """The refusal names the campaign and writes nothing; --although-used writes, and the lock remembers what ran."""
    team.campaign(1, "After the order", event_name="Order Completed")
    team.rename_event()
    before = (team.folder / LOCK_FILE).read_bytes()
    refused = team.type(*ACCEPT)
    assert isinstance(refused.exception, ContractError)
    assert "running campaigns use old names (feeds/order_completed: After the order (campaign 1))" in str(refused.exception)
    assert (team.folder / LOCK_FILE).read_bytes() == before
    assert team.type(*ACCEPT, "--although-used").exit_code == 0
    assert team.lock()["accepted"][0]["changes"][0].endswith("; running then: After the order (campaign 1)")


@pytest.mark.parametrize("words", [(), ("--reason", ""), ("--reason", "  ")], ids=["none", "empty", "blank"])
def test_no_acceptance_without_a_reason(words: tuple[str, ...], team: Team):
    """A word for ever says why; without one nothing is written."""
    team.rename_event()
    before = (team.folder / LOCK_FILE).read_bytes()
    result = team.type("lock", "--accept", *words)
    assert (result.exit_code, "go together" in result.stderr) == (2, True)
    assert (team.folder / LOCK_FILE).read_bytes() == before
    assert team.type("lock", "--reason", "forgot --accept").exit_code == 2


def test_without_an_app_api_key_it_works_and_says_what_it_could_not_do(team: Team, monkeypatch: pytest.MonkeyPatch):
    """The difference is shown; nobody could be asked, so an acceptance of what breaks needs --although-used."""
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)
    team.rename_event()
    result = team.type("lock")
    assert result.exit_code == 1
    assert "could not be asked which running campaigns use these names: CUSTOMERIO_APP_API_KEY is not set" in result.stdout
    assert "No running campaign" not in result.stdout
    assert "CUSTOMERIO_APP_API_KEY" in json.loads(team.type("lock", "--json").stdout)["could_not_ask"]
    assert "nobody could be asked" in str(team.type(*ACCEPT).exception)
    assert team.type(*ACCEPT, "--although-used").exit_code == 0


def test_a_wrong_key_is_not_a_clean_answer(team: Team, monkeypatch: pytest.MonkeyPatch):
    """Customer.io refused: the command says so in place of an empty list."""
    monkeypatch.setenv("CUSTOMERIO_APP_API_KEY", "wrong")
    team.rename_event()
    result = team.type("lock")
    assert "could not be asked" in result.stdout
    assert "No running campaign" not in result.stdout


def test_a_contract_may_have_no_lock_and_get_its_first(team: Team):
    """Without a lock the command says what that means and is content; the first acceptance writes one."""
    shipped = team.lock()
    (team.folder / LOCK_FILE).unlink()
    result = team.type("lock")
    assert (result.exit_code, f"There is no contract/{LOCK_FILE}" in result.stdout) == (0, True)
    assert json.loads(team.type("lock", "--json").stdout)["is_locked"] is False
    assert team.type("contract", "lint").stdout.endswith(" 0 findings\n")
    assert json.loads(team.type(*ACCEPT, "--json").stdout)["is_written"] is True
    written = team.lock()
    assert [len(written.pop("accepted")), len(shipped.pop("accepted"))] == [1, 1]
    assert written == shipped


def test_what_is_new_is_warned_of_until_the_lock_has_it(team: Team):
    """An addition passes: `contract lint` warns and exits 0, `lock` lists it and exits 0, an acceptance ends both."""
    team.replace(ORDERS, "columns:", "columns:\n  gift_note: {type: string, description: Note.}")
    team.replace("feeds/order_completed.sql", "SELECT\n", "SELECT\n    NULL::VARCHAR(9) AS gift_note,\n")
    lint = team.type("contract", "lint")
    assert "warning: feeds/order_completed: columns.gift_note: is new; not in the lock yet" in lint.stdout
    assert lint.exit_code == 0
    shown = team.type("lock")
    assert (shown.exit_code, "columns.gift_note: is new" in shown.stdout) == (0, True)
    assert team.type(*ACCEPT).exit_code == 0
    assert "warning" not in team.type("contract", "lint").stdout


USUAL = "description: A feed of a test.\nidentifier: customer_id\nloaded_at: loaded_at\nfreshness_hours: 30\n"
COLUMNS = """columns:
  customer_id: {type: string, required: true, description: Who.}
  at: {type: timestamp, required: true, description: When.}
  loaded_at: {type: timestamp, required: true, description: Loaded.}
"""
END = datetime(2026, 12, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    """A contract of three feeds in the middle of a rename, and what Customer.io got of it."""

    folder: Path
    store: LocalStore
    track: RecordingTrack

    def deliver(self, feed: str, row: Mapping[str, Any], when: datetime) -> list[dict[str, Any]]:
        """What is sent of *row* when its day is exported and delivered at *when*; the contract is loaded then, as a run does."""
        with time_machine.travel(when, tick=False):
            contract = load_contract(self.folder)
            loaded = contract.feed(feed)
            day = f"{when:%Y-%m-%d}"
            rows = [{"customer_id": "C0000001", "at": when, "loaded_at": when, **row}]
            manifest = stage(self.store, loaded, day, rows, self.folder.parent, read_at=when)
            before = len(self.track.operations)
            deliver(loaded, contract, manifest, self.store, self.track.client(), self.folder.parent, now=when)
        return self.track.operations[before:]


@pytest.fixture
def shop(team: Team, tmp_path: Path) -> Shop:
    """An attribute and an event under their old and new names until 1 December, accepted although a campaign uses the event."""
    shutil.rmtree(team.folder)
    (team.folder / "feeds").mkdir(parents=True)
    shutil.copy(SHIPPED / "workspace.yaml", team.folder)
    team.campaign(1, "After the order", event_name="Order Completed")
    event = "kind: event\nview: v.{name}\nevent_name: {event}\nbusiness_key: [order_id]\ntime_column: at\nunknown_person: send\n"
    order = "  order_id: {type: string, required: true, description: Order.}\n"
    folk = f"kind: people\nview: v.folk\ntime_column: at\n{USUAL}{COLUMNS}  tier: {{type: string, description: Tier.}}\n"
    order_completed = event.format(name="order_completed", event="Order Completed") + USUAL + COLUMNS + order
    write(team, folk=folk, order_completed=order_completed)
    assert team.type(*ACCEPT).exit_code == 0
    write(
        team,
        folk=f"{folk.replace('tier: {', 'tier: {until: 2026-12-01, ')}  vip_tier: {{type: string, description: Tier.}}\n",
        order_completed=f"until: 2026-12-01\n{order_completed}",
        order_placed=event.format(name="order_placed", event="Order Placed") + USUAL + COLUMNS + order,
    )
    with time_machine.travel(END - timedelta(days=5), tick=False):
        assert "columns.tier.until: the lock says no end, found 2026-12-01" in team.type("lock").stdout
        assert team.type(*ACCEPT).exit_code == 0  # a planned end gives the campaign time to move
    return Shop(team.folder, LocalStore(tmp_path / "store"), RecordingTrack())


def write(team: Team, **feeds: str) -> None:
    """Write these feeds' YAML, each with some SQL."""
    for name, text in feeds.items():
        (team.folder / "feeds" / f"{name}.yaml").write_text(text)
        (team.folder / "feeds" / f"{name}.sql").write_text("SELECT 1")


def test_a_renamed_attribute_has_both_names_until_its_day(shop: Shop):
    """Before the day both attributes are sent, from its first second on only the new one."""
    row = {"tier": "gold", "vip_tier": "gold"}
    (before,) = shop.deliver("folk", row, END - timedelta(seconds=1))
    (after,) = shop.deliver("folk", row, END)
    assert before["attributes"] == {"tier": "gold", "vip_tier": "gold"}
    assert after["attributes"] == {"vip_tier": "gold"}


def test_a_renamed_event_goes_under_both_names_until_its_day(shop: Shop):
    """Two feeds of the same rows: each event has its own name and id, and from the day on there is only the new one."""
    first, second = (shop.deliver(f, {"order_id": "O1"}, END - timedelta(hours=2)) for f in ("order_completed", "order_placed"))
    assert [operation["name"] for operation in (*first, *second)] == ["Order Completed", "Order Placed"]
    assert first[0]["attributes"]["order_id"] == second[0]["attributes"]["order_id"]
    assert first[0]["id"] != second[0]["id"]
    with pytest.raises(KeyError, match="order_completed"):
        shop.deliver("order_completed", {"order_id": "O2"}, END)
    (after,) = shop.deliver("order_placed", {"order_id": "O2"}, END)
    assert after["name"] == "Order Placed"


def test_who_still_uses_a_name_that_ends_is_shown_before_and_after(shop: Shop, team: Team):
    """Planned ends stay in view with the campaigns that would stop, until the name is gone from contract and lock."""
    for when in (END - timedelta(days=1), END + timedelta(days=1)):
        with time_machine.travel(when, tick=False):
            result = team.type("lock")
        assert result.exit_code == 0
        assert "feeds/order_completed: is not sent from 2026-12-01 on\n" in result.stdout
        assert "    runs in Customer.io and uses it: After the order (campaign 1)" in result.stdout
    for path in (team.folder / "feeds").glob("order_completed.*"):
        path.unlink()
    with time_machine.travel(END + timedelta(days=1), tick=False):
        assert load_contract(team.folder).feeds
        assert "gone as planned" in team.type(*ACCEPT).stdout
        assert "order_completed" not in team.lock()["feeds"]
