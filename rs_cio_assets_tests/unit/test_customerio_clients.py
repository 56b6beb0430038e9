"""The two Customer.io clients: what is tried again, how long is waited, which error comes out, and that none tells a value."""

from __future__ import annotations

import email.utils
import itertools
import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import time_machine

from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.customerio.http import ATTEMPTS, LONGEST_WAIT_S, RETRIED_STATUSES, WAIT_INITIAL_S, WAIT_MAX_S
from rs_cio_assets.customerio.limits import APP_REQUESTS_PER_S
from rs_cio_assets.customerio.pace import Pace
from rs_cio_assets.errors import (
    ConfigurationError,
    CustomerioRefused,
    CustomerioUnavailable,
    MismatchError,
    PermanentError,
    RsCioError,
    SettingsError,
    TransientError,
)
from rs_cio_assets.settings import CustomerioSettings, load_settings

EMAIL = "ada@example.com"
KEYS = {"CUSTOMERIO_SITE_ID": "site-hush", "CUSTOMERIO_API_KEY": "track-hush", "CUSTOMERIO_APP_API_KEY": "app-hush"}
BODY = json.dumps({"batch": [{"type": "person", "identifiers": {"id": "C0000001"}, "attributes": {"email": EMAIL}}]}).encode()
SECRETS = (*KEYS.values(), EMAIL, "C0000001")
Handler = Callable[[httpx.Request], httpx.Response]


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds waited between attempts, in order; nothing sleeps."""
    waited: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=waited.append))
    return waited


@pytest.fixture(autouse=True)
def app_clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock of the test's own behind the pace that all App API clients share."""
    clock = Clock()
    pace = Pace(APP_REQUESTS_PER_S * 0.9, clock=lambda: clock.now, sleep=clock.sleep)
    monkeypatch.setattr("rs_cio_assets.customerio.app._PACE", pace)
    return clock


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def settings_of(**environ: str) -> CustomerioSettings:
    """Settings with keys that must never be shown; *environ* changes some."""
    return load_settings({**KEYS, "CUSTOMERIO_MAX_REQUESTS_PER_S": "1000", **environ}).customerio


def track(handler: Handler, **environ: str) -> TrackClient:
    """A Track client whose requests *handler* answers."""
    return TrackClient(settings_of(**environ), transport=httpx.MockTransport(handler))


def app(handler: Handler) -> AppClient:
    """An App client whose requests *handler* answers."""
    return AppClient(settings_of(), transport=httpx.MockTransport(handler))


def answering(*answers: httpx.Response | Exception) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives *answers* one after another, the last for ever; and the requests it got."""
    requests: list[httpx.Request] = []
    upcoming = itertools.chain(answers, itertools.repeat(answers[-1]))

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        answer = next(upcoming)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return handle, requests


def told(error: BaseException) -> str:
    """Everything that a log could show of *error*."""
    return "".join(traceback.format_exception(error)) + repr(error) + str(error)


OK = httpx.Response(200, json={})


@pytest.mark.parametrize(
    "failure",
    [
        *(httpx.Response(status, text=f"<html>{EMAIL}</html>") for status in sorted(RETRIED_STATUSES)),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.WriteTimeout("slow"),
        httpx.PoolTimeout("busy"),
        httpx.ConnectError("refused"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("hung up"),
        httpx.ProxyError("bad gateway"),
    ],
    ids=lambda f: str(f.status_code) if isinstance(f, httpx.Response) else type(f).__name__,
)
def test_what_may_pass_is_tried_again_with_the_same_request_and_in_the_end_given_up(
    failure: httpx.Response | Exception, waits: list[float]
):
    """Two failures and a success are a success; failures without end are ATTEMPTS requests and an error that may be retried."""
    handler, requests = answering(failure, failure, OK)
    with track(handler) as client:
        assert client.send_batch(BODY, 1).refused == ()
    assert [request.content for request in requests] == [BODY] * 3
    assert len(waits) == 2
    handler, requests = answering(failure)
    with track(handler) as client, pytest.raises(CustomerioUnavailable) as caught:
        client.send_batch(BODY, 1)
    assert len(requests) == ATTEMPTS
    shown = str(failure.status_code) if isinstance(failure, httpx.Response) else type(failure).__name__
    assert shown in str(caught.value)
    assert "run the day again" in caught.value.next_step
    assert not any(secret in told(caught.value) for secret in SECRETS)


def test_waits_between_attempts_grow_from_a_fifth_of_a_second_and_are_bounded(waits: list[float]):
    """Without a Retry-After each wait is at least twice the one before, plus at most a second of jitter, never over the cap."""
    handler, _ = answering(httpx.Response(503))
    with track(handler) as client, pytest.raises(CustomerioUnavailable):
        client.send_batch(BODY, 1)
    assert len(waits) == ATTEMPTS - 1
    for number, wait in enumerate(waits):
        least = WAIT_INITIAL_S * 2**number
        assert min(least, WAIT_MAX_S) <= wait <= min(least + 1, WAIT_MAX_S)


MOMENT = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("86400", LONGEST_WAIT_S),
        ("inf", LONGEST_WAIT_S),
        (email.utils.format_datetime(datetime(2026, 11, 24, 12, 0, 42, tzinfo=UTC), usegmt=True), 42.0),
        (email.utils.format_datetime(datetime(2026, 11, 24, 11, 0, 0, tzinfo=UTC), usegmt=True), 0.0),
        (email.utils.format_datetime(datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC), usegmt=True), LONGEST_WAIT_S),
    ],
)
def test_retry_after_is_honoured_as_seconds_and_as_a_date_up_to_a_limit(header: str, wait_s: float, waits: list[float]):
    """The wait is what the server asks for, never negative, never over LONGEST_WAIT_S; the error passes it on."""
    handler, _ = answering(httpx.Response(429, headers={"Retry-After": header}))
    with time_machine.travel(MOMENT, tick=False), track(handler) as client, pytest.raises(CustomerioUnavailable) as caught:
        client.send_batch(BODY, 1)
    assert waits == [wait_s] * (ATTEMPTS - 1)
    assert caught.value.retry_after_s == wait_s


@pytest.mark.parametrize(
    "header", ["", "soon", "nan", "Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 99999999999999999999 08:49:37 GMT", "6 Nov", "١٢ days"]
)
def test_a_retry_after_that_cannot_be_read_is_as_none(header: str, waits: list[float]):
    """Nonsense in the header neither breaks the retry nor stops its own back-off."""
    handler, requests = answering(httpx.Response(503, headers={"Retry-After": header.encode()}), OK)
    with track(handler) as client:
        client.send_batch(BODY, 1)
    assert len(requests) == 2
    assert WAIT_INITIAL_S <= waits[0] <= WAIT_INITIAL_S + 1


HTML = httpx.Response(404, html="<!DOCTYPE html><html><body>Not found</body></html>")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(400, json={"errors": [{"reason": "invalid", "message": f"{EMAIL} is bad"}]}), ["400", "report this"]),
        (httpx.Response(413), ["413", "report this"]),
        (httpx.Response(401), ["401", "CUSTOMERIO_SITE_ID and CUSTOMERIO_API_KEY", "CUSTOMERIO_REGION"]),
        (httpx.Response(403), ["403", "CUSTOMERIO_API_KEY", "CUSTOMERIO_REGION"]),
        (HTML, ["404", "CUSTOMERIO_TRACK_URL"]),
        *(
            (httpx.Response(status, headers={"Location": "https://track-eu.customer.io/"}), [str(status), "CUSTOMERIO_REGION"])
            for status in (301, 302, 307, 308)
        ),
    ],
    ids=lambda value: str(value.status_code) if isinstance(value, httpx.Response) else "",
)
def test_what_repeating_cannot_help_is_refused_at_once_with_the_right_next_step(
    answer: httpx.Response, words: list[str], waits: list[float]
):
    """One request, no wait, no redirect followed; the error says what to look at and nothing that was sent or answered."""
    handler, requests = answering(answer)
    with track(handler) as client, pytest.raises(CustomerioRefused) as caught:
        client.send_batch(BODY, 1)
    assert (len(requests), waits) == (1, [])
    assert all(word in str(caught.value) for word in words)
    assert not any(secret in told(caught.value) for secret in SECRETS)


def test_each_side_names_its_own_credentials(waits: list[float]):
    """A refused App API key is not mistaken for the Track API's."""
    handler, _ = answering(httpx.Response(401))
    with app(handler) as client, pytest.raises(CustomerioRefused, match="CUSTOMERIO_APP_API_KEY") as caught:
        client.attributes(["C0000001"])
    assert "CUSTOMERIO_SITE_ID" not in str(caught.value)


def httpx_errors() -> list[type[Exception]]:
    """Every exception class that httpx has."""
    return [kind for kind in vars(httpx).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def raised_as(kind: type[Exception]) -> Exception:
    """An instance of *kind*, however it is made."""
    request = httpx.Request("POST", "https://track.customer.io", content=BODY)
    for arguments in ((EMAIL,), ()):
        try:
            if kind is httpx.HTTPStatusError:
                return httpx.HTTPStatusError(EMAIL, request=request, response=httpx.Response(500, request=request))
            return kind(*arguments)
        except TypeError:
            continue
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", httpx_errors(), ids=lambda kind: kind.__name__)
def test_every_exception_of_httpx_becomes_one_of_ours(kind: type[Exception], waits: list[float]):
    """Connections may be tried again later, anything else not; no text of the driver comes through."""
    handler, requests = answering(raised_as(kind))
    with track(handler) as client, pytest.raises(RsCioError) as caught:
        client.send_batch(BODY, 1)
    never = issubclass(kind, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
    is_transient = issubclass(kind, httpx.TransportError) and not never
    assert isinstance(caught.value, TransientError if is_transient else PermanentError)
    assert len(requests) == (ATTEMPTS if is_transient else 1)
    assert EMAIL not in told(caught.value)


def test_the_enumeration_of_httpx_exceptions_is_not_empty():
    """The test above proves something: the classes that matter most are among those it goes through."""
    assert {httpx.ConnectError, httpx.ReadTimeout, httpx.InvalidURL, httpx.DecodingError} <= set(httpx_errors())


@pytest.mark.parametrize("text", ["CERTIFICATE_VERIFY_FAILED", "certificate has expired"])
def test_a_bad_certificate_is_not_tried_again(text: str, waits: list[float]):
    """TLS that cannot be verified is a matter for a person, at once."""
    handler, requests = answering(httpx.ConnectError(f"[SSL: {text}]"))
    with track(handler) as client, pytest.raises(CustomerioRefused, match="certificates"):
        client.send_batch(BODY, 1)
    assert len(requests) == 1


@pytest.mark.parametrize(
    "environ",
    [
        {"CUSTOMERIO_TRACK_URL": "http://[::", "CUSTOMERIO_APP_URL": "http://[::"},
        {"CUSTOMERIO_TRACK_URL": "ftp://127.0.0.1", "CUSTOMERIO_APP_URL": "ftp://127.0.0.1"},
        {"CUSTOMERIO_TRACK_URL": "127.0.0.1", "CUSTOMERIO_APP_URL": "127.0.0.1"},
    ],
)
def test_an_address_that_is_none_names_the_variables(environ: dict[str, str]):
    """A mistyped URL is one of our errors for both clients, whenever it is noticed."""
    for use in (
        lambda: TrackClient(settings_of(**environ)).send_batch(BODY, 1),
        lambda: AppClient(settings_of(**environ)).attributes(["C0000001"]),
    ):
        with pytest.raises((PermanentError, ConfigurationError)) as caught:
            use()
        assert "CUSTOMERIO_TRACK_URL" in str(caught.value)
        assert "CUSTOMERIO_APP_URL" in str(caught.value)


@pytest.mark.parametrize("key", ["hush\n", "hush\u00fc"])
def test_a_key_that_cannot_stand_in_a_header_names_its_variable(key: str, silent_port: int):
    """A line break or an umlaut pasted with a key is told as such, without the key; nothing is tried again."""
    environ = {"CUSTOMERIO_APP_API_KEY": key, "CUSTOMERIO_APP_URL": f"http://127.0.0.1:{silent_port}"}
    with pytest.raises(RsCioError, match="CUSTOMERIO_APP_API_KEY") as caught:
        AppClient(settings_of(**environ)).attributes(["C0000001"])
    assert not isinstance(caught.value, TransientError)
    assert "hush" not in told(caught.value)


def test_without_an_app_key_nothing_can_be_read_back():
    """The App client says which variable it lacks."""
    settings = settings_of().model_copy(update={"app_api_key": None})
    with pytest.raises(SettingsError, match="CUSTOMERIO_APP_API_KEY"):
        AppClient(settings)


def test_credentials_go_as_published():
    """Basic site id and key to the Track API, Bearer to the App API; nothing of the product's in the address."""
    handler, requests = answering(OK)
    with track(handler) as client:
        client.send_batch(BODY, 1)
    handler, more = answering(httpx.Response(200, json={"customers": []}))
    with app(handler) as client:
        client.attributes(["C0000001"])
    (sent,), (asked,) = requests, more
    assert httpx.BasicAuth("site-hush", "track-hush")._auth_header == sent.headers["Authorization"]
    assert sent.headers["Content-Type"] == "application/json"
    assert (sent.method, sent.url.path, sent.url.query) == ("POST", "/api/v2/batch", b"")
    assert asked.headers["Authorization"] == "Bearer app-hush"
    assert (asked.method, asked.url.path, asked.url.query) == ("POST", "/v1/customers/attributes", b"id_type=id")


def test_nothing_that_can_be_printed_or_logged_holds_a_secret(
    waits: list[float], caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    """Clients and settings, and what the retries log (by logging, or to stdout where structlog is), show no key, no payload."""
    caplog.set_level(logging.DEBUG)
    handler, _ = answering(httpx.Response(503, text=EMAIL), httpx.ReadTimeout(EMAIL), OK)
    with track(handler) as client:
        client.send_batch(BODY, 1)
        printed = f"{client!r} {vars(client)!r} {client._http!r}"
    logged = " ".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records) + capsys.readouterr().out
    assert logged.count("stamina.retry_scheduled") >= 2
    assert "ReadTimeout" in logged
    assert not [secret for secret in SECRETS if secret in logged]
    assert not [secret for secret in SECRETS if secret in printed and secret != KEYS["CUSTOMERIO_SITE_ID"]]


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


def customer(person_id: str, **attributes: str) -> dict[str, Any]:
    """One person as the App API gives them."""
    identifiers = {"id": person_id, "email": None, "cio_id": "a0000001"}
    return {"id": person_id, "identifiers": identifiers, "attributes": attributes, "timestamps": dict.fromkeys(attributes, 1)}


class People:
    """Answers like POST /v1/customers/attributes for the people in *known*, nested as documented or flat."""

    def __init__(self, known: Sequence[str], clock: Clock, *, is_nested: bool = True) -> None:
        self.known, self.clock, self.is_nested = set(known), clock, is_nested
        self.asked: list[list[str]] = []
        self.times: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One request."""
        ids = json.loads(request.content)["ids"]
        self.asked.append(ids)
        self.times.append(self.clock.now)
        found = [customer(person_id, tier="gold") for person_id in ids if person_id in self.known]
        return httpx.Response(200, json={"customers": [{"customer": c} if self.is_nested else c for c in found] or None})


def people_ids(count: int) -> list[str]:
    """Ids of made-up people."""
    return [f"C{number:07d}" for number in range(count)]


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])])
def test_profiles_are_asked_for_in_hundreds_each_person_once(count: int, sizes: list[int], app_clock: Clock):
    """No request holds more than 100 ids, nobody is left out, doubles cost nothing; missing people are absent."""
    ids = people_ids(count)
    server = People(ids[::2], app_clock)
    with app(server) as client:
        found = client.attributes([*ids, *ids])
    assert [len(asked) for asked in server.asked] == sizes
    assert list(itertools.chain(*server.asked)) == ids
    assert set(found) == set(ids[::2])
    assert all(profile.attributes == {"tier": "gold"} and profile.person_id == i for i, profile in found.items())


def test_profiles_are_read_nested_or_flat(app_clock: Clock):
    """The document nests each customer; should the live service not, the same profiles come out."""
    profiles = []
    for is_nested in (True, False):
        with app(People(people_ids(3), app_clock, is_nested=is_nested)) as client:
            profiles.append(client.attributes(people_ids(3)))
    assert profiles[0] == profiles[1]
    assert len(profiles[0]) == 3


def test_all_app_clients_of_the_process_keep_to_the_documented_rate_together(app_clock: Clock):
    """Two clients in turn stay within 10 requests in any second: the API counts them in one bucket."""
    server = People([], app_clock)
    with app(server) as one, app(server) as other:
        for client in (one, other) * 15:
            client.attributes(["C0000001"])
    assert len(server.times) == 30
    for time in server.times:
        assert sum(time <= later < time + 1 for later in server.times) <= APP_REQUESTS_PER_S


def pages(*answers: Any) -> tuple[Handler, list[httpx.Request]]:
    """A handler that gives each answer as a page."""
    return answering(*(httpx.Response(200, json=answer) for answer in answers))


def activity(number: int) -> dict[str, Any]:
    """An event activity."""
    return {
        "id": str(number),
        "type": "event",
        "name": "Order Completed",
        "timestamp": number,
        "data": {"order_id": f"O{number}"},
    }


def test_activities_are_read_over_all_pages():
    """Each page's token asks for the next; the last has none."""
    handler, requests = pages({"activities": [activity(3), activity(2)], "next": "t2"}, {"activities": [activity(1)], "next": ""})
    with app(handler) as client:
        found = list(client.activities("C0000001", "event", name="Order Completed"))
    assert [(a.type, a.name, a.timestamp, a.data["order_id"]) for a in found] == [
        ("event", "Order Completed", number, f"O{number}") for number in (3, 2, 1)
    ]
    queries = [dict(request.url.params) for request in requests]
    usual = {"type": "event", "name": "Order Completed", "limit": "100", "id_type": "id"}
    assert queries == [usual, {**usual, "start": "t2"}]


@pytest.mark.parametrize("empty", [None, []])
def test_an_empty_page_ends_the_activities_even_with_a_token(empty: list[Any] | None):
    """Null is an empty collection, and an empty page with a token does not ask for ever."""
    handler, requests = pages({"activities": [activity(1)], "next": "t"}, {"activities": empty, "next": "t"})
    with app(handler) as client:
        assert len(list(client.activities("C0000001", "event"))) == 1
    assert len(requests) == 2


def test_somebody_whom_customerio_does_not_know_has_no_activities():
    """A person deleted there is a difference for a check to report, not a refused request; a wrong path stays one."""
    handler, _ = answering(httpx.Response(404, json={"errors": [{"detail": "customer not found", "status": "404"}]}))
    with app(handler) as client:
        assert list(client.activities("C0000001", "event")) == []
    handler, _ = answering(HTML)
    with app(handler) as client, pytest.raises(CustomerioRefused, match="CUSTOMERIO_APP_URL"):
        list(client.activities("C0000001", "event"))


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(400), httpx.Response(401), HTML, httpx.ReadTimeout("x")])
def test_no_error_of_reading_names_the_person(answer: httpx.Response | Exception, waits: list[float]):
    """An identifier may be an email address: it stands in the request's path and never in an error."""
    handler, requests = answering(answer)
    with app(handler) as client, pytest.raises(RsCioError) as caught:
        list(client.activities(EMAIL, "event"))
    assert "ada" not in told(caught.value)
    assert requests[0].url.raw_path.startswith(b"/v1/customers/ada%40example.com/activities?")


@pytest.mark.parametrize(
    ("read", "answers"),
    [
        (
            "attributes",
            [
                *({}, [], {"customers": {}}, {"customers": ["x"]}, {"customers": [{"customer": None}]}, {"customers": [None]}),
                {"customers": [{"customer": {"id": "C0000001", "attributes": ["x"]}}]},
            ],
        ),
        (
            "activities",
            [
                *({}, [], {"activities": "x"}, {"activities": ["x"]}, {"activities": [None]}),
                *(
                    {"activities": [{"timestamp": "today"}]},
                    {"activities": [{"timestamp": True}]},
                    {"activities": [{"data": "x"}]},
                ),
            ],
        ),
    ],
)
def test_an_answer_of_another_shape_is_a_mismatch(read: str, answers: list[Any]):
    """What is not the published answer proves nothing about a person and is never taken for "missing"."""
    for answer in [*(httpx.Response(200, json=answer) for answer in answers), httpx.Response(200, html="<html></html>")]:
        handler, _ = answering(answer)
        with app(handler) as client, pytest.raises(MismatchError):
            client.attributes(["C0000001"]) if read == "attributes" else list(client.activities("C0000001", "event"))
