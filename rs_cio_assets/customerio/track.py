"""The Track API v2: send a packed batch, and find out which region and workspace the credentials belong to.

Source: Customer.io Track API document (journeys-track.json, read 2026-08-13). Packing is `delivery/`'s business.
"""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import httpx

from rs_cio_assets.customerio.http import Http
from rs_cio_assets.customerio.pace import Pace, shared_pace
from rs_cio_assets.errors import CustomerioRefused, MismatchError
from rs_cio_assets.settings import CustomerioSettings

_TEXT_SHOWN = 200
_NOT_AS_PUBLISHED = "check CUSTOMERIO_TRACK_URL; if it is right, report this: the API is not as published"
# Quoted texts (also cut off, also with quotes within), addresses, uuids, phone numbers, other long numbers.
_VALUES = re.compile(
    r"""(?<!\w)(["'`])(?:\\.|[^\\])*?(?:\1(?!\w)|$)|\S*@\S*|[0-9a-f]{8}-[0-9a-f-]{4,}|\+?\d[\d ().-]{6,}\d|\d{5,}""",
    re.DOTALL | re.IGNORECASE,
)


@dataclass(frozen=True)
class WorkspaceRegion:
    """Where the credentials belong: `us` or `eu`, and the workspace's number.

    *answered_at* is Customer.io's own clock (aware UTC, whole seconds); None where the answer does not say it.
    """

    region: str
    workspace_id: int
    answered_at: datetime | None = None


@dataclass(frozen=True)
class RefusedOperation:
    """One operation of a batch that Customer.io did not take. *index* counts from 0 within the batch."""

    index: int
    reason: str
    field: str
    message: str


@dataclass(frozen=True)
class BatchAnswer:
    """What Customer.io said to a batch: everything not in *refused* was accepted."""

    refused: tuple[RefusedOperation, ...] = ()


class TrackClient:
    """A client of one workspace. Thread-safe; a context manager. All clients of the workspace on this machine share one pace,
    at most the settings'; one that *is_backfill* steps back while others send. *pace* takes its place.

    Raises: SettingsError when the settings cannot be sent as they are, or the pace cannot be shared.
    """

    def __init__(
        self,
        settings: CustomerioSettings,
        *,
        is_backfill: bool = False,
        transport: httpx.BaseTransport | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._settings = settings
        self._region: WorkspaceRegion | None = None
        self._http = Http(
            settings.track_url,
            api="Track API",
            credentials="CUSTOMERIO_SITE_ID and CUSTOMERIO_API_KEY",
            pace=pace or shared_pace(settings.max_requests_per_s, settings.track_url, settings.site_id, is_backfill=is_backfill),
            timeout_s=settings.timeout_s,
            connections=settings.concurrency,
            auth=(settings.site_id, settings.api_key.get_secret_value()),
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    @property
    def pace_per_second(self) -> float:
        """The requests per second that all clients of the workspace on this machine may make together, at this moment."""
        return self._http.pace.per_second

    def stop(self) -> None:
        """From any thread: start no further request, and end whoever waits to send one with CustomerioUnavailable, at once.

        What is on its way is neither waited for nor broken off.
        """
        self._http.stop()

    def region(self) -> WorkspaceRegion:
        """Where the credentials belong, asked once. Called before the first row is sent: the wrong host would pass people's data
        through another region's servers.

        Raises: CustomerioRefused when the credentials are refused or belong to another region than the settings say.
        """
        if self._region is None:
            found = self.find_region()
            if found.region != self._settings.region:
                raise CustomerioRefused(
                    f"the credentials belong to region {found.region}, the settings say {self._settings.region}",
                    next_step=f"set CUSTOMERIO_REGION={found.region}",
                )
            self._region = found
        return self._region

    def find_region(self) -> WorkspaceRegion:
        """Ask where the credentials belong, whatever the settings say; writes nothing.

        Raises: CustomerioRefused, CustomerioUnavailable, MismatchError.
        """
        response = self._http.request("GET", "/api/v1/accounts/region")
        answer = _json(response)
        if not isinstance(answer, dict) or "region" not in answer:
            raise MismatchError("Customer.io's answer about the region is not as published", next_step=_NOT_AS_PUBLISHED)
        try:
            return WorkspaceRegion(str(answer["region"]), int(answer.get("environment_id", 0)), _date(response))
        except (ValueError, TypeError):
            raise MismatchError(
                "Customer.io's answer about the region is not as published", next_step=_NOT_AS_PUBLISHED
            ) from None

    def send_batch(self, body: bytes, operations: int) -> BatchAnswer:
        """Send one packed body of *operations* operations. Safe to repeat: events carry ids, identifies a timestamp.

        Raises: CustomerioBodyTooLarge when half of it may be taken (413), CustomerioRefused, CustomerioUnavailable,
        MismatchError when the answer names an operation that is not there.
        """
        response = self._http.request("POST", "/api/v2/batch", content=body, headers={"Content-Type": "application/json"})
        if response.status_code != 207:
            return BatchAnswer()
        answer = _json(response)
        errors = answer.get("errors") if isinstance(answer, dict) else None
        if not isinstance(errors, list) or not errors:
            raise MismatchError(
                "Customer.io refused operations without naming them (207 without errors)", next_step=_NOT_AS_PUBLISHED
            )
        refused = {}
        for error in errors:
            index = error.get("batch_index") if isinstance(error, dict) else None
            if type(index) is not int:
                raise MismatchError(
                    "Customer.io refused an operation without saying which (207 without batch_index)", next_step=_NOT_AS_PUBLISHED
                )
            if not 0 <= index < operations:
                raise MismatchError(
                    f"Customer.io refused operation {index} of a batch of {operations}", next_step=_NOT_AS_PUBLISHED
                )
            refused.setdefault(
                index,
                RefusedOperation(index, _text(error, "reason"), _text(error, "field"), _text(error, "message")),
            )
        return BatchAnswer(tuple(refused[index] for index in sorted(refused)))


def _text(error: dict[str, Any], name: str) -> str:
    """What Customer.io says, without the values that it may quote: they are personal data."""
    return _VALUES.sub("...", str(error.get(name) or ""))[:_TEXT_SHOWN]


def _date(response: httpx.Response) -> datetime | None:
    """When the server says that it answered (RFC 9110, section 6.6.1)."""
    try:
        return email.utils.parsedate_to_datetime(response.headers.get("Date", "")).astimezone(UTC)
    except ValueError:
        return None


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise MismatchError(
            f"Customer.io answered {response.status_code} with something else than JSON", next_step=_NOT_AS_PUBLISHED
        ) from None
