"""The world around those who wait: look-ups, keys, threads, lists, permissions. In Airflow's own TriggerRunner."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import threading
import time
from types import SimpleNamespace

import psutil
import pytest
from support.airflow_versions import shared_polling
from support.snapshots import old_snapshots
from support.triggerer import EVENTS, SESSIONS, asked, polls, run, triggerer

from airflow_provider_stripe_identity import triggers
from airflow_provider_stripe_identity._airflow import failures
from airflow_provider_stripe_identity._stripe_api import rate_limiter
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._waiting import changes, connections
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

pytestmark = shared_polling


@pytest.fixture(autouse=True)
def no_race(monkeypatch):
    monkeypatch.setattr(triggers, "FIRST_CHECK_AFTER", 0.0)


def slow(server, path, seconds):
    """Let one endpoint take its time while the others answer at once; return the event that ends every wait."""
    ended = threading.Event()
    server.before_answer = lambda request: request.path == path and ended.wait(seconds())
    return ended


def test_connections_that_hang_delay_nobody_else(server, monkeypatch):
    """Neither a sensor on another connection, nor a bystander that asks for a thread or for an address."""
    with StripeIdentityServer(latency=3600) as hung:
        for number in range(20):
            monkeypatch.setenv(f"AIRFLOW_CONN_HUNG_{number}", hung.airflow_connection())
        session = server.create_session(client_reference_id="user")

        async def scenario():
            async with triggerer() as made:
                for number in range(20):
                    for person in range(10):
                        made.join(f"user_{person}", stripe_conn_id=f"hung_{number}")
                # Each holds its three checks and one poll.
                await made.until(lambda: len(hung.requests) == 20 * (connections.CHECKS_AT_ONCE + 1))
                healthy = made.join("user")
                await made.until(lambda: asked(server, SESSIONS) == 1)
                server.verify(session["id"])
                await asyncio.to_thread(lambda: None)
                await asyncio.get_running_loop().getaddrinfo("localhost", 80)
                await made.until(lambda: healthy in made.fired)
                assert asyncio.get_running_loop()._default_executor._max_workers <= 36  # type: ignore[attr-defined]
                names = {thread.name.rpartition("_")[0] for thread in threading.enumerate()}
                assert {"stripe-waiting-check-hung_0", "stripe-waiting-poll-hung_19"} <= names
                hung.stop()

        run(scenario())


def test_requests_that_wait_for_their_turn_wait_in_threads_of_their_connection(server, monkeypatch):
    """Twenty connections with a low rate, and more sensors on each than it lets through."""
    released = threading.Event()
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: seconds and released.wait(seconds))
    monkeypatch.setattr(rate_limiter, "time", clock)
    monkeypatch.setattr(rate_limiter, "KEPT", 0)  # no file of turns: its waits are not over when the test is
    session = server.create_session(client_reference_id="user")
    with StripeIdentityServer() as slow_server:
        connection = json.loads(slow_server.airflow_connection()) | {"extra": {"max_requests_per_second": 0.001}}
        for number in range(20):
            account = connection | {"extra": connection["extra"] | {"stripe_account": f"acct_{number}"}}
            monkeypatch.setenv(f"AIRFLOW_CONN_SLOW_{number}", json.dumps(account))
            slow_server.create_session(account=f"acct_{number}")

        async def scenario():
            async with triggerer() as made:
                for number in range(20):
                    for person in range(10):
                        made.join(f"user_{person}", stripe_conn_id=f"slow_{number}")
                await made.until(lambda: len(slow_server.requests) == 20)
                healthy = made.join("user")
                await made.until(lambda: asked(server, SESSIONS) == 1)
                server.verify(session["id"])
                await asyncio.to_thread(lambda: None)
                await made.until(lambda: healthy in made.fired)
                assert len(slow_server.requests) == 20

        async def released_at_last():
            try:
                await scenario()
            finally:
                released.set()

        run(released_at_last())


def test_nothing_runs_in_the_loops_default_pool(server, monkeypatch):
    session = server.create_session(client_reference_id="user")

    async def scenario():
        loop = asyncio.get_running_loop()
        run_in_executor = loop.run_in_executor

        def guarded(executor, function, *arguments):
            logs = "filtering_bound_logger" in repr(function)  # Airflow's own TriggerRunner
            assert executor is not None or logs, "the default pool belongs to everybody"
            return run_in_executor(executor, function, *arguments)

        monkeypatch.setattr(loop, "run_in_executor", guarded)
        async with triggerer() as made:
            made.join("user")
            watcher = triggers.StripeIdentityEventTrigger(poke_interval=0.01).run()
            fired = asyncio.ensure_future(anext(watcher))
            await polls(made, server, 3)
            server.verify(session["id"])
            await made.until(lambda: made.fired)
            assert (await fired).payload["id"] == session["id"]
            await watcher.aclose()  # type: ignore[attr-defined]

    run(scenario())


def test_no_thread_that_can_be_started_for_a_while_ends_nobody(server, monkeypatch, caplog):
    """The operating system, or a container, limits them; what could not be called then is not called later."""
    sessions = [server.create_session(client_reference_id=f"user_{number}") for number in range(20)]
    start, refused = threading.Thread.start, 0

    def refuse(thread):
        nonlocal refused
        if thread.name.startswith("stripe-waiting"):
            refused += 1
            raise RuntimeError("can't start new thread")
        start(thread)

    async def scenario():
        async with triggerer() as made:
            monkeypatch.setattr(threading.Thread, "start", refuse)
            made.start(triggers.StripeIdentityEventTrigger(poke_interval=0.05))
            for number in range(20):
                made.join(f"user_{number}", poke_interval=0.05)
            await made.until(lambda: refused > 100)
            assert not server.requests
            monkeypatch.setattr(threading.Thread, "start", start)
            await made.until(lambda: asked(server, SESSIONS) >= 20 and asked(server, EVENTS) >= 4)
            assert asked(server, SESSIONS) == 20
            for session in sessions:
                server.verify(session["id"])
            await made.until(lambda: len(made.runner.events) >= 40)

    monkeypatch.setattr(triggers, "AIRFLOW_SETTLES_AFTER", 0.0)
    with caplog.at_level(logging.WARNING, "airflow_provider_stripe_identity"):
        run(scenario())
    assert sum("cannot be used now: can't start new thread" in message for message in caplog.messages) == 1


def test_a_look_up_that_hangs_holds_no_thread_of_airflows(server, monkeypatch):
    """Airflow's own asynchronous look-up uses one thread for all triggers of the process."""
    from asgiref.sync import sync_to_async

    released = threading.Event()
    look_up = StripeIdentityHook.get_connection.__func__  # type: ignore[attr-defined]

    def hangs(cls, conn_id):
        if conn_id == "hung":
            released.wait(30)
        return look_up(cls, conn_id)

    monkeypatch.setattr(StripeIdentityHook, "get_connection", classmethod(hangs))
    server.create_session(client_reference_id="user", status="verified", created=1_000)

    async def scenario():
        async with triggerer() as made:
            made.join("user", stripe_conn_id="hung")
            healthy = made.join("user")
            await sync_to_async(lambda: None)()
            await made.until(lambda: healthy in made.fired)
            released.set()

    run(scenario())


def test_a_look_up_that_fails_for_a_while_ends_nobody(server, monkeypatch, caplog):
    sessions = [server.create_session(client_reference_id=f"user_{number}") for number in range(200)]
    connection = server.airflow_connection()

    async def scenario():
        async with triggerer() as made:
            watcher = triggers.StripeIdentityEventTrigger(poke_interval=0.05).run()
            heard = asyncio.create_task(first(watcher, 200))
            for number in range(200):
                made.join(f"user_{number}", poke_interval=0.05)
            await made.until(lambda: asked(server, SESSIONS) == 200 and asked(server, EVENTS) > 4)
            monkeypatch.delenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT")
            await made.until(lambda: "cannot be looked up" in caplog.text)
            for number in range(200, 210):
                made.join(f"user_{number}", poke_interval=0.05)  # these have not checked yet
            await asyncio.sleep(0.5)
            monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", connection)
            for session in sessions:
                server.verify(session["id"])
            await made.until(lambda: len(made.fired) == 200)
            assert all("session" in payload for payload in made.fired.values())
            await heard

    with caplog.at_level(logging.WARNING, "airflow_provider_stripe_identity"):
        run(scenario())
    assert sum("cannot be looked up" in message for message in caplog.messages) == 1, "the poll says it once"


async def first(watcher, number):
    async for _ in watcher:
        number -= 1
        if not number:
            return


@pytest.mark.parametrize("event", ["verified", "canceled"])
def test_an_event_that_decides_fires_while_every_check_hangs(server, event):
    hangs = threading.Event()
    ended = slow(server, SESSIONS, lambda: 3600 if hangs.is_set() else 0)
    sessions = {number: server.create_session(client_reference_id=f"user_{number}")["id"] for number in range(300)}

    async def scenario():
        async with triggerer() as made:
            if event == "canceled":
                made.join("user_0")
                await made.until(lambda: asked(server, SESSIONS) == 1)
            hangs.set()
            for number in sessions:
                made.join(f"user_{number}")
            await made.until(lambda: asked(server, SESSIONS) >= connections.CHECKS_AT_ONCE)
            for session_id in sessions.values():
                server.verify(session_id)
            await made.until(lambda: len(made.fired) >= 300)
            ended.set()

    run(scenario())


def test_a_check_that_an_event_asked_for_is_repeated_until_the_list_agrees(server):
    """The list shows the session as it was; with the second check of the list it is as the event said."""
    session = server.create_session(client_reference_id="user")
    lags = threading.Event()

    def lagging(request, response):
        if request.path == SESSIONS and lags.is_set():
            for listed in response.body["data"]:
                listed["status"] = "requires_input"

    server.after_answer = lagging

    async def scenario():
        async with triggerer() as made:
            patient = made.join("user", failure_statuses=[])
            made.join("user")
            await made.until(lambda: asked(server, SESSIONS) == 2)
            lags.set()
            server.cancel(session["id"])
            await made.until(lambda: asked(server, SESSIONS) >= 5)
            assert made.fired == {}
            lags.clear()
            await made.until(lambda: made.fired)
            assert patient not in made.fired

    run(scenario())


def test_it_seldom_checks_again_once_the_list_agrees(server):
    one, two = (server.create_session(client_reference_id="user") for _ in range(2))

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await made.until(lambda: asked(server, SESSIONS) == 1)
            server.cancel(one["id"])
            await made.until(lambda: asked(server, SESSIONS) == 2)
            await polls(made, server, 5)
            assert asked(server, SESSIONS) == 2
            assert server.sessions(status="requires_input").__next__()["id"] == two["id"]

    run(scenario())


def test_a_permission_that_is_granted_meanwhile_is_used_at_the_next_look(server, monkeypatch):
    monkeypatch.setattr(changes, "LOOK_FOR_PERMISSION_EVERY", 0.1)
    permissions = server.api_keys[server.api_key]
    server.api_keys[server.api_key] = {"verification_sessions"}

    async def scenario():
        async with triggerer() as made:
            for number in range(50):
                made.join(f"user_{number}")
            await made.until(lambda: asked(server, SESSIONS) >= 150)
            server.api_keys[server.api_key] = permissions
            await made.until(lambda: any(r.path == EVENTS and r.status == 200 for r in list(server.requests)))
            checks = None
            while checks != (checks := asked(server, SESSIONS)):  # each checks once more when it joins the poll
                await polls(made, server, 5)
            await polls(made, server, 10)
            assert asked(server, SESSIONS) == checks, "the poll is enough again"

    run(scenario())


def test_a_key_that_is_revoked_before_the_connection_is_edited_ends_nobody(server, monkeypatch):
    monkeypatch.setattr(failures, "STANDS_FOR_INTERVALS", 10_000)
    sessions = [server.create_session(client_reference_id=f"user_{number}") for number in range(60)]
    new = json.loads(server.airflow_connection()) | {"password": "sk_test_new"}

    async def scenario():
        async with triggerer() as made:
            for number in range(60):
                made.join(f"user_{number}")
            await polls(made, server, 2)
            server.api_keys["sk_test_new"] = server.api_keys.pop(server.api_key)
            await polls(made, server, 5)
            monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(new))
            for session in sessions:
                server.verify(session["id"])
            await made.until(lambda: len(made.fired) == 60)
            assert all("session" in payload for payload in made.fired.values())

    run(scenario())


def test_rotations_of_the_key_leave_one_client(server, monkeypatch):
    """No client, socket or key of an earlier one."""
    connection = json.loads(server.airflow_connection())

    def clients():
        gc.collect()
        return [thing for thing in gc.get_objects() if type(thing) is StripeIdentityClient]

    async def scenario():
        before, sockets = len(clients()), len(psutil.Process().net_connections())
        shared = connections.SharedConnection.of("stripe_identity_default")
        for number in range(100):
            key = f"sk_test_rotated_{number}"
            server.api_keys[key] = server.api_keys[server.api_key]
            monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection | {"password": key}))
            await asyncio.gather(
                *(shared.check(lambda hook: hook.list_verification_sessions_page(limit=1)) for _ in range(3)),
                shared.poll(lambda hook: list(hook.list_events(types=["identity.verification_session.verified"]))),
            )
        assert len(clients()) == before + 1
        threads = connections.CHECKS_AT_ONCE + connections.POLLS_AT_ONCE
        # Both ends of a socket are in this process.
        assert len(psutil.Process().net_connections()) <= sockets + 3 * threads
        del shared
        assert len(clients()) == before

    run(scenario())


def test_a_client_that_is_replaced_is_closed_whoever_still_holds_it(server, monkeypatch):
    """Three hundred rotations: a log record, a traceback or a debugger may keep the earlier clients."""
    connection = json.loads(server.airflow_connection())
    held = []

    async def scenario():
        shared = connections.SharedConnection.of("stripe_identity_default")
        sockets = len(psutil.Process().net_connections())
        for number in range(300):
            key = f"sk_test_rotated_{number}"
            server.api_keys[key] = server.api_keys[server.api_key]
            monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection | {"password": key}))
            await shared.check(lambda hook: held.append(hook.client) or hook.list_verification_sessions_page(limit=1))
        assert len(set(map(id, held))) == 300
        # Both ends are in this process, and the emulator closes its own a moment later.
        while len(psutil.Process().net_connections()) > sockets + 2 * connections.CHECKS_AT_ONCE:
            await asyncio.sleep(0.01)

    run(scenario())


def test_threads_end_when_nobody_waits_any_more(server):
    server.create_session(client_reference_id="user", status="verified", created=1_000)

    def ours():
        return [thread for thread in threading.enumerate() if thread.name.startswith("stripe-waiting")]

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await made.until(lambda: made.fired)
        gc.collect()
        while ours():
            await asyncio.sleep(0.01)

    run(scenario())


def fires_without_a_further_check(server, session, **joined):
    async def scenario():
        async with triggerer() as made:
            made.join("user", **joined)
            await made.until(lambda: asked(server, SESSIONS) == 1)
            await polls(made, server, 1)
            server.verify(session["id"])
            await made.until(lambda: made.fired)
            assert asked(server, SESSIONS) == 1

    run(scenario())


def test_a_customers_event_decides_where_the_snapshot_says_whose_it_is(server):
    mine = server.create_session(client_reference_id="user", related_customer="cus_1")
    fires_without_a_further_check(server, mine, related_customer="cus_1")


def test_a_snapshot_that_does_not_say_whose_it_is_fires_through_the_poll(server):
    """Its session is looked up."""
    server.after_answer = old_snapshots
    fires_without_a_further_check(server, server.create_session(client_reference_id="user"))


@pytest.mark.parametrize("every", [50, 5])
def test_a_backlog_of_many_pages_fires_page_by_page_although_answers_fail(server, every):
    references = {f"user_{number}" for number in range(0, 30_000, 3_000)}
    for number in range(30_000):
        server.verify(server.create_session(client_reference_id=f"user_{number}", created=1_000)["id"])
    server.fault_every(every, Fault.status(500), Fault.reset(), seed=2)

    async def scenario():
        async with triggerer() as made:
            # Their own checks would find nothing.
            for reference in references:
                made.join(reference, created_gte=1_000, poke_interval=0.2)
            await made.until(lambda: len(made.fired) == len(references))

    run(scenario())
    assert asked(server, EVENTS) < 300 / (1 - 1 / every) * 1.2


def test_one_hung_poll_is_one_thread(server):
    """Fifty sensors leave while it hangs and come back: the next poll does not pile up behind it forever."""
    hangs = threading.Event()
    slow(server, EVENTS, lambda: 0.5 if hangs.is_set() else 0)
    session = server.create_session(client_reference_id="user")

    async def scenario():
        for _ in range(6):
            hangs.set()
            async with triggerer() as made:
                made.join("user")
                await made.until(lambda: asked(server, SESSIONS) >= 1)
        hangs.clear()
        async with triggerer() as made:
            made.join("user")
            await polls(made, server, 2)
            server.verify(session["id"])
            await made.until(lambda: made.fired)
        assert sum(t.name.startswith("stripe-waiting-poll") for t in threading.enumerate()) <= 4 * 7

    run(scenario())


def test_wall_clocks_that_jump_change_nothing(server, monkeypatch):
    real, jump = time.time, [0.0]
    monkeypatch.setattr(triggers.time, "time", lambda: real() + jump[0])
    session = server.create_session(client_reference_id="user")

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await polls(made, server, 2)
            for seconds in (86_400, -86_400, 700):
                jump[0] = seconds
                await polls(made, server, 2)
            server.verify(session["id"])
            await made.until(lambda: made.fired)

    run(scenario())
