"""One asset per feed: a day's rows, delivered to Customer.io and acknowledged."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetKey,
    AssetMaterialization,
    AssetObservation,
    AssetsDefinition,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets.about import check_description, used_by
from rs_cio_assets.assets.deliveries import DeliveredDay, delivered_days
from rs_cio_assets.assets.exports import materialized
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.keys import export_key, feed_key
from rs_cio_assets.assets.metadata import column_schema, delivery_metadata, preview_metadata, records_table
from rs_cio_assets.assets.neighbours import Surroundings
from rs_cio_assets.assets.run_config import FeedConfig, is_backfill
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import DeliveryReport, LateArrivals, Preview, late_arrivals
from rs_cio_assets.delivery.rules import PERSON_DELETED, PERSON_MERGED
from rs_cio_assets.errors import MismatchError
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Manifest, Store, load_manifest
from rs_cio_assets.store.profiles import load_profile
from rs_cio_assets.warehouse import Warehouse

ROWS_CHECK = "every_row_is_accounted_for"
REJECTIONS_CHECK = "rejections_within_budget"
DAYS_NAMED = 5  # of a run of many days


_WHAT = {
    FeedKind.MERGE: "merges of two profiles of one person",
    FeedKind.DELETION: "deletions",
    FeedKind.SUPPRESSION: "suppressions",
    FeedKind.PEOPLE: "profiles",
}


def build_feed(
    feed: Feed,
    contract: Contract,
    daily: DailyPartitionsDefinition,
    require_preflight: Callable[[Warehouse, Store], None] | None = None,
    ui_url: str = "",
) -> AssetsDefinition:
    """The asset `customerio/feeds/<feed>`, by day, with its two blocking checks.

    A run sends what the ledger does not hold: new rows, and people whose content changed. Run twice, it sends nothing. Before its
    first row it asks *require_preflight*, where there is one. *ui_url*: where Customer.io's pages are, for links to them.
    """
    key = feed_key(feed.name)
    what = f"{feed.event_name} events" if feed.kind is FeedKind.EVENT else _WHAT[feed.kind]

    @asset(
        key=key,
        deps=[export_key(feed.name), *_earlier_feeds(feed, contract)],
        partitions_def=daily,
        description=(
            f"One day's {what} (UTC), delivered to Customer.io and acknowledged. Only new or changed rows are sent; a second run "
            f"of the same day sends nothing.\n\n{used_by(feed, contract, ui_url)}{feed.description}"
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
                description=check_description(
                    "Every exported row has one outcome: rows exported = delivered + unchanged + amended + duplicates + held + "
                    "superseded + rejected.",
                    red="rows went missing. Nothing that depends on the day runs.",
                    then="run the day again: what is delivered is not sent twice. Red again: keep the run's log, it is a "
                    "fault here.",
                ),
            ),
            AssetCheckSpec(
                REJECTIONS_CHECK,
                asset=key,
                blocking=True,
                description=check_description(
                    f"At most {feed.max_rejected_share:.0%} of the day's rows were rejected; it warns below that.",
                    red="too many rows were not sent, each for a reason. Nothing that depends on the day runs.",
                    then=f"read the reasons below, or `rs-cio rejections {feed.name}`; mend the view, then run the day again.",
                ),
            ),
        ],
        output_required=False,
    )
    def delivered_feed(
        context: AssetExecutionContext,
        config: FeedConfig,
        warehouse: ResourceParam[Warehouse],
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> Iterator[MaterializeResult | AssetCheckResult | AssetObservation]:
        reports: list[DeliveryReport] = []
        previews: list[Preview] = []
        finished: dict[str, dict[str, Any]] = {}  # what each delivered day says
        before = delivered_days(context.instance, feed.name, context.partition_keys)
        if require_preflight and not config.is_dry_run:
            with failing_clearly(feed.name):
                require_preflight(warehouse, store)
        steps_back = is_backfill(context.run.tags, min(context.partition_keys), datetime.now(UTC).date())
        with tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch, TrackClient(customerio, is_backfill=steps_back) as track:
            around = Surroundings(
                contract, warehouse, store, customerio, track, context.run.run_id, Path(scratch), context.log.info
            )
            for day in context.partition_keys:
                with recording_finished(context, finished), failing_clearly(feed.name, day):
                    options = config.options(context.run.tags, day, datetime.now(UTC).date())
                    manifest = _manifest(store, feed, day)
                    if config.is_dry_run:
                        previews.append(around.preview(feed, manifest, options, rows=0))
                        yield AssetObservation(key, partition=day, metadata=preview_metadata(previews[-1]))
                        continue
                    report = around.deliver(feed, manifest, options)
                    late = _late(feed, manifest, before.get(day), store, Path(scratch))
                context.log.info(_sentence(report))
                if late.rows:
                    context.log.info(f"{feed.name} {day}: {late.rows:,} rows arrived late, by up to {late.largest_h:.1f} h")
                reports.append(report)
                finished[day] = delivery_metadata(report, manifest, late)
        if config.is_dry_run:
            yield from _dry_results(previews)
        else:
            yield materialized(context, finished)
            yield _rows_result(reports)
            result = _rejections_result(feed, reports)
            if not result.passed:  # the run's page shows Dagster's traceback of a check, and not what the check says
                (context.log.error if result.severity is AssetCheckSeverity.ERROR else context.log.warning)(result.description)
            yield result

    return delivered_feed


@contextmanager
def recording_finished(context: AssetExecutionContext, finished: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """In a run of many days, those delivered before one failed are materialized: 'failed and missing' leaves them out."""
    try:
        yield
    except Exception:
        for day, metadata in finished.items():
            context.log_event(AssetMaterialization(context.asset_key, partition=day, metadata=metadata))
        raise


def _earlier_feeds(feed: Feed, contract: Contract) -> list[AssetKey]:
    """Feeds of a day that go before this one: merges, deletions, suppressions, people, events.

    An event that arrives before its person's attributes is a misfire, and an identify that races with a merge makes a second
    profile.
    """
    kinds = list(FeedKind)
    return [feed_key(f.name) for f in contract.enabled_feeds if kinds.index(f.kind) < kinds.index(feed.kind)]


def _manifest(store: Store, feed: Feed, day: str) -> Manifest:
    manifest = load_manifest(store, feed.name, day)
    if manifest is None:
        raise MismatchError(
            "this day has not been exported from Redshift yet",
            next_step=f"materialize redshift/exports/{feed.name} for {day}, or both together",
        )
    profile = load_profile(store, feed.name, day)
    if profile and profile.blocked_by and profile.read_at == manifest.read_at:
        raise MismatchError(
            f"the contract stopped this day ({', '.join(profile.blocked_by)})",
            next_step=f"read the check contract of redshift/exports/{feed.name}, then run that export again",
        )
    return manifest


def _late(feed: Feed, manifest: Manifest, before: DeliveredDay | None, store: Store, scratch: Path) -> LateArrivals:
    """Rows that came after the day had been delivered as a whole. What the open day's own syncs find is not late."""
    if before is None or before.source is None or before.at.date().isoformat() <= manifest.day:
        return LateArrivals()
    return late_arrivals(feed, manifest, store, before.source.latest_loaded_at or datetime.fromtimestamp(0, UTC), scratch)


def _sentence(report: DeliveryReport) -> str:
    return (
        f"{report.feed} {report.day}: {report.rows:,} rows: {report.delivered:,} delivered, {report.unchanged:,} unchanged, "
        f"{report.amended:,} amended, {report.duplicates:,} duplicates, {report.held:,} held, "
        f"{report.superseded:,} superseded, {report.rejected:,} rejected; "
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


def _dry_results(previews: list[Preview]) -> Iterator[AssetCheckResult]:
    """Dagster wants a word of every check in every run; these say that nothing was sent."""
    rejected = sum(sum(preview.rejected_by_reason.values()) for preview in previews)
    yield AssetCheckResult(
        check_name=ROWS_CHECK,
        passed=all(sum(preview.outcomes.values()) == preview.rows for preview in previews),
        description="A dry run: nothing was sent. Every row would have exactly one outcome.",
    )
    yield AssetCheckResult(
        check_name=REJECTIONS_CHECK,
        passed=not rejected,
        severity=AssetCheckSeverity.WARN,
        description=f"A dry run: nothing was sent. {rejected:,} rows would be rejected.",
    )


def _rejections_result(feed: Feed, reports: list[DeliveryReport]) -> AssetCheckResult:
    rejected = [r for r in reports if r.rejected]
    over = [r for r in rejected if _budgeted(r) > feed.max_rejected_share * r.rows]
    metadata = {
        "rejected": sum(r.rejected for r in reports),
        "largest share (%)": round(max((100 * _budgeted(r) / r.rows for r in rejected), default=0.0), 2),
        "budget (%)": round(100 * feed.max_rejected_share, 2),
    }
    if rejected:
        metadata["rejected by day and reason"] = records_table(
            [
                {
                    "day": report.day,
                    "reason": reason,
                    "columns": ", ".join(report.columns_of(reason)),
                    "rows": count,
                    "what to do": "; ".join(sorted({e.message for e in report.examples if e.reason == reason})),
                }
                for report in rejected
                for reason, count in sorted(report.rejected_by_reason.items())
            ]
        )
    return AssetCheckResult(
        check_name=REJECTIONS_CHECK,
        passed=not rejected,
        severity=AssetCheckSeverity.ERROR if over else AssetCheckSeverity.WARN,
        description=_rejections_text(feed, rejected, over),
        metadata=metadata,
    )


def _budgeted(report: DeliveryReport) -> int:
    """Rejected rows that say something about the view; that people left since is no mistake of an old day."""
    return report.rejected - sum(report.rejected_by_reason.get(rule.reason, 0) for rule in (PERSON_DELETED, PERSON_MERGED))


def _rejections_text(feed: Feed, rejected: list[DeliveryReport], over: list[DeliveryReport]) -> str:
    if not rejected:
        return "No row was rejected."
    days = [
        f"{r.day}: {r.rejected:,} of {r.rows:,} rows were rejected and not sent ({', '.join(_reasons(r))})"
        for r in rejected[:DAYS_NAMED]
    ]
    more = f"; and on {len(rejected) - DAYS_NAMED} more days" if len(rejected) > DAYS_NAMED else ""
    budget = f"more than the {feed.max_rejected_share:.0%} that the feed allows" if over else "within what the feed allows"
    return (
        f"{feed.name}, {'; '.join(days)}{more}; the other rows went on. That is {budget}. "
        f"Next step: `rs-cio rejections {feed.name}` names the rows; mend the view or the contract, and run the day again."
    )


def _reasons(report: DeliveryReport) -> Iterator[str]:
    for reason, count in sorted(report.rejected_by_reason.items()):
        columns = report.columns_of(reason)
        where = f" in {', '.join(columns)}" if columns else ""
        yield f"{count:,} {reason}{where}"
