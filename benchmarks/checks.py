"""What the standing checks cost: seconds and App API requests of each, for 100,000 people and a million events.

`python -m benchmarks.checks`. A shop of thirty days is loaded and delivered into the two stand-ins (processes of their own),
segments and campaigns are made, today is delivered, and then the job `checks` runs as every morning, at the App API's real pace.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click
from dagster import DagsterInstance

from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.sandbox.customerio.retention import make_journeys
from rs_cio_assets.sandbox.processes import ManagedProcess, accepts_connections, answers_http, command_line
from rs_cio_assets.sandbox.shop import advance_shop, ensure_shop
from rs_cio_assets.sandbox.shop.tables import open_tables
from rs_cio_assets.settings import Settings, environment, load_settings
from rs_cio_assets.sync import create_views, days_between, run_checks, sync_days

DAYS = 30
SEED = 7
REDSHIFT_PORT, CUSTOMERIO_PORT = 15_440, 18_090
_MORE_CHECKOUTS = """
INSERT INTO shop.checkouts
SELECT k.checkout_id || '-' || n.number, k.customer_id, k.started_at + n.number * INTERVAL '7 minutes', NULL, k.cart_total,
    k.currency, k.items_count, k.hero_sku, k.loaded_at + n.number * INTERVAL '7 minutes'
FROM shop.checkouts AS k CROSS JOIN (SELECT generate_series(1, %s) AS number) AS n
WHERE k.started_at + n.number * INTERVAL '7 minutes' < %s
"""


def main() -> None:
    """Load, deliver, check, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rs-cio-bench-") as folder, ExitStack() as stack:
        home, today = Path(folder), datetime.now(UTC).date()
        settings = _start(stack, home, today)
        _load(settings, today, options.people, options.events)
        instance = stack.enter_context(DagsterInstance.ephemeral())
        defs = build_definitions(settings)
        _said("views", [create_views(defs, instance)])
        days = days_between(today - timedelta(days=DAYS), today - timedelta(days=1))
        _said("history", list(sync_days(defs, instance, days, reason="bench", days_per_run=DAYS)))
        make_journeys(settings.customerio.app_url)
        advance_shop(settings.redshift, until=datetime.now(UTC), late_orders=0)
        _said("today", list(sync_days(defs, instance, [today.isoformat()], reason="bench")))
        started = time.monotonic()
        outcome = run_checks(defs, instance)
        _said("checks", [outcome])
        _print(outcome.run_id, instance, time.monotonic() - started)


def _start(stack: ExitStack, home: Path, today: date) -> Settings:
    environ = environment(
        {
            "REDSHIFT_PORT": str(REDSHIFT_PORT),
            "CUSTOMERIO_TRACK_URL": f"http://127.0.0.1:{CUSTOMERIO_PORT}",
            "CUSTOMERIO_APP_URL": f"http://127.0.0.1:{CUSTOMERIO_PORT}",
            "RS_CIO_STORE": str(home / "store"),
            "RS_CIO_START_DATE": (today - timedelta(days=DAYS + 1)).isoformat(),
        }
    )
    for name, port in (("redshift", REDSHIFT_PORT), ("customerio", CUSTOMERIO_PORT)):
        command = command_line("sandbox", name, "--port", str(port), "--data", str(home / name))
        process = stack.enter_context(ManagedProcess(name, command, home / f"{name}.log", environ))
        url = f"http://127.0.0.1:{port}/sandbox/counts"
        process.wait_until(lambda p=port, u=url, n=name: accepts_connections(p) if n == "redshift" else answers_http(u))
    return load_settings(environ)


def _load(settings: Settings, today: date, people: int, events: int) -> None:
    """A shop of *people*, whose checkouts are repeated until there are *events* in all."""
    a_year = round(people * 365 / DAYS * 1.3)  # a shop's first month has fewer than its later ones
    ensure_shop(settings.redshift, today=today, customers=a_year, seed=SEED, on_progress=lambda _: None, age_days=DAYS)
    with open_tables(settings.redshift) as tables:
        have = tables.count("checkouts") + tables.count("orders")
        times = max(0, round((events - have) / max(1, tables.count("checkouts"))))
        tables.run(_MORE_CHECKOUTS, (times, datetime.combine(today, datetime.min.time())))
        tables.commit()
        happened = tables.count("checkouts") + tables.count("orders")
        click.echo(f"shop: {tables.count('customers'):,} people, {happened:,} checkouts and orders")


def _said(what: str, outcomes: list) -> None:
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    click.echo(f"{what}: {failures or 'well'}")


def _print(run_id: str, instance: DagsterInstance, seconds: float) -> None:
    started, took, requests, verdicts = {}, {}, {}, {}
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        if event.event_type_value == "STEP_START":
            started[event.step_key] = entry.timestamp
        elif event.event_type_value in {"STEP_SUCCESS", "STEP_FAILURE"}:
            took[event.step_key] = entry.timestamp - started[event.step_key]
            verdicts.setdefault(event.step_key, "did not end")
        elif event.event_type_value == "ASSET_CHECK_EVALUATION":
            found = event.asset_check_evaluation_data
            number = found.metadata.get("App API requests")
            requests[event.step_key] = int(number.value) if number else 0
            verdicts[event.step_key] = "green" if found.passed else (found.description or "")[:60]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1_000_000
    click.echo(f"\n{'check':75} {'seconds':>8} {'requests':>9}  verdict")
    for step in sorted(took, key=lambda key: -took[key]):
        name = step.removeprefix("customerio__feeds__")
        click.echo(f"{name:75} {took[step]:8.1f} {requests.get(step, 0):9,}  {verdicts[step]}")
    click.echo(f"{'all':75} {seconds:8.1f} {sum(requests.values()):9,}  peak RSS {peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
