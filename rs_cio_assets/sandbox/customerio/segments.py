"""Segments: who is in one, and the routes under `/sandbox` that stand for Customer.io's own editor. `segment_api.py` reads them.

Membership of a data-driven segment is evaluated when it is asked for, with the time of that moment. While a segment is being
built, nobody is in it. Source: customerio-api.md, section 9.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.conditions import Fragment, condition_problems, condition_sql, segments_in
from rs_cio_assets.sandbox.customerio.rules import LATEST_SECONDS, size_of
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

LARGEST_ID = 2**31 - 1  # published as int32
NOBODY: Fragment = ("0", [])
_MEMBERS = frozenset({"name", "description", "tags", "condition", "ids", "build_seconds"})


@dataclass(frozen=True)
class Segment:
    """One segment as it is kept; times are unix seconds. *condition* is None for a manual one, whose people are listed."""

    segment_id: int
    name: str
    description: str
    tags: tuple[str, ...]
    condition: Any
    created_at: int
    updated_at: int
    build_s: int

    def is_finished(self, now: int) -> bool:
        """True once it is built."""
        return now >= self.updated_at + self.build_s

    def published(self, now: int) -> dict[str, Any]:
        """The segment as the App API shows it."""
        is_finished = self.is_finished(now)
        return {
            "id": self.segment_id,
            "deduplicate_id": f"{self.segment_id}:{self.updated_at}",
            "name": self.name,
            "description": self.description,
            "state": "finished" if is_finished else "build",
            "progress": None if is_finished else 100 * (now - self.updated_at) // self.build_s,
            "type": "manual" if self.condition is None else "dynamic",
            "tags": list(self.tags) or None,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def segment_of(workspace: Workspace, segment_id: int) -> Segment | None:
    """The segment with that id; None when there is none."""
    if not 0 < segment_id <= LARGEST_ID:
        return None
    found = workspace.rows("SELECT * FROM segments WHERE id = ?", (segment_id,))
    return _segment(found[0]) if found else None


def segments_of(workspace: Workspace) -> list[Segment]:
    """Every segment, by id."""
    return [_segment(row) for row in workspace.rows("SELECT * FROM segments ORDER BY id")]


def segment_sql(workspace: Workspace, segment_id: int, now: int) -> Fragment | None:
    """Membership as boolean SQL over the row `people`; None when there is no such segment."""
    segment = segment_of(workspace, segment_id)
    if segment is None:
        return None
    if not segment.is_finished(now):
        return NOBODY
    if segment.condition is not None:
        return condition_sql(segment.condition, now, lambda other: segment_sql(workspace, other, now))
    listed = "SELECT 1 FROM manual_members AS m WHERE m.segment_id = ? AND m.cio_id = people.cio_id"
    return f"EXISTS ({listed})", [segment_id]


def members(workspace: Workspace, segment_id: int, now: int) -> tuple[str, list[Any]]:
    """SQL that selects the cio_id of every member, and its values; of nobody when there is no such segment."""
    condition, values = segment_sql(workspace, segment_id, now) or NOBODY
    return f"SELECT cio_id FROM people WHERE ({condition})", values  # noqa: S608 - made by conditions.py


def is_member(workspace: Workspace, segment_id: int, cio_id: int, now: int) -> bool:
    """True when that person is in the segment."""
    sql, values = members(workspace, segment_id, now)
    return bool(workspace.rows(f"{sql} AND cio_id = ?", (*values, cio_id)))


def segment_routes(workspace: Workspace) -> list[Route]:
    """PUT and DELETE of one segment. The App API makes manual ones only: the others are made in Customer.io's pages."""

    async def put(request: Request) -> Response:
        try:
            body = json.loads(await request.body())
            size_of(body)  # refuses halves of surrogate pairs, which SQLite would refuse later
            return await run_in_threadpool(_put, workspace, request.path_params["segment_id"], body)
        except (ValueError, RecursionError):
            return JSONResponse({"error": "the body must be JSON in UTF-8"}, 400)

    def delete(request: Request) -> Response:
        segment = segment_of(workspace, request.path_params["segment_id"])
        if segment is None:
            return JSONResponse({"error": "there is no such segment"}, 404)
        with workspace.transaction():
            workspace.change("DELETE FROM manual_members WHERE segment_id = ?", (segment.segment_id,))
            workspace.change("DELETE FROM segments WHERE id = ?", (segment.segment_id,))
        return Response(status_code=204)

    path = "/sandbox/segments/{segment_id:int}"
    return [Route(path, put, methods=["PUT"]), Route(path, delete, methods=["DELETE"])]


def _put(workspace: Workspace, segment_id: int, body: Any) -> Response:
    """Create or replace it: the building begins anew. Ids of nobody are left out, as Customer.io does."""
    with workspace.transaction():
        if problems := list(_problems(workspace, segment_id, body)):
            return JSONResponse({"error": "; ".join(problems)}, 400)
        now, earlier = workspace.now(), segment_of(workspace, segment_id)
        workspace.change(
            "INSERT OR REPLACE INTO segments VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                segment_id,
                body["name"],
                body.get("description", ""),
                json.dumps(body.get("tags", [])),
                json.dumps(body["condition"]) if "condition" in body else None,
                now if earlier is None else earlier.created_at,
                now,
                body.get("build_seconds", 0),
            ),
        )
        workspace.change("DELETE FROM manual_members WHERE segment_id = ?", (segment_id,))
        workspace.change(
            "INSERT INTO manual_members SELECT ?, cio_id FROM people WHERE id IN (SELECT value FROM json_each(?))",
            (segment_id, json.dumps(body.get("ids", []))),
        )
        saved = segment_of(workspace, segment_id)
        return JSONResponse({} if saved is None else saved.published(now))


def _problems(workspace: Workspace, segment_id: int, body: Any) -> Iterator[str]:
    if not 0 < segment_id <= LARGEST_ID:
        yield f"the id must be 1 to {LARGEST_ID}"
    if not isinstance(body, Mapping):
        yield "a segment must be an object"
        return
    if unknown := set(body) - _MEMBERS:
        yield f"a segment has no {', '.join(sorted(unknown))}"
    if not isinstance(body.get("name"), str) or not body["name"].strip():
        yield "name must be a text that is not blank"
    if not isinstance(body.get("description", ""), str):
        yield "description must be a text"
    build_s = body.get("build_seconds", 0)
    if type(build_s) is not int or not 0 <= build_s < LATEST_SECONDS:
        yield "build_seconds must be a whole number that is not negative"
    for name in ("tags", "ids"):
        if not isinstance(body.get(name, []), list) or not all(isinstance(item, str) for item in body.get(name, [])):
            yield f"{name} must be a list of texts"
    if ("condition" in body) == ("ids" in body):
        yield "a segment holds either a condition or ids"
    elif "condition" in body:
        problems = condition_problems(body["condition"])
        yield from problems or _reference_problems(workspace, segment_id, body["condition"])


def _reference_problems(workspace: Workspace, segment_id: int, condition: Any) -> Iterator[str]:
    """Segments that are named must exist and must not lead back here."""
    seen, left = set[int](), segments_in(condition)
    while left:
        other = left.pop()
        if other == segment_id:
            yield "a segment cannot depend on itself"
            return
        seen.add(other)
        found = segment_of(workspace, other)
        if found is None:
            yield f"there is no segment {other}"
        elif found.condition is not None:
            left |= segments_in(found.condition) - seen


def _segment(row: Row) -> Segment:
    return Segment(
        segment_id=row["id"],
        name=row["name"],
        description=row["description"],
        tags=tuple(json.loads(row["tags"])),
        condition=None if row["condition"] is None else json.loads(row["condition"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        build_s=row["build_s"],
    )
