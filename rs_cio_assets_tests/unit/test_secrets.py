"""Secrets: each is typed so that it cannot be shown, and nothing that holds settings shows, logs or pickles one."""

from __future__ import annotations

import functools
import json
import logging
import pickle
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import pytest
from pydantic import BaseModel, SecretStr
from pydantic_core import to_json

from rs_cio_assets.alerts.notifier import receivers_for
from rs_cio_assets.contract import load_contract
from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.definitions import build_definitions
from rs_cio_assets.doctor import Patient, Preflight
from rs_cio_assets.errors import RsCioError, SettingsError
from rs_cio_assets.resources import resources_for
from rs_cio_assets.settings import VARIABLES, Secret, Settings, load_settings
from rs_cio_assets.silence import silenced

# Names of variables that say a secret; and those that only sound like it: names of things, which AWS's own policies show.
SOUNDS_SECRET = re.compile("PASSWORD|SECRET|KEY|TOKEN|WEBHOOK|SLACK")
NAMES_ONLY = {"REDSHIFT_SECRET_ID", "REDSHIFT_KMS_KEY_ID"}
SECRETS = sorted(name for name in VARIABLES if SOUNDS_SECRET.search(name) and name not in NAMES_ONLY)
PLANTED = {name: f"{'https://hooks.example/' if name.endswith('URL') else ''}hush-{name.lower()}-5f1c" for name in SECRETS}
WALKED = ("rs_cio_assets", "dagster", "functools", "types")


@dataclass(frozen=True)
class Shown:
    """Where a secret was found: the way to the object, and how it was shown."""

    path: str
    way: str


def planted_settings(**more: str) -> Settings:
    """The sandbox's settings with a planted value in each secret."""
    return load_settings({**PLANTED, "REDSHIFT_DELIVERY_LOG": "true", **more})


def leaks_of(roots: Mapping[str, Any], secrets: Iterable[str]) -> list[Shown]:
    """Every way in which *roots*, or what they lead to, show one of *secrets*.

    Objects of ours and of Dagster's are walked attribute by attribute, with closures and containers; what a library keeps inside
    its own objects (httpx, botocore) is not, but these are shown as well. Nothing of a Secret is looked into.
    """
    hidden = tuple(secrets)
    found: list[Shown] = []
    seen: dict[int, Any] = {}
    left = [(name, root) for name, root in roots.items()]
    while left:
        path, item = left.pop()
        if id(item) in seen or isinstance(item, type | types.ModuleType):
            continue
        seen[id(item)] = item
        found += [Shown(path, way) for way, text in _ways(item) if any(secret in text for secret in hidden)]
        left += [(f"{path}{step}", inner) for step, inner in _inside(item)]
    return found


def _ways(item: Any) -> Iterator[tuple[str, str]]:
    """How a thing can be shown: printed, formatted, as JSON, pickled. Containers are shown by what is in them."""
    if isinstance(item, str | bytes):
        yield "plain text", item if isinstance(item, str) else item.decode(errors="replace")
        return
    if isinstance(item, dict | list | tuple | set | frozenset | types.FunctionType):
        return
    yield from (("repr", repr(item)), ("str", str(item)), ("format", f"{item}"))
    if isinstance(item, BaseModel):
        yield from (("model_dump", str(item.model_dump())), ("model_dump_json", item.model_dump_json()))
    if type(item).__module__.startswith("rs_cio_assets") or isinstance(item, SecretStr):
        yield "json", json.dumps(item, default=str)
        yield "pydantic json", to_json(item, serialize_unknown=True).decode()
        try:
            yield "pickle", pickle.dumps(item).decode(errors="replace")
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            yield "error of pickle", str(error)


def _inside(item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, Mapping):
        yield from ((f"[{key!s:.40}]", value) for key, value in item.items())
    elif isinstance(item, list | tuple | set | frozenset):
        item = tuple.__iter__(item) if isinstance(item, tuple) else item  # Dagster's records refuse to be iterated over
        yield from ((f"[{index}]", value) for index, value in enumerate(item))
    elif isinstance(item, types.FunctionType):
        yield from ((f".<{item.__name__}>", cell.cell_contents) for cell in item.__closure__ or () if _is_filled(cell))
        yield from ((f".<{item.__name__}>", value) for value in (item.__defaults__, item.__kwdefaults__, item.__dict__) if value)
    elif isinstance(item, types.MethodType):
        yield from ((".__self__", item.__self__), (".__func__", item.__func__))
    elif isinstance(item, functools.partial):
        yield from ((".func", item.func), (".args", item.args), (".keywords", item.keywords))
    elif isinstance(item, BaseException):
        yield from ((".args", item.args), (".__dict__", vars(item)))
    elif hasattr(item, "__wrapped__"):
        yield ".__wrapped__", item.__wrapped__
    elif not isinstance(item, SecretStr) and type(item).__module__.startswith(WALKED):
        yield from ((f".{name}", value) for name, value in getattr(item, "__dict__", {}).items())


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - asking is what tells
    except ValueError:
        return False
    return True


def test_every_variable_that_sounds_like_a_secret_is_typed_as_one():
    """A new variable with a key or a password in its name cannot be a plain text by mistake."""
    assert len(SECRETS) >= 7
    assert set(VARIABLES) >= NAMES_ONLY
    settings = load_settings({})
    for name in SECRETS:
        model: Any = settings
        *groups, field = VARIABLES[name]
        for group in groups:
            model = getattr(model, group)
        annotation = type(model).model_fields[field].annotation
        assert Secret in {annotation, *get_args(annotation)}, name


def test_nothing_that_holds_settings_shows_a_secret():
    """Settings, resources, clients, receivers, doctor, preflight and the whole definitions: printed, as JSON, pickled, walked."""
    settings = planted_settings()
    resources = resources_for(settings)
    patient = Patient(settings, load_contract, resources["warehouse"], resources["store"])
    with ExitStack() as stack:
        roots = {
            "settings": settings,
            "resources": resources,
            "s3": resources_for(planted_settings(RS_CIO_STORE="s3://bucket/x"))["store"],
            "track": stack.enter_context(TrackClient(settings.customerio)),
            "app": stack.enter_context(AppClient(settings.customerio)),
            "receivers": receivers_for(settings.alerts, logging.getLogger("receivers")),
            "patient": patient,
            "preflight": Preflight(settings, load_contract),
            "definitions": build_definitions(settings),
        }
        for name, root in roots.items():
            assert leaks_of({name: root}, PLANTED.values()) == []
            # The walk comes to where the secrets are: there they are stars. The App API client keeps its key in httpx alone.
            assert name == "app" or leaks_of({name: root}, ["**********"]), name


@pytest.mark.parametrize(
    "leaking",
    [
        lambda secret: {"a": [secret]},
        lambda secret: ValueError(f"refused: {secret}"),
        lambda secret: types.SimpleNamespace(password=secret),
        lambda secret: functools.partial(print, secret),
        lambda secret: lambda: secret,
        SecretStr,
    ],
    ids=["container", "exception", "attribute", "argument", "closure", "pydantic's own, pickled"],
)
def test_the_walk_finds_a_secret_that_is_shown(leaking: Callable[[str], Any]):
    """It would fail: in a container, an error, an attribute, a closure, and in the type that pydantic has for secrets."""
    assert leaks_of({"root": leaking("hush-5f1c")}, ["hush-5f1c"])


def test_settings_are_copied_and_not_pickled():
    """A copy has its secrets; what would write them somewhere says why it does not."""
    settings = planted_settings()
    copied = settings.model_copy(deep=True)
    assert copied.customerio.api_key.get_secret_value() == PLANTED["CUSTOMERIO_API_KEY"]
    with pytest.raises(TypeError, match="never written"):
        pickle.dumps(settings)


@pytest.mark.parametrize("name", SECRETS)
def test_a_wrong_value_of_a_secret_is_not_in_the_error(name: str):
    """Where the settings do not load, the whole error, its causes included, is without the value of any secret."""
    wrong = {**PLANTED, name: "hush-\N{SNOWMAN}-5f1c", "CUSTOMERIO_REGION": "mars", "REDSHIFT_PORT": "x"}
    with pytest.raises(SettingsError) as caught:
        load_settings(wrong)
    assert leaks_of({"error": caught.value}, [*PLANTED.values(), "hush-"]) == []


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_a_refusal_of_a_key_is_without_it_at_any_log_level(status: int, caplog: pytest.LogCaptureFixture):
    """What Customer.io refuses, and what libraries log about it: neither the key nor, in a path, the person."""
    caplog.set_level(logging.DEBUG)
    settings = planted_settings()
    transport = httpx.MockTransport(lambda request: httpx.Response(status, text=str(dict(request.headers))))
    errors: list[RsCioError] = []
    with TrackClient(settings.customerio, transport=transport) as track, pytest.raises(RsCioError) as refused:
        track.region()
    errors.append(refused.value)
    with AppClient(settings.customerio, transport=transport) as app:
        try:
            list(app.activities("C7654321", "event"))
        except RsCioError as error:
            errors.append(error)
    assert len(errors) == 2
    hidden = [*PLANTED.values(), "C7654321"]
    assert leaks_of({"errors": errors, "log": [record.getMessage() for record in caplog.records]}, hidden) == []


def test_silence_is_of_one_thread_and_ends(caplog: pytest.LogCaptureFixture):
    """Before and after the block the library logs as ever; within it nothing, also where blocks are nested."""
    caplog.set_level(logging.INFO)
    log = logging.getLogger("rs_cio_assets_tests.library")
    log.info("before")
    with silenced(log.name), silenced(log.name):
        log.info("within")
    log.info("after")
    assert [record.message for record in caplog.records] == ["before", "after"]
