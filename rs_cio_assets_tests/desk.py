"""An operator's terminal for tests: the command line over a contract, a store and a workspace of the test's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rs_cio_assets.cli import main, rs_cio
from rs_cio_assets.contract import SHIPPED, Contract, load_contract
from rs_cio_assets.customerio import TrackClient
from rs_cio_assets.delivery import deliver_day
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets_tests.pipeline import write_dagster_yaml
from rs_cio_assets_tests.staging import stage

AT = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=5) - timedelta(days=5)
DAY = AT.date().isoformat()
FRESH = datetime.now(UTC) - timedelta(minutes=1)
TODAY = FRESH.date().isoformat()
USUAL = """
description: A feed of a test.
identifier: customer_id
loaded_at: loaded_at
freshness_hours: 30
max_rejected_share: 1
"""
FOLK = f"""
kind: people
view: cli_export.folk
time_column: updated_at
{USUAL}
columns:
  customer_id: {{type: string, required: true, description: Who.}}
  updated_at: {{type: timestamp, required: true, description: When.}}
  loaded_at: {{type: timestamp, required: true, description: Loaded.}}
  tier: {{type: string, values: vip_tier, description: Tier.}}
"""
ORDERS = f"""
kind: event
view: cli_export.orders
event_name: Order Completed
business_key: [order_id, part]
time_column: occurred_at
{USUAL}
columns:
  customer_id: {{type: string, required: true, description: Who.}}
  occurred_at: {{type: timestamp, required: true, description: When.}}
  loaded_at: {{type: timestamp, required: true, description: Loaded.}}
  order_id: {{type: string, required: true, description: Order.}}
  part: {{type: integer, required: true, description: Part.}}
  total: {{type: decimal, precision: 12, scale: 2, minimum: 0, description: Paid.}}
"""
ERASURES = f"""
kind: deletion
enabled: true
view: cli_export.erasures
time_column: asked_at
max_rows_per_day: 10
{USUAL}
columns:
  customer_id: {{type: string, required: true, description: Who.}}
  asked_at: {{type: timestamp, required: true, description: When.}}
  loaded_at: {{type: timestamp, required: true, description: Loaded.}}
"""
FOLK_SQL = """SELECT 'C0000001'::VARCHAR(32) AS customer_id, TIMESTAMP '{day} 12:00:00' AS updated_at,
TIMESTAMP '{day} 12:00:00' AS loaded_at, 'gold'::VARCHAR(8) AS tier"""


def exit_code(*words: str) -> int:
    """Run `rs-cio` with these words through its entry point, which turns our errors into an exit code."""
    try:
        main(words)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def person(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A good row of folk."""
    return {"customer_id": f"C{number:07d}", "updated_at": AT, "loaded_at": AT, "tier": "gold", **changes}


def order(number: int, **changes: Any) -> dict[str, Any]:
    """A good row of orders, of customer C0000001."""
    row = {
        "customer_id": "C0000001",
        "occurred_at": AT,
        "loaded_at": AT,
        "order_id": f"O{number}",
        "part": 1,
        "total": Decimal("9.90"),
    }
    return {**row, **changes}


class Refusing:
    """A layer around the stand-in that answers each batch as if Customer.io had refused its first operation, while *is_on*."""

    def __init__(self) -> None:
        self.is_on = False

    def around(self, inner: ASGIApp) -> ASGIApp:
        """The application behind this layer."""
        error = {"batch_index": 0, "reason": "invalid", "field": "attributes.tier", "message": "tier is not welcome"}
        answer = JSONResponse({"errors": [error]}, 207)

        async def layer(scope: Scope, receive: Receive, send: Send) -> None:
            is_batch = scope["type"] == "http" and scope["path"].endswith("/batch")
            await (answer if self.is_on and is_batch else inner)(scope, receive, send)

        return layer


@dataclass(frozen=True)
class Desk:
    """An operator's terminal: the command line over a store and a workspace of the test's own."""

    settings: Settings
    contract: Contract
    store: LocalStore
    scratch: Path
    refusing: Refusing

    def type(self, *words: str) -> Result:
        """Run `rs-cio` with these words; errors of ours as `cli.main` turns them into an exit code."""
        result = CliRunner().invoke(rs_cio, words)
        if result.exception and not isinstance(result.exception, SystemExit):
            assert isinstance(result.exception, RsCioError), result.exc_info
        return result

    def json(self, *words: str) -> dict[str, Any]:
        """What the command prints with --json."""
        return json.loads(self.type(*words, "--json").stdout)

    def stage(self, feed: str, rows: Sequence[Mapping[str, Any]], day: str = DAY) -> None:
        """Leave rows as the export of *day* does."""
        stage(self.store, self.contract.feed(feed), day, rows, self.scratch, read_at=datetime.now(UTC))

    def deliver(self, feed: str, rows: Sequence[Mapping[str, Any]], day: str = DAY) -> None:
        """Stage and deliver rows as a run does."""
        with TrackClient(self.settings.customerio) as track:
            found = self.contract.feed(feed)
            manifest = stage(self.store, found, day, rows, self.scratch, read_at=datetime.now(UTC))
            parts = {"run_id": "11111111", "now": lambda: datetime.now(UTC), "scratch": self.scratch, "concurrency": 1}
            deliver_day(found, self.contract, manifest, self.store, track, **parts)

    def sent(self) -> dict[str, int]:
        """How many people and events the workspace holds."""
        counts = httpx.get(f"{self.settings.customerio.app_url}/sandbox/counts").json()
        return {name: counts[name] for name in ("people", "events")}

    def kept(self, prefix: str = "") -> list[str]:
        """Objects of the store that are not staged rows."""
        return [key for key in self.store.list(prefix) if not key.startswith("staged/")]

    def campaign(self, number: int, **trigger: Any) -> None:
        """A running campaign."""
        url = f"{self.settings.customerio.app_url}/sandbox/campaigns/{number}"
        httpx.put(url, json={"name": "Thank [you]", "state": "running", **trigger}).raise_for_status()


@contextmanager
def open_desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redshift: RedshiftStandIn) -> Iterator[Desk]:
    """Three feeds, an empty store, an empty workspace, and the environment that an operator has."""
    folder = tmp_path / "contract"
    (folder / "feeds").mkdir(parents=True)
    shutil.copy(SHIPPED / "workspace.yaml", folder)
    for name, text in (("folk", FOLK), ("orders", ORDERS), ("erasures", ERASURES)):
        (folder / "feeds" / f"{name}.yaml").write_text(text)
        (folder / "feeds" / f"{name}.sql").write_text(FOLK_SQL.format(day=DAY) if name == "folk" else "SELECT 1")
    write_dagster_yaml(tmp_path / "dagster")
    refusing = Refusing()
    with CustomerioStandIn(tmp_path / "customerio", app_requests_per_s=None, wrap=refusing.around) as stand_in:
        environ = {
            "RS_CIO_CONTRACT": str(folder),
            "RS_CIO_STORE": str(tmp_path / "store"),
            "REDSHIFT_PORT": str(redshift.port),
            "CUSTOMERIO_TRACK_URL": stand_in.url,
            "CUSTOMERIO_APP_URL": stand_in.url,
            "DAGSTER_HOME": str(tmp_path / "dagster"),
        }
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        yield Desk(load_settings(environ), load_contract(folder), LocalStore(tmp_path / "store"), tmp_path, refusing)
