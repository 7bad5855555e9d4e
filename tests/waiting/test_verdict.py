"""Whether a person is verified: every case of the one rule."""

from __future__ import annotations

import pytest

from airflow_provider_stripe_identity._waiting.verdict import evaluate

CREATED = 1_000


def session(status: str, number: int = 1, **more) -> dict:
    return {
        "id": f"vs_{number}",
        "status": status,
        "client_reference_id": "user",
        "created": CREATED + number,
        "livemode": False,
        "type": "document",
        "last_verification_report": None,
        **more,
    }


def sessions(*statuses: str) -> list[dict]:
    """Newest first, as Stripe lists them."""
    return [session(status, number) for number, status in zip(range(len(statuses), 0, -1), statuses, strict=True)]


WAIT, FAIL = "wait", "fail"

CASES = {
    "no session": ([], {}, WAIT),
    "requires_input": (sessions("requires_input"), {}, WAIT),
    "processing": (sessions("processing"), {}, WAIT),
    "verified": (sessions("verified"), {}, "vs_1"),
    "canceled": (sessions("canceled"), {}, FAIL),
    "mixed, one verified": (sessions("canceled", "requires_input", "verified", "processing"), {}, "vs_2"),
    "mixed, none verified": (sessions("canceled", "requires_input"), {}, WAIT),
    "canceled and processing": (sessions("processing", "canceled"), {}, WAIT),
    "all canceled": (sessions("canceled", "canceled"), {}, FAIL),
    "several verified, the newest counts": (sessions("verified", "verified"), {}, "vs_2"),
    "verified and later redacted": ([session("verified", redaction={"status": "redacted"})], {}, "vs_1"),
    "a status that does not exist today": (sessions("teleported"), {}, WAIT),
    "an unknown status among canceled ones": (sessions("canceled", "teleported"), {}, WAIT),
    "verified before created_gte": (sessions("verified"), {"created_gte": CREATED + 2}, WAIT),
    "verified at created_gte": (sessions("verified"), {"created_gte": CREATED + 1}, "vs_1"),
    "canceled before created_gte": (sessions("requires_input", "canceled"), {"created_gte": CREATED + 2}, WAIT),
    "only the old one is still open": (sessions("canceled", "requires_input"), {"created_gte": CREATED + 2}, FAIL),
    "no failure statuses": (sessions("canceled"), {"failure_statuses": ()}, WAIT),
    "no failure statuses, verified": (sessions("canceled", "verified"), {"failure_statuses": ()}, "vs_1"),
    "requires_input is a failure": (
        sessions("requires_input", "canceled"),
        {"failure_statuses": ("canceled", "requires_input")},
        FAIL,
    ),
}


@pytest.mark.parametrize(("listed", "arguments", "expected"), CASES.values(), ids=CASES)
def test_verdict(listed, arguments, expected):
    verdict = evaluate(listed, **arguments)
    assert verdict.failed is (expected == FAIL)
    assert (verdict.session["id"] if verdict.session else None) == (expected if expected not in (WAIT, FAIL) else None)


def test_it_says_what_it_saw():
    assert evaluate([]).reason == "there is no session yet"
    assert (
        evaluate(sessions("canceled", "canceled", "processing")).reason == "its sessions are: 2 canceled, 1 processing"
    )
    assert "does not know teleported" in evaluate(sessions("teleported")).reason
    assert evaluate(sessions("verified")).reason == "session vs_1 is verified"


def test_no_more_sessions_are_read_than_the_first_verified_one():
    def listed():
        yield session("verified")
        raise AssertionError("another page would be asked for")

    assert evaluate(listed()).session


def test_the_summary_holds_nothing_secret_or_personal():
    full = session(
        "verified",
        client_secret="secret",
        url="https://verify.stripe.com/x",
        provided_details={"email": "jenny@example.com"},
        verified_outputs={"first_name": "Jenny"},
        metadata={"name": "Jenny"},
        last_verification_report={"id": "vr_1", "document": {"first_name": "Jenny"}},
    )
    assert evaluate([full]).session == {
        "id": "vs_1",
        "status": "verified",
        "client_reference_id": "user",
        "created": CREATED + 1,
        "livemode": False,
        "type": "document",
        "last_verification_report": "vr_1",
    }
