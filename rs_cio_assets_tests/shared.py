"""Where the material that is no part of the product lies, if this machine has it."""

from __future__ import annotations

import os
from pathlib import Path

_CANDIDATE = Path(os.environ.get("RS_CIO_SHARED", Path(__file__).parents[2] / "shared"))

SHARED: Path | None = _CANDIDATE if _CANDIDATE.is_dir() else None
SKIP_REASON = "the shared reference folder is not on this machine (set RS_CIO_SHARED to it)"
