"""One Customer.io workspace over plain HTTP: requests and their answers are noted. People are made up and deleted in the end."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.customerio.limits import APP_REQUESTS_PER_S
from rs_cio_assets.customerio.pace import shared_pace
from rs_cio_assets.errors import SettingsError
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets_tests.live.answers import Answer

LOOK_EVERY_S = 1.0
SHOWN_OPERATIONS = 3
RETRIES = 5
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class LiveWorkspace:
    """Both APIs of one workspace. *wait_s* is how long something may take to be seen."""

    def __init__(self, settings: CustomerioSettings, run: str, wait_s: float) -> None:
        assert settings.app_api_key is not None, "CUSTOMERIO_APP_API_KEY is needed to read back"
        self.settings, self.run, self.wait_s = settings, run, wait_s
        self._pace = shared_pace(APP_REQUESTS_PER_S * 0.9, settings.app_url, settings.site_id)
        self._track = httpx.Client(
            base_url=settings.track_url, auth=(settings.site_id, settings.api_key.get_secret_value()), timeout=settings.timeout_s
        )
        authorization = {"Authorization": f"Bearer {settings.app_api_key.get_secret_value()}"}
        self._app = httpx.Client(base_url=settings.app_url, headers=authorization, timeout=settings.timeout_s)
        self.people: list[str] = []
        self.throttled: list[tuple[Mapping[str, Any], httpx.Response]] = []  # answers of the Track API to what came too fast

    def close(self) -> None:
        """Hang up."""
        self._track.close()
        self._app.close()

    def person(self, label: str) -> str:
        """The id of a made-up person, who is deleted in the end whether they came to be or not."""
        person = f"rs-cio-smoke-{self.run}{'-' if label else ''}{label}@example.invalid"
        self.people.append(person)
        return person

    def delete_people(self) -> None:
        """Remove everybody who was made up, and look whether they are gone. Raises: RuntimeError naming those who are not."""
        operations = [{"type": "person", "action": "delete", "identifiers": {"id": person}} for person in self.people]
        if not operations:
            return
        response = self._track.post("/api/v2/batch", json={"batch": operations})
        if response.status_code != 200:
            raise RuntimeError(f"Customer.io answered {response.status_code} to their deletion")
        with AppClient(self.settings) as app:
            gone, _ = self.until(lambda: not app.attributes(self.people))
            if not gone:
                raise RuntimeError(f"still there {self.wait_s:g} s later: {', '.join(app.attributes(self.people))}")

    def send(self, answer: Answer, *operations: Mapping[str, Any], shown: str = "") -> httpx.Response:
        """A batch. *shown* stands for it in the answers file where it is large."""
        body = json.dumps({"batch": operations}, separators=(",", ":")).encode()
        told: dict[str, Any] = {"POST": "/api/v2/batch", "operations": len(operations), "bytes": len(body)}
        told |= {"body": shown} if shown else {"batch": list(operations[:SHOWN_OPERATIONS])}
        return self.track(answer, "POST", "/api/v2/batch", body, told)

    def track(self, answer: Answer, method: str, path: str, body: bytes, told: Mapping[str, Any]) -> httpx.Response:
        """Any request to the Track API; redirects are not followed."""
        response = self._track.request(method, path, content=body, headers={"Content-Type": "application/json"})
        answer.exchange(told, response)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            self.throttled.append((told, response))
        return response

    def app(self, answer: Answer | None, method: str, path: str, *, is_paced: bool = True, **options: Any) -> httpx.Response:
        """A request to the App API, at the pace that all callers of this machine share; noted where *answer* is given.

        Other callers of the workspace use the same 10 requests a second: a 429 is waited out unless *is_paced* is false.
        """
        response = self._app_once(method, path, is_paced, options)
        for _ in range(RETRIES if is_paced else 0):
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                break
            time.sleep(float(response.headers.get("Retry-After", 1)))
            response = self._app_once(method, path, is_paced, options)
        if answer is not None:
            answer.exchange({method: path, **options}, response)
        return response

    def _app_once(self, method: str, path: str, is_paced: bool, options: Mapping[str, Any]) -> httpx.Response:
        if is_paced:
            self._pace.wait()
        return self._app.request(method, path, **options)

    def attributes(self, person: str) -> dict[str, Any] | None:
        """A person's customer object; None while there is none."""
        response = self.app(None, "GET", f"/v1/customers/{quote(person, safe='')}/attributes", params={"id_type": "id"})
        return None if response.status_code == 404 else response.raise_for_status().json()["customer"]

    def activities(self, answer: Answer | None, person: str, **params: Any) -> list[dict[str, Any]]:
        """A page of a person's activities; none of an unknown one."""
        path = f"/v1/customers/{quote(person, safe='')}/activities"
        response = self.app(answer, "GET", path, params={"id_type": "id", "limit": 100, **params})
        return [] if response.status_code == 404 else response.raise_for_status().json()["activities"] or []

    def until(self, is_seen: Callable[[], Any], wait_s: float | None = None) -> tuple[Any, float]:
        """What *is_seen* gave once it was true (or last), and the seconds that passed."""
        started = time.monotonic()
        end = started + (self.wait_s if wait_s is None else wait_s)
        while not (seen := is_seen()) and (left_s := end - time.monotonic()) > 0:
            time.sleep(min(LOOK_EVERY_S, left_s))
        return seen, round(time.monotonic() - started, 2)


def open_workspace(settings: CustomerioSettings, run: str, wait_s: float) -> LiveWorkspace:
    """The workspace that CUSTOMERIO_WORKSPACE_ID names; nothing is sent before that is known.

    Raises: SettingsError where none is named or the keys belong to another one; whatever the question about the region raises.
    """
    if settings.workspace_id is None:
        raise SettingsError("CUSTOMERIO_WORKSPACE_ID is not set", next_step="set it to a test workspace: people are made there")
    with TrackClient(settings) as track:
        found = track.region().workspace_id
    if found != settings.workspace_id:
        raise SettingsError(
            f"the keys belong to workspace {found}, CUSTOMERIO_WORKSPACE_ID names {settings.workspace_id}; nothing was sent",
            next_step="give the keys of the workspace that is meant",
        )
    return LiveWorkspace(settings, run, wait_s)


def new_ulid() -> str:
    """A random id for an event: 128 bits in Crockford's base 32."""
    number = secrets.randbits(128)
    return "".join(_CROCKFORD[number >> 5 * place & 31] for place in reversed(range(26)))


def identify(person: str, attributes: Mapping[str, Any], timestamp: int | None = None) -> dict[str, Any]:
    """An identify operation, shaped as the product sends it."""
    operation: dict[str, Any] = {"type": "person", "action": "identify", "identifiers": {"id": person}}
    return {**operation, **({} if timestamp is None else {"timestamp": timestamp}), "attributes": dict(attributes)}


def event(
    person: str, name: str, attributes: Mapping[str, Any], *, ulid: str | None = None, timestamp: int | None = None
) -> dict[str, Any]:
    """An event operation, shaped as the product sends it."""
    head: dict[str, Any] = {} if ulid is None else {"id": ulid}
    operation = {**head, "type": "person", "action": "event", "name": name, "identifiers": {"id": person}}
    return {**operation, **({} if timestamp is None else {"timestamp": timestamp}), "attributes": dict(attributes)}
