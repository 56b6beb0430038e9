"""The two dagster.yaml of deploy/ as real instances: records in a PostgreSQL, runs' output in S3, runs on ECS (moto's)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import yaml
from botocore.client import BaseClient
from dagster import DagsterInstance, DagsterRunStatus, Definitions, asset, define_asset_job
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.instance.ref import InstanceRef
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.test_utils import create_run_for_test
from moto import mock_aws

from rs_cio_assets.sandbox.redshift.postgres import SUPERUSER, Postgres
from rs_cio_assets_tests.deployed import (
    ACCOUNT,
    BUCKET,
    CLUSTER,
    DEPLOY,
    REGION,
    allows,
    filled,
    named_by_env,
    statements,
)

pytest.importorskip("dagster_postgres", reason="the extra [production] is not installed: any make target installs it anew")

ONE_MACHINE, ECS = DEPLOY / "dagster.yaml", DEPLOY / "ecs" / "dagster.yaml"
PASSWORD = "made-up-password"
COMMAND_BYTES = 8_192  # of all overrides; source: AWS, ECS API reference, RunTask, read 2026-11-26
TASKS = ("webserver", "daemon", "code", "run")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """An empty database server."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS with the bucket, and the variables of the deployment."""
    for name, value in {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_USER": SUPERUSER,
        "POSTGRES_PASSWORD": PASSWORD,
        "POSTGRES_DB": "postgres",
        "DAGSTER_LOGS_BUCKET": BUCKET,
        "DAGSTER_RUN_TASK_DEFINITION": "rs-cio-run",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield
    boto3.DEFAULT_SESSION = None


def reference(path: Path, home: Path, port: int | None = None) -> InstanceRef:
    """The instance of a dagster.yaml, in a DAGSTER_HOME of its own; with *port*, its database is there, without TLS."""
    config = yaml.safe_load(path.read_text())
    if port:
        database = config["storage"]["postgres"]["postgres_db"]
        config["storage"]["postgres"]["postgres_db"] = {**database, "port": port, "params": {}}
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(config))
    return InstanceRef.from_dir(str(home))


def test_the_two_instances_differ_where_they_say(tmp_path: Path):
    """ECS has its launcher, more time to start a run and TLS to its database; the rest is the same, with the sandbox's limits."""
    one, ecs = (yaml.safe_load(path.read_text()) for path in (ONE_MACHINE, ECS))
    sandbox = yaml.safe_load((DEPLOY.parent / "rs_cio_assets" / "sandbox" / "dagster.yaml").read_text())
    assert one["concurrency"] == sandbox["concurrency"]
    assert one["run_retries"] == sandbox["run_retries"]
    assert ecs.pop("run_launcher")["class"] == "EcsRunLauncher"
    assert one.pop("run_launcher")["class"] == "DefaultRunLauncher"
    assert ecs["run_monitoring"].pop("start_timeout_seconds") > one["run_monitoring"].pop("start_timeout_seconds")
    assert ecs["storage"]["postgres"]["postgres_db"].pop("params") == {"sslmode": "require"}
    assert ecs == one


@pytest.mark.parametrize("path", [ONE_MACHINE, ECS], ids=["one-machine", "ecs"])
def test_a_run_is_recorded_in_postgresql_and_its_output_in_s3(path: Path, tmp_path: Path, postgres: Postgres, aws: None):
    """The instance loads as written, makes its tables and keeps a run; a run needs no launcher, nor the rights of one."""

    @asset(pool="customerio")
    def fed() -> None:
        print("a line of raw output")  # noqa: T201 - what is kept

    with DagsterInstance.from_ref(reference(path, tmp_path / "home", postgres.port)) as instance:
        result = (
            Definitions(assets=[fed], jobs=[define_asset_job("sync_day")])
            .resolve_job_def("sync_day")
            .execute_in_process(instance=instance)
        )
        assert instance.get_run_by_id(result.run_id).status is DagsterRunStatus.SUCCESS
        assert instance.get_latest_materialization_event(fed.key) is not None
        limits = instance.get_concurrency_config()
        assert limits.run_queue_config.max_concurrent_runs == 3
        assert limits.pool_config.default_pool_limit == 1
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled
        assert not instance.nux_enabled
        assert instance._run_launcher is None
    keys = [found["Key"] for found in boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix="logs/")["Contents"]]
    assert [key for key in keys if key.endswith(".out") and result.run_id in key]


def test_every_variable_of_the_instances_is_given():
    """What both dagster.yaml and workspace.yaml take from the environment is set by compose's env file and by each task."""
    needed = named_by_env(yaml.safe_load((DEPLOY / "workspace.yaml").read_text()))
    in_compose = needed | named_by_env(yaml.safe_load(ONE_MACHINE.read_text()))
    on_ecs = needed | named_by_env(yaml.safe_load(ECS.read_text()))
    assert in_compose - {line.partition("=")[0] for line in (DEPLOY / "dagster.env.example").read_text().splitlines()} == set()
    for task in TASKS:
        (container,) = filled(f"ecs/{task}.json")["containerDefinitions"]
        given = {item["name"] for item in (*container["environment"], *container["secrets"])}
        assert on_ecs - given == set()


class Asked:
    """What was asked of AWS: (action as IAM calls it, parameters)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[str, Mapping[str, Any]]] = []
        call = BaseClient._make_api_call

        def note(client: BaseClient, operation: str, parameters: Mapping[str, Any]) -> Any:
            self.calls.append((f"{client.meta.service_model.service_name}:{operation}", parameters))
            return call(client, operation, parameters)

        monkeypatch.setattr(BaseClient, "_make_api_call", note)


def test_a_run_starts_stops_and_is_watched_on_ecs(tmp_path: Path, postgres: Postgres, aws: None, monkeypatch: pytest.MonkeyPatch):
    """The launcher starts run.json's definition where the daemon runs; the command fits and holds no secret; dagster.json allows
    each thing that it asks of AWS."""
    ecs = boto3.client("ecs")
    daemon = task_of_the_daemon(ecs)
    monkeypatch.setattr(
        "dagster_aws.ecs.launcher.get_current_ecs_task_metadata", lambda: SimpleNamespace(cluster=CLUSTER, task_arn=daemon)
    )
    asked = Asked(monkeypatch)
    with DagsterInstance.from_ref(reference(ECS, tmp_path / "home", postgres.port)) as instance:
        origin = RepositoryPythonOrigin(
            executable_path="/opt/venv/bin/python",
            code_pointer=ModuleCodePointer("rs_cio_assets.definitions", "defs", None),
            container_image=None,
            entry_point=["dagster"],
            container_context={},
        )
        run = create_run_for_test(
            instance, job_name="sync_day", job_code_origin=JobPythonOrigin("sync_day", origin), status=DagsterRunStatus.STARTING
        )
        instance.run_launcher.launch_run(SimpleNamespace(dagster_run=run, job_code_origin=run.job_code_origin))
        started = instance.get_run_by_id(run.run_id)
        assert instance.run_launcher.check_run_worker_health(started).status.name == "RUNNING"
        assert instance.run_launcher.terminate(run.run_id)
        instance.run_launcher.check_run_worker_health(instance.get_run_by_id(run.run_id))
    (started_with,) = [parameters for action, parameters in asked.calls if action == "ecs:RunTask"]
    overrides = json.dumps(started_with["overrides"])
    assert len(overrides) < COMMAND_BYTES
    assert PASSWORD not in overrides
    assert started_with["taskDefinition"].startswith(f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/rs-cio-run:")
    assert started_with["cluster"] == CLUSTER
    role = statements("dagster")
    task = f"arn:aws:ecs:{REGION}:{ACCOUNT}:task/{CLUSTER}/0a"
    on = {
        "ecs:RunTask": started_with["taskDefinition"],
        "ecs:DescribeTasks": task,
        "ecs:StopTask": task,
        "ecs:DescribeTaskDefinition": "*",
        "ec2:DescribeNetworkInterfaces": "*",
    }
    actions = {action for action, _ in asked.calls} - {"s3:HeadBucket"}
    assert {"ecs:RunTask", "ecs:DescribeTasks", "ecs:StopTask", "ecs:DescribeTaskDefinition"} <= actions <= set(on)
    assert [action for action in actions if not allows(role, action, on[action])] == []
    # A task is tagged and given its roles as it starts, and its last lines are read when it died.
    assert allows(role, "ecs:TagResource", task)
    definition = filled("ecs/run.json")
    assert all(allows(role, "iam:PassRole", definition[name]) for name in ("taskRoleArn", "executionRoleArn"))
    assert allows(role, "logs:GetLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/rs-cio:log-stream:run/run/0a")
    assert not allows(role, "ecs:RunTask", f"arn:aws:ecs:{REGION}:{ACCOUNT}:task-definition/other:1")


def task_of_the_daemon(ecs: Any) -> str:
    """Register the task definitions, which botocore checks by AWS's own model, and start the daemon's; its ARN."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    ec2.modify_vpc_attribute(VpcId=vpc, EnableDnsHostnames={"Value": True})
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="rs-cio", Description="rs-cio", VpcId=vpc)["GroupId"]
    ecs.create_cluster(clusterName=CLUSTER)
    for task in TASKS:
        definition = filled(f"ecs/{task}.json")
        definition["containerDefinitions"][0]["memory"] = 512  # moto starts no task without; Fargate goes by the task's
        ecs.register_task_definition(**definition)
    network = {"awsvpcConfiguration": {"subnets": [subnet], "securityGroups": [group]}}
    started = ecs.run_task(cluster=CLUSTER, taskDefinition="rs-cio-daemon", launchType="FARGATE", networkConfiguration=network)
    return started["tasks"][0]["taskArn"]
