"""Is one person one profile, under one identifier, everywhere? The check `identities_agree`; its questions: `identities.py`."""

import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, Config, ResourceParam
from pydantic import Field

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.about import check_description
from rs_cio_assets.assets.failures import failing_clearly
from rs_cio_assets.checks.identities import FeedIds, IdentityReport, Questions, compare_identities
from rs_cio_assets.checks.read_back import last_days
from rs_cio_assets.checks.results import bad, counted, good, not_ready, warned
from rs_cio_assets.checks.standing_check import standing_check
from rs_cio_assets.contract.models import Contract, FeedKind
from rs_cio_assets.customerio import AppClient
from rs_cio_assets.settings import CustomerioSettings
from rs_cio_assets.store import Store
from rs_cio_assets.warehouse import Warehouse

MOST = 0.5  # of a feed's events: then it is the identifier that is another one


class IdentityConfig(Config):
    """How much to look at."""

    days_back: int = Field(default=14, ge=1, le=29, description="Days before today (UTC) whose rows are looked at.")
    sample_size: int = Field(default=200, ge=1, le=10_000, description="Newest changed people whose email is read back.")
    max_pages: int = Field(default=50, ge=1, le=10_000, description="Pages of 100 failed changes to read, at most.")


def build_identity_checks(contract: Contract) -> list[AssetChecksDefinition]:
    """The check `identities_agree` on the first people feed; none without people."""
    people = contract.feeds_of(FeedKind.PEOPLE)
    if not people:
        return []
    feed = people[0]

    @standing_check(
        asset=feed_key(feed.name),
        name="identities_agree",
        description=check_description(
            "One person has one profile. Looks for people who share an email, identifiers of the wrong shape, events of people "
            "who are in no people view, guests who still have a profile beside the customer they became, and changed emails that "
            "Customer.io did not take.",
            red="somebody is two people, or nobody, to your journeys: messages go twice, or suppression misses.",
            then="follow the next step below for the kind that was found: merge the profiles, or mend the view that names "
            "people.",
        ),
        pool="customerio_app",
    )
    def identities_agree(
        context: AssetCheckExecutionContext,
        config: IdentityConfig,
        warehouse: ResourceParam[Warehouse],
        store: ResourceParam[Store],
        customerio: ResourceParam[CustomerioSettings],
    ) -> AssetCheckResult:
        started_s, now = time.monotonic(), datetime.now(UTC)
        with (
            failing_clearly(feed.name),
            AppClient(customerio) as app,
            tempfile.TemporaryDirectory(prefix="rs-cio-") as scratch,
        ):
            days = last_days(config.days_back, now)
            limits = (config.sample_size, config.max_pages)
            report = compare_identities(Questions(contract, warehouse, store, Path(scratch), now, feed, app, days, *limits))
        context.log.info("%d people in %s, %d App API requests", report.people, feed.view, report.requests)
        has_merges = bool(contract.feeds_of(FeedKind.MERGE))
        return _result(report, feed.view, config, round(time.monotonic() - started_s, 1), has_merges=has_merges)

    return [identities_agree]


def _result(
    report: IdentityReport, view: str, config: IdentityConfig, duration_s: float, *, has_merges: bool
) -> AssetCheckResult:
    numbers: dict[str, Any] = {
        "people in the view": report.people,
        "people who share an email": report.shared_emails.wrong,
        "rows with an identifier of the wrong shape": sum(ids.wrong for ids in report.shapes),
        "events of unknown people": sum(ids.wrong for ids in report.unknown),
        "guests with two profiles": report.guests.wrong,
        "guests asked for": report.guests.of,
        "emails that did not take": report.emails.wrong,
        "emails asked for": report.emails.of,
        "App API requests": report.requests,
        "duration (s)": duration_s,
    }
    parts = {"shared emails": report.shared_emails, "guests": report.guests, "changed emails": report.emails}
    numbers |= {f"{name}: not asked": part.not_asked for name, part in parts.items() if part.not_asked}
    if not report.shapes:
        numbers["identifiers: not asked"] = "no feed was exported in these days"
    problems = list(_problems(report))
    if problems:
        samples = {
            "feeds": _feeds_table(report),
            "shared emails (people hashed)": report.shared_emails.samples,
            "unknown people (hashed)": report.unknown_samples,
            "guests with two profiles (hashed)": report.guests.samples,
            "emails that did not take (people hashed)": report.emails.samples,
        }
        text, steps = (". ".join(words) for words in zip(*problems, strict=True))
        is_chosen = len(problems) == 1 and bool(report.guests.wrong) and not has_merges  # nobody may merge, so guests stay
        return (warned if is_chosen else bad)(text, steps, numbers, samples=samples)
    if not report.people:
        return not_ready(f"{view} has no row", "look whether the warehouse is loaded, then run create_views", numbers)
    if report.is_cut:
        text = f"Customer.io's log of failed changes is longer than the {config.max_pages} pages that were read"
        return not_ready(text, "run it again with a larger max_pages", numbers)
    events = sum(ids.rows for ids in report.unknown)
    asked = f"{report.people:,} people, {events:,} events of the last {config.days_back} days, {report.emails.of:,} emails"
    return good(f"Identities agree: {asked} and {report.guests.of:,} merged guests were compared.", numbers)


def _problems(report: IdentityReport) -> Iterator[tuple[str, str]]:
    """Each part that is wrong, with its own next step."""
    if pairs := report.shared_emails.wrong:
        yield (
            f"{counted(pairs, 'person shares', 'people share')} another one's email: Customer.io gives it to one of them only",
            "Shared emails: merge the two in the shop, or leave one of them out of the people view",
        )
    if over := [ids for ids in report.shapes if ids.is_over]:
        yield (
            f"Identifiers of the wrong shape in {_named(over)}: such rows are rejected and reach no journey",
            "Identifiers: mend the identifier column in these feeds' SQL (a cast to a number, lost leading zeros, an email)",
        )
    if unknown := [ids for ids in report.unknown if ids.is_over]:
        most = [ids.feed for ids in unknown if ids.share > MOST]
        other = f"; {', '.join(most)} seems to use another identifier than the people" if most else ""
        yield (
            f"Events of people who are in no people view, in {_named(unknown)}{other}",
            "Unknown people: give them a row in the people view, or mend the feed's identifier",
        )
    if guests := report.guests.wrong:
        yield (
            f"Guests who became customers and have a profile of their own still, {guests:,}: they may get every message twice",
            "Guests: enable the merges feed, or run its days again",
        )
    if emails := report.emails.wrong:
        yield (
            f"For {emails:,} of {report.emails.of:,} people Customer.io has another email than was sent: messages go elsewhere",
            (
                "Emails: look one up in the activity log (failed attribute change on email), free the address or allow changes "
                "of email by id in the workspace's settings, then run the day with resend: all"
            ),
        )


def _named(found: list[FeedIds]) -> str:
    return ", ".join(f"{ids.feed} ({ids.wrong:,} of {ids.rows:,} rows, {ids.share:.0%})" for ids in found)


def _feeds_table(report: IdentityReport) -> list[dict[str, str | int | float]]:
    return [
        {"feed": ids.feed, "what": what, "rows": ids.rows, "wrong": ids.wrong, "share (%)": round(100 * ids.share, 2)}
        for what, found in (("identifier of the wrong shape", report.shapes), ("person in no people view", report.unknown))
        for ids in found
    ]
