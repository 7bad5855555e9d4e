"""Stripe's clock, as far as its answers tell."""

from __future__ import annotations

import contextlib
import math
import time
from email.utils import parsedate_to_datetime


class StripeClock:
    """
    Tells which time it was at Stripe at a moment of this machine, never a later one than it was.

    An answer's ``Date`` is not later than its arrival. This machine's own clock, which may be wrong, is used only
    where no answer has a ``Date``; otherwise it only measures how much time has passed.
    """

    def __init__(self) -> None:
        self._ahead: float | None = None

    def heard(self, date: str | None) -> None:
        """Learn from the ``Date`` of an answer that has just arrived."""
        with contextlib.suppress(TypeError, ValueError):
            ahead = parsedate_to_datetime(date).timestamp() - time.monotonic()  # type: ignore[arg-type]
            # Each of them is a bound, so two threads that do this at once can only leave a weaker one.
            self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)

    def at(self, moment: float) -> int:
        """
        Return the time in epoch seconds.

        :param moment: a value of ``time.monotonic()``
        """
        ahead = time.time() - time.monotonic() if self._ahead is None else self._ahead
        return math.floor(moment + ahead)
