"""Does Customer.io hold what was delivered? A sample of staged rows, compared with what its App API reads back.

A 200 from Customer.io means accepted, not applied; only reading back proves it. The check is unpartitioned so that people
can run it alone, by job or on a schedule, with `days_back` and `sample_size`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    Config,
    ResourceParam,
    asset_check,
)
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.metadata import records_table
from rs_cio_assets.checks.compare import differing_columns, is_this_event, unix_seconds
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.delivery import sample_delivered
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Manifest, Store, load_manifest

EXAMPLES_SHOWN = 20


class ReadBackConfig(Config):
    """How much to look at."""

    # Customer.io guarantees a person's activities for 30 days (App API document, read 2026-09-17); older events would look lost.
    days_back: int = Field(default=14, ge=1, le=29, description="Days before today (UTC) whose rows are sampled.")
    sample_size: int = Field(default=20, ge=1, le=10_000, description="Rows to ask for; the App API answers 10 a second.")


@dataclass(frozen=True)
class Difference:
    """One sampled row that Customer.io does not hold as sent: the person (hashed), the day, and what differs."""

    person: str
    day: str
    problem: str


def build_read_back_check(feed: Feed, contract: Contract) -> AssetChecksDefinition:
    """The check `customerio_holds_what_was_sent` of one feed."""
    what = "attributes" if feed.kind is FeedKind.PEOPLE else f"{feed.event_name} events"

    @asset_check(
        asset=feed_key(feed.name),
        name="customerio_holds_what_was_sent",
        description=(
            f"Asks Customer.io for a sample of the people in this feed and compares their {what} with the rows "
            "that were exported. Red means that a journey or segment would see something else than the warehouse says."
        ),
        pool="customerio_app",
    )
    def read_back(
        context: AssetCheckExecutionContext,
        config: ReadBackConfig,
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        with failing_clearly(feed.name), AppClient(customerio) as app:
            days = _last_days(config.days_back)
            rows = sample_delivered(feed, contract, store, days, config.sample_size)
            find = _differences_of_people if feed.kind is FeedKind.PEOPLE else _differences_of_events
            differences = list(find(feed, rows, app))
            manifests = [m for m in (load_manifest(store, feed.name, day) for day in days) if m is not None]
        context.log.info("%s: %d rows asked for, %d differ", feed.name, len(rows), len(differences))
        if not rows:
            return _result_without_rows(manifests)
        return _result(rows, differences)

    return read_back


def _last_days(count: int) -> list[str]:
    """*count* finished days and today, newest first."""
    today = datetime.now(UTC).date()
    return [(today - timedelta(days=n)).isoformat() for n in range(count + 1)]


def _differences_of_people(feed: Feed, rows: Sequence[Mapping[str, Any]], app: AppClient) -> Iterator[Difference]:
    profiles = app.attributes([row[feed.identifier] for row in rows])
    for row in rows:
        profile = profiles.get(row[feed.identifier])
        if profile is None:
            yield _difference(feed, row, "there is no profile")
        elif names := differing_columns(feed, row, profile.attributes):
            yield _difference(feed, row, f"differs in {', '.join(names)}")


def _differences_of_events(feed: Feed, rows: Sequence[Mapping[str, Any]], app: AppClient) -> Iterator[Difference]:
    for row in rows:
        events = app.activities(row[feed.identifier], "event", name=feed.event_name)
        same = [event for event in events if is_this_event(feed, row, event)]
        if len(same) != 1:
            yield _difference(feed, row, f"Customer.io has this event {len(same)} times")
            continue
        names = list(differing_columns(feed, row, same[0].data))
        if same[0].timestamp != unix_seconds(row[feed.time_column]):
            names.insert(0, feed.time_column)
        if names:
            yield _difference(feed, row, f"differs in {', '.join(names)}")


def _difference(feed: Feed, row: Mapping[str, Any], problem: str) -> Difference:
    person = hashlib.sha256(str(row[feed.identifier]).encode()).hexdigest()[:12]
    return Difference(person, row[feed.time_column].date().isoformat(), problem)


def _result(rows: Sequence[Mapping[str, Any]], differences: Sequence[Difference]) -> AssetCheckResult:
    metadata: dict[str, Any] = {"rows asked for": len(rows), "rows that differ": len(differences)}
    if differences:
        kinds = Counter(difference.problem for difference in differences)
        metadata["differences"] = records_table([{"what": what, "rows": n} for what, n in kinds.most_common()])
        metadata["examples (people hashed)"] = records_table(
            [{"person": d.person, "day": d.day, "what": d.problem} for d in differences[:EXAMPLES_SHOWN]]
        )
    if differences:
        text = (
            f"{len(differences)} of {len(rows)} sampled rows are not in Customer.io as they were sent. Next step: look one up "
            "in Customer.io's activity log (failed attribute change, skipped update), mend the cause, run the day again."
        )
    else:
        text = f"All {len(rows)} sampled rows are in Customer.io as they were sent."
    return AssetCheckResult(
        passed=not differences,
        description=text,
        metadata=metadata,
    )


def _result_without_rows(manifests: Sequence[Manifest]) -> AssetCheckResult:
    """Nothing was delivered in these days. That is right only where the warehouse was read and had no row either."""
    exported = sum(manifest.rows for manifest in manifests)
    if not manifests:
        text = "None of these days has been exported, so nothing can be compared. Next step: materialize them."
    elif exported:
        text = f"{exported:,} rows were exported and none was delivered. Next step: materialize the feed for these days."
    else:
        text = f"The warehouse has no row in the {len(manifests)} days that were exported, so there is nothing to compare."
    return AssetCheckResult(
        passed=bool(manifests) and not exported,
        severity=AssetCheckSeverity.WARN,
        description=text,
        metadata={"rows asked for": 0, "rows exported": exported, "days exported": len(manifests)},
    )
