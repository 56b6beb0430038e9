"""The App API's read side: people by email, filter and id, their attributes and activities. Every attribute is a string.

Source: customerio-api.md, sections 4.1 and 4.2.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.track_api import UNAUTHORIZED
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

IDS_PER_REQUEST = 100
ACTIVITIES_DEFAULT, ACTIVITIES_MAX = 10, 100
SEARCH_DEFAULT, SEARCH_MAX = 50, 1_000
Endpoint = Callable[[Request, Any], Response]


class _BadRequest(Exception):
    """The request cannot be answered; the text goes into the answer."""


def app_routes(workspace: Workspace, app_api_key: str) -> list[Route]:
    """Routes of the App API for one workspace and its key."""
    expected = f"Bearer {app_api_key}".encode()

    def route(path: str, endpoint: Endpoint, method: str) -> Route:
        async def guarded(request: Request) -> Response:
            if not hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
                return JSONResponse(UNAUTHORIZED, 401)
            try:
                return endpoint(request, json.loads(await request.body()) if method == "POST" else None)
            except (_BadRequest, ValueError) as error:
                return _error(400, str(error))

        return Route(path, guarded, methods=[method])

    def by_email(request: Request, _body: Any) -> Response:
        person = workspace.find("email", request.query_params.get("email", ""))
        found = [] if person is None else [{"email": person["email"], "id": person["id"], "cio_id": _cio_id(person)}]
        return JSONResponse({"results": found})

    def search(request: Request, body: Any) -> Response:
        condition, values = _condition(body.get("filter") if isinstance(body, dict) else None)
        limit = _limit(request, SEARCH_DEFAULT, SEARCH_MAX)
        after = int(request.query_params.get("start") or 0)
        people = workspace.rows(
            f"SELECT * FROM people WHERE cio_id > ? AND ({condition}) ORDER BY cio_id LIMIT ?",  # noqa: S608
            (after, *values, limit),
        )
        return JSONResponse(
            {
                "identifiers": [_identifiers(p) for p in people],
                "ids": [p["id"] for p in people if p["id"] is not None],
                "next": str(people[-1]["cio_id"]) if len(people) == limit else "",
            }
        )

    def attributes(request: Request, _body: Any) -> Response:
        person = _person(workspace, request)
        return _error(404, "customer not found") if person is None else JSONResponse({"customer": _profile(person)})

    def attributes_of_many(request: Request, body: Any) -> Response:
        ids = body.get("ids") if isinstance(body, dict) else None
        if not isinstance(ids, list) or not 1 <= len(ids) <= IDS_PER_REQUEST:
            raise _BadRequest(f"ids must hold 1 to {IDS_PER_REQUEST} identifiers")
        kind = request.query_params.get("id_type", "id")
        people = (workspace.find(kind, str(value)) for value in ids)
        return JSONResponse({"customers": [{"customer": _profile(p)} for p in people if p is not None]})

    def activities(request: Request, _body: Any) -> Response:
        person = _person(workspace, request)
        if person is None:
            return _error(404, "customer not found")
        limit = _limit(request, ACTIVITIES_DEFAULT, ACTIVITIES_MAX)
        conditions, values = ["cio_id = ?"], [person["cio_id"]]
        for name in ("type", "name"):
            if request.query_params.get(name):
                conditions.append(f"{name} = ?")
                values.append(request.query_params[name])
        if request.query_params.get("start"):
            conditions.append("number < ?")
            values.append(int(request.query_params["start"]))
        found = workspace.rows(
            f"SELECT * FROM activities WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?",  # noqa: S608
            (*values, limit),
        )
        following = str(found[-1]["number"]) if len(found) == limit else ""
        return JSONResponse({"activities": [_activity(person, row) for row in found] or None, "next": following})

    return [
        route("/v1/customers", by_email, "GET"),
        route("/v1/customers", search, "POST"),
        route("/v1/customers/attributes", attributes_of_many, "POST"),
        route("/v1/customers/{customer_id}/attributes", attributes, "GET"),
        route("/v1/customers/{customer_id}/activities", activities, "GET"),
    ]


def _person(workspace: Workspace, request: Request) -> Row | None:
    return workspace.find(request.query_params.get("id_type", "id"), request.path_params["customer_id"])


def _profile(person: Row) -> dict[str, Any]:
    attributes: dict[str, str] = json.loads(person["attributes"])
    identifiers = _identifiers(person)
    return {
        "id": person["id"],
        "identifiers": identifiers,
        "attributes": {**attributes, **{k: v for k, v in identifiers.items() if v is not None}},
        "timestamps": json.loads(person["set_at"]),
        "unsubscribed": attributes.get("unsubscribed", "").lower() in {"true", "1"},
        "devices": [],
    }


def _identifiers(person: Row) -> dict[str, str | None]:
    return {"cio_id": _cio_id(person), "id": person["id"], "email": person["email"]}


def _cio_id(person: Row) -> str:
    return f"a{person['cio_id']:07d}"


def _activity(person: Row, row: Row) -> dict[str, Any]:
    return {
        "id": row["event_id"] or str(row["number"]),
        "type": row["type"],
        "name": row["name"],
        "timestamp": row["timestamp"],
        "customer_id": person["id"],
        "customer_identifiers": _identifiers(person),
        "data": json.loads(row["data"]),
    }


def _condition(node: Any) -> tuple[str, list[Any]]:
    """A filter as SQL: `eq` and `exists` on attributes, joined by `and`, `or`, `not`."""
    if not isinstance(node, Mapping) or len(node) != 1:
        raise _BadRequest("filter must hold exactly one condition")
    ((name, value),) = node.items()
    if name == "not":
        inner, values = _condition(value)
        return f"NOT ({inner})", values
    if name in {"and", "or"} and isinstance(value, list) and value:
        parts = [_condition(part) for part in value]
        return f" {name.upper()} ".join(f"({sql})" for sql, _ in parts), [v for _, vs in parts for v in vs]
    if name == "attribute" and isinstance(value, Mapping) and "field" in value:
        found = "json_extract(attributes, '$.\"' || ? || '\"')"
        if value.get("operator") == "exists":
            return f"{found} IS NOT NULL", [value["field"]]
        if value.get("operator") == "eq":
            return f"{found} = ?", [value["field"], str(value.get("value"))]
    raise _BadRequest("only attribute conditions with eq or exists, and, or, not are known")


def _limit(request: Request, default: int, maximum: int) -> int:
    limit = int(request.query_params.get("limit") or default)
    if not 1 <= limit <= maximum:
        raise _BadRequest(f"limit must be 1 to {maximum}")
    return limit


def _error(status: int, detail: str) -> Response:
    return JSONResponse({"errors": [{"detail": detail, "status": str(status)}]}, status)
