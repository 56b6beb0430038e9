"""Does a feed say what the shop's own tables say? Each query of the contract's logic/ as a check of its feed."""

import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.recomputed import recompute
from rs_cio_assets.checks.results import bad, counted, good, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, Feed
from rs_cio_assets.contract.segments import Logic
from rs_cio_assets.warehouse import Warehouse


class LogicConfig(Config):
    """How far to look back."""

    days_back: int = Field(default=14, ge=1, le=3_660, description="Rows of so many days before now are recomputed.")


def build_logic_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """A check `logic_<name>` for each query whose feed is enabled."""
    enabled = {feed.name: feed for feed in contract.enabled_feeds}
    return [_logic_check(logic, enabled[logic.feed]) for logic in contract.logic if logic.feed in enabled]


def _description(logic: Logic) -> str:
    return check_description(
        f"Works out by other means, from the shop's own tables, what the feed {logic.feed} says. {logic.description}",
        red="a number that segments and journeys rely on is not what the shop's own tables say.",
        then="compare the view's SQL with the query of the contract's logic/ folder, for the people of the table below; mend "
        "the view, then run its days again.",
    )


def _logic_check(logic: Logic, feed: Feed) -> AssetChecksDefinition:
    @standing_check(asset=feed_key(feed.name), name=f"logic_{logic.name}", description=_description(logic), pool="redshift")
    def recomputed(
        context: AssetCheckExecutionContext, config: LogicConfig, warehouse: ResourceParam[Warehouse]
    ) -> AssetCheckResult:
        started_s = time.monotonic()
        now = datetime.now(UTC)
        with (
            failing_clearly(feed.name),
            warehouse.session() as session,
            tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch,
        ):
            report = recompute(session, logic, feed, now - timedelta(days=config.days_back), now, Path(scratch))
        context.log.info("%s: %d rows recomputed, %d mistakes", logic.name, report.rows, report.mistakes)
        numbers = {
            "rows looked at": report.rows,
            "mistakes": report.mistakes,
            "people concerned": report.people,
            "duration (s)": round(time.monotonic() - started_s, 1),
        }
        if report.mistakes:
            problems = sorted(report.by_problem.items(), key=lambda item: -item[1])
            samples = {
                "problems": [{"problem": problem, "mistakes": count} for problem, count in problems],
                "samples (people hashed)": [{"person": person, "problem": problem} for person, problem in report.samples],
            }
            text = (
                f"The feed {feed.name} says something else than the shop's tables for {counted(report.people)} in the last "
                f"{config.days_back} days: " + "; ".join(f"{problem} ({count:,})" for problem, count in problems)
            )
            step = f"mend feeds/{feed.name}.sql (or logic/{logic.name}.sql, if that is wrong), run create_views, then the days"
            return bad(text, step, numbers, samples=samples)
        if not report.rows:
            text = f"{feed.view} has no row in the last {config.days_back} days, so there was nothing to recompute"
            return not_ready(text, "look whether the warehouse is loaded, or set a larger days_back", numbers)
        return good(
            f"{counted(report.rows, 'row', 'rows')} of the last {config.days_back} days looked at: {feed.name} says "
            "what the shop's tables say.",
            numbers,
        )

    return recomputed
