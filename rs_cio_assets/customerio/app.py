"""The App API's read side: what Customer.io holds now, and its campaigns. Used before a delivery and by checks, never to send.

Source: Customer.io App API document (read 2026-09-17). All attribute values come back as strings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

from rs_cio_assets.customerio.http import Http
from rs_cio_assets.customerio.limits import ACTIVITIES_PAGE, APP_REQUESTS_PER_S, ATTRIBUTES_IDS
from rs_cio_assets.customerio.pace import Pace, shared_pace
from rs_cio_assets.errors import MismatchError, SettingsError
from rs_cio_assets.settings import CustomerioSettings

# Takes the place of the pace that all clients of the workspace on this machine share: the API counts them together. For tests.
_PACE: Pace | None = None

_NOT_RUNNING = frozenset({"draft", "stopped"})  # of a campaign; a state that is not published counts as running
_ID_DIGITS = 19
_T = TypeVar("_T")


@dataclass(frozen=True)
class Profile:
    """One person as Customer.io holds them. *attributes* are strings; *set_at* is the unix second each was set."""

    person_id: str
    attributes: Mapping[str, str]
    set_at: Mapping[str, int]


@dataclass(frozen=True)
class Activity:
    """One entry of a person's activity log. *timestamp* is unix seconds; *data* depends on the type."""

    type: str
    name: str
    timestamp: int
    data: Mapping[str, Any]


@dataclass(frozen=True)
class Campaign:
    """A campaign and what starts its journeys: an event, segments, or neither (API, date and other triggers).

    *is_running* is true wherever Customer.io does not say otherwise: whoever asks wants to know what might fire.
    """

    campaign_id: int
    name: str
    is_running: bool
    event_name: str | None
    trigger_segment_ids: tuple[int, ...]


class AppClient:
    """A client of one workspace's App API; a context manager. Raises: SettingsError without CUSTOMERIO_APP_API_KEY."""

    def __init__(self, settings: CustomerioSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        if settings.app_api_key is None:
            raise SettingsError(
                "CUSTOMERIO_APP_API_KEY is not set, so nothing can be read back",
                next_step="create an App API key in Customer.io (Settings, API credentials) and set it",
            )
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

    def attributes(self, ids: Sequence[str]) -> dict[str, Profile]:
        """Profiles by id; people that Customer.io does not know are absent. 100 ids a request."""
        profiles: dict[str, Profile] = {}
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), ATTRIBUTES_IDS):
            chunk = unique[start : start + ATTRIBUTES_IDS]
            answer = self._json("POST", "/v1/customers/attributes", json={"ids": chunk}, params={"id_type": "id"}) or {}
            for item in _objects(answer, "customers"):
                profile = _profile(item.get("customer", item))  # documented nested; live nesting is unverified
                profiles[profile.person_id] = profile
        return profiles

    def activities(self, person_id: str, kind: str, *, name: str | None = None) -> Iterator[Activity]:
        """A person's activities of one type (and event or attribute name), newest first; none of an unknown person."""
        params: dict[str, Any] = {"type": kind, "limit": ACTIVITIES_PAGE, "id_type": "id"}
        if name:
            params["name"] = name
        while True:
            path = f"/v1/customers/{quote(person_id, safe='')}/activities"
            answer = self._json("GET", path, shown="/v1/customers/<id>/activities", has_absence=True, params=params)
            if answer is None:
                return
            items = _objects(answer, "activities")
            yield from map(_activity, items)
            if not items or not answer.get("next"):  # an empty page ends it even where a token is given
                return
            params["start"] = answer["next"]

    def campaigns(self) -> tuple[Campaign, ...]:
        """Every campaign of the workspace, in any state. Raises: MismatchError when one cannot be read: it might be running."""
        answer = self._json("GET", "/v1/campaigns") or {}
        return tuple(_campaign(item) for item in _objects(answer, "campaigns"))

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any] | None:
        """The answer's object; None for a 404 that the caller allows."""
        response = self._http.request(method, path, **options)
        if response.status_code == 404:
            return None
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise MismatchError(f"Customer.io's App API answered {method} with something else than a JSON object")
        return answer


def _objects(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A collection of the answer; empty ones may be null. Raises: MismatchError when it is absent or no list of objects."""
    items = answer.get(name, ...)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MismatchError(f"Customer.io's App API answered without the published field {name}")
    return items


def _profile(item: Any) -> Profile:
    if not isinstance(item, dict):
        raise MismatchError("Customer.io's App API answered with a customer of another shape than published")
    identifiers, attributes, timestamps = (item.get(name) or {} for name in ("identifiers", "attributes", "timestamps"))
    if not all(isinstance(part, dict) for part in (identifiers, attributes, timestamps)):
        raise MismatchError("Customer.io's App API answered with a customer of another shape than published")
    return Profile(str(identifiers.get("id") or item.get("id") or ""), attributes, timestamps)


def _activity(item: Mapping[str, Any]) -> Activity:
    timestamp, data = item.get("timestamp") or 0, item.get("data") or {}
    if type(timestamp) is not int or not isinstance(data, dict):
        raise MismatchError("Customer.io's App API answered with an activity of another shape than published")
    return Activity(str(item.get("type", "")), str(item.get("name") or ""), timestamp, data)


def _campaign(item: Mapping[str, Any]) -> Campaign:
    name, state, event_name = (_typed(item, field, str) for field in ("name", "state", "event_name"))
    is_active, segments = _typed(item, "active", bool), _typed(item, "trigger_segment_ids", list)
    return Campaign(
        campaign_id=_number(item.get("id"), "id"),
        name=name or "",
        is_running=is_active is not False if state is None else state not in _NOT_RUNNING,
        event_name=event_name or None,
        trigger_segment_ids=tuple(_number(segment, "trigger_segment_ids") for segment in segments or ()),
    )


def _typed(campaign: Mapping[str, Any], field: str, kind: type[_T]) -> _T | None:
    """A field of a campaign; None when it is absent or null."""
    value = campaign.get(field)
    if value is not None and not isinstance(value, kind):
        raise _unpublished(field)
    return value


def _number(value: Any, field: str) -> int:
    """An id; the live API gives some that are documented as integers as strings (customerio-api.md, section 4.4)."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) <= _ID_DIGITS:
        return int(value)
    raise _unpublished(field)


def _unpublished(field: str) -> MismatchError:
    return MismatchError(
        f"Customer.io's App API answered with a campaign whose {field} is of another shape than published",
        next_step="report this: until it is read, nobody knows which campaigns are running",
    )
