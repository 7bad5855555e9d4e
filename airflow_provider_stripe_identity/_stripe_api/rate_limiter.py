"""How fast, and how many at once: Stripe's limits are shared with the account's payments."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_stripe_identity._stripe_api.errors import StripeError, StripeRateLimitError
from airflow_provider_stripe_identity._stripe_api.shared_turns import KEPT, SharedTurns

#: Stripe allows 25 requests per second on one endpoint (https://docs.stripe.com/rate-limits).
DEFAULT_MAX_REQUESTS_PER_SECOND = 20.0
DEFAULT_MAX_CONCURRENCY = 4
#: What a 429 leaves of the limit that it names.
DECREASE = 0.7
#: How much of the configured limit every response restores.
INCREASE = 1 / 400
#: The smallest part of the configured rate that 429s leave.
LEAST = 1 / 50
#: How much longer than the fastest one a request may take to arrive, in seconds; anything beyond is Stripe's own time.
MAX_DELAY = 0.05


class _Turn:
    """A request that was let through: when it began, when it ended (never, so far), and what other processes know."""

    def __init__(self, begin: float) -> None:
        self.begin = begin
        self.end = float("inf")
        self.shared: float | None = None

    def arrived_by(self, fastest: float) -> float:
        """Return when it had arrived at the latest."""
        return max(self.begin, min(self.end - fastest, self.begin + MAX_DELAY))


class RateLimiter:
    """
    Lets requests of any number of threads through at a bounded rate, and a bounded number at once.

    No second holds more requests than ``max_requests_per_second``. Within it they may follow one another closely, so
    that turns which nobody could use at its beginning are not lost. Stripe counts what arrives: a request that took
    longer than the fastest one may have arrived that much later, and counts from then on.

    A 429 lowers the limit it names, the rate or the number at once (both when it names none); others that began before
    that do not lower it again. Successful responses restore it gradually, and until the rate is restored turns are
    evenly spaced.

    :param max_requests_per_second: requests begun in a second
    :param max_concurrency: requests under way at once
    :param shared: the rate's turns of all processes, up to 100 a second
    :raises ValueError: naming the argument
    """

    def __init__(
        self,
        max_requests_per_second: float = DEFAULT_MAX_REQUESTS_PER_SECOND,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        shared: SharedTurns | None = None,
    ) -> None:
        if not max_requests_per_second > 0:
            raise ValueError(f"max_requests_per_second must be more than 0, not {max_requests_per_second}")
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be 1 or more, not {max_concurrency}")
        self._max_rate = max_requests_per_second
        self._max_at_once = float(max_concurrency)
        self._rate = self._max_rate
        self._at_once = self._max_at_once
        self._running = 0
        self._fastest = sys.float_info.max
        # A limit below one a second is one in several seconds.
        self._in_a_period = max(int(max_requests_per_second), 1)
        self._period = self._in_a_period / self._max_rate
        self._shared = shared if max_requests_per_second <= KEPT else None
        self._turns: deque[_Turn] = deque(maxlen=self._in_a_period)
        self._lowered = 0.0
        self._changed = threading.Condition()

    def seconds_until_turn(self) -> float:
        """Return how long a request that came now would have to wait because of the rate."""
        with self._changed:
            pause = max(self._next() - time.monotonic(), 0.0)
        return max(pause, self._shared.seconds_until_turn(self._in_a_period, self._period)) if self._shared else pause

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and learn from how it ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < int(self._at_once))
            self._running += 1
            turn = _Turn(max(self._next(), time.monotonic()))
            self._turns.append(turn)
        try:
            time.sleep(max(turn.begin - time.monotonic(), 0))
            if self._shared:
                turn.shared = self._shared.take(self._in_a_period, self._period, MAX_DELAY)
                turn.begin = time.monotonic()
            yield
        except StripeError as error:
            self._ended(turn, error)
            raise
        except BaseException:
            self._ended(turn, None)
            raise
        else:
            self._ended(turn, None, answered=True)

    def _next(self) -> float:
        """Return when the next request may begin; in the past if it may begin now."""
        if not self._turns:
            return 0.0
        if self._rate < self._max_rate:
            return self._turns[-1].begin + 1 / self._rate
        if len(self._turns) < self._in_a_period:
            return 0.0
        return min(turn.arrived_by(self._fastest) for turn in self._turns) + self._period

    def _ended(self, turn: _Turn, error: StripeError | None, *, answered: bool = False) -> None:
        with self._changed:
            self._running -= 1
            turn.end = time.monotonic()
            if isinstance(error, StripeRateLimitError) and turn.begin > self._lowered:
                self._lowered = turn.end
                reason = error.rate_limited_reason or ""
                if not reason.endswith("-concurrency"):
                    self._rate = max(self._rate * DECREASE, self._max_rate * LEAST)
                if not reason.endswith("-rate"):
                    self._at_once = max(self._at_once * DECREASE, 1.0)
            elif answered:
                self._fastest = min(self._fastest, turn.end - turn.begin)
                self._rate = min(self._rate + self._max_rate * INCREASE, self._max_rate)
                self._at_once = min(self._at_once + self._max_at_once * INCREASE, self._max_at_once)
            self._changed.notify_all()
        if self._shared and turn.shared is not None:
            self._shared.arrived(turn.shared, turn.arrived_by(self._fastest))
