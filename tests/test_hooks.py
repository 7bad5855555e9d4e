"""The connection, however it was made, and the connection test."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from airflow_provider_stripe_identity._connection.form import CONN_FIELDS
from airflow_provider_stripe_identity._stripe_api.client import DEFAULT_API_VERSION
from airflow_provider_stripe_identity.exceptions import StripeInvalidRequestError
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer


def sent(server: StripeIdentityServer) -> dict[str, str]:
    return {name.lower(): value for name, value in server.requests[-1].headers.items()}


def uri(server: StripeIdentityServer, query: str = "") -> str:
    return f"stripe-identity://:{server.api_key}@{quote(server.url, safe='')}/{query}"


def test_nothing_is_looked_up_before_the_first_call():
    StripeIdentityHook("no_such_connection")


@pytest.mark.parametrize("form", ["uri", "json", "form"])
def test_every_form_of_a_connection_is_the_same(server, make_connection, form):
    """A URI brings every extra as text; the form saves numbers, and null for what was left empty."""
    server.create_session(account="acct_1")
    everything = {"stripe_account": "acct_1", "stripe_context": "ctx", "api_version": "2026-07-29.dahlia"}
    connections = {
        "uri": uri(
            server, "?stripe_account=acct_1&stripe_context=ctx&api_version=2026-07-29.dahlia&timeout=7.5&max_retries=2"
        ),
        "json": json.dumps(
            {
                "conn_type": "stripe_identity",
                "host": server.url,
                "password": server.api_key,
                "extra": {**everything, "timeout": 7.5, "max_retries": 2},
            }
        ),
        "form": json.dumps(
            {
                "conn_type": "stripe_identity",
                "host": f"{server.url}/",
                "login": "",
                "password": server.api_key,
                "schema": "",
                "port": None,
                "extra": json.dumps({**everything, "timeout": "7.5", "max_retries": "2"}),
            }
        ),
    }
    hook = make_connection(connections[form])
    assert len(list(hook.list_verification_sessions())) == 1
    headers = sent(server)
    assert headers["authorization"] == f"Bearer {server.api_key}"
    assert (headers["stripe-account"], headers["stripe-context"]) == ("acct_1", "ctx")
    assert headers["stripe-version"] == "2026-07-29.dahlia"
    assert (hook.client._timeout, hook.client._max_retries) == (7.5, 2)


@pytest.mark.parametrize("empty", [None, ""])
def test_what_the_form_leaves_empty_is_the_default(server, make_connection, empty):
    extra = dict.fromkeys(CONN_FIELDS, empty)
    hook = make_connection(
        json.dumps({"conn_type": "stripe_identity", "host": server.url, "password": server.api_key, "extra": extra})
    )
    list(hook.list_verification_sessions())
    assert sent(server)["stripe-version"] == DEFAULT_API_VERSION
    assert not {"stripe-account", "stripe-context"} & sent(server).keys()


@pytest.mark.parametrize(
    ("host", "port", "base_url"),
    [
        (None, 443, "https://api.stripe.com:443"),
        ("gateway.example.com", 8443, "https://gateway.example.com:8443"),
        ("https://gateway.example.com/stripe/", 8443, "https://gateway.example.com:8443/stripe"),
        ("https://gateway.example.com:8443/stripe", 8443, "https://gateway.example.com:8443/stripe"),
        ("https://gateway.example.com:8443", 0, "https://gateway.example.com:8443"),
        ("https://[2001:db8::1]/stripe", 8443, "https://[2001:db8::1]:8443/stripe"),
    ],
)
def test_the_port_may_stand_apart(make_connection, host, port, base_url):
    connection = json.dumps({"conn_type": "stripe_identity", "host": host, "port": port, "password": "sk_test_x"})
    assert make_connection(connection).client.base_url == base_url


def test_a_port_that_contradicts_the_host_is_refused(make_connection):
    connection = {"conn_type": "stripe_identity", "host": "https://gateway.example.com:8443", "port": 443}
    with pytest.raises(ValueError, match="port: it is 443, but the host says 8443"):
        make_connection(json.dumps(connection)).get_conn()


def test_a_host_without_a_scheme_is_https(make_connection):
    hook = make_connection("stripe-identity://:sk_test_x@stripe.example.com")
    assert hook.client.base_url == "https://stripe.example.com"
    assert make_connection("stripe-identity://:sk_test_x@").client.base_url == "https://api.stripe.com"


def test_a_gateway_with_a_path_prefix_needs_no_key(make_connection):
    with StripeIdentityServer(gateway=True, path_prefix="/stripe/eu") as gateway:
        gateway.create_session()
        for connection in (
            f"stripe-identity://{quote(gateway.url, safe='')}",
            json.dumps({"conn_type": "stripe_identity", "host": gateway.url}),
        ):
            assert len(list(make_connection(connection).list_verification_sessions())) == 1
            assert "authorization" not in sent(gateway)


def test_an_account_of_the_hook_is_used_instead_of_the_connections(server, make_connection, monkeypatch):
    make_connection(uri(server, "?stripe_account=acct_1&stripe_context=ctx"))
    server.create_session(account="acct_2")
    hook = StripeIdentityHook("made", stripe_account="acct_2", stripe_context="other")
    assert len(list(hook.list_verification_sessions())) == 1
    assert (sent(server)["stripe-account"], sent(server)["stripe-context"]) == ("acct_2", "other")


class TestTestConnection:
    def test_success_says_the_mode_the_account_and_what_can_be_read(self, server, hook):
        worked, message = hook.test_connection()
        assert worked
        assert message == (
            "Connected to Stripe Identity (test mode, the key's own account); VerificationSessions can be listed; "
            "events can be read"
        )
        assert [request.path for request in server.requests] == ["/v1/identity/verification_sessions", "/v1/events"]
        assert {dict(request.query)["limit"] for request in server.requests} == {"1"}

    @pytest.mark.parametrize(
        ("extra", "account"),
        [({"stripe_account": "acct_1"}, "account acct_1"), ({"stripe_context": "acct_1"}, "context acct_1")],
    )
    def test_the_account_is_the_one_that_is_read(self, server, make_connection, extra, account):
        server.create_session(account="acct_1")
        connection = json.loads(server.airflow_connection()) | {"extra": extra}
        assert f"(test mode, {account})" in make_connection(json.dumps(connection)).test_connection()[1]

    def test_without_events_it_works_and_says_what_is_lost(self, server, make_connection):
        server.api_keys["rk_test_no_events"] = {"verification_sessions"}
        connection = json.loads(server.airflow_connection()) | {"password": "rk_test_no_events"}
        worked, message = make_connection(json.dumps(connection)).test_connection()
        assert worked
        for said in ("VerificationSessions can be listed", "events cannot be read", "exports of changes", "watchers"):
            assert said in message
        assert "deferred sensors poll one by one (GET /v1/events: 403" in message

    def test_a_gateways_mode_is_that_of_what_is_read(self, make_connection):
        with StripeIdentityServer(gateway=True, livemode=True) as gateway:
            hook = make_connection(json.dumps({"conn_type": "stripe_identity", "host": gateway.url}))
            assert "(mode unknown, there is no session yet, the gateway's account)" in hook.test_connection()[1]
            gateway.create_session()
            assert "(live mode, the gateway's account)" in hook.test_connection()[1]

    @pytest.mark.parametrize(
        ("connection", "said"),
        [
            ({"password": "sk_test_wrong"}, "Check the API key"),
            ({"password": "rk_test_events_only"}, "Identity -> Verification Sessions"),
            ({"password": "pk_test_x"}, "publishable"),
            ({"password": None}, "You did not provide an API key"),
            ({"host": "http://127.0.0.1:1", "extra": {"max_retries": 0}}, "Check the network"),
            ({"host": "http://stripe.example.com"}, "plain http"),
            ({"extra": {"stripe_account": "acct_unknown"}}, "Check stripe_account"),
            ({"extra": {"max_retries": "many"}}, "max_retries"),
        ],
        ids=str,
    )
    def test_failure_says_what_is_missing(self, server, make_connection, connection, said):
        server.api_keys["rk_test_events_only"] = {"events"}
        working = json.loads(server.airflow_connection())
        worked, message = make_connection(json.dumps(working | connection)).test_connection()
        assert worked is False
        assert said in message

    def test_an_account_without_identity(self, server, hook):
        server.inject(Fault.status(400, error={"message": "Your account is not set up to use Identity."}))
        assert "Activate Identity" in hook.test_connection()[1]


class TestRetrieve:
    def test_one_session(self, server, hook):
        session = server.create_session(status="verified")
        assert hook.get_verification_session(session["id"]) == session
        assert hook.get_verification_session(session["id"], expand=["verified_outputs"])["verified_outputs"]

    def test_an_unknown_one(self, hook):
        with pytest.raises(StripeInvalidRequestError, match="404.*resource_missing"):
            hook.get_verification_session("vs_unknown")

    @pytest.mark.parametrize("session_id", ["", "vs_1/cancel", "../events", "vs_1?expand[]=x", "vs_1\n", "vs_é"])
    def test_nothing_else_of_the_api_is_reached_through_an_id(self, server, hook, session_id):
        with pytest.raises(ValueError, match="session_id"):
            hook.get_verification_session(session_id)
        assert len(server.requests) == 0

    @pytest.mark.usefixtures("instant_backoff")
    def test_another_session_than_asked_for_is_not_returned(self, server, hook):
        session = server.create_session()
        server.inject(Fault.status(200, body={"id": "vs_other", "object": "identity.verification_session"}))
        assert hook.get_verification_session(session["id"])["id"] == session["id"]
        assert len(server.requests) == 2


def test_events(server, hook):
    session = server.create_session()
    server.verify(session["id"])
    (event,) = hook.list_events(types=["identity.verification_session.verified"])
    assert event["data"]["object"]["id"] == session["id"]
    now = event["created"]
    types = ["identity.verification_session.created", "identity.verification_session.verified"]
    assert len(list(hook.list_events(types=types, created_gte=now - 60, created_lt=now + 60, page_size=1))) == 2
    assert list(hook.list_events(types=types, created_lt=now - 60)) == []
