"""The commands that look at deliveries and work on them by hand, as an operator types them: what they send, keep and show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from rs_cio_assets import cli_delivery, operations
from rs_cio_assets.assets.run_config import FeedConfig
from rs_cio_assets.cli import rs_cio
from rs_cio_assets.delivery import DeliveryOptions
from rs_cio_assets.errors import DeliveryRefused, SettingsError
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.store import LocalStore
from rs_cio_assets.store.overlay import OverlayStore
from rs_cio_assets.warehouse import Warehouse, create_view
from rs_cio_assets_tests.desk import DAY, FRESH, TODAY, Desk, open_desk, order, person
from rs_cio_assets_tests.staging import stage


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redshift: RedshiftStandIn) -> Iterator[Desk]:
    """See open_desk."""
    with open_desk(tmp_path, monkeypatch, redshift) as opened:
        yield opened


def test_a_preview_shows_the_day_and_leaves_nothing_behind(desk: Desk):
    """Outcomes, rejections with their next step, requests and the exact operations; no request sent, no object written."""
    desk.deliver("folk", [person()])
    before, kept = desk.sent(), desk.store.list("")
    desk.stage("orders", [order(1), order(2), order(3, total=Decimal(-1))])
    staged = set(desk.store.list("")) - set(kept)
    result = desk.type("preview", "orders", DAY, "--rows", "1")
    assert result.exit_code == 0
    assert "orders " + DAY + ": 3 rows. Nothing was sent." in result.stdout
    assert "total is below 0" in " ".join(re.sub("[│\n]", " ", result.stdout).split())
    assert "To send: 1 requests" in result.stdout
    assert json.loads(result.stdout[result.stdout.index("{") :])["attributes"] == {
        "order_id": "O1",
        "part": 1,
        "total": 9.9,
    }
    assert desk.sent() == before
    assert set(desk.store.list("")) == {*kept, *staged}
    document = desk.json("preview", "orders", DAY)
    assert (document["outcomes"]["send"], document["rejected_by_reason"]) == (2, {"below_minimum": 1})


def test_a_preview_names_the_campaigns_that_could_start(desk: Desk):
    """Running campaigns by name and id with the number of rows, and that a backfill would be refused for them."""
    desk.deliver("folk", [person(updated_at=FRESH)], TODAY)
    desk.stage("orders", [order(n, occurred_at=FRESH) for n in range(4)], TODAY)
    desk.campaign(7, event_name="Order Completed")
    result = desk.type("preview", "orders", TODAY, "--backfill")
    assert "4 rows could start these running campaigns:\n  Thank [you] (campaign 7)" in result.stdout
    assert "A run would refuse to send them" in result.stdout
    assert "refuse" not in desk.type("preview", "orders", TODAY).stdout
    assert desk.json("preview", "orders", TODAY, "--backfill", "--on-backfill", "hold")["outcomes"]["held"] == 4


def test_a_preview_of_a_delivered_day_sends_only_with_resend(desk: Desk):
    """What the ledger holds is unchanged; with --resend it would go again."""
    desk.deliver("folk", [person()])
    assert desk.json("preview", "folk", DAY)["outcomes"]["unchanged"] == 1
    assert desk.json("preview", "folk", DAY, "--resend")["outcomes"]["send"] == 1


def test_a_preview_may_read_the_day_from_the_warehouse(desk: Desk):
    """--export looks at what the view holds now, for a day that is not staged, and stages nothing."""
    missing = desk.type("preview", "folk", DAY)
    assert "materialize redshift/exports/folk for it" in str(missing.exception)
    with Warehouse(desk.settings.redshift, secret=lambda _: {}).session() as session:
        create_view(session, desk.contract.feed("folk"))
    document = desk.json("preview", "folk", DAY, "--export")
    assert document["operations"][0]["attributes"] == {"tier": "gold"}
    assert desk.store.list("") == []


def test_one_row_is_sent_recorded_and_read_back(desk: Desk):
    """Only that row goes, through the engine, into the ledger; the day's rejections and its other rows stay as they were."""
    desk.deliver("folk", [person(), person(2, tier="none")])
    desk.deliver("orders", [order(9, total=Decimal(-1))])
    desk.stage("orders", [order(1), order(1, part=2), order(9, total=Decimal(-1))])
    rejections = desk.store.get(f"rejections/orders/{DAY}.parquet")
    result = desk.type("send-one", "orders", "O1 2", "--day", DAY)
    assert result.exit_code == 0, result.output
    assert "Customer.io holds the row as it is staged." in result.stdout
    assert desk.sent()["events"] == 1
    assert len(desk.kept("ledger/orders")) == 1
    assert desk.store.get(f"rejections/orders/{DAY}.parquet") == rejections
    assert [key for key in desk.store.list("") if "one" in key] == []
    outcomes = desk.json("preview", "orders", DAY)["outcomes"]
    assert (outcomes["send"], outcomes["unchanged"], outcomes["rejected"]) == (1, 1, 1)


def test_a_row_that_was_delivered_is_only_read_back_unless_resent(desk: Desk):
    """The same row again makes no request of the Track API; --resend sends it."""
    desk.deliver("folk", [person()])
    again = desk.json("send-one", "folk", "C0000001", "--day", DAY)
    assert (again["report"]["unchanged"], again["report"]["requests"], again["is_good"]) == (1, 0, True)
    assert again["read_back"]["found"] == again["staged"] == {"tier": "gold"}
    resent = desk.json("send-one", "folk", "C0000001", "--day", DAY, "--resend")
    assert (resent["report"]["delivered"], resent["report"]["requests"]) == (1, 1)


def test_a_row_that_customerio_holds_differently_exits_1(desk: Desk):
    """A newer version of the profile wins in Customer.io; the command says which column differs and that it is not well."""
    desk.deliver("folk", [person(tier="none", updated_at=FRESH)], TODAY)
    stage(desk.store, desk.contract.feed("folk"), DAY, [person()], desk.scratch, read_at=datetime.now(UTC) - timedelta(days=1))
    result = desk.type("send-one", "folk", "C0000001", "--day", DAY, "--wait-s", "0")
    assert result.exit_code == 1
    assert "Not as staged: differs in tier." in result.stdout


def test_the_read_back_waits_for_as_long_as_it_was_told(desk: Desk):
    """A row that is not there is looked for until the time is over, by the given clock, and then reported."""
    desk.stage("folk", [person()])
    desk.deliver("folk", [person()])
    customerio = desk.settings.customerio
    auth = (customerio.site_id, customerio.api_key.get_secret_value())
    operation = {"type": "person", "action": "delete", "identifiers": {"id": "C0000001"}}
    httpx.post(f"{customerio.track_url}/api/v2/batch", json={"batch": [operation]}, auth=auth).raise_for_status()
    moments: list[float] = [0.0]
    found = operations.send_one(
        desk.settings,
        desk.contract,
        desk.contract.feed("folk"),
        "C0000001",
        DAY,
        options=DeliveryOptions(),
        wait_s=5,
        log=lambda _: None,
        clock=lambda: moments[-1],
        sleep=lambda seconds: moments.append(moments[-1] + seconds),
    )
    assert found.read_back == operations.ReadBack(None, "there is no profile")
    assert moments[-1] == 5


def test_a_row_that_cannot_be_sent_says_why_and_exits_1(desk: Desk):
    """Rejected by the contract or refused by Customer.io: reason and remedy, no read-back, no note in the day's rejections."""
    desk.deliver("folk", [person()])
    desk.stage("orders", [order(1, total=Decimal(-1))])
    rejected = desk.type("send-one", "orders", "O1 1", "--day", DAY)
    assert (rejected.exit_code, "below_minimum: total is below 0" in rejected.stdout) == (1, True)
    desk.stage("folk", [person(tier="none")])
    desk.refusing.is_on = True
    refused = desk.type("send-one", "folk", "C0000001", "--day", DAY)
    assert (refused.exit_code, "customerio_invalid: Customer.io refused it" in refused.stdout) == (1, True)
    assert desk.kept("rejections") == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("preview", "folks", DAY), "did you mean folk?"),
        (("send-one", "folk", "C0000009", "--day", DAY), "no staged row of this day has this key"),
        (("send-one", "folk", "C0000001", "--day", TODAY), "it has not been exported"),
        (("send-one", "erasures", "C0000001", "--day", DAY), "cannot be undone"),
    ],
)
def test_what_cannot_be_done_is_one_line_without_the_key(desk: Desk, words: tuple[str, ...], said: str):
    """An error of ours that says what to do, sends nothing, and never repeats a row's key."""
    desk.stage("folk", [person()])
    error = str(desk.type(*words).exception)
    assert said in error
    assert "Next step" in error
    assert not re.search("C000000[0-9]", error)
    assert desk.sent() == {"people": 0, "events": 0}


def test_without_the_app_api_key_nothing_is_sent(desk: Desk):
    """A row that could not be read back is not sent at all."""
    desk.stage("folk", [person()])
    customerio = desk.settings.customerio.model_copy(update={"app_api_key": None})
    settings = desk.settings.model_copy(update={"customerio": customerio})
    parts: dict[str, Any] = {"options": DeliveryOptions(), "wait_s": 0, "log": lambda _: None}
    with pytest.raises(SettingsError, match="CUSTOMERIO_APP_API_KEY"):
        operations.send_one(settings, desk.contract, desk.contract.feed("folk"), "C0000001", DAY, **parts)
    assert desk.sent()["people"] == 0


def test_a_backfill_of_one_row_starts_no_campaign_by_accident(desk: Desk):
    """An old day's person could start a segment-triggered campaign: refused, until the operator accepts it."""
    desk.stage("folk", [person()])
    desk.campaign(8, trigger_segment_ids=[7])
    words = ("send-one", "folk", "C0000001", "--day", DAY)
    assert isinstance(desk.type(*words).exception, DeliveryRefused)
    assert desk.sent()["people"] == 0
    assert desk.type(*words, "--on-backfill", "accept").exit_code == 0
    assert desk.sent()["people"] == 1


def test_what_is_written_over_a_store_is_not_in_it(tmp_path: Path):
    """An overlay reads both, hides what it replaces, removes only its own, and passes on nothing but what it shares."""
    beneath = LocalStore(tmp_path / "beneath")
    beneath.put("a/1", b"old")
    beneath.put("a/2", b"two")
    overlay = OverlayStore(beneath, tmp_path / "above", shared="ledger/")
    for key in ("a/1", "a/3", "ledger/4"):
        overlay.put(key, b"new")
    overlay.delete(["a/2", "a/3"])
    assert overlay.list("") == ["a/1", "a/2", "ledger/4"]
    assert [overlay.get(key) for key in ("a/1", "a/2", "a/3")] == [b"new", b"two", None]
    assert [overlay.fetch(key, tmp_path).read_bytes() for key in ("a/1", "a/2", "ledger/4")] == [b"new", b"two", b"new"]
    assert (beneath.list(""), beneath.get("a/1")) == (["a/1", "a/2", "ledger/4"], b"old")


def test_days_that_are_none_are_usage_errors(desk: Desk):
    """A day that is no day, and a range that ends before it begins, exit with 2 before anything is read."""
    for words in (("preview", "folk", "2026-02-30"), ("rejections", "--from", "2026-11-02", "--to", "2026-11-01")):
        assert desk.type(*words).exit_code == 2


@pytest.mark.parametrize("command", cli_delivery.COMMANDS, ids=lambda command: command.name)
def test_every_command_has_an_example_and_json(command: Any):
    """--help of each command holds an example of its own and the option --json."""
    shown = CliRunner().invoke(rs_cio, [command.name, "--help"]).stdout
    assert f"Example: rs-cio {command.name} " in shown
    assert "--json" in shown


def test_a_run_by_hand_and_a_run_of_dagster_are_asked_the_same():
    """The options of preview and send-one are those that a run of the day with the same config has."""
    day = date.fromisoformat(DAY)
    expected = FeedConfig().options({}, DAY, datetime.now(UTC).date())
    assert cli_delivery._options(day, "contract", resend=False) == expected
    assert expected.is_backfill
