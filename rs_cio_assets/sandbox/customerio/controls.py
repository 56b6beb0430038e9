"""What tests and the demo may turn, under `/sandbox`: the workspace's time, and what is misconfigured in it.

Both are kept over a restart. The faults are what Customer.io does silently where its settings are wrong, or somebody else uses
the workspace: every answer stays as it would be there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.rules import LATEST_SECONDS, size_of
from rs_cio_assets.sandbox.customerio.workspace import Workspace


def control_routes(workspace: Workspace) -> list[Route]:
    """Routes to read and move the time, and to read, replace and clear the faults."""

    def time(_request: Request) -> Response:
        return JSONResponse({"now": workspace.now()})

    async def advance(request: Request) -> Response:
        body = await _json(request)
        advance_s = body.get("advance_seconds") if isinstance(body, dict) and len(body) == 1 else None
        if type(advance_s) is not int or not 0 < advance_s < LATEST_SECONDS - workspace.now():
            return JSONResponse({"error": "advance_seconds must be a whole number above 0, and end before the year 2286"}, 400)
        await run_in_threadpool(workspace.advance, advance_s)
        return JSONResponse({"now": workspace.now()})

    def faults(_request: Request) -> Response:
        return JSONResponse(workspace.faults())

    async def put_faults(request: Request) -> Response:
        body = await _json(request)
        if problems := list(_problems(body)):
            return JSONResponse({"error": "; ".join(problems)}, 400)
        await run_in_threadpool(workspace.set_faults, body)
        return JSONResponse(body)

    def clear_faults(_request: Request) -> Response:
        workspace.set_faults({})
        return Response(status_code=204)

    return [
        Route("/sandbox/time", time, methods=["GET"]),
        Route("/sandbox/time", advance, methods=["POST"]),
        Route("/sandbox/faults", faults, methods=["GET"]),
        Route("/sandbox/faults", put_faults, methods=["PUT"]),
        Route("/sandbox/faults", clear_faults, methods=["DELETE"]),
    ]


async def _json(request: Request) -> Any:
    """The body's JSON value; None for what is no JSON in UTF-8."""
    try:
        body = json.loads(await request.body())
        size_of(body)
    except (ValueError, RecursionError):
        return None
    return body


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int for number in value)


def _are_delays(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name.isdecimal() and type(delay_s) is int and 0 <= delay_s < LATEST_SECONDS for name, delay_s in value.items()
    )


# Each fault: what it must be, and the test for it.
FAULTS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "lost_attributes": ("a list of names: they do not take, and failed_attribute_change says so", _are_names),
    "lost_events": ("a list of names: they are not stored, and failed_event says so", _are_names),
    "frozen_email": ("a boolean: an email once set does not change by id", _is_flag),
    "doubled_journeys": ("a list of campaign ids: two journeys for one event", _are_ids),
    "silent_journeys": ("a list of campaign ids: nothing starts", _are_ids),
    "late_journeys": ("an object of campaign id and seconds", _are_delays),
    "app_scope_missing": ("a boolean: the App API answers 403", _is_flag),
    "app_requests_used_elsewhere": ("a boolean: the App API answers 429", _is_flag),
}


def _problems(faults: Any) -> Iterator[str]:
    if not isinstance(faults, dict):
        yield "faults must be an object"
        return
    for name, value in faults.items():
        if name not in FAULTS:
            yield f"a fault is one of {', '.join(FAULTS)}"
        elif not FAULTS[name][1](value):
            yield f"{name} must be {FAULTS[name][0]}"
