"""What the published Track API refuses, operation by operation. No state: whether a person exists is `workspace.py`'s matter.

Source: Customer.io Track API document (journeys-track.json, read 2026-08-13). Where it says "kb", 1,000 bytes are taken: the
stricter reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

BODY_BYTES = 500_000
OPERATION_BYTES = 32_000
IDENTIFIER_BYTES = 150
ATTRIBUTE_NAME_BYTES = 150
ATTRIBUTE_VALUE_BYTES = 1_000
ATTRIBUTES = 300
EVENT_NAME_BYTES = 100
LATEST_SECONDS = 10_000_000_000  # year 2286; larger numbers are milliseconds
IDENTIFIERS = ("id", "email", "phone", "cio_id")
ADDRESSES = ("recipient", "from_address", "reply_to")  # of an event: they replace the triggered message's own
EVENT_ACTIONS = frozenset({"event", "page", "screen"})
ACTIONS = frozenset({"identify", "delete", "suppress", "unsuppress", "merge"}) | EVENT_ACTIONS
# Crockford base 32, 128 bits: 26 digits of which the first is at most 7.
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)

Problem = dict[str, Any]


def problems_of(operation: Any) -> list[Problem]:
    """Why *operation* is refused, as the API words it: reason, field, message. Empty when it is accepted."""
    return list(_problems(operation))


def size_of(value: Any) -> int:
    """Bytes of *value* as compact JSON. Raises ValueError for what is none."""
    return len(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode())


def _problems(operation: Any) -> Iterator[Problem]:
    if not isinstance(operation, dict):
        yield _problem("", "operation must be an object")
        return
    if operation.get("type") != "person":
        yield _problem("type", "this stand-in knows the type person only")
        return
    action = operation.get("action")
    if not isinstance(action, str) or action not in ACTIONS:
        yield _problem("action", "is not one of the actions that this stand-in knows", "invalid" if action else "required")
        return
    try:
        size = size_of(operation)
    except ValueError:  # half a surrogate pair, or a number like 1e400, which Python reads as infinity
        yield _problem("", "operation must be valid JSON in UTF-8")
        return
    if size > OPERATION_BYTES:
        yield _problem("", "operation cannot be larger than 32kb")
    for name in ("primary", "secondary") if action == "merge" else ("identifiers",):
        yield from _identifier_problems(name, operation.get(name))
    if "timestamp" in operation and not is_seconds(operation["timestamp"]):
        yield _problem("timestamp", "must be a unix timestamp in seconds")
    if action in EVENT_ACTIONS:
        yield from _event_problems(operation)
    elif action == "identify":
        yield from _attribute_problems(operation.get("attributes", {}))
        if operation.get("cio_relationships", []) != []:
            yield _problem("cio_relationships", "this stand-in knows no objects, and so no relationships to them")


def is_seconds(value: Any) -> bool:
    """True for a whole number that can be unix seconds."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LATEST_SECONDS


def _identifier_problems(field: str, identifiers: Any) -> Iterator[Problem]:
    if not isinstance(identifiers, Mapping) or not identifiers:
        yield _problem(field, "identifiers must be present", "required")
        return
    if len(identifiers) != 1 or next(iter(identifiers)) not in IDENTIFIERS:
        yield _problem(field, "exactly one of id, email, phone or cio_id must be given")
        return
    name, value = next(iter(identifiers.items()))
    if not isinstance(value, str) or not value.strip():
        yield _problem(f"{field}.{name}", f"{name} must be present", "required")
    elif len(value.encode()) > IDENTIFIER_BYTES:
        yield _problem(f"{field}.{name}", f"{name} cannot be longer than {IDENTIFIER_BYTES} bytes")


def _event_problems(operation: Mapping[str, Any]) -> Iterator[Problem]:
    name = operation.get("name")
    if not isinstance(name, str) or not name.strip():
        yield _problem("name", "event name must not be blank", "required")
    elif len(name.encode()) > EVENT_NAME_BYTES:
        yield _problem("name", f"event name cannot be longer than {EVENT_NAME_BYTES} bytes")
    if "id" in operation and not (isinstance(operation["id"], str) and _ULID.fullmatch(operation["id"])):
        yield _problem("id", "id must be a valid ULID")
    attributes = operation.get("attributes", {})
    if not isinstance(attributes, dict):
        yield _problem("attributes", "event data must be a hash")
        return
    for address in ADDRESSES:
        if not isinstance(attributes.get(address, ""), str):
            yield _problem(f"attributes.{address}", f"{address} must be a text")


def _attribute_problems(attributes: Any) -> Iterator[Problem]:
    if not isinstance(attributes, dict):
        yield _problem("attributes", "attributes must be a hash")
        return
    if len(attributes) > ATTRIBUTES:
        yield _problem("attributes", f"cannot identify more than {ATTRIBUTES} attributes in one request")
    if not isinstance(attributes.get("_update", False), bool):
        yield _problem("attributes._update", "_update must be a boolean")
    preferences = attributes.get("cio_subscription_preferences", {})
    topics = preferences.get("topics", {}) if isinstance(preferences, dict) else None
    if not isinstance(topics, dict) or not all(isinstance(is_wanted, bool) for is_wanted in topics.values()):
        yield _problem("attributes.cio_subscription_preferences", "topics must be a hash of booleans")
    for name, value in attributes.items():
        if len(name.encode()) > ATTRIBUTE_NAME_BYTES:
            yield _problem("attributes", f"attribute name cannot be longer than {ATTRIBUTE_NAME_BYTES} bytes")
        if isinstance(value, str | dict | list) and _value_bytes(value) > ATTRIBUTE_VALUE_BYTES:
            yield _problem(f"attributes.{name}", f"value for attribute cannot be longer than {ATTRIBUTE_VALUE_BYTES} bytes")


def _value_bytes(value: Any) -> int:
    return len(value.encode()) if isinstance(value, str) else size_of(value)


def _problem(field: str, message: str, reason: str = "invalid") -> Problem:
    return {"reason": reason, "field": field, "message": message}
