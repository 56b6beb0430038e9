"""Requests to Customer.io: what is tried again, how long is waited, which error comes out, and that none tells a value."""

from __future__ import annotations

import email.utils
import logging
import socket
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
import time_machine

from rs_cio_assets.customerio import AppClient, TrackClient
from rs_cio_assets.customerio.http import ATTEMPTS, LONGEST_WAIT_S, RETRIED_STATUSES, WAIT_INITIAL_S, WAIT_MAX_S
from rs_cio_assets.errors import (
    ConfigurationError,
    CustomerioBodyTooLarge,
    CustomerioRefused,
    CustomerioUnavailable,
    PermanentError,
    RsCioError,
    SettingsError,
    TransientError,
)
from rs_cio_assets_tests.customerio_clients import (
    BODY,
    EMAIL,
    HTML,
    KEYS,
    SECRETS,
    answering,
    app,
    settings_of,
    told,
    track,
)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port of 127.0.0.1 that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


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


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(400, json={"errors": [{"reason": "invalid", "message": f"{EMAIL} is bad"}]}), ["400", "report this"]),
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


def test_a_body_that_is_too_large_has_an_error_of_its_own(waits: list[float]):
    """413 is refused at once, as an error by which the sender knows that smaller bodies may be taken."""
    handler, requests = answering(httpx.Response(413, text=EMAIL))
    with track(handler) as client, pytest.raises(CustomerioBodyTooLarge, match="413") as caught:
        client.send_batch(BODY, 1)
    assert (len(requests), waits) == (1, [])
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
    assert "Customer.io's Track API did not answer POST /api/v2/batch: ReadTimeout from" in logged
    assert logged.count("Asking again in ") >= 2
    assert not [secret for secret in SECRETS if secret in logged]
    assert not [secret for secret in SECRETS if secret in printed and secret != KEYS["CUSTOMERIO_SITE_ID"]]
