"""The watcher's trigger: every event once, over restarts, faults and late events."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from support.airflow_versions import shared_polling
from support.triggerer import triggerer

from airflow_provider_stripe_identity import triggers
from airflow_provider_stripe_identity._waiting import connections, events, places, watched_account
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
def settled(monkeypatch):
    monkeypatch.setattr(triggers, "AIRFLOW_SETTLES_AFTER", 0.0)


@pytest.fixture
def errors(monkeypatch):
    """What the trigger logs as errors."""
    messages: list[str] = []
    note = lambda message, *values: messages.append(message % values)  # noqa: E731
    log = SimpleNamespace(error=note, warning=note)
    monkeypatch.setattr(StripeIdentityEventTrigger, "log", log)
    return messages


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 110))


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


@pytest.mark.parametrize("interval", [0, -1, float("nan"), float("inf"), "60", None, True, timedelta(0)], ids=str)
def test_an_interval_that_no_poll_can_have_is_refused_when_the_dag_is_parsed(interval):
    """With 0 it would ask without a pause; with a text it would end after its first poll, again and again."""
    with pytest.raises(ValueError, match="poke_interval"):
        StripeIdentityEventTrigger(poke_interval=interval)


def test_an_interval_may_be_a_timedelta_as_a_sensors():
    _, kwargs = StripeIdentityEventTrigger(poke_interval=timedelta(minutes=5)).serialize()
    assert kwargs["poke_interval"] == 300


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
    assert "".join(errors).isprintable(), "each in one line"


def test_an_event_listed_late_is_fired(server):
    async def scenario():
        session = server.create_session(client_reference_id="late")
        async with Watcher(server) as watcher:
            verified(server, "newer")
            await watcher.until(lambda: watcher.fired)
            server.verify(session["id"], event_created=int(time.time()) - events.LISTED_LATE + 5)
            await watcher.until(lambda: len(watcher.fired) == 2)
            assert [payload["client_reference_id"] for payload in watcher.fired] == ["newer", "late"]

    run(scenario())


@pytest.mark.parametrize(("days", "said"), [(31, True), (29, False)])
def test_falling_more_than_thirty_days_behind_is_said_loudly(server, errors, days, said):
    store = Store()
    read_at = time.time() - days * 86400
    store.values[StripeIdentityEventTrigger()._place_key()] = json.dumps(events.Place(int(read_at)).as_json())

    async def scenario():
        async with Watcher(server, store) as watcher:
            await watcher.polled(1)

    run(scenario())
    assert any(f"{days} days ago" in message for message in errors) is said


def test_a_quiet_time_is_no_falling_behind(server, monkeypatch):
    """Without any event, the place is stored from time to time all the same."""
    monkeypatch.setattr(watched_account, "KEEP_EVERY", 0.0)
    store = Store()

    async def scenario():
        async with Watcher(server, store) as watcher:
            await watcher.until(lambda: store.sets >= 3)
            assert watcher.fired == []

    run(scenario())
    (place,) = store.values.values()
    assert json.loads(place)["since"] == pytest.approx(time.time() - events.LISTED_LATE, abs=30)


class Unavailable(Exception):  # noqa: N818 - as an API server is
    """The store cannot be reached."""


class FailingStore(Store):
    """A store that fails while it is told to."""

    reads = writes = True

    async def aget(self, key):
        if not self.reads:
            raise Unavailable
        return await super().aget(key)

    async def aset(self, key, value):
        if not self.writes:
            raise Unavailable
        await super().aset(key, value)


class StoresOfTwo:
    """What Airflow gives to a trigger of two assets: asked without naming one, it raises."""

    def __init__(self, one, two):
        self._by_name = {"one": one, "two": two}

    async def aget(self, key):
        raise ValueError("Task has 2 concrete inlets and outlets")

    aset = aget


def test_writes_that_fail_repeat_nothing_and_the_place_is_stored_when_it_can_be(server):
    store = FailingStore()
    store.writes = False

    async def scenario():
        async with Watcher(server, store) as watcher:
            sessions = [verified(server)["id"] for _ in range(20)]
            await watcher.until(lambda: len(watcher.fired) >= 20)
            await watcher.polled(10)
            assert [payload["id"] for payload in watcher.fired] == sessions
            store.writes = True
            await watcher.until(lambda: store.sets)
        async with Watcher(server, store) as watcher:
            await watcher.polled(3)
            assert watcher.fired == []

    run(scenario())


@pytest.mark.parametrize("first_start", [True, False])
def test_reads_that_fail_end_nothing_and_miss_nothing(server, first_start):
    """What happens while the store cannot be read is fired, and what happened before it as soon as it can be."""
    store = FailingStore()

    async def scenario():
        sessions = []
        if not first_start:
            async with Watcher(server, store):
                pass
            sessions = [verified(server, "while nobody watched")["id"]]
        store.reads = False
        async with Watcher(server, store) as watcher:
            meanwhile = [verified(server, "meanwhile")["id"] for _ in range(5)]
            await watcher.until(lambda: len(watcher.fired) == 5)
            store.reads = True
            sessions += [*meanwhile, verified(server, "later")["id"]]
            await watcher.until(lambda: len(watcher.fired) >= len(sessions))
            await watcher.polled(3)
            assert sorted(payload["id"] for payload in watcher.fired) == sorted(sessions)
            await watcher.until(lambda: store.sets)

    run(scenario())


def test_two_assets_with_equal_watchers_share_a_trigger_and_each_keeps_its_place(server):
    one, two = Store(), Store()

    async def scenario():
        async with Watcher(server, StoresOfTwo(one, two)) as watcher:
            verified(server)
            await watcher.until(lambda: watcher.fired)
            await watcher.polled(2)
        assert one.values == two.values != {}
        two.values.clear()
        missed = verified(server)
        async with Watcher(server, StoresOfTwo(one, two)) as watcher:
            await watcher.until(lambda: watcher.fired)
            assert [payload["id"] for payload in watcher.fired] == [missed["id"]]

    run(scenario())


@pytest.mark.parametrize("gone", ["one", "two"])
def test_an_asset_whose_store_takes_nothing_any_more_holds_up_no_place_of_the_other(server, gone):
    """A DAG was deleted: Airflow refuses writes for its asset, and a running trigger goes on with both."""
    stores = {"one": Store(), "two": Store()}
    refusing = stores[gone] = FailingStore()
    refusing.writes = False

    async def scenario():
        async with Watcher(server, StoresOfTwo(**stores)) as watcher:
            session = verified(server)
            await watcher.until(lambda: watcher.fired)
            (kept,) = (store for store in stores.values() if store is not refusing)
            await watcher.until(lambda: len(kept.values) == 1 and kept.sets >= 2)
            await watcher.polled(2)
        async with Watcher(server, kept) as watcher:
            later = verified(server)
            await watcher.until(lambda: watcher.fired)
            assert [payload["id"] for payload in watcher.fired] == [later["id"]] != [session["id"]]

    run(scenario())


def test_two_watchers_on_one_asset_keep_a_place_each(server):
    store = Store()

    async def scenario():
        async with Watcher(server, store), Watcher(server, store, statuses=["canceled"]) as canceled:
            server.cancel(server.create_session()["id"])
            await canceled.until(lambda: canceled.fired)
            await canceled.polled(2)
        assert len(store.values) == 2
        session = verified(server)
        async with Watcher(server, store, statuses=["canceled"]) as canceled, Watcher(server, store) as watcher:
            await watcher.until(lambda: watcher.fired)
            await canceled.polled(3)
            assert [payload["id"] for payload in watcher.fired] == [session["id"]]
            assert canceled.fired == []

    run(scenario())


@pytest.mark.parametrize(
    "other",
    [
        {"stripe_conn_id": "b"},
        {"stripe_account": "acct_1"},
        {"statuses": ["canceled"]},
        {"client_reference_id": "user"},
    ],
    ids=str,
)
def test_the_place_belongs_to_what_is_read_and_not_to_how_often(other):
    mine = StripeIdentityEventTrigger()._place_key()
    assert StripeIdentityEventTrigger(**other)._place_key() != mine
    assert StripeIdentityEventTrigger(poke_interval=5)._place_key() == mine


@pytest.mark.parametrize("every", [50, 5])
def test_a_backlog_with_answers_that_fail_is_fired_once_and_in_order(server, every):
    store = Store()

    async def scenario():
        async with Watcher(server, store):
            pass
        sessions = [verified(server)["id"] for _ in range(30_000)]
        server.fault_every(every, Fault.status(500), Fault.reset(), Fault.cut_short(), seed=3)
        before = len(server.requests)
        async with Watcher(server, store) as watcher:
            await watcher.until(lambda: len(watcher.fired) >= 30_000)
            assert [payload["id"] for payload in watcher.fired] == sessions
            # Those that fail, and the polls while it fires.
            assert len(server.requests) - before < 300 / (1 - 1 / every) * 1.2

    run(scenario())


@pytest.mark.parametrize("value", ["old", {"newest": 1, "passed": {}, "read_at": 2}], ids=str)
def test_a_kept_value_that_is_no_place_ends_nothing(server, value):
    store = Store()
    store.values[StripeIdentityEventTrigger()._place_key()] = json.dumps(value)

    async def scenario():
        async with Watcher(server, store) as watcher:
            session = verified(server)
            await watcher.until(lambda: watcher.fired)
            assert watcher.fired[0]["id"] == session["id"]

    run(scenario())


def test_what_is_kept_after_thousands_of_events_is_small(server):
    store = Store()

    async def scenario():
        async with Watcher(server, store) as watcher:
            for _ in range(2_000):
                verified(server)
            await watcher.until(lambda: len(watcher.fired) == 2_000)
            await watcher.until(lambda: any(len(value) > 3000 for value in store.values.values()))

    run(scenario())
    (value,) = store.values.values()
    assert len(value) < 4096


class TestSeveralAccounts:
    """One trigger, one client, a place for each account."""

    accounts = ("acct_1", "acct_2", "acct_3")

    def asked_for(self, server, account, status=None):
        """Count the polls of an account."""
        return sum(
            request.headers.get("Stripe-Account") == account and status in (None, request.status)
            for request in list(server.requests)
        )

    async def each_polled(self, watcher, times=2):
        for account in self.accounts:
            goal = self.asked_for(watcher.server, account) + times + 1
            await watcher.until(lambda: self.asked_for(watcher.server, account) >= goal)  # noqa: B023

    @pytest.fixture(autouse=True)
    def connected(self, server):
        for account in self.accounts:
            server.connect_account(account)

    def test_events_of_each_are_fired_once_with_their_account_and_those_of_others_are_not(self, server):
        async def scenario():
            async with Watcher(server, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher)
                verified(server)  # the platform's own
                verified(server, account="acct_4")
                expected = {verified(server, account=account)["id"]: account for account in self.accounts}
                await watcher.until(lambda: len(watcher.fired) >= 3)
                await self.each_polled(watcher)
                assert {payload["id"]: payload["stripe_account"] for payload in watcher.fired} == expected
                assert len(watcher.fired) == 3

        run(scenario())

    def test_each_goes_on_from_its_own_place_over_a_restart(self, server):
        store = Store()

        async def scenario():
            async with Watcher(server, store, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher)
                verified(server, account="acct_1")
                await watcher.until(lambda: watcher.fired)
                await self.each_polled(watcher)
            assert len(store.values) == 3
            missed = [verified(server, account=account)["id"] for account in self.accounts]
            async with Watcher(server, store, stripe_accounts=self.accounts) as watcher:
                await watcher.until(lambda: len(watcher.fired) >= 3)
                await self.each_polled(watcher)
                assert sorted(payload["id"] for payload in watcher.fired) == sorted(missed)

        run(scenario())

    def test_one_account_by_itself_and_among_others_has_the_same_place(self):
        alone = StripeIdentityEventTrigger(stripe_account="acct_1")._place_key()
        among = StripeIdentityEventTrigger(stripe_accounts=self.accounts)
        assert among._place_key("acct_1") == alone
        assert len({among._place_key(account) for account in self.accounts}) == 3

    def test_one_that_cannot_be_read_is_named_once_and_silences_no_other(self, server, errors):
        refusal = Fault.status(403, error={"code": "account_invalid"}).response
        server.after_answer = lambda request, _: refusal if request.headers["Stripe-Account"] == "acct_2" else None

        async def scenario():
            async with Watcher(server, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher, 3)
                expected = {verified(server, account=account)["id"] for account in ("acct_1", "acct_3")}
                await watcher.until(lambda: len(watcher.fired) >= 2)
                assert {payload["id"] for payload in watcher.fired} == expected
                server.after_answer = None
                reads = self.asked_for(server, "acct_2", 200)
                await watcher.until(lambda: self.asked_for(server, "acct_2", 200) > reads + 3)
                later = verified(server, account="acct_2")
                await watcher.until(lambda: len(watcher.fired) >= 3)
                assert watcher.fired[-1]["id"] == later["id"]

        run(scenario())
        (message,) = errors
        assert message.startswith("Account acct_2: ")

    def test_what_fails_for_all_is_logged_once(self, server, errors):
        async def scenario():
            async with Watcher(server, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher)
                keys = dict(server.api_keys)
                server.api_keys.clear()
                await self.each_polled(watcher, 5)
                server.api_keys.update(keys)
                verified(server, account="acct_3")
                await watcher.until(lambda: watcher.fired)

        run(scenario())
        assert sum("Check the API key" in message for message in errors) <= 2, "once, and for a request under way"

    def test_one_whose_requests_hang_delays_no_other(self, server):
        hangs = threading.Event()

        def hang(request):
            if request.headers.get("Stripe-Account") == "acct_1":
                hangs.wait(100)

        async def scenario():
            async with Watcher(server, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher)
                server.before_answer = hang
                before = self.asked_for(server, "acct_1")
                await watcher.until(lambda: self.asked_for(server, "acct_1") > before)
                session = verified(server, account="acct_3")
                await watcher.until(lambda: watcher.fired)
                assert watcher.fired[0]["id"] == session["id"]
                hangs.set()

        run(scenario())

    def test_a_backlog_of_all_is_fired_oldest_first_in_each(self, server):
        store = Store()

        async def scenario():
            async with Watcher(server, store, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher)
            sessions = {
                account: [verified(server, account=account)["id"] for _ in range(350)] for account in self.accounts
            }
            server.fault_every(5, Fault.status(500), Fault.reset(), Fault.cut_short(), seed=3)
            async with Watcher(server, store, stripe_accounts=self.accounts) as watcher:
                await watcher.until(lambda: len(watcher.fired) >= 3 * 350)
                for account, ids in sessions.items():
                    assert [p["id"] for p in watcher.fired if p["stripe_account"] == account] == ids

        run(scenario())

    def test_all_connected_accounts_and_those_that_come_later(self, server, monkeypatch):
        """A new account from the listing before on, also over a restart; one that leaves is asked for no more."""
        monkeypatch.setattr(watched_account, "LIST_ACCOUNTS_EVERY", 0.05)
        store = Store()

        async def scenario():
            async with Watcher(server, store, stripe_accounts="connected") as watcher:
                await self.each_polled(watcher)
                expected = [verified(server, account="acct_2")["id"], verified(server, account="acct_new")["id"]]
                await watcher.until(lambda: len(watcher.fired) >= 2)
                assert sorted(payload["id"] for payload in watcher.fired) == sorted(expected)
                server.revoke_account("acct_2")
                await self.listed(watcher)
                await watcher.until(lambda: len(store.values) == 5)  # of four accounts, and of the list
                before = self.asked_for(server, "acct_2")
                await self.listed(watcher)
                assert self.asked_for(server, "acct_2") == before
            missed = verified(server, account="acct_newer")
            async with Watcher(server, store, stripe_accounts="connected") as watcher:
                await watcher.until(lambda: watcher.fired)
                await self.listed(watcher)
                assert [payload["id"] for payload in watcher.fired] == [missed["id"]]

        run(scenario())

    async def listed(self, watcher):
        """Wait for two more listings, and polls of an account after them."""

        def listings():
            return sum(request.path == "/v1/accounts" for request in list(watcher.server.requests))

        goal = listings() + 3
        await watcher.until(lambda: listings() >= goal)
        goal = self.asked_for(watcher.server, "acct_1") + 3
        await watcher.until(lambda: self.asked_for(watcher.server, "acct_1") >= goal)

    @shared_polling
    def test_in_airflows_triggerer_it_fires_and_leaves_no_task_behind(self, server):
        async def scenario():
            before = asyncio.all_tasks()
            async with triggerer() as made:
                made.start(StripeIdentityEventTrigger(stripe_accounts="connected", poke_interval=0.01))
                await made.until(lambda: all(self.asked_for(server, account) >= 4 for account in self.accounts))
                expected = {verified(server, account=account)["id"] for account in self.accounts}
                await made.until(lambda: len(made.runner.events) >= 3)
                assert {entry.event.payload["id"] for entry in made.runner.events} == expected
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.01)

        run(scenario())

    def test_a_list_of_accounts_that_fails_is_tried_again(self, server, errors):
        failing = Fault.status(500).response
        server.after_answer = lambda request, _: failing if request.path == "/v1/accounts" else None

        async def scenario():
            async with Watcher(server, stripe_accounts="connected") as watcher:
                assert {request.path for request in list(server.requests)} == {"/v1/accounts"}
                server.after_answer = None
                await self.each_polled(watcher)
                session = verified(server, account="acct_3")
                await watcher.until(lambda: watcher.fired)
                assert watcher.fired[0]["id"] == session["id"]

        run(scenario())
        assert len(errors) == 1

    def test_they_share_one_client(self, server):
        async def scenario():
            async with Watcher(server, stripe_accounts=self.accounts) as watcher:
                await self.each_polled(watcher)
                hooks = [shared._hook for shared in list(connections._shared.values())]
                (client,) = (hook.client for hook in hooks if hook and hook.client.base_url == server.url)
                assert client.counts["requests"] >= len(server.requests) - 3

        run(scenario())

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"stripe_accounts": []}, "stripe_accounts is empty"),
            ({"stripe_accounts": "acct_1"}, "stripe_accounts must be a list"),
            ({"stripe_accounts": ["acct_1/../x"]}, "stripe_accounts must be a list"),
            ({"stripe_accounts": ["acct_1"], "stripe_account": "acct_2"}, "exclude each other"),
        ],
        ids=str,
    )
    def test_what_cannot_be_meant_is_refused_when_the_dag_is_parsed(self, arguments, said):
        with pytest.raises(ValueError, match=said):
            StripeIdentityEventTrigger(**arguments)


def test_a_store_that_never_answers_stops_nothing(server, monkeypatch):
    monkeypatch.setattr(places, "STORE_TIMEOUT", 0.01)

    class Silent:
        async def aget(self, key):
            await asyncio.Event().wait()

        async def aset(self, key, value):
            await asyncio.Event().wait()

    async def scenario():
        async with Watcher(server, Silent()) as watcher:
            session = verified(server)
            await watcher.until(lambda: watcher.fired)
            await watcher.polled(3)
            assert [payload["id"] for payload in watcher.fired] == [session["id"]]

    run(scenario())
