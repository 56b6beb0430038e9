"""What docs/deploy.md says of a disaster: the store is gone, or Dagster's records are; what a sync of all days makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rs_cio_assets.assets import export_key, feed_key
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings
from rs_cio_assets_tests.customerio_http import CustomerioHttp
from rs_cio_assets_tests.integration.test_irreversible_pipeline import (
    CUSTOMER,
    DAYS,
    GUEST,
    KINDS,
    OTHER,
    Shop,
    everything_on,
    good,
    settings_of,
    state,
)
from rs_cio_assets_tests.pipeline import open_pipeline

LOST = DAYS[:3]


@pytest.fixture(scope="module")
def customerio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CustomerioStandIn]:
    """The workspace of this file: the tests follow each other."""
    with CustomerioStandIn(tmp_path_factory.mktemp("customerio"), app_requests_per_s=None) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def delivered(customerio: CustomerioStandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Three days in Customer.io, with a merge, a suppression and a deletion."""
    with RedshiftStandIn(tmp_path_factory.mktemp("redshift")) as warehouse:
        settings = settings_of(warehouse, customerio, tmp_path_factory.mktemp("home") / "store")
        shop = Shop(settings)
        for number, who in enumerate((GUEST, CUSTOMER, OTHER, "C0000004"), 1):
            shop.person(who, 0)
            shop.order(number, who, 0)
        shop.ask(OTHER, "suppress", 1)
        shop.link(GUEST, CUSTOMER, 1)
        shop.ask("C0000004", "delete", 2)
        shop.order(9, CUSTOMER, 2)
        with open_pipeline(settings, everything_on()) as pipeline:
            assert pipeline.create_views().is_success
            for outcome in pipeline.sync(LOST):
                good(outcome)
        yield settings


def test_without_dagster_s_records_a_sync_of_all_days_sends_nothing(delivered: Settings, customerio: CustomerioStandIn):
    """The database is gone, and the ledger was made anew from what the delivery log holds of it (all but `source_hash`): the days
    are run again, every row is known, and nothing is sent."""
    for path in Path(delivered.store).glob("ledger/*/*/*.parquet"):
        segment = pq.read_table(path)
        nothing = pa.repeat(pa.scalar(0, pa.uint64()), segment.num_rows)
        place = segment.schema.get_field_index("source_hash")
        pq.write_table(segment.set_column(place, segment.schema.field(place), nothing), path)
    with CustomerioHttp(customerio.url) as cio, open_pipeline(delivered, everything_on()) as pipeline:
        before = state(cio)
        outcomes = [good(outcome) for outcome in pipeline.sync(LOST)]
        assert {numbers["delivered"] for outcome in outcomes for numbers in outcome.values()} == {0}
        assert sum(numbers["unchanged"] for outcome in outcomes for numbers in outcome.values()) > 5
        assert state(cio) == before


def test_without_the_store_a_sync_of_all_days_doubles_nothing(delivered: Settings, customerio: CustomerioStandIn):
    """The ledger is gone: all is sent again, what cannot be undone before the rest. Profiles and histories are as they were, and
    who was deleted or suppressed has no profile at any time."""
    with CustomerioHttp(customerio.url) as cio, open_pipeline(delivered, everything_on()) as pipeline:
        before, counted = state(cio), pipeline.counts()
        assert before[CUSTOMER][1] == ["O1", "O2", "O9"]
        shutil.rmtree(delivered.store)
        for day in LOST:
            assert pipeline.materialize([key(feed) for feed in KINDS for key in (export_key, feed_key)], day) == []
        sent = 0
        for day in LOST:
            sent += sum(numbers["delivered"] for numbers in good(pipeline.sync_one(day)).values())
            assert [who for who in (GUEST, OTHER, "C0000004") if cio.attributes(who)] == []
        assert sent > 0
        assert state(cio) == before
        assert pipeline.counts()["people"] == counted["people"]
