"""What the App API's answers hold, as dataclasses, and how an answer of another shape than published is refused.

Source: Customer.io App API document (read 2026-09-17). All attribute values come back as strings; empty collections may be null.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rs_cio_assets.errors import MismatchError

_RUNNING, _NOT_RUNNING = "running", frozenset({"draft", "stopped"})  # of a campaign; what is not published counts as running
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
    """One entry of an activity log. *timestamp* is unix seconds; *data* depends on the type.

    *activity_id* and *person_id* (our identifier) are empty where the answer does not say them.
    """

    type: str
    name: str
    timestamp: int
    data: Mapping[str, Any]
    activity_id: str = ""
    person_id: str = ""


@dataclass(frozen=True)
class Campaign:
    """A campaign and what starts its journeys: an event, segments, or neither (API, date and other triggers).

    *is_running* is true wherever Customer.io does not say otherwise: whoever asks wants to know what might fire. *is_state_known*
    is false where it says neither: nobody may call that good.
    *first_started* is unix seconds, None where it never started or the answer does not say.
    """

    campaign_id: int
    name: str
    is_running: bool
    event_name: str | None
    trigger_segment_ids: tuple[int, ...]
    filter_segment_ids: tuple[int, ...] = ()
    first_started: int | None = None
    is_state_known: bool = True


@dataclass(frozen=True)
class SegmentState:
    """A segment of Customer.io. *is_ready* is false while it is built; *progress* is percent then, None where it is not said."""

    segment_id: int
    name: str
    is_ready: bool
    progress: int | None


@dataclass(frozen=True)
class Members:
    """Some members of a segment: their ids; and how many of them have none (known by email alone)."""

    ids: tuple[str, ...]
    without_id: int


@dataclass(frozen=True)
class Message:
    """One delivery of a campaign. *created* is unix seconds; *trigger_event_id* the event's ULID, None for other triggers."""

    message_id: str
    campaign_id: int | None
    person_id: str
    created: int
    trigger_event_id: str | None
    action_id: int | None


def objects(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A collection of the answer; empty ones may be null. Raises: MismatchError when it is absent or no list of objects."""
    items = answer.get(name, ...)
    if items is None:
        return []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise MismatchError(
            f"Customer.io's App API answered without the published field {name}", next_step="report this: the API has changed"
        )
    return items


def profile_of(item: Any) -> Profile:
    """One customer. Raises: MismatchError, as all of these do for another shape than published."""
    identifiers, attributes, timestamps = (_typed(item, name, dict, "customer") or {} for name in _PROFILE)
    person_id = identifiers.get("id") or item.get("id")
    if not person_id:
        raise _unpublished("customer", "id")  # it was asked for by its id: else it would count as not there
    return Profile(str(person_id), attributes, timestamps)


def activity_of(item: Mapping[str, Any]) -> Activity:
    """One activity, of a person's log or of the workspace's."""
    identifiers = _typed(item, "customer_identifiers", dict, "activity") or {}
    return Activity(
        type=_typed(item, "type", str, "activity") or "",
        name=_typed(item, "name", str, "activity") or "",
        timestamp=_typed(item, "timestamp", int, "activity") or 0,
        data=_typed(item, "data", dict, "activity") or {},
        activity_id=str(item.get("id") or ""),
        person_id=str(identifiers.get("id") or item.get("customer_id") or ""),
    )


def campaign_of(item: Mapping[str, Any]) -> Campaign:
    """One campaign."""
    name, state, event_name = (_typed(item, field, str, "campaign") for field in ("name", "state", "event_name"))
    is_active = _typed(item, "active", bool, "campaign")
    return Campaign(
        campaign_id=_number(item.get("id"), "id", "campaign"),
        name=name or "",
        is_running=is_active is not False if state is None else state not in _NOT_RUNNING,
        event_name=event_name or None,
        trigger_segment_ids=_numbers(item, "trigger_segment_ids"),
        filter_segment_ids=_numbers(item, "filter_segment_ids"),
        first_started=_typed(item, "first_started", int, "campaign") or None,
        is_state_known=is_active is not None or state == _RUNNING or state in _NOT_RUNNING,
    )


def segment_of(item: Mapping[str, Any]) -> SegmentState:
    """One segment. Ready is what says so: `finished`, and no progress left."""
    state, progress = _typed(item, "state", str, "segment"), _typed(item, "progress", int, "segment")
    if state is None:
        raise _unpublished("segment", "state")  # else it would count as being built, for ever
    return SegmentState(
        segment_id=_number(item.get("id"), "id", "segment"),
        name=_typed(item, "name", str, "segment") or "",
        is_ready=state == "finished" and progress in {None, 100},
        progress=progress,
    )


def segment_id_of(item: Mapping[str, Any]) -> int:
    """The number of one of a person's segments: more is not said there."""
    return _number(item.get("id"), "id", "segment")


def workspace_id_of(item: Mapping[str, Any]) -> int:
    """The number of one workspace of the account."""
    return _number(item.get("id"), "id", "workspace")


def users_of(answer: Mapping[str, Any]) -> tuple[int, ...]:
    """Numbers of the campaigns that use a segment."""
    used_by = _typed(answer, "used_by", dict, "segment")
    if used_by is None:
        raise _unpublished("segment", "used_by")
    return _numbers(used_by, "campaigns")


def members_of(answer: Mapping[str, Any]) -> Members:
    """One page of a segment's membership."""
    people = objects(answer, "identifiers")
    ids = tuple(str(person["id"]) for person in people if person.get("id"))
    return Members(ids, len(people) - len(ids))


def message_of(item: Mapping[str, Any]) -> Message:
    """One message. *created* is needed: without it nobody can say whether it was late."""
    identifiers = _typed(item, "customer_identifiers", dict, "message") or {}
    campaign, action = item.get("campaign_id"), item.get("action_id")
    created = _typed(item, "created", int, "message")
    if created is None:
        raise _unpublished("message", "created")
    return Message(
        message_id=str(item.get("id") or ""),
        campaign_id=None if campaign is None else _number(campaign, "campaign_id", "message"),
        person_id=str(identifiers.get("id") or item.get("customer_id") or ""),
        created=created,
        trigger_event_id=_typed(item, "trigger_event_id", str, "message") or None,
        action_id=None if action is None else _number(action, "action_id", "message"),
    )


_PROFILE = ("identifiers", "attributes", "timestamps")


def _typed(item: Any, field: str, kind: type[_T], what: str) -> _T | None:
    """A field; None when it is absent or null. A truth value is no number."""
    value = item.get(field) if isinstance(item, Mapping) else ...
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise _unpublished(what, field)
    return value


def _numbers(item: Mapping[str, Any], field: str) -> tuple[int, ...]:
    return tuple(_number(value, field, "campaign") for value in _typed(item, field, list, "campaign") or ())


def _number(value: Any, field: str, what: str) -> int:
    """An id; the live API gives some that are documented as integers as strings (customerio-api.md, section 4.4)."""
    if type(value) is int:
        return value
    if isinstance(value, str) and value.isdecimal() and len(value) <= _ID_DIGITS:
        return int(value)
    raise _unpublished(what, field)


def _unpublished(what: str, field: str) -> MismatchError:
    return MismatchError(
        f"Customer.io's App API answered with a {what} whose {field} is of another shape than published",
        next_step="report this: what cannot be read must not count as good",
    )
