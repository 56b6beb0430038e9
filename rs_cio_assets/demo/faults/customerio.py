"""Faults of Customer.io's side: segments that drifted, journeys that were switched off, other sources, what did not take."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import Any

from rs_cio_assets.demo.faults.scene import Fault, Plant, Scene, replaced
from rs_cio_assets.sandbox.customerio.retention import shipped

_PEOPLE, _ORDERS, _CHECKOUTS = "customerio/feeds/people", "customerio/feeds/order_completed", "customerio/feeds/checkout_started"


def _segment(number: int, **changes: Any) -> Plant:
    """Somebody edits a segment."""
    return lambda scene: scene.customerio("PUT", f"/sandbox/segments/{number}", {**shipped()["segments"][str(number)], **changes})


def _campaign(number: int, **changes: Any) -> Plant:
    """Somebody edits a campaign."""
    return lambda scene: scene.customerio(
        "PUT", f"/sandbox/campaigns/{number}", {**shipped()["campaigns"][str(number)], **changes}
    )


def _faults(**switches: Any) -> Plant:
    return lambda scene: scene.customerio("PUT", "/sandbox/faults", switches)


def _order(scene: Scene, number: str = "O-PLANTED") -> None:
    """Somebody who never bought does, a few minutes ago."""
    scene.sql(
        "INSERT INTO shop.orders (order_id, customer_id, placed_at, paid_at, currency, discount, total, is_test, loaded_at) "
        "SELECT {number}, MIN(c.customer_id), {now} - INTERVAL '20 minutes', {now} - INTERVAL '19 minutes', "
        "'EUR', 0, 18.90, FALSE, {now} - INTERVAL '5 minutes' FROM shop.customers AS c LEFT JOIN shop.orders AS o "
        "ON o.customer_id = c.customer_id WHERE o.order_id IS NULL AND NOT c.is_guest",
        "INSERT INTO shop.order_lines VALUES ({number}, 1, 'CLEAN-2', 1, 18.90)",
        number=number,
    )


def _journey_fires_twice(scene: Scene) -> None:
    _faults(doubled_journeys=[1])(scene)
    _order(scene)


def _new_email(scene: Scene) -> None:
    _faults(frozen_email=True)(scene)
    scene.sql(
        "UPDATE shop.customers SET email = 'moved.' || email, updated_at = {now} - INTERVAL '30 minutes', "
        "loaded_at = {now} - INTERVAL '10 minutes' "
        "WHERE customer_id = (SELECT MAX(customer_id) FROM shop.customers WHERE NOT is_guest)"
    )


def _lost_attribute(scene: Scene) -> None:
    _faults(lost_attributes=["vip_tier"])(scene)
    _order(scene)


_FIRST = "SELECT MIN(customer_id) FROM shop.customers WHERE NOT is_guest"


def _wants_to_go(scene: Scene) -> None:
    """One person asks to be deleted; nobody did before."""
    scene.sql(
        "DELETE FROM shop.privacy_requests",
        "INSERT INTO shop.privacy_requests VALUES ({person}, 'delete', {now} - INTERVAL '1 hour', {now} - INTERVAL '30 minutes')",
        person=scene.one(_FIRST),
    )


def _back_again(scene: Scene) -> None:
    """Another source makes the person anew."""
    person = {"identifiers": {"id": scene.one(_FIRST)}, "attributes": {"source": "newsletter form"}}
    scene.send({"type": "person", "action": "identify", **person})


def _stray_event(scene: Scene) -> None:
    at = int((scene.now.astimezone(UTC) - timedelta(minutes=5)).timestamp())
    event = {"type": "person", "action": "event", "name": "Page Seen", "timestamp": at, "identifiers": {"id": "C9999999"}}
    scene.send(event)


_EVERY_CHECKOUT = {"event": {"name": "Checkout Started", "within_days": 3}}
_LONG_AGO = {"attribute": {"field": "last_paid_order_at", "operator": "before", "days_ago": 10}}

CUSTOMERIO_FAULTS = (
    Fault(
        "ID4",
        "an email address changed, and Customer.io did not take it",
        _PEOPLE,
        "identities_agree",
        "email",
        plant=_new_email,
        feeds=("people",),
        is_today=True,
    ),
    Fault(
        "ID6",
        "another source sends events of somebody unknown",
        _PEOPLE,
        "customerio_refused_nothing_later",
        "profile",
        plant=_stray_event,
    ),
    Fault(
        "TM9",
        "a journey promises more than the pipe can keep",
        _CHECKOUTS,
        "journey_cart_recovery_keeps_its_promise",
        "promises 15 min",
        edit=replaced("journeys/cart_recovery.yaml", "starts_within_hours: 30", "starts_within_hours: 0.25"),
    ),
    Fault(
        "NM1",
        "the campaign waits for checkout_started, the feed sends Checkout Started",
        _CHECKOUTS,
        "journey_cart_recovery_fires",
        "checkout_started",
        plant=_campaign(2, event_name="checkout_started"),
    ),
    Fault(
        "SG1",
        "a segment drifts: somebody asks for three orders in place of two",
        _PEOPLE,
        "segment_repeat_buyers",
        "missing",
        plant=_segment(1, condition={"attribute": {"field": "orders_count", "operator": "gte", "value": 3}}),
    ),
    Fault(
        "SG2",
        "a segment is still being built",
        _PEOPLE,
        "segment_repeat_buyers",
        "Not ready",
        plant=_segment(1, build_seconds=3600),
        is_not_ready=True,
    ),
    Fault(
        "SG3",
        "a segment is gone",
        _PEOPLE,
        "segment_first_order_last_14_days",
        "segment 3",
        plant=lambda scene: scene.customerio("DELETE", "/sandbox/segments/3"),
    ),
    Fault(
        "SP1",
        "buyers are in the audience of cart recovery",
        _CHECKOUTS,
        "cart_recovery_reaches_nobody_it_must_not",
        "must not",
        plant=_segment(5, condition=_EVERY_CHECKOUT),
    ),
    Fault(
        "SP2",
        "active buyers are in the audience of winback",
        _PEOPLE,
        "winback_reaches_nobody_it_must_not",
        "must not",
        plant=_segment(6, condition=_LONG_AGO),
    ),
    Fault(
        "SP3",
        "somebody who was deleted is back",
        _PEOPLE,
        "who_left_stays_gone",
        "1 of 1 people who asked to be deleted",
        edit=replaced("feeds/deletions.yaml", "enabled: false", "enabled: true"),
        plant=_wants_to_go,
        feeds=("deletions",),
        afterwards=_back_again,
        is_today=True,
    ),
    Fault(
        "JR1",
        "a journey fires twice for one order",
        _ORDERS,
        "journey_post_purchase_fires",
        "more than once",
        plant=_journey_fires_twice,
        feeds=("people", "order_completed"),
        is_today=True,
    ),
    Fault(
        "DL4",
        "Customer.io answers 200 and does not take an attribute",
        _PEOPLE,
        "customerio_refused_nothing_later",
        "did not apply",
        plant=_lost_attribute,
        feeds=("people",),
        is_today=True,
    ),
)
