"""Environment variables to typed settings: the only reader of the environment.

`RS_CIO_MODE` picks the defaults: `sandbox` (the stand-ins on 127.0.0.1) or `production`, where nothing has a default
that could send data to the wrong place. Product code gets the result and never asks which mode it was. Every problem is
reported at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from rs_cio_assets.errors import SettingsError

Region = Literal["us", "eu"]

# Source: Customer.io Track API and App API documents (customerio-api.md sections 1.1 and 4, read 2026-08-13).
TRACK_URLS: dict[Region, str] = {"us": "https://track.customer.io", "eu": "https://track-eu.customer.io"}
APP_URLS: dict[Region, str] = {"us": "https://api.customer.io", "eu": "https://api-eu.customer.io"}

SANDBOX_HOME = Path(".rs_cio")
SANDBOX_REDSHIFT_PORT = 15439
SANDBOX_CUSTOMERIO_PORT = 18080
SANDBOX_S3_PORT = 19000
SANDBOX_ROLE = "arn:aws:iam::000000000000:role/rs-cio-sandbox"
SANDBOX_DEFAULTS: Mapping[str, str] = {
    "RS_CIO_STORE": str(SANDBOX_HOME / "store"),
    "RS_CIO_CANARY": "true",
    "RS_CIO_UI_URL": "http://127.0.0.1:3000",
    "REDSHIFT_HOST": "127.0.0.1",
    "REDSHIFT_PORT": str(SANDBOX_REDSHIFT_PORT),
    "REDSHIFT_DATABASE": "shop",
    "REDSHIFT_USER": "cio_sync",
    "REDSHIFT_PASSWORD": "sandbox",
    "REDSHIFT_TLS": "false",
    "REDSHIFT_ROLE": SANDBOX_ROLE,
    "REDSHIFT_UNLOAD_TO": "s3://rs-cio-sandbox/unload",
    "REDSHIFT_UNLOAD_ROWS": "1",
    "REDSHIFT_DELIVERY_LOG": "true",
    "RS_CIO_S3_ENDPOINT_URL": f"http://127.0.0.1:{SANDBOX_S3_PORT}",
    "RS_CIO_S3_ACCESS_KEY_ID": "sandbox",
    "RS_CIO_S3_SECRET_ACCESS_KEY": "sandbox",
    "CUSTOMERIO_SITE_ID": "sandbox-site",
    "CUSTOMERIO_API_KEY": "sandbox-track-key",
    "CUSTOMERIO_APP_API_KEY": "sandbox-app-key",
    "CUSTOMERIO_REGION": "us",
    "CUSTOMERIO_WORKSPACE_ID": "100001",
    "CUSTOMERIO_TRACK_URL": f"http://127.0.0.1:{SANDBOX_CUSTOMERIO_PORT}",
    "CUSTOMERIO_MAX_REQUESTS_PER_S": "100",
    "CUSTOMERIO_APP_URL": f"http://127.0.0.1:{SANDBOX_CUSTOMERIO_PORT}",
    "CUSTOMERIO_UI_URL": f"http://127.0.0.1:{SANDBOX_CUSTOMERIO_PORT}",
}

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
Flag = Annotated[bool, BeforeValidator(lambda v: _WORDS.get(v.lower(), v) if isinstance(v, str) else v)]


class Secret(SecretStr):
    """A text that is shown as `**********` and cannot be pickled: pydantic's own is pickled with its value."""

    def __reduce_ex__(self, _: Any) -> Any:
        """Raises: TypeError, always."""
        raise TypeError("settings hold secrets: they are read from the environment again, never written anywhere")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: Any) -> Self:
        return self


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RedshiftSettings(_Settings):
    """How to reach the warehouse. Seconds are seconds; TLS is verified whenever it is on."""

    host: str = Field(min_length=1)
    port: int = Field(default=5439, ge=1, le=65535)
    database: str = Field(min_length=1)
    user: str | None = None
    password: Secret | None = None
    secret_id: str | None = Field(default=None, description="Secrets Manager name or ARN, for auth=secret.")
    cluster: str | None = Field(default=None, description="Cluster identifier, for auth=iam.")
    workgroup: str | None = Field(default=None, description="Serverless workgroup, for auth=iam.")
    # Declared after what it needs: its validator looks back at them, and runs even where another field is missing.
    auth: Literal["password", "secret", "iam"] = Field(default="password", validate_default=True)
    aws_region: str | None = None
    tls: Flag = True
    connect_timeout_s: int = Field(default=15, ge=1)
    statement_timeout_s: int = Field(default=900, ge=1)
    query_group: str = Field(default="cio_sync", pattern=r"^[A-Za-z0-9_]{1,64}$")
    fetch_rows: int = Field(
        default=1_000, ge=1, le=100_000, description="Rows per FETCH; a single-node cluster takes 1,000 at most."
    )
    read: Literal["auto", "unload", "driver"] = Field(
        default="auto", description="How feeds whose contract says nothing else are read; auto goes by unload_rows."
    )
    unload_to: str | None = Field(
        default=None,
        pattern=r"^s3://[A-Za-z0-9.-]+(/[A-Za-z0-9_.=+-]+)*$",
        description="Where UNLOAD writes and COPY reads, s3://bucket/prefix; default: unload/ in a store on S3.",
    )
    role: str | None = Field(
        default=None,
        pattern=r"^(default|arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9+=,.@_/-]+(,arn:aws[a-z-]*:iam::\d{12}:role/[A-Za-z0-9+=,.@_/-]+)*)$",
        description="The role that Redshift takes for UNLOAD and COPY: an ARN, a chain of them, or default.",
    )
    kms_key_id: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9:/_-]+$", description="Encrypts unloaded files with this key; default: SSE-S3."
    )
    unload_rows: int = Field(default=100_000, ge=1, description="auto: a reading of so many rows and more goes by UNLOAD.")
    unload_file_mb: int = Field(default=64, ge=32, le=6_200, description="MAXFILESIZE of UNLOAD; memory grows with it.")
    views: Literal["create", "verify"] = Field(
        default="create", description="verify: others own the export views (dbt); they are compared, never replaced."
    )
    delivery_log: Flag = Field(default=False, description="Write what became of each row to the schema cio_sync.")

    @property
    def has_exchange(self) -> bool:
        """True where UNLOAD and COPY have a place on S3 and a role."""
        return bool(self.unload_to and self.role)

    @model_validator(mode="after")
    def _unload_is_complete(self) -> Self:
        if self.read == "unload" and not self.has_exchange:
            raise ValueError("REDSHIFT_READ=unload also needs REDSHIFT_ROLE, and REDSHIFT_UNLOAD_TO or a store on S3")
        return self

    @field_validator("auth")
    @classmethod
    def _auth_is_complete(cls, auth: str, info: ValidationInfo) -> str:
        has = {name for name, value in info.data.items() if value}
        missing = {
            "password": [name for name in ("USER", "PASSWORD") if name.lower() not in has],
            "secret": [] if "secret_id" in has else ["SECRET_ID"],
            "iam": [] if has & {"cluster", "workgroup"} else ["CLUSTER or REDSHIFT_WORKGROUP"],
        }[auth]
        if missing:
            raise ValueError(f"{auth} also needs {', '.join(f'REDSHIFT_{name}' for name in missing)}")
        return auth


class S3Settings(_Settings):
    """How S3 is reached where the usual chain of AWS (role, AWS_* variables) is not it: another endpoint, other keys."""

    endpoint_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    access_key_id: Secret | None = None
    secret_access_key: Secret | None = None
    region: str | None = None


class CustomerioSettings(_Settings):
    """How to reach one Customer.io workspace, and how fast."""

    site_id: str = Field(min_length=1)
    api_key: Secret = Field(min_length=1)
    app_api_key: Secret | None = Field(default=None, description="For checks that read back.")
    region: Region
    workspace_id: int | None = Field(default=None, description="The workspace that the keys must belong to; unset: any.")
    track_url: str = ""
    app_url: str = ""
    ui_url: str = Field(
        default="", pattern=r"^(https?://\S+)?$", description="Of the workspace's pages, before /segments/<number>: for links."
    )
    max_requests_per_s: float = Field(
        default=10, gt=0, le=1_000, description="Track API requests per second; 1,000 is Customer.io's own limit."
    )
    concurrency: int = Field(default=4, ge=1, le=64, description="Track API requests in flight.")
    timeout_s: float = Field(default=30, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _urls_follow_the_region(cls, values: dict[str, Any]) -> dict[str, Any]:
        region = values.get("region")
        if region in TRACK_URLS:
            values = {"track_url": TRACK_URLS[region], "app_url": APP_URLS[region], **values}
        return values


class AlertSettings(_Settings):
    """Who is told when something is wrong, beside the log. Addresses of webhooks are secrets: whoever has one may write there."""

    webhook_url: Secret | None = Field(default=None, description="Gets one JSON document per message.")
    slack_url: Secret | None = Field(default=None, description="An incoming webhook of Slack.")
    ui_url: str = Field(default="", pattern=r"^(https?://\S+)?$", description="Of the Dagster UI: where links in messages lead.")

    @field_validator("webhook_url", "slack_url")
    @classmethod
    def _is_an_address(cls, url: Secret | None) -> Secret | None:
        if url and not url.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("is no address: it must begin with https:// or http://")
        return url


class Settings(_Settings):
    """Everything the project reads from the environment."""

    mode: Literal["sandbox", "production"] = "sandbox"
    store: str = Field(min_length=1, description="A local folder, or s3://bucket/prefix.")
    contract: Path | None = Field(default=None, description="A contract folder in place of the shipped one.")
    start_date: date = Field(description="First daily partition (UTC).")
    lateness_days: int = Field(default=35, ge=1, le=400, description="Days before today whose rows may still arrive or change.")
    late_data_every_s: int = Field(default=300, ge=5, description="Seconds between two looks of the sensor late_data.")
    canary: Flag = Field(default=False, description="Checks that send two made-up people to the workspace and delete them.")
    automation: Flag = Field(default=False, description="Schedules and sensors run without being turned on in the UI.")
    sync_cron: str = Field(default="0 5 * * *", description="When yesterday is synced (UTC): after the warehouse's load.")
    checks_cron: str = Field(default="0 6 * * *", description="When the checks run (UTC): after the sync.")
    # An event that is held comes due at most 72 h and 5 min after it happened; its row must still be staged by then. Fifteen days
    # are what the checks that read back look at unless told otherwise.
    staged_days: int = Field(default=15, ge=4, description="Staged rows go so many days after they were read.")
    rejections_days: int = Field(default=90, ge=1, description="Rejected rows go so many days after they were last seen.")
    preflight: Flag = Field(
        default=True, description="Before the first row goes to a workspace: what rs-cio doctor calls a failure stops it."
    )
    redshift: RedshiftSettings
    s3: S3Settings = S3Settings()
    customerio: CustomerioSettings
    alerts: AlertSettings = AlertSettings()


# Variable -> where it goes. The prefixes keep one table for code, errors and the README (a test compares them).
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "RS_CIO_MODE": ("mode",),
    "RS_CIO_STORE": ("store",),
    "RS_CIO_CONTRACT": ("contract",),
    "RS_CIO_START_DATE": ("start_date",),
    "RS_CIO_LATENESS_DAYS": ("lateness_days",),
    "RS_CIO_LATE_DATA_EVERY_S": ("late_data_every_s",),
    "RS_CIO_CANARY": ("canary",),
    "RS_CIO_AUTOMATION": ("automation",),
    "RS_CIO_SYNC_CRON": ("sync_cron",),
    "RS_CIO_CHECKS_CRON": ("checks_cron",),
    "RS_CIO_STAGED_DAYS": ("staged_days",),
    "RS_CIO_REJECTIONS_DAYS": ("rejections_days",),
    "RS_CIO_PREFLIGHT": ("preflight",),
    "RS_CIO_UI_URL": ("alerts", "ui_url"),
    "RS_CIO_ALERT_WEBHOOK_URL": ("alerts", "webhook_url"),
    "RS_CIO_ALERT_SLACK_URL": ("alerts", "slack_url"),
    **{f"REDSHIFT_{name.upper()}": ("redshift", name) for name in RedshiftSettings.model_fields},
    **{f"RS_CIO_S3_{name.upper()}": ("s3", name) for name in S3Settings.model_fields},
    **{f"CUSTOMERIO_{name.upper()}": ("customerio", name) for name in CustomerioSettings.model_fields},
}


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from *environ* (default: the process's environment). Empty variables count as unset.

    Raises: SettingsError, naming every variable that is missing or wrong, without its value.
    """
    given = {k: v for k, v in (os.environ if environ is None else environ).items() if k in VARIABLES and v}
    mode = given.get("RS_CIO_MODE", "sandbox")
    defaults: dict[str, str] = {}
    if mode == "sandbox":
        two_years_ago = datetime.now(UTC).date() - timedelta(days=730)
        defaults = {**SANDBOX_DEFAULTS, "RS_CIO_START_DATE": two_years_ago.replace(day=1).isoformat()}
    values: dict[str, Any] = {"redshift": {}, "s3": {}, "customerio": {}, "alerts": {}}
    for name, value in {**defaults, **given}.items():
        *group, field = VARIABLES[name]
        (values[group[0]] if group else values)[field] = value
    if values.get("store", "").startswith("s3://") and "REDSHIFT_UNLOAD_TO" not in given:
        values["redshift"]["unload_to"] = f"{values['store'].rstrip('/')}/unload"
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(
            "\n  ".join(["the environment is not complete:", *_problems(error)]),
            next_step="set the variables named above (README, table of environment variables) and start again",
        ) from None


def environment(overrides: Mapping[str, str]) -> dict[str, str]:
    """A copy of this process's environment with *overrides*, for a child process or for `load_settings`."""
    return {**os.environ, **overrides}


def _problems(error: ValidationError) -> list[str]:
    names = {path: variable for variable, path in VARIABLES.items()}
    lines = []
    for item in error.errors(include_input=False, include_url=False, include_context=False):
        variable = names.get(tuple(str(part) for part in item["loc"]))
        message = "is not set" if item["type"] == "missing" else item["msg"].removeprefix("Value error, ")
        lines.append(f"{variable}: {message}" if variable else message)
    return lines
