"""What changed at Stripe lately, from its events."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.judgement import summary
from airflow_provider_stripe_identity.stripe_api import StripeError, StripePermissionError

log = logging.getLogger(__name__)

#: Every poll reads this many seconds before the newest event again: events may be listed late or out of order.
OVERLAP = 120
#: How far this machine's clock may differ from Stripe's, in seconds; it counts only until the first event is seen.
CLOCK_SKEW = 600
#: How often to see whether the key may read events by now, in seconds.
ASK_FOR_PERMISSION_AGAIN_AFTER = 3600.0
#: The changes after which somebody may stop waiting.
EVENT_TYPES = tuple(
    f"identity.verification_session.{change}" for change in ("verified", "canceled", "requires_input", "processing")
)


#: A session's summary as it was at the event.
Session = dict[str, Any]


class Changes(NamedTuple):
    """
    What one poll found that those before did not.

    :param by_reference: the changed sessions of each ``client_reference_id``, newest change first
    :param unavailable: the key may not read events
    :param failed: why polling is of no use any more
    """

    by_reference: Mapping[str, Sequence[Session]] = {}
    unavailable: bool = False
    failed: str | None = None

    def of(self, reference: str) -> Sequence[Session]:
        """Return one reference's changed sessions."""
        return self.by_reference.get(reference, ())


class ChangeStream:
    """
    Reads Stripe's events again and again, each time from a little before the newest one seen.

    :param stripe_conn_id: Airflow connection of type ``stripe_identity``
    :param stripe_account: connected account to read, instead of the connection's
    """

    def __init__(self, stripe_conn_id: str, stripe_account: str | None = None) -> None:
        self._stripe_conn_id = stripe_conn_id
        self._stripe_account = stripe_account
        # From the first event on by Stripe's clock alone. What changed before that, those who join see for themselves.
        self._since = int(time.time()) - CLOCK_SKEW
        self._told: set[str] = set()
        self._unavailable_until = 0.0

    async def poll(self) -> Changes | None:
        """Return what is new; None when nothing is, or after an error that the next poll may not have."""
        if time.monotonic() < self._unavailable_until:
            return Changes(unavailable=True)
        try:
            hook = await StripeIdentityHook.connected(
                self._stripe_conn_id, stripe_account=self._stripe_account, max_retries=0
            )
            return await asyncio.to_thread(self._read, hook)
        except StripePermissionError as error:
            log.warning(
                "Connection %s: every waiting sensor polls Stripe on its own. With the permission Events: Read, all of "
                "them would share one poll. %s",
                self._stripe_conn_id,
                error,
            )
            self._unavailable_until = time.monotonic() + ASK_FOR_PERMISSION_AGAIN_AFTER
            return Changes(unavailable=True)
        except ValueError as error:
            return Changes(failed=str(error))
        except StripeError as error:
            if error.permanent:
                return Changes(failed=str(error))
            log.warning("%s - polling again in the next interval", error)
            return None

    def _read(self, hook: StripeIdentityHook) -> Changes | None:
        by_reference: dict[str, list[Session]] = {}
        seen: dict[str, int] = {}
        for event in hook.list_events(types=EVENT_TYPES, created_gte=self._since):
            seen[event["id"]] = event["created"]
            session = event["data"]["object"]
            if event["id"] not in self._told and session.get("client_reference_id"):
                by_reference.setdefault(session["client_reference_id"], []).append(summary(session))
        self._told = set(seen)
        if seen:
            self._since = max(self._since, max(seen.values()) - OVERLAP)
        # Telling nothing would wake thousands of sensors for nothing.
        return Changes(by_reference) if by_reference else None


class EventCursor:
    """
    A place in Stripe's events, for a reader that wants each of them once.

    :param newest: time of the newest event that was passed, in epoch seconds by Stripe's clock
    :param passed: ids and times of the events passed lately, which the next reading shows again
    :param read_at: when events were last read, in epoch seconds by this machine's clock
    """

    def __init__(self, newest: int = 0, passed: Mapping[str, int] | None = None, read_at: float | None = None) -> None:
        self.newest = newest
        self._passed = dict(passed or {})
        self.read_at = time.time() if read_at is None else read_at

    @classmethod
    def at_the_end(cls, hook: StripeIdentityHook, types: Sequence[str]) -> EventCursor:
        """Return the place behind all events there are, by Stripe's clock alone."""
        cursor = cls()
        for event in hook.list_events(types=types, max_items=1):
            cursor.newest = event["created"]
            for payload in cursor.fresh(hook, types):
                cursor.passed(payload)
        return cursor

    def fresh(self, hook: StripeIdentityHook, types: Sequence[str]) -> list[dict[str, Any]]:
        """Return what happened since, oldest first, without anything secret or personal."""
        read_at = time.time()
        happened = [
            {
                "event": event["id"],
                "at": event["created"],
                "id": event["data"]["object"]["id"],
                "client_reference_id": event["data"]["object"].get("client_reference_id"),
                "status": event["data"]["object"]["status"],
                "livemode": event["livemode"],
            }
            for event in hook.list_events(types=types, created_gte=max(self.newest - OVERLAP, 0))
            if event["id"] not in self._passed
        ]
        self.read_at = read_at
        return happened[::-1]

    def passed(self, payload: Mapping[str, Any]) -> None:
        """Go past one of them."""
        self._passed[payload["event"]] = payload["at"]
        self.newest = max(self.newest, payload["at"])

    def as_json(self) -> dict[str, Any]:
        """Return what makes this cursor again."""
        lately = {event_id: at for event_id, at in self._passed.items() if at >= self.newest - OVERLAP}
        self._passed = lately
        return {"newest": self.newest, "passed": lately, "read_at": self.read_at}
