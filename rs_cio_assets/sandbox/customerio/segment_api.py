"""The App API's read side of segments: what they are, how many and who is in them, what uses them.

Source: app-api-subset.yaml (Customer.io's App API document of 2026-09-17).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.app_request import (
    Endpoint,
    MakeRoute,
    error,
    identifiers_of,
    limit_of,
    person_of,
    start_of,
)
from rs_cio_assets.sandbox.customerio.segments import NOBODY, Segment, is_member, members, segment_of, segment_sql, segments_of
from rs_cio_assets.sandbox.customerio.workspace import Workspace

MEMBERS_DEFAULT, MEMBERS_MAX = 1_000, 30_000
# Members of a campaign that hold ids of segments. The last is kept by the stand-in alone: the App API does not list it.
_USES = ("trigger_segment_ids", "filter_segment_ids", "only_if_segment_ids")


def segment_reads(workspace: Workspace, route: MakeRoute) -> list[Route]:
    """Routes of segments and of one person's segments."""

    def every(_request: Request, _body: Any) -> Response:
        now = workspace.now()
        return JSONResponse({"segments": [segment.published(now) for segment in segments_of(workspace)] or None})

    def one(_request: Request, segment: Segment) -> Response:
        return JSONResponse({"segment": segment.published(workspace.now())})

    def count(_request: Request, segment: Segment) -> Response:
        sql, values = members(workspace, segment.segment_id, workspace.now())
        counted = workspace.rows(f"SELECT count(*) AS n FROM ({sql})", values)[0]  # noqa: S608 - made by conditions.py
        return JSONResponse({"segment_id": segment.segment_id, "count": counted["n"]})

    def membership(request: Request, segment: Segment) -> Response:
        limit = limit_of(request, MEMBERS_DEFAULT, MEMBERS_MAX)
        condition, values = segment_sql(workspace, segment.segment_id, workspace.now()) or NOBODY
        found = workspace.rows(
            f"SELECT cio_id, id, email FROM people WHERE cio_id > ? AND ({condition}) ORDER BY cio_id LIMIT ?",  # noqa: S608
            (start_of(request) or 0, *values, limit),
        )
        return JSONResponse(
            {
                "segment_id": segment.segment_id,
                "ids": [row["id"] for row in found if row["id"] is not None],
                "identifiers": [identifiers_of(row) for row in found],
                "next": str(found[-1]["cio_id"]) if len(found) == limit else "",
            }
        )

    def used_by(_request: Request, segment: Segment) -> Response:
        stored = [json.loads(row["campaign"]) for row in workspace.rows("SELECT campaign FROM campaigns ORDER BY id")]
        users = [c["id"] for c in stored if any(segment.segment_id in (c.get(use) or ()) for use in _USES)]
        usage = {"campaigns": users, "sent_newsletters": [], "draft_newsletters": []}  # there are no newsletters here
        return JSONResponse({"segment_id": segment.segment_id, "used_by": usage})

    def of_person(request: Request, _body: Any) -> Response:
        person = person_of(workspace, request)
        if person is None:
            return error(404, "customer not found")
        now = workspace.now()
        found = [s for s in segments_of(workspace) if is_member(workspace, s.segment_id, person["cio_id"], now)]
        shown = [{"id": s.segment_id, "name": s.name, "description": s.description} for s in found]
        return JSONResponse({"segments": shown or None})

    def known(endpoint: Callable[[Request, Segment], Response]) -> Endpoint:
        def answer(request: Request, _body: Any) -> Response:
            segment = segment_of(workspace, request.path_params["segment_id"])
            return error(404, "segment not found") if segment is None else endpoint(request, segment)

        return answer

    path = "/v1/segments/{segment_id:int}"
    return [
        route("/v1/segments", every, "GET"),
        route(path, known(one), "GET"),
        route(f"{path}/customer_count", known(count), "GET"),
        route(f"{path}/membership", known(membership), "GET"),
        route(f"{path}/used_by", known(used_by), "GET"),
        route("/v1/customers/{customer_id:path}/segments", of_person, "GET"),
    ]
