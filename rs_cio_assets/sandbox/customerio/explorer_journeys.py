"""What the pages show of segments, campaigns and journeys: rows for the templates. Which page there is: `explorer.py`."""

from __future__ import annotations

from typing import Any

from rs_cio_assets.sandbox.customerio.campaigns import UNPUBLISHED, kept_campaigns
from rs_cio_assets.sandbox.customerio.segments import Segment, is_member, members, segment_of, segments_of
from rs_cio_assets.sandbox.customerio.workspace import Row, Workspace

ROWS = 50
_PERSON = "coalesce(p.id, p.email) AS person"


def campaigns_view(workspace: Workspace) -> list[dict[str, Any]]:
    """Every campaign with how many journeys it started, how many of them wait, and how many messages it made."""
    journeys = _by_campaign(
        workspace, "SELECT campaign_id, count(*) AS started, count(due_at) AS waiting FROM journeys GROUP BY campaign_id"
    )
    messages = _by_campaign(workspace, "SELECT campaign_id, count(*) AS messages FROM messages GROUP BY campaign_id")
    nothing = {"started": 0, "waiting": 0, "messages": 0}
    return [
        {**nothing, **journeys.get(kept["id"], {}), **messages.get(kept["id"], {}), **kept} for kept in kept_campaigns(workspace)
    ]


def campaign_view(workspace: Workspace, campaign_id: int) -> dict[str, Any] | None:
    """One campaign, what Customer.io keeps to its pages, its latest journeys and messages; None where there is none."""
    campaign = next((view for view in campaigns_view(workspace) if view["id"] == campaign_id), None)
    if campaign is None:
        return None
    settings = [(name, campaign[name]) for name in sorted(UNPUBLISHED | {"filter_segment_ids"}) if name in campaign]
    return {
        "c": campaign,
        "settings": [(name.replace("_", " "), value) for name, value in settings],
        "segments": {segment.segment_id: segment.name for segment in segments_of(workspace)},
        "journeys": _latest(workspace, "journeys", "campaign_id", campaign_id),
        "messages": _latest(workspace, "messages", "campaign_id", campaign_id),
    }


def journeys_of_person(workspace: Workspace, cio_id: int) -> list[dict[str, Any]]:
    """A person's latest journeys, each with its campaign's name."""
    names = {kept["id"]: kept["name"] for kept in kept_campaigns(workspace)}
    journeys = _latest(workspace, "journeys", "cio_id", cio_id)
    return [{**dict(journey), "campaign": names[journey["campaign_id"]]} for journey in journeys]


def segments_view(workspace: Workspace) -> list[dict[str, Any]]:
    """Every segment as the App API shows it, with how many members it has."""
    return [_with_members(workspace, segment) for segment in segments_of(workspace)]


def segment_view(workspace: Workspace, segment_id: int) -> dict[str, Any] | None:
    """One segment with its condition and first members; None where there is none."""
    segment = segment_of(workspace, segment_id)
    if segment is None:
        return None
    sql, values = members(workspace, segment_id, workspace.now())
    people = workspace.rows(
        f"SELECT * FROM people WHERE cio_id IN ({sql} ORDER BY cio_id LIMIT {ROWS}) ORDER BY cio_id",  # noqa: S608
        values,
    )
    return {"segment": _with_members(workspace, segment), "condition": segment.condition, "people": people}


def segments_of_person(workspace: Workspace, cio_id: int) -> list[Segment]:
    """The segments that a person is in, by id."""
    now = workspace.now()
    return [segment for segment in segments_of(workspace) if is_member(workspace, segment.segment_id, cio_id, now)]


def _with_members(workspace: Workspace, segment: Segment) -> dict[str, Any]:
    now = workspace.now()
    sql, values = members(workspace, segment.segment_id, now)
    ((counted,),) = workspace.rows(f"SELECT count(*) FROM ({sql})", values)  # noqa: S608 - made by conditions.py
    return {**segment.published(now), "members": counted}


def _by_campaign(workspace: Workspace, sql: str) -> dict[int, dict[str, int]]:
    return {row["campaign_id"]: dict(row) for row in workspace.rows(sql)}


def _latest(workspace: Workspace, table: str, column: str, value: int) -> list[Row]:
    return workspace.rows(
        f"SELECT t.*, {_PERSON} FROM {table} AS t LEFT JOIN people AS p USING (cio_id) "  # noqa: S608 - names of this file
        f"WHERE t.{column} = ? ORDER BY t.number DESC LIMIT {ROWS}",
        (value,),
    )
