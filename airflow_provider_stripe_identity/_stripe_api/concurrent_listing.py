"""Lists, read by accounts and in ranges of time side by side, and yielded as if they had been read one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity._stripe_api.pages import PageReader
from airflow_provider_stripe_identity._stripe_api.parameters import Query
from airflow_provider_stripe_identity._stripe_api.ranges import Page, Range, Ranges

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

#: How long a listing that is left waits for its threads, in seconds. Requests end sooner, but connecting takes up to
#: ten seconds, and looking up a host's name as long as the system likes. Such a thread ends by itself after that.
MAX_LEAVING = 2.0


class ConcurrentListing:
    """
    Reads one list, or that of each of several accounts, by several threads. Which of them reads what,
    :class:`.ranges.Ranges` decides.

    A thread chooses what to read only when its request may be sent at once: until then, others may bring a page that
    makes a better choice.

    :param client: makes the requests, at its own rate
    :param path: the list endpoint
    :param query: the filters, without ``created``
    :param start: of the window of ``created``, in epoch seconds
    :param end: of the window, exclusive
    :param page_size: objects a request
    :param expected: about how many objects there will be; 0 if unknown
    :param accounts: read these, one after another in the order of the objects, instead of the client's; every object
        gets the key ``_stripe_account``
    """

    def __init__(
        self,
        client: StripeIdentityClient,
        path: str,
        query: Query,
        *,
        start: int,
        end: int,
        page_size: int,
        expected: int = 0,
        accounts: Accounts | None = None,
    ) -> None:
        self._client = client
        self._accounts = accounts
        ids: tuple[str | None, ...] = accounts.ids if accounts else (None,)
        self._pages = {
            account: PageReader(client.acting_on(account) if account else client, path, query, page_size)
            for account in ids
        }
        self._workers = client.max_concurrency
        self._ranges = Ranges(
            start, end, workers=self._workers, expected_pages=expected / page_size / len(ids), accounts=ids
        )
        self._start_all = expected > page_size or len(ids) > 1
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._choosing = threading.Lock()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """
        Yield every object, newest first.

        :raises UnreadableAccountsError: once all accounts were tried
        """
        try:
            with self._changed:
                self._start_threads(self._workers if self._start_all else 1)
            while (page := self._next_page()) is not None:
                yield from page
            if self._accounts:
                self._accounts.check()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            leave_by = time.monotonic() + MAX_LEAVING
            for thread in self._threads:
                thread.join(max(leave_by - time.monotonic(), 0))

    def _next_page(self) -> Page | None:
        with self._changed:
            while True:
                if self._error:
                    raise self._error
                page = self._ranges.next_page()
                if page is not None:
                    if self._accounts:
                        self._accounts.with_objects.add(page[0]["_stripe_account"])
                    self._changed.notify_all()
                    return page
                if self._ranges.yielded:
                    return None
                self._changed.wait()

    def _start_threads(self, count: int) -> None:
        while len(self._threads) < count and not self._stop.is_set():
            thread = threading.Thread(target=self._work, name=f"stripe-identity-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            while (chosen := self._choose()) is not None:
                self._read_page(chosen)
        except BaseException as error:  # raised again where the list is read
            with self._changed:
                self._error = self._error or error
                self._stop.set()
                self._changed.notify_all()

    def _choose(self) -> Range | None:
        """Return the range to read a page of; None when there will be none any more."""
        with self._choosing:
            while not self._stop.wait(self._client.seconds_until_turn()):
                with self._changed:
                    if not self._ranges.unfinished:
                        break
                    if chosen := self._ranges.take():
                        return chosen
                    if not self._stop.is_set():
                        self._changed.wait()
            return None

    def _read_page(self, mine: Range) -> None:
        pages, cursor = self._pages[mine.account], mine.position.cursor
        try:
            page = pages.read(mine.malformed, bounds=mine.bounds, cursor=cursor, stop=self._stop)
        except StripeError as error:
            if not (self._accounts and mine.account and error.account_is_unreadable):
                raise
            with self._changed:
                self._leave_out(self._accounts, mine.account, error)
            return
        if mine.account:
            for item in page["data"]:
                item["_stripe_account"] = mine.account
        with self._changed:
            self._ranges.add(mine, page["data"], has_more=page["has_more"])
            if page["has_more"]:
                self._start_threads(self._workers)
            self._changed.notify_all()

    def _leave_out(self, accounts: Accounts, account: str, error: StripeError) -> None:
        accounts.cannot_be_read(account, error)
        self._ranges.leave_out(account)
        if not accounts.skip_unreadable:  # the listing will fail, with the names of all such accounts
            self._ranges.only_try()
        self._changed.notify_all()
