"""A sandbox in which the demo's steps were taken at a fixed moment: history synced, journeys running, today delivered so far.

It is built once and copied for each test that plants something: the database by a template, workspace and store as files.
"""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import redshift_connector
import time_machine
from dagster import DagsterInstance
from rich.console import Console

from rs_cio_assets.contract import Contract
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.demo.run import SEED, Demo, DemoOptions
from rs_cio_assets.demo.sandbox import Ports, Sandbox
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets.sync import JobOutcome

NOW = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)
MOST_DAYS = 120  # of partitions: Dagster lists them again and again
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Running:
    """A running sandbox: settings that reach it, and its clock."""

    settings: Settings
    clock: time_machine.Traveller

    def move_to(self, moment: datetime) -> None:
        """Let the time of everything in this process be *moment*; it goes on from there."""
        self.clock.move_to(moment, tick=True)


@dataclass(frozen=True)
class World:
    """Folders and a database of a sandbox that stood still at *now*."""

    redshift: RedshiftStandIn
    database: str
    home: Path
    now: datetime
    outcomes: tuple[JobOutcome, ...]

    @property
    def later(self) -> datetime:
        """When copies of it go on: what was delivered has arrived by then."""
        return self.now + timedelta(hours=1)

    @contextmanager
    def copy(self, folder: Path, *, environ: dict[str, str] | None = None) -> Iterator[Running]:
        """The same sandbox once more, an hour later."""
        database = f"copy_{next(_numbers)}"
        _copy_database(self.redshift.port, self.database, database)
        shutil.copytree(self.home, folder, dirs_exist_ok=True)
        with running(self.redshift.port, database, folder, self.later, environ) as copy:
            yield copy


@contextmanager
def running(
    redshift_port: int, database: str, home: Path, now: datetime, environ: dict[str, str] | None = None
) -> Iterator[Running]:
    """A Customer.io stand-in over *home*, time at *now*, and settings that reach both stand-ins. The App API has no pace."""
    unpaced = Pace(10_000)
    with (
        time_machine.travel(now) as clock,
        mock.patch("rs_cio_assets.customerio.app._PACE", unpaced),
        CustomerioStandIn(home / "customerio", app_requests_per_s=None) as customerio,
    ):
        settings = load_settings(
            {
                "REDSHIFT_PORT": str(redshift_port),
                "REDSHIFT_DATABASE": database,
                "CUSTOMERIO_TRACK_URL": customerio.url,
                "CUSTOMERIO_APP_URL": customerio.url,
                "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000",
                "RS_CIO_STORE": str(home / "store"),
                "RS_CIO_START_DATE": (now.date() - timedelta(days=MOST_DAYS)).isoformat(),
                **(environ or {}),
            }
        )
        yield Running(settings, clock)


def build_world(
    redshift: RedshiftStandIn,
    home: Path,
    *,
    customers: int,
    days: int,
    age_days: int,
    seed: int = SEED,
    contract: Contract | None = None,
    now: datetime = NOW,
) -> World:
    """Take the demo's steps in a new database, with *contract* in place of the shipped one."""
    database = f"world_{next(_numbers)}"
    _copy_database(redshift.port, "shop", database)
    yesterday = now.date() - timedelta(days=1)
    with running(redshift.port, database, home, now) as sandbox, DagsterInstance.ephemeral() as instance:
        options = DemoOptions(
            home=home,
            ports=Ports(1, 2, 3, 4),
            first_day=yesterday - timedelta(days=days - 1),
            last_day=yesterday,
            customers=customers,
            shop_age_days=age_days,
            seed=seed,
        )
        demo = Demo(options, Sandbox(sandbox.settings, instance, "", ()), Console(file=io.StringIO()), contract)
        outcomes = tuple(demo.run())
    return World(redshift, database, home, now, outcomes)


def _copy_database(port: int, template: str, name: str) -> None:
    """CREATE DATABASE ... TEMPLATE, with the template's search path."""
    with redshift_connector.connect(
        host="127.0.0.1", port=port, database="postgres", user="cio_sync", password="sandbox", ssl=False, application_name="tests"
    ) as connection:
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        cursor.execute(f"ALTER DATABASE {name} SET search_path TO public, redshift, pg_catalog")
