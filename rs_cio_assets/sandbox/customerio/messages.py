"""Messages that journeys made: kept, logged as activities, and listed as the App API publishes them. Nothing leaves the stand-in.

Source: customerio-api.md, section 4.5. Unpublished, so our reading: the newest message comes first.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.app_request import (
    BadRequest,
    MakeRoute,
    error,
    identifiers_of,
    limit_of,
    person_of,
    start_of,
)
from rs_cio_assets.sandbox.customerio.campaigns import LARGEST_ID, Campaign, campaign_of
from rs_cio_assets.sandbox.customerio.database import Row
from rs_cio_assets.sandbox.customerio.workspace import Workspace

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS messages (
        number INTEGER PRIMARY KEY, campaign_id INTEGER NOT NULL, action_id INTEGER NOT NULL,
        cio_id INTEGER, -- null once the person is gone
        identifiers TEXT NOT NULL, recipient TEXT NOT NULL, -- both as they were when the message was made
        metric TEXT NOT NULL, created INTEGER NOT NULL, event_id TEXT
    ) STRICT""",
    "CREATE INDEX IF NOT EXISTS messages_of_campaign ON messages (campaign_id)",
    "CREATE INDEX IF NOT EXISTS messages_of_person ON messages (cio_id)",
)
MESSAGES_DEFAULT, MESSAGES_MAX = 50, 1_000
WINDOW_S = 184 * 86_400  # "6 months"
METRICS = frozenset(
    {"attempted", "sent", "delivered", "opened", "clicked", "converted"}
    | {"bounced", "spammed", "unsubscribed", "dropped", "failed", "undeliverable"}
)
TYPES = frozenset({"email", "webhook", "twilio", "whatsapp", "slack", "push", "in_app", "live_notification"})


def create_message_tables(workspace: Workspace) -> None:
    """Create what is not there yet."""
    for statement in SCHEMA:
        workspace.change(statement)


def make_message(workspace: Workspace, campaign: Campaign, cio_id: int, event_id: str | None, now: int) -> bool:
    """Make the campaign's message for a person, with its activity. True when it was sent, False when it is undeliverable."""
    (person,) = workspace.rows("SELECT * FROM people WHERE cio_id = ?", (cio_id,))
    metric = "undeliverable" if person["email"] is None else "sent"
    ((number,),) = workspace.rows(
        "INSERT INTO messages (campaign_id, action_id, cio_id, identifiers, recipient, metric, created, event_id) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING number",
        (
            campaign.campaign_id,
            campaign.action_id,
            cio_id,
            json.dumps(identifiers_of(person)),
            person["email"] or "",
            metric,
            now,
            event_id,
        ),
    )
    workspace.change(
        "INSERT INTO activities (cio_id, type, timestamp, received_at, data) VALUES (?, ?, ?, ?, ?)",
        (cio_id, f"{metric}_email", now, now, json.dumps({"delivery_id": _delivery_id(number)})),
    )
    return metric == "sent"


def message_reads(workspace: Workspace, route: MakeRoute) -> list[Route]:
    """Routes of all messages, a campaign's, a person's."""

    def all_messages(request: Request, _body: Any) -> Response:
        conditions: dict[str, Any] = {}
        for name in ("campaign_id", "action_id"):
            if (number := _number(request, name)) is not None:
                conditions[f"{name} = ?"] = number
        return listed(request, conditions)

    def of_campaign(request: Request, _body: Any) -> Response:
        campaign = campaign_of(workspace, request.path_params["campaign_id"])
        return error(404, "campaign not found") if campaign is None else listed(request, {"campaign_id = ?": campaign["id"]})

    def of_person(request: Request, _body: Any) -> Response:
        person = person_of(workspace, request)
        return error(404, "customer not found") if person is None else listed(request, {"cio_id = ?": person["cio_id"]})

    def listed(request: Request, conditions: dict[str, Any]) -> Response:
        limit = limit_of(request, MESSAGES_DEFAULT, MESSAGES_MAX)
        if (start := start_of(request)) is not None:
            conditions["number < ?"] = start
        if metric := _one_of(request, "metric", METRICS):
            conditions["metric = ?"] = metric
        end_ts = _number(request, "end_ts") or workspace.now()
        conditions["created <= ?"] = end_ts
        conditions["created >= ?"] = max(_number(request, "start_ts") or 0, end_ts - WINDOW_S)
        is_of_others = _one_of(request, "type", TYPES) not in {None, "email"} or _number(request, "newsletter_id") is not None
        if is_of_others or _one_of(request, "drafts", frozenset({"true", "false"})) == "true":
            conditions["?"] = 0  # here every message is a campaign's email, and none is a draft
        rows = workspace.rows(
            f"SELECT * FROM messages WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?",  # noqa: S608
            (*conditions.values(), limit),
        )
        following = str(rows[-1]["number"]) if len(rows) == limit else ""
        return JSONResponse({"messages": [_message(row) for row in rows] or None, "next": following})

    return [
        route("/v1/messages", all_messages, "GET"),
        route("/v1/campaigns/{campaign_id:int}/messages", of_campaign, "GET"),
        route("/v1/customers/{customer_id:path}/messages", of_person, "GET"),
    ]


def _message(row: Row) -> dict[str, Any]:
    identifiers = json.loads(row["identifiers"])
    return {
        "id": _delivery_id(row["number"]),
        "deduplicate_id": f"{_delivery_id(row['number'])}:{row['created']}",
        "type": "email",
        "customer_id": identifiers["id"],
        "customer_identifiers": identifiers,
        "recipient": row["recipient"],
        "subject": None,
        "metrics": {row["metric"]: row["created"]},
        "created": row["created"],
        "failure_message": None,
        "campaign_id": row["campaign_id"],
        "action_id": row["action_id"],
        "trigger_event_id": row["event_id"],
    }


def _delivery_id(number: int) -> str:
    return f"dgT{number:09d}"


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if not text:
        return None
    if not (text.isdecimal() and int(text) <= LARGEST_ID):
        raise BadRequest(f"{name} must be a number of 0 to {LARGEST_ID}")
    return int(text)


def _one_of(request: Request, name: str, known: frozenset[str]) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in known:
        raise BadRequest(f"{name} must be one of {', '.join(sorted(known))}")
    return text
