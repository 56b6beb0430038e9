"""What a check said, as a problem: its kind, whether it failed, and its text apart from its next step."""

from __future__ import annotations

from dagster import AssetCheckEvaluation, AssetCheckSeverity

from rs_cio_assets.alerts import Kind
from rs_cio_assets.assets.feeds import REJECTIONS_CHECK
from rs_cio_assets.checks import CANARY_CHECK

NEXT_STEP = ". Next step: "
# How the name of a check begins or ends -> its kind; the first that fits.
_KINDS = (
    (REJECTIONS_CHECK, Kind.REJECTED),
    ("fresh", Kind.FRESHNESS),
    ("latency", Kind.LATENCY),
    ("_keeps_its_promise", Kind.LATENCY),
    ("segment_", Kind.SEGMENT),
    ("journey_", Kind.JOURNEY),
    (CANARY_CHECK, Kind.JOURNEY),
    ("_reaches_nobody_it_must_not", Kind.JOURNEY),
)


def kind_of(check: str) -> Kind:
    """The kind of a check's problem, by the check's name."""
    return next((kind for part, kind in _KINDS if check.startswith(part) or check.endswith(part)), Kind.CHECK)


def is_failed(evaluation: AssetCheckEvaluation) -> bool:
    """True for an error. What is tolerated, and what is not ready, is no alarm."""
    return not evaluation.passed and evaluation.severity is AssetCheckSeverity.ERROR


def said(description: str) -> tuple[str, str]:
    """What was said, and the next step."""
    what, _, next_step = description.partition(NEXT_STEP)
    return what, next_step
