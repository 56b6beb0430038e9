"""IAM logins of the unmodified driver, to their end: AWS is asked, its answer logs in, over TLS that is verified.

Password, Secrets Manager and refused certificates are in test_warehouse_session.py. Not proven here: what AWS itself allows, and
that Redshift takes the prefix (`IAM:`, `IAMR:`) from the user's name; the stand-in has a user of the whole name.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.settings import SANDBOX_DEFAULTS, RedshiftSettings, load_settings
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets_tests.pipeline import run_sql
from rs_cio_assets_tests.relay import Relay, make_certificate

PASSWORD = SANDBOX_DEFAULTS["REDSHIFT_PASSWORD"]
REGION = "eu-west-1"
pytestmark = pytest.mark.filterwarnings("ignore:ssl[.]:DeprecationWarning")  # the driver uses ssl in ways that Python calls old


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost that signs itself."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def tls(redshift: RedshiftStandIn, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedshiftSettings]:
    """IAM settings of the stand-in behind TLS, whose certificate is trusted; nothing of them is a password."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    relay = Relay(redshift.port, certificate)
    settings = load_settings({"REDSHIFT_PORT": str(redshift.port)}).redshift
    update = {"host": "localhost", "port": relay.port, "tls": True, "auth": "iam", "password": None, "aws_region": REGION}
    yield settings.model_copy(update=update)
    relay.close()


def user_of(settings: RedshiftSettings) -> str:
    """Log in, and ask who that is."""
    with Warehouse(settings).session() as session:
        return str(session.fetch("SELECT current_user::VARCHAR")[0][0])


def make_user(redshift: RedshiftStandIn, name: str) -> None:
    """A user of the stand-in."""
    run_sql(load_settings({"REDSHIFT_PORT": str(redshift.port)}), f'DROP USER IF EXISTS "{name}"', f'CREATE USER "{name}"')


def test_iam_of_a_cluster_logs_in(redshift: RedshiftStandIn, tls: RedshiftSettings, monkeypatch: pytest.MonkeyPatch):
    """GetClusterCredentials of moto gives user and password (one that the stand-in knows), and the session is that user's."""
    monkeypatch.setattr("moto.redshift.models.mock_random.get_random_string", lambda *_, **__: PASSWORD)
    make_user(redshift, "IAM:cio_sync")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        boto3.client("redshift", region_name=REGION).create_cluster(
            ClusterIdentifier="logged-in", NodeType="ra3.large", MasterUsername="admin", MasterUserPassword="Password1"
        )
        assert user_of(tls.model_copy(update={"cluster": "logged-in"})) == "IAM:cio_sync"
    finally:
        server.stop()


class Serverless(BaseHTTPRequestHandler):
    """Redshift Serverless's GetCredentials alone (moto has none), as its API reference says; keeps what it was asked."""

    asked: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 - cleared by the test

    def do_POST(self) -> None:
        """Note the question, and answer with a user that the stand-in knows."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.headers["X-Amz-Target"], body))
        in_an_hour = time.time() + 3600
        answer = {"dbUser": "IAMR:rs-cio", "dbPassword": PASSWORD, "expiration": in_an_hour, "nextRefreshTime": in_an_hour}
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_iam_of_a_workgroup_logs_in(redshift: RedshiftStandIn, tls: RedshiftSettings, monkeypatch: pytest.MonkeyPatch):
    """GetCredentials is asked for the workgroup and the database, by boto3's own model of the API; its user is the session's."""
    make_user(redshift, "IAMR:rs-cio")
    Serverless.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Serverless) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        assert user_of(tls.model_copy(update={"workgroup": "shop-workgroup", "user": None})) == "IAMR:rs-cio"
        server.shutdown()
    ((target, question),) = Serverless.asked
    assert target == "RedshiftServerless.GetCredentials"
    assert (question["workgroupName"], question["dbName"]) == ("shop-workgroup", "shop")
