"""Events: one ULID is one event, however often and late it comes; what their activities hold; what starts a journey."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from rs_cio_assets.customerio import AppClient
from rs_cio_assets_tests.live.answers import Answer, AnswersFile
from rs_cio_assets_tests.live.switches import Switches
from rs_cio_assets_tests.live.workspace import LiveWorkspace, event, identify, new_ulid

NAME, MARK = "rs_cio_smoke_event", "rs_cio_smoke_mark"
LAST_STEP = timedelta(days=8)


@pytest.mark.asks(
    "Is one ULID one event, within a batch, in the next request, and a minute later?",
    "an event whose id was received before is ignored, so that sending again does no harm",
    "rs_cio_assets/delivery/packing.py",
    relies=True,
)
def test_one_ulid_is_one_event(workspace: LiveWorkspace, answer: Answer):
    """Four times the same id; another event after them shows that they were processed."""
    person, ulid = workspace.person("ulid"), new_ulid()
    once = event(person, NAME, {"number": 1}, ulid=ulid, timestamp=int(time.time()))
    workspace.send(answer, once, once)
    workspace.send(answer, once)
    workspace.until(lambda: False, workspace.wait_s / 2)
    workspace.send(answer, once)
    answer.facts |= {"last repeated after (s)": workspace.wait_s / 2, "activities": counted(workspace, answer, person)}
    answer.judge(answer.facts["activities"] == 1, f"{answer.facts['activities']} activities for four times one id")


@pytest.mark.needs("second_steps")
@pytest.mark.asks(
    "Is an event still ignored when its ULID comes again a day, and eight days later?",
    "an id is remembered for at least as long as somebody may sync a day again",
    "docs/operator.md",
    relies=True,
)
def test_one_ulid_is_one_event_days_later(workspace: LiveWorkspace, file: AnswersFile, run: str, answer: Answer):
    """Two steps: the first run sends and keeps the person, later ones send the same again; the one after eight days ends it."""
    if not (steps := file.second_steps()):
        person, ulid = f"rs-cio-smoke-{run}-kept@example.invalid", new_ulid()  # not workspace.person: it stays
        now = datetime.now(UTC)
        step = {"run": run, "person": person, "ulid": ulid, "sent_at": now.isoformat(timespec="seconds")}
        file.note("second_steps", step)
        workspace.send(answer, event(person, NAME, {"number": 1}, ulid=ulid, timestamp=int(now.timestamp())))
        answer.words = f"sent now; run again after {now + timedelta(days=1):%Y-%m-%d} and after {now + LAST_STEP:%Y-%m-%d}"
        return
    for step in steps:
        sent_at = datetime.fromisoformat(step["sent_at"])
        apart = datetime.now(UTC) - sent_at
        again = event(step["person"], NAME, {"number": 1}, ulid=step["ulid"], timestamp=int(sent_at.timestamp()))
        workspace.send(answer, again)
        found = counted(workspace, answer, step["person"])
        answer.facts[step["sent_at"]] = {"days apart": round(apart / timedelta(days=1), 2), "activities": found}
        if apart >= LAST_STEP:
            workspace.people.append(step["person"])
            file.settle(step["run"])
        else:
            file.note("second_steps", step)
    judged = [fact["activities"] == 1 for fact in answer.facts.values()]
    answer.judge(all(judged), f"{answer.facts}")


@pytest.mark.asks(
    "What do an event's activity's id, timestamp and data hold?",
    "timestamp is the event's own, data holds its attributes: that is how a row is found again",
    "rs_cio_assets/checks/compare.py",
    relies=True,
)
def test_an_activity_shows_the_event(workspace: LiveWorkspace, answer: Answer):
    """An event an hour old, with numbers, texts, a truth value, null and nested data, read raw and by the product's client."""
    person, ulid, happened = workspace.person("shown"), new_ulid(), int(time.time()) - 3_600
    data = {"order_id": "O-1", "total": 12.5, "count": 3, "is_first": True, "nothing": None, "items": [{"sku": "A", "n": 1}]}
    workspace.send(answer, event(person, NAME, data, ulid=ulid, timestamp=happened))
    workspace.until(lambda: workspace.activities(None, person, type="event", name=NAME))
    found = workspace.activities(answer, person, type="event", name=NAME)
    with AppClient(workspace.settings) as app:
        parsed = list(app.activities(person, "event", name=NAME))
    assert len(found) == len(parsed) == 1, f"{len(found)} activities, {len(parsed)} by the product's client"
    answer.facts = {
        "id is the ULID": found[0].get("id") == ulid,
        "seconds from the event's time": found[0].get("timestamp", 0) - happened,
    }
    is_right = parsed[0].timestamp == happened and {**data, "nothing": None} == {"nothing": None, **parsed[0].data}
    answer.judge(is_right, f"data: {parsed[0].data}")


@pytest.mark.asks(
    "Is a message's trigger_event_id the ULID that was sent, and how soon does a journey start?",
    "a message names the event that caused it by the id that was sent",
    "rs_cio_assets/checks/firing.py",
    relies=True,
)
def test_a_message_names_its_event(workspace: LiveWorkspace, switches: Switches, answer: Answer):
    """Starts the campaign of RS_CIO_LIVE_CAMPAIGN_ID with a made-up person; skipped where none is named."""
    if switches.campaign_id is None:
        pytest.skip("RS_CIO_LIVE_CAMPAIGN_ID names no campaign that may be started")
    person, ulid, now = workspace.person("journey"), new_ulid(), int(time.time())
    with AppClient(workspace.settings) as app:
        names = {campaign.campaign_id: campaign.event_name for campaign in app.campaigns()}
        name = names.get(switches.campaign_id)
        assert name, f"campaign {switches.campaign_id} is not started by an event"
        workspace.send(answer, identify(person, {"email": person}, now))
        workspace.send(answer, event(person, name, {"smoke": True}, ulid=ulid, timestamp=now))

        def messages() -> list[str | None]:
            made = app.messages(switches.campaign_id or 0, start_ts=now - 60, end_ts=int(time.time()) + 60)
            return [message.trigger_event_id for message in made if message.person_id == person]

        found, answer.facts["seconds to the first message"] = workspace.until(messages)
    if not found:
        answer.words = f"no message of campaign {switches.campaign_id} within {workspace.wait_s:g} s"
        return
    answer.judge(found == [ulid], f"trigger_event_id: {found}")


def counted(workspace: LiveWorkspace, answer: Answer, person: str) -> int:
    """Activities of NAME, once an event that was sent after them is there."""
    workspace.send(answer, event(person, MARK, {}, ulid=new_ulid(), timestamp=int(time.time())))
    workspace.until(lambda: workspace.activities(None, person, type="event", name=MARK))
    return len(workspace.activities(answer, person, type="event", name=NAME))
