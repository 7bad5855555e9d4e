"""Every answer is what Stripe's specification describes."""

from __future__ import annotations

import json
import re
import time
from functools import cache
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from support.emulator_api import ask
from support.paths import STRIPE_FIXTURES, STRIPE_SPECIFICATION

from airflow_provider_stripe_identity.testing.api import ACCOUNTS, EVENTS, REPORTS, SESSIONS, Api, Response
from airflow_provider_stripe_identity.testing.objects import EVENT_TYPES, REASONS, STATUSES

pytestmark = pytest.mark.skipif(not STRIPE_SPECIFICATION.exists(), reason="needs Stripe's specification")


def closed(schema: Any) -> Any:
    """OpenAPI 3.0 as JSON schema; objects must not have properties that the specification does not know."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    converted = {name: closed(value) for name, value in schema.items() if name != "nullable"}
    if isinstance(schema.get("properties"), dict):
        converted.setdefault("additionalProperties", False)
    return {"anyOf": [converted, {"type": "null"}]} if schema.get("nullable") is True else converted


@cache
def specification() -> dict[str, Any]:
    converted: dict[str, Any] = closed(json.loads(STRIPE_SPECIFICATION.read_text()))
    return converted


@cache
def validator(method: str, path: str) -> tuple[Draft202012Validator, Draft202012Validator]:
    """For a good and for any other answer of an endpoint."""
    paths = specification()["paths"]
    route = next(
        (route for route in paths if re.fullmatch(re.sub(r"{\w+}", "[^/]+", route), path) and method in paths[route]),
        SESSIONS,
    )
    good, other = (
        paths[route][method]["responses"][status]["content"]["application/json"]["schema"]
        for status in ("200", "default")
    )
    components = {"components": specification()["components"]}
    return Draft202012Validator(good | components), Draft202012Validator(other | components)


def check(api: Api, path: str, *query: tuple[str, str], method: str = "GET", **headers: str) -> Response:
    response = ask(api, path, *query, method=method, **headers)
    good, other = validator(method.lower(), path)
    (good if response.status == 200 else other).validate(response.body)
    return response


@pytest.fixture
def account(api: Api) -> Api:
    """Generated sessions, and one in every state that there is."""
    store = api.store(None)
    now = int(time.time())
    store.populate(400, now - 86400, now, seed=0)
    for session_type in ("document", "id_number", "verification_flow"):
        for status in STATUSES:
            store.create(status=status, type=session_type, related_person={"account": "acct_1", "person": "person_1"})
        for code in REASONS:
            store.transition(store.create(type=session_type)["id"], "requires_input", code=code)
        store.redact(store.create(type=session_type, status="verified", provided_details={"phone": "+1555"})["id"])
    return api


def walk(api: Api, path: str, *query: tuple[str, str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    page = check(api, path, *query, ("limit", "100")).body
    while True:
        found += page["data"]
        if not page["has_more"]:
            return found
        page = check(api, path, *query, ("limit", "100"), ("starting_after", found[-1]["id"])).body


def test_sessions_and_reports(account: Api) -> None:
    walk(account, SESSIONS)
    expand = ("expand[]", "data.verified_outputs"), ("expand[]", "data.last_verification_report")
    sessions = walk(account, SESSIONS, *expand)
    assert len(sessions) > 400
    assert {(s["last_error"] or {}).get("code") for s in sessions} == {None, *REASONS}
    assert any(session["verified_outputs"] for session in sessions)
    reports = [session["last_verification_report"] for session in sessions if session["last_verification_report"]]
    assert {"document", "selfie", "id_number", "email", "phone"} <= {name for report in reports for name in report}
    assert {report["id"] for report in reports} <= {report["id"] for report in walk(account, REPORTS)}
    for report in reports[::20]:
        assert check(account, f"{REPORTS}/{report['id']}").body == report
    for session in sessions[::20]:
        check(account, f"{SESSIONS}/{session['id']}", ("expand[]", "verified_outputs"))


def test_events_and_their_snapshots(account: Api) -> None:
    events = walk(account, EVENTS)
    assert {event["type"] for event in events} == set(EVENT_TYPES)
    session, _ = validator("get", f"{SESSIONS}/vs_x")
    for event in events:
        session.validate(event["data"]["object"])
    check(account, f"{EVENTS}/{events[0]['id']}")


def test_the_rest(account: Api) -> None:
    check(account, "/v1/account")
    session_id = check(account, SESSIONS, ("type", "document"), method="POST").body["id"]
    check(account, f"{SESSIONS}/{session_id}", ("metadata[plan]", "basic"), method="POST")
    check(account, f"{SESSIONS}/{session_id}/cancel", method="POST")
    other_id = check(account, SESSIONS, ("verification_flow", "vf_1"), method="POST").body["id"]
    check(account, f"{SESSIONS}/{other_id}/redact", method="POST")


def test_accounts(account: Api) -> None:
    """The specification has one account; the list is not part of it."""
    account.store("acct_1Shop")
    one, _ = validator("get", "/v1/account")
    (listed,) = ask(account, ACCOUNTS).body["data"]
    one.validate(listed)


def test_errors(account: Api) -> None:
    for status, path, query, headers in (
        (401, SESSIONS, [], {"Authorization": ""}),
        (401, SESSIONS, [], {"Authorization": "Bearer sk_test_other"}),
        (403, SESSIONS, [], {"Stripe_Account": "acct_nobody"}),
        (404, f"{SESSIONS}/vs_x", [], {}),
        (404, "/v1/nothing", [], {}),
        (400, SESSIONS, [("limit", "x")], {}),
        (400, EVENTS, [("page", "1")], {}),
    ):
        assert check(account, path, *query, **headers).status == status


def test_codes_are_all_that_stripe_knows() -> None:
    schemas = specification()["components"]["schemas"]
    code = schemas["gelato_session_last_error"]["properties"]["code"]["anyOf"][0]
    assert set(code["enum"]) == REASONS.keys()


def test_sessions_have_the_fields_of_the_sample(account: Api) -> None:
    sample = json.loads(STRIPE_FIXTURES.read_text())["identity.verification_session"]
    for session in walk(account, SESSIONS):
        assert sample.keys() <= session.keys()
