"""One request, at the socket: what is sent, what is tried again, and what is said when it fails."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from airflow_provider_stripe_identity._stripe_api import client as client_module
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.listing import list_page
from airflow_provider_stripe_identity.exceptions import (
    StripeAPIConnectionError,
    StripeAPIError,
    StripeAuthenticationError,
    StripeInvalidRequestError,
    StripePermissionError,
    StripeRateLimitError,
)
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

SESSIONS = "/v1/identity/verification_sessions"
HTML = "<html><body>upstream failed</body></html>"


@pytest.fixture
def client(stripe_identity_server: StripeIdentityServer) -> StripeIdentityClient:
    server = stripe_identity_server
    for _ in range(3):
        server.create_session()
    return StripeIdentityClient(server.api_key, base_url=server.url, timeout=5, max_retries=3)


def page(client: StripeIdentityClient, **cursor):
    return list_page(client, SESSIONS, (), limit=2, **cursor)


RETRYABLE = {
    "cut short": (Fault.cut_short(), StripeAPIConnectionError, "no complete response arrived.*IncompleteRead"),
    "reset": (Fault.reset(), StripeAPIConnectionError, "no complete response arrived.*ConnectionResetError"),
    "not JSON": (Fault.not_json(), StripeAPIError, "the response is not a JSON object"),
    "not a list": (Fault.not_a_list(), StripeAPIError, "the response is not a list of Stripe's"),
    "empty with has_more": (Fault.empty_page(), StripeAPIError, "an empty page that promises more"),
    "409": (Fault.status(409), StripeAPIError, "409"),
    "429 with a reason": (Fault.rate_limited(), StripeRateLimitError, "429.*endpoint-rate"),
    "429 without a reason": (Fault.rate_limited(None), StripeRateLimitError, "429.*lock_timeout"),
    "500": (Fault.status(500), StripeAPIError, "500"),
    "502 with HTML": (Fault.status(502, body=HTML), StripeAPIError, r"502.*\n.*status.stripe.com"),
    "503 with HTML": (Fault.status(503, body=HTML), StripeAPIError, "503"),
    "400 that may be retried": (
        Fault.status(400, headers={"Stripe-Should-Retry": "true"}),
        StripeInvalidRequestError,
        "400",
    ),
}


@pytest.mark.parametrize(("fault", "kind", "message"), RETRYABLE.values(), ids=RETRYABLE)
@pytest.mark.usefixtures("instant_backoff")
class TestRetried:
    def test_and_then_it_succeeds(self, stripe_identity_server, client, fault, kind, message):
        truth = page(client)
        stripe_identity_server.requests.clear()
        stripe_identity_server.inject(fault, fault)
        assert page(client) == truth
        assert len(stripe_identity_server.requests) == 3

    def test_a_bounded_number_of_times(self, stripe_identity_server, client, fault, kind, message):
        stripe_identity_server.inject(*[fault] * 10)
        with pytest.raises(kind, match=message) as raised:
            page(client)
        assert len(stripe_identity_server.requests) == 4
        assert str(raised.value).startswith(f"GET {SESSIONS}: ")


PERMANENT = {
    "400": (Fault.status(400), StripeInvalidRequestError, "Check the arguments"),
    "401": (Fault.status(401), StripeAuthenticationError, "connection's password"),
    "403": (Fault.status(403), StripePermissionError, "Identity -> Verification Sessions"),
    "404": (Fault.status(404), StripeInvalidRequestError, "/v1 begins"),
    "redirect": (Fault.redirect("http://127.0.0.1:1/stolen"), StripeInvalidRequestError, "Redirects are never"),
    "500 that must not be retried": (
        Fault.status(500, headers={"Stripe-Should-Retry": "false"}),
        StripeAPIError,
        "500",
    ),
    "429 that must not be retried": (
        Fault.status(429, headers={"Stripe-Should-Retry": "false"}),
        StripeRateLimitError,
        "429",
    ),
}


@pytest.mark.parametrize(("fault", "kind", "message"), PERMANENT.values(), ids=PERMANENT)
def test_not_retried(stripe_identity_server, client, fault, kind, message):
    stripe_identity_server.inject(fault)
    with pytest.raises(kind, match=message):
        page(client)
    assert len(stripe_identity_server.requests) == 1


@pytest.mark.usefixtures("instant_backoff")
def test_a_read_timeout_is_retried_and_bounded(stripe_identity_server, caplog):
    server = stripe_identity_server
    client = StripeIdentityClient(server.api_key, base_url=server.url, timeout=0.2, max_retries=1)
    server.inject(Fault.delay(2), Fault.delay(2))
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(StripeAPIConnectionError, match="complete response.*timed out"),
    ):
        page(client)
    assert ["attempt 1 failed" in message for message in caplog.messages] == [True]


@pytest.mark.usefixtures("instant_backoff")
def test_a_body_that_drips_is_given_up(stripe_identity_server):
    """Every single read is in time, so the read timeout alone would wait forever."""
    server = stripe_identity_server
    server.create_session()
    client = StripeIdentityClient(server.api_key, base_url=server.url, timeout=0.3, max_retries=0)
    server.inject(Fault.drip(2))
    with pytest.raises(StripeAPIConnectionError, match=r"not complete after 0\.3 s"):
        page(client)


def test_a_body_without_end_is_given_up(stripe_identity_server, client, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_BODY_BYTES", 100)
    with pytest.raises(StripeAPIConnectionError, match="larger than"):
        page(client)
    assert len(stripe_identity_server.requests) == 1


@pytest.mark.usefixtures("instant_backoff")
def test_a_refused_connection_is_retried(caplog):
    with StripeIdentityServer() as server:
        url = server.url
    client = StripeIdentityClient("sk_test_x", base_url=url, max_retries=2)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(StripeAPIConnectionError, match=r"ConnectionRefusedError.*\nCheck the network"),
    ):
        page(client)
    assert ["attempt 1 failed" in message for message in caplog.messages] == [True, False]
    assert "".join(caplog.messages).isprintable(), "each in one line"


@pytest.fixture
def pauses(monkeypatch) -> list[float]:
    """The pauses between attempts, not slept."""
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=slept.append))
    return slept


def test_retry_after_is_honoured_and_capped(stripe_identity_server, client, pauses, monkeypatch):
    monkeypatch.setattr(client_module, "FIRST_BACKOFF", 0.0)
    stripe_identity_server.inject(*(Fault.status(503, headers={"Retry-After": wait}) for wait in ("3", "999999", "-5")))
    page(client)
    assert pauses == [3, client_module.MAX_RETRY_AFTER, 0]


def test_pauses_grow_with_full_jitter(stripe_identity_server, pauses):
    server = stripe_identity_server
    client = StripeIdentityClient(server.api_key, base_url=server.url, max_retries=12)
    server.inject(*[Fault.status(500)] * 12)
    page(client)
    limits = [min(client_module.FIRST_BACKOFF * 2**n, client_module.MAX_BACKOFF) for n in range(12)]
    assert all(0 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))
    assert len(set(pauses)) == 12


def test_retries_end_in_time(stripe_identity_server, client, pauses, monkeypatch):
    monkeypatch.setattr(client_module, "MAX_TOTAL_SECONDS", 100.0)
    stripe_identity_server.inject(*[Fault.status(503, headers={"Retry-After": "60"})] * 10)
    monkeypatch.setattr("tenacity.time", SimpleNamespace(monotonic=lambda: 50.0 * len(pauses)))
    with pytest.raises(StripeAPIError):
        page(client)
    assert len(pauses) == 1


def sent(server: StripeIdentityServer) -> dict[str, str]:
    return {name.lower(): value for name, value in server.requests[-1].headers.items()}


def test_the_headers_of_a_request(stripe_identity_server):
    server = stripe_identity_server
    server.create_session(account="acct_1")
    client = StripeIdentityClient(
        server.api_key,
        base_url=server.url,
        api_version="2026-07-29.dahlia",
        stripe_account="acct_1",
        stripe_context="c",
    )
    page(client)
    headers = sent(server)
    assert headers["authorization"] == f"Bearer {server.api_key}"
    assert headers["stripe-version"] == "2026-07-29.dahlia"
    assert headers["stripe-account"] == "acct_1"
    assert headers["stripe-context"] == "c"
    assert headers["user-agent"].startswith("airflow-provider-stripe-identity/")


@pytest.fixture
def netrc(tmp_path, monkeypatch):
    """A ~/.netrc with credentials for every host, which requests would send by itself."""
    file = tmp_path / "netrc"
    file.write_text("default login somebody password else")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))


@pytest.mark.usefixtures("netrc")
def test_netrc_does_not_replace_the_key(stripe_identity_server, client):
    page(client)
    assert sent(stripe_identity_server)["authorization"] == f"Bearer {stripe_identity_server.api_key}"


@pytest.mark.usefixtures("netrc")
def test_behind_a_gateway_nothing_is_sent_not_even_netrc():
    with StripeIdentityServer(gateway=True, path_prefix="/stripe/eu") as gateway:
        gateway.create_session()
        client = StripeIdentityClient(None, base_url=f"{gateway.url}/")
        assert len(page(client)["data"]) == 1
        assert "authorization" not in sent(gateway)
        assert gateway.requests[-1].path == f"/stripe/eu{SESSIONS}"


def test_a_redirect_does_not_carry_the_key_away(stripe_identity_server, client):
    with StripeIdentityServer() as thief:
        stripe_identity_server.inject(Fault.redirect(f"{thief.url}{SESSIONS}"))
        with pytest.raises(StripeInvalidRequestError):
            page(client)
        assert len(thief.requests) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"api_key": "pk_test_x"}, "password.*publishable"),
        ({"api_key": ""}, "password"),
        ({"api_key": "sk_test_x\n"}, "password.*line break"),
        ({"api_key": " sk_test_x"}, "password.*space"),
        ({"api_key": "sk_test_ü"}, "password.*ASCII"),
        ({"api_key": None}, "password.*missing"),
        ({"api_key": "sk_org_live_x"}, "stripe_context"),
        ({"base_url": "http://api.stripe.com"}, "host.*plain http"),
        ({"base_url": "http://127.0.0.1.example.com"}, "host.*plain http"),
        ({"base_url": "api.stripe.com"}, "host must be a URL"),
        ({"base_url": "ftp://api.stripe.com"}, "host must be a URL"),
        ({"base_url": "https://"}, "host must be a URL"),
        ({"base_url": "https://user:hunter2@gw.example.com"}, "host.*no user"),
        ({"base_url": "https://gw.example.com?x=1"}, "host.*query"),
        ({"stripe_account": "acct_1\r\nX: x"}, "stripe_account.*header"),
        ({"stripe_context": "acct_ü"}, "stripe_context.*header"),
        ({"api_version": 2026}, "api_version.*header"),
        ({"timeout": 0}, "timeout"),
        ({"max_retries": -1}, "max_retries"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_without_a_request(arguments, named):
    with pytest.raises(ValueError, match=named) as raised:
        StripeIdentityClient(**{"api_key": "sk_test_x", **arguments})
    assert "sk_test" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"])
def test_plain_http_on_loopback_and_without_a_key_is_accepted(url):
    StripeIdentityClient("sk_test_x", base_url=url)
    StripeIdentityClient(None, base_url="http://gateway.internal/stripe")


@pytest.mark.usefixtures("instant_backoff")
def test_neither_key_nor_query_is_in_any_log_line_or_error(stripe_identity_server, caplog):
    server = stripe_identity_server
    key = "sk_test_marked_wrong_key_1234"
    client = StripeIdentityClient(key, base_url=server.url, max_retries=1)
    server.inject(Fault.reset(), Fault.status(500))
    query = [("client_reference_id", "marked_person")]
    errors = []
    with caplog.at_level(logging.DEBUG):
        for _ in range(2):
            with pytest.raises((StripeAPIError, StripeAuthenticationError)) as raised:
                client.get(SESSIONS, query)
            errors.append(raised)
    assert "Invalid API Key provided" in str(errors[1].value)
    for error in errors:
        assert error.value.__cause__ is error.value.__context__ is None
        text = "".join(str(line) for line in error.getrepr(style="native").reprtraceback.reprentries)
        for secret in (key, "1234", "marked_person"):
            assert secret not in text + str(vars(error.value))
    # urllib3 logs every request line at DEBUG, query included; the key is in none.
    assert not [message for message in caplog.messages if key in message or "****1234" in message]


def test_the_headers_of_an_answer_can_be_had(client):
    seen: list[str] = []
    client.get(SESSIONS, received=seen.append)
    (headers,) = seen
    assert headers["request-id"].startswith("req_")
