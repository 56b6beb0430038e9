"""What every check's answer looks like: a verdict in words with the next step, numbers that plot, and hashed samples.

Verdicts: good, bad (an error), warned, and not ready (a warning too: nothing can be said yet, and why). Never a green without
having looked. People and keys are shown as 12 hex digits of a hash, never themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from dagster import AssetCheckResult, AssetCheckSeverity

from rs_cio_assets.assets.metadata import records_table

SAMPLES_SHOWN = 20
CANARY_PREFIX = "rs-cio-canary-"  # people of the check `canary_<journey>`: in no warehouse, and no finding of any check
NOT_READY = "Not ready:"  # how the text of such a verdict begins
Samples = Mapping[str, Sequence[Mapping[str, str | int | float]]]  # title -> records of one shape


def hashed(value: object) -> str:
    """12 hex digits that stand for a person or a key in tables that people see."""
    return hashlib.sha256(str(value).encode()).hexdigest()[:12]


def counted(number: int, one: str = "person", many: str = "people") -> str:
    """So many of something, in words that read well: *one* and *many* may hold the verb, too."""
    return f"{number:,} {one if number == 1 else many}"


def good(text: str, numbers: Mapping[str, Any], *, samples: Samples | None = None) -> AssetCheckResult:
    """What was asked is so."""
    return AssetCheckResult(passed=True, description=text, metadata=_metadata(numbers, samples))


def bad(text: str, next_step: str, numbers: Mapping[str, Any], *, samples: Samples | None = None) -> AssetCheckResult:
    """It is not so; *text* says what and for how many, *next_step* what to do."""
    return _failed(AssetCheckSeverity.ERROR, text, next_step, numbers, samples)


def warned(text: str, next_step: str, numbers: Mapping[str, Any], *, samples: Samples | None = None) -> AssetCheckResult:
    """It is not so, in a way that somebody chose or that is tolerated: told, and no alarm."""
    return _failed(AssetCheckSeverity.WARN, text, next_step, numbers, samples)


def not_ready(text: str, next_step: str, numbers: Mapping[str, Any]) -> AssetCheckResult:
    """Nothing can be said yet: neither a pass nor a failure."""
    return _failed(AssetCheckSeverity.WARN, f"{NOT_READY} {text}", next_step, numbers, None)


def _failed(
    severity: AssetCheckSeverity, text: str, next_step: str, numbers: Mapping[str, Any], samples: Samples | None
) -> AssetCheckResult:
    return AssetCheckResult(
        passed=False,
        severity=severity,
        description=f"{text.rstrip('.')}. Next step: {next_step.rstrip('.')}.",
        metadata=_metadata(numbers, samples),
    )


def _metadata(numbers: Mapping[str, Any], samples: Samples | None) -> dict[str, Any]:
    tables = {
        title: records_table([dict(r) for r in records[:SAMPLES_SHOWN]]) for title, records in (samples or {}).items() if records
    }
    return {**numbers, **tables}
