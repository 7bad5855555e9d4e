"""One list, read in several ranges of time side by side, and yielded as if it had been read in one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.stripe_api.pages import Position
from airflow_provider_stripe_identity.stripe_api.parameters import Query, page_query

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient

#: About how many pages a range keeps for itself when it gives its older part away. The last page of each range is
#: half wasted, so more pages waste less; but all ranges at once are held in memory.
PAGES_A_RANGE = 10
#: Pages read and not yet taken, in all ranges together; the range that is being taken from may always go on.
PAGES_AHEAD = 64

Page = list[dict[str, Any]]


class _Range:
    """
    ``[start, end)``, read newest first with a query and a cursor that are its own.

    Its start moves up when it gives its older part away; the query stays, since a cursor holds for its own query
    alone, and what the query finds below the start is left out.
    """

    def __init__(self, start: int, end: int) -> None:
        self.start = start
        self.end = end
        self._asked_from = start
        self.bounds = [("created[gte]", str(start)), ("created[lt]", str(end))]
        self.position = Position(None)
        self.pages: deque[Page] = deque()
        self.done = False

    def malformed(self, answer: dict[str, Any]) -> str | None:
        problem = self.position.malformed(answer)
        # Otherwise a server that ignores ``created`` would be read once for each range.
        if not problem and any(not self._asked_from <= item["created"] < self.end for item in answer["data"]):
            return "is a page with objects from outside the window"
        return problem


class ConcurrentListing:
    """
    Reads one list by several workers.

    The first worker reads the whole window. When its first page shows that there is much more to come, it keeps the
    newest part, about :data:`PAGES_A_RANGE` pages, and gives the older one away; the next worker takes that, and
    does the same. So the ranges are as narrow as the sessions are dense, a gap costs nothing, and a window with
    few sessions is read by one worker, page after page.

    :param client: makes the requests, at its own rate
    :param path: the list endpoint
    :param query: the filters, without ``created``
    :param start: of the window of ``created``, in epoch seconds
    :param end: of the window, exclusive
    :param page_size: objects a request
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
    ) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._page_size = page_size
        self._workers = client.max_concurrency
        whole = _Range(start, end)
        self._ranges = [whole]  # newest first, without those that were taken whole
        self._idle = [whole]  # nobody reads them yet, newest first
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield every object, newest first."""
        try:
            with self._changed:
                self._start_worker()
            while (page := self._next_page()) is not None:
                yield from page
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in self._threads:
                thread.join()

    def _next_page(self) -> Page | None:
        with self._changed:
            while True:
                if self._error:
                    raise self._error
                if not self._ranges:
                    return None
                newest = self._ranges[0]
                if newest.pages:
                    self._changed.notify_all()
                    return newest.pages.popleft()
                if newest.done:
                    del self._ranges[0]
                    self._changed.notify_all()
                else:
                    self._changed.wait()

    def _start_worker(self) -> None:
        if len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name=f"stripe-identity-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                while self._may_read(taken):
                    self._read_page(taken)
        except BaseException as error:  # raised again where the list is read
            with self._changed:
                self._error = self._error or error
                self._stop.set()
                self._changed.notify_all()

    def _take(self) -> _Range | None:
        """Return the newest range that nobody reads; None when there will be none any more."""
        with self._changed:
            while not self._stop.is_set():
                if self._idle:
                    return self._idle.pop(0)
                if all(found.done for found in self._ranges):
                    return None
                self._changed.wait()
            return None

    def _may_read(self, mine: _Range) -> bool:
        """Wait while too much is read ahead; return whether the range has anything left to read."""
        with self._changed:
            while not self._stop.is_set() and not mine.done:
                if mine is self._ranges[0] or sum(len(found.pages) for found in self._ranges) < PAGES_AHEAD:
                    return True
                self._changed.wait()
            return False

    def _read_page(self, mine: _Range) -> None:
        cursors = page_query(limit=self._page_size, starting_after=mine.position.cursor)
        query = [*self._query, *mine.bounds, *cursors]
        page = self._client.get(self._path, query, malformed=mine.malformed, stop=self._stop)
        data: Page = page["data"]
        with self._changed:
            kept = [item for item in data if item["created"] >= mine.start]
            if kept:
                mine.pages.append(kept)
            mine.done = not page["has_more"] or len(kept) < len(data)
            if not mine.done:
                self._give_away(mine, newest=data[0]["created"], oldest=data[-1]["created"])
                mine.position.advance(data)
            self._changed.notify_all()

    def _give_away(self, mine: _Range, *, newest: int, oldest: int) -> None:
        """Let another worker have what is older than the next :data:`PAGES_A_RANGE` pages, going by this page."""
        start = oldest - PAGES_A_RANGE * (newest - oldest)
        if self._workers == 1 or start - mine.start <= PAGES_A_RANGE * (newest - oldest):
            return  # twice as much as a range may as well be read by one
        older = _Range(mine.start, start)
        mine.start = start
        self._ranges.insert(self._ranges.index(mine) + 1, older)
        self._idle.append(older)
        self._idle.sort(key=lambda found: -found.end)
        self._start_worker()
