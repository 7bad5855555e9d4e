"""
Whether Stripe is there: one judgement for all requests of a client that can wait for it.

A circuit breaker that waits instead of failing. When a request finds Stripe gone, the others pause as well, one of them
at a time asks again, and its success lets all of them go on. So an outage costs its own length, and Stripe, while it
recovers, gets one request at a time.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from airflow_provider_stripe_identity._stripe_api.errors import StripeError, in_one_line

log = logging.getLogger(__name__)

#: Longest outage that is waited out, in seconds.
DEFAULT_MAX_OUTAGE = 300.0
#: Pause before the first probe, in seconds; it doubles with every further one, with full jitter.
FIRST_PAUSE = 0.5
#: No probe comes later than this after the one before, so an outage costs at most this much more than its length.
MAX_PAUSE = 5.0
#: How often a waiting request looks whether it is to stop, in seconds.
LOOK_EVERY = 0.2
#: How often an outage that goes on is logged, in seconds.
LOG_EVERY = 60.0


class Outage:
    """
    Holds requests back while Stripe is unavailable, and lets one at a time through to find out.

    Only what has answered before can be away: until the first response the connection itself may be wrong, and no
    request waits.

    :param max_seconds: give up an outage that lasts longer; 0 waits for none
    """

    def __init__(self, max_seconds: float = DEFAULT_MAX_OUTAGE) -> None:
        self.max_seconds = max_seconds
        #: How many outages there were, with the one that goes on
        self.number = 0
        self._has_answered = False
        self._given_up = 0
        self._since: float | None = None
        self._error: StripeError
        self._probes = 0
        self._probe_at = 0.0
        self._probing = False
        self._log_at = 0.0
        self._changed = threading.Condition()

    def enter(self, stop: threading.Event) -> bool:
        """
        Wait until a request may be sent, and return whether it is the probe.

        :param stop: ends the wait once it is set
        :raises StripeError: the last one of the outage, when that is given up or ``stop`` is set
        """
        with self._changed:
            number = self.number
            while self._since is not None:
                now = time.monotonic()
                if stop.is_set():
                    raise self._error.with_traceback(None)
                if not self._probing and now >= self._probe_at:
                    self._probing = True
                    return True
                self._changed.wait(LOOK_EVERY if self._probing else min(self._probe_at - now, LOOK_EVERY))
                if number <= self._given_up:
                    raise self._error.with_traceback(None)
            return False

    def answered(self, number: int) -> None:
        """
        Stripe is there: let everything go on.

        :param number: what `number` was when the request was sent; a response that was on its way when the outage began
            does not end it
        """
        with self._changed:
            self._has_answered = True
            if self._since is not None and number == self.number:
                log.info("Stripe responds again, after %.1f s", time.monotonic() - self._since)
                self._end()

    def probe_ended(self) -> None:
        """Let another request probe."""
        with self._changed:
            self._probing = False
            self._changed.notify_all()

    def failed(self, error: StripeError, *, probe: bool) -> int | None:
        """
        Learn from an error.

        :param probe: whether the request was the probe
        :return: the number of the outage to wait out; None if there is none, or it has lasted too long
        """
        with self._changed:
            if not self._has_answered or not error.unavailable:
                return None
            now = time.monotonic()
            if self._since is None:
                self.number += 1
                self._since, self._probes, self._probe_at, self._log_at = now, 0, now, now
            self._error = error
            ends_at = self._since + self.max_seconds
            if now >= ends_at:
                log.error("Stripe has been unavailable for %.0f s, giving up (max_outage)", now - self._since)
                self._given_up = self.number
                self._end()
                return None
            if probe or not self._probes:
                limit = min(FIRST_PAUSE * 2 ** min(self._probes, 16), MAX_PAUSE)
                self._probe_at = now + random.uniform(0, limit)  # noqa: S311 - not for secrets
                self._probes += 1
            # The last probe comes when the outage has lasted as long as it may.
            self._probe_at = min(max(self._probe_at, now + (error.retry_after or 0)), ends_at)
            if now >= self._log_at:
                self._log_at = now + LOG_EVERY
                log.warning(
                    "%s - all requests wait for Stripe, for at most %.0f s; asking again in %.1f s",
                    in_one_line(error),
                    ends_at - now,
                    self._probe_at - now,
                )
            return self.number

    def _end(self) -> None:
        self._since = None
        self._probing = False
        self._changed.notify_all()
