"""One session with the warehouse: every failure has a name and a next step, and a poisoned session never answers again."""

from __future__ import annotations

import gc
import json
import logging
import ssl
import traceback
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import boto3
import pytest
import redshift_connector
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError
from moto.server import ThreadedMotoServer
from pydantic import SecretStr

from rs_cio_assets.errors import RsCioError, WarehouseConflict, WarehouseForbidden, WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.resources import resources_for
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import RedshiftSettings, load_settings
from rs_cio_assets.warehouse import Session, Warehouse
from rs_cio_assets.warehouse.failures import as_ours, server_error
from rs_cio_assets_tests.relay import Relay, make_certificate


@pytest.fixture
def settings(redshift: RedshiftStandIn) -> RedshiftSettings:
    """Settings of the stand-in."""
    return load_settings({"REDSHIFT_PORT": str(redshift.port)}).redshift


@pytest.fixture
def session(settings: RedshiftSettings) -> Iterator[Session]:
    """An open session."""
    with Warehouse(settings).session() as session:
        yield session


def test_after_an_error_of_the_server_the_session_goes_on(session: Session):
    """A clean server error ends the transaction, not the session."""
    with pytest.raises(WarehouseRefused, match="no_such_table"):
        session.fetch("SELECT * FROM no_such_table")
    assert [tuple(row) for row in session.fetch("SELECT 1")] == [(1,)]


def test_after_an_error_of_the_driver_the_session_never_answers_again(session: Session):
    """WH1: the driver cannot decode 24:00 and would answer later queries with nothing: they are refused instead."""
    with pytest.raises(WarehouseUnavailable):
        session.fetch("SELECT '24:00:00'::TIME")
    for _ in range(3):
        with pytest.raises(WarehouseUnavailable, match="thrown away"):
            session.fetch("SELECT 1")


@pytest.mark.parametrize("cut_after_bytes", [0, 1, 700, 40_000, 500_000])
def test_a_connection_cut_in_the_middle_is_an_error_and_never_fewer_rows(settings: RedshiftSettings, cut_after_bytes: int):
    """WH1: wherever the answer is cut, fetching says so; nobody gets half of the rows as if they were all."""
    relay = Relay(settings.port)
    try:
        with Warehouse(settings.model_copy(update={"port": relay.port})).session() as session:
            session.run("DECLARE c CURSOR FOR SELECT n, repeat('x', 1000) FROM generate_series(1, 2000) AS s (n)")
            relay.limit = cut_after_bytes
            with pytest.raises(WarehouseUnavailable):
                session.fetch("FETCH FORWARD 2000 FROM c")
            with pytest.raises(WarehouseUnavailable, match="thrown away"):
                session.fetch("FETCH FORWARD 2000 FROM c")
    finally:
        relay.close()
        gc.collect()


def test_a_statement_that_takes_too_long_is_ended_by_the_server(settings: RedshiftSettings):
    """WH2: REDSHIFT_STATEMENT_TIMEOUT_S holds on the server, and the error names the variable."""
    with (
        Warehouse(settings.model_copy(update={"statement_timeout_s": 1})).session() as session,
        pytest.raises(WarehouseUnavailable, match="timeout") as caught,
    ):
        session.fetch("SELECT pg_sleep(20)")
    assert "REDSHIFT_STATEMENT_TIMEOUT_S" in caught.value.next_step


def test_a_session_says_who_it_is_and_keeps_to_utc(settings: RedshiftSettings):
    """Query group, statement timeout, time zone and date style are set before the first query of ours."""
    changed = settings.model_copy(update={"query_group": "night", "statement_timeout_s": 77})
    with Warehouse(changed).session() as session:
        shown = [
            session.fetch(f"SHOW {name}")[0][0] for name in ("redshift.query_group", "statement_timeout", "timezone", "datestyle")
        ]
    assert (shown[0], shown[1], shown[2], shown[3][:3]) == ("night", "77s", "UTC", "ISO")


SERVER_ERRORS = [
    ("28P01", WarehouseRefused, "REDSHIFT_PASSWORD"),
    ("28000", WarehouseRefused, "REDSHIFT_USER"),
    ("3D000", WarehouseRefused, "REDSHIFT_DATABASE"),
    ("3F000", WarehouseRefused, "schema"),
    ("42P01", WarehouseRefused, "redshift/views/<feed>"),
    ("42703", WarehouseRefused, "column"),
    ("42501", WarehouseForbidden, "GRANT"),
    ("42601", WarehouseRefused, "SQL"),
    ("0A000", WarehouseRefused, "docs/analyst.md"),
    ("22012", WarehouseRefused, "division"),
    ("22P02", WarehouseRefused, "cast"),
    ("P0001", WarehouseRefused, "SQL"),
    ("40001", WarehouseConflict, ""),
    ("57014", WarehouseUnavailable, "REDSHIFT_STATEMENT_TIMEOUT_S"),
    ("57P01", WarehouseUnavailable, "again"),
    ("53300", WarehouseUnavailable, "again"),
    ("08006", WarehouseUnavailable, "again"),
    ("58030", WarehouseUnavailable, "again"),
    ("XX000", WarehouseUnavailable, "console"),
]


@pytest.mark.parametrize(("code", "kind", "remedy"), SERVER_ERRORS, ids=[code for code, _, _ in SERVER_ERRORS])
def test_each_error_of_the_server_has_its_kind_and_remedy(
    settings: RedshiftSettings, code: str, kind: type[RsCioError], remedy: str
):
    """WH2: what may pass is told from what may not; texts that can quote a value are left out."""
    text = "relation secret_value" if code[:2] in {"28", "3D", "3F", "42", "0A"} else "invalid input: secret_value"
    ours = as_ours(redshift_connector.ProgrammingError({"S": "ERROR", "C": code, "M": text}), settings)
    assert type(ours) is kind
    assert remedy in f"{ours.problem} {ours.next_step}"
    assert text.startswith("relation") or "secret_value" not in str(ours)


def test_redshift_s_own_serialization_number_may_be_tried_again(settings: RedshiftSettings):
    """WH2: 1023 comes as an internal error in Redshift and means: repeat the transaction."""
    fields = {"S": "ERROR", "C": "XX000", "M": "1023 Serializable isolation violation on table"}
    ours = as_ours(redshift_connector.ProgrammingError(fields), settings)
    assert isinstance(ours, WarehouseConflict)
    assert "repeat the transaction" in ours.problem


def driver_exceptions() -> list[type[Exception]]:
    """Every exception class that the driver defines."""
    found, todo = set(), [redshift_connector.Error, redshift_connector.Warning]
    while todo:
        kind = todo.pop()
        found.add(kind)
        todo += kind.__subclasses__()
    return sorted(found, key=lambda kind: kind.__name__)


@pytest.mark.parametrize(
    "kind", [*driver_exceptions(), OSError, TimeoutError, ValueError, KeyError], ids=lambda kind: kind.__name__
)
def test_every_exception_of_the_driver_becomes_ours(settings: RedshiftSettings, kind: type[Exception]):
    """No exception of the layer below comes through, nor its text."""
    error = kind("quoted-value")
    ours = as_ours(error, settings)
    assert isinstance(ours, WarehouseRefused | WarehouseUnavailable)
    assert server_error(error) is None
    assert "quoted-value" not in str(ours)
    assert ours.next_step


SILENT = ReadTimeoutError(endpoint_url="https://aws.test")
BEFORE_LOGIN = {
    "denied": (
        ClientError({"Error": {"Code": "AccessDenied", "Message": "arn:secret"}}, "Get"),
        WarehouseRefused,
        "AccessDenied",
    ),
    "no credentials": (NoCredentialsError(), WarehouseRefused, "AWS credentials"),
    "busy": (ClientError({"Error": {"Code": "ThrottlingException"}}, "Get"), WarehouseUnavailable, "AWS"),
    "failed": (ClientError({"ResponseMetadata": {"HTTPStatusCode": 503}}, "Get"), WarehouseUnavailable, "AWS"),
    "unreachable": (EndpointConnectionError(endpoint_url="https://aws.test"), WarehouseUnavailable, "AWS"),
    "silent": (SILENT, WarehouseUnavailable, "AWS"),
    "TLS cut": (ssl.SSLEOFError(8, "cut"), WarehouseUnavailable, "connection"),
    "TLS cut, wrapped": (redshift_connector.InterfaceError("x", ssl.SSLEOFError(8, "cut")), WarehouseUnavailable, "connection"),
}


@pytest.mark.parametrize(("error", "kind", "words"), BEFORE_LOGIN.values(), ids=BEFORE_LOGIN)
def test_what_fails_before_the_login(settings: RedshiftSettings, error: Exception, kind: type[RsCioError], words: str):
    """What a person must mend is told from AWS that is busy or away and a connection that broke; AWS's text is not repeated."""
    ours = as_ours(error, settings)
    assert type(ours) is kind
    assert words in ours.problem
    assert "arn:secret" not in str(ours)


def test_a_secret_that_aws_cannot_give_now_is_tried_again(settings: RedshiftSettings):
    """Secrets Manager that does not answer is told from a secret that is wrong."""

    def unanswered(_: str) -> dict[str, str]:
        raise SILENT

    warehouse = Warehouse(settings.model_copy(update={"auth": "secret"}), secret=unanswered)
    with pytest.raises(WarehouseUnavailable, match="Secrets Manager"):
        warehouse.session().__enter__()


# The driver leaves its socket to the garbage collector when a login is refused (2.2, core.Connection.__init__), and uses ssl
# in ways that Python calls old.
leaves_sockets = pytest.mark.filterwarnings(
    "ignore:unclosed <:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:ssl[.]:DeprecationWarning"
)


def refusal(settings: RedshiftSettings) -> str:
    """What WarehouseRefused says when a session with *settings* is opened."""
    with pytest.raises(WarehouseRefused) as caught:
        Warehouse(settings).session().__enter__()
    text = str(caught.value)
    del caught
    gc.collect()
    return text


@leaves_sockets
def test_without_tls_nothing_is_sent_where_tls_is_asked_for(settings: RedshiftSettings):
    """REDSHIFT_TLS=true against a server without it is refused before user or password leave the machine."""
    relay = Relay(settings.port)
    try:
        assert "does not offer TLS" in refusal(settings.model_copy(update={"tls": True, "port": relay.port}))
        assert bytes(relay.sent) == b"\x00\x00\x00\x08\x04\xd2\x16\x2f"  # SSLRequest (PostgreSQL manual, 55.7) and no more
    finally:
        relay.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself, with its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(settings: RedshiftSettings, certificate: Path) -> Iterator[RedshiftSettings]:
    """Settings of the stand-in behind TLS, at localhost."""
    relay = Relay(settings.port, certificate)
    yield settings.model_copy(update={"host": "localhost", "port": relay.port, "tls": True})
    relay.close()


@leaves_sockets
def test_a_session_over_tls_trusts_only_the_name_and_the_signer(
    tls: RedshiftSettings, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    """verify-full: it works with a certificate that is trusted and for this host, and is refused without either."""
    assert "TLS connection to localhost" in refusal(tls)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert "certificate" in refusal(tls.model_copy(update={"host": "127.0.0.1"}))
    with Warehouse(tls).session() as session:
        assert [tuple(row) for row in session.fetch("SELECT 1")] == [(1,)]


@leaves_sockets
def test_iam_asks_aws_for_credentials_and_logs_in_with_them(
    aws: str, tls: RedshiftSettings, certificate: Path, monkeypatch: pytest.MonkeyPatch
):
    """REDSHIFT_AUTH=iam: the user of AWS's answer comes to the server over TLS, which here does not know its password."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    boto3.client("redshift", endpoint_url=aws, region_name="us-east-1").create_cluster(
        ClusterIdentifier="shop", NodeType="ra3.large", MasterUsername="admin", MasterUserPassword="Password1"
    )
    iam = tls.model_copy(update={"auth": "iam", "cluster": "shop", "aws_region": "us-east-1", "password": None})
    assert '"IAM:cio_sync" (28000)' in refusal(iam)
    assert "ClusterNotFound" in refusal(iam.model_copy(update={"cluster": "no-such"}))
    assert "set REDSHIFT_TLS=true" in refusal(iam.model_copy(update={"tls": False}))


def test_each_way_to_authenticate_gives_the_driver_what_it_needs(settings: RedshiftSettings):
    """IAM for a cluster and for a workgroup: no password, the names of the settings; what AWS answers is not proven here."""
    update = {"auth": "iam", "password": SecretStr("unused"), "cluster": "shop-cluster", "aws_region": "eu-west-1"}
    cluster = Warehouse(settings.model_copy(update=update))._login()
    serverless = Warehouse(settings.model_copy(update=update | {"workgroup": "shop-workgroup"}))._login()
    for login in (cluster, serverless):
        assert (login["iam"], login["region"]) == (True, "eu-west-1")
        assert "password" not in login
    assert (cluster["cluster_identifier"], cluster["db_user"]) == ("shop-cluster", "cio_sync")
    assert (serverless["is_serverless"], serverless["serverless_work_group"]) == (True, "shop-workgroup")


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """AWS on 127.0.0.1, where every client of the block goes."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    yield url
    server.stop()


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # dagster-aws says that of its Secrets Manager resource
@pytest.mark.parametrize(
    ("secret", "words"),
    [
        ({"username": "cio_sync", "password": "sandbox"}, None),
        ({"username": "cio_sync"}, "no username and password"),
        (None, "ResourceNotFound|cannot be read"),
        ("no JSON", "cannot be read"),
    ],
    ids=["good", "incomplete", "missing", "no JSON"],
)
def test_the_password_may_come_from_secrets_manager(
    aws: str, redshift: RedshiftStandIn, secret: dict[str, str] | str | None, words: str | None
):
    """REDSHIFT_AUTH=secret reads user and password through dagster-aws at the start of each session, or says what is wrong."""
    name = f"cio/{uuid4().hex}"
    if secret is not None:
        text = secret if isinstance(secret, str) else json.dumps(secret)
        boto3.client("secretsmanager", endpoint_url=aws).create_secret(Name=name, SecretString=text)
    settings = load_settings({"REDSHIFT_PORT": str(redshift.port), "REDSHIFT_AUTH": "secret", "REDSHIFT_SECRET_ID": name})
    warehouse = resources_for(settings)["warehouse"]
    if words is None:
        with warehouse.session() as session:
            assert [tuple(row) for row in session.fetch("SELECT current_user::VARCHAR")] == [("cio_sync",)]
    else:
        with pytest.raises(WarehouseRefused, match=words):
            warehouse.session().__enter__()


@pytest.fixture
def collecting() -> Iterator[None]:
    """What a test's log records hold, sockets among it, goes with the test."""
    yield
    gc.collect()


@leaves_sockets
@pytest.mark.usefixtures("collecting")
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
@pytest.mark.parametrize("auth", ["password", "secret", "iam"])
def test_no_login_shows_its_password_at_any_log_level(
    auth: str,
    aws: str,
    tls: RedshiftSettings,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    """A password that is set, read from Secrets Manager or given by AWS is refused: no error and no DEBUG line has it."""
    hush, name = f"Hush-{uuid4().hex}", f"cio-{uuid4().hex}"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setattr("moto.redshift.models.mock_random.get_random_string", lambda *_, **__: hush)
    boto3.client("secretsmanager", endpoint_url=aws).create_secret(
        Name=name, SecretString=json.dumps({"username": "cio_sync", "password": hush})
    )
    boto3.client("redshift", endpoint_url=aws).create_cluster(
        ClusterIdentifier=name, NodeType="ra3.large", MasterUsername="admin", MasterUserPassword="Password1"
    )
    settings = load_settings(
        {
            "REDSHIFT_HOST": tls.host,
            "REDSHIFT_PORT": str(tls.port),
            "REDSHIFT_TLS": "true",
            "REDSHIFT_AUTH": auth,
            "REDSHIFT_PASSWORD": hush,
            "REDSHIFT_SECRET_ID": name,
            "REDSHIFT_CLUSTER": name,
            "REDSHIFT_AWS_REGION": "us-east-1",
        }
    )
    caplog.set_level(logging.DEBUG)
    with pytest.raises(WarehouseRefused) as refused:
        resources_for(settings)["warehouse"].session().__enter__()
    shown = "".join(traceback.format_exception(refused.value))
    logged = [(record.name, record.getMessage()) for record in caplog.records]
    del refused
    caplog.clear()  # its records hold the connection
    gc.collect()
    assert hush not in shown
    assert "redshift_connector" in {name.partition(".")[0] for name, _ in logged}
    assert [name for name, text in logged if hush in text] == []
