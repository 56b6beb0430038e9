"""The App API's rate limit: one bucket for the whole workspace, whoever asks.

Source: customerio-api.md, section 3: 10 requests a second, writes included; a 429 carries Retry-After.
"""

from __future__ import annotations

from time import monotonic

APP_REQUESTS_PER_S = 10.0


class Bucket:
    """Takes *requests_per_s* requests a second and as many at once; None takes any number. In real time: clients wait in it."""

    def __init__(self, requests_per_s: float | None) -> None:
        self._requests_per_s = requests_per_s
        self._left, self._filled_at = requests_per_s or 0.0, monotonic()

    def has_taken(self) -> bool:
        """True when one more request is within the limit; it is then counted."""
        if self._requests_per_s is None:
            return True
        now = monotonic()
        self._left = min(self._requests_per_s, self._left + (now - self._filled_at) * self._requests_per_s)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
