"""Customer.io clients whose requests a test answers, with keys that must never be shown."""

from __future__ import annotations

import itertools
import json
import traceback
from collections.abc import Callable

import httpx

from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.settings import CustomerioSettings, load_settings

EMAIL = "ada@example.com"
KEYS = {"CUSTOMERIO_SITE_ID": "site-hush", "CUSTOMERIO_API_KEY": "track-hush", "CUSTOMERIO_APP_API_KEY": "app-hush"}
BODY = json.dumps({"batch": [{"type": "person", "identifiers": {"id": "C0000001"}, "attributes": {"email": EMAIL}}]}).encode()
SECRETS = (*KEYS.values(), EMAIL, "C0000001")
HTML = httpx.Response(404, html="<!DOCTYPE html><html><body>Not found</body></html>")
Handler = Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.sleeps: list[float] = []

    def time(self) -> float:
        """Seconds, as time.monotonic tells them."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.sleeps.append(seconds)
        self.now += seconds


def settings_of(**environ: str) -> CustomerioSettings:
    """Settings with keys that must never be shown; *environ* changes some."""
    return load_settings({**KEYS, "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000", **environ}).customerio


def track(handler: Handler, *, pace: Pace | None = None, **environ: str) -> TrackClient:
    """A Track client whose requests *handler* answers; its pace takes no real time unless *pace* does."""
    clock = Clock()
    pace = pace or Pace(1_000, clock=clock.time, sleep=clock.sleep)
    return TrackClient(settings_of(**environ), transport=httpx.MockTransport(handler), pace=pace)


def app(handler: Handler) -> AppClient:
    """An App client whose requests *handler* answers."""
    return AppClient(settings_of(), transport=httpx.MockTransport(handler))


def answering(*answers: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives *answers* one after another, the last for ever; and the requests it got."""
    requests: list[httpx.Request] = []
    upcoming = itertools.chain(answers, itertools.repeat(answers[-1]))

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = next(upcoming)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle, requests


def told(error: BaseException) -> str:
    """Everything that a log could show of *error*."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)
