"""The App API's read side: people by email, filter and id, their attributes and activities; campaigns. Attributes are strings.

Source: customerio-api.md, sections 4.1, 4.2 and 4.4.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.campaigns import campaigns_of
from rs_cio_assets.sandbox.customerio.track_api import UNAUTHORIZED
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

IDS_PER_REQUEST = 100
ACTIVITIES_DEFAULT, ACTIVITIES_MAX = 10, 100
SEARCH_DEFAULT, SEARCH_MAX = 50, 1_000
ID_TYPES = frozenset({"id", "email", "cio_id"})  # phone is not enabled as an identifier in this workspace
MAX_FILTER_DEPTH = 20  # of nested conditions; SQLite's parser has an end
MAX_START_DIGITS = 19  # longer ones do not fit SQLite's integers
# "event or attribute name": an attribute_change is found by each attribute that it changed.
_ACTIVITY_FILTERS = {
    "type": "type = ?",
    "name": "(name = ? OR type = 'attribute_change' AND EXISTS (SELECT 1 FROM json_each(data) WHERE key = ?))",
}
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
            except (_BadRequest, ValueError, RecursionError) as error:
                return _error(400, str(error))

        return Route(path, guarded, methods=[method])

    def by_email(request: Request, _body: Any) -> Response:
        person = workspace.find("email", request.query_params.get("email", ""))
        found = [] if person is None else [{"email": person["email"], "id": person["id"], "cio_id": _cio_id(person)}]
        return JSONResponse({"results": found})

    def search(request: Request, body: Any) -> Response:
        condition, values = _condition(body.get("filter") if isinstance(body, dict) else None)
        limit = _limit(request, SEARCH_DEFAULT, SEARCH_MAX)
        after = _start(request) or 0
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
        kind = _id_type(request)
        if not all(isinstance(value, str) for value in ids):
            raise _BadRequest("ids must be texts")
        people = (workspace.find(kind, value) for value in ids)
        return JSONResponse({"customers": [{"customer": _profile(p)} for p in people if p is not None]})

    def activities(request: Request, _body: Any) -> Response:
        person = _person(workspace, request)
        if person is None:
            return _error(404, "customer not found")
        limit = _limit(request, ACTIVITIES_DEFAULT, ACTIVITIES_MAX)
        conditions, values = ["cio_id = ?"], [person["cio_id"]]
        for name in ("type", "name"):
            if request.query_params.get(name):
                conditions.append(_ACTIVITY_FILTERS[name])
                values += [request.query_params[name]] * _ACTIVITY_FILTERS[name].count("?")
        if (start := _start(request)) is not None:
            conditions.append("number < ?")
            values.append(start)
        found = workspace.rows(
            f"SELECT * FROM activities WHERE {' AND '.join(conditions)} ORDER BY number DESC LIMIT ?",  # noqa: S608
            (*values, limit),
        )
        following = str(found[-1]["number"]) if len(found) == limit else ""
        return JSONResponse({"activities": [_activity(person, row) for row in found] or None, "next": following})

    def campaigns(_request: Request, _body: Any) -> Response:
        return JSONResponse({"campaigns": campaigns_of(workspace) or None})

    return [
        route("/v1/customers", by_email, "GET"),
        route("/v1/customers", search, "POST"),
        route("/v1/customers/attributes", attributes_of_many, "POST"),
        route("/v1/customers/{customer_id:path}/attributes", attributes, "GET"),
        route("/v1/customers/{customer_id:path}/activities", activities, "GET"),
        route("/v1/campaigns", campaigns, "GET"),
    ]


def _person(workspace: Workspace, request: Request) -> Row | None:
    return workspace.find(_id_type(request), request.path_params["customer_id"])


def _id_type(request: Request) -> str:
    kind = request.query_params.get("id_type", "id")
    if kind not in ID_TYPES:
        raise _BadRequest(f"id_type must be one of {', '.join(sorted(ID_TYPES))}")
    return kind


def _profile(person: Row) -> dict[str, Any]:
    attributes: dict[str, str] = json.loads(person["attributes"])
    identifiers = _identifiers(person)
    return {
        "id": person["id"] or "",  # text as published, also of somebody known by email alone
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
        **({"name": row["name"]} if row["name"] is not None else {}),  # published as a text, where there is one
        "timestamp": row["timestamp"],
        "customer_id": person["id"],
        "customer_identifiers": _identifiers(person),
        "data": json.loads(row["data"]),
    }


def _condition(node: Any, depth: int = 1) -> tuple[str, list[Any]]:
    """A filter as SQL that is never null: `eq` and `exists` on attributes and id, joined by `and`, `or`, `not`."""
    if not isinstance(node, Mapping) or len(node) != 1 or depth > MAX_FILTER_DEPTH:
        raise _BadRequest(f"filter must hold exactly one condition, at most {MAX_FILTER_DEPTH} within each other")
    ((name, value),) = node.items()
    if name == "not":
        inner, values = _condition(value, depth + 1)
        return f"NOT ({inner})", values
    if name in {"and", "or"} and isinstance(value, list) and value:
        parts = [_condition(part, depth + 1) for part in value]
        return f" {name.upper()} ".join(f"({sql})" for sql, _ in parts), [v for _, vs in parts for v in vs]
    if name == "attribute" and isinstance(value, Mapping) and isinstance(value.get("field"), str):
        found = "SELECT 1 FROM json_each(json_insert(people.attributes, '$.id', people.id)) WHERE key = ? AND value IS NOT NULL"
        if value.get("operator") == "exists":
            return f"EXISTS ({found})", [value["field"]]
        if value.get("operator") == "eq" and isinstance(value.get("value"), str):
            return f"EXISTS ({found} AND value = ?)", [value["field"], value["value"]]
    raise _BadRequest("only attribute conditions with eq or exists, and, or, not are known")


def _limit(request: Request, default: int, maximum: int) -> int:
    limit = int(request.query_params.get("limit") or default)
    if not 1 <= limit <= maximum:
        raise _BadRequest(f"limit must be 1 to {maximum}")
    return limit


def _start(request: Request) -> int | None:
    text = request.query_params.get("start", "")
    if text and not (text.isdecimal() and len(text) < MAX_START_DIGITS):
        raise _BadRequest("start must be the next of an earlier answer")
    return int(text) if text else None


def _error(status: int, detail: str) -> Response:
    return JSONResponse({"errors": [{"detail": detail, "status": str(status)}]}, status)
