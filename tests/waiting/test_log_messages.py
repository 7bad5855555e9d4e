"""The sensor's log: what a check found, when the next one is, until when it waits, and whether it shares a poll."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from support.airflow_versions import TaskDeferred, shared_polling
from support.triggerer import SESSIONS, asked, polls, run, triggerer

from airflow_provider_stripe_identity import triggers
from airflow_provider_stripe_identity._airflow.version_compat import airflow_exceptions
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.triggers import StripeIdentityVerifiedTrigger

CONTEXT = {"ti": SimpleNamespace(get_first_reschedule_date=lambda _: None)}


@pytest.fixture
def messages(monkeypatch):
    """What the sensor and its triggers log about the reference."""
    found: list[str] = []

    def note(message, *values):
        if message.startswith("%s: "):
            found.append(message % values)

    log = SimpleNamespace(info=note, warning=note)
    for kind in (StripeIdentityVerifiedSensor, StripeIdentityVerifiedTrigger):
        monkeypatch.setattr(kind, "log", log)
    monkeypatch.setattr(triggers, "FIRST_CHECK_AFTER", 0.0)
    return found


def sensor(**arguments) -> StripeIdentityVerifiedSensor:
    return StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user", poke_interval=5, **arguments)


@pytest.mark.parametrize(
    ("options", "how"),
    [
        ({}, "checking every 5 s, at most 1:00:00 from the start of the task, without a shared poll"),
        (
            {"exponential_backoff": True},
            "checking every 5 s at first, at most 1:00:00 from the start of the task, without a shared poll",
        ),
    ],
    ids=str,
)
def test_a_sensor_in_a_worker_slot(server, messages, options, how):
    server.create_session(client_reference_id="user")
    with pytest.raises(airflow_exceptions.AirflowRescheduleException):
        sensor(mode="reschedule", timeout=3600, **options).execute(CONTEXT)
    assert messages == [f"user: its sessions are: 1 requires_input; {how}"]


SHARING = (
    "sharing one poll of Stripe's events every 5 s with the other sensors on connection stripe_identity_default, "
    "if its key may read events"
)


@pytest.mark.parametrize(
    ("options", "seconds", "how"),
    [
        pytest.param({"timeout": 3600}, 3600, SHARING, marks=shared_polling),
        ({"timeout": 3600, "exponential_backoff": True}, 3600, "checking on its own every 5 s at first"),
        (
            {"timeout": 3600, "execution_timeout": timedelta(seconds=900), "exponential_backoff": True},
            900,
            "checking on its own every 5 s at first",
        ),
    ],
    ids=["shared", "alone", "execution_timeout"],
)
def test_a_deferred_sensor_says_until_when_it_waits_and_how(server, messages, options, seconds, how):
    before = int(time.time())
    with pytest.raises(TaskDeferred):
        sensor(deferrable=True, **options).execute(CONTEXT)
    found, deferred = messages
    assert found == "user: there is no session yet"
    until = re.fullmatch(rf"user: waiting in the triggerer until (\S+) at the latest, {re.escape(how)}", deferred)
    assert until is not None, deferred
    assert before + seconds <= datetime.fromisoformat(until[1]).timestamp() <= time.time() + seconds


def test_before_airflow_3_3_a_deferred_sensor_does_not_speak_of_sharing(monkeypatch):
    monkeypatch.setattr(triggers, "AIRFLOW_V_3_3_PLUS", False)
    trigger = StripeIdentityVerifiedTrigger(client_reference_id="user", stripe_conn_id="c", poke_interval=5)
    assert trigger.schedule == "checking on its own every 5 s"


def test_a_trigger_on_its_own_says_when_it_checks_next(server, messages, monkeypatch):
    server.create_session(client_reference_id="user")
    trigger = StripeIdentityVerifiedTrigger(
        client_reference_id="user", stripe_conn_id="stripe_identity_default", poke_interval=5, waiting_since=0
    )

    async def scenario():
        waiting = asyncio.ensure_future(anext(trigger.run()))
        while not messages:
            await asyncio.sleep(0.01)
        waiting.cancel()

    run(scenario())
    assert messages == ["user: its sessions are: 1 requires_input; the next check is in 5 s, without a shared poll"]


@shared_polling
def test_a_trigger_that_shares_a_poll_says_when_it_checks_next(server, messages):
    server.create_session(client_reference_id="user")

    async def scenario():
        async with triggerer() as made:
            made.join("user", waiting_since=time.time())
            await made.until(lambda: messages)
            await polls(made, server, 2)

    run(scenario())
    (message,) = messages
    pattern = r"user: its sessions are: 1 requires_input; the next check is in (\d+) s, or when an event says so"
    next_check = re.fullmatch(pattern, message)
    assert next_check is not None, message
    assert triggers.RECHECK_AFTER <= int(next_check[1]) <= (triggers.RECHECK_AFTER + 120) * 1.25


@shared_polling
def test_a_trigger_whose_key_may_not_read_events_says_so(server, messages, monkeypatch):
    """Also when it has said something else, because the poll had no answer yet."""
    server.api_keys["rk_test_no_events"] = {"verification_sessions"}
    connection = json.loads(server.airflow_connection()) | {"password": "rk_test_no_events"}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    without = "user: there is no session yet; the next check is in 5 s, without a shared poll"

    async def scenario():
        async with triggerer() as made:
            made.join("user", poke_interval=5)
            await made.until(lambda: without in messages)
            assert asked(server, SESSIONS) == 1

    run(scenario())
