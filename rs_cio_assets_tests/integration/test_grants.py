"""`rs-cio grants`: with the script a restricted user does everything that the product does, and without any one grant it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.contract import load_contract
from rs_cio_assets.contract.tables import tables_of
from rs_cio_assets.doctor import Patient, examine, grant_statements, script
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.settings import VARIABLES, Settings, load_settings
from rs_cio_assets.store import open_store
from rs_cio_assets.warehouse import create_view, keep_answer, stage_days
from rs_cio_assets_tests.ready_world import USER, ReadyWorld, ready_world, statements_of

CONTRACT = load_contract()
NOW = datetime(2026, 11, 24, tzinfo=UTC)
IN_WAREHOUSE = ("view", "delivery log", "unload", "tables")
OWNER, READER = "owner_of_a_test", "reader_of_a_test"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReadyWorld]:
    """A warehouse in which USER owns the views, and READER reads those of OWNER in a second database schema."""
    with ready_world(tmp_path_factory.mktemp("world")) as world:
        yield world


def problems(settings: Settings, folder: Path) -> list[str]:
    """Do what the product does in the warehouse, as the user of *settings*; what of it does not work."""
    resources = resources_for(settings)
    warehouse, found = resources["warehouse"], []
    store = open_store(str(folder / "store"))
    lines = examine(Patient(settings, lambda: CONTRACT, warehouse, store), only=IN_WAREHOUSE)
    found += [f"{line.name}: {line.text}" for line in lines if line.status != "ok"]
    for feed in CONTRACT.enabled_feeds:
        with warehouse.session() as session:
            try:
                if settings.redshift.views == "create":
                    create_view(session, feed)
                stage_days(session, feed, ["2026-11-20"], store, now=lambda: NOW)
            except RsCioError as error:
                found.append(str(error))
    times, schema = {"now": NOW, "since": datetime(2026, 11, 1, tzinfo=UTC)}, pa.schema([("customer_id", pa.string())])
    with warehouse.session() as session:
        for declared in (*CONTRACT.segments, *CONTRACT.journeys, *CONTRACT.logic):
            try:
                keep_answer(session, declared.sql, times, schema, folder / "answer.parquet")
            except RsCioError as error:
                found.append(str(error))
    return found
