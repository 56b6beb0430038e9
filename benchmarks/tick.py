"""`python -m benchmarks.tick`: what one look of the sensor `late_data` costs, with many feeds and years of delivered days.

The warehouse is the Redshift stand-in, read with the unmodified driver; Dagster's records are in memory (SQLite). Each feed has a
thousand rows on each of the last 40 days, and every day of three years was delivered twice. Measured in steady state and with 20
stale days.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
import redshift_connector
from dagster import AssetMaterialization, DagsterInstance

from rs_cio_assets.assets import feed_key
from rs_cio_assets.assets.deliveries import source_metadata
from rs_cio_assets.automation.late_data import look_for_stale_days
from rs_cio_assets.automation.stale_days import days_before
from rs_cio_assets.contract import Contract, Feed, load_contract
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store import Fingerprint, Manifest
from rs_cio_assets.warehouse import Warehouse, read_fingerprints

FEEDS, YEARS, WINDOW, ROWS_PER_DAY, DELIVERIES, LOOKS, STALE = 12, 3, 35, 1_000, 2, 5, 20
_TYPES = {
    "string": "VARCHAR(64)",
    "integer": "BIGINT",
    "decimal": "NUMERIC(12,2)",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMP",
}
_VALUES = {"string": "'v' || n", "integer": "n", "decimal": "n / 7.0", "boolean": "n % 2 = 0"}


def main() -> None:
    """Print the seconds of a look; with --json, write them to a file, too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tick", description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="Write the figures to this file.")
    options = parser.parse_args()
    shipped = load_contract()
    feeds = tuple(
        shipped.feed("order_completed").model_copy(
            update={"name": f"feed_{n}", "view": f"tick.feed_{n}", "event_name": f"Order Completed {n}"}
        )
        for n in range(FEEDS)
    )
    contract = Contract(workspace=shipped.workspace, feeds=feeds)
    today = datetime.now(UTC).date()
    with tempfile.TemporaryDirectory() as folder, RedshiftStandIn(Path(folder) / "redshift") as stand_in:
        settings = load_settings({"REDSHIFT_PORT": str(stand_in.port)})
        _fill(stand_in.port, feeds, today)
        warehouse = Warehouse(settings.redshift)
        with DagsterInstance.ephemeral() as instance:
            _deliver(instance, warehouse, feeds, today)
            figures = {"steady_s": _look(contract, warehouse, instance, today, stale=0)}
            since = today - timedelta(days=STALE)
            _run(stand_in.port, f"UPDATE {feeds[0].view} SET hero_sku = 'x' WHERE occurred_at >= '{since}'")  # noqa: S608
            figures["stale_s"] = _look(contract, warehouse, instance, today, stale=STALE)
    click.echo(
        f"{FEEDS} feeds, {WINDOW} days of {ROWS_PER_DAY:,} rows, {YEARS} years of days delivered {DELIVERIES} times: "
        f"{figures['steady_s']:.2f} s a look with nothing stale, {figures['stale_s']:.2f} s with {STALE} stale days"
    )
    if options.json:
        options.json.write_text(json.dumps(figures))


def _look(contract: Contract, warehouse: Warehouse, instance: DagsterInstance, today: date, *, stale: int) -> float:
    """The median of some looks. Raises: AssertionError when one finds other than *stale* days."""
    seconds = []
    for _ in range(LOOKS):
        begun = time.monotonic()
        days = days_before(today, WINDOW, today - timedelta(days=365 * YEARS))
        look = look_for_stale_days(contract, warehouse, instance, days, datetime.now(UTC))
        seconds.append(time.monotonic() - begun)
        if len(look.requested) != stale or look.unread:
            raise AssertionError(look.sentence())
    return statistics.median(seconds)


def _fill(port: int, feeds: tuple[Feed, ...], today: date) -> None:
    statements = ["CREATE SCHEMA tick"]
    for feed in feeds:
        columns = []
        for name, column in feed.columns.items():
            moment = f"TIMESTAMP '{today} 00:00' - INTERVAL '1 second' * (n * {86_400 / ROWS_PER_DAY})"
            value = moment if column.type.value == "timestamp" else _VALUES[column.type.value]
            columns.append(f"CAST({value} AS {_TYPES[column.type.value]}) AS {name}")
        numbers = f"generate_series(1, {ROWS_PER_DAY * 40}) AS s(n)"
        statements.append(f"CREATE TABLE {feed.view} AS SELECT {', '.join(columns)} FROM {numbers}")  # noqa: S608 - our own names
    _run(port, *statements)


def _deliver(instance: DagsterInstance, warehouse: Warehouse, feeds: tuple[Feed, ...], today: date) -> None:
    """Note every day of the years as delivered, as a run does: the window's with what the view holds."""
    all_days = days_before(today, 365 * YEARS, date(2000, 1, 1))
    for feed in feeds:
        with warehouse.session() as session:
            found = read_fingerprints(session, feed, all_days[-WINDOW:])
        columns = tuple((name, column.type.value) for name, column in feed.columns.items())
        for day in list(all_days) * DELIVERIES:
            source = found.get(day, Fingerprint(0, None, "0"))
            manifest = Manifest(feed.name, day, feed.view, source, source.rows, (), columns, datetime.now(UTC))
            said = {"source_fingerprint": source_metadata(manifest), "held": 0}
            instance.report_runless_asset_event(AssetMaterialization(feed_key(feed.name), partition=day, metadata=said))


def _run(port: int, *statements: str) -> None:
    redshift = load_settings({"REDSHIFT_PORT": str(port)}).redshift
    with redshift_connector.connect(
        host=redshift.host,
        port=port,
        database=redshift.database,
        user=redshift.user,
        password=redshift.password.get_secret_value() if redshift.password else "",
        ssl=False,
        application_name="benchmark",
    ) as connection:
        for statement in statements:
            connection.cursor().execute(statement)
        connection.commit()


if __name__ == "__main__":
    main()
