"""The gateway: who may use it, what it asks of Stripe, and what of the answer it hands on."""

from __future__ import annotations

import json
import re
import socket
from inspect import signature

import pytest
import stripe
from explorer.conftest import SESSIONS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from urllib3.connection import HTTPConnection

from airflow_provider_stripe_identity._explorer import airflow_side, clients, gateway
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity.testing import Fault, RecordedRequest, StripeIdentityServer

SECRET = {"client_secret": "vs_marked_secret_marked", "url": "https://verify.stripe.com/start/marked"}
PERSONAL = {"verified_outputs": {"first_name": "Marked"}, "provided_details": {"email": "marked@example.com"}}
NINE = {
    "client_reference_id": 'it\'s "1" & ü',
    "created[gte]": "1767225600",
    "created[lt]": "1767312000",
    "expand[]": "data.verified_outputs",
    "limit": "7",
    "related_customer": "cus_1",
    "related_customer_account": "acct_1",
    "starting_after": "vs_1",
    "status": "verified",
}


@pytest.fixture
def stripe_server(stripe_identity_server: StripeIdentityServer) -> StripeIdentityServer:
    return stripe_identity_server


@pytest.fixture
def sessions(stored) -> str:
    return f"connections/{stored()}/{SESSIONS}"


# Who may


@pytest.mark.parametrize(("user", "status"), [(None, 401), ("vera", 403), ("uwe", 403), ("olga", 200), ("ada", 200)])
def test_those_who_may_test_a_connection(browse, sessions, stripe_server, user, status):
    assert browse(sessions, user=user).status_code == status
    assert len(stripe_server.requests) == (status == 200)


def test_who_may_not_does_not_learn_which_connections_exist(browse, sessions):
    existing, missing = browse(sessions, user="vera"), browse(f"connections/none/{SESSIONS}", user="vera")
    assert (
        (existing.status_code, existing.json())
        == (missing.status_code, missing.json())
        == (403, {"detail": "Forbidden"})
    )


def test_a_forged_token_is_refused(browse, sessions):
    assert browse(sessions, headers={"Authorization": "Bearer forged"}).status_code in (401, 403)


def test_a_team_has_its_connections_to_itself(browse, stored, stripe_server, monkeypatch, token):
    """Airflow's own dependency would take the team from the request's body, which the caller writes."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.models import Connection

    if "teams" not in signature(SimpleAuthManagerUser).parameters:
        pytest.skip("Airflow's users have teams since 3.2")
    monkeypatch.setenv("AIRFLOW__CORE__MULTI_TEAM", "True")
    stored("shared")
    stored("of_a")
    monkeypatch.setattr(Connection, "get_team_name", staticmethod({"shared": None, "of_a": "a"}.get))

    def status(connection: str, *teams: str) -> int:
        headers = {"Authorization": f"Bearer {token('olga', teams=list(teams))}"}
        body = {"team_name": teams[0]} if teams else None
        return browse(f"connections/{connection}/{SESSIONS}", headers=headers, json=body).status_code

    assert [status("of_a", "a"), status("of_a", "b"), status("of_a")] == [200, 403, 403]
    assert browse("connections", headers={"Authorization": f"Bearer {token('olga', teams=['b'])}"}).json() == {
        "connections": ["shared"]
    }


def test_the_connections_that_a_user_may_use_are_listed(browse, stored):
    stored("one")
    stored("two")
    stored("other", conn_type="http")
    assert browse("connections").json() == {"connections": ["one", "two"]}
    assert browse("connections", user="vera").json() == {"connections": []}
    assert browse("connections", user=None).status_code == 401


# What is asked of Stripe


def test_stripe_gets_the_nine_parameters_and_the_connections_headers(browse, stored, stripe_server):
    extra = json.dumps({"stripe_account": "acct_9", "api_version": "2026-07-29.dahlia", "max_retries": 5})
    browse(f"connections/{stored(extra=extra)}/{SESSIONS}", params=NINE, headers={"Stripe-Version": "2019-01-01"})
    (request,) = stripe_server.requests
    assert dict(request.query) == NINE
    assert request.headers["Authorization"] == f"Bearer {stripe_server.api_key}"
    assert (request.headers["Stripe-Account"], request.headers["Stripe-Version"]) == ("acct_9", "2026-07-29.dahlia")


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("customer=cus_1", "unknown parameter: customer"),
        ("created[after]=1", "unknown parameter: created[after]"),
        ("expand=data.verified_outputs", "unknown parameter: expand"),
        ("limit=0", "limit"),
        ("limit=ten", "limit"),
        ("limit=1&limit=2", "limit is given twice"),
        ("status=done", "status"),
        ("created[gte]=2&created[lt]=1", "created[gte] is after"),
        ("created=1&created[lt]=2", "created"),
        ("created[gte]=yesterday", "created[gte]"),
        ("starting_after=a&ending_before=b", "exclude each other"),
        ("expand[]=verified_outputs", "data.verified_outputs"),
        ("client_reference_id=", "client_reference_id"),
    ],
)
def test_what_stripe_does_not_document_is_refused_without_a_request(browse, sessions, stripe_server, query, named):
    answer = browse(f"{sessions}?{query}")
    assert answer.status_code == 400
    assert named in answer.json()["error"]["message"]
    assert not stripe_server.requests


@pytest.mark.parametrize(
    "path",
    [
        "..%2f..%2fcustomers",
        "..%2f..%2f..%2fv1%2fcustomers",
        "%2e%2e/%2e%2e/customers",
        "vs_1%2fcancel",
        "vs_1/redact",
        "vs_1%3fexpand%5b%5d=x",
        "vs_1%0d%0aHost:x",
    ],
)
def test_no_path_leads_elsewhere(browse, sessions, stripe_server, path):
    assert browse(f"{sessions}/{path}").status_code in (400, 404)
    assert not stripe_server.requests


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_but_get(browse, sessions, stripe_server, method):
    assert browse(sessions, method=method).status_code == 405
    assert not stripe_server.requests


@pytest.mark.parametrize("path", ["v1/account", "v1/customers", "v1/identity/verification_reports", "v1/events/evt_1"])
def test_only_these_paths(browse, stored, stripe_server, path):
    assert browse(f"connections/{stored()}/{path}").status_code == 404
    assert not stripe_server.requests


@pytest.mark.parametrize("header", ["Stripe-Account", "Stripe-Context"])
def test_an_account_that_the_connection_does_not_have_cannot_be_asked_for(browse, sessions, stripe_server, header):
    assert browse(sessions, headers={header: "acct_1"}).status_code == 400
    assert not stripe_server.requests


def test_connections_that_are_not_there_or_of_another_kind(browse, stored):
    stored("other", conn_type="http")
    for connection in ("none", "other"):
        answer = browse(f"connections/{connection}/{SESSIONS}")
        assert answer.status_code == 404
        assert connection in answer.json()["detail"]


def test_a_connection_of_a_secrets_backend_works(browse, monkeypatch, stripe_server):
    monkeypatch.setenv("AIRFLOW_CONN_FROM_ENV", stripe_server.airflow_connection())
    assert browse(f"connections/from_env/{SESSIONS}").status_code == 200


def test_a_connection_that_cannot_work_says_why(browse, stored):
    stored("wrong", extra='{"timeout": "soon"}')
    assert "timeout" in browse(f"connections/wrong/{SESSIONS}").json()["error"]["message"]


@pytest.mark.parametrize("field", ["password", "extra"])
def test_a_connection_that_cannot_be_decrypted_says_so(browse, stored, stripe_server, field):
    from airflow.models import Connection
    from airflow.utils.session import create_session
    from cryptography.fernet import Fernet

    stored("foreign", extra='{"timeout": 5}')
    sealed = Fernet(Fernet.generate_key()).encrypt(b"sealed").decode()
    encrypted = {"password": "is_encrypted", "extra": "is_extra_encrypted"}[field]
    with create_session() as session:
        table = Connection.__table__
        values = {field: sealed, encrypted: True}
        session.execute(table.update().where(table.c.conn_id == "foreign").values(values))
    answer = browse(f"connections/foreign/{SESSIONS}")
    assert answer.status_code == 500
    assert "cannot be decrypted" in answer.json()["error"]["message"]
    assert "fernet_key" in answer.json()["error"]["hint"]
    assert not stripe_server.requests


def test_a_secrets_backend_that_fails_is_no_missing_connection(browse, sessions, monkeypatch, stripe_server):
    from airflow.models import Connection

    def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError("vault: token of ann@example.com has expired")

    monkeypatch.setattr(Connection, "get_connection_from_secrets", denied)
    answer = browse(sessions)
    assert answer.status_code == 500
    assert "cannot be looked up: PermissionError" in answer.json()["error"]["message"]
    assert "ann@" not in answer.text
    assert not stripe_server.requests


# One client for each connection


@pytest.fixture
def opened(monkeypatch) -> list[HTTPConnection]:
    """The connections that were opened to Stripe."""
    connections: list[HTTPConnection] = []
    connect = HTTPConnection.connect

    def connected(connection: HTTPConnection) -> None:
        connections.append(connection)
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", connected)
    return connections


def test_calls_reuse_the_connection_to_stripe_until_it_changes(browse, sessions, stripe_server, opened):
    from airflow.models import Connection
    from airflow.utils.session import create_session

    for _ in range(gateway.MAX_AT_ONCE + 5):
        assert browse(sessions).status_code == 200
    before = len(opened)
    assert before <= gateway.MAX_AT_ONCE  # one for each thread
    stripe_server.api_keys["sk_test_new"] = stripe_server.api_keys[stripe_server.api_key]
    with create_session() as session:
        session.query(Connection).filter_by(conn_id="stripe").one().password = "sk_test_new"
    assert browse(sessions).status_code == 200
    assert stripe_server.requests[-1].headers["Authorization"] == "Bearer sk_test_new"
    assert len(opened) == before + 1


def test_a_connection_to_stripe_that_was_idle_is_not_trusted(browse, sessions, opened, monkeypatch):
    monkeypatch.setattr(clients, "MAX_IDLE", 0.0)
    for _ in range(3):
        assert browse(sessions).status_code == 200
    assert len(opened) == 3


def test_no_more_clients_are_kept_than_a_few(monkeypatch):
    from airflow.models import Connection

    def client(name: str) -> StripeIdentityClient:
        return kept.of(Connection(conn_id=name, conn_type="stripe_identity", password="sk_test_1"))

    closed = []
    monkeypatch.setattr(clients, "MAX_CLIENTS", 2)
    monkeypatch.setattr(StripeIdentityClient, "close", lambda client: closed.append(client))
    kept = clients.Clients({})
    one, two = client("one"), client("two")
    assert client("one") is one
    client("three")
    assert closed == [two]
    assert client("one") is one


def test_the_limit_of_the_connection_holds_for_all_calls(browse, stored, stripe_server):
    stored("slow", extra='{"max_requests_per_second": 0.01}')
    assert browse(f"connections/slow/{SESSIONS}").status_code == 200
    busy = browse(f"connections/slow/{SESSIONS}")
    assert (busy.status_code, len(stripe_server.requests)) == (503, 1)
    assert 90 < int(busy.headers["Retry-After"]) <= 100
    assert "requests per second" in busy.json()["error"]["message"]


# What is handed on


def test_credentials_never_and_personal_data_only_by_name(browse, sessions, stripe_server):
    session_id = stripe_server.create_session(status="verified", **SECRET, **PERSONAL)["id"]

    def shown(*expand: str) -> list[str]:
        one = browse(f"{sessions}/{session_id}", params={"expand[]": [path.removeprefix("data.") for path in expand]})
        listed = browse(sessions, params={"expand[]": list(expand)})
        assert (one.status_code, listed.status_code) == (200, 200)
        return [one.text, listed.text]

    def personal(text: str) -> set[str]:
        answer = json.loads(text)
        (session,) = answer.get("data", [answer])
        reports = {"last_verification_report"} if isinstance(session["last_verification_report"], dict) else set()
        return session.keys() & PERSONAL.keys() | reports

    for text in shown():
        assert personal(text) == set()
        assert not any(mark in text for mark in ("Marked", "marked@"))
    for name in ("verified_outputs", "provided_details", "last_verification_report"):
        for text in shown(f"data.{name}"):
            assert personal(text) == {name}
            assert not any(secret in text for secret in (*SECRET.values(), "client_secret"))


def test_events_hold_no_credentials_and_nothing_personal(browse, stored, stripe_server):
    session_id = stripe_server.create_session(**SECRET, **PERSONAL)["id"]
    stripe_server.verify(session_id)
    answer = browse(f"connections/{stored()}/v1/events")
    assert {event["type"].split(".")[-1] for event in answer.json()["data"]} >= {"created", "verified"}
    assert session_id in answer.text
    assert not any(mark in answer.text for mark in ("arked", "client_secret", "verify.stripe.com"))
    other = browse("connections/stripe/v1/events?type=customer.created")
    assert other.status_code == 400
    assert "customer" in other.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fault", "status", "said"),
    [
        (
            Fault.status(401, error={"type": "x", "message": "Invalid API Key provided: sk_test_****abcd"}),
            401,
            "Invalid",
        ),
        (Fault.status(403, error={"code": "more_permissions_required"}), 403, "Identity -> Verification Sessions"),
        (Fault.status(400, error={"param": "status", "message": "Wrong for ann@example.com"}), 400, "Wrong for ***"),
        (Fault.rate_limited(Retry_After="7"), 429, "rate limit"),
        (Fault.status(503), 503, "status.stripe.com"),
        (Fault.redirect("https://example.com/elsewhere"), 502, "Redirects"),
        (Fault.not_json(), 502, "not a JSON object"),
        (Fault.not_a_list(), 502, "not a list"),
        (Fault.reset(), 502, "ConnectionReset"),
    ],
)
def test_errors_are_stripes_and_each_is_one_request(browse, sessions, stripe_server, fault, status, said):
    stripe_server.inject(fault)
    answer = browse(sessions)
    assert answer.status_code == status
    assert said in answer.text
    assert "abcd" not in answer.text
    assert len(stripe_server.requests) == 1
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)


@pytest.mark.parametrize(
    ("path", "dropped"),
    [
        (f"{SESSIONS}?limit=2", "limit"),
        (f"{SESSIONS}?client_reference_id=somebody", "client_reference_id"),
        (f"{SESSIONS}?created[lt]=1000", "created[lt]"),
        (f"{SESSIONS}?status=canceled", "status"),
        ("v1/events?type=identity.verification_session.canceled", "types[]"),
    ],
)
def test_a_stripe_that_drops_a_part_of_the_query_is_not_believed(browse, stored, stripe_server, path, dropped):
    for _ in range(20):
        stripe_server.create_session()
    connection = stored()
    assert browse(f"connections/{connection}/{path}").status_code == 200

    def drop(recorded: RecordedRequest) -> None:
        recorded.query[:] = [pair for pair in recorded.query if pair[0] != dropped]

    stripe_server.before_answer = drop
    answer = browse(f"connections/{connection}/{path}")
    assert answer.status_code == 502
    assert re.search("than asked for|outside the window", answer.json()["error"]["message"])


def test_an_answer_is_not_cached_and_names_its_request(browse, sessions):
    answer = browse(sessions)
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_host_on_this_machine_shows_no_more_than_a_connection_test(browse, stored):
    """Whoever may create connections can lead one anywhere; of an answer that is not Stripe's nothing is shown."""
    with StripeIdentityServer(gateway=True) as inner:
        stored("inner", host=inner.url, password=None)
        inner.inject(Fault.status(200, body="internal secret"), Fault.status(500, body={"internal": "secret"}))
        for _ in range(2):
            answer = browse(f"connections/inner/{SESSIONS}")
            assert answer.status_code in (500, 502)
            assert "secret" not in answer.text
        assert {request.path for request in inner.requests} == {f"/{SESSIONS}"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.just("KEY")
    | st.just("SECRET")
    | st.just("LINK"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "client_secret", "url", "URL", "metadata", "KEY"]) | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(odd=st.dictionaries(st.sampled_from(["metadata", "options", "last_error", "redaction", "x"]), JSON), error=JSON)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_holds_the_key_or_a_credential(browse, stripe_server, monkeypatch, odd, error):
    monkeypatch.setenv("AIRFLOW_CONN_FUZZED", stripe_server.airflow_connection())
    session = stripe_server.create_session()
    marks = {"KEY": stripe_server.api_key, "SECRET": SECRET["client_secret"], "LINK": SECRET["url"]}

    def marked(value: object) -> str:
        text = json.dumps(value)
        for name, mark in marks.items():
            text = text.replace(name, mark)
        return text

    page = {"object": "list", "has_more": False, "url": "LINK", "data": [{**session, "url": "LINK", **odd}]}
    body, failed = json.loads(marked(page)), json.loads(marked({"error": error}))
    stripe_server.inject(Fault.status(200, body=body), Fault.status(402, body=failed))
    for _ in range(2):
        answer = browse(f"connections/fuzzed/{SESSIONS}")
        assert answer.status_code in (200, 402, 502)
        for mark in marks.values():
            assert mark not in answer.text
        assert "client_secret" not in answer.text


# The audit log


def test_every_call_is_in_the_audit_log_without_values(browse, sessions, audit_log):
    browse(sessions, params={"client_reference_id": "user_123", "limit": 5})
    browse(sessions, params={"expand[]": ["data.verified_outputs", "data.provided_details"]}, user="ada")
    path = f"/{SESSIONS}"
    assert audit_log() == [
        (
            "stripe_identity_read",
            "olga",
            {"connection_id": "stripe", "path": path, "parameters": ["client_reference_id", "limit"]},
        ),
        (
            "stripe_identity_read_personal",
            "ada",
            {
                "connection_id": "stripe",
                "path": path,
                "parameters": ["expand"],
                "fields": ["provided_details", "verified_outputs"],
            },
        ),
    ]


def test_calls_that_are_refused_are_in_the_audit_log(browse, sessions, stored, audit_log, stripe_server, monkeypatch):
    stored("other", conn_type="http")
    monkeypatch.setattr(gateway, "MAX_AT_ONCE", 0)
    busy = [browse(sessions) for _ in range(3)][-1]  # one entry, or a loop would fill the log
    monkeypatch.undo()
    answers = [
        browse(sessions, user="vera"),
        browse(f"connections/{'none' * 100}/{SESSIONS}/vs_1", user="vera"),
        browse("connections/stripe/snippets?base_url=https://airflow.example.com", user="vera"),
        browse(f"connections/other/{SESSIONS}"),
        busy,
        browse(f"{sessions}?client_reference_id=user_123&customer=cus_1"),
        browse(sessions, headers={"Stripe-Account": "acct_1"}),
    ]
    assert [answer.status_code for answer in answers] == [403, 403, 403, 404, 503, 400, 400]
    assert busy.headers["Retry-After"]
    path = f"/{SESSIONS}"
    expected = [
        ("olga", "stripe", path, 503),
        ("vera", "stripe", path, 403),
        ("vera", ("none" * 100)[:250], f"{path}/vs_1", 403),
        ("vera", "stripe", "/snippets", 403),
        ("olga", "other", path, 404),
        ("olga", "stripe", path, 400),
        ("olga", "stripe", path, 400),
    ]
    assert audit_log() == [
        ("stripe_identity_refused", user, {"connection_id": connection_id, "path": path, "status": status})
        for user, connection_id, path, status in expected
    ]
    assert not stripe_server.requests


def test_a_refusal_stands_where_it_cannot_be_recorded(browse, sessions, monkeypatch):
    def gone(*args: object, **kwargs: object) -> None:
        raise OSError("the database is gone")

    monkeypatch.setattr(airflow_side, "record_refusal", gone)
    assert browse(sessions, user="vera").status_code == 403


def test_what_cannot_be_recorded_is_not_read(browse, sessions, stripe_server, monkeypatch):
    def gone(*args: object, **kwargs: object) -> None:
        raise OSError("the database is gone")

    monkeypatch.setattr(airflow_side, "record", gone)
    with pytest.raises(OSError, match="gone"):
        browse(sessions)
    assert not stripe_server.requests


# Stripe's own package


@pytest.fixture
def served(airflow_app, token):
    """The application on a port; returns its address."""
    import threading

    import uvicorn

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(airflow_app, port=port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def test_the_official_package_lists_pages_and_retrieves(served, stored, stripe_server, token):
    made = [stripe_server.create_session(created=1_767_225_600 + n, **SECRET)["id"] for n in range(25)]
    client = stripe.StripeClient(
        token("olga"), base_addresses={"api": f"{served}/stripe-identity/connections/{stored()}"}
    )
    sessions = client.v1.identity.verification_sessions
    page = sessions.list({"limit": 10})
    assert [session.id for session in page.auto_paging_iter()] == made[::-1]
    assert sessions.retrieve(made[0]).id == made[0]
    with pytest.raises(stripe.InvalidRequestError, match="limit"):
        sessions.list({"limit": 500})


def test_this_packages_hook_reads_through_it(served, stored, stripe_server, token, make_connection):
    made = [stripe_server.create_session(created=1_767_225_600 + n)["id"] for n in range(25)]
    host = f"{served}/stripe-identity/connections/{stored()}"
    hook = make_connection(json.dumps({"conn_type": "stripe_identity", "host": host, "password": token("olga")}))
    assert [session["id"] for session in hook.list_verification_sessions(page_size=10)] == made[::-1]
    assert hook.test_connection()[0]
