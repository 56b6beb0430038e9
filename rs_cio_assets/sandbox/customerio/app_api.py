"""The App API's read side: its guard, and people by email, filter and id with their attributes. Attributes are strings.

Segments, activities and what campaigns did have files of their own. Source: customerio-api.md, sections 3, 4.1 and 4.4.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.activities import activity_reads
from rs_cio_assets.sandbox.customerio.app_request import (
    BadRequest,
    Endpoint,
    MakeRoute,
    error,
    id_type_of,
    identifiers_of,
    limit_of,
    person_of,
    start_of,
)
from rs_cio_assets.sandbox.customerio.campaign_api import campaign_reads
from rs_cio_assets.sandbox.customerio.campaigns import campaigns_of
from rs_cio_assets.sandbox.customerio.conditions import MAX_DEPTH, Fragment, condition_sql
from rs_cio_assets.sandbox.customerio.messages import message_reads
from rs_cio_assets.sandbox.customerio.rate_limit import Bucket
from rs_cio_assets.sandbox.customerio.segment_api import segment_reads
from rs_cio_assets.sandbox.customerio.segments import segment_sql
from rs_cio_assets.sandbox.customerio.track_api import UNAUTHORIZED, WORKSPACE_ID
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

IDS_PER_REQUEST = 100
SEARCH_DEFAULT, SEARCH_MAX = 50, 1_000


def app_routes(workspace: Workspace, app_api_key: str, requests_per_s: float | None, settle: Callable[[], None]) -> list[Route]:
    """Routes of the App API for one workspace, its key, and its limit over all of them. *settle* is called before each read."""
    expected = f"Bearer {app_api_key}".encode()
    bucket = Bucket(requests_per_s)

    def refusal(request: Request) -> Response | None:
        if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
            return JSONResponse(UNAUTHORIZED, 401)
        faults = workspace.faults()
        if faults.get("app_requests_used_elsewhere") or not bucket.has_taken():
            refused = error(429, "too many requests")
            refused.headers["Retry-After"] = "1"
            return refused
        return error(403, "the key has no access to this endpoint") if faults.get("app_scope_missing") else None

    def route(path: str, endpoint: Endpoint, method: str) -> Route:
        def answer(request: Request, body: bytes) -> Response:
            settle()
            try:
                return endpoint(request, json.loads(body) if method == "POST" else None)
            except (BadRequest, ValueError, RecursionError) as refused:
                return error(400, str(refused))

        async def guarded(request: Request) -> Response:
            return refusal(request) or await run_in_threadpool(answer, request, await request.body())

        return Route(path, guarded, methods=[method])

    def campaigns(_request: Request, _body: Any) -> Response:
        return JSONResponse({"campaigns": campaigns_of(workspace) or None})

    def workspaces(_request: Request, _body: Any) -> Response:
        counts = {"messages_sent": 0, "billable_messages_sent": 0, "people": 0, "object_types": 0, "objects": 0}  # cached, live
        return JSONResponse({"workspaces": [{"id": WORKSPACE_ID, "name": "Sandbox", **counts}]})

    return [
        *activity_reads(workspace, route),
        *segment_reads(workspace, route),
        *_people_reads(workspace, route),
        route("/v1/campaigns", campaigns, "GET"),
        route("/v1/workspaces", workspaces, "GET"),
        *campaign_reads(workspace, route),
        *message_reads(workspace, route),
    ]


def _people_reads(workspace: Workspace, route: MakeRoute) -> list[Route]:
    def by_email(request: Request, _body: Any) -> Response:
        person = workspace.find("email", request.query_params.get("email", ""))
        return JSONResponse({"results": [] if person is None else [identifiers_of(person)]})

    def search(request: Request, body: Any) -> Response:
        node = body.get("filter") if isinstance(body, dict) else None
        _refuse_unpublished(node)
        now = workspace.now()
        condition, values = condition_sql(node, now, lambda segment_id: _segment(workspace, segment_id, now))
        limit = limit_of(request, SEARCH_DEFAULT, SEARCH_MAX)
        people = workspace.rows(
            f"SELECT * FROM people WHERE cio_id > ? AND ({condition}) ORDER BY cio_id LIMIT ?",  # noqa: S608 - by conditions.py
            (start_of(request) or 0, *values, limit),
        )
        return JSONResponse(
            {
                "identifiers": [identifiers_of(p) for p in people],
                "ids": [p["id"] for p in people if p["id"] is not None],
                "next": str(people[-1]["cio_id"]) if len(people) == limit else "",
            }
        )

    def attributes(request: Request, _body: Any) -> Response:
        person = person_of(workspace, request)
        return error(404, "customer not found") if person is None else JSONResponse({"customer": _profile(person)})

    def attributes_of_many(request: Request, body: Any) -> Response:
        ids = body.get("ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or not 1 <= len(ids) <= IDS_PER_REQUEST:
            raise BadRequest(f"ids must hold 1 to {IDS_PER_REQUEST} identifiers")
        kind = id_type_of(request)
        if not all(isinstance(value, str) for value in ids):
            raise BadRequest("ids must be texts")
        people = (workspace.find(kind, value) for value in ids)
        return JSONResponse({"customers": [{"customer": _profile(p)} for p in people if p is not None]})

    return [
        route("/v1/customers", by_email, "GET"),
        route("/v1/customers", search, "POST"),
        route("/v1/customers/attributes", attributes_of_many, "POST"),
        route("/v1/customers/{customer_id:path}/attributes", attributes, "GET"),
    ]


def _profile(person: Row) -> dict[str, Any]:
    attributes: dict[str, str] = json.loads(person["attributes"])
    identifiers = identifiers_of(person)
    return {
        "id": person["id"] or "",  # text as published, also of somebody known by email alone
        "identifiers": identifiers,
        "attributes": {**attributes, **{k: v for k, v in identifiers.items() if v is not None}},
        "timestamps": json.loads(person["set_at"]),
        "unsubscribed": attributes.get("unsubscribed", "").lower() in {"true", "1"},
        "devices": [],
    }


def _segment(workspace: Workspace, segment_id: int, now: int) -> Fragment:
    found = segment_sql(workspace, segment_id, now)
    if found is None:
        raise BadRequest(f"there is no segment {segment_id}")
    return found


def _refuse_unpublished(node: Any, depth: int = 1) -> None:
    """The API knows less than the pages: `eq` and `exists` on attributes and id, and segments, joined by `and`, `or`, `not`.

    Whatever is no condition at all is left to `condition_sql`. Raises: BadRequest.
    """
    for kind, value in node.items() if isinstance(node, Mapping) and depth <= MAX_DEPTH else ():
        for part in value if isinstance(value, list) else [value]:
            if kind in {"and", "or", "not"}:
                _refuse_unpublished(part, depth + 1)
        has_operator = isinstance(value, Mapping) and value.get("operator") in ("exists", "eq")
        is_text = not isinstance(value, Mapping) or isinstance(value.get("value", ""), str)
        if kind == "event" or (kind == "attribute" and not (has_operator and is_text)):
            raise BadRequest("only segments and attribute conditions with eq or exists, and, or, not are known")
