"""What a person may ask of one run of a feed, as Dagster's launchpad shows it, and what the run itself says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from enum import Enum

from dagster import Config
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG, BACKFILL_ID_TAG
from pydantic import Field

from rs_cio_assets.delivery import DeliveryOptions

REASON_TAG = "rs_cio/reason"
SCHEDULE = "schedule"
INTRADAY = "intraday"  # today's open day, every hour
LATE_DATA = "late_data"  # rows that arrived late are live business, not a backfill
BACKFILL = "backfill"  # by the command line, whatever the day's age


class Resend(Enum):
    """Which rows of the day go to Customer.io."""

    changed = "changed"
    all = "all"


class OnBackfillChoice(Enum):
    """What happens to rows of a backfill that could start a running campaign."""

    contract = "contract"
    refuse = "refuse"
    hold = "hold"
    accept = "accept"


class FeedConfig(Config):
    """Of one run; the contract holds for everything else."""

    resend: Resend = Field(default=Resend.changed, description="all: every valid row again, whatever the ledger holds.")
    replay: list[str] = Field(
        default_factory=list,
        description="Reasons of Customer.io's refusals (customerio_invalid, ...), or all: such rows go again although unchanged.",
    )
    on_backfill: OnBackfillChoice = Field(
        default=OnBackfillChoice.contract,
        description="In place of the contract's on_backfill: refuse, hold (events wait until 72 hours have passed), accept.",
    )
    has_no_brake: bool = Field(default=False, description="Merges, deletions, suppressions: send as many as the view holds.")
    is_dry_run: bool = Field(default=False, description="Send nothing; observe what would be sent, and why the rest would not.")

    def options(self, tags: Mapping[str, str], day: str, today: date) -> DeliveryOptions:
        """The engine's options for *day* in a run with these *tags*."""
        choice = self.on_backfill
        return DeliveryOptions(
            has_resend=self.resend is Resend.all,
            replay=frozenset(self.replay),
            is_backfill=is_backfill(tags, day, today),
            on_backfill=None if choice is OnBackfillChoice.contract else choice.value,
            has_no_brake=self.has_no_brake,
        )


def is_backfill(tags: Mapping[str, str], day: str, today: date) -> bool:
    """True when the run is none of everyday business: a backfill by name, a range of days, or older than yesterday."""
    if tags.get(REASON_TAG) == LATE_DATA:
        return False
    has_range = tags.get(ASSET_PARTITION_RANGE_START_TAG) != tags.get(ASSET_PARTITION_RANGE_END_TAG)
    is_named = BACKFILL_ID_TAG in tags or tags.get(REASON_TAG) == BACKFILL
    return is_named or has_range or date.fromisoformat(day) < today - timedelta(days=1)
