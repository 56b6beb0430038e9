"""One asset per feed: a day's rows, delivered to Customer.io and acknowledged."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets.exports import materialized
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.keys import export_key, feed_key
from rs_cio_assets.assets.metadata import column_schema, delivery_metadata, records_table
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import DeliveryReport, deliver_day
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Manifest, Store, load_manifest

ROWS_CHECK = "every_row_is_accounted_for"
REJECTIONS_CHECK = "rejections_within_budget"


def build_feed(feed: Feed, contract: Contract, daily: DailyPartitionsDefinition) -> AssetsDefinition:
    """The asset `customerio/feeds/<feed>`, by day, with its two blocking checks.

    A run sends what the ledger does not hold: new rows, and people whose content changed. Run twice, it sends nothing.
    """
    key = feed_key(feed.name)
    what = "profiles" if feed.kind is FeedKind.PEOPLE else f"{feed.event_name} events"

    @asset(
        key=key,
        deps=[export_key(feed.name), *_earlier_feeds(feed, contract)],
        partitions_def=daily,
        description=(
            f"One day's {what}, delivered to Customer.io and acknowledged. Only new or changed rows are sent; "
            f"a second run of the same day sends nothing.\n\n{feed.description}"
        ),
        group_name="customerio_feeds",
        kinds={"customerio", "api"},
        owners=[feed.owner],
        pool="customerio",
        metadata={"dagster/column_schema": column_schema(feed)},
        check_specs=[
            AssetCheckSpec(
                ROWS_CHECK,
                asset=key,
                blocking=True,
                description="Rows exported = delivered + unchanged + amended + duplicates + held + rejected.",
            ),
            AssetCheckSpec(
                REJECTIONS_CHECK,
                asset=key,
                blocking=True,
                description=f"At most {feed.max_rejected_share:.0%} of the day's rows were rejected.",
            ),
        ],
        output_required=False,
    )
    def delivered_feed(
        context: AssetExecutionContext,
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> Iterator[MaterializeResult | AssetCheckResult]:
        reports: list[DeliveryReport] = []
        manifests: dict[str, Manifest] = {}
        with tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch, TrackClient(customerio) as track:
            for day in context.partition_keys:
                with failing_clearly(feed.name, day):
                    manifests[day] = _manifest(store, feed, day)
                    report = deliver_day(
                        feed,
                        contract,
                        manifests[day],
                        store,
                        track,
                        run_id=context.run.run_id,
                        now=lambda: datetime.now(UTC),
                        scratch=Path(scratch),
                        concurrency=customerio.concurrency,
                        on_progress=lambda p: context.log.info(f"{feed.name}: {p.acknowledged:,} rows acknowledged"),
                    )
                context.log.info(_sentence(report))
                reports.append(report)
        yield materialized(context, {r.day: delivery_metadata(r, manifests[r.day]) for r in reports})
        yield _rows_result(reports)
        yield _rejections_result(feed, reports)

    return delivered_feed


def _earlier_feeds(feed: Feed, contract: Contract) -> list[AssetKey]:
    """People of a day go before its events: an event that arrives before its person's attributes is a misfire."""
    if feed.kind is FeedKind.PEOPLE:
        return []
    return [feed_key(f.name) for f in contract.enabled_feeds if f.kind is FeedKind.PEOPLE]


def _manifest(store: Store, feed: Feed, day: str) -> Manifest:
    manifest = load_manifest(store, feed.name, day)
    if manifest is None:
        raise MismatchError(
            "this day has not been exported from Redshift yet",
            next_step=f"materialize redshift/exports/{feed.name} for {day}, or both together",
        )
    return manifest


def _sentence(report: DeliveryReport) -> str:
    return (
        f"{report.feed} {report.day}: {report.rows:,} rows: {report.delivered:,} delivered, {report.unchanged:,} unchanged, "
        f"{report.amended:,} amended, {report.duplicates:,} duplicates, {report.held:,} held, {report.rejected:,} rejected; "
        f"{report.requests:,} requests in {report.seconds:.1f} s"
    )


def _rows_result(reports: list[DeliveryReport]) -> AssetCheckResult:
    lost = [r for r in reports if not r.is_conserved]
    return AssetCheckResult(
        check_name=ROWS_CHECK,
        passed=not lost,
        description="; ".join(_sentence(r) for r in lost) or "Every row has exactly one outcome.",
        metadata={"rows": sum(r.rows for r in reports), "days that do not add up": len(lost)},
    )


def _rejections_result(feed: Feed, reports: list[DeliveryReport]) -> AssetCheckResult:
    rejected = [r for r in reports if r.rejected]
    over = [r for r in rejected if r.rejected > feed.max_rejected_share * r.rows]
    metadata = {
        "rejected": sum(r.rejected for r in reports),
        "largest share (%)": round(max((100 * r.rejected / r.rows for r in rejected), default=0.0), 2),
        "budget (%)": round(100 * feed.max_rejected_share, 2),
    }
    if rejected:
        metadata["rejected by day and reason"] = records_table(
            [
                {"day": report.day, "reason": reason, "rows": count}
                for report in rejected
                for reason, count in sorted(report.rejected_by_reason.items())
            ]
        )
    return AssetCheckResult(
        check_name=REJECTIONS_CHECK,
        passed=not rejected,
        severity=AssetCheckSeverity.ERROR if over else AssetCheckSeverity.WARN,
        description=_rejections_text(rejected, over),
        metadata=metadata,
    )


def _rejections_text(rejected: list[DeliveryReport], over: list[DeliveryReport]) -> str:
    if not rejected:
        return "No row was rejected."
    text = f"{sum(r.rejected for r in rejected):,} rows were rejected and not sent; the other rows went on."
    if over:
        text += f" Over the feed's budget on {', '.join(r.day for r in over)}."
    return text + " Next step: read the reasons below, mend the view or the contract, and run the day again."
