"""The IAM policies of deploy/iam against what the code asks of AWS: enough for it, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import boto3
import pytest
import redshift_connector
from botocore.client import BaseClient
from dagster._core.storage.compute_log_manager import ComputeIOType
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager
from moto import mock_aws
from moto.core import set_initial_no_auth_action_count

from rs_cio_assets.doctor.policies import process_policy, role_policy, trust_policy
from rs_cio_assets.errors import StoreRefused, WarehouseUnavailable
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import load_settings
from rs_cio_assets.store.s3 import S3Store
from rs_cio_assets.warehouse import Warehouse
from rs_cio_assets_tests.deployed import (
    ACCOUNT,
    BUCKET,
    DEPLOY,
    FILLED_IN,
    REGION,
    allows,
    filled,
    statements,
    without_conditions,
)

POLICIES = sorted(path.stem for path in (DEPLOY / "iam").glob("*.json") if path.stem != "bucket-lifecycle")
# Actions that AWS takes on every resource or none. Source: AWS service authorization reference (ECS, EC2, ECR), read 2026-11-26.
NEED_ANY_RESOURCE = {"ecs:DescribeTaskDefinition", "ec2:DescribeNetworkInterfaces", "ecr:GetAuthorizationToken"}
# By its own name the driver asks for less: under any other it takes it for a custom domain, and looks that up.
HOST = f"warehouse.abc123.{REGION}.redshift.amazonaws.com"
AREAS = ("staged", "rejections", "unload")  # whose expiry the doctor asks for
LARGE = 9 << 20  # beyond the size from which boto3 uploads in parts


@pytest.mark.parametrize("name", POLICIES)
def test_policies_are_well_formed_and_narrow(name: str):
    """Valid to IAM's own rules as moto has them; no action has a star, and no resource is one where AWS can narrow it."""
    document = filled(f"iam/{name}.json")
    assert document["Version"] == "2012-10-17"
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        assert not [action for action in statement["Action"] if "*" in action]
        if "*" in statement.get("Resource", []):
            assert set(statement["Action"]) <= NEED_ANY_RESOURCE
    with mock_aws():
        iam = boto3.client("iam", region_name=REGION)
        if name.endswith("trust"):
            assert {tuple(statement["Action"]) for statement in document["Statement"]} == {("sts:AssumeRole",)}
            iam.create_role(RoleName="role", AssumeRolePolicyDocument=json.dumps(document))
        else:
            iam.create_policy(PolicyName="policy", PolicyDocument=json.dumps(document))


@contextmanager
def acting_as(*policies: str) -> Iterator[Callable[[str], Any]]:
    """An AWS with an empty bucket, and a function that makes clients of a user who has these policies and nothing else."""
    with mock_aws():
        boto3.client("s3", region_name=REGION).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        iam = boto3.client("iam", region_name=REGION)
        iam.create_user(UserName="task")
        give(iam, *policies)
        key = iam.create_access_key(UserName="task")["AccessKey"]
        keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"], "region_name": REGION}
        yield lambda service: boto3.client(service, **keys)


@set_initial_no_auth_action_count(0)
def use_store(client: Any, location: str, tmp_path: Path) -> None:
    """Every verb of the store, small objects and one in parts."""
    store = S3Store(location, client)
    large = tmp_path / "large"
    large.write_bytes(bytes(LARGE))
    store.put("ledger/people/2026-11-20/a.parquet", b"a")
    store.put_file("staged/people/2026-11-20/b.parquet", large)
    assert store.get("ledger/people/2026-11-20/a.parquet") == b"a"
    assert store.get("ledger/people/2026-11-20/none") is None
    assert store.fetch("staged/people/2026-11-20/b.parquet", tmp_path).stat().st_size == LARGE
    assert store.list("ledger/") == ["ledger/people/2026-11-20/a.parquet"]
    assert [found.size_bytes for found in store.objects("staged/people/")] == [LARGE]
    store.delete(["ledger/people/2026-11-20/a.parquet"])


@pytest.mark.parametrize("place", ["store", "store/unload"])
def test_a_task_may_use_the_store_and_the_exchange(place: str, tmp_path: Path):
    """With policies enforced, every verb of S3Store works on both prefixes, and lists only what the condition allows."""
    listed: list[str] = []
    with acting_as("task") as client:
        s3 = client("s3")
        s3.meta.events.register("before-parameter-build.s3.ListObjectsV2", lambda params, **_: listed.append(params["Prefix"]))
        use_store(s3, f"s3://{BUCKET}/{place}", tmp_path)
    assert allows(statements("task"), "s3:DeleteObject", f"arn:aws:s3:::{BUCKET}/{place}/ledger/people/a.parquet")
    assert len(listed) == 2
    assert all(may_list(prefix, "task") for prefix in listed)


@pytest.mark.parametrize(("policy", "place"), [("task", "other"), ("dagster", "store"), ("redshift-role", "store/ledger")])
def test_nobody_reaches_what_is_not_theirs(policy: str, place: str, tmp_path: Path):
    """A task has no other prefix, webserver and daemon no store, and Redshift's role no ledger."""
    with acting_as(policy) as client, pytest.raises(StoreRefused, match="AccessDenied"):
        use_store(client("s3"), f"s3://{BUCKET}/{place}", tmp_path)
    assert not may_list(f"{place}/x", policy)


def test_redshift_unloads_and_copies_with_its_role():
    """AWS names these for UNLOAD and COPY; the role has them on the exchange, and can remove nothing.

    Source: Redshift developer guide, copy-usage_notes-access-permissions, read 2026-11-26. Not proven on a real cluster.
    """
    role = statements("redshift-role")
    for action in ("s3:GetObject", "s3:PutObject"):
        assert allows(role, action, f"arn:aws:s3:::{BUCKET}/store/unload/reads/people/part_00.parquet")
        assert not allows(role, action, f"arn:aws:s3:::{BUCKET}/store/ledger/people/a.parquet")
    assert may_list("store/unload/reads/people/", "redshift-role")
    assert not [statement for statement in role if any("Delete" in action for action in statement["Action"])]


def test_output_of_runs_is_written_by_tasks_and_read_by_the_webserver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """S3ComputeLogManager works under both roles, each for its part."""
    log_key = ["run", "compute_logs", "step"]

    @set_initial_no_auth_action_count(0)
    def write() -> None:
        manager = S3ComputeLogManager(bucket=BUCKET, prefix="logs", local_dir=str(tmp_path / "task"), skip_empty_files=True)
        with manager.local_manager.open_log_stream(log_key, ComputeIOType.STDERR) as stream:
            stream.write("a traceback")
        manager.upload_to_cloud_storage(log_key, ComputeIOType.STDERR)

    @set_initial_no_auth_action_count(0)
    def read() -> tuple[bool, bool, bytes | None]:
        manager = S3ComputeLogManager(bucket=BUCKET, prefix="logs", local_dir=str(tmp_path / "webserver"))
        has = tuple(manager.cloud_storage_has_logs(log_key, kind) for kind in (ComputeIOType.STDERR, ComputeIOType.STDOUT))
        manager.download_from_cloud_storage(log_key, ComputeIOType.STDERR)
        return *has, manager.get_log_data(log_key).stderr

    with acting_as("task"):
        as_user(monkeypatch)
        write()
        give(boto3.client("iam"), "dagster")
        assert read() == (True, False, b"a traceback")


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")  # dagster-aws's SecretsManagerResource
@pytest.mark.parametrize(
    ("auth", "login", "policy", "action", "resources"),
    [
        (
            {"REDSHIFT_AUTH": "secret", "REDSHIFT_SECRET_ID": FILLED_IN["REDSHIFT_SECRET_ARN"]},
            {"SecretString": json.dumps({"username": "cio_sync", "password": "made-up"})},
            "redshift-login-secret",
            "secretsmanager:GetSecretValue",
            [FILLED_IN["REDSHIFT_SECRET_ARN"]],
        ),
        (
            {"REDSHIFT_AUTH": "iam", "REDSHIFT_CLUSTER": "warehouse", "REDSHIFT_USER": "cio_sync"},
            {"DbUser": "IAM:cio_sync", "DbPassword": "made-up", "Expiration": None},
            "redshift-login-iam",
            "redshift:GetClusterCredentials",
            [f"arn:aws:redshift:{REGION}:{ACCOUNT}:{name}" for name in ("dbuser:warehouse/cio_sync", "dbname:warehouse/shop")],
        ),
        (
            {"REDSHIFT_AUTH": "iam", "REDSHIFT_WORKGROUP": "shop"},
            {"dbUser": "IAMR:task", "dbPassword": "made-up", "expiration": None},
            "redshift-login-serverless",
            "redshift-serverless:GetCredentials",
            [f"arn:aws:redshift-serverless:{REGION}:{ACCOUNT}:workgroup/0b1c"],
        ),
    ],
    ids=["secret", "iam", "serverless"],
)
def test_logging_in_needs_one_action(
    auth: Mapping[str, str],
    login: Mapping[str, Any],
    policy: str,
    action: str,
    resources: list[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """Each way to log in asks AWS for one thing, once, and its policy allows that on what it is for and nothing else."""
    asked: list[str] = []

    def answer(client: BaseClient, operation: str, _: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append(f"{client.meta.service_model.service_name}:{operation}")
        return dict(login)

    class LoggedIn(Exception):
        """The driver has its credentials."""

    def connect(**_: Any) -> None:
        raise LoggedIn

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setattr(BaseClient, "_make_api_call", answer)
    monkeypatch.setattr(redshift_connector, "Connection", connect)
    monkeypatch.setattr(Warehouse, "require_reachable", lambda _: None)
    settings = load_settings(
        {**auth, "REDSHIFT_HOST": HOST, "REDSHIFT_TLS": "true", "REDSHIFT_AWS_REGION": REGION, "REDSHIFT_DATABASE": "shop"}
    )
    with pytest.raises(WarehouseUnavailable, match="LoggedIn"), resources_for(settings)["warehouse"].session():
        pass
    assert asked == [action]
    found = statements(policy)
    assert all(allows(found, action, resource) for resource in resources)
    assert sorted(resource for statement in found for resource in statement["Resource"]) == sorted(resources)


def test_what_the_grants_command_prints_is_in_these_policies():
    """rs-cio grants --iam, with the settings of a task, asks for nothing that deploy/iam leaves out: they cannot drift apart."""
    (container,) = filled("ecs/run.json")["containerDefinitions"]
    given = {item["name"]: item["value"] for item in container["environment"]}
    given |= {item["name"]: "made-up" for item in container["secrets"]}
    settings = load_settings({"RS_CIO_MODE": "production", "REDSHIFT_DELIVERY_LOG": "true", **given})
    of_the_task = statements("task", "redshift-login-secret")
    for printed, found in (
        (process_policy(settings), of_the_task),
        (role_policy(settings), statements("redshift-role")),
    ):
        wanted = {
            (action, resource)
            for statement in printed["Statement"]
            for action in statement["Action"]
            for resource in statement["Resource"]
        }
        assert wanted
        assert {pair for pair in wanted if not allows(found, *pair)} == set()
    (trust,) = statements("redshift-role-trust")
    assert trust["Principal"] == trust_policy()["Statement"][0]["Principal"]


def test_the_bucket_expires_rows_of_people_and_keeps_the_ledger():
    """Every folder with rows of people has an expiry, their old versions go the next day; the ledger's come back for 90 days."""
    with acting_as("task") as client:
        boto3.client("s3").put_bucket_lifecycle_configuration(
            Bucket=BUCKET, LifecycleConfiguration=filled("iam/bucket-lifecycle.json")
        )
        kept = boto3.client("s3").get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
        store = S3Store(f"s3://{BUCKET}/store", client("s3"))
        seen = set_initial_no_auth_action_count(0)(lambda: [store.expires_after_days(f"{area}/") for area in AREAS])()
    assert seen == [45, 120, 2], "the doctor sees a rule for each"
    by_prefix = {rule["Filter"]["Prefix"]: rule for rule in kept}
    sandbox = load_settings({})
    for area, least in (("staged", sandbox.staged_days), ("rejections", sandbox.rejections_days)):
        assert by_prefix[f"store/{area}/"]["Expiration"]["Days"] > least
    for area in ("unload", "staged", "rejections", "differences", "looks", "canaries"):
        assert by_prefix[f"store/{area}/"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 1
    assert by_prefix["store/unload/"]["Expiration"]["Days"] >= 2
    assert by_prefix["store/ledger/"]["NoncurrentVersionExpiration"]["NoncurrentDays"] == 90
    for area in ("ledger", "brakes", "views", "keys"):
        expiring = [prefix for prefix, rule in by_prefix.items() if f"store/{area}/".startswith(prefix) and "Expiration" in rule]
        assert expiring == []


def give(iam: Any, *policies: str) -> None:
    """The user `task` has these policies together.

    Where they let objects be removed, the bucket is added: for DeleteObjects moto looks at the bucket, AWS at each object.
    """
    found = statements(*policies)
    if any("s3:DeleteObject" in statement["Action"] for statement in found):
        found.append({"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": [f"arn:aws:s3:::{BUCKET}"]})
    document = json.dumps(without_conditions(found))
    iam.put_user_policy(UserName="task", PolicyName="all", PolicyDocument=document)


def as_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own credentials are new ones of the user `task`."""
    key = boto3.client("iam", region_name=REGION).create_access_key(UserName="task")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)


def may_list(prefix: str, policy: str) -> bool:
    """True when the conditions of *policy* let a listing of the bucket ask for *prefix*."""
    patterns = [
        pattern
        for statement in statements(policy)
        if "s3:ListBucket" in statement["Action"] and statement["Resource"] == [f"arn:aws:s3:::{BUCKET}"]
        for pattern in statement["Condition"]["StringLike"]["s3:prefix"]
    ]
    assert patterns
    return any(fnmatchcase(prefix, pattern) for pattern in patterns)
