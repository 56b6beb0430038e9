"""The Customer.io stand-in as a marketer and a clock see it: campaigns, segments, faults and time, over plain HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets_tests.customerio_http import CustomerioHttp

NOW = 1_772_013_598  # 2026-02-25, 09:59:58 UTC
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
VIP = {"attribute": {"field": "vip", "operator": "eq", "value": "true"}}


def ulid(number: int) -> str:
    """An event's id."""
    return f"01BX5ZZKBKACTAV9WEVG{number:06d}"


class Desk(CustomerioHttp):
    """One workspace whose time stands still until it is advanced. A context manager."""

    @classmethod
    @contextmanager
    def over(cls, folder: Path) -> Iterator[Self]:
        """A stand-in over *folder* for as long as the block lasts; the same folder again is a restart."""
        with (
            CustomerioStandIn(folder, clock=lambda: float(NOW), app_requests_per_s=None) as stand_in,
            cls(stand_in.url) as desk,
        ):
            yield desk

    def campaign(self, campaign_id: int, **members: Any) -> None:
        """Save a campaign, running unless it is said otherwise."""
        self._put(f"/sandbox/campaigns/{campaign_id}", {"name": f"Campaign {campaign_id}", "state": "running", **members})

    def segment(self, segment_id: int, condition: Any, **members: Any) -> None:
        """Save a data-driven segment."""
        self._put(f"/sandbox/segments/{segment_id}", {"name": f"Segment {segment_id}", "condition": condition, **members})

    def faults(self, **faults: Any) -> None:
        """Switch these on, and no others."""
        self._put("/sandbox/faults", faults)

    def advance(self, seconds: int) -> None:
        """Move the time on."""
        self.http.post("/sandbox/time", json={"advance_seconds": seconds}).raise_for_status()

    def messages(self, path: str = "/v1/messages", **params: Any) -> list[dict[str, Any]]:
        """A page of messages, newest first."""
        answer = self.app(path, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()["messages"] or []

    def sent_to(self, campaign_id: int) -> list[str]:
        """Ids of the people whom a campaign sent messages to, in the order of sending."""
        found = self.messages(campaign_id=campaign_id, limit=1_000)
        return [message["customer_id"] for message in reversed(found) if "sent" in message["metrics"]]

    def metrics(self, campaign_id: int, start: int = NOW - DAY_S, end: int = NOW + 365 * DAY_S) -> dict[str, int]:
        """The numbers of a campaign's journeys that are not 0, summed over a window."""
        answer = self.app(f"/v1/campaigns/{campaign_id}/journey_metrics", start=start, end=end, resolution="daily")
        assert answer.status_code == 200, answer.text
        sums = {name: sum(series) for name, series in answer.json()["journey_metric"].items()}
        return {name: number for name, number in sums.items() if number}

    def _put(self, path: str, body: Any) -> None:
        answer = self.http.put(path, content=json.dumps(body).encode())
        assert answer.status_code == 200, answer.text
