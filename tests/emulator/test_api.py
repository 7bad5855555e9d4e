"""Parameters, keys, accounts and errors of the endpoints."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from support.emulator_api import NOON, ask, error, new_api

from airflow_provider_stripe_identity.testing.api import EVENTS, OWN_ACCOUNT, REPORTS, SESSIONS, Api


@pytest.mark.parametrize(
    ("query", "code", "param", "message"),
    [
        ([("limit", "ten")], "parameter_invalid_integer", "limit", "Invalid integer: ten"),
        ([("limit", "1.5")], "parameter_invalid_integer", "limit", "Invalid integer: 1.5"),
        ([("created[gte]", "now")], "parameter_invalid_integer", "created[gte]", "Invalid integer: now"),
        ([("created", "1_000")], "parameter_invalid_integer", "created", "Invalid integer: 1_000"),
        (
            [("created[after]", "1")],
            "parameter_unknown",
            "created[after]",
            "Received unknown parameter: created[after]",
        ),
        ([("page", "2")], "parameter_unknown", "page", "Received unknown parameter: page"),
        ([("client_reference_id", "")], "parameter_invalid_empty", "client_reference_id", "empty string"),
        ([("starting_after", "")], "parameter_invalid_empty", "starting_after", "empty string"),
        ([("status", "done")], None, "status", "canceled, processing, requires_input, or verified"),
        ([("status[]", "verified")], None, "status", "Invalid"),
        ([("starting_after", "vs_x")], "resource_missing", "starting_after", "No such verification_session: 'vs_x'"),
        ([("ending_before", "vs_x")], "resource_missing", "ending_before", "No such verification_session: 'vs_x'"),
        ([("starting_after", "vs_x"), ("ending_before", "vs_y")], None, None, "both"),
        ([("expand[]", "data.metadata")], None, "expand", "cannot be expanded (data.metadata)"),
        ([("expand[]", "verified_outputs")], None, "expand", "cannot be expanded"),
        ([("expand[]", "data.verified_outputs.a.b.c")], None, "expand", "more than 4 levels"),
        ([("created", "1"), ("created[gte]", "1")], None, "created", "Invalid"),
    ],
)
def test_bad_parameters(
    api: Api, query: list[tuple[str, str]], code: str | None, param: str | None, message: str
) -> None:
    status, found = error(api, SESSIONS, *query)
    assert (status, found["type"]) == (400, "invalid_request_error")
    assert (found.get("code"), found.get("param")) == (code, param)
    assert message in found["message"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{SESSIONS}/vs_x", "verification_session"),
        (f"{REPORTS}/vr_x", "verification_report"),
        (f"{EVENTS}/x", "event"),
    ],
)
def test_unknown_ids(api: Api, path: str, kind: str) -> None:
    api.store(None).populate(5, NOON, NOON + 5, seed=0)
    status, found = error(api, path)
    assert (status, found["code"], found["param"]) == (404, "resource_missing", "id")
    assert found["message"].startswith(f"No such {kind}: ")


@pytest.mark.parametrize("path", ["/", "/v1", f"{SESSIONS}/", f"{SESSIONS}/a/b", f"/x{SESSIONS}", "/v1/customers"])
def test_unknown_routes(api: Api, path: str) -> None:
    status, found = error(api, path)
    assert status == 404
    assert found["message"].startswith(f"Unrecognized request URL (GET: {path}).")


def test_path_prefix_is_required() -> None:
    api = new_api(path_prefix="/stripe")
    assert error(api)[0] == 404
    assert ask(api, f"/stripe{SESSIONS}").body["data"] == []


class TestKeys:
    def test_absent(self, api: Api) -> None:
        for authorization in ("", "Bearer ", "Digest x", "Basic ?", "Basic " + base64.b64encode(b"\xff").decode()):
            status, found = error(api, Authorization=authorization)
            assert status == 401
            assert found["message"].startswith("You did not provide an API key.")

    def test_wrong_ones_are_masked(self, api: Api) -> None:
        status, found = error(api, Authorization="Bearer sk_test_wrongwrong1234")
        assert status == 401
        assert found["message"] == "Invalid API Key provided: sk_test_**********1234"
        assert error(api, Authorization="Bearer secret")[1]["message"] == "Invalid API Key provided: ******"

    def test_basic(self, api: Api) -> None:
        credentials = base64.b64encode(b"sk_test_emulator:").decode()
        assert ask(api, Authorization=f"Basic {credentials}").status == 200

    def test_gateway_needs_none_and_takes_any(self) -> None:
        api = new_api(gateway=True)
        assert ask(api, Authorization="").status == 200
        assert ask(api, Authorization="Bearer anything").status == 200

    @pytest.mark.parametrize(
        ("permissions", "allowed"),
        [
            ({"verification_sessions"}, [SESSIONS]),
            ({"events"}, [EVENTS]),
            ({"account"}, ["/v1/account"]),
            (set(), []),
        ],
    )
    def test_restricted(self, api: Api, permissions: set[str], allowed: list[str]) -> None:
        api.api_keys["rk_test_restricted"] = permissions
        for path in (SESSIONS, EVENTS, "/v1/account"):
            response = ask(api, path, Authorization="Bearer rk_test_restricted")
            if path in allowed:
                assert response.status == 200
            else:
                assert response.status == 403
                assert response.body["error"]["code"] == "more_permissions_required"
                assert "rk_test_restricted" not in response.body["error"]["message"]

    def test_organization(self, api: Api) -> None:
        api.api_keys["sk_org_test_1"] = {"verification_sessions"}
        session_id = api.store("acct_shop").create()["id"]
        headers = {"Authorization": "Bearer sk_org_test_1", "Stripe_Version": "2026-07-29.dahlia"}
        assert error(api, **headers)[0] == 400
        assert error(api, Authorization=headers["Authorization"], Stripe_Context="acct_shop")[0] == 400
        page = ask(api, **headers, Stripe_Context="acct_parent/acct_shop").body
        assert [session["id"] for session in page["data"]] == [session_id]


def test_connected_accounts_have_their_own_objects(api: Api) -> None:
    ids = {account: api.store(account).create()["id"] for account in (OWN_ACCOUNT, "acct_shop")}
    assert [s["id"] for s in ask(api).body["data"]] == [ids[OWN_ACCOUNT]]
    assert [s["id"] for s in ask(api, Stripe_Account="acct_shop").body["data"]] == [ids["acct_shop"]]
    assert error(api, f"{SESSIONS}/{ids['acct_shop']}")[0] == 404
    assert ask(api, EVENTS, Stripe_Account="acct_shop").body["data"][0]["data"]["object"]["id"] == ids["acct_shop"]
    assert ask(api, "/v1/account", Stripe_Account="acct_shop").body["id"] == "acct_shop"
    status, found = error(api, Stripe_Account="acct_nobody")
    assert (status, found["code"]) == (403, "account_invalid")


def test_version_is_echoed(api: Api) -> None:
    assert ask(api).headers["Stripe-Version"] == "2026-07-29.dahlia"
    assert ask(api, Stripe_Version="2026-10-28.endive").headers["Stripe-Version"] == "2026-10-28.endive"


class TestExpand:
    def test_unexpanded(self, api: Api) -> None:
        session_id = api.store(None).create(status="verified")["id"]
        for session in (ask(api).body["data"][0], ask(api, f"{SESSIONS}/{session_id}").body):
            assert "verified_outputs" not in session
            assert session["last_verification_report"].startswith("vr_1")

    @pytest.mark.parametrize("style", ["expand[]", "expand[0]"])
    def test_verified_outputs(self, api: Api, style: str) -> None:
        store = api.store(None)
        store.create()
        verified = store.create(status="verified")
        named = store.create(status="verified", verified_outputs={"first_name": "Jenny"})
        listed = {
            s["id"]: s["verified_outputs"] for s in ask(api, SESSIONS, (style, "data.verified_outputs")).body["data"]
        }
        assert listed.pop(named["id"]) == {"first_name": "Jenny"}
        outputs = listed.pop(verified["id"])
        assert outputs["first_name"]
        assert outputs["dob"]["year"]
        assert list(listed.values()) == [None]
        path = f"{SESSIONS}/{verified['id']}"
        assert ask(api, path, (style, "verified_outputs")).body["verified_outputs"] == outputs
        assert ask(api, path, (style, "verified_outputs.dob")).body["verified_outputs"] == outputs
        assert error(api, path, (style, "data.verified_outputs"))[0] == 400

    def test_report(self, api: Api) -> None:
        session = api.store(None).create(status="verified", client_reference_id="user_1")
        query = [("expand[0]", "data.last_verification_report"), ("expand[1]", "data.verified_outputs")]
        expanded = ask(api, SESSIONS, *query).body["data"][0]
        report = expanded["last_verification_report"]
        assert ask(api, f"{REPORTS}/{session['last_verification_report']}").body == report
        assert (report["verification_session"], report["client_reference_id"]) == (session["id"], "user_1")
        assert report["document"]["status"] == "verified"
        assert report["document"]["last_name"] == expanded["verified_outputs"]["last_name"]

    def test_every_generated_report_is_there(self, api: Api) -> None:
        api.store(None).populate(100, NOON, NOON + 86400, seed=0)
        page = ask(api, SESSIONS, ("limit", "100"), ("expand[]", "data.last_verification_report")).body
        for session in page["data"]:
            report = session["last_verification_report"]
            if report is not None:
                assert report["verification_session"] == session["id"]
                failed = [c for c in report.values() if isinstance(c, dict) and c.get("status") == "unverified"]
                expected = [] if session["status"] == "verified" else [session["last_error"]]
                assert [check["error"] for check in failed] == expected


class TestEvents:
    def test_types(self, api: Api) -> None:
        api.store(None).create(status="verified")
        names = [f"identity.verification_session.{name}" for name in ("created", "verified")]
        for query, expected in (
            ([], names[::-1]),
            ([("type", names[0])], names[:1]),
            ([("types[]", names[0]), ("types[]", names[1])], names[::-1]),
            ([("types[0]", names[1])], names[1:]),
            ([("type", "charge.succeeded")], []),
        ):
            assert [event["type"] for event in ask(api, EVENTS, *query).body["data"]] == expected

    def test_too_many_types(self, api: Api) -> None:
        types = [("types[]", f"type_{i}") for i in range(21)]
        assert error(api, EVENTS, *types)[0] == 400
        assert ask(api, EVENTS, *types[:20]).status == 200
        assert error(api, EVENTS, ("type", "a"), ("types[]", "b"))[0] == 400

    def test_retrieve(self, api: Api) -> None:
        api.store(None).create()
        event = ask(api, EVENTS).body["data"][0]
        assert ask(api, f"{EVENTS}/{event['id']}").body == event


class TestPost:
    def test_create(self, api: Api) -> None:
        form: list[tuple[str, str]] = [
            ("type", "document"),
            ("client_reference_id", "user_1"),
            ("metadata[7]", "é"),
            ("options[document][require_matching_selfie]", "true"),
            ("options[document][allowed_types][]", "passport"),
            ("options[document][allowed_types][]", "id_card"),
            ("provided_details[email]", "person@example.com"),
            ("return_url", "https://example.com"),
        ]
        created: dict[str, Any] = ask(api, SESSIONS, *form, method="POST").body
        assert created["status"] == "requires_input"
        assert created["metadata"] == {"7": "é"}
        document = {"require_matching_selfie": True, "allowed_types": ["passport", "id_card"]}
        assert created["options"] == {"document": document}
        assert created["provided_details"] == {"email": "person@example.com"}
        assert "return_url" not in created
        assert ask(api, SESSIONS, ("client_reference_id", "user_1")).body["data"] == [created]

    def test_create_from_a_flow(self, api: Api) -> None:
        created = ask(api, SESSIONS, ("verification_flow", "vf_1"), method="POST").body
        assert (created["type"], created["verification_flow"]) == ("verification_flow", "vf_1")

    @pytest.mark.parametrize(
        ("form", "param"),
        [
            ([], "type"),
            ([("type", "selfie")], "type"),
            ([("type", "document"), ("metadata", "x")], "metadata"),
            ([("type", "document"), ("client_reference_id[]", "x")], "client_reference_id"),
            ([("type", "document"), ("status", "verified")], "status"),
        ],
    )
    def test_bad_create(self, api: Api, form: list[tuple[str, str]], param: str) -> None:
        status, found = error(api, SESSIONS, *form, method="POST")
        assert (status, found["param"]) == (400, param)
        assert ask(api).body["data"] == []

    def test_cancel_and_redact(self, api: Api) -> None:
        session_id = api.store(None).create()["id"]
        assert ask(api, f"{SESSIONS}/{session_id}/cancel", method="POST").body["status"] == "canceled"
        assert error(api, f"{SESSIONS}/{session_id}/cancel", method="POST")[0] == 400
        verified = api.store(None).create(status="verified")["id"]
        redacting = ask(api, f"{SESSIONS}/{verified}/redact", method="POST").body
        assert (redacting["status"], redacting["redaction"]) == ("verified", {"status": "processing"})
        assert error(api, f"{SESSIONS}/vs_x/redact", method="POST")[0] == 404
