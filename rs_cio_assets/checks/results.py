"""What every check's answer looks like: a verdict in words with the next step, numbers that plot, and hashed samples.

Three verdicts: good, bad (an error), and not ready (a warning: nothing can be said yet, and why). Never a green that was not
looked at. People and keys are shown as 12 hex digits of a hash, never themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity

from rs_cio_assets.assets.metadata import records_table

SAMPLES_SHOWN = 20
NOT_READY = "Not ready:"  # how the text of such a verdict begins
Samples = Mapping[str, Sequence[Mapping[str, str | int | float]]]  # title -> records of one shape


def hashed(value: object) -> str:
    """12 hex digits that stand for a person or a key in tables that people see."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:12]


def good(text: str, numbers: Mapping[str, Any], *, samples: Samples | None = None) -> AssetCheckResult:
    """What was asked is so."""
    return AssetCheckResult(passed=True, description=text, metadata=_metadata(numbers, samples))


def bad(text: str, next_step: str, numbers: Mapping[str, Any], *, samples: Samples | None = None) -> AssetCheckResult:
    """It is not so; *text* says what and for how many, *next_step* what to do."""
    return AssetCheckResult(
        passed=False,
        severity=AssetCheckSeverity.ERROR,
        description=f"{text.rstrip('.')}. Next step: {next_step}",
        metadata=_metadata(numbers, samples),
    )


def not_ready(text: str, next_step: str, numbers: Mapping[str, Any]) -> AssetCheckResult:
    """Nothing can be said yet: neither a pass nor a failure."""
    return AssetCheckResult(
        passed=False,
        severity=AssetCheckSeverity.WARN,
        description=f"{NOT_READY} {text.rstrip('.')}. Next step: {next_step}",
        metadata=_metadata(numbers, None),
    )


def _metadata(numbers: Mapping[str, Any], samples: Samples | None) -> dict[str, Any]:
    tables = {
        title: records_table([dict(r) for r in records[:SAMPLES_SHOWN]]) for title, records in (samples or {}).items() if records
    }
    return {**numbers, **tables}
