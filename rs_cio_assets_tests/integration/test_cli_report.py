"""`rs-cio report`: the readiness checklist of an instance, as Markdown in the terminal or as a page in a file."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import pytest
from click.testing import CliRunner

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.readiness.lines import CHECKLIST


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An instance in which no check ever ran, and an empty store."""
    home = tmp_path / "dagster"
    home.mkdir()
    shipped = importlib.resources.files("rs_cio_assets.sandbox").joinpath("dagster.yaml").read_text()
    (home / "dagster.yaml").write_text(shipped)
    monkeypatch.setenv("RS_CIO_STORE", str(tmp_path / "store"))
    return home


def test_before_anything_ran_no_line_is_ready(dagster_home: Path):
    """Every line of the guide's checklist, none of them ready, each with what to do."""
    done = CliRunner().invoke(rs_cio, ["report", "--dagster-home", str(dagster_home)], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"0 of {len(CHECKLIST)} lines are ready" in done.output
    lines = [line for line in done.output.splitlines() if line.startswith("| ⏳")]
    assert len(lines) == len(CHECKLIST)
    assert all("never run" in line for line in lines)


def test_the_page_is_written_to_a_file(dagster_home: Path, tmp_path: Path):
    """For somebody who has no access to Dagster: one HTML file with the same table."""
    page = tmp_path / "readiness.html"
    command = ["report", "--html", "--output", str(page), "--dagster-home", str(dagster_home)]
    done = CliRunner().invoke(rs_cio, command, catch_exceptions=False)
    assert done.exit_code == 0
    assert "Written to" in done.output
    assert page.read_text().count("<tr>") == len(CHECKLIST) + 1
