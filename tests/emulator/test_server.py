"""HTTP: connections, limits, faults, and what is recorded."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from support.emulator_api import NOON, StartServer

from airflow_provider_stripe_identity.testing import Fault, RecordedRequest, Response, StripeIdentityServer
from airflow_provider_stripe_identity.testing import server as server_module
from airflow_provider_stripe_identity.testing.api import EVENTS, SESSIONS

HEADERS = {"Authorization": "Bearer sk_test_emulator"}


@pytest.fixture
def http_session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.headers.update(HEADERS)
        session.trust_env = False
        yield session


def raw(server: StripeIdentityServer, **headers: str) -> bytes:
    """The body of a list request without any help."""
    connection = http.client.HTTPConnection(server.host, server.port)
    try:
        connection.request("GET", SESSIONS, headers=HEADERS | headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def test_bodies_are_pretty_printed_utf8(start: StartServer, http_session: requests.Session) -> None:
    server = start()
    session = server.create_session(metadata={"name": 'Zoë "Z" 日本'})
    for encoding in ("gzip", "identity"):
        answer = http_session.get(f"{server.url}{SESSIONS}/{session['id']}", headers={"Accept-Encoding": encoding})
        assert answer.headers.get("Content-Encoding", "identity") == encoding
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.content.decode() == json.dumps(session, indent=2, ensure_ascii=False)


def test_gzip_can_be_switched_off(start: StartServer, http_session: requests.Session) -> None:
    server = start()
    server.gzip = False
    answer = http_session.get(f"{server.url}{SESSIONS}", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers


def test_every_answer_has_an_id_of_its_own(start: StartServer, http_session: requests.Session) -> None:
    server = start()
    ids = {http_session.get(server.url + path).headers["Request-Id"] for path in (SESSIONS, SESSIONS, "/nowhere")}
    assert len(ids) == 3


def test_connections_are_kept(start: StartServer) -> None:
    server = start()
    connection = http.client.HTTPConnection(server.host, server.port)
    sockets = set()
    for _ in range(3):
        connection.request("GET", SESSIONS, headers=HEADERS)
        connection.getresponse().read()
        sockets.add(connection.sock)
    assert len(sockets) == 1
    assert None not in sockets
    connection.close()


def test_requests_are_recorded(start: StartServer, http_session: requests.Session) -> None:
    server = start(path_prefix="/stripe")
    before = time.monotonic()
    url = f"{server.url}{SESSIONS}?limit=3&expand[]=data.verified_outputs&expand[]=data.last_verification_report"
    http_session.get(url, headers={"Stripe-Account": "acct_nobody"})
    http_session.post(f"{server.url}{SESSIONS}", data={"type": "document"})
    get, post = server.requests
    assert (get.method, get.path, get.status) == ("GET", f"/stripe{SESSIONS}", 403)
    assert get.query == [
        ("limit", "3"),
        ("expand[]", "data.verified_outputs"),
        ("expand[]", "data.last_verification_report"),
    ]
    assert get.headers["stripe-account"] == "acct_nobody"
    assert before <= get.time <= post.time <= time.monotonic()
    assert (post.method, post.status) == ("POST", 200)


def test_stop_closes_connections_and_start_goes_on(start: StartServer, http_session: requests.Session) -> None:
    server = start()
    session_id = server.create_session()["id"]
    http_session.get(f"{server.url}{SESSIONS}")
    server.stop()
    with pytest.raises(requests.ConnectionError):
        http_session.get(f"{server.url}{SESSIONS}")
    server.start()
    assert http_session.get(f"{server.url}{SESSIONS}").json()["data"][0]["id"] == session_id


def test_airflow_connection(start: StartServer) -> None:
    server = start(path_prefix="/stripe")
    assert json.loads(server.airflow_connection()) == {
        "conn_type": "stripe_identity",
        "host": f"http://127.0.0.1:{server.port}/stripe",
        "password": "sk_test_emulator",
    }
    assert "password" not in json.loads(start(gateway=True).airflow_connection())


class TestLimits:
    def test_rate_over_any_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(server_module.time, "monotonic", lambda: now[0])
        limits = server_module._Limits()
        refused = {}
        for now[0] in (100.0, 100.5, 100.9, 100.99, 101.0, 101.1, 101.5, 101.6):
            refused[now[0]] = limits.enter("list", 3, None)
        assert [second for second, reason in refused.items() if reason == "endpoint-rate"] == [100.99, 101.1, 101.6]
        assert limits.enter("retrieve", 3, None) is None

    def test_concurrency(self) -> None:
        limits = server_module._Limits()
        assert limits.enter("list", None, 2) is None
        assert limits.enter("list", None, 2) is None
        assert limits.enter("list", None, 2) == "endpoint-concurrency"
        assert limits.enter("retrieve", None, 2) is None
        limits.leave("list")
        assert limits.enter("list", None, 2) is None

    @pytest.mark.parametrize(
        ("limit", "reason"), [("rate_limit", "endpoint-rate"), ("concurrency_limit", "endpoint-concurrency")]
    )
    def test_429(self, start: StartServer, http_session: requests.Session, limit: str, reason: str) -> None:
        server = start(**{limit: 0})
        answer = http_session.get(f"{server.url}{SESSIONS}")
        assert answer.status_code == 429
        assert answer.headers["Stripe-Rate-Limited-Reason"] == reason
        assert answer.json()["error"]["code"] == "rate_limit"
        setattr(server, limit, None)
        assert http_session.get(f"{server.url}{SESSIONS}").status_code == 200


class TestFaults:
    def test_one_request_each(self, start: StartServer, http_session: requests.Session) -> None:
        server = start()
        server.inject(
            Fault.status(503, headers={"Stripe-Should-Retry": "false"}),
            Fault.status(409, error={"type": "idempotency_error", "message": "again"}),
            Fault.rate_limited("global-rate", Retry_After="2"),
            Fault.rate_limited(None),
        )
        unavailable, conflict, limited, locked, good = (http_session.get(f"{server.url}{SESSIONS}") for _ in range(5))
        assert unavailable.status_code == 503
        assert unavailable.headers["Stripe-Should-Retry"] == "false"
        assert unavailable.headers["Content-Type"].startswith("text/html")
        assert (conflict.status_code, conflict.json()["error"]["message"]) == (409, "again")
        assert (limited.headers["Stripe-Rate-Limited-Reason"], limited.headers["Retry-After"]) == ("global-rate", "2")
        assert (locked.status_code, locked.json()["error"]["code"]) == (429, "lock_timeout")
        assert {"Stripe-Rate-Limited-Reason", "Request-Id"}.isdisjoint(locked.headers)
        assert good.status_code == 200
        assert [request.status for request in server.requests] == [503, 409, 429, 429, 200]

    def test_reset(self, start: StartServer) -> None:
        server = start()
        server.inject(Fault.reset())
        with pytest.raises(ConnectionResetError) as caught:
            raw(server)
        assert not isinstance(caught.value, http.client.RemoteDisconnected)  # which is an orderly end
        assert server.requests[-1].status is None
        assert json.loads(raw(server))["data"] == []

    @pytest.mark.parametrize("headers", [{}, {"Accept-Encoding": "gzip"}])
    def test_cut_short(self, start: StartServer, headers: dict[str, str]) -> None:
        server = start()
        whole = raw(server, **headers)
        server.inject(Fault.cut_short())
        with pytest.raises(http.client.IncompleteRead) as caught:
            raw(server, **headers)
        partial = caught.value.partial
        assert 0 < len(partial) < len(whole) == len(partial) + (caught.value.expected or 0)

    def test_bodies_of_another_kind(self, start: StartServer, http_session: requests.Session) -> None:
        server = start()
        server.inject(Fault.not_json(), Fault.not_a_list())
        html, other = (http_session.get(f"{server.url}{SESSIONS}") for _ in range(2))
        assert html.status_code == other.status_code == 200
        with pytest.raises(requests.JSONDecodeError):
            html.json()
        assert "data" not in other.json()

    def test_empty_page(self, start: StartServer, http_session: requests.Session) -> None:
        server = start()
        session_id = server.create_session()["id"]
        server.inject(Fault.empty_page(), Fault.empty_page())
        page = http_session.get(f"{server.url}{SESSIONS}").json()
        assert (page["data"], page["has_more"]) == ([], True)
        assert http_session.get(f"{server.url}{SESSIONS}/{session_id}").json()["id"] == session_id

    def test_stuck_cursor(self, start: StartServer, http_session: requests.Session) -> None:
        server = start()
        server.populate(30, NOON, NOON + 60)
        first = http_session.get(f"{server.url}{SESSIONS}").json()
        second = f"{server.url}{SESSIONS}?starting_after={first['data'][-1]['id']}"
        server.inject(Fault.stuck_cursor())
        assert http_session.get(second).json() == first
        assert http_session.get(second).json()["data"][0] not in first["data"]

    def test_redirect(self, start: StartServer, http_session: requests.Session) -> None:
        server, elsewhere = start(), start(gateway=True)
        server.inject(Fault.redirect(elsewhere.url + EVENTS))
        assert http_session.get(f"{server.url}{SESSIONS}").json()["url"] == EVENTS
        assert [request.path for request in elsewhere.requests] == [EVENTS]

    def test_delay(self, start: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
        server = start()
        waiting, wait = threading.Event(), server._wait
        monkeypatch.setattr(server, "_wait", lambda seconds: (waiting.set(), wait(seconds)))
        server.inject(Fault.delay(3600))
        connection = http.client.HTTPConnection(server.host, server.port)
        connection.request("GET", SESSIONS, headers=HEADERS)
        assert waiting.wait(30)
        connection.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        assert [request.status for request in server.requests] == [None]
        assert json.loads(raw(server))["data"] == []

    def test_drip(self, start: StartServer, http_session: requests.Session) -> None:
        server = start()
        server.populate(10, NOON, NOON + 60)
        whole = http_session.get(f"{server.url}{SESSIONS}").content
        server.inject(Fault.drip(0.01), Fault.drip(3600))
        assert http_session.get(f"{server.url}{SESSIONS}").content == whole
        connection = http.client.HTTPConnection(server.host, server.port)
        connection.request("GET", SESSIONS, headers=HEADERS)
        response = connection.getresponse()  # the head comes at once
        connection.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            response.read()
        connection.close()

    def test_every_nth(self, start: StartServer, http_session: requests.Session) -> None:
        server = start()

        def statuses(number: int) -> list[int]:
            return [http_session.get(f"{server.url}{SESSIONS}").status_code for _ in range(number)]

        faults = Fault.status(500), Fault.status(502)
        server.fault_every(3, *faults)
        assert statuses(7) == [200, 200, 500, 200, 200, 502, 200]
        server.fault_every(2, *faults, seed=1)
        random = statuses(30)
        assert set(random) == {200, 500, 502}
        server.fault_every(2, *faults, seed=1)
        assert statuses(30) == random
        server.inject(Fault.status(400))
        server.clear_faults()
        assert set(statuses(5)) == {200}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"])
def test_other_methods_get_stripes_json(start: StartServer, http_session: requests.Session, method: str) -> None:
    server = start()
    answer = http_session.request(method, f"{server.url}{SESSIONS}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")
    if method == "HEAD":
        assert answer.content == b""
    else:
        assert f"Unrecognized request URL ({method}: {SESSIONS})" in answer.json()["error"]["message"]
    assert http_session.get(f"{server.url}{SESSIONS}").status_code == 200  # over the same connection


def test_something_happens_before_and_after_an_answer(start: StartServer, http_session: requests.Session) -> None:
    server = start()
    session = server.create_session()

    def change(request: RecordedRequest, response: Response) -> Response | None:
        server.cancel(server.create_session()["id"])
        return Response(response.status, response.body | {"more": True}, response.headers) if request.query else None

    server.before_answer = lambda request: server.verify(session["id"])
    server.after_answer = change
    page = http_session.get(f"{server.url}{SESSIONS}").json()
    assert [listed["status"] for listed in page["data"]] == ["verified"]
    assert "more" not in page
    server.before_answer = None
    page = http_session.get(f"{server.url}{SESSIONS}?limit=2").json()
    assert [listed["status"] for listed in page["data"]] == ["canceled", "verified"]
    assert page["more"] is True
