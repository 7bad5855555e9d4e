"""What a watcher reads: the events of an account, in batches, from its kept place on, and which accounts there are."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from airflow_provider_stripe_identity._airflow.failures import EXPECTED_ERRORS, Failures
from airflow_provider_stripe_identity._waiting.connections import SharedConnection
from airflow_provider_stripe_identity._waiting.events import Event, EventReader, Page, Place
from airflow_provider_stripe_identity._waiting.places import KeptPlace
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

#: How often a place is stored without any event, in seconds.
KEEP_EVERY = 3600.0
#: For as many seconds a watcher waits for a place before it starts without.
STORE_ANSWERS_WITHIN = 5.0
#: How often connected accounts are listed, in seconds.
LIST_ACCOUNTS_EVERY = 900.0


class WatchedAccount:
    """
    Polls one account for ever; no error ends that, nor concerns another account.

    :param connection: makes the requests
    :param account: connected account; None for the one that the connection acts on
    :param types: the types of events
    :param kept: the account's place
    :param failures: the account's errors in a row
    :param poke_interval: seconds from one poll to the next
    :param gone_on_from: called with the kept place, if there is one
    :param since: where to begin without a kept place; by default with what happens from now on
    """

    def __init__(
        self,
        connection: SharedConnection,
        account: str | None,
        types: Sequence[str],
        *,
        kept: KeptPlace,
        failures: Failures,
        poke_interval: float,
        gone_on_from: Callable[[Place], None],
        since: Place | None = None,
    ) -> None:
        self.account = account
        self._connection = connection
        self._types = types
        self._kept = kept
        self._failures = failures
        self._poke_interval = poke_interval
        self._gone_on_from = gone_on_from
        self._reader = EventReader(types, since)
        self._starting = since is None
        # Until the kept place is known, only what happens from now on is handled: it comes after any kept place.
        self._place_known, self._keep_at = False, 0.0
        self._handled: list[str] = []

    async def watch(self, batches: asyncio.Queue[Batch | asyncio.Task[None]]) -> None:
        """Put the events of each poll into the queue, and go on when they were handled."""
        reading = asyncio.create_task(self._kept.read())
        try:
            await asyncio.wait([reading], timeout=STORE_ANSWERS_WITHIN)
            pending: list[Event] = []
            while True:
                if not self._place_known and reading.done():
                    self._place_known = True
                    if place := reading.result():
                        self._gone_on_from(place)
                        self._reader = EventReader(self._types, place, self._handled)
                        self._starting, pending = False, []
                try:
                    page = await self._connection.poll(self._read_page)
                except EXPECTED_ERRORS as error:
                    self._failures.happened(error)
                    await asyncio.sleep(self._failures.pause(under_way=self._reader.under_way))
                    continue
                self._failures.over()
                if not self._starting:
                    pending += page.events
                if not page.last:
                    continue
                self._starting = False
                if pending or (self._place_known and time.monotonic() >= self._keep_at):
                    # Oldest first; those of one second in the order of the list.
                    pending.reverse()
                    batch, pending = Batch(self, sorted(pending, key=lambda event: event.created)), []
                    batches.put_nowait(batch)
                    await batch.done.wait()
                await asyncio.sleep(self._poke_interval)
        finally:
            reading.cancel()
            self._kept.close()

    def keep(self, handled: Sequence[Event], pending: Sequence[Event]) -> None:
        """Keep the place after some events of a batch and before the others."""
        if self._place_known:
            self._kept.write(self._reader.place(pending))
            self._keep_at = time.monotonic() + KEEP_EVERY
        else:
            self._handled += [event.id for event in handled]

    def _read_page(self, hook: StripeIdentityHook) -> Page:
        return self._reader.read_page(hook.acting_on(self.account) if self.account else hook)


class Batch:
    """
    What one poll of an account found.

    :param of: the account
    :param events: oldest first; none when only the place is to be kept
    """

    def __init__(self, of: WatchedAccount, events: Sequence[Event]) -> None:
        self.account = of.account
        self.events = events
        self.done = asyncio.Event()
        self._of = of
        self._kept = 0
        #: How many of the events were handled.
        self.handled = 0

    def keep(self) -> None:
        """Keep the account's place after what was handled."""
        self._of.keep(self.events[self._kept : self.handled], self.events[self.handled :])
        self._kept = self.handled


class ConnectedAccounts:
    """
    Lists the accounts that are connected to a platform, again and again.

    :param connection: of the platform
    :param kept: Stripe's time at the last listing
    :param failures: of the listings, in a row
    :param poke_interval: seconds until a listing that failed is tried again
    """

    def __init__(
        self, connection: SharedConnection, *, kept: KeptPlace, failures: Failures, poke_interval: float
    ) -> None:
        self._connection = connection
        self._kept = kept
        self._failures = failures
        self._poke_interval = poke_interval

    async def follow(self, watch: Callable[[Sequence[str], Place | None], None]) -> None:
        """
        Say after each listing which accounts to watch.

        :param watch: called with all of them, and with the time of the listing before, however long ago: from there on
            the events of an account count that has come since
        """
        reading = asyncio.create_task(self._kept.read())
        try:
            await asyncio.wait([reading], timeout=STORE_ANSWERS_WITHIN)
            since = reading.result() if reading.done() else None
            while True:
                try:
                    accounts, listed_at = await self._connection.poll(_list_accounts)
                except EXPECTED_ERRORS as error:
                    self._failures.happened(error)
                    await asyncio.sleep(self._poke_interval)
                    continue
                self._failures.over()
                watch(accounts, since)
                since = Place(listed_at)
                self._kept.write(since)
                await asyncio.sleep(LIST_ACCOUNTS_EVERY)
        finally:
            reading.cancel()
            self._kept.close()


def _list_accounts(hook: StripeIdentityHook) -> tuple[list[str], int]:
    sent = time.monotonic()
    accounts = hook.list_connected_accounts()
    return accounts, hook.client.clock.at(sent)
