"""The App API's read side: what Customer.io holds now, its segments, campaigns and messages. Never used to send.

Source: Customer.io App API document (read 2026-09-17). What the answers hold stands in `answers.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from rs_cio_assets.customerio.answers import (
    Activity,
    Campaign,
    Members,
    Message,
    Profile,
    SegmentState,
    activity_of,
    campaign_of,
    members_of,
    message_of,
    objects,
    profile_of,
    segment_id_of,
    segment_of,
    users_of,
    workspace_id_of,
)
from rs_cio_assets.customerio.http import Http
from rs_cio_assets.customerio.limits import ACTIVITIES_PAGE, APP_REQUESTS_PER_S, ATTRIBUTES_IDS, MEMBERS_PAGE, MESSAGES_PAGE
from rs_cio_assets.customerio.pace import Pace, shared_pace
from rs_cio_assets.errors import MismatchError, SettingsError
from rs_cio_assets.settings import CustomerioSettings

# Takes the place of the pace that all clients of the workspace on this machine share: the API counts them together. For tests.
_PACE: Pace | None = None
_T = TypeVar("_T")
# What the checks read -> the smallest question about it. Nobody has this id, and nobody's name is asked for.
SCOPES: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "people": ("POST", "/v1/customers/attributes", {"json": {"ids": ["rs-cio-doctor"]}, "params": {"id_type": "id"}}),
    "segments": ("GET", "/v1/segments", {}),
    "campaigns": ("GET", "/v1/campaigns", {}),
    "messages": ("GET", "/v1/messages", {"params": {"limit": 1}}),
    "activities": ("GET", "/v1/activities", {"params": {"type": "failed_event", "limit": 1}}),
}


class AppClient:
    """A client of one workspace's App API; a context manager. Raises: SettingsError without CUSTOMERIO_APP_API_KEY.

    *requests* counts what was asked so far, repetitions of one request as one: the workspace has 10 a second for everybody.
    """

    def __init__(self, settings: CustomerioSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        if settings.app_api_key is None:
            raise SettingsError(
                "CUSTOMERIO_APP_API_KEY is not set, so nothing can be read back",
                next_step="create an App API key in Customer.io (Settings, API credentials) and set it",
            )
        self.requests = 0
        self._http = Http(
            settings.app_url,
            api="App API",
            credentials="CUSTOMERIO_APP_API_KEY",
            pace=_PACE or shared_pace(APP_REQUESTS_PER_S * 0.9, settings.app_url, settings.site_id),
            timeout_s=settings.timeout_s,
            connections=4,
            headers={"Authorization": f"Bearer {settings.app_api_key.get_secret_value()}"},
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def workspaces(self) -> tuple[int, ...]:
        """Numbers of the workspaces that the key's account has. Source: App API document, listWorkspaces (read 2026-09-17)."""
        return tuple(map(workspace_id_of, objects(self._json("GET", "/v1/workspaces") or {}, "workspaces")))

    def require_scope(self, scope: str) -> None:
        """Ask the smallest question of one of SCOPES; writes nothing. Raises: CustomerioRefused where the key may not ask it."""
        method, path, options = SCOPES[scope]
        self._json(method, path, **options)

    def attributes(self, ids: Sequence[str]) -> dict[str, Profile]:
        """Profiles by id; people that Customer.io does not know are absent. 100 ids a request."""
        profiles: dict[str, Profile] = {}
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), ATTRIBUTES_IDS):
            chunk = unique[start : start + ATTRIBUTES_IDS]
            answer = self._json("POST", "/v1/customers/attributes", json={"ids": chunk}, params={"id_type": "id"}) or {}
            for item in objects(answer, "customers"):
                profile = profile_of(item.get("customer", item))  # documented nested; live nesting is unverified
                profiles[profile.person_id] = profile
        return profiles

    def activities(self, person_id: str, kind: str, *, name: str | None = None) -> Iterator[Activity]:
        """A person's activities of one type (and event or attribute name), newest first; none of an unknown person."""
        params = {"type": kind, "limit": ACTIVITIES_PAGE, "id_type": "id", **({"name": name} if name else {})}
        path = f"/v1/customers/{quote(person_id, safe='')}/activities"
        yield from self._pages(path, "activities", activity_of, params, shown="/v1/customers/<id>/activities", has_absence=True)

    def activities_of_all(self, kind: str) -> Iterator[Activity]:
        """Everybody's activities of one type, newest first (as the stand-in gives them; the live order is unverified)."""
        yield from self._pages("/v1/activities", "activities", activity_of, {"type": kind, "limit": ACTIVITIES_PAGE})

    def campaigns(self) -> tuple[Campaign, ...]:
        """Every campaign of the workspace, in any state. Raises: MismatchError when one cannot be read: it might be running."""
        answer = self._json("GET", "/v1/campaigns") or {}
        return tuple(campaign_of(item) for item in objects(answer, "campaigns"))

    def segment(self, segment_id: int) -> SegmentState | None:
        """A segment and whether it is built; None when there is none of that number."""
        answer = self._json("GET", f"/v1/segments/{segment_id}", has_absence=True)
        return None if answer is None else segment_of(answer.get("segment") or {})

    def members(self, segment_id: int) -> Iterator[Members]:
        """Everybody who is in a segment, 30,000 a page. Raises: MismatchError when the segment goes meanwhile."""
        params: dict[str, Any] = {"limit": MEMBERS_PAGE}
        while True:
            answer = self._json("GET", f"/v1/segments/{segment_id}/membership", params=params) or {}
            page = members_of(answer)
            yield page
            if not answer.get("next") or not (page.ids or page.without_id):
                return
            params["start"] = _following(answer, params)

    def segment_users(self, segment_id: int) -> tuple[int, ...]:
        """Numbers of the campaigns that use a segment; none for a segment that is not there."""
        answer = self._json("GET", f"/v1/segments/{segment_id}/used_by", has_absence=True)
        return () if answer is None else users_of(answer)

    def segments_of(self, person_id: str) -> frozenset[int]:
        """Numbers of the segments that a person is in; none of an unknown person."""
        path = f"/v1/customers/{quote(person_id, safe='')}/segments"
        shown = "/v1/customers/<id>/segments"
        answer = self._json("GET", path, shown=shown, has_absence=True, params={"id_type": "id"})
        return frozenset() if answer is None else frozenset(map(segment_id_of, objects(answer, "segments")))

    def messages(self, campaign_id: int, *, start_ts: int, end_ts: int) -> Iterator[Message]:
        """What a campaign sent or drafted, by the unix second of its creation; Customer.io keeps to windows of six months."""
        params = {"limit": MESSAGES_PAGE, "campaign_id": campaign_id, "start_ts": start_ts, "end_ts": end_ts}
        yield from self._pages("/v1/messages", "messages", message_of, params)

    def _pages(
        self, path: str, name: str, read: Callable[[Mapping[str, Any]], _T], params: Mapping[str, Any], **options: Any
    ) -> Iterator[_T]:
        """Every item of a collection that comes in pages. An empty page ends it even where a token is given."""
        asked = dict(params)
        while True:
            answer = self._json("GET", path, params=asked, **options)
            if answer is None:
                return
            items = objects(answer, name)
            yield from map(read, items)
            if not items or not answer.get("next"):
                return
            asked["start"] = _following(answer, asked)

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        """The answer's object; None for a 404 that the caller allows."""
        self.requests += 1
        response = self._http.request(method, path, **options)
        if response.status_code == 404:
            return None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise MismatchError(
                f"Customer.io's App API answered {method} with something else than a JSON object",
                next_step="check CUSTOMERIO_APP_URL; if it is right, report this",
            )
        return answer


def _following(answer: Mapping[str, Any], asked: Mapping[str, Any]) -> Any:
    """The token of the next page. Raises: MismatchError when it is that of this one, which would be read for ever."""
    if answer["next"] == asked.get("start"):
        raise MismatchError("Customer.io's App API gave a page that leads back to itself", next_step="run it again later")
    return answer["next"]
