"""The trigger: when it checks, what ends the wait, and that the event loop stays free."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import threading
import time
from types import SimpleNamespace

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_provider_stripe_identity import triggers
from airflow_provider_stripe_identity._airflow import failures
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity.testing import Fault
from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger


@pytest.fixture
def pauses(monkeypatch):
    """The trigger's pauses: noted, and over at once."""
    noted: list[float] = []
    clock = SimpleNamespace(now=time.time())

    async def sleep(seconds):
        noted.append(seconds)
        clock.now += seconds

    monkeypatch.setattr(triggers, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))
    monkeypatch.setattr(triggers, "time", SimpleNamespace(time=lambda: clock.now))
    return noted


def fire(trigger: StripeIdentityVerifiedTrigger) -> dict:
    """Run the trigger, as made again from what it serializes to, until it fires."""
    path, kwargs = trigger.serialize()
    assert json.loads(json.dumps(kwargs)) == kwargs

    async def first_event() -> TriggerEvent:
        again = getattr(triggers, path.rpartition(".")[2])(**kwargs)
        return await anext(again.run())

    return asyncio.run(first_event()).payload


def trigger(**arguments) -> StripeIdentityVerifiedTrigger:
    defaults = {"client_reference_id": "user", "stripe_conn_id": "stripe_identity_default", "poke_interval": 60}
    return StripeIdentityVerifiedTrigger(**defaults | arguments)


def on_request(server, number, change):
    """Change something just before the server answers its n-th request."""
    count, before = itertools.count(1), server.before_answer

    def change_at_that_one(request):
        if before:
            before(request)
        if next(count) == number:
            change()

    server.before_answer = change_at_that_one


def test_it_fires_when_the_session_is_verified(server, pauses, monkeypatch):
    session = server.create_session(client_reference_id="user")
    on_request(server, 3, lambda: server.verify(session["id"]))
    report = fire(trigger())
    assert report["session"]["id"] == session["id"]
    assert len(server.requests) == 3
    assert pauses[1:] == [60, 60]


def test_it_fires_when_nothing_can_be_verified_any_more(server, pauses, monkeypatch):
    session = server.create_session(client_reference_id="user")
    on_request(server, 2, lambda: server.cancel(session["id"]))
    assert fire(trigger()) == {"failed": "user: its sessions are: 1 canceled"}


def test_it_reads_what_the_sensor_would_read(server, pauses):
    server.create_session(client_reference_id="user", status="verified")
    server.create_session(client_reference_id="user", status="verified", account="acct_1")
    wanted = server.create_session(
        client_reference_id="user", status="verified", account="acct_1", related_customer="cus_1", created=1_000
    )
    payload = fire(trigger(stripe_account="acct_1", related_customer="cus_1", created_gte=1_000))
    assert payload["session"]["id"] == wanted["id"]
    assert ("created[gte]", "1000") in server.requests[0].query


def test_transient_errors_are_waited_out_at_one_request_a_check(server, pauses):
    server.create_session(client_reference_id="user", status="verified")
    faults = [Fault.status(500), Fault.reset(), Fault.rate_limited(), Fault.not_json(), Fault.cut_short()]
    server.inject(*faults)
    assert fire(trigger())["session"]
    assert len(server.requests) == len(faults) + 1
    assert pauses[1:] == [60] * len(faults)


@pytest.fixture
def no_patience(monkeypatch):
    monkeypatch.setattr(failures, "STANDS_FOR_INTERVALS", 0)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_permanent_errors_end_it_with_the_hint(server, pauses, no_patience, status):
    server.inject(Fault.status(status))
    assert f"{status}" in fire(trigger())["failed"]
    assert len(server.requests) == 1


def test_a_wrong_connection_ends_it(monkeypatch, pauses, no_patience):
    monkeypatch.setenv("AIRFLOW_CONN_BAD", '{"conn_type": "stripe_identity", "password": "pk_test_x"}')
    assert "publishable" in fire(trigger(stripe_conn_id="bad"))["failed"]


def test_a_key_that_is_replaced_while_it_waits_is_used(server, pauses, monkeypatch):
    session = server.create_session(client_reference_id="user")

    def rotate():
        connection = json.loads(server.airflow_connection()) | {"password": "sk_test_new"}
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        server.api_keys["sk_test_new"] = server.api_keys[server.api_key]

    on_request(server, 1, rotate)
    on_request(server, 2, lambda: server.verify(session["id"]))
    assert fire(trigger())["session"]["id"] == session["id"]
    keys = [request.headers["Authorization"] for request in server.requests]
    assert keys == [f"Bearer {server.api_key}", "Bearer sk_test_new"]


class TestPauses:
    def first(self, pauses, server, **arguments):
        server.create_session(client_reference_id="user", status="verified")
        fire(trigger(**arguments))
        return pauses[0]

    def test_the_first_check_is_an_interval_after_the_sensors(self, pauses, server):
        assert self.first(pauses, server, waiting_since=triggers.time.time() - 10) == pytest.approx(50)

    def test_but_never_so_soon_that_it_races_the_scheduler(self, pauses, server):
        assert self.first(pauses, server, poke_interval=0) == triggers.FIRST_CHECK_AFTER

    def test_after_a_restart_in_mid_wait_it_comes_soon(self, pauses, server):
        since = triggers.time.time() - 100_000
        assert self.first(pauses, server, waiting_since=since) == triggers.FIRST_CHECK_AFTER

    def test_a_clock_of_the_worker_that_is_a_day_ahead_delays_nothing(self, pauses, server):
        assert self.first(pauses, server, waiting_since=triggers.time.time() + 86_400) == 60

    @pytest.mark.parametrize("max_wait", [None, 1_000])
    def test_backoff_doubles_the_wait_up_to_max_wait(self, pauses, server, monkeypatch, max_wait):
        session = server.create_session(client_reference_id="user")
        on_request(server, 10, lambda: server.verify(session["id"]))
        fire(trigger(exponential_backoff=True, max_wait=max_wait, poke_interval=60))
        waited = 0
        for pause in pauses:
            expected = max(60, waited)
            assert min(expected, max_wait or expected) <= pause <= expected * 1.25
            assert pause <= (max_wait or pause)
            waited += pause


def test_the_event_loop_is_never_blocked_by_http(server, pauses, monkeypatch):
    server.create_session(client_reference_id="user", status="verified")
    threads = []
    get = StripeIdentityClient.get
    monkeypatch.setattr(
        StripeIdentityClient, "get", lambda *a, **k: threads.append(threading.current_thread()) or get(*a, **k)
    )
    fire(trigger())
    assert threads
    assert threading.main_thread() not in threads


def test_before_airflow_3_3_the_log_says_once_what_sharing_would_save(server, pauses, monkeypatch, caplog):
    triggers._say_what_sharing_would_save.cache_clear()
    monkeypatch.setattr(triggers, "AIRFLOW_V_3_3_PLUS", False)
    server.create_session(client_reference_id="user", status="verified")
    with caplog.at_level(logging.INFO):
        fire(trigger())
        fire(trigger())
    assert sum("Airflow 3.3" in message for message in caplog.messages) == 1
