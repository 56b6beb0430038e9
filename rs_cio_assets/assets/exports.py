"""One asset per feed: a day's rows of its export view, staged as Parquet with a manifest."""

from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import (
    AssetCheckResult,
    AssetExecutionContext,
    AssetsDefinition,
    Config,
    DailyPartitionsDefinition,
    MaterializeResult,
    ResourceParam,
    asset,
)
from pydantic import Field, field_validator

from rs_cio_assets.assets.export_checks import (
    ViewState,
    blocking_findings,
    check_results,
    check_specs,
    contract_failure,
    judge_days,
)
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.keys import export_key, view_key
from rs_cio_assets.assets.metadata import column_schema, export_metadata
from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Session, Warehouse, compare_columns, count_undated, describe_view, stage_days
from rs_cio_assets.warehouse.definition import compare_definition
from rs_cio_assets.warehouse.findings import ACCEPTABLE


class ExportConfig(Config):
    """Of one run; the contract holds for every other."""

    accept: list[str] = Field(
        default_factory=list,
        description=f"Findings of the check contract that warn in this run in place of stopping it: {', '.join(ACCEPTABLE)}.",
    )

    @field_validator("accept")
    @classmethod
    def _are_known(cls, accept: list[str]) -> list[str]:
        if unknown := sorted(set(accept) - set(ACCEPTABLE)):
            raise ValueError(f"accept: {unknown[0]!r} is not known; allowed: {', '.join(ACCEPTABLE)}")
        return accept


def build_export(feed: Feed, contract: Contract, daily: DailyPartitionsDefinition) -> AssetsDefinition:
    """The asset `redshift/exports/<feed>`, by day, with its checks; *contract* has the lists of values that columns name.

    What would change what journeys see fails the check `contract` and stops the day: before a row is read where the view
    tells it (a column missing or of another type, another definition), else after staging. Columns that the contract does
    not list are named in a warning and never sent.
    """
    key = export_key(feed.name)

    @asset(
        key=key,
        deps=[view_key(feed.name)],
        partitions_def=daily,
        description=(
            f"One day's rows of the view {feed.view}, by {feed.time_column} in UTC, read out of Redshift and kept in the "
            "store as "
            "Parquet, with a manifest: which files, how many rows, a fingerprint of them, when they were read. Nothing is sent "
            f"here.\n\n{feed.description}"
        ),
        group_name="redshift_exports",
        kinds={"redshift", "parquet"},
        owners=[feed.owner],
        pool="redshift",
        metadata={"dagster/column_schema": column_schema(feed), "dagster/table_name": feed.view},
        check_specs=check_specs(feed, key),
        output_required=False,
    )
    def export(
        context: AssetExecutionContext, config: ExportConfig, warehouse: ResourceParam[Warehouse], store: ResourceParam[Store]
    ) -> Iterator[MaterializeResult | AssetCheckResult]:
        days, accepted = list(context.partition_keys), frozenset(config.accept)
        with failing_clearly(feed.name, _label(days)):
            with warehouse.session() as session:
                view = view_state(session, feed, store)
                is_stopped = view.difference.is_blocking or bool(blocking_findings(feed, view, (), accepted))
                manifests = (
                    {}
                    if is_stopped
                    else stage_days(
                        session,
                        feed,
                        days,
                        store,
                        now=lambda: datetime.now(UTC),
                        on_progress=lambda rows: context.log.info(f"{feed.name}: {rows:,} rows read"),
                    )
                )
            judged = judge_days(feed, contract, manifests, store, accepted)
        blocking = blocking_findings(feed, view, judged, accepted)
        if is_stopped or blocking:
            yield from check_results(feed, view, judged, accepted)
            raise contract_failure(feed, _label(days), view, blocking)
        for day in days:
            context.log.info(f"{feed.name} {day}: {manifests[day].rows:,} rows staged")
        yield materialized(context, {day: export_metadata(manifests[day]) for day in days})
        yield from check_results(feed, view, judged, accepted)

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


def view_state(session: Session, feed: Feed, store: Store) -> ViewState:
    """How the view stands beside the contract, before a row of it is read."""
    columns = describe_view(session, feed)
    return ViewState(
        difference=compare_columns(feed, columns),
        columns=columns,
        definition=compare_definition(session, feed, store),
        undated_rows=count_undated(session, feed),
    )
