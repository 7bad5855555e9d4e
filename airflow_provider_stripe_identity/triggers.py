"""Waiting without a worker: the triggers that Airflow's triggerer runs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Hashable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any, Literal

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_stripe_identity._airflow.failures import EXPECTED_ERRORS, Failures
from airflow_provider_stripe_identity._airflow.version_compat import AIRFLOW_V_3_3_PLUS
from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS_ARE_KEPT
from airflow_provider_stripe_identity._stripe_api.parameters import STATUSES
from airflow_provider_stripe_identity._waiting.changes import Changes, poll_changes
from airflow_provider_stripe_identity._waiting.connections import SharedConnection
from airflow_provider_stripe_identity._waiting.events import LISTED_LATE, Event, Place
from airflow_provider_stripe_identity._waiting.places import KeptPlace
from airflow_provider_stripe_identity._waiting.verdict import Verdict, evaluate
from airflow_provider_stripe_identity._waiting.watched_account import Batch, ConnectedAccounts, WatchedAccount
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

log = logging.getLogger(__name__)

#: An event soon after the deferral can overtake Airflow's own bookkeeping of it, and then Airflow fails the task: its
#: supervisor may notice only after ``[workers] min_heartbeat_interval``, 5 seconds, that the task's process has ended.
FIRST_CHECK_AFTER = 10.0
#: A sensor that shares a poll checks its own reference as often as this, then less and less often, in case that
#: Stripe's events missed a change.
RECHECK_AFTER = 15 * 60.0
MAX_RECHECK_AFTER = 24 * 3600.0
#: By then the triggerer has stored what was fired, and the scheduler has made the run of an asset event.
AIRFLOW_SETTLES_AFTER = 5.0
#: After as many events of a backlog the places are stored.
KEEP_EVERY_EVENTS = 1000


@cache
def _say_what_sharing_would_save() -> None:
    log.info(
        "Every waiting sensor polls Stripe on its own. On Airflow 3.3 and newer, all of them would share one poll of "
        "Stripe's events, if the key has the permission Events: Read"
    )


class StripeIdentityVerifiedTrigger(BaseEventTrigger):
    """
    Fires when a session of a reference is verified, or none of them can be any more.

    From Airflow 3.3 on, the triggers of one connection, account and interval share one poll of Stripe's events, and
    each checks its own reference only when it joins, when the events say that it may have failed, and now and then to
    be safe. Before, without the key's permission to read events, or with ``exponential_backoff``, each checks its
    reference once an interval. Stripe's transient errors do not end the wait; the next check is the next try.

    Times are epoch seconds, intervals seconds.

    :param client_reference_id: the reference to wait for
    :param stripe_conn_id: Airflow connection of type ``stripe_identity``
    :param created_gte: only sessions created then or later
    :param related_customer: only sessions of this Customer
    :param stripe_account: connected account to read, instead of the connection's
    :param failure_statuses: as in :func:`~airflow_provider_stripe_identity._waiting.verdict.evaluate`
    :param poke_interval: from one check, or one poll, to the next
    :param exponential_backoff: let that grow with the time waited so far
    :param max_wait: but not beyond this
    :param waiting_since: when the sensor made the first check
    """

    #: Without this, Airflow forgets the queue of a task whose trigger is an event trigger.
    supports_triggerer_queue = True

    def __init__(
        self,
        *,
        client_reference_id: str,
        stripe_conn_id: str,
        created_gte: int | None = None,
        related_customer: str | None = None,
        stripe_account: str | None = None,
        failure_statuses: Collection[str] = ("canceled",),
        poke_interval: float = 60.0,
        exponential_backoff: bool = False,
        max_wait: float | None = None,
        waiting_since: float | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.client_reference_id = client_reference_id
        self.stripe_conn_id = stripe_conn_id
        self.created_gte = created_gte
        self.related_customer = related_customer
        self.stripe_account = stripe_account
        self.failure_statuses = list(failure_statuses)
        self.poke_interval = poke_interval
        self.exponential_backoff = exponential_backoff
        self.max_wait = max_wait
        self.waiting_since = time.time() if waiting_since is None else waiting_since

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again; the key is not among it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "client_reference_id": self.client_reference_id,
                "stripe_conn_id": self.stripe_conn_id,
                "created_gte": self.created_gte,
                "related_customer": self.related_customer,
                "stripe_account": self.stripe_account,
                "failure_statuses": self.failure_statuses,
                "poke_interval": self.poke_interval,
                "exponential_backoff": self.exponential_backoff,
                "max_wait": self.max_wait,
                "waiting_since": self.waiting_since,
            },
        )

    @property
    def schedule(self) -> str:
        """How it waits, for the log."""
        if AIRFLOW_V_3_3_PLUS and self.shared_stream_key():
            return (
                f"sharing one poll of Stripe's events every {self.poke_interval:g} s with the other sensors on "
                f"connection {self.stripe_conn_id}, if its key may read events"
            )
        return f"checking on its own every {self.poke_interval:g} s{' at first' if self.exponential_backoff else ''}"

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check this reference alone until there is a verdict."""
        if not AIRFLOW_V_3_3_PLUS:
            _say_what_sharing_would_save()
        check = _Check(self)
        # The sensor's clock was that of another machine.
        until_next = min(self.waiting_since + self.poke_interval - time.time(), self.poke_interval)
        await asyncio.sleep(max(FIRST_CHECK_AFTER, until_next))
        while (event := await check()) is None:
            pause = self._pause()
            self._log_verdict(check, pause, "without a shared poll")
            await asyncio.sleep(pause)
        yield event

    def shared_stream_key(self) -> Hashable | None:
        """Share one poll with the triggers that would ask the same of Stripe, as often."""
        if self.exponential_backoff:
            return None
        return ("stripe_identity", self.stripe_conn_id, self.stripe_account, self.poke_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Changes]:
        """Poll Stripe's events for all the triggers with one key; they differ in all other arguments."""
        connection = SharedConnection.of(kwargs["stripe_conn_id"], kwargs["stripe_account"])
        async for changes in poll_changes(connection, kwargs["poke_interval"]):
            yield changes

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Changes]) -> AsyncIterator[TriggerEvent]:
        """Fire by an event that decides, and check this reference when events, or the time, call for it."""
        check = _Check(self)
        await asyncio.sleep(FIRST_CHECK_AFTER)  # changes are queued meanwhile
        alone = False
        next_check = time.monotonic()
        changes: asyncio.Future[Any] = asyncio.ensure_future(anext(shared_stream))
        checking: asyncio.Future[Any] | None = None
        try:
            while True:
                if checking is None and time.monotonic() >= next_check:
                    checking, next_check = asyncio.ensure_future(check()), math.inf
                await asyncio.wait(
                    [changes, checking] if checking else [changes],
                    timeout=None if checking else max(next_check - time.monotonic(), 0),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if changes.done():
                    seen = changes.result()
                    changes = asyncio.ensure_future(anext(shared_stream))
                    if seen.failed:
                        yield TriggerEvent({"failed": seen.failed})
                        return
                    if seen.unavailable and not alone:
                        next_check = min(next_check, time.monotonic() + self.poke_interval)
                        if not checking:
                            self._log_verdict(check, self.poke_interval, "without a shared poll")
                    alone = seen.unavailable
                    # Oldest first, so that the last one says what to expect of the list.
                    for event in reversed(seen.by_reference.get(self.client_reference_id, ())):
                        if self._decides(event):
                            yield TriggerEvent({"session": event.session})
                            return
                        if check.expect(event):
                            next_check = time.monotonic()
                if checking and checking.done():
                    fired, checking = checking.result(), None
                    if fired:
                        yield fired
                        return
                    soon = alone or check.failed or check.contradicts_events()
                    pause = self.poke_interval if soon else self._recheck_pause()
                    self._log_verdict(check, pause, "without a shared poll" if alone else "or when an event says so")
                    next_check = min(next_check, time.monotonic() + pause)
        finally:
            changes.cancel()
            if checking:
                checking.cancel()

    def _decides(self, event: Event) -> bool:
        return (
            event.session["status"] == "verified"
            and event.session["created"] >= (self.created_gte or 0)
            and self.related_customer in (None, event.related_customer)
        )

    def _log_verdict(self, check: _Check, pause: float, how: str) -> None:
        if not check.failed:
            self.log.info(
                "%s: %s; the next check is in %.0f s, %s", self.client_reference_id, check.verdict.reason, pause, how
            )

    def _pause(self) -> float:
        if not self.exponential_backoff:
            return self.poke_interval
        pause = self._as_long_again(self.poke_interval)
        return pause if self.max_wait is None else min(pause, self.max_wait)

    def _recheck_pause(self) -> float:
        return min(self._as_long_again(RECHECK_AFTER), MAX_RECHECK_AFTER)

    def _as_long_again(self, at_least: float) -> float:
        """Waiting as long again as so far doubles the pauses, and needs no count that a restart would lose."""
        waited = time.time() - self.waiting_since
        return max(at_least, waited) * random.uniform(1.0, 1.25)  # noqa: S311 - spreads triggers that began together


class _Check:
    """The checks of one trigger, and what it expects of the next one."""

    def __init__(self, trigger: StripeIdentityVerifiedTrigger) -> None:
        self._trigger = trigger
        self._connection = SharedConnection.of(trigger.stripe_conn_id, trigger.stripe_account)
        self._failures = Failures(trigger.log, trigger.poke_interval)
        self._expected: dict[str, tuple[str, float]] = {}
        #: What the last check that succeeded found.
        self.verdict = Verdict(None, False, "")
        #: Whether the last check had no response.
        self.failed = False

    async def __call__(self) -> TriggerEvent | None:
        """Check once, and return the event to fire with, if the wait is over."""
        trigger = self._trigger
        try:
            self.verdict = await self._connection.check(self._evaluate)
        except EXPECTED_ERRORS as error:
            self.failed = True
            reason = self._failures.happened(error)
            return TriggerEvent({"failed": reason}) if reason else None
        self.failed = False
        self._failures.over()
        if self.verdict.session or self.verdict.failed:
            trigger.log.info("%s: %s", trigger.client_reference_id, self.verdict.reason)
        if self.verdict.session:
            return TriggerEvent({"session": self.verdict.session})
        if self.verdict.failed:
            return TriggerEvent({"failed": f"{trigger.client_reference_id}: {self.verdict.reason}"})
        return None

    def expect(self, event: Event) -> bool:
        """Note what an event says of a session, and return whether only a check can say what follows from it."""
        trigger, session = self._trigger, event.session
        if session["created"] < (trigger.created_gte or 0):
            return False
        customer = trigger.related_customer
        if None not in (customer, event.related_customer) and customer != event.related_customer:
            return False
        asks = session["status"] in ("verified", *trigger.failure_statuses)
        if asks or session["id"] in self._expected:
            self._expected[session["id"]] = session["status"], time.monotonic() + LISTED_LATE
        return asks

    def contradicts_events(self) -> bool:
        """Return whether the list is behind the events; a session that it leaves out forever counts for a while."""
        now = time.monotonic()
        self._expected = {
            session_id: (status, until)
            for session_id, (status, until) in self._expected.items()
            if self.verdict.statuses.get(session_id) != status and now < until
        }
        return bool(self._expected)

    def _evaluate(self, hook: StripeIdentityHook) -> Verdict:
        trigger = self._trigger
        sessions = hook.list_verification_sessions(
            client_reference_id=trigger.client_reference_id,
            created_gte=trigger.created_gte,
            related_customer=trigger.related_customer,
        )
        return evaluate(sessions, failure_statuses=trigger.failure_statuses, created_gte=trigger.created_gte)


class StripeIdentityEventTrigger(BaseEventTrigger):
    """
    Fires for every session that becomes verified, for event-driven scheduling with an ``AssetWatcher``.

    Polls Stripe's events, oldest first, from where it stopped: on Airflow 3.3 and newer the place is kept in the state
    store of each of its assets, over restarts of the triggerer; on older ones, every start of the triggerer begins with
    new events only. The very first start begins with what happens after it. An event is not missed while Stripe keeps
    it (30 days), listed late or not; it may be repeated if the triggerer stops before the place is stored, so
    deduplicate on ``event``.

    The payload is ``{"event", "at", "id", "client_reference_id", "status", "livemode"}``: event id, its time in epoch
    seconds, and of the session its id, reference, status at that time, and mode. With ``stripe_accounts`` it has
    ``"stripe_account"`` too, the account of the session.

    :param stripe_conn_id: Airflow connection of type ``stripe_identity``; the key needs Events: Read
    :param stripe_account: connected account to read, instead of the connection's
    :param stripe_accounts: connected accounts to read: a list of their ids, or ``"connected"`` for all that the
        platform has, listed every quarter of an hour. Each is polled, and has a place, of its own; one that cannot be
        read is logged, tried again at every interval, and delays no other
    :param statuses: fire for sessions that get one of these
    :param client_reference_id: fire for sessions with this reference alone
    :param poke_interval: from one poll to the next, of each account: seconds, or a ``timedelta``
    """

    supports_triggerer_queue = True

    def __init__(
        self,
        *,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        stripe_account: str | None = None,
        stripe_accounts: Sequence[str] | Literal["connected"] | None = None,
        statuses: Collection[str] = ("verified",),
        client_reference_id: str | None = None,
        poke_interval: float | timedelta = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if isinstance(statuses, str) or not statuses or not {*statuses} <= {*STATUSES}:
            raise ValueError(f"statuses must be a list of {', '.join(STATUSES)}, not {statuses!r}")
        if stripe_account is not None and stripe_accounts is not None:
            raise ValueError("stripe_account and stripe_accounts exclude each other; give one")
        seconds = poke_interval.total_seconds() if isinstance(poke_interval, timedelta) else poke_interval
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
            raise ValueError(f"poke_interval must be seconds, or a timedelta, above 0, not {poke_interval!r}")
        self.stripe_conn_id = stripe_conn_id
        self.stripe_account = stripe_account
        self.stripe_accounts = stripe_accounts
        if stripe_accounts is not None and stripe_accounts != "connected":
            self.stripe_accounts = list(Accounts(stripe_accounts).ids)
        self.statuses = sorted(statuses)
        self.client_reference_id = client_reference_id
        self.poke_interval = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again; the key is not among it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "stripe_conn_id": self.stripe_conn_id,
                "stripe_account": self.stripe_account,
                "stripe_accounts": self.stripe_accounts,
                "statuses": self.statuses,
                "client_reference_id": self.client_reference_id,
                "poke_interval": self.poke_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll forever: nobody but the user would start a watcher again, so no error ends it."""
        batches: asyncio.Queue[Batch | asyncio.Task[None]] = asyncio.Queue()
        # Of several accounts, the requests share one client: its rate and its connections.
        connection = SharedConnection.of(self.stripe_conn_id, self.stripe_account)
        logged: set[object] = set()
        tasks: dict[str | None, asyncio.Task[None]] = {}

        def start(name: str | None, watching: Coroutine[Any, Any, None]) -> None:
            tasks[name] = asyncio.create_task(watching)
            tasks[name].add_done_callback(batches.put_nowait)

        def watch(accounts: Sequence[str | None], since: Place | None = None) -> None:
            for gone in tasks.keys() - {*accounts, "connected"}:
                tasks.pop(gone).cancel()
            for account in accounts:
                if account not in tasks:
                    watched = WatchedAccount(
                        connection,
                        account,
                        self._event_types,
                        kept=self._kept_place(account),
                        failures=Failures(self.log, self.poke_interval, account=account, logged=logged),
                        poke_interval=self.poke_interval,
                        gone_on_from=self._say_what_is_missing,
                        since=since,
                    )
                    start(account, watched.watch(batches))

        if self.stripe_accounts == "connected":
            connected = ConnectedAccounts(
                connection,
                kept=self._kept_place("connected"),
                failures=Failures(self.log, self.poke_interval, logged=logged),
                poke_interval=self.poke_interval,
            )
            start("connected", connected.follow(watch))
        else:
            watch(self.stripe_accounts or [None])
        try:
            while True:
                found = [await batches.get(), *(batches.get_nowait() for _ in range(batches.qsize()))]
                for ended in found:
                    if isinstance(ended, asyncio.Task) and not ended.cancelled():
                        ended.result()  # raises: only a defect ends it
                async for event in self._fire([batch for batch in found if isinstance(batch, Batch)]):
                    yield event
        finally:
            for task in tasks.values():
                task.cancel()

    async def _fire(self, batches: Sequence[Batch]) -> AsyncIterator[TriggerEvent]:
        """Fire for the events of one or more accounts, oldest first, and keep the places of all of them."""
        events = sorted(
            ((event, batch) for batch in batches for event in batch.events), key=lambda found: found[0].created
        )
        wanted = [event for event, _ in events if self._wants(event)]
        for number, (event, batch) in enumerate(events, start=1):
            if self._wants(event):
                if event is wanted[-1] and event is not wanted[0]:
                    # An asset event that comes while an earlier one is still queued starts no run: it waits for the
                    # next one (https://github.com/apache/airflow/issues/54659). So let none be queued before the last.
                    await asyncio.sleep(AIRFLOW_SETTLES_AFTER)
                yield TriggerEvent(self._payload(event, batch.account))
            batch.handled += 1
            if number % KEEP_EVERY_EVENTS == 0 and number < len(events):
                await asyncio.sleep(AIRFLOW_SETTLES_AFTER)
                for found in batches:
                    found.keep()
        if events:
            await asyncio.sleep(AIRFLOW_SETTLES_AFTER)
        for batch in batches:
            batch.keep()
            batch.done.set()

    @property
    def _event_types(self) -> list[str]:
        return [f"identity.verification_session.{status}" for status in self.statuses]

    def _place_key(self, account: str | None = None) -> str:
        """What events are read, and which of them are fired: another watcher on the same asset has another place."""
        reads = [self.stripe_conn_id, account or self.stripe_account, self.statuses, self.client_reference_id]
        return f"stripe_identity_events_{hashlib.blake2b(json.dumps(reads).encode(), digest_size=8).hexdigest()}"

    def _kept_place(self, account: str | None) -> KeptPlace:
        return KeptPlace(getattr(self, "asset_state_store", None), self._place_key(account))

    def _wants(self, event: Event) -> bool:
        return self.client_reference_id in (None, event.session["client_reference_id"])

    def _payload(self, event: Event, account: str | None) -> dict[str, Any]:
        return {
            "event": event.id,
            "at": event.created,
            **{name: event.session[name] for name in ("id", "client_reference_id", "status", "livemode")},
            **({"stripe_account": account} if account else {}),
        }

    def _say_what_is_missing(self, place: Place) -> None:
        if place.forgotten:
            self.log.warning("The last %d events before the restart may be fired again", place.forgotten)
        behind = time.time() - place.since
        if behind > EVENTS_ARE_KEPT and place.since:
            self.log.error(
                "Stripe's events were last read %.0f days ago and Stripe keeps them for %.0f days: sessions that "
                "became %s in between are not reported. Compare with an export of that time",
                behind / 86400,
                EVENTS_ARE_KEPT / 86400,
                " or ".join(self.statuses),
            )
