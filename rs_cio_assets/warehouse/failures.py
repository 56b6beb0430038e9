"""The driver's exceptions to ours. A message keeps the server's own words only where they name objects, never values."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping

import redshift_connector
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as AwsConnectionError

from rs_cio_assets.errors import RsCioError, WarehouseConflict, WarehouseForbidden, WarehouseRefused, WarehouseUnavailable
from rs_cio_assets.settings import RedshiftSettings

# SQLSTATE -> what it means here and what to do. Classes are in the PostgreSQL manual, appendix A; Redshift uses the same.
_REFUSALS = {
    "28000": "check REDSHIFT_USER and REDSHIFT_PASSWORD (or REDSHIFT_AUTH)",
    "28P01": "check REDSHIFT_USER and REDSHIFT_PASSWORD (or REDSHIFT_AUTH)",
    "3D000": "check REDSHIFT_DATABASE",
    "3F000": "create the schema, or correct the view's name in the contract",
    "42P01": "materialize redshift/views/<feed>, or create the table that the view reads",
    "42703": "correct the column's name in the view's SQL or the contract, then materialize redshift/views/<feed>",
    "42601": "mend the view's SQL (make check lints it)",
    "0A000": "use the portable subset (docs/analyst.md)",
}
_TRANSIENT = {
    "57014": (
        "the statement ran into its timeout or was cancelled",
        "raise REDSHIFT_STATEMENT_TIMEOUT_S if it repeats",
    ),
    "40001": ("Redshift asked to repeat the transaction (serialization conflict, 1023)", "run it again"),
    "XX000": ("Redshift reported an internal error", "look at the query in the Redshift console if it repeats"),
}
_TRANSIENT_CLASSES = {"08", "53", "57", "58"}  # connection, resources, operator intervention, system
_NAMES_OBJECTS = {"28", "3D", "3F", "42", "0A"}  # classes whose messages hold names, not data
_CUT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)  # a connection that broke, not a certificate
# What Redshift says when UNLOAD or COPY cannot use S3: `S3ServiceException:Access Denied,Status 403,Error AccessDenied,Rid ...`.
# Source: AWS's pages on UNLOAD and COPY errors, read 2026-11-26; not proven on a real cluster.
_S3_ERROR = re.compile(r"S3ServiceException:.*?Status (\d{3}),\s*Error (\w+)", re.DOTALL)
_ROLE_ERROR = re.compile(r"assume|not associated to|credentials of role|IAM role", re.IGNORECASE)
_SERIALIZATION_TEXT = "1023"  # Redshift's own number for a serializable isolation violation


def server_error(error: BaseException) -> Mapping[str, str] | None:
    """The fields of an error that the server sent (its session goes on), or None for anything else."""
    fields = error.args[0] if isinstance(error, redshift_connector.Error) and error.args else None
    return fields if isinstance(fields, dict) and "C" in fields else None


def as_ours(error: BaseException, settings: RedshiftSettings) -> RsCioError:
    """Any exception of the driver, of its sockets or of AWS as WarehouseRefused or WarehouseUnavailable."""
    if fields := server_error(error):
        return _from_server(fields, settings)
    where = f"{settings.host}:{settings.port}"
    tls_error = _tls_error(error)
    if tls_error and not isinstance(tls_error, _CUT_TLS):
        return WarehouseRefused(
            f"the TLS connection to {where} was refused: {tls_error.reason or type(tls_error).__name__}",
            next_step="check REDSHIFT_HOST against the certificate, and the machine's CA certificates",
        )
    if may_pass(error):
        return WarehouseUnavailable("AWS did not give database credentials", next_step="run it again")
    if refused := _from_login(error, where):
        return refused
    return WarehouseUnavailable(
        f"the connection to {where} failed ({type(error).__name__}); the session was thrown away",
        next_step="run it again; if it repeats, look at the network and the cluster's state",
    )


def may_pass(error: BaseException) -> bool:
    """True when AWS could not be reached, was busy or failed: the same call may work later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or "Throttling" in error.response.get("Error", {}).get("Code", "")
    return isinstance(error, AwsConnectionError | HTTPClientError)


def _from_login(error: BaseException, where: str) -> WarehouseRefused | None:
    """What AWS or the driver refuses before the server is asked; None for anything else."""
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "unknown")
        return WarehouseRefused(
            f"AWS answered {code} when asked for database credentials",
            next_step="check the role's permissions, REDSHIFT_CLUSTER or REDSHIFT_WORKGROUP, and REDSHIFT_AWS_REGION",
        )
    if isinstance(error, BotoCoreError):
        return WarehouseRefused(
            f"AWS credentials could not be used: {type(error).__name__}",
            next_step="give the process a role or AWS_* variables",
        )
    if isinstance(error, redshift_connector.InterfaceError) and "SSL must be enabled" in str(error):
        return WarehouseRefused("IAM credentials are used over TLS only", next_step="set REDSHIFT_TLS=true")
    if isinstance(error, redshift_connector.InterfaceError) and "refuses SSL" in str(error):
        return WarehouseRefused(
            f"{where} does not offer TLS", next_step="check REDSHIFT_HOST and REDSHIFT_PORT; keep REDSHIFT_TLS=true"
        )
    return None


def _tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error that *error* is, or that the driver wrapped as a part of its own."""
    return next((part for part in (error, *error.args) if isinstance(part, ssl.SSLError)), None)


def unreachable(settings: RedshiftSettings, reason: str) -> WarehouseUnavailable:
    """Nothing answers at the configured address."""
    return WarehouseUnavailable(
        f"Redshift cannot be reached at {settings.host}:{settings.port}: {reason}",
        next_step="check REDSHIFT_HOST, REDSHIFT_PORT and the network (with the sandbox: is `make demo` or `make dev` running?)",
    )


def _from_s3(message: str) -> RsCioError | None:
    """What S3 or IAM refused Redshift in UNLOAD or COPY; None for anything else."""
    if found := _S3_ERROR.search(message):
        status, code = found.groups()
        what = f"S3 answered Redshift {status} {code}"
        if status.startswith("5") or code in {"SlowDown", "ExpiredToken", "RequestTimeout"}:
            return WarehouseUnavailable(what, next_step="run it again; if it repeats, look at the state of S3 and of the role")
        return WarehouseRefused(
            what,
            next_step="let the role of REDSHIFT_ROLE put, get, list and delete in REDSHIFT_UNLOAD_TO, and use its KMS key "
            "(`rs-cio grants --iam` prints the policy)",
        )
    if _ROLE_ERROR.search(message):
        return WarehouseRefused(
            "Redshift may not take the role of REDSHIFT_ROLE",
            next_step="attach the role to the cluster or workgroup, and GRANT ASSUMEROLE on it FOR UNLOAD and FOR COPY "
            "(`rs-cio grants` prints it)",
        )
    return None


def _from_server(fields: Mapping[str, str], settings: RedshiftSettings) -> RsCioError:
    code = fields["C"]
    if of_s3 := _from_s3(fields.get("M", "")):
        return of_s3
    text = fields.get("M", "") if code[:2] in _NAMES_OBJECTS else ""
    if code == "42501":
        return WarehouseForbidden(
            f"Redshift refused: {text}",
            next_step=f"GRANT USAGE on its schema and SELECT on it to {settings.user or 'the user of the sync'}",
        )
    if code in _REFUSALS:
        return WarehouseRefused(f"Redshift refused: {text} ({code})", next_step=_REFUSALS[code])
    if _SERIALIZATION_TEXT in fields.get("M", "") and code == "XX000":
        code = "40001"
    if code in _TRANSIENT or code[:2] in _TRANSIENT_CLASSES:
        problem, next_step = _TRANSIENT.get(code, (f"Redshift is not available ({code})", "run it again"))
        kind = WarehouseConflict if code == "40001" else WarehouseUnavailable
        return kind(problem, next_step=next_step)
    if code[:2] == "22":
        return WarehouseRefused(
            f"a value in the view cannot be computed ({code}: {_DATA_ERRORS.get(code, 'data exception')})",
            next_step="mend the cast or the division in the view's SQL",
        )
    return WarehouseRefused(f"Redshift refused the statement ({code}) {text}".strip(), next_step="mend the view's SQL")


_DATA_ERRORS = {
    "22012": "division by zero",
    "22003": "a number is out of range",
    "22007": "invalid date or time",
    "22P02": "a text is not of the type it is cast to",
    "22001": "a text is too long for its type",
}
