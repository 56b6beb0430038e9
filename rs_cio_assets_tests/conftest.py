"""What many tests share: the two stand-ins on ports of their own, and settings that point at them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redshift_connector
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

import rs_cio_assets.settings as settings_module
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets_tests.redshift_client import connect
from rs_cio_assets_tests.s3_stand_in import ScriptedS3

hypothesis_settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
hypothesis_settings.load_profile("suite")


# Files of minutes go first, so that no worker is left with one of them in the end.
LONGEST = (
    "test_crash_proof",
    "test_clean_days",
    "test_ui",
    "test_a_late_week",
    "test_fault_catalogue",
    "test_storm_proof",
    "test_demo",
    "test_cdnow",
    "test_backfill",
    "test_demo_shop_days",
)


# What tests of other things leave out, and the role: no S3 runs beside them. Tests of it say otherwise, as do other processes.
WITHOUT_S3 = {"REDSHIFT_READ": "driver", "REDSHIFT_DELIVERY_LOG": "false", "RS_CIO_PREFLIGHT": "false"}


def pytest_configure() -> None:
    """In this process the sandbox's defaults are without S3, also for what test modules make when they are imported."""
    defaults = {name: value for name, value in settings_module.SANDBOX_DEFAULTS.items() if name != "REDSHIFT_ROLE"}
    settings_module.SANDBOX_DEFAULTS = {**defaults, **WITHOUT_S3}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` (make test LONG=1): what repeats a proof of the suite on other days, seeds or stores, too."""
    parser.addoption("--long", action="store_true", help="also run tests marked long")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Long repetitions are skipped unless they are asked for."""
    if item.get_closest_marker("long") and not item.config.getoption("--long"):
        pytest.skip("repeats a proof of the suite at length: make test LONG=1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of files only; tests of a file stay as they are."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def without_leftovers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """As root, stand-ins over pytest's private folder keep their data outside of it: removed in the end."""
    yield
    for remembered in tmp_path_factory.getbasetemp().rglob("postgres-home.txt"):
        shutil.rmtree(remembered.read_text().strip(), ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def paces_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No client shares its pace with another test's or with a running demo: each gets a folder of its own. The App API's is fast:
    tests that are about it say so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rs_cio_assets.customerio.app._PACE", Pace(10_000))
        patch.setattr("rs_cio_assets.customerio.pace.state_folder", lambda: tmp_path_factory.mktemp("pace"))
        yield


@pytest.fixture(scope="session")
def scripted_s3() -> Iterator[ScriptedS3]:
    """S3 beside the warehouse, for the whole run; started when it is first used."""
    s3 = ScriptedS3()
    yield s3
    s3.stop()


@pytest.fixture
def s3(scripted_s3: ScriptedS3) -> Iterator[ScriptedS3]:
    """S3 beside the warehouse; faults planted in it are forgotten after the test. Tests keep to prefixes of their own."""
    yield scripted_s3
    scripted_s3.calm()


@pytest.fixture(scope="session")
def redshift(tmp_path_factory: pytest.TempPathFactory, scripted_s3: ScriptedS3) -> Iterator[RedshiftStandIn]:
    """One warehouse for the whole run; tests keep to schemas of their own."""
    with RedshiftStandIn(tmp_path_factory.mktemp("redshift"), s3=scripted_s3.cluster_client) as stand_in:
        yield stand_in


@pytest.fixture
def connection(redshift: RedshiftStandIn) -> Iterator[redshift_connector.Connection]:
    """An open connection; what it did is undone."""
    with connect(redshift) as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def cursor(connection: redshift_connector.Connection) -> redshift_connector.Cursor:
    """A cursor of it."""
    return connection.cursor()


@pytest.fixture
def customerio(tmp_path: Path) -> Iterator[CustomerioStandIn]:
    """An empty workspace, whose App API answers as often as it is asked."""
    with CustomerioStandIn(tmp_path / "customerio", app_requests_per_s=None) as stand_in:
        yield stand_in


@pytest.fixture
def settings(redshift: RedshiftStandIn, customerio: CustomerioStandIn, tmp_path: Path) -> Settings:
    """Settings of the two stand-ins and a store of the test's own."""
    return load_settings(
        {
            "REDSHIFT_PORT": str(redshift.port),
            "CUSTOMERIO_TRACK_URL": customerio.url,
            "CUSTOMERIO_APP_URL": customerio.url,
            "RS_CIO_STORE": str(tmp_path / "store"),
        }
    )


@pytest.fixture
def settings_with_s3(settings: Settings, s3: ScriptedS3) -> Settings:
    """The same, reading by UNLOAD to a prefix of the test's own."""
    place = f"s3://rs-cio-sandbox/unload/{uuid4().hex}"
    redshift = settings.redshift.model_copy(update={"read": "unload", "unload_to": place, "role": settings_module.SANDBOX_ROLE})
    return settings.model_copy(update={"redshift": redshift, "s3": settings.s3.model_copy(update={"endpoint_url": s3.url})})


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without their waits, three attempts a request."""
    monkeypatch.setattr("rs_cio_assets.customerio.http.ATTEMPTS", 3)
    for wait in ("WAIT_INITIAL_S", "WAIT_MAX_S", "LONGEST_WAIT_S"):
        monkeypatch.setattr(f"rs_cio_assets.customerio.http.{wait}", 0.0)
