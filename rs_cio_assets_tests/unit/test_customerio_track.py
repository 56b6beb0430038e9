"""The Track API's answers: the region, refused operations by index, masked words, the pace, and stopping."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.customerio.limits import APP_REQUESTS_PER_S, STEADY_BYTES
from rs_cio_assets.customerio.pace import FAILED_FACTOR, REFUSED_FACTOR, Pace
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
    settings_of,
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


OPERATION = {
    "type": "person",
    "action": "event",
    "name": "Order Completed",
    "identifiers": {"id": "PERSON-ONE"},
    "attributes": {"first_name": "Zoë Håkon", "city": "Oslo", "items": [{"gift_note": "With love (Mia)"}], "tier": "b2"},
}


def refusals(*errors: Any, operations: int = 10) -> tuple[Any, ...]:
    """What `send_batch` makes of a 207 with *errors*."""
    handler, _ = answering(httpx.Response(207, json={"errors": list(errors)}))
    with track(handler) as client:
        return client.send_batch(json.dumps({"batch": [OPERATION] * operations}).encode(), operations).refused


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


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("PERSON-ONE is not allowed", "... is not allowed"),
        ("first_name Zoë Håkon is too long for oslo, attribute city", "first_name ... is too long for ..., attribute city"),
        ("gift_note With love (Mia) has words", "gift_note ... has words"),
        (
            "an event Order Completed of a person in Oslofjord, tier b2",
            "an event Order Completed of a person in Oslofjord, tier b2",
        ),
    ],
)
def test_values_of_the_refused_row_are_masked_also_where_nothing_marks_them(message: str, shown: str):
    """Texts of the operation itself, unquoted, in other capitals, within lists: as whole words, and none of the contract's."""
    (refused,) = refusals({"batch_index": 1, "reason": "invalid", "field": "attributes.city", "message": message})
    assert refused.message == shown
    assert (refused.reason, refused.field) == ("invalid", "attributes.city")


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """One time for the waits between attempts and for the pace."""
    clock = Clock()
    monkeypatch.setattr("rs_cio_assets.customerio.http.Http._pause", lambda _, seconds: clock.sleep(seconds))
    return clock


def test_every_attempt_of_a_request_keeps_to_the_pace(fast_retries: None):
    """Retries of a storm are no faster than the settings allow."""
    clock = Clock()
    handler, requests = answering(httpx.Response(503))
    with track(handler, pace=Pace(2, clock=clock.time, sleep=clock.sleep)) as client, pytest.raises(CustomerioUnavailable):
        client.send_batch(BODY, 1)
    assert len(requests) == len(clock.sleeps) + 1 > 2
    assert min(clock.sleeps) >= 0.499


@pytest.mark.parametrize(
    ("answer", "factor"),
    [
        (httpx.Response(429), REFUSED_FACTOR),
        (httpx.Response(503), FAILED_FACTOR),
        (httpx.Response(408), FAILED_FACTOR),
        (httpx.ReadTimeout("slow"), FAILED_FACTOR),
        (httpx.ReadError("reset"), FAILED_FACTOR),
        (httpx.Response(400), 1),
        (httpx.Response(401), 1),
        (OK, 1),
    ],
    ids=lambda value: str(value.status_code) if isinstance(value, httpx.Response) else "",
)
def test_the_pace_hears_of_what_throttles_and_what_fails(
    answer: httpx.Response | Exception, factor: float, monkeypatch: pytest.MonkeyPatch
):
    """A 429 halves the rate, other trouble that may pass lowers it, a refusal does not."""
    monkeypatch.setattr("rs_cio_assets.customerio.http.ATTEMPTS", 1)
    with track(answering(answer)[0]) as client:
        with pytest.raises((CustomerioRefused, CustomerioUnavailable)) if answer is not OK else nullcontext():
            client.send_batch(BODY, 1)
        assert client.pace_per_second == pytest.approx(1_000 * factor)


@pytest.mark.parametrize("status", [429, 503])
def test_a_retry_after_holds_back_every_client_of_the_workspace(status: int, clock: Clock, tmp_path: Path):
    """What one client is told, another one with the same budget keeps to, though it never saw the answer."""
    handler, _ = answering(httpx.Response(status, headers={"Retry-After": "30"}), OK)
    other_handler, other_requests = answering(OK)
    paces = [Pace(10, file=tmp_path / "pace", clock=clock.time) for _ in range(2)]
    told_at = clock.now

    def note_and_use_the_other(seconds: float) -> None:
        if not other_requests:
            other.send_batch(BODY, 1)
        clock.sleep(seconds)

    with track(handler, pace=paces[0]) as client, track(other_handler, pace=paces[1]) as other:
        client._http._pause = note_and_use_the_other
        client.send_batch(BODY, 1)
    assert len(other_requests) == 1
    assert clock.sleeps[0] == pytest.approx(30)
    assert clock.now >= told_at + 30


def test_the_latency_of_full_bodies_is_noted_without_the_wait_for_a_turn(clock: Clock, monkeypatch: pytest.MonkeyPatch):
    """From the request to its answer, whatever was waited before; small bodies say nothing about Customer.io."""
    monkeypatch.setattr("rs_cio_assets.customerio.http.time", SimpleNamespace(monotonic=clock.time))
    pace, noted = Pace(0.1, clock=clock.time), []
    monkeypatch.setattr(pace, "note_answered", noted.append)

    def handle(_: httpx.Request) -> httpx.Response:
        clock.now += 2
        return OK

    with track(handle, pace=pace) as client:
        for body in (BODY, b"x" * STEADY_BYTES, BODY, b"x" * STEADY_BYTES):
            client.send_batch(body, 1)
    assert sum(clock.sleeps) == pytest.approx(24)
    assert [latency_s for latency_s in noted if latency_s is not None] == pytest.approx([2, 2])
    assert len(noted) == 4


def test_clients_of_a_workspace_find_its_budget_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One budget for all Track clients of the same site and address, one for its App clients, others for other sites."""
    monkeypatch.setattr("rs_cio_assets.customerio.pace.state_folder", lambda: tmp_path / "paces")
    monkeypatch.setattr("rs_cio_assets.customerio.app._PACE", None)
    budgets = []
    for client in (TrackClient, TrackClient, AppClient, AppClient):
        with client(settings_of(CUSTOMERIO_APP_URL="http://127.0.0.1:9")) as opened:
            budgets.append((len(list((tmp_path / "paces").iterdir())), opened._http.pace.per_second))
    assert budgets == [(1, 1_000), (1, 1_000), (2, APP_REQUESTS_PER_S * 0.9), (2, APP_REQUESTS_PER_S * 0.9)]
    with TrackClient(settings_of(CUSTOMERIO_SITE_ID="another")):
        assert len(list((tmp_path / "paces").iterdir())) == 3


def test_stop_ends_everybody_who_waits():
    """Told to come back in five minutes: who waits to try again or for a turn ends at once, and nothing more is sent."""
    arrived = threading.Barrier(3)

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        arrived.wait(60)
        return httpx.Response(429, headers={"Retry-After": "300"})

    requests: list[httpx.Request] = []
    with track(handle, pace=Pace(1_000)) as client, ThreadPoolExecutor(8) as pool:
        sending = [pool.submit(client.send_batch, BODY, 1) for _ in range(2)]
        arrived.wait(60)
        while client.pace_per_second == 1_000:
            threading.Event().wait(0.001)
        sending += [pool.submit(client.send_batch, BODY, 1) for _ in range(6)]
        client.stop()
        for future in sending:
            with pytest.raises(CustomerioUnavailable, match="stopped") as caught:
                future.result(60)
            assert "run the day again" in caught.value.next_step
    assert len(requests) == 2


def test_stop_neither_waits_for_what_is_on_its_way_nor_breaks_it_off():
    """An answer that comes after the stop still counts; a request after it is refused before it is sent."""
    arrived, release = threading.Event(), threading.Event()

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        arrived.set()
        assert release.wait(60)
        return OK

    requests: list[httpx.Request] = []
    with track(handle) as client, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(client.send_batch, BODY, 1)
        assert arrived.wait(60)
        client.stop()
        assert not sending.done()
        release.set()
        assert sending.result(60).refused == ()
        with pytest.raises(CustomerioUnavailable, match="stopped"):
            client.send_batch(BODY, 1)
    assert len(requests) == 1
