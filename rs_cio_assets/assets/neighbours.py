"""What the delivery engine may ask for while it works: the workspace's campaigns, and people who have to go first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import AppClient, Campaign, TrackClient
from rs_cio_assets.delivery import DeliveryOptions, DeliveryReport, Neighbours, Preview, deliver_day, preview_day
from rs_cio_assets.errors import DeliveryRefused, RsCioError, SettingsError
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Manifest, Store
from rs_cio_assets.warehouse import Warehouse, stage_people


@dataclass(frozen=True)
class Surroundings:
    """The resources of one run of a feed."""

    contract: Contract
    warehouse: Warehouse
    store: Store
    customerio: CustomerioSettings
    track: TrackClient
    run_id: str
    scratch: Path
    log: Callable[[str], None]

    def deliver(self, feed: Feed, manifest: Manifest, options: DeliveryOptions) -> DeliveryReport:
        """One day of *feed*, with what it needs of the others."""
        return deliver_day(
            feed,
            self.contract,
            manifest,
            self.store,
            self.track,
            run_id=self.run_id,
            now=_now,
            scratch=self.scratch,
            concurrency=self.customerio.concurrency,
            on_progress=lambda progress: self.log(f"{feed.name}: {progress.acknowledged:,} rows acknowledged"),
            options=options,
            neighbours=self.neighbours(manifest.day, options),
        )

    def preview(self, feed: Feed, manifest: Manifest, options: DeliveryOptions, rows: int) -> Preview:
        """The same without sending anything."""
        return preview_day(
            feed,
            self.contract,
            manifest,
            self.store,
            now=_now(),
            scratch=self.scratch,
            rows=rows,
            options=options,
            neighbours=self.neighbours(manifest.day, options),
        )

    def neighbours(self, day: str, options: DeliveryOptions) -> Neighbours:
        """For one day of an event feed."""

        def deliver_people(identifiers: pa.ChunkedArray) -> None:
            self._deliver_people(identifiers.to_pylist(), day, options)

        return Neighbours(campaigns=lambda: self.campaigns, deliver_people=deliver_people)

    @cached_property
    def campaigns(self) -> tuple[Campaign, ...]:
        """The workspace's, asked once a run, also of many days."""
        return read_campaigns(self.customerio)

    def _deliver_people(self, identifiers: Sequence[str], day: str, options: DeliveryOptions) -> None:
        for people in self.contract.feeds_of(FeedKind.PEOPLE):
            try:
                with self.warehouse.session() as session:
                    manifest = stage_people(session, people, identifiers, self.store, day, now=_now)
            except RsCioError as error:
                raise error.at(people.name) from None  # it is their view that is wrong, not the events'
            try:
                report = self.deliver(people, manifest, replace(options, is_of_any_day=True, replay=frozenset()))
            finally:
                self.store.delete([file.key for file in manifest.files])
            self.log(f"{people.name}: {report.delivered:,} of {len(identifiers):,} people were delivered before their events")


def read_campaigns(customerio: CustomerioSettings) -> tuple[Campaign, ...]:
    """The workspace's campaigns. Raises: DeliveryRefused without an App API key, CustomerioRefused, CustomerioUnavailable."""
    try:
        with AppClient(customerio) as app:
            return app.campaigns()
    except SettingsError as error:
        raise DeliveryRefused(
            f"rows of this backfill could start running campaigns, and {error.problem}",
            next_step="set CUSTOMERIO_APP_API_KEY, or run it with on_backfill: hold or accept",
        ) from None


def _now() -> datetime:
    return datetime.now(UTC)
