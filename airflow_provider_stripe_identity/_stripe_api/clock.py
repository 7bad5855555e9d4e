"""
Stripe's clock, as a lower bound.

What is over, late or newest is judged by the time at Stripe, and an error to one side is harmless: a time that is too
early waits longer, or gives an export an older ``as_of`` than it deserves. A time that is too late loses rows. So
only a lower bound will do, and this is what can be one:

* The ``Date`` of a response that comes from Stripe itself is not later than its arrival. It is a bound whatever this
  machine's clock says.
* A gateway may write a ``Date`` of its own, by a clock that may be ahead. This machine's clock may be ahead as well.
  The earlier of the two is a bound unless *both* are ahead, and nothing in a response could show that: ``created`` of
  the newest object proves that Stripe's clock has come so far, never that it has come no further. So behind a gateway
  keep the workers' clocks right (NTP); a gateway's clock then does no harm.
* Before the first response there is this machine's clock alone.
"""

from __future__ import annotations

import contextlib
import math
import time
from email.utils import parsedate_to_datetime


class StripeClock:
    """
    A lower bound on Stripe's time at a local instant.

    :param direct: answers come from Stripe itself, so their ``Date`` is by Stripe's clock
    """

    def __init__(self, *, direct: bool) -> None:
        self._direct = direct
        self._ahead: float | None = None

    @property
    def known(self) -> bool:
        """Whether any answer has said the time."""
        return self._ahead is not None

    def heard(self, date: str | None) -> None:
        """Learn from the ``Date`` of a response that has just arrived."""
        with contextlib.suppress(TypeError, ValueError):
            ahead = parsedate_to_datetime(date).timestamp() - time.monotonic()  # type: ignore[arg-type]
            # Each of them is a bound, so two threads that do this at once can only leave a weaker one.
            self._ahead = ahead if self._ahead is None else max(self._ahead, ahead)

    def at(self, moment: float) -> int:
        """
        Return a time that Stripe's clock had reached, in epoch seconds.

        :param moment: a value of ``time.monotonic()``
        """
        own = time.time() - time.monotonic()
        if self._ahead is None:
            return math.floor(moment + own)
        return math.floor(moment + (self._ahead if self._direct else min(self._ahead, own)))

    def latest_at(self, moment: float) -> int:
        """
        Return the latest time that any clock says it was, in epoch seconds: no bound, but what lies far behind is over.

        :param moment: a value of ``time.monotonic()``
        """
        own = time.time() - time.monotonic()
        return math.floor(moment + (own if self._ahead is None else max(self._ahead, own)))
