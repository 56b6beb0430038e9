"""One asset per feed: its export view in Redshift, created from the contract's SQL, or verified where others own it."""

from datetime import UTC, datetime
from typing import Any, Literal

from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Failure,
    MaterializeResult,
    MetadataValue,
    ResourceParam,
    asset,
)

from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.assets.keys import view_key
from rs_cio_assets.assets.metadata import column_schema, records_table
from rs_cio_assets.contract.models import Feed
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Session, Warehouse, create_view, describe_view
from rs_cio_assets.warehouse.definition import remember_view
from rs_cio_assets.warehouse.verification import Verification, verify_view

_CREATED = "created from the contract's SQL. Materialize it after the SQL changed; the daily exports read it."
_VERIFIED = (
    "which others own: its columns, types and definition are compared with the contract, and nothing is replaced. Materialize it "
    "after either changed: that accepts a changed definition."
)


def build_view(feed: Feed, mode: Literal["create", "verify"]) -> AssetsDefinition:
    """The asset `redshift/views/<feed>`: creates or replaces the view, or verifies it, and remembers its definition.

    Running it again changes nothing. In *mode* verify it runs no DDL, and fails where columns or types are not the contract's.
    Upstream assets of the contract are lineage only: no job of this project runs them.
    """

    @asset(
        key=view_key(feed.name),
        deps=[AssetKey(key.split("/")) for key in feed.upstream],
        description=(
            f"The export view {feed.view} in Redshift, {_VERIFIED if mode == 'verify' else _CREATED}\n\n{feed.description}"
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
            if mode == "verify":
                return _verify(context, session, feed, store)
            create_view(session, feed)
            remember_view(session, feed, store, _now)
            columns = describe_view(session, feed)
        context.log.info(f"{feed.view}: {len(columns)} columns")
        return MaterializeResult(metadata={"columns in the view": len(columns)})

    return view


def _verify(context: AssetExecutionContext, session: Session, feed: Feed, store: Store) -> MaterializeResult:
    found = verify_view(session, feed, store, _now)
    metadata = _verification_metadata(feed, found)
    if found.difference.is_blocking:
        raise Failure(
            description=f"feed {feed.name}: {feed.view} does not match the contract: {'; '.join(found.difference.sentences())}. "
            "Next step: mend the view where it is made (or the contract, with everybody who uses the name), then materialize "
            f"redshift/views/{feed.name} again",
            metadata=metadata,
            allow_retries=False,
        )
    for sentence in found.since.sentences(feed.view) if found.since else ():
        context.log.warning(f"{sentence.removesuffix(': run create_views')} (accepted by this run)")
    context.log.info(f"{feed.view}: {len(found.columns)} columns fit the contract")
    return MaterializeResult(metadata=metadata)


def _verification_metadata(feed: Feed, found: Verification) -> dict[str, Any]:
    """The columns beside the contract, and the definition beside its last verification and the contract's SQL."""
    metadata: dict[str, Any] = {
        "columns in the view": len(found.columns),
        "columns": records_table(_column_records(feed, found)),
        "since the last verification": _since(found),
        "the contract's SQL": _beside_sql(found),
    }
    if found.since and found.since.diff:
        metadata["changed since the last verification"] = _as_diff(found.since.diff)
    if found.sql_diff:
        metadata["the contract's SQL and the definition"] = _as_diff(found.sql_diff)
    return metadata


def _column_records(feed: Feed, found: Verification) -> list[dict[str, str | int | float]]:
    """A row for each column of the contract, in its order, then what only the view has."""
    types = {column.name: column.type_name for column in found.columns}
    verdicts = {
        **dict.fromkeys(found.difference.missing, "missing"),
        **{name: "another type" for name, _, _ in found.difference.changed},
        **dict.fromkeys(found.difference.extra, "not in the contract: not sent"),
    }
    return [
        {
            "column": name,
            "contract": feed.columns[name].type.value if name in feed.columns else "",
            "warehouse": types.get(name, ""),
            "verdict": verdicts.get(name, "fits"),
        }
        for name in (*feed.columns, *found.difference.extra)
    ]


def _since(found: Verification) -> str:
    if found.since is None or found.last_verified_at is None:
        return "first verification: nothing to compare with"
    when = f"{found.last_verified_at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if found.since.diff:
        word = "not accepted" if found.difference.is_blocking else "accepted by this run"
        return f"the definition changed since {when} ({word})"
    return f"the definition is as it was {when}"


def _beside_sql(found: Verification) -> str:
    if found.sql_diff is None:
        return "the warehouse shows no definition (a table, or one that this user may not see): not compared"
    if not found.sql_diff:
        return "the same text: the view is the contract's query"
    return (
        "another text, which may mean the same: white space, case and comments are not compared, but names that dbt qualifies "
        "and SQL that the warehouse rewrites are. Columns and types were compared by themselves"
    )


def _as_diff(lines: tuple[str, ...]) -> MetadataValue:
    return MetadataValue.md("```diff\n" + "\n".join(lines) + "\n```")


def _now() -> datetime:
    return datetime.now(UTC)
