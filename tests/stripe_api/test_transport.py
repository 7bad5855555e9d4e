"""The transport: no proxy reads the key, and what it uses of requests, urllib3 and http.client is where it was."""

from __future__ import annotations

import itertools
import json
import socket
import ssl
import subprocess
import threading

import pytest
from support.hostile_server import HostileServer

from airflow_provider_stripe_identity._stripe_api import transport
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.pages import VERIFICATION_SESSIONS
from airflow_provider_stripe_identity.exceptions import StripeAPIConnectionError
from airflow_provider_stripe_identity.testing import StripeIdentityServer


class Tls(HostileServer):
    """The same, behind TLS."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__()
        self._context = context

    def _answer(self, connection: socket.socket) -> None:
        super()._answer(self._context.wrap_socket(connection, server_side=True))


@pytest.fixture
def tls(tmp_path, monkeypatch):
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-out", certificate, "-keyout", key], check=True, capture_output=True)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Tls(context) as server:
        server.url = server.url.replace("http://127.0.0.1", "https://localhost")
        yield server


@pytest.fixture
def proxy(monkeypatch):
    """A proxy for everything; without ``NO_PROXY``."""
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    with StripeIdentityServer(gateway=True) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        yield proxy


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
@pytest.mark.parametrize("has_key", [True, False], ids=["with a key", "without a key"])
def test_plain_http_goes_through_no_proxy(proxy, host, has_key):
    with StripeIdentityServer(gateway=not has_key) as server:
        url = server.url.replace("127.0.0.1", host)
        StripeIdentityClient(server.api_key if has_key else None, base_url=url).get(VERIFICATION_SESSIONS)
        assert len(server.requests) == 1
    assert len(proxy.requests) == 0


def test_https_goes_through_the_proxy_which_sees_no_key(proxy, monkeypatch):
    said = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listening.getsockname()[1]}")

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection:
                said.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        client = StripeIdentityClient("sk_test_marked", base_url="https://gw.example.com", max_retries=0)
        with pytest.raises(StripeAPIConnectionError):
            client.get(VERIFICATION_SESSIONS)
        thread.join()
    assert said[0].startswith(b"CONNECT gw.example.com:443 ")
    assert b"sk_test_marked" not in said[0]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_answers_of_a_connection_are_bounded(stripe_identity_server, tls, scheme):
    """Where this fails after an update, the names at the top of the module have moved."""
    tls.answer = lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"]
    url = tls.url if scheme == "https" else stripe_identity_server.url
    with transport.BoundedSession() as session, session.get(url, stream=True, timeout=9) as answer:
        response = answer.raw._original_response
        assert isinstance(response, transport._BoundedResponse)
        stream = response.fp.raw
        assert isinstance(stream, transport._BoundedStream)
        assert stream._timeout == 9
        assert response.headers.defects == []
        assert answer.content
        assert stream._bytes_left < transport.MAX_ANSWER_BYTES


def test_what_tls_has_decrypted_already_is_read(tls):
    """The socket shows nothing of it: a record of TLS holds more than one read."""
    page = {"object": "list", "data": [], "has_more": False, "padding": "x" * 300_000}
    body = json.dumps(page).encode()
    tls.answer = lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body]
    client = StripeIdentityClient("sk_test_x", base_url=tls.url, max_retries=0)
    assert client.get(VERIFICATION_SESSIONS, stop=threading.Event()) == page


@pytest.mark.parametrize("endless", [b"", b" "], ids=["silent", "dripping"])
def test_a_request_behind_tls_is_stopped(tls, endless):
    answering, stop = threading.Event(), threading.Event()

    def answer():
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
        answering.set()
        yield from itertools.repeat(endless)

    tls.answer, tls.pause = answer, 0.05
    client = StripeIdentityClient("sk_test_x", base_url=tls.url, max_retries=0, timeout=600)
    thread = threading.Thread(target=lambda: answering.wait() and stop.set())
    thread.start()
    with pytest.raises(StripeAPIConnectionError, match="stopped"):
        client.get(VERIFICATION_SESSIONS, stop=stop)
    thread.join()
