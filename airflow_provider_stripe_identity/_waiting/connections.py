"""What all that waits on one connection shares: one HTTP client and a few threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from asgiref.sync import sync_to_async

from airflow_provider_stripe_identity._airflow.failures import NoThreadError, connection_lookup
from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

Result = TypeVar("Result")

#: Checks at once of all sensors on one connection; thousands may begin to wait in the same second. Stripe's limits and
#: the default ``max_concurrency`` leave room for a poll beside them.
CHECKS_AT_ONCE = 3
#: Polls at once: of the sensors, one for each interval, and of every watcher.
POLLS_AT_ONCE = 4
#: For as many seconds a connection that was looked up is taken as it is, unless Stripe refuses it.
LOOK_UP_AFTER = 5.0

#: By event loop, connection and account. An entry lives as long as somebody who waits holds it.
_shared: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str, str | None], SharedConnection] = (
    WeakValueDictionary()
)


class SharedConnection:
    """
    Makes the calls of all triggers of one process on one connection and account, in threads of its own.

    The event loop's default pool is shared with every other trigger, and with DNS look-ups: a few calls that hang
    would stop them all. Here they delay the same connection alone, and checks do not delay polls. The connection
    is looked up in these threads too, since a secrets backend can hang as well. Threads and client end with the last
    reference to the instance.

    :param stripe_conn_id: Airflow connection of type ``stripe_identity``
    :param stripe_account: connected account to read, instead of the connection's
    """

    def __init__(self, stripe_conn_id: str, stripe_account: str | None) -> None:
        self.stripe_conn_id = stripe_conn_id
        self._stripe_account = stripe_account
        self._checks = ThreadPoolExecutor(CHECKS_AT_ONCE, f"stripe-waiting-check-{stripe_conn_id}")
        self._polls = ThreadPoolExecutor(POLLS_AT_ONCE, f"stripe-waiting-poll-{stripe_conn_id}")
        # What waits for a thread waits here, where it is one future: in the pools it would be some fifty objects, and
        # thousands of them make Python's garbage collection stop the event loop more often, and for longer.
        self._check_turns, self._poll_turns = asyncio.Semaphore(CHECKS_AT_ONCE), asyncio.Semaphore(POLLS_AT_ONCE)
        self._lock = threading.Lock()
        self._hook: StripeIdentityHook | None = None
        self._content: tuple[object, ...] = ()
        self._look_up_at = 0.0

    @classmethod
    def of(cls, stripe_conn_id: str, stripe_account: str | None = None) -> SharedConnection:
        """Return the one of this event loop; hold it for as long as you wait."""
        key = (asyncio.get_running_loop(), stripe_conn_id, stripe_account)
        if (shared := _shared.get(key)) is None:
            shared = _shared[key] = cls(stripe_conn_id, stripe_account)
        return shared

    async def check(self, function: Callable[[StripeIdentityHook], Result]) -> Result:
        """Call a function in one of the threads for checks."""
        async with self._check_turns:
            return await self._run(self._checks, function)

    async def poll(self, function: Callable[[StripeIdentityHook], Result]) -> Result:
        """Call a function in one of the threads for polls."""
        async with self._poll_turns:
            return await self._run(self._polls, function)

    async def _run(self, threads: ThreadPoolExecutor, function: Callable[[StripeIdentityHook], Result]) -> Result:
        # Unlike run_in_executor: with the log's context, and what Airflow needs to look a connection up from a thread.
        call: Any = sync_to_async(self._call, thread_sensitive=False, executor=threads)
        left = threading.Event()
        try:
            result: Result = await call(function, left)
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
            raise NoThreadError(f"Connection {self.stripe_conn_id} cannot be used now: {error}") from error
        finally:
            left.set()
        return result

    def _call(self, function: Callable[[StripeIdentityHook], Result], left: threading.Event) -> Result | None:
        if left.is_set():
            return None  # it was queued, and nobody waits for the result any more
        hook = self._connected()
        try:
            return function(hook)
        except StripeError as error:
            if error.permanent:
                self._look_up_at = 0.0
            raise

    def _connected(self) -> StripeIdentityHook:
        with self._lock:
            if self._hook is None or time.monotonic() >= self._look_up_at:
                # Where a DAG file imports this, for a watcher, nobody pays for requests.
                from airflow_provider_stripe_identity._connection.client import client_from_connection

                with connection_lookup(self.stripe_conn_id):
                    found = StripeIdentityHook.get_connection(self.stripe_conn_id)
                    content = (found.login, found.password, found.host, found.port, found.extra)
                    if self._hook is None or content != self._content:
                        # The next check or poll is the retry, so that no thread sleeps for one.
                        client = client_from_connection(
                            found, stripe_account=self._stripe_account, at_most={"max_retries": 0}
                        )
                        if self._hook:
                            self._hook.client.close()
                        self._hook = StripeIdentityHook(self.stripe_conn_id, stripe_account=self._stripe_account)
                        self._hook.client, self._content = client, content
                self._look_up_at = time.monotonic() + LOOK_UP_AFTER
            return self._hook
