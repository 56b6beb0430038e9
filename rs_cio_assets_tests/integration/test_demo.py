"""The command a new user types: interrupted it ends clean and goes on from there; the second time it sends nothing."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from rs_cio_assets_tests.demo_process import DemoFolder

SMALL = ("--customers=3000", "--days=4")  # large enough for orders on every day: their feed is stale without


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFolder:
    """One folder for the tests of this file, which go on from each other in order."""
    return DemoFolder(tmp_path_factory.mktemp("demo"))


def test_interrupted_in_the_middle_it_ends_clean_and_the_next_run_completes(demo: DemoFolder):
    """Ctrl-C while days are being synced: exit code 130, nothing left running; the same command then finishes all days."""
    with demo.run("--once", *SMALL) as first:
        first.wait_for(r"\d{4}-\d\d-\d\d: \d+ rows, \d+ delivered")
        first.interrupt()
        assert first.wait() == 130
    assert "goes on from there" in first.output
    assert "Traceback" not in first.output
    assert demo.is_quiet()
    with demo.run("--once", *SMALL) as second:
        assert second.wait() == 0, second.output
    assert "All is well: 9 of 9 runs succeeded, 0 checks failed" in second.output
    assert len(re.findall(r"^ +\d{4}-\d\d-\d\d: [\d,]+ rows", second.output, re.MULTILINE)) == 5  # four finished days, and today
    for feed in ("people", "order_completed", "checkout_started", "subscription_cancelled", "subscription_paused"):
        assert re.search(rf"{feed} +│? ", second.output), second.output
    sent = int(re.search(r"([\d,]+) operations were sent", second.output)[1].replace(",", ""))
    rows = sum(int(n.replace(",", "")) for n in re.findall(r"\d{4}-\d\d-\d\d: ([\d,]+) rows", second.output))
    assert 0 < sent < rows, "what the first run delivered must not be sent again"
    assert demo.is_quiet()


def test_the_second_time_nothing_is_sent_and_it_says_so(demo: DemoFolder):
    """The same command again: 0 operations, the same people and events as before."""
    with demo.run("--once", *SMALL) as again:
        assert again.wait() == 0, again.output
    assert "0 operations were sent" in again.output
    assert demo.is_quiet()


def test_a_port_in_use_is_named_before_anything_starts(demo: DemoFolder):
    """A taken port: exit code 2, the port, what it is for, and the variable that changes it."""
    with socket.create_server(("127.0.0.1", demo.customerio_port)), demo.run("--once", *SMALL) as refused:
        assert refused.wait(30) == 2
    assert f"port {demo.customerio_port} for Customer.io is in use" in refused.output
    assert "CUSTOMERIO_PORT=<port>" in refused.output
    assert "Traceback" not in refused.output


def test_another_shop_in_the_same_folder_is_refused(demo: DemoFolder):
    """Asking for a shop of another size does not silently show the old one."""
    with demo.run("--once", "--customers=401", "--days=4") as refused:
        assert refused.wait(120) == 2
    assert "make clean" in refused.output
    assert demo.is_quiet()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from=2026-02-30",), "is not a day such as"),
        (("--from=2026-03-02", "--to=2026-03-01"), "is after --to"),
        (("--shop=cdnow",), "--data"),
        (("--days=0",), "--days"),
        (("--from=2001-02-03", "--to=2001-02-04"), "RS_CIO_START_DATE"),
        (("--to=2201-02-03",), "is not within the days that can be synced"),
    ],
)
def test_options_that_make_no_sense_are_explained(tmp_path: Path, options: tuple[str, ...], words: str):
    """A wrong day, a range backwards or a shop without its file ends at once with what is wrong."""
    with DemoFolder(tmp_path).run("--once", *options) as refused:
        assert refused.wait(30) == 2
    assert words in refused.output
    assert not (tmp_path / ".rs_cio").exists()
