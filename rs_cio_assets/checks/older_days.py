"""Did a day change that is older than the sensor `late_data` looks? Such days are reported: nobody runs them by themselves."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, ResourceParam

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.deliveries import DeliveredDay, delivered_days, first_delivered_day, has_changed
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.results import bad, counted, good, warned
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, Feed, FeedKind
from rs_cio_assets.store import Fingerprint
from rs_cio_assets.warehouse import Session, Warehouse, read_fingerprints, sql

MOST_DAYS = 400  # of those with a recent load, the newest: more than a year of them is a reload of everything


def build_older_days_checks(contract: Contract, lateness_days: int) -> list[AssetChecksDefinition]:
    """The check `older_days_are_as_delivered` of each people and event feed that is on."""
    return [_build(feed, lateness_days) for feed in contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT)]


def _build(feed: Feed, lateness_days: int) -> AssetChecksDefinition:
    @standing_check(
        asset=feed_key(feed.name),
        name="older_days_are_as_delivered",
        description=check_description(
            f"No day older than the {lateness_days} that the sensor late_data looks at has got rows since it was delivered.",
            red="rows came later than anybody expected, and nothing sends them by itself.",
            then="backfill the days that are named below; where that happens often, raise RS_CIO_LATENESS_DAYS.",
        ),
        pool="redshift",
    )
    def older_days(context: AssetCheckExecutionContext, warehouse: ResourceParam[Warehouse]) -> AssetCheckResult:
        before = datetime.now(UTC).date() - timedelta(days=lateness_days)
        first = first_delivered_day(context.instance, feed.name)
        with failing_clearly(feed.name), warehouse.session() as session:
            found = loaded_lately(session, feed, before) if first else {}
            session.commit()
        found = {day: fingerprint for day, fingerprint in found.items() if first and day >= first}
        return older_days_result(feed, lateness_days, found, delivered_days(context.instance, feed.name, list(found)))

    return older_days


def loaded_lately(session: Session, feed: Feed, before: date) -> dict[str, Fingerprint]:
    """Days earlier than *before* with a row that was loaded since, with what they hold now; the newest MOST_DAYS of them.

    One aggregate over older rows, by load time; content is read only of the days that it names.
    """
    since = datetime.combine(before, datetime.min.time())
    rows = session.fetch(
        f"SELECT TO_CHAR({sql.day_expression(feed)}, 'YYYY-MM-DD'), COUNT(*) FROM {sql.view_name(feed)} "  # noqa: S608 - quoted names
        f"WHERE {sql.quoted(feed.time_column)} < %s AND {sql.quoted(feed.loaded_at)} >= %s GROUP BY 1",
        (since, since),
    )
    days = sorted((day for day, _ in rows), reverse=True)[:MOST_DAYS]
    if not days:
        return {}
    first, last = date.fromisoformat(days[-1]), date.fromisoformat(days[0])
    between = [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]
    fingerprints = read_fingerprints(session, feed, between)
    return {day: fingerprints[day] for day in days}


def older_days_result(
    feed: Feed, lateness_days: int, found: Mapping[str, Fingerprint], delivered: Mapping[str, DeliveredDay]
) -> AssetCheckResult:
    """The verdict on days *found* with recent loads, beside what was *delivered* of them."""
    changed = sorted(day for day, now in found.items() if day not in delivered or has_changed(feed, now, delivered[day]))
    new_rows = {day: max(0, found[day].rows - _rows_of(delivered.get(day))) for day in changed}
    rows = sum(new_rows.values())
    numbers = {"days with recent loads": len(found), "changed (days)": len(changed), "new (rows)": rows}
    if not changed:
        return good(f"No day older than {lateness_days} days has changed since it was delivered.", numbers)
    samples = {"changed days": [{"day": day, "new rows": new_rows[day]} for day in reversed(changed)]}
    days = counted(len(changed), "day", "days")
    text = f"{days} older than {lateness_days} days changed after being delivered ({_named(changed)})"
    step = (
        f"backfill them: rs-cio backfill {feed.name} {changed[0]}..{changed[-1]}; where rows come this late as a rule, "
        "raise RS_CIO_LATENESS_DAYS"
    )
    if rows or feed.kind is FeedKind.PEOPLE:
        return bad(f"{text}: {counted(rows, 'row', 'rows')} more than were delivered", step, numbers, samples=samples)
    return warned(f"{text}; no new row: events that were delivered are not sent again", step, numbers, samples=samples)


def _rows_of(was: DeliveredDay | None) -> int:
    return was.source.rows if was and was.source else 0


def _named(days: Sequence[str]) -> str:
    return days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
