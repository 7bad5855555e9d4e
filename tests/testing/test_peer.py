"""The official SDK takes the embedded server for Stripe."""

from __future__ import annotations

import time

import pytest
import stripe

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

from .conftest import StartServer


@pytest.fixture
def server(start: StartServer) -> StripeIdentityServer:
    return start()


def client(server: StripeIdentityServer, api_key: str = "sk_test_embedded", **arguments: str) -> stripe.StripeClient:
    return stripe.StripeClient(api_key, base_addresses={"api": server.url}, **arguments)


def test_list_both_ways(server: StripeIdentityServer) -> None:
    now = int(time.time())
    server.populate(250, now - 3600, now)
    server.create_session(client_reference_id="user_1")
    truth = [session["id"] for session in server.sessions()]
    sessions = client(server).v1.identity.verification_sessions
    assert [s.id for s in sessions.list({"limit": 100}).auto_paging_iter()] == truth
    backwards = sessions.list({"limit": 100, "ending_before": truth[-1]}).auto_paging_iter()
    assert [s.id for s in backwards] == truth[-2::-1]
    assert [s.id for s in sessions.list({"client_reference_id": "user_1"})] == truth[:1]
    window = sessions.list({"created": {"gte": now - 1800, "lt": now - 900}, "status": "verified", "limit": 100})
    expected = server.sessions(created={"gte": now - 1800, "lt": now - 900}, status="verified")
    assert [s.id for s in window.auto_paging_iter()] == [s["id"] for s in expected]


def test_retrieve_and_expand(server: StripeIdentityServer) -> None:
    session_id = server.create_session(status="verified", metadata={"name": 'Zoë "Z"'})["id"]
    sessions = client(server).v1.identity.verification_sessions
    session = sessions.retrieve(session_id, {"expand": ["verified_outputs", "last_verification_report"]})
    assert session.metadata["name"] == 'Zoë "Z"'
    assert session.verified_outputs
    assert session.verified_outputs.dob
    report = session.last_verification_report
    assert isinstance(report, stripe.identity.VerificationReport)
    assert client(server).v1.identity.verification_reports.retrieve(report.id) == report


def test_events(server: StripeIdentityServer) -> None:
    now = int(time.time())
    server.populate(60, now - 3600, now)
    name = "identity.verification_session.verified"
    events = client(server).v1.events
    listed = list(events.list({"types": [name], "limit": 7}).auto_paging_iter())
    verified = {session["id"] for session in server.sessions(status="verified")}
    assert {event.data.object["id"] for event in listed} == verified
    assert len(listed) == len(verified)
    assert events.retrieve(listed[0].id) == listed[0]


def test_create_cancel_redact(server: StripeIdentityServer) -> None:
    sessions = client(server).v1.identity.verification_sessions
    created = sessions.create(
        {
            "type": "document",
            "client_reference_id": "user_1",
            "metadata": {"plan": "größer"},
            "options": {"document": {"require_matching_selfie": True, "allowed_types": ["passport"]}},
        }
    )
    assert list(server.sessions(client_reference_id="user_1")) == [created.to_dict()]
    assert sessions.cancel(created.id).status == "canceled"
    other = sessions.create({"type": "id_number"})
    server.verify(other.id)
    redaction = sessions.redact(other.id).redaction
    assert redaction
    assert redaction.status == "processing"


def test_account(server: StripeIdentityServer) -> None:
    server.create_session(account="acct_shop")
    assert client(server, stripe_account="acct_shop").v1.accounts.retrieve_current().id == "acct_shop"


def test_errors_are_its_own_classes(server: StripeIdentityServer) -> None:
    server.api_keys["rk_test_events"] = {"events"}
    for other, expected in (
        (client(server, "sk_test_wrong_key_1234"), stripe.AuthenticationError),
        (client(server, "rk_test_events"), stripe.PermissionError),
        (client(server, stripe_account="acct_nobody"), stripe.PermissionError),
    ):
        with pytest.raises(expected) as caught:
            other.v1.identity.verification_sessions.list()
        assert caught.value.request_id
    sessions = client(server).v1.identity.verification_sessions
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sessions.retrieve("vs_x")
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (404, "resource_missing", "id")
    with pytest.raises(stripe.InvalidRequestError) as caught:
        sessions.list({"starting_after": "vs_x"})
    assert (caught.value.http_status, caught.value.param) == (400, "starting_after")
    server.inject(Fault.rate_limited(), Fault.status(400), Fault.status(500), Fault.reset(), Fault.not_json())
    for expected in (
        stripe.RateLimitError,
        stripe.InvalidRequestError,
        stripe.APIError,
        stripe.APIConnectionError,
        stripe.APIError,
    ):
        with pytest.raises(expected):
            sessions.list()
