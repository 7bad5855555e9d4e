"""Many triggers, one poll: in Airflow's own TriggerRunner, against the emulator."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.accounts import accounts
from support.airflow_versions import shared_polling
from support.triggerer import EVENTS, SESSIONS, asked, polls, run, triggerer

from airflow_provider_stripe_identity import triggers
from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES
from airflow_provider_stripe_identity._waiting import changes, connections, events
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer
from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger

pytestmark = shared_polling


@pytest.fixture(autouse=True)
def no_race(monkeypatch):
    """The race with the scheduler is no matter here."""
    monkeypatch.setattr(triggers, "FIRST_CHECK_AFTER", 0.0)


def test_the_steady_state_is_one_request_an_interval(server):
    async def scenario():
        async with triggerer() as made:
            for number in range(200):
                made.join(f"user_{number}")
            await made.until(lambda: asked(server, SESSIONS) == 200)
            await polls(made, server, 5)
            assert asked(server, SESSIONS) == 200, "one check each, when they join"
            assert len(made.runner._shared_streams._groups) == 1
            assert made.fired == {}

    run(scenario())
    first = next(request for request in server.requests if request.path == EVENTS)
    assert {value for name, value in first.query if name == "types[]"} == set(changes.WAITED_FOR) < set(EVENT_TYPES)


def test_all_fire_when_all_are_verified(server):
    """Three hundred in a moment: their events fill several pages within one second."""

    async def scenario():
        async with triggerer() as made:
            sessions = {}
            for number in range(300):
                session = server.create_session(client_reference_id=f"user_{number}")
                sessions[made.join(f"user_{number}")] = session["id"]
            await made.until(lambda: asked(server, SESSIONS) == 300)
            await polls(made, server, 1)
            for session_id in sessions.values():
                server.verify(session_id)
            await made.until(lambda: len(made.fired) == 300)
            assert {number: payload["session"]["id"] for number, payload in made.fired.items()} == sessions
            assert asked(server, SESSIONS) == 300, "the events alone are enough"

    run(scenario())


def test_what_is_returned_is_what_a_check_returns(server):
    session = server.create_session(client_reference_id="user")

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await polls(made, server, 1)
            server.verify(session["id"])
            await made.until(lambda: made.fired)
            made.join("user")
            await made.until(lambda: len(made.fired) == 2)
            from_event, from_check = made.fired.values()
            assert from_event == from_check
            assert not {"client_secret", "url", "metadata", "provided_details"} & from_event["session"].keys()

    run(scenario())


def test_a_session_verified_before_the_first_poll_is_found_by_the_joiner(server):
    server.create_session(client_reference_id="user", status="verified", created=1_000)  # its events are years old

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await made.until(lambda: made.fired)

    run(scenario())


def test_a_joiner_while_a_poll_is_under_way(server):
    """The poll answers with what was before; the joiner's own check and the next poll see the rest."""
    early, late = (server.create_session(client_reference_id=f"user_{n}") for n in "12")

    async def scenario():
        async with triggerer() as made:
            made.join("user_0")
            await polls(made, server, 1)
            server.latency = 0.1
            before = asked(server, EVENTS)
            await made.until(lambda: asked(server, EVENTS) > before)
            made.join("user_1")
            server.verify(early["id"])
            made.join("user_2")
            await asyncio.sleep(0)
            server.verify(late["id"])
            await made.until(lambda: len(made.fired) == 2)

    run(scenario())


def test_an_event_that_is_listed_late_and_out_of_order_is_seen(server):
    """It appears after a poll has seen newer ones, with a time before theirs."""
    session = server.create_session(client_reference_id="user")

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await made.until(lambda: asked(server, SESSIONS) == 1)
            newest = server.verify(server.create_session(client_reference_id="other")["id"])
            await polls(made, server, 2)
            server.verify(session["id"], event_created=int(time.time()) - events.LISTED_LATE + 5)
            await made.until(lambda: made.fired)
            assert newest["id"] not in str(made.fired)

    run(scenario())


def test_canceled_is_checked_and_only_all_canceled_fails(server):
    one, two = (server.create_session(client_reference_id="user") for _ in range(2))

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            patient = made.join("user", failure_statuses=[])
            await made.until(lambda: asked(server, SESSIONS) == 2)
            server.cancel(one["id"])
            await made.until(lambda: asked(server, SESSIONS) == 3)
            await polls(made, server, 3)
            assert made.fired == {}
            assert asked(server, SESSIONS) == 3, "the overlap shows the event again, and it is not checked again"
            server.cancel(two["id"])
            await made.until(lambda: made.fired)
            assert made.fired == {1: {"failed": "user: its sessions are: 2 canceled"}}
            assert patient not in made.fired

    run(scenario())


def test_created_gte_and_customer_hold_for_events_too(server):
    old = server.create_session(client_reference_id="user", created=1_000)
    strange = server.create_session(client_reference_id="user", related_customer="cus_2")
    mine = server.create_session(client_reference_id="user", related_customer="cus_1")

    async def scenario():
        async with triggerer() as made:
            made.join("user", created_gte=1_001, related_customer="cus_1")
            await made.until(lambda: asked(server, SESSIONS) == 1)
            server.verify(old["id"])
            server.verify(strange["id"])
            await polls(made, server, 3)
            assert made.fired == {}
            server.verify(mine["id"])
            await made.until(lambda: made.fired)
            assert made.fired[1]["session"]["id"] == mine["id"]

    run(scenario())


@pytest.mark.parametrize(
    "other",
    [
        {"stripe_account": "acct_2"},
        {"stripe_conn_id": "second"},
    ],
    ids=str,
)
def test_two_accounts_and_two_connections_do_not_mix(server, monkeypatch, other):
    with StripeIdentityServer() as second:
        monkeypatch.setenv("AIRFLOW_CONN_SECOND", second.airflow_connection())
        server.create_session(account="acct_2", client_reference_id="user")
        second.create_session(client_reference_id="user")
        session = server.create_session(client_reference_id="user")

        async def scenario():
            async with triggerer() as made:
                first = made.join("user")
                made.join("user", **other)
                await polls(made, server, 2)
                server.verify(session["id"])
                await made.until(lambda: made.fired)
                await polls(made, second if "stripe_conn_id" in other else server, 4)
                assert made.fired.keys() == {first}
                assert len(made.runner._shared_streams._groups) == 1

        run(scenario())


def test_two_intervals_have_two_polls_and_backoff_has_none():
    keys = [
        StripeIdentityVerifiedTrigger(client_reference_id="u", stripe_conn_id="c", **arguments).shared_stream_key()
        for arguments in ({}, {"poke_interval": 5}, {"stripe_account": "acct_1"}, {"created_gte": 1}, {})
    ]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3] == keys[4]
    alone = StripeIdentityVerifiedTrigger(client_reference_id="u", stripe_conn_id="c", exponential_backoff=True)
    assert alone.shared_stream_key() is None


def test_without_the_permission_each_polls_its_own_and_the_log_says_once_what_it_would_gain(
    server, monkeypatch, caplog
):
    server.api_keys["rk_test_no_events"] = {"verification_sessions"}
    connection = json.loads(server.airflow_connection()) | {"password": "rk_test_no_events"}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    sessions = [server.create_session(client_reference_id=f"user_{number}") for number in range(5)]

    async def scenario():
        async with triggerer() as made:
            for number in range(5):
                made.join(f"user_{number}")
            await made.until(lambda: asked(server, SESSIONS) >= 20)
            for session in sessions:
                server.verify(session["id"])
            await made.until(lambda: len(made.fired) == 5)

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert asked(server, EVENTS) == 1
    (said,) = [message for message in caplog.messages if "Events: Read" in message]
    assert said.isprintable(), "in one line"


@pytest.mark.parametrize("fault", [Fault.status(500), Fault.reset(), Fault.rate_limited(), Fault.not_json()])
def test_transient_errors_never_end_it(server, fault):
    session = server.create_session(client_reference_id="user")

    async def scenario():
        async with triggerer() as made:
            server.fault_every(1, fault)
            made.join("user")
            await made.until(lambda: len(server.requests) >= 6)
            server.verify(session["id"])
            server.clear_faults()
            await made.until(lambda: made.fired)
            assert made.fired[1]["session"]["id"] == session["id"]

    run(scenario())


def test_permanent_errors_end_it_with_the_hint(server):
    async def scenario():
        async with triggerer() as made:
            made.join("user_1")
            made.join("user_2")
            await polls(made, server, 2)
            server.api_keys.clear()
            await made.until(lambda: len(made.fired) == 2)
            for payload in made.fired.values():
                assert "Check the API key" in payload["failed"]

    run(scenario())


def test_a_missed_event_is_made_up_for_by_a_check_of_its_own(server, monkeypatch):
    """Here no event is ever listed."""
    monkeypatch.setattr(triggers, "RECHECK_AFTER", 0.05)
    session = server.create_session(client_reference_id="user")

    async def no_changes(connection, poke_interval):
        yield changes.Changes()
        await asyncio.Event().wait()

    monkeypatch.setattr(triggers, "poll_changes", no_changes)

    async def scenario():
        async with triggerer() as made:
            made.join("user")
            await made.until(lambda: asked(server, SESSIONS) >= 3)
            server.verify(session["id"])
            await made.until(lambda: made.fired)

    run(scenario())


def test_rechecks_grow_rare_with_the_time_waited():
    """Fifteen minutes at first; after a week of waiting it is one a day."""
    pauses = []
    waited = 0.0
    while waited < 7 * 86400:
        trigger = StripeIdentityVerifiedTrigger(client_reference_id="u", stripe_conn_id="c")
        trigger.waiting_since -= waited
        pauses.append(trigger._recheck_pause())
        waited += pauses[-1]
    assert triggers.RECHECK_AFTER <= pauses[0] <= triggers.RECHECK_AFTER * 1.25 + 1
    assert pauses[-1] == triggers.MAX_RECHECK_AFTER
    assert len(pauses) < 16


def test_checks_take_turns(server):
    server.latency = 0.01
    server.concurrency_limit = connections.CHECKS_AT_ONCE + 1  # and the poll, which is another endpoint

    async def scenario():
        async with triggerer() as made:
            for number in range(60):
                made.join(f"user_{number}")
            await made.until(lambda: asked(server, SESSIONS) == 60)

    run(scenario())
    assert 429 not in {request.status for request in server.requests}


#: What happens in one step of a random schedule.
steps = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(0, 4)),
        st.tuples(st.just("verify"), st.integers(0, 4)),
        st.tuples(st.just("cancel"), st.integers(0, 4)),
        st.tuples(st.just("poll"), st.integers(1, 2)),
        st.tuples(st.just("fault"), st.integers(0, 3)),
    ),
    max_size=25,
)
FAULTS = [Fault.rate_limited(), Fault.status(503), Fault.reset(), Fault.cut_short()]


@given(steps)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_verified_reference_fires_and_no_other(shared_server, schedule):
    """Whatever the order of joins, verifications, cancellations and faults."""
    server, account = shared_server, next(accounts)
    sessions = {
        number: [server.create_session(account=account, client_reference_id=f"user_{number}")["id"] for _ in range(2)]
        for number in range(5)
    }
    joined: dict[int, int] = {}
    verified, canceled = set(), dict.fromkeys(range(5), 0)

    async def scenario():
        async with triggerer() as made:
            made.join("nobody", stripe_account=account)
            for step, number in schedule:
                if step == "join":
                    joined[made.join(f"user_{number}", stripe_account=account, failure_statuses=["canceled"])] = number
                elif step == "verify" and number not in verified and canceled[number] < 2:
                    server.verify(sessions[number][1])
                    verified.add(number)
                elif step == "cancel" and canceled[number] == 0:
                    server.cancel(sessions[number][0])
                    canceled[number] = 1
                elif step == "poll":
                    before = len(server.requests)
                    await made.until(lambda: len(server.requests) >= before + number)  # noqa: B023
                elif step == "fault":
                    server.inject(FAULTS[number])
            server.clear_faults()
            expected = {trigger_id for trigger_id, number in joined.items() if number in verified}
            await made.until(lambda: made.fired.keys() >= expected)
            await polls(made, server, 3)
            assert made.fired.keys() == expected
            for trigger_id, payload in made.fired.items():
                assert payload["session"]["id"] == sessions[joined[trigger_id]][1]

    run(scenario())


def test_the_event_loop_is_never_blocked(server, monkeypatch):
    """Airflow's own watchdog counts what it also warns of."""
    server.latency = 0.5
    counted = []
    monkeypatch.setattr("airflow.jobs.triggerer_job_runner.stats.incr", lambda name, *_, **__: counted.append(name))

    async def scenario():
        async with triggerer() as made:
            made.runner.blocked_main_thread_warning_threshold = 0.2
            watchdog = asyncio.create_task(made.runner.block_watchdog())
            for number in range(4):
                made.join(f"user_{number}")
            await made.until(lambda: asked(server, SESSIONS) == 4 and asked(server, EVENTS) >= 2)
            watchdog.cancel()

    run(scenario())
    assert "triggers.blocked_main_thread" not in counted
