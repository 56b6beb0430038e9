"""What stops a day before its first row: a backfill that would start campaigns, and the brake of what cannot be undone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from rs_cio_assets.contract.models import Feed, FeedKind
from rs_cio_assets.customerio import Campaign
from rs_cio_assets.errors import DeliveryRefused
from rs_cio_assets.store import Manifest, Store

NAMES_SHOWN = 10
FEW_ROWS = 10  # a share of few people is less than anybody's first day


def campaigns_at_risk(feed: Feed, campaigns: Sequence[Campaign]) -> tuple[Campaign, ...]:
    """The running *campaigns* that rows of *feed* can start: by the event's name, or, for people, by any segment.

    Which attribute moves somebody into which segment is not to be read from Customer.io, so every segment counts.
    """
    return tuple(
        campaign
        for campaign in campaigns
        if campaign.is_running
        and (
            bool(campaign.trigger_segment_ids)
            if feed.kind is FeedKind.PEOPLE
            else campaign.event_name is not None and campaign.event_name.strip() == feed.event_name
        )
    )


def refuse_triggers(feed: Feed, day: str, rows: int, campaigns: Sequence[Campaign]) -> None:
    """Stop a backfill whose *rows* could start one of *campaigns*. Raises: DeliveryRefused, naming them."""
    if not campaigns:
        return
    names = ", ".join(f"{campaign.name or 'unnamed'} (campaign {campaign.campaign_id})" for campaign in campaigns[:NAMES_SHOWN])
    more = f" and {len(campaigns) - NAMES_SHOWN} more" if len(campaigns) > NAMES_SHOWN else ""
    ways = "run it again with on_backfill: accept if they shall start"
    if feed.kind is FeedKind.EVENT:
        ways += ", or on_backfill: hold to deliver these rows as history once 72 hours have passed"
    what = "events younger than 72 hours" if feed.kind is FeedKind.EVENT else "changes of people"
    raise DeliveryRefused(
        f"this backfill would send {rows:,} {what} that could start {names}{more}",
        next_step=f"{ways} (run config of customerio/feeds/<feed>, or the feed's on_backfill for every backfill)",
        feed=feed.name,
        day=day,
    )


class Brake:
    """Ceilings for one day of a feed whose operations cannot be undone."""

    def __init__(self, feed: Feed, manifest: Manifest, store: Store) -> None:
        self._feed, self._manifest, self._store = feed, manifest, store
        self._key = f"brakes/{feed.name}.json"

    def check_view(self) -> None:
        """Raises: DeliveryRefused when the view is empty or shrank: its rows only ever add up, so something broke it.

        A day that was read before the largest size was seen says nothing about that.
        """
        before, read_at = self._largest()
        now = self._manifest.view_rows or 0
        if self._manifest.read_at >= read_at and now < self._feed.min_view_share * before:
            raise self._refusal(
                f"{self._feed.view} holds {now:,} rows and held {before:,} before",
                "mend the view; if the rows are gone on purpose, run the day once with has_no_brake: true",
            )

    def check_rows(self, rows: int, people: int) -> None:
        """Raises: DeliveryRefused when *rows*, of the whole day, are above its ceiling, or too large a share of all *people*."""
        ceiling, share = self._feed.max_rows_per_day or 0, self._feed.max_people_share
        if rows > ceiling:
            problem = f"{rows:,} rows of the day would be sent, max_rows_per_day is {ceiling:,}"
        elif people and rows > max(share * people, FEW_ROWS):
            problem = f"{rows:,} rows of the day would be sent, more than max_people_share ({share:.2%}) of {people:,} people"
        else:
            return
        raise self._refusal(problem, "look at the day's rows; if they are right, run the day with has_no_brake: true")

    def remember(self, *, is_released: bool) -> None:
        """Note the largest size that the view had when a day went out; the present one when the brake *is_released*."""
        before, read_at = self._largest()
        now = self._manifest.view_rows or 0
        if is_released or (now >= before and self._manifest.read_at >= read_at):
            noted = {"view_rows": now, "read_at": self._manifest.read_at.astimezone(UTC).isoformat()}
            self._store.put(self._key, json.dumps(noted).encode())

    def _largest(self) -> tuple[int, datetime]:
        data = self._store.get(self._key)
        noted = json.loads(data) if data else {}
        read_at = noted.get("read_at")
        return noted.get("view_rows") or 0, datetime.fromisoformat(read_at) if read_at else datetime.min.replace(tzinfo=UTC)

    def _refusal(self, problem: str, next_step: str) -> DeliveryRefused:
        return DeliveryRefused(
            f"{problem}; {self._feed.kind}s cannot be undone, so none was sent",
            next_step=f"{next_step} (run config of customerio/feeds/<feed>)",
            feed=self._feed.name,
            day=self._manifest.day,
        )
