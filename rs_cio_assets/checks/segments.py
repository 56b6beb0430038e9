"""Is everybody in a segment of Customer.io who should be, and nobody else? One check for each declared segment."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, ResourceParam

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import SEGMENTS, check_description, linked
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.membership import Parity, compare_segment, has_delivered_people
from rs_cio_assets.checks.results import bad, counted, good, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.checks.whereabouts import Around
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.contract.segments import Segment
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.errors import WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets.warehouse.differences import DIFFERENCES, write_differences

DIFFERENCES_KEPT = "differences/"  # in the store: those that the warehouse did not take


def build_segment_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """The checks `segment_<name>`, on the first people feed; none without a people feed."""
    people = contract.feeds_of(FeedKind.PEOPLE)
    return [_build(segment, people[0], contract) for segment in contract.segments] if people else []


def _build(segment: Segment, people: Feed, contract: Contract) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(people.name),
        name=f"segment_{segment.name}",
        description=check_description(
            f"Compares everybody in Customer.io's segment {segment.segment_id} with the people who belong in it by the "
            "warehouse.",
            red="a journey would reach people whom it should not reach, or miss some.",
            then="compare the segment's conditions in Customer.io with the words below; the people who differ are in "
            f"{DIFFERENCES}.",
            about=segment.description,
        ),
        pool="customerio_app",
    )
    def compare(
        context: AssetCheckExecutionContext,
        warehouse: ResourceParam[Warehouse],
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        with open_comparison(people, contract, warehouse, store, customerio) as (app, around):
            if said := segment_obstacle(segment, app) or nothing_delivered(contract, store, app):
                return said
            differences = around.scratch / "differences.parquet"
            parity = compare_segment(segment, app, around, differences)
            if said := segment_obstacle(segment, app):  # somebody changed it meanwhile: what was read is half of it
                return said
            table = _keep_differences(segment, around, differences)
            requests = app.requests
        context.log.info("%s: %d members, %d expected; differences: %s", segment.name, parity.members, parity.expected, table)
        said = _result(segment, parity, requests, table)
        return linked(said, customerio.ui_url, SEGMENTS, segment.segment_id)

    return compare


@contextmanager
def open_comparison(
    feed: Feed, contract: Contract, warehouse: Warehouse, store: Store, customerio: CustomerioSettings
) -> Iterator[tuple[AppClient, Around]]:
    """The App API and what a comparison over everybody works with, now, with a folder of its own; failures name *feed*."""
    with (
        failing_clearly(feed.name),
        AppClient(customerio) as app,
        tempfile.TemporaryDirectory(prefix="rs-cio-") as folder,
    ):
        yield app, Around(contract, warehouse, store, Path(folder), datetime.now(UTC))


def segment_obstacle(segment: Segment, app: AppClient) -> AssetCheckResult | None:
    """Why nothing can be said of *segment*: it is not there, or is being built. None: it can be read."""
    state = app.segment(segment.segment_id)
    numbers = {"App API requests": app.requests}
    if state is None:
        return bad(
            f"Customer.io has no segment {segment.segment_id}, which segments/{segment.name}.yaml names",
            "if it was deleted, make it again as the contract describes it; then correct segment_id in the contract",
            numbers,
        )
    if not state.is_ready:
        progress = "" if state.progress is None else f", {state.progress}% done"
        return not_ready(
            f"Customer.io is still building segment {segment.segment_id} ({segment.name}{progress})",
            "run this check again when the segment's page shows its count",
            numbers,
        )
    return None


def nothing_delivered(contract: Contract, store: Store, app: AppClient) -> AssetCheckResult | None:
    """Why nothing can be said yet: no people feed has delivered anybody. None: somebody was."""
    if has_delivered_people(contract, store):
        return None
    return not_ready(
        "no people have been delivered to Customer.io yet",
        "run the job sync_day for the days that the people view holds",
        {"App API requests": app.requests},
    )


def _keep_differences(segment: Segment, around: Around, path: Path) -> str:
    """Write the table in the warehouse, or the file in the store where the warehouse takes none; says which."""
    key = f"{DIFFERENCES_KEPT}{segment.name}.parquet"
    try:
        with around.warehouse.session() as session:
            write_differences(session, segment.name, around.now, _rows(path))
        around.store.delete([key])  # of an earlier comparison
    except (WarehouseRefused, WarehouseUnavailable) as error:
        around.store.put_file(key, path)
        return f"not written: {error.problem}; the rows are in the store: {key}"
    return DIFFERENCES


def _rows(path: Path) -> Iterator[tuple[object, ...]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(10_000):
            yield from zip(*batch.to_pydict().values(), strict=True)


def _result(segment: Segment, parity: Parity, requests: int, table: str) -> AssetCheckResult:
    different, tolerated = parity.missing + parity.extra, segment.tolerated(parity.expected)
    at_most = different + parity.not_looked_at
    numbers = {
        "members": parity.members,
        "expected": parity.expected,
        "missing": parity.missing,
        "extra": parity.extra,
        "never delivered": parity.never_delivered,
        "members without an id": parity.without_id,
        "in flight": parity.in_flight,
        "deleted or blocked": parity.gone,
        "differ, not looked at": parity.not_looked_at,
        "tolerated": tolerated,
        "difference (%)": round(100 * different / max(parity.expected, 1), 3),
        "App API requests": requests,
        "own time (s)": round(parity.own_s, 3),
        "table": table,
    }
    samples = {
        f"{side} (sample, people hashed)": [{"person": person} for person in people] for side, people in parity.samples.items()
    }
    on_their_way = f" {parity.in_flight:,} more changed too recently to be counted." if parity.in_flight else ""
    again = f"run this check again when the sync has delivered them and {segment.lag_minutes} minutes have passed"
    if different <= tolerated < at_most:
        return not_ready(
            f"segment {segment.segment_id} ({segment.name}) and the warehouse differ in too many people to look at all. Of those "
            f"looked at {different:,} are wrong ({tolerated:,} tolerated), {parity.in_flight:,} changed too recently to be "
            f"counted; {parity.not_looked_at:,} more differ",
            again,
            numbers,
        )
    if parity.in_flight and different <= tolerated and not min(parity.members, parity.expected):
        return not_ready(
            f"segment {segment.segment_id} ({segment.name}) has {counted(parity.members, 'member', 'members')}, the warehouse "
            f"expects {parity.expected:,}, and all in whom they differ are on their way: nobody is left to compare",
            again,
            numbers,
        )
    if different <= tolerated:
        held = f"Segment {segment.segment_id} ({segment.name}) has {counted(parity.members, 'member', 'members')}"
        return good(
            f"{held}, the warehouse expects {parity.expected:,}; {at_most:,} differ ({tolerated:,} tolerated).{on_their_way}",
            numbers,
            samples=samples,
        )
    least = "at least " if parity.not_looked_at else ""
    text = (
        f"Segment {segment.segment_id} ({segment.name}) is wrong for {least}{counted(different)} ({tolerated:,} tolerated): "
        f"{parity.missing:,} missing who belong in it, {parity.extra:,} in it who do not belong."
    )
    if parity.without_id:
        text += f" Of these, {counted(parity.without_id, 'member has', 'members have')} no id: Customer.io knows an email alone."
    return bad(text + on_their_way, _next_step(segment, parity, table), numbers, samples=samples)


def _next_step(segment: Segment, parity: Parity, table: str) -> str:
    steps = []
    if parity.never_delivered:
        steps.append(f"backfill people (job sync_day): {parity.never_delivered:,} of the missing were never delivered")
    if parity.missing > parity.never_delivered or parity.extra:
        who = f"the people in {DIFFERENCES}" if table == DIFFERENCES else "those of the file that metadata names"
        steps.append(
            f"compare the segment's conditions in Customer.io with segments/{segment.name}.yaml, and look up {who}: "
            "an attribute that did not take, or a profile that another source made"
        )
    return "; ".join(steps)
