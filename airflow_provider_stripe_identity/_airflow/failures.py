"""
What an error means for a task, a sensor, a trigger and a poll: the one place that decides it.

*Permanent* is what only a person can mend: a wrong argument or field of the connection, a key that Stripe refuses. It
fails a task at once, without its retries. A wait in the triggerer it ends only when it still stands some intervals
later, with the connection looked up each time: a key is often revoked before its successor is saved. *Transient* is all
else, among it every failure to look up the connection: in a triggerer Airflow reports a secrets backend that is slow
with the same ``AirflowNotFoundException`` as a connection that does not exist. It is logged once and never ends a wait.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_provider_stripe_identity._airflow.version_compat import AirflowException, AirflowFailException
from airflow_provider_stripe_identity._stripe_api.errors import StripeError, in_one_line, scrub

#: A permanent error must stand for as many intervals, and for as many seconds, before it ends a wait.
STANDS_FOR_INTERVALS = 3
STANDS_FOR = 120.0


class ConnectionLookupError(AirflowException):
    """Airflow did not return the connection."""


class NoThreadError(AirflowException):
    """The operating system has no thread left, for this process or for all."""


#: What may go wrong without a defect of this package.
EXPECTED_ERRORS = (ValueError, StripeError, ConnectionLookupError, NoThreadError)


def is_permanent(error: Exception) -> bool:
    """Return whether only a person can mend it."""
    return error.permanent if isinstance(error, StripeError) else isinstance(error, ValueError)


@contextmanager
def wrong_arguments_fail_the_task() -> Iterator[None]:
    """
    Turn the ValueError of an argument, a connection's field or a window into AirflowFailException.

    The text says all, so the log does not show the ValueError with the same text above it.
    """
    try:
        yield
    except ValueError as error:
        raise AirflowFailException(str(error)) from None


@contextmanager
def permanent_errors_fail_the_task() -> Iterator[None]:
    """Turn a response from Stripe that another try cannot change (key, permissions) into AirflowFailException."""
    try:
        yield
    except StripeError as error:
        if error.permanent:
            raise AirflowFailException(str(error)) from None
        raise


@contextmanager
def connection_lookup(conn_id: str) -> Iterator[None]:
    """
    Turn whatever a look-up raises into ConnectionLookupError: secrets backends and API clients have many errors.

    A ValueError stays: it names a field of the connection that was found.
    """
    try:
        yield
    except ValueError:
        raise
    except Exception as error:
        raise ConnectionLookupError(
            f"Connection {conn_id} cannot be looked up: {type(error).__name__}: {scrub(str(error))}. "
            "It does not exist, or a secrets backend or Airflow's API did not answer"
        ) from error


class Failures:
    """
    The errors in a row of something that waits.

    :param log: where they are logged, each kind once until something succeeds
    :param interval: seconds from one try to the next
    :param account: that is read, among others of the same connection
    :param logged: of all of these: what is not about one account is logged by the first that meets it
    """

    def __init__(
        self, log: Any, interval: float, *, account: str | None = None, logged: set[object] | None = None
    ) -> None:
        self._log: logging.Logger = log
        self._interval = interval
        self._account = account
        self._logged = set[object]() if logged is None else logged
        self._met: set[object] = set()
        self.over()

    def over(self) -> None:
        """Forget them: a try has succeeded."""
        self._count = 0
        self._stands_since: float | None = None
        self._logged -= self._met
        self._met.clear()

    def happened(self, error: Exception) -> str | None:
        """Log one of ``EXPECTED_ERRORS``, and return the reason to give up, if it is one by now."""
        self._count += 1
        of = self._account if isinstance(error, StripeError) and error.account_is_unreadable else None
        kind = (type(error), getattr(error, "status", None), of)
        self._met.add(kind)
        if kind not in self._logged:
            self._logged.add(kind)
            self._log.warning(
                "%s%s - trying again every %g s, with the connection read again",
                f"Account {of}: " if of else "",
                in_one_line(error),
                self._interval,
            )
        if not is_permanent(error):
            self._stands_since = None
            return None
        now = time.monotonic()
        if self._stands_since is None:
            self._stands_since = now
        stands_for = max(STANDS_FOR_INTERVALS * self._interval, STANDS_FOR)
        return str(error) if now - self._stands_since >= stands_for else None

    def pause(self, *, under_way: bool) -> float:
        """Return the seconds until the next try: few, when the last ones had got somewhere."""
        return min(float(2 ** min(self._count - 1, 20)), self._interval) if under_way else self._interval
