"""Waiting without a worker: the triggers that Airflow's triggerer runs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.judgement import Verdict, judge
from airflow_provider_stripe_identity.stripe_api import StripeError

#: An event within a second or two of the deferral can overtake the scheduler's own bookkeeping of it.
FIRST_CHECK_AFTER = 3.0


class StripeIdentityVerifiedTrigger(BaseTrigger):
    """
    Fires when a session of a reference is verified, or none of them can be any more.

    Stripe's transient errors do not end the wait; the next check is the next try. Times are epoch seconds, intervals
    seconds.

    :param client_reference_id: the reference to wait for
    :param stripe_conn_id: Airflow connection of type ``stripe_identity``
    :param created_gte: only sessions created then or later
    :param related_customer: only sessions of this Customer
    :param stripe_account: connected account to read, instead of the connection's
    :param failure_statuses: as in :func:`~airflow_provider_stripe_identity.judgement.judge`
    :param poke_interval: from one check to the next
    :param exponential_backoff: let that grow with the time waited so far
    :param max_wait: but not beyond this
    :param waiting_since: when the sensor made the first check
    """

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
        """Check until there is a verdict."""
        await asyncio.sleep(max(FIRST_CHECK_AFTER, self.waiting_since + self.poke_interval - time.time()))
        while True:
            if event := await self._check():
                yield event
                return
            await asyncio.sleep(self._pause())

    async def _check(self) -> TriggerEvent | None:
        try:
            # The next check is the retry, so that no thread sleeps for one.
            hook = await StripeIdentityHook.connected(
                self.stripe_conn_id, stripe_account=self.stripe_account, max_retries=0
            )
            verdict = await asyncio.to_thread(self._judge, hook)
        except ValueError as error:
            return TriggerEvent({"failed": str(error)})
        except StripeError as error:
            if error.permanent:
                return TriggerEvent({"failed": str(error)})
            self.log.warning("%s - checking again in the next interval", error)
            return None
        self.log.info("%s: %s", self.client_reference_id, verdict.because)
        if verdict.session:
            return TriggerEvent({"session": verdict.session})
        return TriggerEvent({"failed": f"{self.client_reference_id}: {verdict.because}"}) if verdict.failed else None

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
        # Waiting as long again as so far doubles the intervals, and needs no count that a restart would lose.
        waited = time.time() - self.waiting_since
        pause = max(self.poke_interval, waited) * random.uniform(1.0, 1.25)  # noqa: S311 - spreads equal sensors
        return pause if self.max_wait is None else min(pause, self.max_wait)
