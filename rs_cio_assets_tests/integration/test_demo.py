"""The command a new user types: interrupted it ends clean and goes on from there; the second time it sends nothing.

What all of it showed and left behind is read in the end: nobody of the shop stands in it, and no secret.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from rs_cio_assets.cli import rs_cio
from rs_cio_assets.errors import RsCioError
from rs_cio_assets.settings import SANDBOX_DEFAULTS
from rs_cio_assets_tests.demo_process import DemoFolder
from rs_cio_assets_tests.leaks import Hidden, Leak
from rs_cio_assets_tests.listeners import listening, processes_of

SECRETS = {
    "RS_CIO_S3_SECRET_ACCESS_KEY": "hush-s3-5f1c",
    "RS_CIO_ALERT_WEBHOOK_URL": "http://127.0.0.1:9/hush-webhook-5f1c",
    "RS_CIO_ALERT_SLACK_URL": "http://127.0.0.1:9/hush-slack-5f1c",
}
KEYS = [SANDBOX_DEFAULTS["CUSTOMERIO_API_KEY"], SANDBOX_DEFAULTS["CUSTOMERIO_APP_API_KEY"]]
# What the stand-ins keep is their own; the rest is where docs/security.md says that people are.
ROWS_LIVE_IN = ("redshift", "customerio", *(f"store/{name}" for name in ("staged", "rejections", "looks", "differences")))
QUESTION = """query { instance { info hasInfo runQueueConfig { tagConcurrencyLimitsYaml } }
  runsOrError { ... on Runs { results { runConfigYaml tags { key value } assetMaterializations { metadataEntries { label
    ... on TextMetadataEntry { text } ... on JsonMetadataEntry { jsonString } } } } } }
  topLevelResourceDetailsOrError(resourceSelector: {repositoryName: "__repository__",
    repositoryLocationName: "rs_cio_assets", resourceName: "customerio"}) { ... on ResourceDetails { name description
    configuredValues { key value type } configFields { name defaultValueAsJson } } }
  repositoriesOrError { ... on RepositoryConnection { nodes { location { dagsterLibraryVersions { version } }
    displayMetadata { key value } allTopLevelResourceDetails { name configuredValues { key value type }
    configFields { name defaultValueAsJson } } } } }
  utilizedEnvVarsOrError(repositorySelector: {repositoryName: "__repository__", repositoryLocationName: "rs_cio_assets"}) {
    ... on EnvVarWithConsumersList { results { envVarName } } } }"""
SMALL = ("--customers=3000", "--days=3")  # large enough for orders on every day: their feed is stale without


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoFolder:
    """One folder for the tests of this file, which go on from each other in order."""
    return DemoFolder(tmp_path_factory.mktemp("demo"), SECRETS)


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What commands and Dagster's API answered while a demo of this file ran."""
    return {}


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
    assert "All is well: 8 of 8 runs succeeded, 0 checks failed" in second.output
    assert len(re.findall(r"^ +\d{4}-\d\d-\d\d: [\d,]+ rows", second.output, re.MULTILINE)) == 4  # three finished days, and today
    for feed in ("people", "order_completed", "checkout_started", "subscription_cancelled", "subscription_paused"):
        assert re.search(rf"{feed} +│? ", second.output), second.output
    sent = int(re.search(r"([\d,]+) operations were sent", second.output)[1].replace(",", ""))
    rows = sum(int(n.replace(",", "")) for n in re.findall(r"\d{4}-\d\d-\d\d: ([\d,]+) rows", second.output))
    assert 0 < sent < rows, "what the first run delivered must not be sent again"
    assert demo.is_quiet()


def test_the_second_time_nothing_is_sent_and_it_says_so(demo: DemoFolder, said: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    """The same command again, left open: 0 operations; everything listens on 127.0.0.1 alone, until Ctrl-C."""
    with demo.run(*SMALL) as again:
        again.wait_for("Both stay open until Ctrl-C")
        assert "0 operations were sent" in again.output
        if Path("/proc/net/tcp").exists():
            listeners = listening(processes_of(again.process_id))
            ports = {demo.dagster_port, demo.customerio_port, demo.redshift_port, demo.s3_port}
            assert {port for _, port in listeners} > ports  # PostgreSQL behind the stand-in is among them
            assert {address for address, _ in listeners} == {"127.0.0.1"}
        monkeypatch.chdir(demo.folder)
        said |= answers(demo, monkeypatch)
        again.interrupt()
        assert again.wait() == 0
    assert demo.is_quiet()


def answers(demo: DemoFolder, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What an operator's commands and Dagster's API say of the running demo."""
    for name, value in demo.settings.items():
        monkeypatch.setenv(name, value)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    said = {}
    for words in (
        f"backfill all {yesterday - timedelta(days=1)}..{yesterday} --plan",
        f"preview people {yesterday} --rows 0",
        f"preview people {yesterday} --rows 0 --json",
        *("doctor", "doctor --json", "report", "grants", "grants --iam", "schema", "lock", "contract lint"),
    ):
        done = CliRunner().invoke(rs_cio, words.split())
        assert done.exception is None or isinstance(done.exception, SystemExit | RsCioError), done.exc_info
        said[f"rs-cio {words}"] = f"{done.output}{done.exception or ''}"
        assert len(said[f"rs-cio {words}"]) > 10, words
    answer = httpx.post(f"http://127.0.0.1:{demo.dagster_port}/graphql", json={"query": QUESTION}, timeout=60).json()
    assert not answer.get("errors"), answer
    assert len(answer["data"]["runsOrError"]["results"]) > 9
    return said | {"GraphQL": json.dumps(answer)}


def people_of(demo: DemoFolder) -> dict[str, set[Any]]:
    """Everybody in the workspace of the demo: emails, first names, ids."""
    with closing(sqlite3.connect(next((demo.folder / ".rs_cio" / "customerio").glob("*.db")))) as database:
        people = database.execute("SELECT id, email, attributes FROM people").fetchall()
    names = {json.loads(attributes).get("first_name") for _, _, attributes in people}
    return {"ids": {row[0] for row in people}, "emails": {row[1] for row in people}, "names": names}


def test_nobody_of_the_shop_and_no_secret_stands_in_what_the_demo_showed_and_left(demo: DemoFolder, said: dict[str, str]):
    """Output of every run and command, logs of every process, Dagster's storage, ledger and manifests: everything but rows."""
    people = people_of(demo)
    assert min(map(len, people.values())) > 10
    hidden = Hidden(**people, secrets=[*KEYS, *(value.rpartition("/")[2] for value in SECRETS.values())])
    found, files = hidden.found_in_folder(demo.folder / ".rs_cio", but=ROWS_LIVE_IN)
    for where, text in {"printed": demo.printed, **said}.items():
        found |= hidden.found_in(where, text)
    assert found == set()
    assert files > 20
    # The same look at the rows finds them: it is not blind.
    assert {leak.kind for leak in hidden.found_in_folder(demo.folder / ".rs_cio" / "store" / "staged")[0]} >= {"email", "id"}
    assert Leak("x", "secret") in hidden.found_in("x", f"key={KEYS[0]}")


def test_a_port_in_use_is_named_before_anything_starts(demo: DemoFolder):
    """A taken port: exit code 2, the port, what it is for, and the variable that changes it."""
    with socket.create_server(("127.0.0.1", demo.customerio_port)), demo.run("--once", *SMALL) as refused:
        assert refused.wait(30) == 2
    assert f"port {demo.customerio_port} for Customer.io is in use" in refused.output
    assert "CUSTOMERIO_PORT=<port>" in refused.output
    assert "Traceback" not in refused.output


def test_another_shop_in_the_same_folder_is_refused(demo: DemoFolder):
    """Asking for a shop of another size does not silently show the old one."""
    with demo.run("--once", "--customers=401", "--days=3") as refused:
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
