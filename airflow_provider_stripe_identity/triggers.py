"""Waiting without a worker: the triggers that Airflow's triggerer runs."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Hashable
from typing import Any
from weakref import WeakKeyDictionary

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_provider_stripe_identity.changes import Changes, ChangeStream
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.judgement import Verdict, judge
from airflow_provider_stripe_identity.stripe_api import StripeError

#: An event within a second or two of the deferral can overtake the scheduler's own bookkeeping of it.
FIRST_CHECK_AFTER = 3.0
#: A sensor that shares a poll checks its own reference as often as this, then ever less often, in case that
#: Stripe's events missed a change.
RECHECK_AFTER = 15 * 60.0
MAX_RECHECK_AFTER = 24 * 3600.0
#: Checks at once of all sensors on one connection; thousands may begin to wait in the same second.
CHECKS_AT_ONCE = 3

_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[Hashable, asyncio.Semaphore]] = WeakKeyDictionary()


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
        heeded: set[str] = set()
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
                for change in seen.of(self.client_reference_id):
                    session = change.session
                    if session["created"] < (self.created_gte or 0):
                        continue
                    if session["status"] == "verified" and self.related_customer is None:
                        yield TriggerEvent({"session": session})
                        return
                    # Whether all sessions failed, or whose customer it is, the event does not say.
                    if change.event_id not in heeded and session["status"] in ("verified", *self.failure_statuses):
                        heeded.add(change.event_id)
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
