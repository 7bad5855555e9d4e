"""The official SDK takes the emulator for Stripe."""

from __future__ import annotations

import time

import pytest
import stripe
from support.emulator_api import StartServer

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer


@pytest.fixture
def server(start: StartServer) -> StripeIdentityServer:
    return start()


def client(server: StripeIdentityServer, api_key: str = "sk_test_emulator", **arguments: str) -> stripe.StripeClient:
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


def test_reports(server: StripeIdentityServer) -> None:
    now = int(time.time())
    server.populate(150, now - 7200, now - 3600)
    mine = server.create_session(client_reference_id="user_1", status="verified")
    reports = client(server).v1.identity.verification_reports
    with_report = [session["last_verification_report"] for session in server.sessions()]
    listed = list(reports.list({"limit": 7}).auto_paging_iter())
    assert [report.id for report in listed] == [report_id for report_id in with_report if report_id]
    backwards = reports.list({"limit": 7, "ending_before": listed[-1].id}).auto_paging_iter()
    assert [report.id for report in backwards] == [report.id for report in listed[-2::-1]]
    for filters in ({"client_reference_id": "user_1"}, {"verification_session": mine["id"]}):
        assert [report.id for report in reports.list(filters)] == [mine["last_verification_report"]]
    assert {report.type for report in reports.list({"type": "id_number"})} == {"id_number"}


def test_update_keeps_what_is_not_named(server: StripeIdentityServer) -> None:
    sessions = client(server).v1.identity.verification_sessions
    created = sessions.create({"type": "document", "metadata": {"plan": "basic", "order": "1"}})
    kept = {"order": "1", "note": "x"}
    assert sessions.update(created.id, {"metadata": {"plan": "", "note": "x"}}).metadata.to_dict() == kept
    updated = sessions.update(created.id, {"type": "id_number", "provided_details": {"email": "a@example.com"}})
    assert (updated.type, updated.metadata.to_dict()) == ("id_number", kept)
    assert sessions.update(created.id, {"metadata": ""}).metadata.to_dict() == {}
    server.verify(created.id)
    assert sessions.update(created.id, {"metadata": {"a": "b"}}).metadata.to_dict() == {"a": "b"}
    with pytest.raises(stripe.InvalidRequestError, match="only its metadata"):
        sessions.update(created.id, {"type": "document"})
    events = [event.type for event in client(server).v1.events.list({"limit": 100})]
    assert events == [f"identity.verification_session.{change}" for change in ("verified", "created")]


def test_the_same_idempotency_key_creates_once(server: StripeIdentityServer) -> None:
    sessions = client(server).v1.identity.verification_sessions
    with pytest.raises(stripe.InvalidRequestError):
        sessions.create({"type": "selfie"}, {"idempotency_key": "key_1"})
    first = sessions.create({"type": "document"}, {"idempotency_key": "key_1"})
    server.verify(first.id)
    again = sessions.create({"type": "document"}, {"idempotency_key": "key_1"})
    assert again == first
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert sessions.create({"type": "document"}, {"idempotency_key": "key_2"}).id != first.id
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        sessions.create({"type": "id_number"}, {"idempotency_key": "key_1"})
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        sessions.cancel(first.id, {}, {"idempotency_key": "key_1"})


def test_groups_of_events(server: StripeIdentityServer) -> None:
    server.create_session(status="verified")
    events = client(server).v1.events
    assert len(list(events.list({"type": "identity.verification_session.*"}))) == 2
    assert len(list(events.list({"type": "*"}))) == 2
    assert [e.type[-8:] for e in events.list({"type": "identity.*.verified"})] == ["verified"]
    assert list(events.list({"type": "charge.*"})) == []


def test_connected_accounts(server: StripeIdentityServer) -> None:
    """Newest first, in pages of 100; each with sessions and events of its own."""
    names = [f"acct_1Shop{number:03}" for number in range(250)]
    now = int(time.time())
    for number, name in enumerate(names):
        server.connect_account(name, created=now - 250 + number // 2)  # two in each second
    server.populate(30, now - 7200, now - 3600, account=names[7])
    accounts = client(server).v1.accounts
    assert [account.id for account in accounts.list({"limit": 100}).auto_paging_iter()] == names[::-1]
    assert [request.path for request in server.requests] == ["/v1/accounts"] * 3
    backwards = accounts.list({"limit": 100, "ending_before": names[0]}).auto_paging_iter()
    assert [account.id for account in backwards] == names[1:]
    window = accounts.list({"created": {"gte": now - 250, "lt": now - 248}})
    assert [account.id for account in window] == names[3::-1]
    with pytest.raises(stripe.InvalidRequestError, match="No such account"):
        accounts.list({"starting_after": "acct_nobody"})

    of_seven = client(server, stripe_account=names[7]).v1
    listed = [s.id for s in of_seven.identity.verification_sessions.list({"limit": 100}).auto_paging_iter()]
    assert listed == [session["id"] for session in server.sessions(account=names[7])]
    assert {event.data.object["id"] for event in of_seven.events.list({"limit": 100})} == set(listed)
    assert of_seven.accounts.list().data == []
    for other in (client(server), client(server, stripe_account=names[8])):
        assert other.v1.identity.verification_sessions.list().data == []
        assert other.v1.events.list().data == []


def test_an_account_that_revokes_access(server: StripeIdentityServer) -> None:
    for name in ("acct_1Kept", "acct_1Gone"):
        server.create_session(account=name)
    server.revoke_account("acct_1Gone")
    assert [account.id for account in client(server).v1.accounts.list()] == ["acct_1Kept"]
    for name in ("acct_1Gone", "acct_1Never"):
        with pytest.raises(stripe.PermissionError, match="Application access may have been revoked") as caught:
            client(server, stripe_account=name).v1.identity.verification_sessions.list()
        assert (caught.value.http_status, caught.value.json_body["error"]["code"]) == (403, "account_invalid")
    assert len(list(server.sessions(account="acct_1Gone"))) == 1  # it still has them
    server.api_keys["rk_test_own"] = {"verification_sessions"}
    with pytest.raises(stripe.PermissionError, match="rak_connected_account_read"):
        client(server, "rk_test_own").v1.accounts.list()


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
    for error in (
        stripe.RateLimitError,
        stripe.InvalidRequestError,
        stripe.APIError,
        stripe.APIConnectionError,
        stripe.APIError,
    ):
        with pytest.raises(error):
            sessions.list()
