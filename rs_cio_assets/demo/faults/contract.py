"""Faults of the contract: what does not even load. The demo shows the refusal; there is no check to open."""

from __future__ import annotations

from rs_cio_assets.demo.faults.scene import Fault, replaced

CONTRACT_FAULTS = (
    Fault(
        "NM4",
        "the contract renames an event that a journey uses",
        "",
        None,
        "cart_recovery",
        edit=replaced("feeds/checkout_started.yaml", "event_name: Checkout Started", "event_name: Checkout Begun"),
    ),
    Fault(
        "NM5",
        "a property that would reroute messages",
        "",
        None,
        "reserved",
        edit=replaced("feeds/order_completed.yaml", "  discount_code: {", "  reply_to: {"),
    ),
)
