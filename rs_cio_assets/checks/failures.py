"""Did Customer.io refuse anything after it had accepted it? Failed activities and accidental profiles of the workspace.

Skipped updates are told apart and are no failure by themselves: Customer.io passes over a value that is older than the one it
holds, which is what must happen when an older day runs again. They hide nothing: a person whose newest values did not take is
red in `customerio_holds_what_was_sent`. A workspace where nobody else writes and no old day runs can set `is_skipped_bad`.
"""

import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.activities import CREATED, FAILED, SKIPPED, ActivitiesReport, keep_look, read_activities
from rs_cio_assets.checks.results import bad, counted, good, hashed, not_ready
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, FeedKind
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Store


class FailuresConfig(Config):
    """How far to look, and what counts."""

    max_pages: int = Field(default=50, ge=1, le=10_000, description="Pages of 100 activities to read of each type, at most.")
    is_skipped_bad: bool = Field(default=False, description="Skipped updates are a failure too.")


def build_failures_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """The check `customerio_refused_nothing_later` on the first people feed; none without people."""
    people = contract.feeds_of(FeedKind.PEOPLE)
    if not people:
        return []
    feed = people[0]

    @standing_check(
        asset=feed_key(feed.name),
        name="customerio_refused_nothing_later",
        description=check_description(
            "Reads Customer.io's activity log for attributes and events that it accepted and did not apply, and for new profiles "
            "of people whom no people feed delivered. What is found stays red for 24 hours.",
            red="journeys miss values or events, or somebody's events made a second profile.",
            then="mend the values that the tables below name; find the source that makes profiles, and have it use the same id.",
        ),
        pool="customerio_app",
    )
    def refused_later(
        context: AssetCheckExecutionContext,
        config: FailuresConfig,
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        started_s = time.monotonic()
        with failing_clearly(feed.name), AppClient(customerio) as app, tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch:
            report = read_activities(app, contract, store, datetime.now(UTC), Path(scratch), max_pages=config.max_pages)
            if not report.unread:
                keep_look(store, report.look)
        context.log.info("%d activities to tell of, %d of them new", len(report.told), report.new)
        return _result(report, config, round(time.monotonic() - started_s, 1))

    return [refused_later]


def _result(report: ActivitiesReport, config: FailuresConfig, duration_s: float) -> AssetCheckResult:
    numbers: dict[str, Any] = {
        **{f"{kind} (24 h)": len(report.of(kind)) for kind in (*FAILED, SKIPPED)},
        "accidental profiles (24 h)": len(report.of(CREATED)),
        "new since the last look": report.new,
        "profiles created since the last look": report.profiles_created,
        "profiles created without an id of ours": report.without_id,
        "App API requests": report.requests,
        "duration (s)": duration_s,
    }
    kinds = Counter((found.type, found.what) for found in report.told)
    samples = {
        "activities by type and name": [
            {"type": kind, "what": what, "activities": count} for (kind, what), count in kinds.most_common()
        ],
        "samples (people hashed)": [
            {"person": hashed(found.person), "type": found.type, "what": found.what} for found in report.told
        ],
    }
    texts, steps = _problems(report, is_skipped_bad=config.is_skipped_bad)
    cut = f"the log of {', '.join(report.unread)} is longer than the {config.max_pages} pages that were read"
    more = "run it again with a larger max_pages: the next look begins where this one did"
    if texts:
        texts, steps = (texts, steps) if not report.unread else ([*texts, cut], [*steps, more])
        return bad("; ".join(texts), "; ".join(steps), numbers, samples=samples)
    if report.unread:
        return not_ready(cut, more, numbers)
    text = "Customer.io has applied everything that it accepted in the last 24 hours, and made no profile by accident."
    if skipped := len(report.of(SKIPPED)):
        text += f" {counted(skipped, 'update was', 'updates were')} passed over for newer values, as must be."
    return good(text, numbers, samples=samples)


def _problems(report: ActivitiesReport, *, is_skipped_bad: bool) -> tuple[list[str], list[str]]:
    """What is wrong, and what to do about it."""
    texts, steps = [], []
    if failed := report.of(*FAILED):
        people = len({found.person for found in failed})
        what = counted(len(failed), "change or event", "changes or events")
        texts.append(f"In the last 24 hours Customer.io accepted {what} of {counted(people)} and did not apply them")
        steps.append(
            "look one up in Customer.io's activity log for the reason (an attribute over its limit, an email that is taken or "
            "may not change), mend it there or in the view, then run the day again with resend: all"
        )
    if strangers := report.of(CREATED):
        made = counted(len(strangers), "profile was", "profiles were")
        texts.append(f"{made} made in Customer.io of people whom no people feed has delivered")
        steps.append(
            "find who sends these identifiers (the table tells bare profiles, which events make, from filled ones), give the "
            "people a row in the people view or mend the sender's identifier, and delete or merge the profiles in Customer.io"
        )
    if is_skipped_bad and (skipped := report.of(SKIPPED)):
        texts.append(f"{counted(len(skipped), 'update was', 'updates were')} passed over because Customer.io holds newer values")
        steps.append("find who else writes these attributes, or which older day ran again")
    return texts, steps
