"""What stands beside the numbers in Dagster's UI: what a check proves, what to do when it is red, and links to "
"Customer.io's pages."""

from __future__ import annotations

from typing import Any

from dagster import AssetCheckResult, MetadataValue, UrlMetadataValue

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
    return result._replace(metadata={**result.metadata, "in Customer.io": _page(ui_url, kind, number)})


def customerio_links(feed: Feed, contract: Contract, ui_url: str) -> dict[str, Any]:
    """Segments and journeys that use *feed*, as metadata of its asset: a link each, or the number where there is no *ui_url*."""
    lock = lock_of(contract)
    segments = {f"segment {name}": (SEGMENTS, s.segment_id) for name, s in lock.segments.items() if feed.name in s.uses}
    journeys = {f"journey {name}": (CAMPAIGNS, j.campaign_id) for name, j in lock.journeys.items() if feed.name in j.uses}
    return {
        label: _page(ui_url, kind, number) if ui_url else f"{kind.removesuffix('s')} {number}"
        for label, (kind, number) in (segments | journeys).items()
    }


def _page(ui_url: str, kind: str, number: int) -> UrlMetadataValue:
    """Source: Customer.io publishes no form of these addresses; `/segments/<number>` and `/campaigns/<number>` under one base are
    what users' browsers show (public repositories, read 2026-11-26). Not proven on a real workspace."""
    return MetadataValue.url(f"{ui_url.rstrip('/')}/{kind}/{number}")
