"""The Customer.io stand-in over plain HTTP, without our own clients: what a test sends is what goes over the wire."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Self

import httpx

from rs_cio_assets.settings import SANDBOX_DEFAULTS

TRACK_AUTH = (SANDBOX_DEFAULTS["CUSTOMERIO_SITE_ID"], SANDBOX_DEFAULTS["CUSTOMERIO_API_KEY"])
APP_HEADERS = {"Authorization": f"Bearer {SANDBOX_DEFAULTS['CUSTOMERIO_APP_API_KEY']}"}


def identify(identifier: str, *, by: str = "id", timestamp: int | None = None, **attributes: Any) -> dict[str, Any]:
    """An identify operation."""
    timed = {} if timestamp is None else {"timestamp": timestamp}
    return {"type": "person", "action": "identify", "identifiers": {by: identifier}, "attributes": attributes, **timed}


def event(identifier: str, name: str = "seen", *, by: str = "id", **fields: Any) -> dict[str, Any]:
    """An event operation; *fields* are top-level ones: id, timestamp, attributes."""
    return {"type": "person", "action": "event", "identifiers": {by: identifier}, "name": name, **fields}


def act(action: str, identifier: str, *, by: str = "id") -> dict[str, Any]:
    """An operation that needs an identifier only: delete, suppress, unsuppress."""
    return {"type": "person", "action": action, "identifiers": {by: identifier}}


def compact(value: Any) -> bytes:
    """The JSON bytes that are measured against the limits."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class CustomerioHttp:
    """Both APIs of one workspace. A context manager."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def entity(self, operation: Any) -> httpx.Response:
        """POST one operation; bytes go as they are."""
        return self._track("/api/v2/entity", operation)

    def batch(self, *operations: Any) -> httpx.Response:
        """POST a batch."""
        return self._track("/api/v2/batch", {"batch": list(operations)})

    def raw_batch(self, body: bytes) -> httpx.Response:
        """POST *body* to the batch route as it is."""
        return self._track("/api/v2/batch", body)

    def send(self, *operations: Any) -> None:
        """A batch that must be accepted whole."""
        answer = self.batch(*operations)
        assert (answer.status_code, answer.json()) == (200, {})

    def app(self, path: str, **params: Any) -> httpx.Response:
        """GET a path of the App API."""
        return self.http.get(path, params=params, headers=APP_HEADERS)

    def post_app(self, path: str, body: Any, **params: Any) -> httpx.Response:
        """POST to a path of the App API."""
        return self.http.post(path, json=body, params=params, headers=APP_HEADERS)

    def attributes(self, identifier: str, *, by: str = "id") -> dict[str, str] | None:
        """The attributes of somebody, identifiers included; None for nobody."""
        answer = self.app(f"/v1/customers/{identifier}/attributes", id_type=by)
        return None if answer.status_code == 404 else answer.json()["customer"]["attributes"]

    def activities(self, identifier: str, kind: str | None = None, *, by: str = "id") -> list[Mapping[str, Any]]:
        """Up to 100 activities of somebody, of one type when given."""
        params = {"limit": 100, "id_type": by} | ({} if kind is None else {"type": kind})
        answer = self.app(f"/v1/customers/{identifier}/activities", **params)
        return answer.json()["activities"] or []

    def _track(self, path: str, body: Any) -> httpx.Response:
        content = body if isinstance(body, bytes) else compact(body)
        return self.http.post(path, content=content, auth=TRACK_AUTH, headers={"Content-Type": "application/json"})
