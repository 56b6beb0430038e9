"""The doctor's lines that need no stand-in: clocks, encryption, space, expiry rules, and the list itself against the docs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rs_cio_assets.contract import load_contract
from rs_cio_assets.customerio import WorkspaceRegion
from rs_cio_assets.doctor import LOOKS, Patient, customerio, environment, examine, storage
from rs_cio_assets.doctor.clocks import clock_line
from rs_cio_assets.doctor.patient import Asked
from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store.s3 import S3Store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
OPERATOR = (Path(__file__).parents[2] / "docs" / "operator.md").read_text()


def patient(**environ: str) -> Patient:
    """Of the sandbox with other variables; nothing is opened."""
    settings = load_settings(environ)
    resources = resources_for(settings)
    return Patient(settings, load_contract, resources["warehouse"], resources["store"], lambda: NOW)


@pytest.mark.parametrize(
    ("ahead_s", "status"),
    [(0, "ok"), (29, "ok"), (-29, "ok"), (31, "warning"), (-300, "warning"), (301, "failure"), (-301, "failure")],
)
def test_a_clock_is_judged_by_its_distance(ahead_s: int, status: str):
    """Below 30 s all is well, above 5 minutes nothing may be sent, whichever clock is ahead; the remedy is this machine's."""
    line = clock_line("a clock", timedelta(seconds=ahead_s), "Its")
    assert line.status == status
    assert ("NTP" in line.remedy) == (status != "ok")


@pytest.mark.parametrize(("answered_at", "status"), [(NOW, "ok"), (NOW - timedelta(hours=1), "failure"), (None, "warning")])
def test_customerio_s_clock_is_that_of_its_answers(answered_at: datetime | None, status: str):
    """The Date of an answer is compared; an answer without one proves nothing and says so."""
    asked = Asked(WorkspaceRegion("us", 7, answered_at), NOW)
    (line,) = customerio.clock(SimpleNamespace(account=asked))  # type: ignore[arg-type] - asked of nothing else
    assert line.status == status


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, ""),
        ({"REDSHIFT_HOST": "cluster.example"}, "REDSHIFT_TLS=false"),
        ({"REDSHIFT_HOST": "cluster.example", "REDSHIFT_TLS": "true"}, ""),
        ({"CUSTOMERIO_TRACK_URL": "http://track.example"}, "CUSTOMERIO_TRACK_URL"),
        ({"CUSTOMERIO_APP_URL": "http://localhost:1"}, ""),
        ({"RS_CIO_S3_ENDPOINT_URL": "http://10.0.0.1:9000"}, "RS_CIO_S3_ENDPOINT_URL"),
    ],
)
def test_what_leaves_the_machine_in_the_clear_is_named(environ: dict[str, str], named: str):
    """An address without TLS is fine on this machine and nowhere else."""
    (line,) = environment.encryption(patient(**environ))
    assert line.status == ("warning" if named else "ok")
    assert named in line.text


@pytest.mark.parametrize(("free", "status"), [(3 << 30, "ok"), (1 << 30, "warning"), (1 << 20, "failure")])
def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str):
    """Space is looked at where the store is or will be."""
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda place: asked.append(place) or SimpleNamespace(free=free))
    (line,) = storage.space(patient(RS_CIO_STORE=str(tmp_path / "not" / "yet")))
    assert (line.status, asked) == (status, [tmp_path])


class Rules:
    """A client of S3 that knows rules."""

    def __init__(self, *rules: dict[str, Any]) -> None:
        self._rules = rules

    def get_bucket_lifecycle_configuration(self, **_: str) -> dict[str, Any]:
        """All of them."""
        return {"Rules": self._rules}


def rule(days: int, status: str = "Enabled", **where: Any) -> dict[str, Any]:
    """One rule that removes."""
    return {"Status": status, "Expiration": {"Days": days}, **where}


@pytest.mark.parametrize(
    ("rules", "days"),
    [
        ((), None),
        ((rule(9, Filter={"Prefix": "p/staged/"}),), 9),
        ((rule(9, Filter={"Prefix": "p/"}), rule(3, Filter={})), 3),
        ((rule(9, Prefix="p/"),), 9),  # the older form
        ((rule(9, "Disabled", Filter={"Prefix": "p/"}),), None),
        ((rule(9, Filter={"Prefix": "p/staged/2026"}),), None),  # some of it only
        ((rule(9, Filter={"And": {"Prefix": "p/", "Tags": []}}), rule(9, Filter={"Tag": {"Key": "a", "Value": "b"}})), None),
        (({"Status": "Enabled", "Filter": {"Prefix": "p/"}, "Expiration": {"ExpiredObjectDeleteMarker": True}},), None),
    ],
)
def test_a_rule_counts_only_where_it_removes_everything(rules: tuple[dict[str, Any], ...], days: int | None):
    """Enabled, by days, for the whole prefix or more of the bucket, and for every object there."""
    assert S3Store("s3://bucket/p", Rules(*rules)).expires_after_days("staged/") == days


def test_a_line_that_nobody_knows_is_refused():
    """--only names a line of the list, or the list is shown."""
    with pytest.raises(ConfigurationError, match="no line views"):
        list(examine(patient(), only=["views"]))


def test_what_a_line_needs_stands_before_it():
    """The list is in order: nothing is looked at before what it needs."""
    for index, look in enumerate(LOOKS):
        assert set(look.needs) <= {earlier.name for earlier in LOOKS[:index]}


def test_every_line_is_documented():
    """The table of the page "Operating" has each line of the doctor, in its order, and no other."""
    section = OPERATOR.partition("## The doctor")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([a-z ]+)` \|", section, re.MULTILINE) == [look.name for look in LOOKS]
