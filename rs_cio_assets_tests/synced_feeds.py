"""Three feeds delivered to the Customer.io stand-in, and the read-back check over them: what its tests share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rs_cio_assets.checks import build_read_back_check
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import deliver_day
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore, load_manifest
from rs_cio_assets.sync import CheckOutcome, JobOutcome
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.pipeline import open_pipeline
from rs_cio_assets_tests.running_checks import ChecksRun, run_checks
from rs_cio_assets_tests.staging import contract_of, feed_of, stage

FOLK = feed_of(
    "people",
    {
        "tier": {"type": "string", "required": True},
        "nickname": {"type": "string"},
        "worth": {"type": "decimal", "precision": 14, "scale": 2},
        "orders_count": {"type": "integer"},
        "is_guest": {"type": "boolean"},
        "seen_at": {"type": "timestamp", "on_null": "clear"},
        "born_on": {"type": "date"},
        "share": {"type": "float"},
        "likes": {"type": "json"},
    },
    name="folk",
    view="cio_export.folk",
)
ORDERS = feed_of(
    "event",
    {
        "order_id": {"type": "string", "required": True},
        "total": {"type": "decimal", "precision": 12, "scale": 2},
        "likes": {"type": "json"},
    },
    name="orders",
    view="cio_export.orders",
)
PAUSES = feed_of(
    "event",
    {"subscription_id": {"type": "string", "required": True}},
    name="pauses",
    view="cio_export.pauses",
    event_name="Subscription Paused",
    business_key=("subscription_id", "occurred_at"),
)
CONTRACT = contract_of(FOLK, ORDERS, PAUSES)
YESTERDAY = datetime.now(UTC).replace(hour=12, minute=30, second=15, microsecond=999_999) - timedelta(days=1)
DAY = YESTERDAY.date().isoformat()
LIKES = ['{"a": [1, 2.5, true], "b": null}', '"1"', "null", '""', '"O\'Neill"', "[true]"]
ROWS: dict[str, list[dict[str, Any]]] = {
    "folk": [
        {
            "customer_id": f"C000000{n}",
            "updated_at": YESTERDAY,
            "loaded_at": YESTERDAY,
            "tier": "gold",
            "nickname": ["Zoë", "", None, " x ", "1", "true"][n],
            "worth": Decimal("410.90"),
            "orders_count": n,
            "is_guest": n % 2 == 0,
            "seen_at": [YESTERDAY, None, datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)][n % 3],
            "born_on": datetime(1960 + 5 * n, 2, 28, tzinfo=UTC).date(),
            "share": [0.1, 1e22, -0.0, 5e-324, 1.0, None][n],
            "likes": likes,
        }
        for n, likes in enumerate(LIKES)
    ],
    "orders": [
        {
            "customer_id": f"C000000{n % 2}",
            "occurred_at": YESTERDAY - timedelta(minutes=n),
            "loaded_at": YESTERDAY,
            "order_id": f"O{n}",
            "total": Decimal("9.90"),
            "likes": likes,
        }
        for n, likes in enumerate(LIKES)
    ],
    # Paused twice: two events of one subscription, told apart by their time alone.
    "pauses": [
        {
            "customer_id": "C0000003",
            "occurred_at": YESTERDAY - timedelta(hours=n),
            "loaded_at": YESTERDAY,
            "subscription_id": "S1",
        }
        for n in range(2)
    ],
}


class Answers:
    """A layer around the stand-in that answers for its App API: *scripted* is by the path's last word."""

    def __init__(self) -> None:
        self.scripted: dict[str, Any] = {}

    def around(self, inner: ASGIApp) -> ASGIApp:
        """The application behind this layer."""

        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            word = scope["path"].rpartition("/")[2] if scope["type"] == "http" else ""
            answer = JSONResponse(self.scripted[word]) if word in self.scripted else inner
            await answer(scope, receive, send)

        return layer


class Synced:
    """Three feeds in a store and in the Customer.io stand-in, and the check over them."""

    def __init__(self, settings: Settings, scratch: Path, answers: Answers) -> None:
        self.settings = settings
        self.answers = answers
        self.store = LocalStore(scratch / "store")
        self.shown = ""
        self._scratch = scratch

    def stage(self, rows: Mapping[str, list[dict[str, Any]]] = ROWS) -> None:
        """Leave the export of yesterday for the feeds in *rows*."""
        for name, found in rows.items():
            stage(self.store, CONTRACT.feed(name), DAY, found, self._scratch, read_at=datetime.now(UTC) - timedelta(minutes=5))

    def deliver(self) -> None:
        """Send what is staged, as the feeds' assets do."""
        for feed in CONTRACT.enabled_feeds:
            manifest = load_manifest(self.store, feed.name, DAY)
            with TrackClient(self.settings.customerio) as track:
                assert manifest
                report = deliver_day(
                    feed,
                    CONTRACT,
                    manifest,
                    self.store,
                    track,
                    run_id="11111111-test",
                    now=lambda: datetime.now(UTC),
                    scratch=self._scratch,
                    concurrency=2,
                )
            assert report.delivered == len(ROWS[feed.name]), report.rejected_by_reason

    def send(self, *operations: dict[str, Any]) -> None:
        """What somebody else sends to the workspace through the Track API."""
        with CustomerioHttp(self.settings.customerio.track_url) as cio:
            cio.send(*({"type": "person", **operation} for operation in operations))

    def check(self, feed: str, **config: Any) -> ChecksRun:
        """One feed's check alone, with its config."""
        return run_checks(self.settings, [build_read_back_check(CONTRACT.feed(feed), CONTRACT)], config)

    def run(self, settings: Settings | None = None) -> JobOutcome:
        """One run of the job read_back; everything that it showed is kept."""
        with open_pipeline(settings or self.settings, CONTRACT) as pipeline:
            outcome = pipeline.read_back()
            self.shown = "\n".join(str(record) for record in pipeline.instance.all_logs(outcome.run_id)) + str(outcome)
        return outcome

    def checks(self) -> dict[str, CheckOutcome]:
        """The check of each feed; none of them may show whom it looked at."""
        outcome = self.run()
        assert outcome.is_success, outcome.failures
        assert not re.search("C000000[0-9]|Zoë", self.shown)
        return {check.asset.rpartition("/")[2]: check for check in outcome.checks}


@contextmanager
def open_synced(scratch: Path) -> Iterator[Synced]:
    """An empty store and an empty workspace, read at any pace: the pace has tests of its own."""
    answers = Answers()
    with CustomerioStandIn(scratch / "customerio", app_requests_per_s=None, wrap=answers.around) as stand_in:
        urls = {"CUSTOMERIO_TRACK_URL": stand_in.url, "CUSTOMERIO_APP_URL": stand_in.url}
        others = {"RS_CIO_STORE": str(scratch / "store"), "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000"}
        yield Synced(load_settings(urls | others), scratch, answers)


def of(person: str, action: str, **more: Any) -> dict[str, Any]:
    """An operation on one person."""
    return {"action": action, "identifiers": {"id": person}, **more}


def event(order_id: str, **more: Any) -> dict[str, Any]:
    """An Order Completed of the first customer, as it was delivered but for *more*."""
    row = next(row for row in ROWS["orders"] if row["order_id"] == order_id)
    attributes = {"order_id": order_id, "total": 9.9, "likes": json.loads(row["likes"]), **more.pop("attributes", {})}
    usual = {"name": "Order Completed", "timestamp": int(row["occurred_at"].timestamp())}
    return of(row["customer_id"], "event", attributes=attributes, **{**usual, **more})
