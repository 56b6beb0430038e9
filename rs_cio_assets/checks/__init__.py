"""Asset checks that people run alone, by job or on a schedule: one module per question, its engine beside it."""

from dagster import AssetChecksDefinition

from rs_cio_assets.checks.canary import build_canary_checks
from rs_cio_assets.checks.failures import build_failures_checks
from rs_cio_assets.checks.freshness import build_freshness_checks
from rs_cio_assets.checks.identity import build_identity_checks
from rs_cio_assets.checks.journeys import build_journey_checks
from rs_cio_assets.checks.logic import build_logic_checks
from rs_cio_assets.checks.older_days import build_older_days_checks
from rs_cio_assets.checks.read_back import ReadBackConfig, build_read_back_check
from rs_cio_assets.checks.segments import build_segment_checks
from rs_cio_assets.checks.suppression import build_suppression_checks
from rs_cio_assets.checks.timing import build_timing_checks
from rs_cio_assets.contract.models import Contract, FeedKind

READ_BACK_CHECK = "customerio_holds_what_was_sent"
CANARY_CHECK = "canary_"  # how the canaries' names begin


def build_checks(contract: Contract, *, has_canary: bool, lateness_days: int) -> list[AssetChecksDefinition]:
    """Every check of *contract* that stands on its own, in the order in which a team asks; the canary where *has_canary*."""
    by_time = [
        *build_logic_checks(contract),
        *build_freshness_checks(contract),
        *build_older_days_checks(contract, lateness_days),
        *build_timing_checks(contract),
    ]
    if contract.workspace.identifier.customerio != "id":
        return by_time  # the others ask Customer.io for people by id, and would find nobody: no check is better than a green one
    return [
        *(build_read_back_check(feed, contract) for feed in contract.feeds_of(FeedKind.PEOPLE, FeedKind.EVENT)),
        *build_failures_checks(contract),
        *build_identity_checks(contract),
        *by_time,
        *build_segment_checks(contract),
        *build_suppression_checks(contract),
        *build_journey_checks(contract),
        *build_canary_checks(contract, is_on=has_canary),
    ]


__all__ = ["CANARY_CHECK", "READ_BACK_CHECK", "ReadBackConfig", "build_checks", "build_read_back_check"]
