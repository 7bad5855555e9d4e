"""How a window of time is cut into ranges that are read side by side. I/O and threads are in ``concurrent_listing``."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from airflow_provider_stripe_identity._stripe_api.pages import Position

#: How many pages a range keeps at most, about, when its older part is cut off. The last page of each range is half
#: wasted, so longer ranges waste less; but they all wait in memory until the newest one has been read.
PAGES_A_RANGE = 20
#: How many pages may wait to be yielded, for each worker.
PAGES_AHEAD = 16
#: A range with fewer pages left, besides the one under way, is not cut: one request may be all that it needs.
FEWEST_PAGES_TO_CUT = 1.1
#: How many cuts are risked when the first page shows how dense the window may be: one for so many pages.
PAGES_A_FIRST_CUT = 4
#: How many further cuts are risked for every full page. A cut that finds two full pages is free.
RISK = 0.04
#: Fewer full pages than this are no ground for more cuts than the first ones: most of a small window is its waste.
FEW_PAGES = 10

Page = list[dict[str, Any]]


class Range:
    """
    ``[start, end)``, read newest first with a query and a cursor of its own.

    Its start moves up when its older part is cut off. The query stays the same, since a cursor is only valid for its
    own query, and what the query finds below the start is left out.
    """

    def __init__(
        self, start: int, end: int, account: str | None = None, *, page_width: float = 0.0, risked: bool = False
    ) -> None:
        self.account = account
        self.start = start
        self.end = end
        self.bounds = [("created[gte]", str(start)), ("created[lt]", str(end))]
        #: How much time the last page covered, in seconds; 0 if unknown.
        self.page_width = page_width
        self.position = Position(None)
        self.pages: deque[Page] = deque()
        self.being_read = False
        self.done = False
        self._asked_from = start
        self._reached = end
        self._pages_to_find = 2 if risked else 0

    @property
    def pages_left(self) -> float:
        """About how many pages are left once the one under way has arrived, judging by the last one."""
        if self.done or not self.page_width:
            return 0.0
        return (self._reached - self.start) / self.page_width - self.being_read

    def malformed(self, path: str, answer: dict[str, Any]) -> str | None:
        """Say why a response is no page to go on with, None when it is one."""
        problem = self.position.malformed(path, answer)
        # Otherwise a server that ignores ``created`` would be read once for each range.
        if not problem and any(not self._asked_from <= item["created"] < self.end for item in answer["data"]):
            return "is a page with objects from outside the window"
        # Ranges are cut where a page ends: what comes out of order would be lost.
        if not problem and any(newer["created"] < older["created"] for newer, older in pairwise(answer["data"])):
            return "is a page that is not in order, newest first"
        return problem

    def add(self, data: Page, *, has_more: bool) -> bool:
        """
        Take the page that was read.

        :return: whether the cut that made this range has just paid off
        """
        self.being_read = False
        kept = [item for item in data if item["created"] >= self.start]
        if kept:
            self.pages.append(kept)
        self.done = not has_more or len(kept) < len(data)
        if self.done:
            return False
        self._reached = data[-1]["created"]
        self.page_width = data[0]["created"] - self._reached
        self.position.advance(data)
        self._pages_to_find -= 1
        return self._pages_to_find == 0

    def cut_off(self, keep: float) -> Range:
        """
        Keep about so many pages, besides the one under way, and return the older rest.

        Call it only where :attr:`pages_left` is more than that.
        """
        cut = int(self._reached - (keep + self.being_read) * self.page_width)
        cut = max(min(cut, self._reached - 1), self.start)
        older = Range(self.start, cut, self.account, page_width=self.page_width, risked=True)
        self.start = cut
        return older


class Ranges:
    """
    The ranges of one listing, newest first; of several accounts, one account after another.

    At first the whole window is one range, of each account. Whoever can send a request takes the first range that
    nobody else is reading; where there is none, the range with the most left is cut in two and the older part taken. So
    there are only as many ranges as it takes to use every request that may be sent, and near the end the rest is shared
    out in ever smaller parts. How much is left is judged by the last page read: where sessions are dense, ranges are
    short, and a gap costs one nearly empty request.

    :param start: of the window of ``created``, in epoch seconds
    :param end: of the window, exclusive
    :param workers: how many ranges are read at once, at most
    :param expected_pages: about how many pages there will be; 0 if unknown: nothing is cut before the first page then
    :param accounts: whose window it is
    """

    def __init__(
        self,
        start: int,
        end: int,
        *,
        workers: int,
        expected_pages: float = 0.0,
        accounts: Sequence[str | None] = (None,),
    ) -> None:
        self._workers = workers
        width = (end - start) / expected_pages if expected_pages else 0.0
        self._ranges = [Range(start, end, account, page_width=width) for account in accounts]
        self._answered: set[str | None] = set()
        self._only_trying = False
        self._width = end - start
        self._first_cuts = 0
        self._judge_at = FEW_PAGES if expected_pages else 1
        self._full_pages = 0
        self._paid_off = 0
        self._cuts = 0
        self._expect(expected_pages)

    @property
    def unfinished(self) -> bool:
        """Whether there is, or will be, something to read."""
        return any(not found.done for found in self._ranges)

    @property
    def yielded(self) -> bool:
        """Whether everything was read and taken."""
        return not self._ranges

    def take(self) -> Range | None:
        """Return a range of which to read a page; None if there is none at the moment."""
        ahead = 0
        longest = None
        for found in self._ranges:
            # The newest one may always be read: everything waits for it.
            if ahead >= PAGES_AHEAD * self._workers and found is not self._ranges[0]:
                break
            ahead += len(found.pages)
            if not found.done and not found.being_read:
                found.being_read = True
                return found
            if longest is None or found.pages_left > longest.pages_left:
                longest = found
        if longest is None or longest.pages_left < FEWEST_PAGES_TO_CUT or not self._may_cut:
            return None
        return self._older_part(longest)

    def add(self, found: Range, data: Page, *, has_more: bool) -> None:
        """Take the page that was read of a range."""
        paid_off = found.add(data, has_more=has_more)
        self._answered.add(found.account)
        if self._only_trying:
            found.pages.clear()
            found.done = True
        if not found.done:
            self._full_pages += 1
            self._paid_off += paid_off
            if self._full_pages == self._judge_at and found.page_width:
                self._expect(self._width / found.page_width)

    def leave_out(self, account: str | None) -> None:
        """Forget all of an account that was read and not yielded, and read no more of it."""
        self._ranges = [found for found in self._ranges if found.account != account]

    def only_try(self) -> None:
        """Read no more than a first page of each account that has not answered yet, and yield nothing any more."""
        self._only_trying = True
        self._ranges = [found for found in self._ranges if found.account not in self._answered]

    def next_page(self) -> Page | None:
        """Return the page to yield next; None if it has not been read yet."""
        while self._ranges:
            newest = self._ranges[0]
            if newest.pages:
                return newest.pages.popleft()
            if not newest.done:
                break
            del self._ranges[0]
        return None

    def _expect(self, pages: float) -> None:
        """Allow the first cuts, for about so many pages in the window; a second, larger number adds to the first."""
        self._first_cuts = max(self._first_cuts, min(int(pages / PAGES_A_FIRST_CUT), self._workers - 1))

    @property
    def _may_cut(self) -> bool:
        allowed = self._first_cuts + RISK * self._full_pages
        if self._full_pages >= FEW_PAGES:
            allowed += self._paid_off
        return self._cuts + 1 <= allowed

    def _older_part(self, longest: Range) -> Range:
        """
        Cut the longest range so that all who have nothing to read would get about the same share.

        Both parts get a whole number of the requests that it needs: one page and a half are two requests, cut or not.
        """
        self._cuts += 1
        idle = self._workers - sum(found.being_read for found in self._ranges)
        requests = math.ceil(longest.pages_left)
        share = max(round(requests / (1 + idle)), 1)
        keep = min(longest.pages_left * share / requests, PAGES_A_RANGE)
        older = longest.cut_off(keep)
        older.being_read = True
        self._ranges.insert(self._ranges.index(longest) + 1, older)
        return older
