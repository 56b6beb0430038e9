"""What the App API's endpoints share: parameters, refusals, how people are named. `app_api.py` mounts and guards them.

Source: customerio-api.md, section 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

ID_TYPES = frozenset({"id", "email", "cio_id"})  # phone is not enabled as an identifier in this workspace
MAX_START_DIGITS = 19  # longer ones do not fit SQLite's integers
Endpoint = Callable[[Request, Any], Response]  # of the request and its JSON body, None but for POST
MakeRoute = Callable[[str, Endpoint, str], Route]  # of path, endpoint and method: guarded as every route of the App API


class BadRequest(Exception):
    """The request cannot be answered; the text goes into the answer."""


def error(status: int, detail: str) -> Response:
    """An answer that refuses."""
    return JSONResponse({"errors": [{"detail": detail, "status": str(status)}]}, status)


def limit_of(request: Request, default: int, maximum: int) -> int:
    """Items a page. Raises: BadRequest."""
    limit = int(request.query_params.get("limit") or default)
    if not 1 <= limit <= maximum:
        raise BadRequest(f"limit must be 1 to {maximum}")
    return limit


def start_of(request: Request) -> int | None:
    """Where the page begins; None for the first. Raises: BadRequest."""
    text = request.query_params.get("start", "")
    if text and not (text.isdecimal() and len(text) < MAX_START_DIGITS):
        raise BadRequest("start must be the next of an earlier answer")
    return int(text) if text else None


def id_type_of(request: Request) -> str:
    """The identifier that people are named by. Raises: BadRequest."""
    kind = request.query_params.get("id_type", "id")
    if kind not in ID_TYPES:
        raise BadRequest(f"id_type must be one of {', '.join(sorted(ID_TYPES))}")
    return kind


def person_of(workspace: Workspace, request: Request) -> Row | None:
    """Whom the path names."""
    return workspace.find(id_type_of(request), request.path_params["customer_id"])


def identifiers_of(person: Row) -> dict[str, str | None]:
    """All identifiers of somebody, from a row with cio_id, id and email."""
    return {"cio_id": f"a{person['cio_id']:07d}", "id": person["id"], "email": person["email"]}
