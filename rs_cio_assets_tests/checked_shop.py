"""A small shop for the checks of segments, suppression and canaries: plain tables as views, rows staged and delivered by hand.

People and what they did stand in the warehouse `LONG_AGO`, and were delivered then, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from dagster import (
    AssetCheckEvaluation,
    AssetChecksDefinition,
    AssetSelection,
    DagsterInstance,
    Definitions,
    define_asset_job,
    in_process_executor,
)

from rs_cio_assets.checks.whereabouts import Around
from rs_cio_assets.contract import Contract, Feed, Journey, Segment, load_contract
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.delivery import deliver_day
from rs_cio_assets.resources import resources_for
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.store import LocalStore
from rs_cio_assets.sync import QUIET, failures
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets_tests.customerio_clients import settings_of
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.staging import feed_of, stage

SCHEMA = "parity"
NOW = datetime.now(UTC).replace(microsecond=0)
LONG_AGO = NOW - timedelta(days=5)
TYPES = {
    "string": "VARCHAR(64)",
    "integer": "BIGINT",
    "timestamp": "TIMESTAMP",
    "boolean": "BOOLEAN",
    "decimal": "NUMERIC(12, 2)",
}


def _feed(name: str, kind: str, columns: Mapping[str, Mapping[str, Any]], **fields: Any) -> Feed:
    return feed_of(kind, columns, name=name, view=f"{SCHEMA}.{name}", **fields)


KEY = {"type": "string", "required": True}
FOLK = _feed("folk", "people", {"orders_count": {"type": "integer"}, "born_at": {"type": "timestamp"}})
CHECKOUTS = _feed(
    "checkout_started",
    "event",
    {
        "checkout_id": KEY,
        "cart_total": {"type": "decimal", "precision": 12, "scale": 2, "minimum": 5},
        "currency": {"type": "string", "pattern": "[A-Z]{3}"},
        "primary_category": {"type": "string", "values": "primary_category"},
        "items_count": {"type": "integer", "maximum": 0},
        "is_gift": {"type": "boolean"},
        "seen_at": {"type": "timestamp"},
    },
    event_name="Checkout Started",
    business_key=("checkout_id",),
)
ORDERS = _feed("order_completed", "event", {"order_id": KEY, "total": {"type": "integer", "maximum": 9, "required": True}})
_MANY = {"enabled": True, "max_rows_per_day": 100, "max_people_share": 1.0}
MERGES = _feed("merges", "merge", {"guest_id": KEY}, merged_column="guest_id", unknown_person="send", **_MANY)
DELETIONS = _feed("deletions", "deletion", {}, **_MANY)
SUPPRESSIONS = _feed(
    "suppressions",
    "suppression",
    {"is_suppressed": {"type": "boolean", "required": True}},
    suppressed_column="is_suppressed",
    **_MANY,
)
FEEDS = (FOLK, CHECKOUTS, ORDERS, MERGES, DELETIONS, SUPPRESSIONS)


def segment(name: str, segment_id: int, sql: str, **fields: Any) -> Segment:
    """A declared segment."""
    return Segment.model_validate({"name": name, "description": "Of a test.", "segment_id": segment_id, "sql": sql, **fields})


LOYAL = segment("loyal", 1, f"SELECT p.customer_id FROM {SCHEMA}.folk AS p WHERE p.orders_count >= 2")
FRESH = segment("fresh", 2, f"SELECT p.customer_id FROM {SCHEMA}.folk AS p WHERE p.born_at > DATEADD('day', -14, :now)")
CARTS = segment(
    "carts",
    3,
    f"""SELECT DISTINCT k.customer_id FROM {SCHEMA}.checkout_started AS k
    LEFT JOIN {SCHEMA}.order_completed AS o
        ON o.customer_id = k.customer_id AND o.occurred_at > DATEADD('day', -30, :now) AND o.occurred_at <= :now
    WHERE k.occurred_at > DATEADD('day', -30, :now) AND k.occurred_at <= :now AND o.order_id IS NULL""",
)
CART_RECOVERY = Journey.model_validate(
    {
        "name": "cart_recovery",
        "description": "Of a test.",
        "sql": "SELECT 1",
        "campaign_id": 7,
        "feed": "checkout_started",
        "starts_within_hours": 30,
        "audience": "carts",
        "never_sql": f"""SELECT o.customer_id FROM {SCHEMA}.order_completed AS o
        WHERE o.occurred_at > DATEADD('day', -30, :now) AND o.occurred_at <= :now""",
    }
)
CONTRACT = Contract(workspace=load_contract().workspace, feeds=FEEDS, segments=(LOYAL, FRESH, CARTS), journeys=(CART_RECOVERY,))
CONDITIONS: Mapping[str, Any] = {
    "loyal": {"attribute": {"field": "orders_count", "operator": "gte", "value": 2}},
    "carts": {
        "and": [
            {"event": {"name": "Checkout Started", "within_days": 30}},
            {"not": {"event": {"name": "Order Completed", "within_days": 30}}},
        ]
    },
}


def who(number: int) -> str:
    """A customer's identifier."""
    return f"C{number:07d}"


def person(number: int, **changes: Any) -> dict[str, Any]:
    """A row of folk: loyal, born long ago."""
    usual = {"customer_id": who(number), "updated_at": LONG_AGO, "loaded_at": LONG_AGO, "orders_count": 2, "born_at": LONG_AGO}
    return {**usual, **changes}


def row(number: int, **changes: Any) -> dict[str, Any]:
    """A row of any other feed, with the keys of all of them."""
    times = dict.fromkeys(("occurred_at", "updated_at", "loaded_at"), LONG_AGO)
    return {"customer_id": who(number), **times, "order_id": f"O{number}", "checkout_id": f"K{number}", "total": 9, **changes}


def create_tables(settings: Settings) -> None:
    """Empty tables in the place of views."""
    statements = [f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE", f"CREATE SCHEMA {SCHEMA}"]
    for feed in FEEDS:
        columns = ", ".join(f"{name} {TYPES[column.type.value]}" for name, column in feed.columns.items())
        statements.append(f"CREATE TABLE {feed.view} ({columns})")
    run_sql(settings, *statements)


@dataclass(frozen=True)
class Checked:
    """What a run of some checks said: evaluations by name, and the failures of steps in words."""

    checks: Mapping[str, AssetCheckEvaluation]
    failures: Sequence[str]

    def numbers(self, name: str) -> dict[str, Any]:
        """The metadata of a check that are no tables."""
        return {label: value.value for label, value in self.checks[name].metadata.items()}

    def verdict(self, name: str) -> str:
        """good, bad or not ready."""
        check = self.checks[name]
        return "good" if check.passed else "bad" if check.severity.value == "ERROR" else "not ready"

    def text(self, name: str) -> str:
        """A check's description."""
        return self.checks[name].description or ""


@dataclass
class Shop:
    """The warehouse's tables, the store, and the workspace of one test."""

    settings: Settings
    scratch: Path
    contract: Contract = CONTRACT
    store: LocalStore = field(init=False)

    def __post_init__(self) -> None:
        self.store = LocalStore(Path(self.settings.store))

    def empty(self) -> None:
        """No row in any table."""
        self._write(*((f"DELETE FROM {feed.view}", ()) for feed in FEEDS))

    def load(self, feed: Feed, *rows: Mapping[str, Any]) -> None:
        """Rows reach the warehouse."""
        marks = f"({', '.join(['%s'] * len(feed.columns))})"
        values = [_naive(row.get(name)) for row in rows for name in feed.columns]
        self._write((f"INSERT INTO {feed.view} VALUES {', '.join([marks] * len(rows))}", values))

    def deliver(self, feed: Feed, *rows: Mapping[str, Any], at: datetime | None = None, read_at: datetime | None = None) -> None:
        """Rows of one day, read at *read_at*, are delivered and acknowledged *at* (default: when the last happened)."""
        at = at or max(row[feed.time_column] for row in rows)
        day = rows[0][feed.time_column].date().isoformat()
        manifest = stage(self.store, feed, day, rows, self.scratch, read_at=read_at or at)
        with TrackClient(self.settings.customerio) as track:
            deliver_day(
                feed,
                self.contract,
                manifest,
                self.store,
                track,
                run_id="11111111",
                now=lambda: at,
                scratch=self.scratch,
                concurrency=1,
            )

    def have(self, feed: Feed, *rows: Mapping[str, Any]) -> None:
        """Rows that reached the warehouse and Customer.io long ago."""
        self.load(feed, *rows)
        self.deliver(feed, *rows)

    def control(self, method: str, path: str, body: Any = None) -> None:
        """A word to the workspace itself, under /sandbox."""
        httpx.request(method, f"{self.settings.customerio.app_url}/sandbox/{path}", json=body).raise_for_status()

    def make_segments(self, *names: str) -> None:
        """Segments as Customer.io's pages would make them."""
        for declared in self.contract.segments:
            if declared.name in names:
                body = {"name": declared.name, "condition": CONDITIONS[declared.name]}
                self.control("PUT", f"segments/{declared.segment_id}", body)

    def send(self, *operations: Mapping[str, Any]) -> None:
        """What another source sends."""
        with CustomerioHttp(self.settings.customerio.track_url) as cio:
            cio.send(*({"type": "person", **operation} for operation in operations))

    def around(self, warehouse: Warehouse | None = None) -> Around:
        """What an engine works with, at NOW."""
        folder = self.scratch / "around"
        folder.mkdir(exist_ok=True)
        return Around(self.contract, warehouse or Warehouse(self.settings.redshift), self.store, folder, NOW)

    def run(self, checks: Iterable[AssetChecksDefinition], config: Mapping[str, Any] | None = None) -> Checked:
        """Run checks through Dagster; *config* by `<feed>_<check>`."""
        checks = list(checks)
        defs = Definitions(
            asset_checks=checks,
            jobs=[define_asset_job("tested", selection=AssetSelection.checks(*checks))],
            resources=resources_for(self.settings),
            executor=in_process_executor,
        )
        ops = {f"customerio__feeds__{name}": {"config": values} for name, values in (config or {}).items()}
        with DagsterInstance.ephemeral() as instance:
            result = defs.resolve_job_def("tested").execute_in_process(
                instance=instance, raise_on_error=False, run_config={**QUIET, "ops": ops}
            )
            shown = "\n".join(str(record) for record in instance.all_logs(result.run_id))
        assert "C000000" not in shown, "a person is shown"
        return Checked({e.check_name: e for e in result.get_asset_check_evaluations()}, list(failures(result)))

    def _write(self, *statements: tuple[str, Sequence[Any]]) -> None:
        with Warehouse(self.settings.redshift).session() as session:
            for statement, values in statements:
                session.run(statement, values)
            session.commit()


@contextmanager
def open_shop(warehouse_port: int, scratch: Path, contract: Contract = CONTRACT) -> Iterator[Shop]:
    """An empty workspace without a rate limit, an empty store, and empty tables once `create_tables` has made them."""
    with CustomerioStandIn(scratch / "customerio", app_requests_per_s=None) as stand_in:
        environ = {
            "REDSHIFT_PORT": str(warehouse_port),
            "CUSTOMERIO_TRACK_URL": stand_in.url,
            "CUSTOMERIO_APP_URL": stand_in.url,
            "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000",
            "RS_CIO_STORE": str(scratch / "store"),
        }
        yield Shop(load_settings(environ), scratch, contract)


def members(*ids: str, without_id: int = 0, page: int = 2) -> AppClient:
    """An App API that gives these members, *page* a page."""
    found: list[dict[str, str]] = [{"id": one, "cio_id": f"c{n}"} for n, one in enumerate(ids)]
    found += [{"email": f"{n}@example.com"} for n in range(without_id)]

    def handle(request: httpx.Request) -> httpx.Response:
        start = int(request.url.params.get("start", 0))
        following = str(start + page) if start + page < len(found) else ""
        return httpx.Response(200, json={"identifiers": found[start : start + page], "ids": [], "next": following})

    return AppClient(settings_of(), transport=httpx.MockTransport(handle))


def _naive(value: Any) -> Any:
    return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
