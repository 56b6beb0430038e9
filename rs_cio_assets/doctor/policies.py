"""What AWS must allow: the role that Redshift takes for UNLOAD and COPY, and this process. One prefix each, and no more.

Source: AWS, Redshift developer guide, copy-usage_notes-access-permissions (COPY lists and gets, UNLOAD lists and puts); service
authorization references of S3 and KMS; read 2026-11-23. Not proven on a real account.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from rs_cio_assets.settings import Settings

Policy = Mapping[str, Any]
_PUT = ("s3:PutObject", "s3:AbortMultipartUpload")  # large objects go in parts, which are given up when one fails
_OBJECTS = ("s3:GetObject", *_PUT, "s3:DeleteObject")
# They stand where the settings do not say them: AWS refuses the policy until they are replaced.
REGION, ACCOUNT = "REGION", "ACCOUNT_ID"


def role_policy(settings: Settings) -> Policy | None:
    """Of REDSHIFT_ROLE: UNLOAD puts, COPY gets, both list; None where neither is used."""
    redshift = settings.redshift
    if not redshift.has_exchange:
        return None
    verbs = (*_PUT, *(("s3:GetObject",) if redshift.delivery_log else ()))
    bucket = f"arn:aws:s3:::{urlsplit(redshift.unload_to or '').netloc}"
    statements = _on_prefix(redshift.unload_to or "", verbs, redshift.kms_key_id)
    return _policy([*statements, _allow(["s3:GetBucketLocation"], [bucket])])


def trust_policy() -> Policy:
    """Who may take that role: Redshift, provisioned and serverless."""
    services = ["redshift.amazonaws.com", "redshift-serverless.amazonaws.com"]
    return _policy([{"Effect": "Allow", "Principal": {"Service": services}, "Action": "sts:AssumeRole"}])


def process_policy(settings: Settings) -> Policy:
    """Of this process: its store, the exchange, the secret or the database credentials."""
    redshift = settings.redshift
    statements: list[dict[str, Any]] = []
    places = {settings.store.rstrip("/"): None, (redshift.unload_to or "").rstrip("/"): redshift.kms_key_id}
    for url, key in places.items():
        if url.startswith("s3://"):
            statements += _on_prefix(url, _OBJECTS, key)
            statements.append(_allow(["s3:GetLifecycleConfiguration"], [f"arn:aws:s3:::{urlsplit(url).netloc}"]))
    statements += _credentials(settings)
    return _policy(statements)


def _credentials(settings: Settings) -> list[dict[str, Any]]:
    redshift = settings.redshift
    role = redshift.role or ""
    where = f"{redshift.aws_region or REGION}:{role.split(':')[4] if role.startswith('arn:') else ACCOUNT}"
    if redshift.auth == "secret":
        secret = redshift.secret_id or ""
        arn = secret if secret.startswith("arn:") else f"arn:aws:secretsmanager:{where}:secret:{secret}-*"
        return [_allow(["secretsmanager:GetSecretValue"], [arn])]
    if redshift.auth != "iam":
        return []
    if redshift.workgroup:  # its ARN ends in an id that only AWS knows
        return [_allow(["redshift-serverless:GetCredentials"], [f"arn:aws:redshift-serverless:{where}:workgroup/*"])]
    names = [f"dbuser:{redshift.cluster}/{redshift.user or '*'}", f"dbname:{redshift.cluster}/{redshift.database}"]
    return [_allow(["redshift:GetClusterCredentials"], [f"arn:aws:redshift:{where}:{name}" for name in names])]


def _on_prefix(url: str, verbs: Iterable[str], kms_key_id: str | None) -> list[dict[str, Any]]:
    """Objects under *url*, and listing it alone."""
    parts = urlsplit(url)
    bucket, prefix = f"arn:aws:s3:::{parts.netloc}", parts.path.strip("/")
    under = f"{prefix}/*" if prefix else "*"
    statements = [
        _allow([*verbs], [f"{bucket}/{under}"]),
        {**_allow(["s3:ListBucket"], [bucket]), "Condition": {"StringLike": {"s3:prefix": under}}},
    ]
    if kms_key_id and kms_key_id.startswith("arn:"):
        statements.append(_allow(["kms:GenerateDataKey", "kms:Decrypt"], [kms_key_id]))
    return statements


def _allow(actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": actions, "Resource": resources}


def _policy(statements: list[dict[str, Any]]) -> Policy:
    return {"Version": "2012-10-17", "Statement": statements}
