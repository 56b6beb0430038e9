"""What one run of a day is asked to do beyond the contract, and what it may call for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from rs_cio_assets.customerio import Campaign

OnBackfill = Literal["refuse", "hold", "accept"]


@dataclass(frozen=True)
class DeliveryOptions:
    """One run's own wishes.

    has_resend: send every valid row, whatever the ledger holds. replay: reasons of Customer.io's refusals (`customerio_...`)
    whose rows go again although nothing changed; `all` for every reason. is_backfill: rows that could still start a campaign
    are treated as the feed's on_backfill says, or *on_backfill* here. has_no_brake: send as many as the view holds.
    is_of_any_day: the rows are people brought in beside their own day, whose rejections stay as they are.
    """

    has_resend: bool = False
    replay: frozenset[str] = frozenset()
    is_backfill: bool = False
    on_backfill: OnBackfill | None = None
    has_no_brake: bool = False
    is_of_any_day: bool = False


@dataclass(frozen=True)
class Neighbours:
    """What a delivery may ask of the rest of the house.

    campaigns: the workspace's campaigns. deliver_people: send the people with these identifiers (one string column) from the
    people view before their events; whoever is not there or cannot be sent is passed over.
    """

    campaigns: Callable[[], Sequence[Campaign]] = field(default=tuple)
    deliver_people: Callable[[pa.ChunkedArray], None] | None = None


AS_THE_CONTRACT_SAYS, ALONE = DeliveryOptions(), Neighbours()
