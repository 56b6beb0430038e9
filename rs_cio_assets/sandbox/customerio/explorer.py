"""Read-only pages to look people, events, segments and campaigns up, and counts as JSON for the demo and the tests.

Not part of Customer.io's API: everything here stands under `/sandbox` or is HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from rs_cio_assets.sandbox.customerio.explorer_journeys import (
    campaign_view,
    campaigns_view,
    journeys_of_person,
    segment_view,
    segments_of_person,
    segments_view,
)
from rs_cio_assets.sandbox.customerio.ways_back import WaysBack
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

PAGE_ROWS = 50
_EXPORT_ROWS = 5_000


def explorer_routes(workspace: Workspace, settle: Callable[[], None], back: WaysBack) -> list[Route]:
    """The pages' routes and the JSON ones. *settle* is called before each read, *back* leads to Dagster's UI."""
    pages = Jinja2Templates(Path(__file__).with_name("pages"))
    pages.env.policies["json.dumps_kwargs"] = {"ensure_ascii": False}
    pages.env.globals["back"] = back
    pages.env.filters["utc"] = _utc
    pages.env.filters["as_time"] = _as_time

    def show(request: Request, template: str, **values: Any) -> Response:
        return pages.TemplateResponse(request, f"{template}.html", values)

    def home(request: Request) -> Response:
        return show(
            request,
            "home",
            counts=_counts(workspace),
            days=_by_day(workspace),
            segments=segments_view(workspace),
            campaigns=campaigns_view(workspace),
        )

    def people(request: Request) -> Response:
        search, page = request.query_params.get("search", "").strip(), _page(request)
        condition = "id = :s OR lower(email) = lower(:s) OR email LIKE :like ESCAPE '\\'" if search else "true"
        escaped = search.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        found = workspace.rows(
            f"SELECT * FROM people WHERE {condition} ORDER BY id, cio_id LIMIT {PAGE_ROWS + 1} OFFSET :o",  # noqa: S608
            {"s": search, "like": f"{escaped}%", "o": page * PAGE_ROWS},  # type: ignore[arg-type]
        )
        listed = [{**dict(p), "attributes": json.loads(p["attributes"])} for p in found[:PAGE_ROWS]]
        return show(request, "people", people=listed, search=search, page=page, has_more=len(found) > PAGE_ROWS)

    def person(request: Request) -> Response:
        key = request.path_params["person_id"]
        found = workspace.find("id", key) or workspace.find("email", key)
        if found is None:
            return show(request, "missing", what="Nobody has this id")
        activities = workspace.rows(
            "SELECT * FROM activities WHERE cio_id = ? ORDER BY timestamp DESC, number DESC LIMIT 200",
            (found["cio_id"],),
        )
        values, set_at = json.loads(found["attributes"]), json.loads(found["set_at"])
        attributes = [(name, values[name], set_at.get(name)) for name in sorted(values)]
        log = [{**dict(a), "data": json.loads(a["data"])} for a in activities]
        return show(
            request,
            "person",
            person=dict(found),
            attributes=attributes,
            activities=log,
            segments=segments_of_person(workspace, found["cio_id"]),
            journeys=journeys_of_person(workspace, found["cio_id"]),
        )

    def segment(request: Request) -> Response:
        view = segment_view(workspace, request.path_params["segment_id"])
        return show(request, "segment", **view) if view else show(request, "missing", what="There is no such segment")

    def campaign(request: Request) -> Response:
        view = campaign_view(workspace, request.path_params["campaign_id"])
        return show(request, "campaign", **view) if view else show(request, "missing", what="There is no such campaign")

    def events(request: Request) -> Response:
        name, day, page = request.query_params.get("name", ""), request.query_params.get("day", ""), _page(request)
        condition, values = _event_condition(name, day)
        found = workspace.rows(
            "SELECT a.*, coalesce(p.id, p.email) AS person_id FROM activities AS a JOIN people AS p USING (cio_id) "  # noqa: S608
            f"WHERE a.type = 'event' {condition} ORDER BY a.timestamp DESC, a.number DESC LIMIT ? OFFSET ?",
            (*values, PAGE_ROWS + 1, page * PAGE_ROWS),
        )
        listed = [{**dict(e), "data": json.loads(e["data"])} for e in found[:PAGE_ROWS]]
        return show(request, "events", events=listed, name=name, day=day, page=page, has_more=len(found) > PAGE_ROWS)

    def counts(_request: Request) -> Response:
        return JSONResponse({**_counts(workspace), "by_day": [dict(row) for row in _by_day(workspace)]})

    def export_events(request: Request) -> Response:
        """Events of one name, oldest first, one JSON object a line."""
        return StreamingResponse(_events(workspace, request.query_params.get("name", "")), media_type="application/x-ndjson")

    def settled(endpoint: Callable[[Request], Response]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            settle()
            return endpoint(request)

        return answer

    endpoints = {
        "/": home,
        "/people": people,
        "/people/{person_id:path}": person,
        "/events": events,
        "/segments/{segment_id:int}": segment,
        "/campaigns/{campaign_id:int}": campaign,
        "/sandbox/counts": counts,
        "/sandbox/events": export_events,
    }
    return [Route(path, settled(endpoint)) for path, endpoint in endpoints.items()]


def _counts(workspace: Workspace) -> dict[str, Any]:
    by_name = workspace.rows("SELECT name, count(*) AS events FROM activities WHERE type = 'event' GROUP BY name ORDER BY name")
    failed = "'failed_attribute_change', 'failed_event', 'skipped_update'"
    return {
        "people": workspace.rows("SELECT count(*) AS n FROM people")[0]["n"],
        "events": sum(row["events"] for row in by_name),
        "by_name": {row["name"]: row["events"] for row in by_name},
        "did_not_take": workspace.rows(f"SELECT count(*) AS n FROM activities WHERE type IN ({failed})")[0]["n"],  # noqa: S608
    }


def _by_day(workspace: Workspace) -> list[Row]:
    return workspace.rows(
        "SELECT date(timestamp, 'unixepoch') AS day, name, count(*) AS events FROM activities "
        "WHERE type = 'event' GROUP BY 1, 2 ORDER BY 1 DESC, 2"
    )


def _events(workspace: Workspace, name: str) -> Iterator[str]:
    number = 0
    while True:
        rows = workspace.rows(
            "SELECT a.number, a.event_id, a.timestamp, a.data, p.id FROM activities AS a JOIN people AS p USING (cio_id) "
            "WHERE a.type = 'event' AND a.name = ? AND a.number > ? ORDER BY a.number LIMIT ?",
            (name, number, _EXPORT_ROWS),
        )
        if not rows:
            return
        number = rows[-1]["number"]
        for row in rows:
            event = {"person": row["id"], "id": row["event_id"], "timestamp": row["timestamp"]}
            yield json.dumps({**event, "data": json.loads(row["data"])}) + "\n"


def _event_condition(name: str, day: str) -> tuple[str, list[Any]]:
    conditions, values = "", []
    if name:
        conditions, values = " AND a.name = ?", [name]
    if (start := _start_of(day)) is not None:
        conditions += " AND a.timestamp >= ? AND a.timestamp < ?"
        values += [start, start + 86_400]
    return conditions, values


def _start_of(day: str) -> int | None:
    """Unix seconds at which an ISO day begins; None for what is no day: the page then shows every day."""
    try:
        return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def _page(request: Request) -> int:
    text = request.query_params.get("page", "0")
    return int(text) if text.isdecimal() and len(text) < 9 else 0


def _utc(seconds: int | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _as_time(name: str, value: str) -> str:
    """A time attribute (named *_at*) readable beside its number."""
    return _utc(int(value)) if name.endswith("_at") and value.removeprefix("-").isdecimal() and len(value) < 12 else ""
