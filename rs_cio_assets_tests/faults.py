"""Layers around the Customer.io stand-in: one counts what arrives, one breaks it as a bad day on the internet would.

A layer answers for the batch route only. What is random follows from a seed; what is refused follows from the operation's id.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH = "/api/v2/batch"
REFUSAL = {"reason": "invalid", "field": "attributes.note", "message": "refused by the storm"}
LATENCY_S = (0.005, 0.5)
# Share of requests by what happens to them; the rest is served. Source: issue 3, "Must show" 2.
STORM: Mapping[str, float] = {"429": 0.05, "5xx": 0.05, "reset_before": 0.03, "reset_after": 0.03}
REFUSED_SHARE = 0.01


class Counting:
    """Counts whole requests and the operations in them. *under_way*: those that are not yet answered."""

    def __init__(self) -> None:
        self.requests = self.operations = self.under_way = 0

    def around(self, app: ASGIApp) -> ASGIApp:
        """The layer; see CustomerioStandIn's *wrap*."""

        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] != BATCH:
                await app(scope, receive, send)
            elif (body := await _body_of(receive)) is not None:
                self.requests += 1
                self.operations += body.count(b'"type":"person"')
                self.under_way += 1
                try:
                    await app(scope, _replaying(body), send)
                finally:
                    self.under_way -= 1

        return layer


class Storm:
    """Delays every request, and refuses, breaks or drops some. *happened* counts what it did.

    *shares* are those of STORM, or none of them for a calm day with the same latency. The fate of the n-th request and its
    latency follow from *seed*; an operation is refused by its id (see `is_refused`), however often it comes.
    """

    def __init__(self, seed: int, *, shares: Mapping[str, float] = STORM, refused_share: float = REFUSED_SHARE) -> None:
        self.happened: Counter[str] = Counter()
        self._random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self._shares, self._refused_share = shares, refused_share

    def is_refused(self, operation: Mapping[str, Any]) -> bool:
        """True for the share of ids that this workspace does not take."""
        digest = hashlib.sha256(operation["id"].encode()).digest()
        return int.from_bytes(digest[:4], "big") < self._refused_share * 2**32

    def around(self, app: ASGIApp) -> ASGIApp:
        """The layer; see CustomerioStandIn's *wrap*."""

        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] != BATCH:
                await app(scope, receive, send)
                return
            fate, is_bare = self._fate(), self._random.random() < 0.5
            latency_s = self._random.uniform(*LATENCY_S)
            body = await _body_of(receive)
            if body is None:
                return
            await asyncio.sleep(latency_s)
            self.happened[fate] += 1
            if fate == "429":
                await _answer(send, 429, {}, () if is_bare else ((b"retry-after", b"0"),))
            elif fate == "5xx":
                await _answer(send, 500 if is_bare else 503, {})
            elif fate == "reset_before":
                await _hang_up(receive)
            else:
                status, answer = await self._serve(app, scope, body)
                if fate == "reset_after":
                    await _hang_up(receive)
                else:
                    await _answer(send, status, answer)

        return layer

    def _fate(self) -> str:
        drawn = self._random.random()
        for fate, share in self._shares.items():
            if drawn < share:
                return fate
            drawn -= share
        return "served"

    async def _serve(self, app: ASGIApp, scope: Scope, body: bytes) -> tuple[int, dict[str, Any]]:
        """What the stand-in says to the operations that are not refused, with the refused ones named beside."""
        batch = json.loads(body)["batch"]
        is_refused = [self.is_refused(operation) for operation in batch]
        refused = [index for index, refuse in enumerate(is_refused) if refuse]
        taken = [index for index, refuse in enumerate(is_refused) if not refuse]
        self.happened["items refused"] += len(refused)
        errors = [{"batch_index": index, **REFUSAL} for index in refused]
        if taken:
            status, answer = await _ask(app, scope, json.dumps({"batch": [batch[index] for index in taken]}).encode())
            if status not in {200, 207}:
                return status, answer
            errors += [{**error, "batch_index": taken[error["batch_index"]]} for error in answer.get("errors", ())]
        return (207, {"errors": errors}) if errors else (200, {})


async def _body_of(receive: Receive) -> bytes | None:
    """The whole body, or None when the client went away before its end."""
    parts = []
    while (message := await receive())["type"] == "http.request":
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
    return None


def _replaying(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _ask(app: ASGIApp, scope: Scope, body: bytes) -> tuple[int, dict[str, Any]]:
    sent: list[Message] = []

    async def keep(message: Message) -> None:
        sent.append(message)

    await app(scope, _replaying(body), keep)
    return sent[0]["status"], json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


async def _answer(send: Send, status: int, value: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    data = json.dumps(value).encode()
    usual = ((b"content-type", b"application/json"), (b"content-length", str(len(data)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*usual, *headers]})
    await send({"type": "http.response.body", "body": data})


async def _hang_up(receive: Receive) -> None:
    """Drop the connection without a word. ASGI has no way to say so: `receive` belongs to uvicorn's request, which has one."""
    receive.__self__.transport.abort()  # type: ignore[attr-defined]
    while (await receive())["type"] != "http.disconnect":
        pass
