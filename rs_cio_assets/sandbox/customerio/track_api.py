"""The Track API's routes: region, entity, batch. Shapes of the answers are the published ones.

Source: customerio-api.md, sections 1.1, 1.2 and 1.4.
"""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.rules import BODY_BYTES, OPERATION_BYTES, Problem, problems_of
from rs_cio_assets.sandbox.customerio.workspace import Workspace

WORKSPACE_ID = 100_001
UNAUTHORIZED = {"meta": {"error": "Unauthorized request"}}


def track_routes(workspace: Workspace, site_id: str, api_key: str) -> list[Route]:
    """Routes of the Track API for one workspace and its credentials."""
    expected = b"Basic " + base64.b64encode(f"{site_id}:{api_key}".encode())

    def refusal(request: Request) -> Response | None:
        if hmac.compare_digest(request.headers.get("Authorization", "").encode(), expected):
            return None
        realm = {"WWW-Authenticate": 'Basic realm="Customer.io edge event collection"'}
        return JSONResponse(UNAUTHORIZED, 401, headers=realm)

    async def region(request: Request) -> Response:
        return refusal(request) or JSONResponse(
            {"url": "https://track.customer.io", "region": "us", "environment_id": WORKSPACE_ID}
        )

    async def entity(request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        operation = _parse(await request.body(), OPERATION_BYTES)
        if isinstance(operation, list):
            return JSONResponse({"errors": operation}, 400)
        if problems := problems_of(operation):
            return JSONResponse({"errors": problems}, 400)
        await run_in_threadpool(workspace.apply, [operation])
        return JSONResponse({})

    async def batch(request: Request) -> Response:
        if (refused := refusal(request)) is not None:
            return refused
        body = _parse(await request.body(), BODY_BYTES)
        if isinstance(body, list):
            return JSONResponse({"errors": body}, 400)
        operations = body.get("batch") if isinstance(body, dict) else None
        if not isinstance(operations, list) or not operations:
            return JSONResponse({"errors": [_problem("batch", "batch must be a list of operations")]}, 400)
        errors = await run_in_threadpool(_take, workspace, operations)
        return JSONResponse({"errors": errors}, 207) if errors else JSONResponse({})

    return [
        Route("/api/v1/accounts/region", region, methods=["GET"]),
        Route("/api/v2/entity", entity, methods=["POST"]),
        Route("/api/v2/batch", batch, methods=["POST"]),
    ]


def _take(workspace: Workspace, operations: list[Any]) -> list[Problem]:
    """Apply what is valid; the rest is named by its place in the batch."""
    errors: list[Problem] = []
    valid = []
    for index, operation in enumerate(operations):
        if problems := problems_of(operation):
            errors += [{"batch_index": index, **problem} for problem in problems]
        else:
            valid.append(operation)
    workspace.apply(valid)
    return errors


def _parse(body: bytes, limit: int) -> Any:
    """The JSON value of *body*; a list of problems when it cannot be taken."""
    if len(body) > limit:
        return [_problem("", f"request body cannot be larger than {limit // 1000}kb")]
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return [_problem("", "request body must be valid JSON")]
    return [_problem("", "request body must be an object")] if isinstance(parsed, list) else parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _problem(field: str, message: str) -> Problem:
    return {"reason": "invalid", "field": field, "message": message}
