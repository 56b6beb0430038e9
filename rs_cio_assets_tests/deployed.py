"""The files in deploy/ as an operator fills them in: placeholders replaced, policies asked what they allow."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

from moto.iam.access_control import IAMPolicy, PermissionResult

PROJECT = Path(__file__).parents[1]
DEPLOY = PROJECT / "deploy"
ACCOUNT, REGION, BUCKET, CLUSTER = "123456789012", "eu-west-1", "acme-cio", "data"
_SECRETS = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:rs-cio"
FILLED_IN = {
    "ACCOUNT_ID": ACCOUNT,
    "REGION": REGION,
    "BUCKET": BUCKET,
    "CLUSTER": CLUSTER,
    "IMAGE": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/rs-cio:1",
    "POSTGRES_HOST": "postgres.internal",
    "CODE_HOST": "code.rs-cio.internal",
    "START_DATE": "2026-01-01",
    "UI_URL": "https://dagster.internal",
    "REDSHIFT_HOST": "redshift.internal",
    "REDSHIFT_DATABASE": "shop",
    "REDSHIFT_CLUSTER": "warehouse",
    "REDSHIFT_USER": "cio_sync",
    "REDSHIFT_WORKGROUP_ID": "0b1c",
    "REDSHIFT_SECRET_ARN": f"{_SECRETS}/redshift-AbCdEf",
    "CUSTOMERIO_SECRET_ARN": f"{_SECRETS}/customerio-AbCdEf",
    "POSTGRES_SECRET_ARN": f"{_SECRETS}/postgres-AbCdEf",
    "CUSTOMERIO_REGION": "eu",
    "CUSTOMERIO_WORKSPACE_ID": "1",
}


def filled(path: str) -> Any:
    """A JSON file of deploy/. Raises: KeyError for a placeholder that FILLED_IN does not know."""
    return json.loads(Template((DEPLOY / path).read_text()).substitute(FILLED_IN))


def statements(*names: str) -> list[Mapping[str, Any]]:
    """All statements of policies in deploy/iam, by their files' names without `.json`."""
    return [statement for name in names for statement in filled(f"iam/{name}.json")["Statement"]]


def without_conditions(found: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """A policy document of these statements; moto knows no conditions but those of trust, so tests look at them themselves."""
    kept = [{name: value for name, value in statement.items() if name != "Condition"} for statement in found]
    return {"Version": "2012-10-17", "Statement": kept}


def allows(found: Iterable[Mapping[str, Any]], action: str, resource: str) -> bool:
    """True when these statements allow *action* on *resource*, by moto's evaluation, conditions aside."""
    policy = IAMPolicy({"policy_document": json.dumps(without_conditions(found))})
    return policy.is_action_permitted(action, resource) is PermissionResult.PERMITTED


def variables_of(example: str) -> dict[str, str]:
    """The variables of an env file of deploy/."""
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", (DEPLOY / example).read_text(), re.MULTILINE))


def named_by_env(node: Any) -> set[str]:
    """The variables that a YAML file of Dagster takes from the environment (`env: NAME`)."""
    if isinstance(node, Mapping):
        if set(node) == {"env"}:
            return {node["env"]}
        return set().union(*map(named_by_env, node.values()))
    return set().union(*map(named_by_env, node)) if isinstance(node, list) else set()
