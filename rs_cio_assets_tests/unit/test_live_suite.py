"""The live suite without anything live: it asks what its page says, its file holds no secret, and unasked it asks nothing."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from rs_cio_assets.settings import Settings, load_settings
from rs_cio_assets_tests import live
from rs_cio_assets_tests.live.answers import Answer, AnswersFile, hidden_values, scrub
from rs_cio_assets_tests.live.cleaning import Cleaning
from rs_cio_assets_tests.live.switches import CAPABILITIES, VARIABLES, read_switches
from rs_cio_assets_tests.live.workspace import new_ulid

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "live.md").read_text()
MADE_AT = datetime(2026, 11, 26, 4, tzinfo=UTC)


def marks() -> Iterator[tuple[str, Any]]:
    """Each test of the suite with its mark `asks`."""
    for module in pkgutil.iter_modules(live.__path__):
        if module.name.startswith("test_"):
            for name, found in vars(importlib.import_module(f"{live.__name__}.{module.name}")).items():
                if name.startswith("test_"):
                    (mark,) = [mark for mark in found.pytestmark if mark.name == "asks"]
                    yield name, mark


def test_the_table_of_assumptions_is_the_suite():
    """docs/live.md names each test with what is assumed, where, and whether a difference fails it."""
    rows = re.findall(r"^\| `(test_\w+)` \| (.+) \| `(\S+)` \| (yes|no) \|$", PAGE, re.MULTILINE)
    wanted = {
        (name, mark.args[1].replace("|", "\\|"), mark.args[2], "yes" if mark.kwargs.get("relies") else "no")
        for name, mark in marks()
    }
    assert len(wanted) > 25
    assert set(rows) == wanted


def test_where_an_assumption_lives_is_there():
    """Each place in the code, or page, that an assumption names exists."""
    assert [mark.args[2] for _, mark in marks() if not (PROJECT / mark.args[2]).exists()] == []


def test_variables_and_capabilities_are_on_the_page():
    """Whoever runs the suite finds every switch."""
    assert [name for name in (*VARIABLES, *CAPABILITIES) if f"`{name}`" not in PAGE] == []


def test_unasked_nothing_is_asked():
    """Without its variable no part is chosen; a misspelled one is refused by name."""
    assert read_switches({}).parts == frozenset()
    assert read_switches({"RS_CIO_LIVE": "customerio, redshift"}).parts == {"customerio", "redshift"}
    with pytest.raises(ValueError, match="RS_CIO_LIVE: 'redshft' is not known; allowed: redshift, customerio"):
        read_switches({"RS_CIO_LIVE": "redshft"})


@pytest.fixture
def secretive() -> Settings:
    """Settings of somebody's."""
    return load_settings(
        {
            "REDSHIFT_HOST": "cluster.example.invalid",
            "REDSHIFT_UNLOAD_TO": "s3://our-bucket/unload",
            "REDSHIFT_PASSWORD": "open sesame",
            "CUSTOMERIO_APP_API_KEY": "app-key-1",
            "CUSTOMERIO_WORKSPACE_ID": "7",
        }
    )


def test_secrets_and_places_are_written_as_their_variables(secretive: Settings):
    """In keys, values, lists and bytes, however deep; a bucket also where only its name stands."""
    told = {"cluster.example.invalid": ["x app-key-1 y", {"a": b"open sesame"}], "e": "arn of our-bucket", "n": 5}
    assert scrub(told, hidden_values(secretive)) == {
        "<REDSHIFT_HOST>": ["x <CUSTOMERIO_APP_API_KEY> y", {"a": "<REDSHIFT_PASSWORD>"}],
        "e": "arn of <bucket of REDSHIFT_UNLOAD_TO>",
        "n": 5,
    }


def an_answer(*, relies: bool) -> Answer:
    """Some answer."""
    return Answer("test_x", "Is it?", "it is", "docs/live.md", relies)


def test_a_difference_fails_only_where_the_product_relies_on_it():
    """Both are recorded as a difference."""
    recorded, needed = an_answer(relies=False), an_answer(relies=True)
    recorded.judge(False, "it is not")
    with pytest.raises(AssertionError, match=r"the product assumes that it is .* it is not"):
        needed.judge(False, "it is not")
    assert (recorded.verdict, needed.verdict) == ("differs", "differs")


def test_an_answer_keeps_what_came_back_and_no_credential(secretive: Settings, tmp_path: Path):
    """Request as told, status, the headers that matter and the body; nothing of the request's own headers."""
    answer = an_answer(relies=False)
    headers = {"Retry-After": "3", "X-Other": "x", "Set-Cookie": "y"}
    answer.exchange({"GET": "/x"}, httpx.Response(429, headers=headers, json={"error": "key app-key-1"}))
    file = AnswersFile(tmp_path, "run1", secretive, now=lambda: MADE_AT)
    file.add(answer)
    (kept,) = json.loads((tmp_path / "2026-11-26.json").read_text())["answers"]
    (exchange,) = kept["exchanges"]
    assert exchange["status"] == 429
    assert exchange["headers"].keys() == {"retry-after", "content-type", "content-length"}
    assert exchange["body"] == {"error": "key <CUSTOMERIO_APP_API_KEY>"}
    assert (kept["verdict"], kept["asked_at"]) == ("not seen", MADE_AT.isoformat())


def test_a_second_step_is_found_by_later_runs_until_it_is_settled(secretive: Settings, tmp_path: Path):
    """Of the same workspace only, from the latest file that has one; each run's file has a name of its own."""

    def run(name: str, days: int, settings: Settings = secretive) -> AnswersFile:
        return AnswersFile(tmp_path, name, settings, now=lambda: MADE_AT + timedelta(days=days))

    first = run("run1", 0)
    step = {"run": "run1", "person": "p", "sent_at": MADE_AT.isoformat()}
    first.note("second_steps", step)
    customerio = secretive.customerio.model_copy(update={"workspace_id": 8})
    assert run("run2", 0, secretive.model_copy(update={"customerio": customerio})).second_steps() == []
    second = run("run3", 1)
    assert second.second_steps() == [step]
    second.settle("run1")
    assert run("run4", 2).second_steps() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "2026-11-26-2.json",
        "2026-11-26.json",
        "2026-11-27.json",
        "2026-11-28.json",
    ]


def test_what_cannot_be_removed_is_told_and_keeps_nothing_else(secretive: Settings, tmp_path: Path):
    """Last made, first removed; one failure is written down and the others are still done."""
    file = AnswersFile(tmp_path, "run1", secretive, now=lambda: MADE_AT)
    cleaning, removed = Cleaning(file), []
    cleaning.add("schema", lambda: removed.append("schema"))
    cleaning.add("objects", lambda: 1 / 0)
    cleaning.add("people", lambda: removed.append("people"))
    cleaning.finish()
    assert removed == ["people", "schema"]
    assert file.left_behind == ["objects could not be removed: ZeroDivisionError: division by zero"]
    assert json.loads(file.path.read_text())["made"] == ["schema", "objects", "people"]


def test_ulids_are_such():
    """26 digits in Crockford's base 32 of 128 bits, different each time."""
    made = {new_ulid() for _ in range(100)}
    assert len(made) == 100
    assert all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", ulid) for ulid in made)
