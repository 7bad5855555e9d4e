"""What happens to sessions, and the events that tell of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from support.emulator_api import NOON, ask

from airflow_provider_stripe_identity.testing import EmulatorError, StripeIdentityServer
from airflow_provider_stripe_identity.testing.api import EVENTS, SESSIONS

REPORTS = "/v1/identity/verification_reports"


@pytest.fixture
def server() -> StripeIdentityServer:
    """A server that is not started: its state is what counts here."""
    return StripeIdentityServer()


def events(
    server: StripeIdentityServer, session_id: str, *query: tuple[str, str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What happened to a session, oldest first, and how it was then."""
    for event in reversed(ask(server._api, EVENTS, ("limit", "100"), *query).body["data"]):
        if event["data"]["object"]["id"] == session_id:
            yield event["type"].removeprefix("identity.verification_session."), event["data"]["object"]


def story(server: StripeIdentityServer, session_id: str) -> list[str]:
    return [happened for happened, _ in events(server, session_id)]


def retrieve(server: StripeIdentityServer, session_id: str, *expand: str) -> dict[str, Any]:
    body: dict[str, Any] = ask(server._api, f"{SESSIONS}/{session_id}", *(("expand[]", path) for path in expand)).body
    return body


def test_try_again_and_succeed(server: StripeIdentityServer) -> None:
    session_id = server.create_session(client_reference_id="user_1")["id"]
    server.process(session_id)
    failed = server.require_input(session_id, code="selfie_face_mismatch")
    assert failed["last_error"]["code"] == "selfie_face_mismatch"
    assert failed["client_secret"]
    server.process(session_id)
    verified = server.verify(session_id)
    assert (verified["last_error"], verified["client_secret"], verified["url"]) == (None, None, None)
    assert verified["last_verification_report"] != failed["last_verification_report"]
    assert retrieve(server, session_id) == verified
    assert story(server, session_id) == ["created", "processing", "requires_input", "processing", "verified"]
    snapshots = dict(events(server, session_id))
    assert snapshots["created"]["status"] == "requires_input"
    assert snapshots["created"]["client_secret"]
    assert snapshots["requires_input"] == failed
    assert snapshots["verified"] == verified
    # The first report still tells of the first attempt.
    report = ask(server._api, f"{REPORTS}/{failed['last_verification_report']}").body
    assert (report["verification_session"], report["selfie"]["error"]) == (session_id, failed["last_error"])


def test_report_names_the_failed_check(server: StripeIdentityServer) -> None:
    session_id = server.create_session(options={"document": {"require_matching_selfie": True}})["id"]
    server.require_input(session_id, code="selfie_face_mismatch")
    report = retrieve(server, session_id, "last_verification_report")["last_verification_report"]
    assert report["selfie"]["error"]["code"] == "selfie_face_mismatch"
    assert (report["selfie"]["status"], report["document"]["status"]) == ("unverified", "verified")


def test_no_report_without_a_check(server: StripeIdentityServer) -> None:
    session_id = server.create_session()["id"]
    assert server.require_input(session_id, code="consent_declined")["last_verification_report"] is None


def test_canceled_is_final(server: StripeIdentityServer) -> None:
    session_id = server.create_session()["id"]
    canceled = server.cancel(session_id)
    assert (canceled["status"], canceled["client_secret"], canceled["url"]) == ("canceled", None, None)
    for step in (server.process, server.verify, server.require_input, server.cancel, server.redact):
        with pytest.raises(EmulatorError, match="is canceled"):
            step(session_id)
    assert story(server, session_id) == ["created", "canceled"]


def test_verified_sessions_cannot_be_canceled(server: StripeIdentityServer) -> None:
    session_id = server.create_session(status="verified")["id"]
    with pytest.raises(EmulatorError, match="is verified"):
        server.cancel(session_id)


PERSONAL = {"metadata": {"customer": "Jenny"}, "provided_details": {"email": "jenny@example.com"}}


@pytest.mark.parametrize("kind", ["added", "generated"])
def test_redaction_erases_the_person_everywhere(server: StripeIdentityServer, kind: str) -> None:
    if kind == "added":
        session_id = server.create_session(status="verified", **PERSONAL)["id"]
    else:
        now = int(time.time())
        server.populate(50, now - 3600, now)
        session_id = next(s["id"] for s in server.sessions(status="verified") if not s["redaction"])
        server.update_session(session_id, **PERSONAL)
    paths = ("verified_outputs", "last_verification_report")
    before = retrieve(server, session_id, *paths)
    server.redact(session_id, status="processing")
    assert retrieve(server, session_id, *paths) == before | {"redaction": {"status": "processing"}}
    server.redact(session_id)
    after = retrieve(server, session_id, *paths)
    assert (after["status"], after["redaction"], after["metadata"]) == ("verified", {"status": "redacted"}, {})
    assert after["provided_details"] == {"email": "[redacted]"}
    assert after["verified_outputs"]["last_name"] == "[redacted]"
    assert after["verified_outputs"]["dob"] == {"day": None, "month": None, "year": None}
    (check,) = (value for name, value in after["last_verification_report"].items() if name in ("document", "id_number"))
    assert check["last_name"] == "[redacted]"
    told = list(events(server, session_id))
    assert told[-1][0] == "redacted"
    for _, snapshot in told:
        assert (snapshot["metadata"], snapshot["client_secret"]) == ({}, None)
    with pytest.raises(EmulatorError, match="is redacted"):
        server.redact(session_id)


def test_redaction_cancels_what_waits_for_input(server: StripeIdentityServer) -> None:
    session_id = server.create_session()["id"]
    assert server.redact(session_id)["status"] == "canceled"
    assert story(server, session_id) == ["created", "canceled", "redacted"]


def test_update_brings_the_consequences_of_a_status(server: StripeIdentityServer) -> None:
    session_id = server.create_session()["id"]
    server.update_session(session_id, metadata={"a": "b"})
    assert story(server, session_id) == ["created"]
    verified = server.update_session(session_id, status="verified", last_verification_report="vr_mine")
    assert verified["client_secret"] is None
    assert story(server, session_id) == ["created", "verified"]
    assert ask(server._api, f"{REPORTS}/vr_mine").body["verification_session"] == session_id
    server.update_session(session_id, some_new_field=[1])
    assert retrieve(server, session_id)["some_new_field"] == [1]


@pytest.mark.parametrize("field", ["object", "created"])
def test_some_fields_never_change(server: StripeIdentityServer, field: str) -> None:
    session_id = server.create_session()["id"]
    with pytest.raises(ValueError, match=field):
        server.update_session(session_id, **{field: 1})
    with pytest.raises(ValueError, match="id"):
        server.create_session(id="vs_mine")
    assert [session["id"] for session in server.sessions()] == [session_id]


def test_verified_outputs_stay_out_of_events(server: StripeIdentityServer) -> None:
    outputs = {"first_name": "Jenny"}
    session_id = server.create_session(status="verified", verified_outputs=outputs)["id"]
    assert retrieve(server, session_id, "verified_outputs")["verified_outputs"] == outputs
    assert all("verified_outputs" not in snapshot for _, snapshot in events(server, session_id))


def test_generated_sessions_change_alone(server: StripeIdentityServer) -> None:
    server.populate(40, NOON, NOON + 3600)
    before = list(server.sessions())
    chosen = next(session for session in before if session["status"] == "requires_input")
    server.update_session(chosen["id"], client_reference_id="somebody_new")
    after = server.verify(chosen["id"])
    assert list(server.sessions()) == [after if s["id"] == chosen["id"] else s for s in before]
    assert [s["id"] for s in server.sessions(client_reference_id="somebody_new")] == [chosen["id"]]
    if chosen["client_reference_id"]:
        remaining = [s["id"] for s in server.sessions(client_reference_id=chosen["client_reference_id"])]
        assert chosen["id"] not in remaining


def test_results_are_copies(server: StripeIdentityServer) -> None:
    session = server.create_session(metadata={"a": "b"})
    session["metadata"]["a"] = "changed"
    assert retrieve(server, session["id"])["metadata"] == {"a": "b"}


def test_created_takes_datetimes_with_a_zone(server: StripeIdentityServer) -> None:
    session = server.create_session(created=datetime(2026, 9, 1, tzinfo=UTC))
    assert session["created"] == datetime(2026, 9, 1, tzinfo=UTC).timestamp()
    with pytest.raises(ValueError, match="time zone"):
        server.create_session(created=datetime(2026, 9, 1))
    assert list(server.sessions(created={"gt": session["created"]})) == []
    assert list(server.sessions(created=session["created"])) == [session]


def test_events_are_kept_thirty_days(server: StripeIdentityServer) -> None:
    now = int(time.time())
    server.create_session(created=now - 31 * 86400)
    young = server.create_session(created=now - 29 * 86400)
    server.populate(10, now - 32 * 86400, now - 31 * 86400)
    listed = ask(server._api, EVENTS).body["data"]
    assert [event["data"]["object"]["id"] for event in listed] == [young["id"]]
    gone = f"evt_1{server._api.store(None)._populations[0].item(0)['id'][4:]}0"
    assert ask(server._api, f"{EVENTS}/{gone}").status == 404
    assert ask(server._api, EVENTS, ("starting_after", gone)).body["error"]["code"] == "resource_missing"


def test_generated_events_agree_with_their_sessions(server: StripeIdentityServer) -> None:
    now = int(time.time())
    server.populate(30, now - 86400, now)
    for session in server.sessions():
        snapshots = dict(events(server, session["id"]))
        outcome = snapshots.get(session["status"])
        if session["redaction"] is None and outcome:
            assert outcome == session
        assert snapshots["created"]["status"] == "requires_input"
    for event in ask(server._api, EVENTS, ("limit", "100")).body["data"]:
        assert ask(server._api, f"{EVENTS}/{event['id']}").body == event
        assert event["created"] < now


def test_redaction_comes_after_the_outcome(server: StripeIdentityServer) -> None:
    now = int(time.time())
    server.populate(2000, now - 20 * 86400, now)
    session = next(s for s in server.sessions() if s["redaction"] == {"status": "processing"})
    period = ("created[gte]", str(session["created"])), ("created[lte]", str(session["created"] + 7200))
    snapshots = dict(events(server, session["id"], *period))
    assert snapshots[session["status"]] == session | {"redaction": None}
    assert "redacted" not in snapshots


def test_failed_from_the_start(server: StripeIdentityServer) -> None:
    failed = server.create_session(last_error={"code": "abandoned", "reason": "Gone."})
    assert [(happened, snapshot["last_error"]) for happened, snapshot in events(server, failed["id"])] == [
        ("created", None),
        ("requires_input", failed["last_error"]),
    ]


def test_unknown_sessions_and_accounts(server: StripeIdentityServer) -> None:
    with pytest.raises(EmulatorError, match="No such verification_session: 'vs_x'"):
        server.verify("vs_x")
    with pytest.raises(KeyError):
        server.sessions(account="acct_nobody")
    with pytest.raises(TypeError, match="limit"):
        server.sessions(limit=5)
    with pytest.raises(EmulatorError, match="must be one of"):
        server.sessions(status="done")


def test_sessions_of_connected_accounts_are_found_by_id(server: StripeIdentityServer) -> None:
    session_id = server.create_session(account="acct_shop")["id"]
    assert server.verify(session_id)["status"] == "verified"
    assert [session["id"] for session in server.sessions(account="acct_shop")] == [session_id]
    assert list(server.sessions()) == []


def test_threads_do_not_lose_sessions(server: StripeIdentityServer) -> None:
    def work(number: int) -> str:
        session_id: str = server.create_session(created=NOON + number % 7)["id"]
        server.verify(session_id)
        list(server.sessions())
        return session_id

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(work, range(200)))
    assert len(set(ids)) == 200
    assert {session["id"] for session in server.sessions(status="verified")} == set(ids)


def test_an_event_may_be_listed_late(server: StripeIdentityServer) -> None:
    now = int(time.time())
    late, other = server.create_session(created=now - 100), server.create_session(created=now - 50)
    server.verify(other["id"], event_created=now - 10)
    before = [event["id"] for event in ask(server._api, EVENTS).body["data"]]
    server.verify(late["id"], event_created=now - 40)
    after = ask(server._api, EVENTS).body["data"]
    assert [event["id"] for event in after if event["created"] != now - 40] == before
    assert after[1]["data"]["object"]["id"] == late["id"]
