"""What a delivery says about itself. Every row of the day is counted once, under exactly one outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


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

    delivered: acknowledged in this run. unchanged: the ledger holds the same content. amended: an event that was delivered
    with other content, which is not sent again. duplicates: equal to another row of the same key. held: too old to be live
    and too young to be history. rejected: kept in the rejections with a reason.
    """

    feed: str
    day: str
    rows: int
    delivered: int = 0
    unchanged: int = 0
    amended: int = 0
    duplicates: int = 0
    held: int = 0
    rejected: int = 0
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0
    request_bytes: int = 0
    seconds: float = 0.0
    held_until: datetime | None = None
    examples: tuple[RejectedExample, ...] = ()
    delivered_examples: tuple[str, ...] = ()

    @property
    def is_conserved(self) -> bool:
        """True when every row has exactly one outcome."""
        outcomes = (self.delivered, self.unchanged, self.amended, self.duplicates, self.held, self.rejected)
        return self.rows == sum(outcomes)
