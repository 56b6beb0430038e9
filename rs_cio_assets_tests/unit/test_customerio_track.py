"""The Track API's answers: the region, refused operations by index, masked words, and the pace of requests."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import httpx
import pytest

from rs_cio_assets.customerio.http import ATTEMPTS
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.errors import (
    CustomerioRefused,
    CustomerioUnavailable,
    MismatchError,
)
from rs_cio_assets_tests.customerio_clients import (
    BODY,
    EMAIL,
    Clock,
    answering,
    told,
    track,
)

OK = httpx.Response(200, json={})


def region_answer(answer: httpx.Response, **environ: str) -> Any:
    """What `region` makes of *answer*."""
    handler, requests = answering(answer)
    with track(handler, **environ) as client:
        try:
            return client.region()
        finally:
            assert [(r.method, r.url.path) for r in requests] == [("GET", "/api/v1/accounts/region")]


def test_the_region_of_the_credentials_must_be_the_settings_region():
    """The right region gives the workspace's number; another is refused with the variable and its value."""
    eu = httpx.Response(200, json={"url": "https://track-eu.customer.io", "region": "eu", "environment_id": 42})
    found = region_answer(eu, CUSTOMERIO_REGION="eu")
    assert (found.region, found.workspace_id) == ("eu", 42)
    with pytest.raises(CustomerioRefused, match="CUSTOMERIO_REGION=eu"):
        region_answer(eu, CUSTOMERIO_REGION="us")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<html></html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"region": "us", "environment_id": "many"}),
        httpx.Response(200, json={"region": "us", "environment_id": {}}),
    ],
)
def test_a_region_answer_of_another_shape_is_a_mismatch(answer: httpx.Response):
    """What is not the published answer is not guessed at."""
    with pytest.raises(MismatchError):
        region_answer(answer)


def refusals(*errors: Any, operations: int = 10) -> tuple[Any, ...]:
    """What `send_batch` makes of a 207 with *errors*."""
    handler, _ = answering(httpx.Response(207, json={"errors": list(errors)}))
    with track(handler) as client:
        return client.send_batch(BODY, operations).refused


def test_a_207_names_each_refused_operation_once_in_the_order_of_the_batch():
    """Several errors of one operation are one refusal, with the first reason; operations not named were accepted."""
    found = refusals(
        {"batch_index": 7, "reason": "invalid", "field": "attributes.plan", "message": "property value cannot be longer"},
        {"batch_index": 0, "reason": "required", "field": "identifiers.id", "message": "id attribute must be present"},
        {"batch_index": 7, "reason": "again", "field": "name", "message": "event name must not be blank"},
        {"batch_index": 9},
    )
    assert [(r.index, r.reason, r.field) for r in found] == [
        (0, "required", "identifiers.id"),
        (7, "invalid", "attributes.plan"),
        (9, "", ""),
    ]
    assert found[0].message == "id attribute must be present"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(207, html="<html></html>"),
        httpx.Response(207, content=b""),
        httpx.Response(207, json=[]),
        httpx.Response(207, json={}),
        httpx.Response(207, json={"errors": None}),
        httpx.Response(207, json={"errors": {"0": "bad"}}),
        httpx.Response(207, json={"errors": []}),
        *(
            httpx.Response(207, json={"errors": [error]})
            for error in ("bad", None, {}, *({"batch_index": index} for index in (2, -1, "0", EMAIL, 0.0, None, True)))
        ),
    ],
    ids=lambda answer: answer.text[:40],
)
def test_a_207_that_cannot_be_matched_to_operations_is_a_mismatch(answer: httpx.Response):
    """Not JSON, no list, an empty list, no index, an index outside of the batch: nothing counts as accepted."""
    handler, _ = answering(answer)
    with track(handler) as client, pytest.raises(MismatchError) as caught:
        client.send_batch(BODY, 2)
    assert EMAIL not in told(caught.value)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("ada@example.com is taken", "... is taken"),
        ("email <ada@example.com> is taken", "email ... is taken"),
        ("the value 'Ada Lovelace' is taken", "the value ... is taken"),
        ('the value "Ada \\"Countess\\" Lovelace" is taken', "the value ... is taken"),
        ("the value 'Ada O'Neill' is taken", "the value ... is taken"),
        ("the value `Ada\nLovelace` is taken", "the value ... is taken"),
        ('the value "Ada Lovel', "the value ..."),
        ("person C0000001 is gone", "person C... is gone"),
        ("cio_id 550e8400-e29b-41d4-a716-446655440000 is gone", "cio_id ... is gone"),
        ("phone +44 20 7946 0958 is taken", "phone ... is taken"),
        ("customer's attributes can't be longer than 1000 bytes", "customer's attributes can't be longer than 1000 bytes"),
        ("cannot identify more than 300 attributes in one request", "cannot identify more than 300 attributes in one request"),
    ],
)
def test_values_that_customerio_quotes_are_masked_and_the_rest_stays_readable(message: str, shown: str):
    """Addresses, quoted texts, long numbers and ids do not get into the rejections; limits and field names do."""
    (refused,) = refusals({"batch_index": 3, "reason": "invalid", "field": "attributes.address_2", "message": message})
    assert refused.message == shown
    assert refused.field == "attributes.address_2"


def test_a_message_is_cut_after_its_values_are_masked():
    """A value that reaches over the cut does not lose its closing quote, and with it its mask."""
    (refused,) = refusals({"batch_index": 0, "message": f"{'x ' * 95}'{'Ada Lovelace ' * 5}'"})
    assert "Ada" not in refused.message
    assert len(refused.message) <= 200


def test_values_that_are_no_text_do_not_break_the_reading_of_a_refusal():
    """Numbers and objects in place of texts become texts."""
    (refused,) = refusals({"batch_index": 0, "reason": 7, "field": ["a"], "message": {"email": EMAIL}})
    assert refused.reason == "7"
    assert EMAIL not in repr(refused)


def test_a_pace_spaces_callers_evenly_over_threads():
    """Twenty callers at once get twenty turns, a tenth of a second apart, whatever thread comes first."""
    sleeps: list[float] = []
    pace = Pace(10, clock=lambda: 500.0, sleep=sleeps.append)
    threads = [threading.Thread(target=pace.wait) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sleeps) == pytest.approx([number / 10 for number in range(1, 20)])


def test_a_pace_has_no_burst_after_a_pause():
    """An idle minute earns nothing: the first caller goes at once, each next one waits its interval."""
    clock = Clock()
    pace = Pace(4, clock=lambda: clock.now, sleep=clock.sleep)
    turns = []
    for pause in (0, 0, 0, 60, 0, 0):
        clock.now += pause
        pace.wait()
        turns.append(clock.now)
    assert [later - earlier for earlier, later in itertools.pairwise(turns)] == pytest.approx([0.25, 0.25, 60, 0.25, 0.25])


def test_every_attempt_of_a_request_keeps_to_the_pace(waits: list[float], monkeypatch: pytest.MonkeyPatch):
    """Retries of a storm are no faster than the settings allow."""
    clock = Clock()
    handler, requests = answering(httpx.Response(503))
    with track(handler) as client:
        monkeypatch.setattr(client._http, "_pace", Pace(2, clock=lambda: clock.now, sleep=clock.sleep))
        with pytest.raises(CustomerioUnavailable):
            client.send_batch(BODY, 1)
    assert len(requests) == ATTEMPTS
    assert clock.sleeps == pytest.approx([0.5] * (ATTEMPTS - 1))
