"""The page on which a developer is the person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
from support.emulator_api import StartServer

from airflow_provider_stripe_identity.testing import StripeIdentityServer


@pytest.fixture
def server(start: StartServer) -> StripeIdentityServer:
    return start(path_prefix="/stripe")


@pytest.fixture
def browser() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


def states(server: StripeIdentityServer) -> list[Any]:
    (session,) = server.sessions()
    return [session["status"], (session["last_error"] or {}).get("code")]


def test_the_url_of_a_session_is_a_page_of_the_emulator(
    server: StripeIdentityServer, browser: requests.Session
) -> None:
    session = server.create_session(client_reference_id="<b>user</b>")
    assert session["url"].startswith(f"{server.url}/start/")
    page = browser.get(session["url"])
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "&lt;b&gt;user&lt;/b&gt;" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "://" not in page.text


def test_a_person_fails_gives_up_and_is_verified(server: StripeIdentityServer, browser: requests.Session) -> None:
    url = server.create_session()["url"]
    assert "try again" in browser.post(url, {"outcome": "failed", "code": "document_expired"}).text
    assert states(server) == ["requires_input", "document_expired"]
    assert "document has expired" in browser.get(url).text
    browser.post(url, {"outcome": "abandoned"})
    assert states(server) == ["requires_input", "abandoned"]
    assert "Thank you" in browser.post(url, {"outcome": "verified"}).text
    assert states(server) == ["verified", None]
    for answer in (browser.get(url), browser.post(url, {"outcome": "failed", "code": "document_expired"})):
        assert "not valid any more" in answer.text
    assert states(server) == ["verified", None]


def test_generated_sessions_and_those_of_connected_accounts_have_pages(
    server: StripeIdentityServer, browser: requests.Session
) -> None:
    server.populate(50, 1_790_000_000, 1_790_003_600)
    waiting = next(server.sessions(status="requires_input"))
    browser.post(waiting["url"], {"outcome": "verified"})
    assert waiting["id"] in {session["id"] for session in server.sessions(status="verified")}
    other = server.create_session(account="acct_1Shop")
    browser.post(other["url"], {"outcome": "verified"})
    assert [session["status"] for session in server.sessions(account="acct_1Shop")] == ["verified"]


def test_what_is_refused(server: StripeIdentityServer, browser: requests.Session) -> None:
    url = server.create_session()["url"]
    verified = {"outcome": "verified"}
    assert browser.get(f"{server.url}/start/test_nothing").status_code == 404
    assert browser.post(url, verified, headers={"Origin": "https://other.example.com"}).status_code == 403
    for form in ({}, {"outcome": "failed"}, {"outcome": "failed", "code": "no_code"}):
        assert browser.post(url, form).status_code == 400
    assert states(server) == ["requires_input", None]
    assert browser.post(url, verified, headers={"Origin": server.url.removesuffix("/stripe")}).ok
