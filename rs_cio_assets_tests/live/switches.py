"""What the person who runs the suite says about it, in variables of its own; everything else is the settings' business."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PARTS = ("redshift", "customerio")
# What a place may not be able to do, and what is then left out.
CAPABILITIES = {
    "unload": "UNLOAD and COPY over S3",
    "zoned_copy": "COPY from Parquet into TIMESTAMPTZ",
    "system_tables": "STV_DB_ISOLATION_LEVEL and other tables of Redshift's own",
    "serialization": "serializable or snapshot isolation between sessions",
    "replaced_grants": "a replaced view that keeps its grants",
    "region": "the hosts of both regions",
    "manual_segments": "segments that are filled by the API",
    "second_steps": "a person who is kept for eight days, for what takes so long",
}
VARIABLES = {
    "RS_CIO_LIVE": "what to ask: redshift, customerio, or both with a comma; unset: the suite is skipped",
    "RS_CIO_LIVE_WITHOUT": "what the place cannot do: " + ", ".join(CAPABILITIES),
    "RS_CIO_LIVE_ANSWERS": "the folder of the answers files; default: smoke-answers",
    "RS_CIO_LIVE_WAIT_S": "seconds that Customer.io may take to show something; default: 120",
    "RS_CIO_LIVE_CAMPAIGN_ID": "an event-triggered campaign of the workspace that may be started with made-up people",
}


@dataclass(frozen=True)
class Switches:
    """What was said. *campaign_id* is None where no campaign may be started."""

    parts: frozenset[str]
    without: frozenset[str]
    answers: Path
    wait_s: float
    campaign_id: int | None


def read_switches(environ: Mapping[str, str] = os.environ) -> Switches:
    """The variables. Raises: ValueError naming the one that is wrong."""
    return Switches(
        parts=_names(environ, "RS_CIO_LIVE", PARTS),
        without=_names(environ, "RS_CIO_LIVE_WITHOUT", tuple(CAPABILITIES)),
        answers=Path(environ.get("RS_CIO_LIVE_ANSWERS") or "smoke-answers"),
        wait_s=float(environ.get("RS_CIO_LIVE_WAIT_S") or 120),
        campaign_id=int(environ["RS_CIO_LIVE_CAMPAIGN_ID"]) if environ.get("RS_CIO_LIVE_CAMPAIGN_ID") else None,
    )


def _names(environ: Mapping[str, str], variable: str, allowed: tuple[str, ...]) -> frozenset[str]:
    names = frozenset(name.strip() for name in environ.get(variable, "").split(",") if name.strip())
    if unknown := sorted(names - set(allowed)):
        raise ValueError(f"{variable}: {unknown[0]!r} is not known; allowed: {', '.join(allowed)}")
    return names
