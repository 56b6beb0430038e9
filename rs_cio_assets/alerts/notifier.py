"""Who is told: the log, a generic webhook, Slack's incoming webhook; and what each of them knows already.

An address is a secret (whoever has Slack's may write to the channel): it stands in no error and, while a message is sent, httpx
does not log it. Delivery is at least once: what a receiver did not confirm is told again at the next tick, to that one alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx
import tenacity
from pydantic import TypeAdapter, ValidationError

from rs_cio_assets.alerts.messages import Message
from rs_cio_assets.alerts.problems import Moment, Told, decide
from rs_cio_assets.errors import PermanentError, RsCioError, TransientError
from rs_cio_assets.settings import AlertSettings, Secret
from rs_cio_assets.silence import silenced

# A tick may take 60 s: two receivers, two attempts each.
TIMEOUT_S = 5.0
ATTEMPTS = 2
WAIT_S = 1.0

_MEMORY = TypeAdapter(dict[str, dict[str, Told]])  # receiver -> line -> what it was told


class Receiver(Protocol):
    """Somebody who is told. `tell` returns once the message was confirmed. Raises: RsCioError."""

    @property
    def name(self) -> str:
        """Under which it is remembered what was told."""
        ...

    def tell(self, message: Message) -> None:
        """Tell it."""
        ...


@dataclass(frozen=True)
class LogReceiver:
    """The log of the sensor's tick."""

    log: logging.Logger
    name: str = "log"

    def tell(self, message: Message) -> None:
        """Write the message."""
        (self.log.info if message.is_good_news else self.log.warning)(message.text())


@dataclass(frozen=True)
class HttpReceiver:
    """A POST of JSON to *url*. *variable* names the setting that holds it."""

    name: str
    url: Secret
    variable: str
    body: Callable[[Message], Mapping[str, Any]]

    def tell(self, message: Message) -> None:
        """Post the message. Raises: TransientError, PermanentError: without the address."""
        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=tenacity.wait_fixed(WAIT_S),
            retry=tenacity.retry_if_exception_type(TransientError),
            reraise=True,
        )
        with silenced("httpx"):  # it logs each request with its address, which is the secret
            retrying(self._post, self.body(message))

    def _post(self, body: Mapping[str, Any]) -> None:
        try:
            answer = httpx.post(self.url.get_secret_value(), json=body, timeout=TIMEOUT_S, follow_redirects=False)
        except httpx.TransportError as error:
            raise TransientError(f"{self.name} could not be reached: {type(error).__name__}", next_step=self._step()) from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise PermanentError(f"{self.name} cannot be called: {type(error).__name__}", next_step=self._step()) from None
        if answer.is_success:
            return
        problem = f"{self.name} answered {answer.status_code}"
        if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise TransientError(problem, next_step=self._step())
        raise PermanentError(problem, next_step=self._step())

    def _step(self) -> str:
        return f"check {self.variable}; the message is told again at the next tick"


def receivers_for(settings: AlertSettings, log: logging.Logger) -> list[Receiver]:
    """The log, and what the settings name."""
    receivers: list[Receiver] = [LogReceiver(log)]
    if settings.webhook_url:
        receivers.append(HttpReceiver("the webhook", settings.webhook_url, "RS_CIO_ALERT_WEBHOOK_URL", Message.document))
    if settings.slack_url:
        receivers.append(HttpReceiver("Slack", settings.slack_url, "RS_CIO_ALERT_SLACK_URL", lambda m: {"text": m.slack()}))
    return receivers


@dataclass(frozen=True)
class Notices:
    """What came of one moment: the memory to keep, how many receivers were told something, and who could not be."""

    memory: str
    told: int
    failures: Sequence[RsCioError]


def notify(receivers: Sequence[Receiver], memory: str | None, moment: Moment, now: datetime) -> Notices:
    """Tell each receiver what it does not know yet. *memory* is that of the last time; one that cannot be read is an empty one.

    A receiver that fails keeps what it knew, so it is told the same, and what came since, the next time; the others are not.
    """
    before, after = _remembered(memory), {}
    told, failures = 0, []
    for receiver in receivers:
        known = before.get(receiver.name, {})
        telling = decide(known, moment, now)
        after[receiver.name] = telling.told
        if not telling.lines:
            continue
        try:
            receiver.tell(Message(telling.lines, now))
            told += 1
        except RsCioError as error:
            failures.append(error)
            after[receiver.name] = known
    return Notices(_MEMORY.dump_json(after).decode(), told, failures)


def _remembered(memory: str | None) -> dict[str, dict[str, Told]]:
    try:
        return _MEMORY.validate_json(memory or "{}")
    except ValidationError:
        return {}  # of another version: everything that is there is told once more
