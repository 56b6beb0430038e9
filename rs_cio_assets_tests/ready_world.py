"""Stand-ins in which all is in order for production settings: S3, a shop with its views, grants by the script, Customer.io.

The user of the sync has what `rs-cio grants` prints, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rs_cio_assets.contract import Contract, load_contract
from rs_cio_assets.doctor import script
from rs_cio_assets.doctor.storage import expiry_rule
from rs_cio_assets.resources import resources_for
from rs_cio_assets.sandbox.customerio import CustomerioStandIn
from rs_cio_assets.sandbox.customerio.track_api import WORKSPACE_ID
from rs_cio_assets.sandbox.redshift import RedshiftStandIn
from rs_cio_assets.sandbox.s3 import S3StandIn
from rs_cio_assets.sandbox.shop import ensure_shop
from rs_cio_assets.settings import SANDBOX_DEFAULTS, SANDBOX_ROLE, Settings, load_settings
from rs_cio_assets.warehouse import create_view
from rs_cio_assets.warehouse.definition import remember_view
from rs_cio_assets.warehouse.log_schema import ddl
from rs_cio_assets_tests.pipeline import run_sql

USER = "sync_of_a_test"
STORE, EXCHANGE = "s3://rs-cio-sandbox/store", "s3://rs-cio-sandbox/unload"
Answers = dict[str, tuple[int, Any]]


@dataclass
class ReadyWorld:
    """*environ* is that of production; *answers* are given by Customer.io in place of its own, by path: status and JSON."""

    redshift: RedshiftStandIn
    customerio: CustomerioStandIn
    s3: S3StandIn
    answers: Answers
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        """Those of the sync."""
        return load_settings(self.environ)

    def as_administrator(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as the superuser of the stand-in, in one transaction; the rows of the last."""
        return run_sql(load_settings({"REDSHIFT_PORT": str(self.redshift.port)}), *statements)

    def set_rules(self, *without: str) -> None:
        """The bucket's lifecycle rules, all but those of the named areas of the store."""
        places = {"staged": f"{STORE}/staged/", "rejections": f"{STORE}/rejections/", "unload": f"{EXCHANGE}/"}
        rules = [expiry_rule(url, 15) for name, url in places.items() if name not in without]
        self.s3.client.put_bucket_lifecycle_configuration(Bucket="rs-cio-sandbox", LifecycleConfiguration={"Rules": rules})


def production(redshift_port: int, customerio_url: str, s3_url: str) -> dict[str, str]:
    """Every variable that a sync in production sets, pointed at the stand-ins."""
    return {
        "RS_CIO_MODE": "production",
        "RS_CIO_STORE": STORE,
        "RS_CIO_START_DATE": "2026-01-01",
        "REDSHIFT_HOST": "127.0.0.1",
        "REDSHIFT_PORT": str(redshift_port),
        "REDSHIFT_DATABASE": "shop",
        "REDSHIFT_USER": USER,
        "REDSHIFT_PASSWORD": SANDBOX_DEFAULTS["REDSHIFT_PASSWORD"],
        "REDSHIFT_TLS": "false",
        "REDSHIFT_ROLE": SANDBOX_ROLE,
        "REDSHIFT_UNLOAD_TO": EXCHANGE,
        "REDSHIFT_DELIVERY_LOG": "true",
        "RS_CIO_S3_ENDPOINT_URL": s3_url,
        "RS_CIO_S3_REGION": "us-east-1",
        "RS_CIO_S3_ACCESS_KEY_ID": SANDBOX_DEFAULTS["RS_CIO_S3_ACCESS_KEY_ID"],
        "RS_CIO_S3_SECRET_ACCESS_KEY": SANDBOX_DEFAULTS["RS_CIO_S3_SECRET_ACCESS_KEY"],
        "CUSTOMERIO_SITE_ID": SANDBOX_DEFAULTS["CUSTOMERIO_SITE_ID"],
        "CUSTOMERIO_API_KEY": SANDBOX_DEFAULTS["CUSTOMERIO_API_KEY"],
        "CUSTOMERIO_APP_API_KEY": SANDBOX_DEFAULTS["CUSTOMERIO_APP_API_KEY"],
        "CUSTOMERIO_REGION": "us",
        "CUSTOMERIO_WORKSPACE_ID": str(WORKSPACE_ID),
        "CUSTOMERIO_TRACK_URL": customerio_url,
        "CUSTOMERIO_APP_URL": customerio_url,
    }


def statements_of(sql: str) -> list[str]:
    """A script's statements, without comments."""
    text = re.sub(r"^--.*\n", "", sql, flags=re.MULTILINE)
    return [statement.strip() for statement in text.split(";\n") if statement.strip()]


@contextmanager
def ready_world(folder: Path) -> Iterator[ReadyWorld]:
    """It, until the block ends."""
    answers: Answers = {}
    contract = load_contract()
    with ExitStack() as stack:
        s3 = stack.enter_context(S3StandIn())
        redshift = stack.enter_context(RedshiftStandIn(folder / "redshift", s3=lambda: s3.client))
        customerio = stack.enter_context(
            CustomerioStandIn(folder / "customerio", app_requests_per_s=None, wrap=lambda app: _answering(app, answers))
        )
        world = ReadyWorld(redshift, customerio, s3, answers, production(redshift.port, customerio.url, s3.url))
        admin = load_settings({"REDSHIFT_PORT": str(redshift.port)})
        ensure_shop(admin.redshift, today=date(2026, 11, 24), customers=20, seed=1, on_progress=lambda _: None, age_days=30)
        world.as_administrator(*statements_of(ddl()), "REVOKE ASSUMEROLE ON ALL FROM PUBLIC FOR ALL")
        world.as_administrator(*statements_of(script(contract, world.settings.redshift, USER)))
        world.set_rules()
        make_views(world.settings, contract)
        yield world


def make_views(settings: Settings, contract: Contract, feeds: Sequence[str] = ()) -> None:
    """Create and remember the export views as the sync's user; default: of all enabled feeds."""
    resources = resources_for(settings)
    with resources["warehouse"].session() as session:
        for feed in contract.enabled_feeds:
            if not feeds or feed.name in feeds:
                create_view(session, feed)
                remember_view(session, feed, resources["store"], lambda: datetime.now(UTC))


def _answering(app: ASGIApp, answers: Answers) -> ASGIApp:
    async def layer(scope: Scope, receive: Receive, send: Send) -> None:
        found = answers.get(scope.get("path", "")) if scope["type"] == "http" else None
        await (JSONResponse(found[1], found[0]) if found else app)(scope, receive, send)

    return layer
