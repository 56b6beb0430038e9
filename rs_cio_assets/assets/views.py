"""One asset per feed: its export view in Redshift, created from the contract's SQL."""

from datetime import UTC, datetime

from dagster import AssetExecutionContext, AssetsDefinition, MaterializeResult, MetadataValue, ResourceParam, asset

from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.keys import view_key
from rs_cio_assets.assets.metadata import column_schema
from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse, create_view, describe_view
from rs_cio_assets.warehouse.definition import remember_view


def build_view(feed: Feed) -> AssetsDefinition:
    """The asset `redshift/views/<feed>`: creates or replaces the view, and remembers its definition for the exports.

    Running it again changes nothing.
    """

    @asset(
        key=view_key(feed.name),
        description=(
            f"The export view {feed.view} in Redshift, created from the contract's SQL. "
            f"Materialize it after the SQL changed; the daily exports read it.\n\n{feed.description}"
        ),
        group_name="redshift_views",
        kinds={"redshift", "view"},
        owners=[feed.owner],
        pool="redshift",
        metadata={
            "dagster/column_schema": column_schema(feed),
            "dagster/table_name": feed.view,
            "sql": MetadataValue.md(f"```sql\n{feed.sql}\n```"),
        },
    )
    def view(
        context: AssetExecutionContext, warehouse: ResourceParam[Warehouse], store: ResourceParam[Store]
    ) -> MaterializeResult:
        with failing_clearly(feed.name), warehouse.session() as session:
            create_view(session, feed)
            remember_view(session, feed, store, lambda: datetime.now(UTC))
            columns = describe_view(session, feed)
        context.log.info(f"{feed.view}: {len(columns)} columns")
        return MaterializeResult(metadata={"columns in the view": len(columns)})

    return view
