"""One list, read in several ranges of time side by side, and yielded as if it had been read in one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.stripe_api.pages import Position
from airflow_provider_stripe_identity.stripe_api.parameters import Query, page_query

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient

#: About how many pages a range keeps for itself when it gives its older part away. The last page of each range is
#: half wasted, so more pages waste less; but about twice as many for each worker may be held in memory.
PAGES_A_RANGE = 16
#: How many requests may be risked on ranges that turn out to be nearly empty, for every page that was full.
RISK = 0.02

Page = list[dict[str, Any]]


class _Range:
    """
    ``[start, end)``, read newest first with a query and a cursor that are its own.

    Its start moves up when its older part is cut off; the query stays, since a cursor holds for its own query alone,
    and what the query finds below the start is left out.
    """

    def __init__(self, start: int, end: int, *, risked: bool = False) -> None:
        self.start = start
        self.end = end
        self.risked = risked
        self._asked_from = start
        self.bounds = [("created[gte]", str(start)), ("created[lt]", str(end))]
        self.position = Position(None)
        self.reached = end
        self.page_width = 0
        self.pages: deque[Page] = deque()
        self.being_read = False
        self.done = False

    @property
    def pages_left(self) -> float:
        """About how many pages it has still to read, going by the last one."""
        return (self.reached - self.start) / self.page_width if self.page_width and not self.done else 0.0

    def malformed(self, path: str, answer: dict[str, Any]) -> str | None:
        problem = self.position.malformed(path, answer)
        # Otherwise a server that ignores ``created`` would be read once for each range.
        if not problem and any(not self._asked_from <= item["created"] < self.end for item in answer["data"]):
            return "is a page with objects from outside the window"
        # Ranges are cut where a page ends: what comes out of order would be lost.
        if not problem and any(newer["created"] < older["created"] for newer, older in pairwise(answer["data"])):
            return "is a page that is not in order, newest first"
        return problem


class ConcurrentListing:
    """
    Reads one list by several workers.

    The whole window is the first range. When its first page shows that there is much more to come, it keeps the newest
    part, about :data:`PAGES_A_RANGE` pages, and what is older becomes the next range, where the same happens. So
    the ranges are as narrow as the sessions are dense, a gap costs nothing, and a window with few sessions is read page
    after page. With every full page it becomes safer to expect that the older part is as dense, and to cut it into
    several ranges at once. Each worker reads a page of the newest range that nobody else is reading; where there is
    none, it takes half of what is left of one.

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
        self._ranges = [_Range(start, end)]  # newest first, without those that were taken whole
        self._threads: list[threading.Thread] = []
        self._full_pages = 0
        self._may_risk = 0.0
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
        if len(self._threads) < self._workers and not self._stop.is_set():
            thread = threading.Thread(target=self._work, name=f"stripe-identity-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                self._read_page(taken)
        except BaseException as error:  # raised again where the list is read
            with self._changed:
                self._error = self._error or error
                self._stop.set()
                self._changed.notify_all()

    def _take(self) -> _Range | None:
        """Return a range to read a page of; None when there will be none any more."""
        with self._changed:
            while not self._stop.is_set() and not all(found.done for found in self._ranges):
                if taken := self._readable() or self._half_of_one():
                    taken.being_read = True
                    return taken
                self._changed.wait()
            return None

    def _readable(self) -> _Range | None:
        """Return the newest range that nobody reads, if not too much before it waits to be taken."""
        ahead = 0
        for found in self._ranges:
            ahead += len(found.pages)
            if not found.done and not found.being_read:
                # The newest one of all may always be read: everything waits for it.
                return found if ahead < PAGES_A_RANGE * self._workers or found is self._ranges[0] else None
        return None

    def _half_of_one(self) -> _Range | None:
        """Cut the newest range that has much left to read into two, and return the older half."""
        busy = next(filter(self._is_worth_halving, self._ranges), None)
        if busy is None:
            return None
        self._may_risk -= 1
        older = _Range(busy.start, (busy.start + busy.reached) // 2, risked=True)
        self._cut_off(busy, [older])
        return older

    def _is_worth_halving(self, found: _Range) -> bool:
        return self._may_risk >= 1 and found.pages_left >= PAGES_A_RANGE / 3

    def _read_page(self, mine: _Range) -> None:
        cursors = page_query(limit=self._page_size, starting_after=mine.position.cursor)
        query = [*self._query, *mine.bounds, *cursors]
        malformed = partial(mine.malformed, self._path)
        page = self._client.get(self._path, query, malformed=malformed, stop=self._stop)
        data: Page = page["data"]
        with self._changed:
            mine.being_read = False
            kept = [item for item in data if item["created"] >= mine.start]
            if kept:
                mine.pages.append(kept)
            mine.done = not page["has_more"] or len(kept) < len(data)
            if not mine.done:
                self._full_pages += 1
                self._may_risk += (1.0 if self._full_pages <= self._workers else RISK) + mine.risked
                mine.risked = False
                mine.reached = data[-1]["created"]
                mine.page_width = data[0]["created"] - mine.reached
                mine.position.advance(data)
                self._keep_the_newest_part(mine)
                if self._is_worth_halving(mine):
                    self._start_worker()
            self._changed.notify_all()

    def _keep_the_newest_part(self, mine: _Range) -> None:
        """Make ranges of what is older than the next :data:`PAGES_A_RANGE` pages."""
        width = PAGES_A_RANGE * mine.page_width
        end = mine.reached - width
        if self._workers == 1 or end - mine.start <= width:
            return  # twice as much as a range may as well be read as one
        older = []
        while width and self._may_risk >= 1 and end - width > mine.start:
            older.append(_Range(end - width, end, risked=True))
            end -= width
            self._may_risk -= 1
        self._cut_off(mine, [*older, _Range(mine.start, end)])
        for _ in range(len(older) + 1):
            self._start_worker()

    def _cut_off(self, found: _Range, older: list[_Range]) -> None:
        found.start = older[0].end
        after = self._ranges.index(found) + 1
        self._ranges[after:after] = older
