"""What a retention marketer makes in Customer.io's pages for the shipped contract, made in the stand-in: segments, campaigns.

Customer.io has no API to make them; the stand-in has `PUT /sandbox/segments/{id}` and `PUT /sandbox/campaigns/{id}`.
"""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import httpx

from rs_cio_assets.settings import SANDBOX_DEFAULTS

TIMEOUT_S = 30.0


def has_journeys(stand_in_url: str) -> bool:
    """True when the workspace has campaigns."""
    key = {"Authorization": f"Bearer {SANDBOX_DEFAULTS['CUSTOMERIO_APP_API_KEY']}"}
    answer = httpx.get(f"{stand_in_url}/v1/campaigns", headers=key, timeout=TIMEOUT_S).raise_for_status()
    return bool(answer.json()["campaigns"])


def make_journeys(stand_in_url: str) -> None:
    """Make the shipped segments and start the shipped campaigns, in place of those with the same numbers.

    Raises: httpx.HTTPStatusError when the stand-in refuses one.
    """
    with httpx.Client(base_url=stand_in_url, timeout=TIMEOUT_S) as client:
        for kind, definitions in shipped().items():
            for number, definition in definitions.items():
                client.put(f"/sandbox/{kind}/{number}", json=definition).raise_for_status()


def shipped() -> dict[str, dict[str, Any]]:
    """The definitions: `segments` and `campaigns`, by their numbers."""
    text = importlib.resources.files("rs_cio_assets.sandbox.customerio").joinpath("retention.json").read_text()
    return json.loads(text)
