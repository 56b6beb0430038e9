"""Campaigns of the workspace as they are kept: what the App API lists, and what Customer.io shows on its own pages only.

The routes under `/sandbox` stand for Customer.io's editor. Whom a campaign reaches, and when, is `journeys.py`'s matter.
Source of the shape: customerio-api.md, section 4.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.conditions import where_problems
from rs_cio_assets.sandbox.customerio.rules import EVENT_NAME_BYTES, is_seconds
from rs_cio_assets.sandbox.customerio.workspace import Workspace

STATES = ("running", "draft", "stopped")
FREQUENCIES = ("every_time", "once")
LARGEST_ID = 2**63 - 1  # of SQLite's integers
LONGEST_DELAY_S = 366 * 86_400
# What Customer.io keeps to its pages: no route of the App API returns it.
UNPUBLISHED = frozenset({"trigger_filter", "delay_seconds", "only_if_segment_ids", "frequency", "includes_current"})


@dataclass(frozen=True)
class Campaign:
    """A campaign as its journeys need it. Of several segments in one list, a person must be in all."""

    campaign_id: int
    is_running: bool
    event_name: str | None
    trigger_filter: Mapping[str, Any]
    trigger_segment_ids: tuple[int, ...]
    filter_segment_ids: tuple[int, ...]
    delay_s: int
    only_if_segment_ids: tuple[int, ...]
    is_once: bool
    is_open_to_current: bool
    action_id: int


def campaigns_of(workspace: Workspace) -> list[dict[str, Any]]:
    """Every campaign as the App API lists it, by id."""
    return [{name: value for name, value in kept.items() if name not in UNPUBLISHED} for kept in kept_campaigns(workspace)]


def campaign_of(workspace: Workspace, campaign_id: int) -> dict[str, Any] | None:
    """One campaign as the App API lists it; None where there is none."""
    return next((campaign for campaign in campaigns_of(workspace) if campaign["id"] == campaign_id), None)


def plans_of(workspace: Workspace) -> dict[int, Campaign]:
    """Every campaign as its journeys need it, by id."""
    return {kept["id"]: _plan(kept) for kept in kept_campaigns(workspace)}


def campaign_routes(workspace: Workspace, on_change: Callable[[], None]) -> list[Route]:
    """PUT and DELETE of one campaign. The App API can do neither: campaigns are made in Customer.io's pages.

    *on_change* is called within the transaction of each change.
    """

    async def put(request: Request) -> Response:
        campaign_id = request.path_params["campaign_id"]
        try:
            campaign = json.loads(await request.body())
            if problems := list(_problems(campaign_id, campaign)):
                return JSONResponse({"error": "; ".join(problems)}, 400)
            return JSONResponse(await run_in_threadpool(save, campaign_id, campaign))
        except (ValueError, RecursionError):
            return JSONResponse({"error": "the body must be JSON in UTF-8"}, 400)

    def save(campaign_id: int, campaign: Mapping[str, Any]) -> dict[str, Any]:
        with workspace.transaction():
            workspace.settle()
            saved = save_campaign(workspace, campaign_id, campaign)
            on_change()
            return saved

    def delete(request: Request) -> Response:
        campaign_id = request.path_params["campaign_id"]
        with workspace.transaction():
            workspace.settle()
            if campaign_id <= LARGEST_ID and workspace.change("DELETE FROM campaigns WHERE id = ?", (campaign_id,)):
                on_change()
                return Response(status_code=204)
        return JSONResponse({"error": "there is no such campaign"}, 404)

    path = "/sandbox/campaigns/{campaign_id:int}"
    return [Route(path, put, methods=["PUT"]), Route(path, delete, methods=["DELETE"])]


def save_campaign(workspace: Workspace, campaign_id: int, campaign: Mapping[str, Any]) -> dict[str, Any]:
    """Create or replace it. A time that is not given is the earlier one or now; 0 says that it never started."""
    now = workspace.now()
    earlier = next((known for known in kept_campaigns(workspace) if known["id"] == campaign_id), {})
    is_running = campaign["state"] == "running"
    saved = {
        "created": earlier.get("created", now),
        "updated": now,
        "first_started": earlier.get("first_started") or (now if is_running else 0),
        "actions": [],
        "tags": [],
        **campaign,
        "id": campaign_id,
        "active": is_running,
    }
    saved["deduplicate_id"] = f"{campaign_id}:{saved['updated']}"
    text = json.dumps(saved, ensure_ascii=False)
    workspace.change("INSERT OR REPLACE INTO campaigns VALUES (?, ?)", (campaign_id, text))
    return saved


def kept_campaigns(workspace: Workspace) -> list[dict[str, Any]]:
    """Every campaign as Customer.io's own pages show it, by id."""
    return [json.loads(row["campaign"]) for row in workspace.rows("SELECT campaign FROM campaigns ORDER BY id")]


def _plan(kept: Mapping[str, Any]) -> Campaign:
    return Campaign(
        campaign_id=kept["id"],
        is_running=kept["state"] == "running",
        event_name=kept.get("event_name"),
        trigger_filter=kept.get("trigger_filter", {}),
        trigger_segment_ids=tuple(kept.get("trigger_segment_ids", ())),
        filter_segment_ids=tuple(kept.get("filter_segment_ids", ())),
        delay_s=kept.get("delay_seconds", 0),
        only_if_segment_ids=tuple(kept.get("only_if_segment_ids", ())),
        is_once=kept.get("frequency") == "once",
        is_open_to_current=kept.get("includes_current", False),
        # A campaign that was saved without actions sends its one message all the same, under its own id.
        action_id=next((action["id"] for action in kept["actions"]), kept["id"]),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != ""


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 < value <= LARGEST_ID


def _is_event_name(value: Any) -> bool:
    """True for a name that an event can have: Customer.io strips the blanks around it."""
    return _is_name(value) and value == value.strip() and len(value.encode()) <= EVENT_NAME_BYTES


def _is_action(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"type", "id"} and _is_name(value["type"]) and _is_id(value["id"])


def _is_list_of(is_item: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(is_item, value))


# Each member of a campaign: what it must be, and the test for it.
_MEMBERS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "id": ("the number in the path", _is_id),
    "deduplicate_id": ("a text", _is_text),
    "name": ("a text that is not blank", _is_name),
    "description": ("a text", _is_text),
    "type": ("a text", _is_text),
    "created": ("unix seconds", is_seconds),
    "updated": ("unix seconds", is_seconds),
    "active": ("a boolean, true for running only", lambda value: isinstance(value, bool)),
    "state": (f"one of {', '.join(STATES)}", lambda value: value in STATES),
    "actions": ("a list of objects with type and id", _is_list_of(_is_action)),
    "first_started": ("unix seconds", is_seconds),
    "tags": ("a list of texts", _is_list_of(_is_text)),
    "event_name": (f"an event's name, at most {EVENT_NAME_BYTES} bytes", _is_event_name),
    "trigger_segment_ids": ("a list of at least one id", lambda value: value != [] and _is_list_of(_is_id)(value)),
    "filter_segment_ids": ("a list of ids", _is_list_of(_is_id)),
    "trigger_filter": ("conditions on the event's data", lambda value: not where_problems(value)),
    "delay_seconds": (f"0 to {LONGEST_DELAY_S}", lambda value: is_seconds(value) and value <= LONGEST_DELAY_S),
    "only_if_segment_ids": ("a list of ids", _is_list_of(_is_id)),
    "frequency": (f"one of {', '.join(FREQUENCIES)}", lambda value: value in FREQUENCIES),
    "includes_current": ("a boolean", lambda value: isinstance(value, bool)),
}


def _problems(campaign_id: int, campaign: Any) -> Iterator[str]:
    """Why a campaign is refused."""
    if not _is_id(campaign_id):
        yield f"the id must be 1 to {LARGEST_ID}"
    if not isinstance(campaign, dict):
        yield "a campaign must be an object"
        return
    for name in ("name", "state"):
        if name not in campaign:
            yield f"{name} is missing"
    for name, value in campaign.items():
        if name not in _MEMBERS:
            yield f"a campaign has no {name}"
        elif not _MEMBERS[name][1](value):
            yield f"{name} must be {_MEMBERS[name][0]}"
    if campaign.get("id", campaign_id) != campaign_id:
        yield f"id must be {_MEMBERS['id'][0]}"
    is_running = campaign.get("state") == "running"
    if campaign.get("active", is_running) != is_running:
        yield f"active must be {_MEMBERS['active'][0]}"
    if "event_name" in campaign and "trigger_segment_ids" in campaign:
        yield "a campaign is triggered by an event or by segments, not by both"
    for name, trigger in (("trigger_filter", "event_name"), ("includes_current", "trigger_segment_ids")):
        if name in campaign and trigger not in campaign:
            yield f"{name} needs {trigger}"
