"""What the App API says of one campaign: itself, and the numbers of its journeys.

Source: customerio-api.md, section 4.4. Unpublished, so our reading: periods are counted from `start`, `end` belongs to the last
one, a week has 7 days and a month has 30.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rs_cio_assets.sandbox.customerio.app_request import BadRequest, MakeRoute, error
from rs_cio_assets.sandbox.customerio.campaigns import campaign_of
from rs_cio_assets.sandbox.customerio.rules import is_seconds
from rs_cio_assets.sandbox.customerio.workspace import Workspace

PERIODS_S = {"hours": 3_600, "days": 86_400, "weeks": 7 * 86_400, "months": 30 * 86_400}
RESOLUTIONS = {**PERIODS_S, "hourly": 3_600, "daily": 86_400, "weekly": 7 * 86_400, "monthly": 30 * 86_400}
LONGEST_S = 3_653 * 86_400  # "at most 10 years"
# Each number of a journey metric, as a sum over journeys. Nothing here is a conversion.
_COUNTS = {
    "started": "count(*)",
    "activated": "count(activated_at)",
    "exited_early": "sum(state = 'exited_early')",
    "finished": "sum(state = 'finished')",
    "converted": "0",
    "never_activated": "sum(state = 'never_activated')",
    "messaged": "sum(is_messaged)",
}


def campaign_reads(workspace: Workspace, route: MakeRoute) -> list[Route]:
    """Routes of one campaign and of its journeys' numbers."""

    def one(request: Request, _body: Any) -> Response:
        campaign = campaign_of(workspace, request.path_params["campaign_id"])
        return error(404, "campaign not found") if campaign is None else JSONResponse({"campaign": campaign})

    def journey_metrics(request: Request, _body: Any) -> Response:
        start, end, period_s = _window(request.query_params)
        campaign = campaign_of(workspace, request.path_params["campaign_id"])
        if campaign is None:
            return error(404, "campaign not found")
        series = {name: [0] * ((end - start) // period_s + 1) for name in _COUNTS}
        for row in workspace.rows(
            f"SELECT (started_at - ?) / ? AS period, {', '.join(f'{sql} AS {name}' for name, sql in _COUNTS.items())} "  # noqa: S608
            "FROM journeys WHERE campaign_id = ? AND started_at BETWEEN ? AND ? GROUP BY 1",
            (start, period_s, campaign["id"], start, end),
        ):
            for name in _COUNTS:
                series[name][row["period"]] = row[name]
        return JSONResponse({"journey_metric": series})

    return [
        route("/v1/campaigns/{campaign_id:int}", one, "GET"),
        route("/v1/campaigns/{campaign_id:int}/journey_metrics", journey_metrics, "GET"),
    ]


def _window(params: Mapping[str, str]) -> tuple[int, int, int]:
    """First and last second, and seconds of a period. Raises: BadRequest."""
    if missing := [name for name in ("start", "end", "resolution") if not params.get(name)]:
        raise BadRequest(f"{', '.join(missing)} must be given")
    start, end, period_s = int(params["start"]), int(params["end"]), RESOLUTIONS.get(params["resolution"])
    if period_s is None:
        raise BadRequest(f"resolution must be one of {', '.join(RESOLUTIONS)}")
    if not (0 <= start <= end <= start + LONGEST_S and is_seconds(end)):
        raise BadRequest("start and end must be unix seconds, the end not before the start and at most 10 years after it")
    return start, end, period_s
