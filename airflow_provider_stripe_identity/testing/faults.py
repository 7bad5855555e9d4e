"""What goes wrong between a client and Stripe, to order."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any, Literal

from .api import Response


@dataclass(frozen=True)
class Fault:
    """
    One thing that goes wrong with one request. Use the class methods.

    :param kind: what goes wrong
    :param response: what is answered instead
    :param seconds: how long it takes
    """

    kind: Literal["answer", "reset", "cut_short", "empty_page", "stuck_cursor", "delay", "drip"]
    response: Response | None = None
    seconds: float = 0

    @classmethod
    def status(
        cls,
        status: int,
        *,
        headers: Mapping[str, str | None] | None = None,
        error: Mapping[str, Any] | None = None,
        body: Any = None,
    ) -> Fault:
        """
        Answer with a status, for example `Fault.status(503, headers={"Stripe-Should-Retry": "false"})`.

        :param status: the HTTP status
        :param headers: further headers; None takes one away, such as `Request-Id`
        :param error: Stripe's error object; by default a plausible one below 500
        :param body: anything else: text as it is (HTML by default from 500), other values as JSON
        """
        phrase = responses.get(status, "Unknown")
        if error is None and body is None:
            if status >= 500:
                body = f"<html><body><h1>{status} {phrase}</h1></body></html>\n"
            else:
                error = {"message": phrase, "type": "invalid_request_error"}
        return cls("answer", Response(status, body if error is None else {"error": dict(error)}, headers or {}))

    @classmethod
    def rate_limited(cls, reason: str | None = "endpoint-rate", **headers: str) -> Fault:
        """
        Answer 429.

        :param reason: `Stripe-Rate-Limited-Reason`; None is a lock timeout, which has no Request-Id either
        :param headers: further headers, with underscores for dashes: `Retry_After="2"`
        """
        more: dict[str, str | None] = {name.replace("_", "-"): value for name, value in headers.items()}
        if reason is None:
            message = "This object cannot be accessed right now because another request is accessing it."
            error = {"code": "lock_timeout", "message": message, "type": "invalid_request_error"}
            return cls.status(429, headers={"Request-Id": None, **more}, error=error)
        return cls("answer", rate_limited(reason, more))

    @classmethod
    def redirect(cls, location: str, status: int = 302) -> Fault:
        """
        Send the client elsewhere.

        :param location: where to
        :param status: the HTTP status
        """
        return cls("answer", Response(status, "", {"Location": location}))

    @classmethod
    def not_json(cls) -> Fault:
        """Answer 200 with HTML, as a captive portal does."""
        return cls("answer", Response(200, "<html><body>Please log in</body></html>\n"))

    @classmethod
    def not_a_list(cls) -> Fault:
        """Answer 200 with JSON that is nothing of Stripe's."""
        return cls("answer", Response(200, {"status": "ok"}))

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection instead of a response."""
        return cls("reset")

    @classmethod
    def cut_short(cls) -> Fault:
        """Announce the whole body, send half of it and close the connection."""
        return cls("cut_short")

    @classmethod
    def empty_page(cls) -> Fault:
        """Answer a list request with no objects, and `has_more`."""
        return cls("empty_page")

    @classmethod
    def stuck_cursor(cls) -> Fault:
        """Answer a list request as if it had no cursor."""
        return cls("stuck_cursor")

    @classmethod
    def delay(cls, seconds: float) -> Fault:
        """
        Answer late.

        :param seconds: how late
        """
        return cls("delay", seconds=seconds)

    @classmethod
    def drip(cls, seconds: float) -> Fault:
        """
        Answer at once, but send the body in small pieces.

        :param seconds: how long that takes in all
        """
        return cls("drip", seconds=seconds)


def rate_limited(reason: str, headers: Mapping[str, str | None] | None = None) -> Response:
    """
    Return Stripe's response to too many requests.

    :param reason: which limit was hit
    :param headers: further headers
    """
    message = "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits."
    error = {"code": "rate_limit", "message": message, "type": "invalid_request_error"}
    return Response(429, {"error": error}, {"Stripe-Rate-Limited-Reason": reason, **(headers or {})})


class FaultPlan:
    """Which request gets which fault."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Let everything go well."""
        with self._lock:
            self._next: deque[Fault] = deque()
            self._every: tuple[int, tuple[Fault, ...], random.Random | None] | None = None
            self._count = 0

    def inject(self, *faults: Fault) -> None:
        """
        Let the next requests fail.

        :param faults: one for each of them
        """
        with self._lock:
            self._next.extend(faults)

    def every(self, n: int, *faults: Fault, seed: int | None = None) -> None:
        """
        Let about every n-th request fail.

        :param n: how often
        :param faults: what to choose from
        :param seed: of the random choice; None is every n-th exactly, the faults in turn
        """
        with self._lock:
            self._every = (n, faults, None if seed is None else random.Random(seed))
            self._count = 0

    def next(self) -> Fault | None:
        """Return the fault of the request that has just arrived, if it gets one."""
        with self._lock:
            if self._next:
                return self._next.popleft()
            if self._every is None:
                return None
            n, faults, dice = self._every
            if dice:
                return dice.choice(faults) if dice.randrange(n) == 0 else None
            self._count += 1
            return faults[(self._count // n - 1) % len(faults)] if self._count % n == 0 else None
