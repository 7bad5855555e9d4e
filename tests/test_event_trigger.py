"""The watcher's trigger: every event once, over restarts, faults and late events."""

from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace

import pytest

from airflow_provider_stripe_identity import changes, triggers
from airflow_provider_stripe_identity.testing import Fault
from airflow_provider_stripe_identity.triggers import StripeIdentityEventTrigger


class Store:
    """An asset's state store; values go through JSON, as Airflow's do."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.sets = 0

    async def aget(self, key):
        return json.loads(self.values[key]) if key in self.values else None

    async def aset(self, key, value):
        self.values[key] = json.dumps(value)
        self.sets += 1


class Watcher:
    """A trigger that runs from step to step: until it has polled, or fired, once more."""

    def __init__(self, server, store=None, **arguments):
        self.server, self.store, self.arguments = server, store, arguments
        self.fired: list[dict] = []

    async def __aenter__(self):
        path, kwargs = StripeIdentityEventTrigger(poke_interval=0.01, **self.arguments).serialize()
        assert path == "airflow_provider_stripe_identity.triggers.StripeIdentityEventTrigger"
        trigger = StripeIdentityEventTrigger(**json.loads(json.dumps(kwargs)))
        trigger.asset_state_store = self.store

        async def collect():
            async for event in trigger.run():
                self.fired.append(event.payload)

        self.task = asyncio.create_task(collect())
        await self.polled(2)  # it has found its place
        return self

    async def __aexit__(self, *_):
        self.task.cancel()

    async def until(self, check):
        while not check():
            assert not self.task.done(), self.task.exception()
            await asyncio.sleep(0.002)

    async def polled(self, times):
        goal = len(self.server.requests) + times + 1
        await self.until(lambda: len(self.server.requests) >= goal)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(triggers, "AIRFLOW_SETTLES_AFTER", 0.0)


@pytest.fixture
def errors(monkeypatch):
    """What the trigger logs as errors."""
    messages: list[str] = []
    log = SimpleNamespace(error=lambda message, *values: messages.append(message % values))
    monkeypatch.setattr(StripeIdentityEventTrigger, "log", log)
    return messages


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


def verified(server, reference="user", **more):
    return server.verify(server.create_session(client_reference_id=reference, **more)["id"])


def test_it_fires_for_what_happens_from_its_first_start_on(server):
    verified(server, "before")

    async def scenario():
        async with Watcher(server) as watcher:
            session = verified(server, "after")
            server.cancel(server.create_session(client_reference_id="canceled")["id"])
            await watcher.until(lambda: watcher.fired)
            await watcher.polled(3)
            (payload,) = watcher.fired
            event = next(
                iter(triggers.StripeIdentityHook().list_events(types=["identity.verification_session.verified"]))
            )
            assert payload == {
                "event": event["id"],
                "at": event["created"],
                "id": session["id"],
                "client_reference_id": "after",
                "status": "verified",
                "livemode": False,
            }

    run(scenario())


def test_oldest_first_and_each_once_over_several_pages(server):
    async def scenario():
        async with Watcher(server) as watcher:
            sessions = [verified(server, f"user_{number}")["id"] for number in range(250)]
            await watcher.until(lambda: len(watcher.fired) >= 250)
            await watcher.polled(3)
            assert [payload["id"] for payload in watcher.fired] == sessions

    run(scenario())


def test_nothing_is_missed_or_fired_twice_over_a_restart(server):
    store = Store()

    async def scenario():
        fired = []
        async with Watcher(server, store) as watcher:
            sessions = [verified(server)["id"]]
            await watcher.until(lambda: watcher.fired)
            await watcher.polled(2)
            fired += watcher.fired
        sessions += [verified(server)["id"] for _ in range(3)]  # nobody watches
        async with Watcher(server, store) as watcher:
            sessions.append(verified(server)["id"])
            await watcher.until(lambda: len(watcher.fired) >= 4)
            await watcher.polled(2)
            fired += watcher.fired
        assert [payload["id"] for payload in fired] == sessions

    run(scenario())


def test_without_a_store_every_start_begins_anew(server):
    async def scenario():
        async with Watcher(server) as watcher:
            await watcher.polled(1)
        verified(server, "meanwhile")
        async with Watcher(server) as watcher:
            verified(server, "later")
            await watcher.until(lambda: watcher.fired)
            await watcher.polled(2)
            assert [payload["client_reference_id"] for payload in watcher.fired] == ["later"]

    run(scenario())


def test_statuses_and_reference_can_be_chosen(server):
    async def scenario():
        async with Watcher(server, statuses=["canceled", "processing"], client_reference_id="mine") as watcher:
            for reference in ("mine", "other"):
                verified(server, reference)
                server.cancel(server.create_session(client_reference_id=reference)["id"])
                server.process(server.create_session(client_reference_id=reference)["id"])
            await watcher.until(lambda: len(watcher.fired) == 2)
            await watcher.polled(3)
            assert [(p["client_reference_id"], p["status"]) for p in watcher.fired] == [
                ("mine", "canceled"),
                ("mine", "processing"),
            ]

    run(scenario())


@pytest.mark.parametrize("statuses", [(), "verified", ["verifed"]])
def test_wrong_statuses_are_refused(statuses):
    with pytest.raises(ValueError, match="statuses"):
        StripeIdentityEventTrigger(statuses=statuses)


def test_no_error_ends_it(server, errors):
    async def scenario():
        async with Watcher(server) as watcher:
            keys = dict(server.api_keys)
            server.api_keys.clear()
            server.inject(Fault.reset(), Fault.status(500), Fault.cut_short())
            verified(server)
            await watcher.polled(6)
            server.api_keys.update(keys)
            await watcher.until(lambda: watcher.fired)

    run(scenario())
    assert any("Check the API key" in message for message in errors)


def test_an_event_listed_late_is_fired(server):
    async def scenario():
        store = server._api.store(None)
        session = server.create_session(client_reference_id="late")
        async with Watcher(server) as watcher:
            verified(server, "newer")
            await watcher.until(lambda: watcher.fired)
            with store._lock:
                store._change(store.session(session["id"]), "verified", {}, int(time.time()) - changes.OVERLAP + 5)
            await watcher.until(lambda: len(watcher.fired) == 2)
            assert [payload["client_reference_id"] for payload in watcher.fired] == ["newer", "late"]

    run(scenario())


@pytest.mark.parametrize(("days", "said"), [(31, True), (29, False)])
def test_falling_more_than_thirty_days_behind_is_said_loudly(server, errors, days, said):
    store = Store()
    read_at = time.time() - days * 86400
    store.values[triggers.CURSOR_KEY] = json.dumps({"newest": 5, "passed": {}, "read_at": read_at})

    async def scenario():
        async with Watcher(server, store) as watcher:
            await watcher.polled(1)

    run(scenario())
    assert any(f"{days} days ago" in message for message in errors) is said


def test_a_quiet_time_is_no_falling_behind(server, monkeypatch):
    """Without any event, the place is stored from time to time all the same."""
    monkeypatch.setattr(triggers, "KEEP_EVERY", 0.0)
    store = Store()

    async def scenario():
        async with Watcher(server, store) as watcher:
            await watcher.until(lambda: store.sets >= 3)
            assert watcher.fired == []

    run(scenario())
    assert json.loads(store.values[triggers.CURSOR_KEY])["read_at"] == pytest.approx(time.time(), abs=30)


def test_what_is_stored_does_not_grow(server):
    hook = SimpleNamespace(list_events=lambda **_: [])
    cursor = changes.EventCursor()
    for number in range(10_000):
        cursor.passed({"event": f"evt_{number}", "at": number})
    kept = cursor.as_json()
    assert len(kept["passed"]) == changes.OVERLAP + 1
    assert changes.EventCursor(**kept).fresh(hook, []) == []
