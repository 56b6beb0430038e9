"""The asset `redshift/check_results`: what checks said goes to the warehouse, and segment differences that were kept for it."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetExecutionContext,
    AssetsDefinition,
    DagsterInstance,
    MaterializeResult,
    ResourceParam,
    asset,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord
from dagster._core.storage.tags import PARTITION_NAME_TAG

from rs_cio_assets.assets import CHECK_RESULTS_KEY, LOG_KEY
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.segments import DIFFERENCES_KEPT
from rs_cio_assets.readiness.evidence import SAID
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Session, Warehouse
from rs_cio_assets.warehouse.differences import write_differences
from rs_cio_assets.warehouse.log import write_check_results
from rs_cio_assets.warehouse.log_schema import CHECK_RESULTS, SCHEMA

# Looked at again each time: an evaluation of a run that ended late may be noted after a younger one.
OVERLAP = timedelta(hours=6)
FIRST_LOOK = timedelta(days=400)  # how far back, where the table is empty
DESCRIPTION_BYTES = 4_096
_PAGE = 100
_ROWS = pa.schema(
    [
        ("asset", pa.string()),
        ("check_name", pa.string()),
        ("day", pa.string()),
        ("passed", pa.bool_()),
        ("severity", pa.string()),
        ("description", pa.string()),
        ("run_id", pa.string()),
        ("evaluated_at", pa.string()),
    ]
)


def build_check_results(checked: Iterable[AssetCheckKey]) -> AssetsDefinition:
    """The asset over the *checked* of these definitions. Run again, it writes nothing twice."""
    keys = sorted(checked, key=lambda key: key.to_user_string())

    @asset(
        key=CHECK_RESULTS_KEY,
        deps=[LOG_KEY],
        description=f"Copies to Redshift what the checks said since the last time, in {SCHEMA}.check_results, so that analysts "
        "can follow them over weeks. Differences between segments and the warehouse that could not be written before go to "
        f"{SCHEMA}.segment_differences.",
        group_name="redshift_deliveries",
        kinds={"redshift", "table"},
        owners=["team:data"],
        pool="redshift",
    )
    def check_results(
        context: AssetExecutionContext, warehouse: ResourceParam[Warehouse], store: ResourceParam[Store]
    ) -> MaterializeResult:
        now = datetime.now(UTC)
        with failing_clearly(), tempfile.TemporaryDirectory(prefix="rs-cio-") as folder, warehouse.session() as session:
            path = Path(folder) / "check_results.parquet"
            since = _since(session, now)
            rows = [row for key in keys for row in evaluations(context.instance, key, since)]
            pq.write_table(pa.Table.from_pylist(rows, _ROWS), path)
            written = write_check_results(session, path)
            segments = write_kept_differences(session, store, Path(folder))
        context.log.info(f"{written.rows:,} evaluations written; differences of {len(segments)} segments")
        return MaterializeResult(
            metadata={
                "evaluations": written.rows,
                "written by": written.way,
                "segments whose differences were kept": len(segments),
            }
        )

    return check_results


def evaluations(instance: DagsterInstance, key: AssetCheckKey, since: datetime) -> Iterator[dict[str, object]]:
    """Rows of `check_results` for each evaluation of *key* at or after *since* (aware), newest first."""
    cursor: int | None = None
    while True:
        page = instance.event_log_storage.get_asset_check_execution_history(key, limit=_PAGE, cursor=cursor, status=SAID)
        for record in page:
            if record.event is None or datetime.fromtimestamp(record.event.timestamp, UTC) < since:
                return
            if isinstance(record.evaluation, AssetCheckEvaluation):
                yield _row(instance, key, record, record.evaluation, datetime.fromtimestamp(record.event.timestamp, UTC))
        if len(page) < _PAGE:
            return
        cursor = page[-1].id


def write_kept_differences(session: Session, store: Store, folder: Path) -> Sequence[str]:
    """Segment differences that a check left in the store go to their table, and leave the store; the segments.

    Raises: WarehouseRefused, WarehouseUnavailable; those that were not written stay in the store.
    """
    done = []
    for found in store.objects(DIFFERENCES_KEPT):
        segment = found.key.removeprefix(DIFFERENCES_KEPT).removesuffix(".parquet")
        rows = pq.read_table(store.fetch(found.key, folder))
        write_differences(session, segment, found.written_at, zip(*rows.to_pydict().values(), strict=True))
        store.delete([found.key])
        done.append(segment)
    return done


def _since(session: Session, now: datetime) -> datetime:
    ((latest,),) = session.fetch(f"SELECT MAX(evaluated_at) FROM {CHECK_RESULTS.full_name}")  # noqa: S608 - our own name
    session.commit()
    return now - FIRST_LOOK if latest is None else latest.replace(tzinfo=UTC) - OVERLAP


def _row(
    instance: DagsterInstance,
    key: AssetCheckKey,
    record: AssetCheckExecutionRecord,
    evaluation: AssetCheckEvaluation,
    at: datetime,
) -> dict[str, object]:
    run = instance.get_run_by_id(record.run_id)
    text = (evaluation.description or "").encode()[:DESCRIPTION_BYTES].decode(errors="ignore")
    return {
        "asset": key.asset_key.to_user_string(),
        "check_name": key.name,
        "day": record.partition or (run.tags.get(PARTITION_NAME_TAG) if run else None),
        "passed": evaluation.passed,
        "severity": None if evaluation.passed else evaluation.severity.value,
        "description": text,
        "run_id": record.run_id,
        "evaluated_at": f"{at:%Y-%m-%d %H:%M:%S.%f}",
    }
