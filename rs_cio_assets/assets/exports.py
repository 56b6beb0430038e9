"""One asset per feed: a day's rows of its export view, staged as Parquet with a manifest."""

from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetExecutionContext,
    AssetsDefinition,
    DailyPartitionsDefinition,
    Failure,
    MaterializeResult,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.keys import export_key, view_key
from rs_cio_assets.assets.metadata import column_schema, export_metadata
from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Manifest, Store
from rs_cio_assets.warehouse import (
    ColumnDifference,
    Warehouse,
    compare_columns,
    count_undated,
    describe_view,
    stage_days,
)

CONTRACT_CHECK = "contract"


def build_export(feed: Feed, daily: DailyPartitionsDefinition) -> AssetsDefinition:
    """The asset `redshift/exports/<feed>`, by day, with its blocking check `contract`.

    A difference that would change what journeys see (a column missing, or of another type) fails the check and stops the
    day before a row is read. Columns that the contract does not list are named in a warning and never sent.
    """
    key = export_key(feed.name)

    @asset(
        key=key,
        deps=[view_key(feed.name)],
        partitions_def=daily,
        description=(
            f"One day's rows of {feed.view}, by {feed.time_column} in UTC, staged as Parquet with a manifest "
            f"(files, rows, fingerprint, when read).\n\n{feed.description}"
        ),
        group_name="redshift_exports",
        kinds={"redshift", "parquet"},
        owners=[feed.owner],
        pool="redshift",
        metadata={"dagster/column_schema": column_schema(feed), "dagster/table_name": feed.view},
        check_specs=[
            AssetCheckSpec(
                CONTRACT_CHECK,
                asset=key,
                blocking=True,
                description=f"{feed.view} has the columns and types that the contract lists, and no row without a time.",
            )
        ],
        output_required=False,
    )
    def export(
        context: AssetExecutionContext, warehouse: ResourceParam[Warehouse], store: ResourceParam[Store]
    ) -> Iterator[MaterializeResult | AssetCheckResult]:
        days = list(context.partition_keys)
        with failing_clearly(feed.name, _label(days)), warehouse.session() as session:
            difference = compare_columns(feed, describe_view(session, feed))
            undated = count_undated(session, feed)
            manifests = (
                {}
                if difference.is_blocking
                else stage_days(
                    session,
                    feed,
                    days,
                    store,
                    now=lambda: datetime.now(UTC),
                    on_progress=lambda rows: context.log.info(f"{feed.name}: {rows:,} rows read"),
                )
            )
        if difference.is_blocking:
            yield _contract_result(feed, difference, undated, manifests)
            raise _contract_failure(feed, difference)
        for day in days:
            context.log.info(f"{feed.name} {day}: {manifests[day].rows:,} rows staged")
        yield materialized(context, {day: export_metadata(manifests[day]) for day in days})
        yield _contract_result(feed, difference, undated, manifests)

    return export


def materialized(context: AssetExecutionContext, by_day: dict[str, dict]) -> MaterializeResult:
    """A result with each day's own metadata, in a run of one day or of a range of days."""
    if len(by_day) == 1:
        return MaterializeResult(metadata=next(iter(by_day.values())))
    for day, metadata in by_day.items():
        context.add_asset_metadata(metadata, partition_key=day)
    return MaterializeResult()


def _label(days: list[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"


def _contract_failure(feed: Feed, difference: ColumnDifference) -> Failure:
    return Failure(
        description=f"feed {feed.name}: {feed.view} does not match the contract: {'; '.join(difference.sentences())}. "
        f"Next step: mend the view's SQL (or the contract, with everybody who uses the name), materialize "
        f"redshift/views/{feed.name}, then this day again",
        allow_retries=False,
    )


def _contract_result(feed: Feed, difference: ColumnDifference, undated: int, manifests: dict[str, Manifest]) -> AssetCheckResult:
    sentences = list(difference.sentences())
    if undated:
        sentences.append(
            f"{undated:,} rows of {feed.view} have neither {feed.time_column} nor {feed.loaded_at}: "
            "they belong to no day and are not exported"
        )
    metadata = {
        "missing columns": len(difference.missing),
        "changed columns": len(difference.changed),
        "columns not in the contract": len(difference.extra),
        "rows without a day": undated,
        "rows": sum(manifest.rows for manifest in manifests.values()),
    }
    return AssetCheckResult(
        check_name=CONTRACT_CHECK,
        passed=not sentences,
        severity=AssetCheckSeverity.ERROR if difference.is_blocking else AssetCheckSeverity.WARN,
        description="; ".join(sentences) or "Columns and types are those of the contract.",
        metadata=metadata,
    )
