"""What a delivery says about itself. Every row of the day is counted once, under exactly one outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rs_cio_assets.customerio import Campaign


@dataclass(frozen=True)
class DeliveryProgress:
    """How far a running delivery is: rows acknowledged by Customer.io and recorded in the ledger."""

    acknowledged: int


@dataclass(frozen=True)
class RejectedExample:
    """One rejected row, with its key hashed; *message* says what to do and holds no value of the row."""

    row_key_hash: str
    reason: str
    column: str | None
    message: str


@dataclass(frozen=True)
class DeliveryReport:
    """One day of one feed. *seconds* is wall time, *request_bytes* the bodies sent, *held_until* the latest due time.

    delivered: acknowledged in this run; *could_trigger* of them were young enough to start a campaign. unchanged: the ledger
    holds the same content. amended: an event that was delivered with other content, which is not sent again. duplicates: equal
    to another row of the same key. held: too old to be live and too young to be history, or waiting for its person.
    superseded: undone by a later day. rejected: kept in the rejections with a reason. *people_first*: people who were delivered
    before their events although their own day is another one. *requests_per_s*: the shared pace in the end.
    """

    feed: str
    day: str
    rows: int
    delivered: int = 0
    could_trigger: int = 0
    unchanged: int = 0
    amended: int = 0
    duplicates: int = 0
    held: int = 0
    superseded: int = 0
    rejected: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    people_first: int = 0
    requests: int = 0
    request_bytes: int = 0
    requests_per_s: float = 0.0
    seconds: float = 0.0
    held_until: datetime | None = None
    examples: tuple[RejectedExample, ...] = ()
    delivered_examples: tuple[str, ...] = ()

    @property
    def is_conserved(self) -> bool:
        """True when every row has exactly one outcome."""
        outcomes = (self.delivered, self.unchanged, self.amended, self.duplicates, self.held, self.superseded, self.rejected)
        return self.rows == sum(outcomes)

    def columns_of(self, reason: str) -> list[str]:
        """The columns for which rows were rejected with this reason; none where it is the row as a whole."""
        return sorted({example.column for example in self.examples if example.reason == reason and example.column})


@dataclass(frozen=True)
class Preview:
    """What a delivery of the day would do now; nothing was sent.

    *outcomes* and *rejected_by_reason* count rows. *operations* are the first ones that would go, exactly as sent.
    *unknown_people* would be looked up and delivered first, held or rejected, as the contract says. *campaigns* are running and
    could be started by *could_trigger* rows; None where nobody was asked because no row could start any.
    """

    feed: str
    day: str
    rows: int
    outcomes: Mapping[str, int]
    rejected_by_reason: Mapping[str, int]
    could_trigger: int
    unknown_people: int
    requests: int
    request_bytes: int
    operations: tuple[Mapping[str, Any], ...]
    campaigns: tuple[Campaign, ...] | None
