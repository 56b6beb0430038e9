"""The App API's activity log, of one person and of the whole workspace, newest first.

Activities of people who were deleted are gone with them. Source: customerio-api.md, section 4.2.
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
    id_type_of,
    identifiers_of,
    limit_of,
    person_of,
    start_of,
)
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

DEFAULT, MAX = 10, 100
# "event or attribute name": an attribute_change is found by each attribute that it changed.
_FILTERS = {
    "type": "a.type = ?",
    "name": "(a.name = ? OR a.type = 'attribute_change' AND EXISTS (SELECT 1 FROM json_each(a.data) WHERE key = ?))",
}


def activity_reads(workspace: Workspace, route: MakeRoute) -> list[Route]:
    """Routes of both logs."""

    def of_person(request: Request, _body: Any) -> Response:
        person = person_of(workspace, request)
        return error(404, "customer not found") if person is None else _page(workspace, request, person["cio_id"])

    def of_workspace(request: Request, _body: Any) -> Response:
        if request.query_params.get("deleted", "false") not in {"true", "false"}:
            raise BadRequest("deleted must be true or false")
        person_id = request.query_params.get("customer_id")
        if person_id is None:
            return _page(workspace, request, None)
        person = workspace.find(id_type_of(request), person_id)
        return _page(workspace, request, 0 if person is None else person["cio_id"])  # nobody has 0, and so no activities

    return [
        route("/v1/customers/{customer_id:path}/activities", of_person, "GET"),
        route("/v1/activities", of_workspace, "GET"),
    ]


def _page(workspace: Workspace, request: Request, cio_id: int | None) -> Response:
    limit = limit_of(request, DEFAULT, MAX)
    conditions, values = ["true"], []
    if cio_id is not None:
        conditions, values = ["a.cio_id = ?"], [cio_id]
    for name, condition in _FILTERS.items():
        if request.query_params.get(name):
            conditions.append(condition)
            values += [request.query_params[name]] * condition.count("?")
    if (start := start_of(request)) is not None:
        conditions.append("a.number < ?")
        values.append(start)
    found = workspace.rows(
        "SELECT a.*, p.id, p.email FROM activities AS a CROSS JOIN people AS p USING (cio_id) "  # noqa: S608 - this order of reading
        f"WHERE {' AND '.join(conditions)} ORDER BY a.number DESC LIMIT ?",
        (*values, limit),
    )
    following = str(found[-1]["number"]) if len(found) == limit else ""
    return JSONResponse({"activities": [_activity(row) for row in found] or None, "next": following})


def _activity(row: Row) -> dict[str, Any]:
    data = json.loads(row["data"])
    delivery = {"delivery_id": data["delivery_id"], "delivery_type": "email"} if row["type"].endswith("_email") else {}
    return {
        "id": row["event_id"] or str(row["number"]),
        "type": row["type"],
        **({"name": row["name"]} if row["name"] is not None else {}),  # published as a text, where there is one
        "timestamp": row["timestamp"],
        "customer_id": row["id"],
        "customer_identifiers": identifiers_of(row),
        **delivery,
        "data": data,
    }
