"""One HTTP request to Customer.io with its retries: what is tried again, how long is waited, and which error comes out.

Error texts hold statuses and paths, never a payload, an answer's values or a key.
"""

from __future__ import annotations

import email.utils
import functools
import logging
import math
import ssl
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import tenacity

from rs_cio_assets.customerio.limits import STEADY_BYTES
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.errors import CustomerioBodyTooLarge, CustomerioRefused, CustomerioUnavailable, SettingsError
from rs_cio_assets.silence import silenced

# The statuses that Customer.io's own Node client tries again (customerio-node, lib/request.ts, read 2026-05-27).
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504, 522, 524})
ATTEMPTS = 6
LONGEST_WAIT_S = 300.0
WAIT_INITIAL_S = 0.2
WAIT_MAX_S = 10.0
WAIT_JITTER_S = 1.0

_log = logging.getLogger(__name__)


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; *wait_s* is what the server asked for, or None."""

    def __init__(self, problem: str, wait_s: float | None = None, *, is_throttling: bool = False) -> None:
        super().__init__(problem)
        self.wait_s = wait_s
        self.is_throttling = is_throttling


@functools.cache
def _tls() -> ssl.SSLContext:
    """Certificates are verified as httpx does by itself; reading them takes 30 ms, so all clients of a process share them."""
    return httpx.create_ssl_context()


class Http:
    """Requests to one base URL. Thread-safe; close it in the end. *pace* is asked before every attempt and told how it went.

    Raises: SettingsError when *base_url* is no address, or a key in *headers* holds what no header may hold.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api: str,
        credentials: str,
        pace: Pace,
        timeout_s: float,
        connections: int,
        auth: httpx.Auth | tuple[str, str] | None = None,
        headers: dict[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._api, self._credentials, self.pace = api, credentials, pace
        self._stopping = threading.Event()
        try:
            self._client = httpx.Client(
                base_url=base_url,
                auth=auth,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10)),
                limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
                follow_redirects=False,
                verify=_tls(),
                transport=transport,
            )
        except (httpx.InvalidURL, UnicodeError):
            raise SettingsError(f"Customer.io's {api} cannot be called", next_step=self._settings_to_check()) from None

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def stop(self) -> None:
        """From any thread: start no further request, and end whoever waits for a turn or for another attempt, at once.

        What is on its way is neither waited for nor broken off.
        """
        self._stopping.set()

    def request(
        self, method: str, path: str, *, shown: str | None = None, has_absence: bool = False, **options: Any
    ) -> httpx.Response:
        """The answer with a 2xx status; with *has_absence* also a 404 in JSON, which says that there is no such person.

        *shown* stands for *path* in error texts, where the path itself names a person.
        Raises: CustomerioBodyTooLarge (413), CustomerioRefused for what else repeating cannot help (3xx: another region, 401,
        other 4xx), CustomerioUnavailable when 408, 429, 5xx or a failing connection outlasted the retries, or after `stop`.
        """
        retrying = tenacity.Retrying(
            sleep=self._pause,
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=_wait_before_retry,
            retry=tenacity.retry_if_exception_type(_TryAgain),
            before_sleep=lambda state: self._say_again(f"{method} {shown or path}", state),
            reraise=True,
        )
        try:
            return retrying(self._attempt, method, path, shown or path, has_absence, options)
        except _TryAgain as error:
            raise CustomerioUnavailable(
                f"Customer.io's {self._api} did not answer {method} {shown or path} after {ATTEMPTS} attempts: {error}",
                retry_after_s=error.wait_s,
                next_step="run the day again later; what was acknowledged is recorded and is not sent again",
            ) from None

    def _say_again(self, what: str, state: tenacity.RetryCallState) -> None:
        failed, wait_s = state.outcome and state.outcome.exception(), state.upcoming_sleep
        _log.warning("Customer.io's %s did not answer %s: %s. Asking again in %.1f s.", self._api, what, failed, wait_s)

    def _attempt(self, method: str, path: str, shown: str, has_absence: bool, options: dict[str, Any]) -> httpx.Response:
        """Wait for a turn, ask once, and tell the pace how it went."""
        self.pace.wait(self._pause)
        if self._stopping.is_set():
            raise self._stopped()
        started = time.monotonic()
        try:
            response = self._once(method, path, shown, has_absence, options)
        except _TryAgain as error:
            (self.pace.note_refused if error.is_throttling else self.pace.note_failed)(error.wait_s)
            raise
        is_usual = len(options.get("content", b"")) >= STEADY_BYTES
        self.pace.note_answered(time.monotonic() - started if is_usual else None)
        return response

    def _pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise self._stopped()

    def _stopped(self) -> CustomerioUnavailable:
        return CustomerioUnavailable(
            f"the client of Customer.io's {self._api} was stopped before this request was acknowledged",
            next_step="run the day again; what was acknowledged is recorded and is not sent again",
        )

    def _once(self, method: str, path: str, shown: str, has_absence: bool, options: dict[str, Any]) -> httpx.Response:
        try:
            with silenced("httpx"):  # it logs each request with its path, which may name a person
                response = self._client.request(method, path, **options)
        except httpx.TransportError as error:
            if isinstance(error.__cause__, ssl.SSLError) or "CERTIFICATE" in str(error).upper():
                raise CustomerioRefused(
                    f"the TLS connection to {self._client.base_url.host} failed",
                    next_step="check the host name and this machine's CA certificates",
                ) from None
            if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
                raise CustomerioRefused(
                    f"no request can be written to Customer.io's {self._api} at {self._client.base_url}",
                    next_step=self._settings_to_check(),
                ) from None
            raise _TryAgain(f"{type(error).__name__} from {self._client.base_url.host}") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.CookieConflict, httpx.StreamError) as error:
            raise CustomerioRefused(
                f"the answer cannot be used: {type(error).__name__}", next_step=self._settings_to_check()
            ) from None
        if response.status_code in RETRIED_STATUSES:
            is_throttling = response.status_code == httpx.codes.TOO_MANY_REQUESTS
            raise _TryAgain(f"status {response.status_code}", _retry_after_s(response), is_throttling=is_throttling)
        is_absence = has_absence and response.status_code == 404 and "json" in response.headers.get("Content-Type", "")
        if not response.is_success and not is_absence:
            raise self._refusal(response, method, shown)
        return response

    def _settings_to_check(self) -> str:
        return f"check CUSTOMERIO_TRACK_URL, CUSTOMERIO_APP_URL and {self._credentials}: one of them cannot be sent as it is"

    def _refusal(self, response: httpx.Response, method: str, path: str) -> CustomerioRefused:
        status = response.status_code
        if response.is_redirect:
            return CustomerioRefused(
                f"Customer.io's {self._api} redirects to another region ({status})",
                next_step="set CUSTOMERIO_REGION to the workspace's region (us or eu)",
            )
        if status in {401, 403}:
            return CustomerioRefused(
                f"Customer.io refused the credentials of its {self._api} ({status})",
                next_step=f"check {self._credentials}, and CUSTOMERIO_REGION: a key of the other region is refused too",
            )
        next_step = "report this: the engine sent a request that Customer.io does not take"
        if status == 404:
            next_step = "check CUSTOMERIO_TRACK_URL and CUSTOMERIO_APP_URL"
        kind = CustomerioBodyTooLarge if status == 413 else CustomerioRefused
        return kind(f"Customer.io's {self._api} answered {status} to {method} {path}", next_step=next_step)


def _wait_before_retry(state: tenacity.RetryCallState) -> float:
    """Seconds: what the server asked for, otherwise twice as long each time, with jitter."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _TryAgain) and error.wait_s is not None:
        return error.wait_s
    return tenacity.wait_exponential_jitter(multiplier=WAIT_INITIAL_S, max=WAIT_MAX_S, jitter=WAIT_JITTER_S)(state)


def _retry_after_s(response: httpx.Response) -> float | None:
    """Seconds from a Retry-After header (a number or an HTTP date), at most LONGEST_WAIT_S; None without one."""
    header = response.headers.get("Retry-After", "").strip()
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_WAIT_S)
