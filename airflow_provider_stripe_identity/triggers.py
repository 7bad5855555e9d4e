"""Waiting without a worker: the triggers that Airflow's triggerer runs."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Hashable
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_stripe_identity.changes import Changes, ChangeStream, EventCursor
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.judgement import Verdict, judge
from airflow_provider_stripe_identity.stripe_api import StripeError
from airflow_provider_stripe_identity.stripe_api.parameters import STATUSES

log = logging.getLogger(__name__)

#: An event within a second or two of the deferral can overtake the scheduler's own bookkeeping of it.
FIRST_CHECK_AFTER = 3.0
#: A sensor that shares a poll checks its own reference as often as this, then ever less often, in case that
#: Stripe's events missed a change.
RECHECK_AFTER = 15 * 60.0
MAX_RECHECK_AFTER = 24 * 3600.0
#: Checks at once of all sensors on one connection; thousands may begin to wait in the same second.
CHECKS_AT_ONCE = 3
#: Where an asset's state store holds the place in Stripe's events, and how often it is stored without any event.
CURSOR_KEY = "stripe_identity_events"
KEEP_EVERY = 3600.0
#: By then the triggerer has stored what was fired, and the scheduler has made the run of an asset event.
AIRFLOW_SETTLES_AFTER = 5.0

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[Hashable, asyncio.Semaphore]] = WeakKeyDictionary()


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
    :param failure_statuses: as in :func:`~airflow_provider_stripe_identity.judgement.judge`
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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check this reference alone until there is a verdict."""
        if not hasattr(BaseEventTrigger, "shared_stream_key"):
            _say_what_sharing_would_save()
        await asyncio.sleep(max(FIRST_CHECK_AFTER, self.waiting_since + self.poke_interval - time.time()))
        while True:
            event, _ = await self._check()
            if event:
                yield event
                return
            await asyncio.sleep(self._pause())

    def shared_stream_key(self) -> Hashable | None:
        """Share one poll with the triggers that would ask the same of Stripe, as often."""
        if self.exponential_backoff:
            return None
        return ("stripe_identity", self.stripe_conn_id, self.stripe_account, self.poke_interval)

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[Changes]:
        """Poll Stripe's events for all the triggers with one key; they differ in all other arguments."""
        stream = ChangeStream(kwargs["stripe_conn_id"], kwargs["stripe_account"])
        while True:
            if (changes := await stream.poll()) is not None:
                yield changes
            await asyncio.sleep(kwargs["poke_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Changes]) -> AsyncIterator[TriggerEvent]:
        """Watch the changes for this reference, and check it when they, or the time, call for it."""
        await asyncio.sleep(FIRST_CHECK_AFTER)  # changes are queued meanwhile
        alone = False
        next_check = time.monotonic()
        changes = asyncio.ensure_future(anext(shared_stream))
        try:
            while True:
                if time.monotonic() >= next_check:
                    event, answered = await self._check()
                    if event:
                        yield event
                        return
                    pause = self._recheck_pause() if answered and not alone else self.poke_interval
                    next_check = time.monotonic() + pause
                await asyncio.wait({changes}, timeout=max(next_check - time.monotonic(), 0))
                if not changes.done():
                    continue
                seen = changes.result()
                changes = asyncio.ensure_future(anext(shared_stream))
                if seen.failed:
                    yield TriggerEvent({"failed": seen.failed})
                    return
                if seen.unavailable and not alone:
                    next_check = min(next_check, time.monotonic() + self.poke_interval)
                alone = seen.unavailable
                for session in seen.of(self.client_reference_id):
                    if session["created"] < (self.created_gte or 0):
                        continue
                    if session["status"] == "verified" and self.related_customer is None:
                        yield TriggerEvent({"session": session})
                        return
                    # Whether all sessions failed, or whose customer it is, the event does not say.
                    if session["status"] in ("verified", *self.failure_statuses):
                        next_check = time.monotonic()
        finally:
            changes.cancel()

    async def _check(self) -> tuple[TriggerEvent | None, bool]:
        """Return the event to fire with, if there is a verdict, and whether Stripe answered at all."""
        loop = asyncio.get_running_loop()
        turns = _turns.setdefault(loop, defaultdict(lambda: asyncio.Semaphore(CHECKS_AT_ONCE)))
        try:
            async with turns[self.stripe_conn_id]:
                # The next check is the retry, so that no thread sleeps for one.
                hook = await StripeIdentityHook.connected(
                    self.stripe_conn_id, stripe_account=self.stripe_account, max_retries=0
                )
                verdict = await asyncio.to_thread(self._judge, hook)
        except ValueError as error:
            return TriggerEvent({"failed": str(error)}), True
        except StripeError as error:
            if error.permanent:
                return TriggerEvent({"failed": str(error)}), True
            self.log.warning("%s - checking again in the next interval", error)
            return None, False
        self.log.info("%s: %s", self.client_reference_id, verdict.because)
        if verdict.session:
            return TriggerEvent({"session": verdict.session}), True
        if verdict.failed:
            return TriggerEvent({"failed": f"{self.client_reference_id}: {verdict.because}"}), True
        return None, True

    def _judge(self, hook: StripeIdentityHook) -> Verdict:
        sessions = hook.list_verification_sessions(
            client_reference_id=self.client_reference_id,
            created_gte=self.created_gte,
            related_customer=self.related_customer,
        )
        return judge(sessions, failure_statuses=self.failure_statuses, created_gte=self.created_gte)

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


class StripeIdentityEventTrigger(BaseEventTrigger):
    """
    Fires for every session that becomes verified, for event-driven scheduling with an ``AssetWatcher``.

    Polls Stripe's events, oldest first, from where it stopped: on Airflow 3.3 and newer the place is kept in the
    asset's state store, over restarts of the triggerer, and before, every start of the triggerer begins anew. The very
    first start begins with what happens after it. An event is never missed while Stripe keeps it (30 days); it is
    fired again only if the triggerer ends in the seconds between firing it and keeping the place, so the payload
    names the event.

    The payload is ``{"event", "at", "id", "client_reference_id", "status", "livemode"}``: event id, its time in epoch
    seconds, and of the session its id, reference, status at that time, and mode.

    :param stripe_conn_id: Airflow connection of type ``stripe_identity``; the key needs Events: Read
    :param stripe_account: connected account to read, instead of the connection's
    :param statuses: fire for sessions that get one of these
    :param client_reference_id: fire for sessions with this reference alone
    :param poke_interval: seconds from one poll to the next
    """

    supports_triggerer_queue = True

    def __init__(
        self,
        *,
        stripe_conn_id: str = StripeIdentityHook.default_conn_name,
        stripe_account: str | None = None,
        statuses: Collection[str] = ("verified",),
        client_reference_id: str | None = None,
        poke_interval: float = 60.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if isinstance(statuses, str) or not statuses or not {*statuses} <= {*STATUSES}:
            raise ValueError(f"statuses must be a list of {', '.join(STATUSES)}, not {statuses!r}")
        self.stripe_conn_id = stripe_conn_id
        self.stripe_account = stripe_account
        self.statuses = sorted(statuses)
        self.client_reference_id = client_reference_id
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to make this trigger again; the key is not among it."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "stripe_conn_id": self.stripe_conn_id,
                "stripe_account": self.stripe_account,
                "statuses": self.statuses,
                "client_reference_id": self.client_reference_id,
                "poke_interval": self.poke_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for ever: nobody but the user would start a watcher again, so no error ends it."""
        cursor = await self._kept_cursor()
        keep_at = 0.0
        while True:
            try:
                hook = await StripeIdentityHook.connected(
                    self.stripe_conn_id, stripe_account=self.stripe_account, max_retries=0
                )
                if cursor is None:
                    cursor = await asyncio.to_thread(EventCursor.at_the_end, hook, self._event_types)
                happened = await asyncio.to_thread(cursor.fresh, hook, self._event_types)
            except (ValueError, StripeError) as error:
                self.log.error("%s - polling again in the next interval", error)
                await asyncio.sleep(self.poke_interval)
                continue
            wanted = [p for p in happened if self.client_reference_id in (None, p["client_reference_id"])]
            for number, payload in enumerate(wanted, start=1):
                if 1 < number == len(wanted):
                    # An asset event that comes while an earlier one is still queued starts no run: it waits for the
                    # next one (https://github.com/apache/airflow/issues/54659). So let none be queued before the last.
                    await asyncio.sleep(AIRFLOW_SETTLES_AFTER)
                yield TriggerEvent(payload)
            for payload in happened:
                cursor.passed(payload)
            if happened or time.monotonic() >= keep_at:
                await asyncio.sleep(AIRFLOW_SETTLES_AFTER)
                await self._keep(cursor)
                keep_at = time.monotonic() + KEEP_EVERY
            await asyncio.sleep(self.poke_interval)

    @property
    def _event_types(self) -> list[str]:
        return [f"identity.verification_session.{status}" for status in self.statuses]

    async def _kept_cursor(self) -> EventCursor | None:
        store = getattr(self, "asset_state_store", None)
        kept = await store.aget(CURSOR_KEY) if store else None
        if kept is None:
            return None
        cursor = EventCursor(**kept)
        if (days := (time.time() - cursor.read_at) / 86400) > 30:
            self.log.error(
                "Stripe's events were last read %.0f days ago and Stripe keeps them for 30 days: sessions that became "
                "%s in between are not reported. Compare with an export of that time",
                days,
                " or ".join(self.statuses),
            )
        return cursor

    async def _keep(self, cursor: EventCursor) -> None:
        if store := getattr(self, "asset_state_store", None):
            await store.aset(CURSOR_KEY, cursor.as_json())
