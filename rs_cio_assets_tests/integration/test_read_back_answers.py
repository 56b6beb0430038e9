"""The read-back check when Customer.io's App API refuses, or answers something else than is published: never green."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from rs_cio_assets_tests.synced_feeds import ROWS, Synced, open_synced


@pytest.fixture
def synced(tmp_path: Path) -> Iterator[Synced]:
    """Everything staged and delivered."""
    with open_synced(tmp_path) as opened:
        opened.stage()
        opened.deliver()
        yield opened


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "CUSTOMERIO_APP_API_KEY is not set, so nothing can be read back"),
        (SecretStr("another-key"), "Customer.io refused the credentials of its App API (401)"),
    ],
    ids=["missing", "wrong"],
)
def test_without_the_right_key_it_fails_and_names_the_setting(synced: Synced, key: SecretStr | None, words: str):
    """No App API key, or one that is refused: a failed run that says which setting, never a green check, and not the key."""
    customerio = synced.settings.customerio.model_copy(update={"app_api_key": key})
    outcome = synced.run(synced.settings.model_copy(update={"customerio": customerio}))
    assert not outcome.is_success
    assert [check for check in outcome.checks if check.is_passed] == []
    assert len(outcome.failures) == 3
    assert all(words in failure and "CUSTOMERIO_APP_API_KEY" in failure for failure in outcome.failures)
    assert "another-key" not in synced.shown


def _without(name: str) -> Callable[[Synced], dict[str, Any]]:
    """The stand-in's own profiles, each without one field."""

    def script(synced: Synced) -> dict[str, Any]:
        customerio = synced.settings.customerio
        assert customerio.app_api_key
        answer = httpx.post(
            f"{customerio.app_url}/v1/customers/attributes",
            json={"ids": [row["customer_id"] for row in ROWS["folk"]]},
            headers={"Authorization": f"Bearer {customerio.app_api_key.get_secret_value()}"},
        ).json()
        for item in answer["customers"]:
            del item["customer"][name]
        return answer

    return script


@pytest.mark.parametrize(
    ("word", "script", "feed"),
    [
        ("attributes", lambda _: {}, "folk"),
        ("attributes", lambda _: {"customers": None}, "folk"),
        ("attributes", lambda _: {"customers": [{}]}, "folk"),
        ("attributes", lambda _: {"customers": [{"customer": None}]}, "folk"),
        ("attributes", lambda _: ["customers"], "folk"),
        ("attributes", _without("attributes"), "folk"),
        ("activities", lambda _: {}, "orders"),
        ("activities", lambda _: {"activities": None}, "orders"),
        ("activities", lambda _: {"activities": [{}]}, "orders"),
        ("activities", lambda _: {"activities": [{"type": "event", "name": "Order Completed", "timestamp": 1}]}, "orders"),
    ],
    ids=[
        "no customers",
        "customers are null",
        "an empty customer",
        "a null customer",
        "a list",
        "profiles without attributes",
        "no activities",
        "activities are null",
        "an empty activity",
        "an event without data",
    ],
)
def test_an_answer_that_lacks_what_is_published_is_never_green(
    synced: Synced, word: str, script: Callable[[Synced], Any], feed: str
):
    """Fields that are missing from the App API's answer: the check is red or fails in words of ours; no feed is green on it."""
    synced.answers.scripted[word] = script(synced)
    outcome = synced.run()
    checks = {check.asset.rpartition("/")[2]: check for check in outcome.checks}
    if feed in checks:
        assert not checks[feed].is_passed
        assert f"{len(ROWS[feed])} of {len(ROWS[feed])} sampled rows" in checks[feed].description
    else:
        assert any("Customer.io's App API answered" in failure and feed in failure for failure in outcome.failures)
    assert "C000000" not in synced.shown
