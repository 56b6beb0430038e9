"""People: which update wins, what null does, who comes to be by an event, and how they are read back."""

from __future__ import annotations

import time
from typing import Any

import pytest

from rs_cio_assets.customerio import AppClient
from rs_cio_assets_tests.live.answers import Answer
from rs_cio_assets_tests.live.workspace import LiveWorkspace, event, identify, new_ulid

MARK = "rs_cio_smoke_mark"
HOUR_S = 3_600


@pytest.mark.asks(
    "Which identify wins by its timestamp: older, newer, equal, future? Is an older one dropped by attribute or as a whole?",
    "an older identify never overwrites a newer one, whenever it comes",
    "rs_cio_assets/delivery/expressions.py",
    relies=True,
)
def test_an_older_update_does_not_win(workspace: LiveWorkspace, answer: Answer):
    """Updates one after the other, each processed before the next; the profile after each, and what the activities call it."""
    person, now = workspace.person("clock"), int(time.time())
    updates = {
        "base": (now - HOUR_S, {"smoke_a": "base"}),
        "older, also of a new attribute": (now - 2 * HOUR_S, {"smoke_a": "older", "smoke_b": "older"}),
        "newer": (now - HOUR_S // 2, {"smoke_a": "newer"}),
        "equal": (now - HOUR_S // 2, {"smoke_a": "equal"}),
        "a day in the future": (now + 24 * HOUR_S, {"smoke_c": "future"}),
        "now, after the future": (now, {"smoke_c": "now"}),
    }
    for name, (timestamp, attributes) in updates.items():
        workspace.send(answer, identify(person, attributes, timestamp))
        answer.facts[name] = processed(workspace, answer, person)
    kinds = ("skipped_update", "failed_attribute_change", "attribute_change")
    answer.facts["activities"] = {kind: len(workspace.activities(answer, person, type=kind)) for kind in kinds}
    after_older = answer.facts["older, also of a new attribute"].get("smoke_a")
    is_newer_taken = answer.facts["newer"].get("smoke_a") == "newer"
    dropped = "as a whole" if "smoke_b" not in answer.facts["older, also of a new attribute"] else "by attribute"
    answer.judge(after_older == "base" and is_newer_taken, f"after the older one: {after_older}; dropped {dropped}")


@pytest.mark.asks(
    "Do null and the empty text remove a person's attribute?",
    "null removes it: that is what on_null: clear sends",
    "rs_cio_assets/delivery/expressions.py",
    relies=True,
)
def test_null_removes_an_attribute(workspace: LiveWorkspace, answer: Answer):
    """Two attributes set, then one set to null and one to the empty text."""
    person, now = workspace.person("null"), int(time.time())
    workspace.send(answer, identify(person, {"smoke_null": "x", "smoke_empty": "x", "smoke_kept": "x"}, now - 60))
    before = processed(workspace, answer, person)
    workspace.send(answer, identify(person, {"smoke_null": None, "smoke_empty": ""}, now))
    after = processed(workspace, answer, person)
    answer.facts = {"before": before, "after": after, "the empty text removes": not after.get("smoke_empty")}
    answer.judge("smoke_null" in before and not after.get("smoke_null") and after.get("smoke_kept") == "x", f"after: {after}")


@pytest.mark.parametrize("guard", [False, True], ids=["plain", "with _update"])
@pytest.mark.asks(
    "Does an event for an unknown id make a profile, also with _update among its attributes?",
    "it makes a bare profile: unknown_person decides whether such events are sent",
    "rs_cio_assets/contract/models.py",
)
def test_an_event_of_somebody_unknown(workspace: LiveWorkspace, answer: Answer, guard: bool):
    """Whether there is a profile afterwards. Nothing else can show that the event was processed, so all of the time is waited."""
    person = workspace.person(f"unknown-{int(guard)}")
    attributes = {"_update": True} if guard else {}
    workspace.send(answer, event(person, MARK, attributes, ulid=new_ulid(), timestamp=int(time.time())))
    found, answer.facts["seconds"] = workspace.until(lambda: workspace.attributes(person))
    answer.judge(bool(found), "a profile is there" if found else f"no profile within {workspace.wait_s:g} s")


@pytest.mark.asks(
    "In which order are two operations of one person in one batch applied?",
    "in any: the product sends one identify per person and batch",
    "rs_cio_assets/delivery/classify.py",
)
def test_two_updates_in_one_batch(workspace: LiveWorkspace, answer: Answer):
    """Ten people, each identified twice in one batch with the same timestamp: how often the second one stands."""
    people, now = [workspace.person(f"order-{number}") for number in range(10)], int(time.time())
    workspace.send(answer, *(identify(person, {"smoke_order": str(n)}, now) for person in people for n in (1, 2)))
    with AppClient(workspace.settings) as app:
        workspace.until(lambda: len(app.attributes(people)) == len(people))
        workspace.until(lambda: False, workspace.wait_s / 10)
        found = [profile.attributes.get("smoke_order") for profile in app.attributes(people).values()]
    answer.facts = {"first": found.count("1"), "second": found.count("2"), "of": len(people)}
    answer.judge(found.count("2") == len(people), f"the second one stands for {found.count('2')} of {len(people)}")


@pytest.mark.asks(
    "How are customers nested in POST /v1/customers/attributes, and are unknown ids left out?",
    "nested or flat, the product reads them; who is unknown is absent",
    "rs_cio_assets/customerio/app.py",
    relies=True,
)
def test_many_people_are_read_at_once(workspace: LiveWorkspace, answer: Answer):
    """One known and one unknown id, raw and by the product's client."""
    person, unknown = workspace.person("read"), workspace.person("never-made")
    workspace.send(answer, identify(person, {"smoke_read": "yes", "smoke_number": 7, "smoke_flag": True}, int(time.time())))
    workspace.until(lambda: (workspace.attributes(person) or {}).get("attributes", {}).get("smoke_read"))
    answer_raw = workspace.app(
        answer, "POST", "/v1/customers/attributes", json={"ids": [person, unknown]}, params={"id_type": "id"}
    )
    first = (answer_raw.json().get("customers") or [{}])[0]
    with AppClient(workspace.settings) as app:
        found = app.attributes([person, unknown])
    answer.facts = {"nested": "customer" in first, "attributes": dict(found[person].attributes) if person in found else None}
    is_read = set(found) == {person} and found[person].attributes.get("smoke_flag") == "true"
    answer.judge(is_read, f"read: {len(found)} of 1; nested: {'customer' in first}")


@pytest.mark.asks(
    "In which order do activities come, and where does next lead?",
    "newest first; an empty page or no next ends them",
    "rs_cio_assets/customerio/app.py",
)
def test_activities_come_newest_first(workspace: LiveWorkspace, answer: Answer):
    """Three events an hour apart, sent oldest first, read one a page."""
    person, now = workspace.person("pages"), int(time.time())
    for hours in (3, 2, 1):
        workspace.send(answer, event(person, MARK, {"hours": hours}, ulid=new_ulid(), timestamp=now - hours * HOUR_S))
        workspace.until(lambda hours=hours: len(workspace.activities(None, person, type="event", name=MARK)) == 4 - hours)
    found: list[int] = []
    start, pages = "", 0
    while pages < 10:
        path = f"/v1/customers/{person}/activities"
        params: dict[str, Any] = {
            "id_type": "id",
            "limit": 1,
            "type": "event",
            "name": MARK,
            **({"start": start} if start else {}),
        }
        page = workspace.app(answer, "GET", path, params=params).json()
        found += [item["timestamp"] for item in page.get("activities") or []]
        pages, start = pages + 1, page.get("next") or ""
        if not start or not page.get("activities"):
            break
    answer.facts = {
        "hours before now, in their order": [round((now - timestamp) / HOUR_S) for timestamp in found],
        "pages": pages,
    }
    answer.judge(found == sorted(found, reverse=True) and len(found) == 3, f"{answer.facts}")


def processed(workspace: LiveWorkspace, answer: Answer, person: str) -> dict[str, Any]:
    """A person's attributes of this suite, once an event that was sent after the updates is there, and a little later."""
    ulid = new_ulid()
    workspace.send(answer, event(person, MARK, {"mark": ulid}, ulid=ulid, timestamp=int(time.time())))
    workspace.until(
        lambda: [a for a in workspace.activities(None, person, type="event", name=MARK) if a["data"].get("mark") == ulid]
    )
    workspace.until(lambda: False, workspace.wait_s / 10)
    found = (workspace.attributes(person) or {}).get("attributes", {})
    return {name: value for name, value in found.items() if name.startswith("smoke_")}
