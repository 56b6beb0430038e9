"""May a marketer wire journeys to this data? The guide's checklist, with the checks that prove each line."""

from rs_cio_assets.readiness.asset import READINESS_KEY, build_readiness
from rs_cio_assets.readiness.evidence import known_facts, latest_evidence
from rs_cio_assets.readiness.lines import Line, State, readiness
from rs_cio_assets.readiness.report import as_html, as_markdown, summary

__all__ = [
    "READINESS_KEY",
    "Line",
    "State",
    "as_html",
    "as_markdown",
    "build_readiness",
    "known_facts",
    "latest_evidence",
    "readiness",
    "summary",
]
