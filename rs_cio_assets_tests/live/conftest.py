"""Skips the suite unless it is asked for, opens what it asks, records its answers, and removes what it made."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rs_cio_assets.errors import RsCioError
from rs_cio_assets.sandbox.shop.skincare import products
from rs_cio_assets.sandbox.shop.tables import KEYS
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets_tests.hand_made_shop import inserts
from rs_cio_assets_tests.live.answers import Answer, AnswersFile
from rs_cio_assets_tests.live.cleaning import Cleaning
from rs_cio_assets_tests.live.cluster import Cluster, read
from rs_cio_assets_tests.live.switches import CAPABILITIES, Switches, read_switches
from rs_cio_assets_tests.live.workspace import LiveWorkspace, open_workspace
from rs_cio_assets_tests.plain_views import Row

HERE = Path(__file__).parent
SKIPPED = "asks a real cluster and a real workspace: set RS_CIO_LIVE (docs/live.md)"
_FILE = pytest.StashKey[AnswersFile]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is live, whatever it says itself."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.live)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Nothing is asked that was not asked for, nor what the place cannot do."""
    if HERE not in item.path.parents:
        return
    switches = read_switches()
    if item.path.stem.split("_")[1] not in switches.parts:
        pytest.skip(SKIPPED)
    for marker in item.iter_markers("needs"):
        if missing := sorted(set(marker.args) & switches.without):
            pytest.skip(f"RS_CIO_LIVE_WITHOUT: no {CAPABILITIES[missing[0]]}")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Where the answers are, and what is left behind."""
    if file := config.stash.get(_FILE, None):
        terminalreporter.write_line(f"answers: {file.path}")
        for step in file.kept:
            terminalreporter.write_line(f"kept for a later run: {step['person']}, since {step['sent_at']}")
        for line in file.left_behind:
            terminalreporter.write_line(f"LEFT BEHIND: {line}", red=True)


@pytest.fixture(scope="session")
def paces_of_their_own() -> None:
    """In place of the suite's fixture of this name: a workspace has one pace for everybody on this machine."""


@pytest.fixture(scope="session")
def switches() -> Switches:
    """What the person who runs it said."""
    return read_switches()


@pytest.fixture(scope="session")
def live_settings() -> Settings:
    """The product's settings from the environment."""
    return load_settings()


@pytest.fixture(scope="session")
def run() -> str:
    """In the name of everything that this run makes."""
    return uuid4().hex[:8]


@pytest.fixture(scope="session")
def file(switches: Switches, live_settings: Settings, run: str, request: pytest.FixtureRequest) -> AnswersFile:
    """This run's answers."""
    made = AnswersFile(switches.answers, run, live_settings)
    request.config.stash[_FILE] = made
    return made


@pytest.fixture(scope="session")
def cleaning(file: AnswersFile) -> Iterator[Cleaning]:
    """Done in the end, also after a failure or Ctrl-C."""
    made = Cleaning(file)
    yield made
    made.finish()


@pytest.fixture
def answer(request: pytest.FixtureRequest, file: AnswersFile) -> Iterator[Answer]:
    """What this test is about, from its mark `asks`; kept however it ends."""
    (marker,) = list(request.node.iter_markers("asks"))[:1]
    made = Answer(request.node.name, *marker.args, relies=marker.kwargs.get("relies", False))
    try:
        yield made
    finally:
        file.add(made)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """An answer that broke off says so."""
    try:
        return (yield)
    except BaseException as error:
        answer = getattr(item, "funcargs", {}).get("answer")
        if isinstance(answer, Answer) and answer.verdict == "not seen":
            answer.words = f"broke off: {type(error).__name__}: {str(error)[:500]}"
        raise


@pytest.fixture(scope="session")
def cluster(live_settings: Settings, run: str, cleaning: Cleaning) -> Cluster:
    """The cluster, with a schema of this run's own."""
    made = Cluster(live_settings, run)
    cleaning.add(f"schema {made.schema}", made.drop_schema)
    made.make_schema()
    return made


@pytest.fixture(scope="session")
def workspace(live_settings: Settings, run: str, switches: Switches, cleaning: Cleaning) -> LiveWorkspace:
    """The workspace that CUSTOMERIO_WORKSPACE_ID names. Refuses to begin in any other, or where none is named."""
    try:
        made = open_workspace(live_settings.customerio, run, switches.wait_s)
    except RsCioError as error:
        pytest.exit(str(error), returncode=2)
    cleaning.add("the connections to Customer.io", made.close)
    cleaning.add(f"people rs-cio-smoke-{run}*@example.invalid", made.delete_people)
    return made


@pytest.fixture(scope="session")
def tables(cluster: Cluster) -> dict[str, list[Row]]:
    """The shop's tables with the hand-made customers, in this run's schema; read back by column."""
    ddl = importlib.resources.files("rs_cio_assets.sandbox.shop").joinpath("schema.sql").read_text()
    with cluster.session() as session:
        for statement in ddl.split(";"):
            if "CREATE TABLE" in statement:
                session.run(cluster.in_schema(statement[statement.index("CREATE TABLE") :]))
        for row in products().to_pylist():
            session.run(f"INSERT INTO {cluster.schema}.products VALUES (%s, %s, %s, %s, %s)", tuple(row.values()))
        for statement, values in inserts():
            session.run(cluster.in_schema(statement), values)
        session.commit()
        return {name: read(session, f"{cluster.schema}.{name}") for name in KEYS}
