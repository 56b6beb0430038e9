"""Does Customer.io hold what was delivered? A sample of staged rows, or all of them, compared with what its App API reads back.

A 200 from Customer.io means accepted, not applied; only reading back proves it. The check is unpartitioned so that people
can run it alone, by job or on a schedule. What is compared stands in `delivered.py`, how in `held.py`.
"""

import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    Config,
    ResourceParam,
)
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.delivered import keep_delivered
from rs_cio_assets.checks.held import HeldReport, compare_with_customerio
from rs_cio_assets.checks.results import bad, counted, good, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Manifest, Store, load_manifest


class ReadBackConfig(Config):
    """How much to look at."""

    # Customer.io guarantees a person's activities for 30 days (App API document, read 2026-09-17); older events would look lost.
    days_back: int = Field(default=14, ge=1, le=29, description="Days before today (UTC) whose rows are looked at.")
    sample_size: int = Field(default=20, ge=1, le=10_000, description="Rows to ask for; the App API answers 10 a second.")
    is_complete: bool = Field(
        default=False, description="Every delivered row of the days, not a sample: one request per hundred people, or per person."
    )


def build_read_back_check(feed: Feed, contract: Contract) -> AssetChecksDefinition:
    """The check `customerio_holds_what_was_sent` of one feed."""
    what = "attributes" if feed.kind is FeedKind.PEOPLE else f"{feed.event_name} events"

    @standing_check(
        asset=feed_key(feed.name),
        name="customerio_holds_what_was_sent",
        description=check_description(
            f"Asks Customer.io for a sample of the people in this feed (or all of them) and compares their {what} with the rows "
            "that were exported.",
            red="a journey or segment sees something else than the warehouse says.",
            then="read which columns differ below: another source may write them, or Customer.io did not take them. Do not "
            "launch before it is green.",
        ),
        pool="customerio_app",
    )
    def read_back(
        context: AssetCheckExecutionContext,
        config: ReadBackConfig,
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        started_s = time.monotonic()
        with failing_clearly(feed.name), AppClient(customerio) as app, tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch:
            days = last_days(config.days_back, datetime.now(UTC))
            size = None if config.is_complete else config.sample_size
            delivered = keep_delivered(feed, contract, store, days, Path(scratch), size=size)

            def log(rows: int) -> None:
                context.log.info("%s: %d of %d rows compared", feed.name, rows, delivered.count)

            report = compare_with_customerio(feed, delivered, days, app, log)
            manifests = [m for m in (load_manifest(store, feed.name, day) for day in days) if m is not None]
        context.log.info("%s: %d rows asked for, %d differ", feed.name, report.rows, report.rows_that_differ)
        if not report.rows:
            return _result_without_rows(manifests)
        which = "delivered" if config.is_complete else "sampled"
        return _result(feed, report, which, config.days_back, round(time.monotonic() - started_s, 1))

    return read_back


def last_days(count: int, now: datetime) -> list[str]:
    """*count* finished days and today (UTC), newest first."""
    return [(now.date() - timedelta(days=n)).isoformat() for n in range(count + 1)]


def _result(feed: Feed, report: HeldReport, which: str, days_back: int, duration_s: float) -> AssetCheckResult:
    numbers: dict[str, Any] = {
        "rows asked for": report.rows,
        "rows that differ": report.rows_that_differ,
        "people asked for": report.people,
        "App API requests": report.requests,
        "duration (s)": duration_s,
    }
    if feed.kind is FeedKind.EVENT:
        numbers["people with another number of events"] = report.people_with_other_counts
    if not report.kinds:
        all_rows = f"The only {which} row is" if report.rows == 1 else f"All {report.rows:,} {which} rows are"
        return good(f"{all_rows} in Customer.io as they were sent (today and the {days_back} days before).", numbers)
    kinds = sorted(report.kinds.items(), key=lambda kind: -kind[1])
    samples = {
        "differences": [{"what": what, "rows": count} for what, count in kinds],
        "examples (people hashed)": [{"person": d.person, "day": d.day, "what": d.problem} for d in report.examples],
    }
    texts = []
    if report.rows_that_differ:
        are = "is" if report.rows_that_differ == 1 else "are"
        texts.append(f"{report.rows_that_differ:,} of {report.rows:,} {which} rows {are} not in Customer.io as they were sent")
    if report.people_with_other_counts:
        texts.append(
            f"For {report.people_with_other_counts:,} of {report.people:,} people Customer.io has another number of "
            f"{feed.event_name} events than were delivered in the last {days_back} days"
        )
    step = (
        "look one up in Customer.io's activity log (failed attribute change, failed event, an event from another source), mend "
        f"the cause, and run customerio/feeds/{feed.name} again for the days below (run config resend: all where something is "
        "missing)"
    )
    return bad(". ".join(texts), step, numbers, samples=samples)


def _result_without_rows(manifests: Sequence[Manifest]) -> AssetCheckResult:
    """Nothing was delivered in these days. That is right only where the warehouse was read and had no row either."""
    exported = sum(manifest.rows for manifest in manifests)
    numbers = {"rows asked for": 0, "rows exported": exported, "days exported": len(manifests)}
    if not manifests:
        return not_ready("None of these days has been exported, so nothing can be compared", "run sync_day for them", numbers)
    if exported:
        text = f"{counted(exported, 'row was', 'rows were')} exported and none was delivered, so nothing can be compared"
        return not_ready(text, "run sync_day for these days, and read what stops them", numbers)
    days = counted(len(manifests), "day that was", "days that were")
    return good(f"The warehouse has no row in the {days} exported, so there is nothing to compare.", numbers)
