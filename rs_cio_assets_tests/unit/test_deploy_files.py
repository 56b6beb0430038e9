"""The files of deploy/ without an engine: image, compose, tasks, variables and locks say what exists and what is safe."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml
from dagster._cli import cli as dagster_cli
from dagster._daemon.cli import cli as daemon_cli
from dagster_webserver.cli import dagster_webserver

from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.settings import VARIABLES, Settings, load_settings
from rs_cio_assets_tests.deployed import DEPLOY, FILLED_IN, PROJECT, filled, named_by_env, variables_of

TASKS = ("webserver", "daemon", "code", "run")
INSTANCES = (DEPLOY / "dagster.yaml", DEPLOY / "ecs" / "dagster.yaml")
# Read by Dagster, by boto3, and by the image of PostgreSQL. Sources: their documentation, read 2026-11-26.
READ_BY_OTHERS = {
    "DAGSTER_HOME",
    "DAGSTER_DISABLE_TELEMETRY",
    "AWS_DEFAULT_REGION",
    "POSTGRES_USER",
    "POSTGRES_PASSWORD",
    "POSTGRES_DB",
}
READ_BY_PROGRAMS = {"PATH", "PYTHONUNBUFFERED", "PIP_DISABLE_PIP_VERSION_CHECK", "PIP_NO_CACHE_DIR"}
PROGRAMS: dict[str, click.Command] = {
    "dagster": dagster_cli,
    "dagster-daemon": daemon_cli,
    "dagster-webserver": dagster_webserver,
}
# Source: AWS, ECS developer guide, task sizes of Fargate, read 2026-11-26. CPU units: least and most MiB, in steps of 1,024.
FARGATE_MEMORY = {"256": (512, 2_048), "512": (1_024, 4_096), "1024": (2_048, 8_192), "2048": (4_096, 16_384)}
SECRETS = {"POSTGRES_PASSWORD", "CUSTOMERIO_SITE_ID", "CUSTOMERIO_API_KEY", "CUSTOMERIO_APP_API_KEY"}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if name != "postgres"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what they say, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def said(word: str) -> list[str]:
    """What all instructions *word* say."""
    return [rest for name, rest in instructions() if name == word]


def test_the_image_is_pinned_and_runs_as_nobody_special():
    """One pinned base for both stages, no root in the end, every dependency by its hash, nothing from outside but those."""
    (base,) = said("ARG")
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.11\.\d+-slim-[a-z]+", base)
    assert [line.split()[0] for line in said("FROM")] == ["${PYTHON_IMAGE}", "${PYTHON_IMAGE}"]
    assert said("USER")[-1].isdecimal()
    assert int(said("USER")[-1]) > 0
    assert said("ADD") == said("ENTRYPOINT") == []
    installs = [run for run in said("RUN") if "pip install" in run]
    assert ["--require-hashes" in run or "--no-index" in run for run in installs] == [True, True]
    assert all("--no-deps" in run for run in installs)


def test_the_image_holds_what_exists_and_no_secret():
    """Every COPY is a file of the project that .dockerignore lets through; environment files, stores and history stay out."""
    ignore = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert ignore[0] == "*"
    copied = [line.split()[0] for line in said("COPY") if not line.startswith("--from")]
    assert len(copied) > 4
    for source in copied:
        assert (PROJECT / source).exists()
        assert f"!{source}" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == set(copied)
    assert any(fnmatchcase("deploy/production.env", pattern) for pattern in ignore[1:] if not pattern.startswith("!"))
    tracked_out = (PROJECT / ".gitignore").read_text().splitlines()
    assert "deploy/*.env" in tracked_out
    named = {name for line in said("ENV") for name in re.findall(r"([A-Z_]+)=", line)}
    assert named & SECRETS == set()


def test_one_machine_is_reached_from_itself_alone():
    """The one published port is the UI's, on 127.0.0.1; no container has more rights than it needs, and each is watched."""
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}
    for service in OURS.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name, service in COMPOSE["services"].items():
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        assert "environment" not in service, "variables come from env files, which git does not know"
    assert re.fullmatch(r"postgres:16\.\d+-[a-z]+", COMPOSE["services"]["postgres"]["image"])
    assert {volume.partition(":")[0] for volume in COMPOSE["services"]["postgres"]["volumes"]} == set(COMPOSE["volumes"])


def test_only_the_code_location_and_runs_hold_credentials_of_the_product():
    """Webserver, daemon and PostgreSQL get Dagster's variables and none of Redshift's or Customer.io's."""
    files = {name: service["env_file"] for name, service in COMPOSE["services"].items()}
    assert files.pop("code") == ["dagster.env", "production.env"]
    assert set(map(tuple, files.values())) == {("dagster.env",)}
    for task in TASKS:
        (container,) = filled(f"ecs/{task}.json")["containerDefinitions"]
        names = {item["name"] for item in (*container["environment"], *container["secrets"])}
        assert bool(names & set(VARIABLES)) == (task in {"code", "run"})


@pytest.mark.parametrize("task", TASKS)
def test_tasks_are_ones_that_fargate_takes(task: str):
    """Sizes that exist, secrets that are no plain text, logs where the policies look, the role that its policy is for."""
    definition = filled(f"ecs/{task}.json")
    least, most = FARGATE_MEMORY[definition["cpu"]]
    memory = int(definition["memory"])
    assert least <= memory <= most
    assert memory % 1_024 == 0
    (container,) = definition["containerDefinitions"]
    assert {item["name"] for item in container["environment"]} & SECRETS == set()
    assert all(item["valueFrom"].startswith("arn:aws:secretsmanager:") for item in container["secrets"])
    assert container["logConfiguration"]["options"]["awslogs-group"] == "/rs-cio"
    assert definition["taskRoleArn"].rpartition("/")[2] == {"code": "rs-cio-task", "run": "rs-cio-task"}.get(
        task, "rs-cio-dagster"
    )
    assert container["name"] == task


def test_every_variable_is_read_by_something():
    """Each variable of the env files, the tasks and the image is one of settings.py, of a dagster.yaml, or of Dagster's own."""
    taken = set(VARIABLES) | READ_BY_OTHERS
    for path in (*INSTANCES, DEPLOY / "workspace.yaml"):
        taken |= named_by_env(yaml.safe_load(path.read_text()))
    given = set(variables_of("dagster.env.example")) | set(variables_of("production.env.example"))
    for task in TASKS:
        (container,) = filled(f"ecs/{task}.json")["containerDefinitions"]
        given |= {item["name"] for item in (*container["environment"], *container["secrets"])}
    given |= {name for line in said("ENV") for name in re.findall(r"\b([A-Z_]+)=", line)} - READ_BY_PROGRAMS
    assert given - taken == set()
    assert len(given) > 20


def test_the_variables_are_enough_for_production():
    """With the env file filled in, and with the run's task, the settings are complete and so are the definitions."""
    filled_in = {name: value or "1" for name, value in variables_of("production.env.example").items()}
    filled_in |= {
        "CUSTOMERIO_REGION": "eu",
        "REDSHIFT_ROLE": "arn:aws:iam::123456789012:role/r",
        "RS_CIO_STORE": "s3://bucket/store",
    }
    (container,) = filled("ecs/run.json")["containerDefinitions"]
    of_the_task = {item["name"]: item["value"] for item in container["environment"]}
    of_the_task |= {item["name"]: "a-secret" for item in container["secrets"]}
    for environment in (filled_in, of_the_task):
        settings = load_settings({"RS_CIO_MODE": "production", **environment})
        assert isinstance(settings, Settings)
        assert settings.redshift.has_exchange
        assert settings.redshift.tls
        build_definitions(settings)
    assert of_the_task["RS_CIO_STORE"] == f"s3://{FILLED_IN['BUCKET']}/store"


@pytest.mark.parametrize("where", [f"compose/{name}" for name in OURS] + [f"ecs/{name}" for name in TASKS])
def test_commands_are_ones_that_exist(where: str):
    """Each command and health check of a container names a program that the image has and options that it takes."""
    place, _, name = where.partition("/")
    if place == "compose":
        container, check = OURS[name], OURS[name]["healthcheck"]["test"]
    else:
        (container,) = filled(f"ecs/{name}.json")["containerDefinitions"]
        check = container.get("healthCheck", {"command": ["CMD"]})["command"]
    require_command(container.get("command") or yaml.safe_load(said("CMD")[0]))
    assert check[0] == "CMD"
    if len(check) > 1 and check[1] != "python":
        require_command(check[1:])


def test_the_code_location_has_the_name_that_the_daemon_asks_for():
    """Image and workspace.yaml agree about name and port, and with the project's own workspace.yaml."""
    (served,) = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    (local,) = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"]
    command = yaml.safe_load(said("CMD")[0])
    option = dict(pairwise(command))
    assert option["--location-name"] == served["grpc_server"]["location_name"] == local["python_module"]["location_name"]
    assert option["--port"] == str(served["grpc_server"]["port"]) == said("EXPOSE")[0]
    assert option["--module-name"] == local["python_module"]["module_name"]
    assert option["--attribute"] == local["python_module"]["attribute"]


def test_the_pools_are_the_ones_that_steps_wait_for():
    """The pools that dagster.yaml speaks of, one step each, are those of the assets and checks."""
    definitions = build_definitions(load_settings({}))
    pools = {op.pool for job in definitions.resolve_all_job_defs() for op in job.all_node_defs if getattr(op, "pool", None)}
    for path in INSTANCES:
        (named,) = re.findall(r"One step of a pool at a time \(([a-z_, ]+)\)", path.read_text())
        assert set(named.split(", ")) == pools
        assert yaml.safe_load(path.read_text())["concurrency"]["pools"]["default_limit"] == 1


def test_the_image_s_lock_is_a_part_of_the_developers():
    """Every version in deploy/requirements.lock is the one that the suite ran with; Dagster's four packages moved together."""
    image, developers = (pins(path) for path in (DEPLOY / "requirements.lock", PROJECT / "requirements.lock"))
    assert {name: version for name, version in image.items() if developers.get(name) != version} == {}
    assert {"dagster-postgres", "psycopg2-binary", "setuptools"} <= set(image)
    assert not {"pytest", "ruff", "playwright"} & set(image)
    assert "://" not in (DEPLOY / "requirements.lock").read_text()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["production"]]
    dagster = dict(pin.split("==") for pin in wanted if pin.startswith("dagster"))
    assert {name: image[name] for name in dagster} == dagster
    core = dagster["dagster"].split(".")
    library = f"0.{int(core[1]) + 16}.{core[2]}"
    assert dagster == {
        "dagster": dagster["dagster"],
        "dagster-webserver": dagster["dagster"],
        "dagster-aws": library,
        "dagster-postgres": library,
    }


def test_there_is_one_script_of_grants():
    """deploy/grants.sql points to the command that makes them and grants nothing itself."""
    lines = (DEPLOY / "grants.sql").read_text().splitlines()
    assert all(line.startswith("--") for line in lines)
    assert any("rs-cio grants" in line for line in lines)


def pins(path: Path) -> dict[str, str]:
    """Package and version of each line of a lock."""
    return dict(re.findall(r"^([a-z0-9_.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE))


def require_command(command: list[str]) -> None:
    """Raises: click.UsageError when the program does not take these words in the image; nothing is run."""
    in_image = {target: source for source, target in (line.split() for line in said("COPY") if not line.startswith("--from"))}
    current, words = PROGRAMS[command[0]], [str(PROJECT / in_image[word]) if word in in_image else word for word in command[1:]]
    while isinstance(current, click.Group):
        _, found, words = current.resolve_command(click.Context(current), words)
        assert found is not None
        current = found
    current.make_context(command[0], words)
