"""What stands beside the numbers in Dagster's UI: what a check proves, what to do when it is red, links to Customer.io."""

from __future__ import annotations

from dagster import AssetCheckResult, MetadataValue

from rs_cio_assets.contract.lock import lock_of
from rs_cio_assets.contract.models import Contract, Feed

SEGMENTS, CAMPAIGNS = "segments", "campaigns"  # what stands before a number in the addresses of Customer.io's pages


def check_description(proves: str, *, red: str, then: str, about: str = "") -> str:
    """Markdown: what the check proves, what red means, what to do then, and *about*: the contract's words of what it looks at."""
    return "\n\n".join(filter(None, (proves, f"**Red:** {red}", f"**What to do:** {then}", about)))


def linked(result: AssetCheckResult, ui_url: str, kind: str, number: int) -> AssetCheckResult:
    """*result* with a link to the segment or campaign that it is about; as it is where *ui_url* does not say where pages are."""
    if not ui_url:
        return result
    return result._replace(metadata={**result.metadata, "in Customer.io": MetadataValue.url(_page(ui_url, kind, number))})


def used_by(feed: Feed, contract: Contract, ui_url: str) -> str:
    """A paragraph of Markdown: segments and journeys that use *feed*, linked where there is a *ui_url*. Empty where none does."""
    lock = lock_of(contract)
    used = [(f"segment {name}", SEGMENTS, s.segment_id) for name, s in lock.segments.items() if feed.name in s.uses]
    used += [(f"journey {name}", CAMPAIGNS, j.campaign_id) for name, j in lock.journeys.items() if feed.name in j.uses]
    said = [
        f"[{label}]({_page(ui_url, kind, number)})" if ui_url else f"{label} ({kind.removesuffix('s')} {number})"
        for label, kind, number in used
    ]
    return f"**In Customer.io:** {', '.join(said)}.\n\n" if said else ""


def _page(ui_url: str, kind: str, number: int) -> str:
    """Source: Customer.io publishes no form of these addresses; `/segments/<number>` and `/campaigns/<number>` under one base are
    what users' browsers show (public repositories, read 2026-11-26). Not proven on a real workspace."""
    return f"{ui_url.rstrip('/')}/{kind}/{number}"
