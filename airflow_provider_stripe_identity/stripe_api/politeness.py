"""How fast, and how many at once: Stripe's limits are shared with the account's payments."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from airflow_provider_stripe_identity.stripe_api.errors import StripeError, StripeRateLimitError

#: Stripe allows 25 requests a second on one endpoint (https://docs.stripe.com/rate-limits).
DEFAULT_MAX_REQUESTS_PER_SECOND = 20.0
DEFAULT_MAX_CONCURRENCY = 4


class Politeness:
    """
    Lets requests of any number of threads through at a bounded rate, and a bounded number at once.

    A 429 halves what it complains about, the rate or the number at once (both when it does not say), and every
    answer raises it again by a fiftieth of the configured bound.

    :param max_requests_per_second: requests begun a second
    :param max_concurrency: requests under way at once
    :raises ValueError: naming the argument
    """

    def __init__(
        self,
        max_requests_per_second: float = DEFAULT_MAX_REQUESTS_PER_SECOND,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
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
        self._next = 0.0
        self._changed = threading.Condition()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn, and learn from how it ends."""
        with self._changed:
            self._changed.wait_for(lambda: self._running < int(self._at_once))
            self._running += 1
            # Evenly spaced: saved-up turns, used in a burst, would exceed a limit that is strict.
            begin = max(self._next, time.monotonic())
            self._next = begin + 1 / self._rate
        try:
            time.sleep(max(begin - time.monotonic(), 0))
            yield
        except StripeError as error:
            self._ended(error)
            raise
        except BaseException:
            self._ended(None)
            raise
        else:
            self._ended(None, answered=True)

    def _ended(self, error: StripeError | None, *, answered: bool = False) -> None:
        with self._changed:
            self._running -= 1
            if isinstance(error, StripeRateLimitError):
                reason = error.rate_limited_reason or ""
                if not reason.endswith("-concurrency"):
                    self._rate = max(self._rate / 2, self._max_rate / 50)
                if not reason.endswith("-rate"):
                    self._at_once = max(self._at_once / 2, 1.0)
            elif answered:
                self._rate = min(self._rate + self._max_rate / 50, self._max_rate)
                self._at_once = min(self._at_once + self._max_at_once / 50, self._max_at_once)
            self._changed.notify_all()
