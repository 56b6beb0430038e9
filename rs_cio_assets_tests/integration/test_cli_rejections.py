"""The commands about rejected rows, as an operator types them: what they list, what they deliver again, and what they cannot."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from dagster import DagsterInstance
from moto.server import ThreadedMotoServer

from rs_cio_assets.rejected import list_rejections
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.store import open_store
from rs_cio_assets_tests.desk import DAY, FRESH, TODAY, Desk, open_desk, order, person


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redshift: RedshiftStandIn) -> Iterator[Desk]:
    """See open_desk."""
    with open_desk(tmp_path, monkeypatch, redshift) as opened:
        yield opened


def rejected_rows(desk: Desk) -> None:
    """Two days with three rejected rows of two reasons, and a fourth in another feed."""
    desk.deliver("folk", [person()])
    desk.deliver("folk", [person(2, tier="platinum", updated_at=FRESH)], TODAY)
    desk.deliver("orders", [order(1, total=Decimal(-1)), order(2, part=None), order(3)])
    desk.deliver("orders", [order(4, occurred_at=FRESH, total=Decimal(-2))], TODAY)


def test_rejections_are_listed_newest_first_and_counted(desk: Desk):
    """Every rejected row with key, reason, column, message, times and attempts; filters narrow both rows and counts."""
    rejected_rows(desk)
    document = desk.json("rejections")
    assert document["by_reason"] == {"below_minimum": 2, "business_key_missing": 1, "undeclared_value": 1}
    assert [row["day"] for row in document["rows"]] == [TODAY, TODAY, DAY, DAY]
    assert [row["business_key"] for row in document["rows"] if row["feed"] == "orders"] == ["O4 1", "O1 1", "O2 "]
    assert {row["attempts"] for row in document["rows"]} == {1}
    assert desk.json("rejections", "orders", "--to", DAY)["by_reason"] == {"below_minimum": 1, "business_key_missing": 1}
    assert desk.json("rejections", "--from", TODAY, "--reason", "below_minimum")["total"] == 1
    shown = desk.type("rejections", "--limit", "1").stdout
    assert "4 rejected rows on 2 days. 1 of them are shown" in shown
    whole = desk.type("rejections", "orders").stdout
    assert "orders: below_minimum in total\ntotal is below 0" in whole
    assert re.search(r"O1 1 .*UTC", whole) is None
    assert re.search(rf"{DAY} │ O1 1", whole)
    assert desk.type("rejections", "--reason", "nonsense").stdout == "No rejected row.\n"


def test_rejections_are_read_from_s3(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """The same list from a bucket."""
    rejected_rows(desk)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}:{port}")
        httpx.put(f"http://{host}:{port}/bucket").raise_for_status()
        bucket = open_store("s3://bucket/here")
        for key in desk.kept("rejections/"):
            bucket.put(key, desk.store.get(key) or b"")
        assert list_rejections(bucket, limit=9) == list_rejections(desk.store, limit=9)
        assert list_rejections(bucket).total == 4
    finally:
        server.stop()


def test_a_replay_delivers_what_was_refused_in_a_run_that_dagster_shows(desk: Desk):
    """Rows that Customer.io refused go again; other days, staged or not, are left alone; the run stands in the instance."""
    desk.deliver("folk", [person(2, updated_at=FRESH)], TODAY)
    desk.refusing.is_on = True
    desk.deliver("folk", [person()])
    desk.refusing.is_on = False
    words = ("replay", "folk", "--from", DAY, "--to", TODAY)
    assert desk.type(*words, "--reason", "below_minimum").stdout == "No day in this range has such rejections.\n"
    desk.store.delete(key for key in desk.store.list("staged/folk") if key.startswith(f"staged/folk/{TODAY}/test"))
    document = desk.json(*words, "--reason", "customerio_invalid")
    ((day, run_id, delivered),) = [(d["day"], d["run_id"], d["totals"]["delivered"]) for d in document["days"]]
    assert (day, delivered, document["is_good"], document["not_staged"]) == (DAY, 1, True, [])
    with DagsterInstance.from_config(str(desk.scratch / "dagster")) as instance:
        run = instance.get_run_by_id(run_id)
        assert run
        steps = {step.step_key for step in instance.get_run_step_stats(run_id)}
        assert steps == {"customerio__feeds__folk"}
        assert (run.is_success, run.tags["dagster/partition"], run.tags["rs_cio/reason"]) == (True, DAY, "replay")
    assert desk.sent()["people"] == 2
    assert desk.json("rejections")["total"] == 0


def test_a_replay_says_what_is_rejected_still_and_what_is_not_staged_any_more(desk: Desk):
    """A row that nobody mended is counted, an expired day named with what to do, and both exit with 1."""
    rejected_rows(desk)
    desk.store.delete(key for key in desk.store.list(f"staged/orders/{TODAY}/") if key.endswith(".parquet"))
    result = desk.type("replay", "orders", "--from", DAY, "--to", TODAY)
    assert result.exit_code == 1
    assert f"{DAY}: 2 rows are rejected still; rs-cio rejections orders --from {DAY} --to {DAY} shows them." in result.stdout
    assert f"Not staged any more: {TODAY}." in result.stdout
    assert "Next step: materialize redshift/exports/orders" in result.stdout
