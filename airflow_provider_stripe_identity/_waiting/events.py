"""
Reading Stripe's events again and again, each of them once: for the sensors' shared poll and for the watchers.

Stripe lists events newest first, by ``created``, and may list one minutes after that time. A *walk* reads the list page
by page from the newest event down to ``since``. When a walk that began at Stripe's time T has reached ``since``, it has
read everything that was listed at T: so every event before T - ``LISTED_LATE``, which is never read again. What is
newer is read again by the next walk, to see what is listed late, and known ids are left out.

* ``since`` moves with Stripe's clock, not with the events: once it is quiet, the next walk finds an empty list, in one
  request. Up to a hundred events in the last ten minutes are one request too.
* When they are more, walking through all of them at every poll would cost a request for each hundred. Such a walk is
  made at most every ``WALK_DOWN_EVERY`` seconds, and less often the longer it is; the polls between stop at the first
  page that ends with a known event. ``since`` moves only after a whole walk, so an event in the depth is seen later,
  but seen.
* An error leaves the walk where it is, and the next request goes on from there.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from airflow_provider_stripe_identity._stripe_api.errors import StripeError
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS, Position, list_page
from airflow_provider_stripe_identity._stripe_api.parameters import MAX_PAGE_SIZE, events_query, page_query
from airflow_provider_stripe_identity._waiting.verdict import summary
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

#: Stripe may list an event as many seconds after its ``created``. Others have seen five minutes.
LISTED_LATE = 600
#: How often, in seconds, all of the last ten minutes are read again when they are more than one page.
WALK_DOWN_EVERY = 60.0
#: Ids in a kept place, in eight characters each: it stays below 4 kB.
KEPT_IDS = 480


class Event(NamedTuple):
    """
    What an event says of a session, without anything secret or personal.

    :param id: of the event
    :param created: its time, in epoch seconds
    :param session: the session's summary as it was then
    :param related_customer: the session's Customer, None when there is none or the snapshot does not say
    """

    id: str
    created: int
    session: dict[str, Any]
    related_customer: str | None


class Page(NamedTuple):
    """
    What one request found.

    :param events: those that no request before has found, newest first
    :param last: the walk is over: there is nothing more to read now
    """

    events: list[Event]
    last: bool


class Place(NamedTuple):
    """
    How far the events were handled, small enough for an asset's state store.

    :param since: every event before this time was, in epoch seconds by Stripe's clock
    :param passed: digests of the ids of the later ones that were
    :param forgotten: how many digests did not fit: these events may be handled again
    """

    since: int
    passed: frozenset[bytes] = frozenset()
    forgotten: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` takes."""
        passed = base64.b64encode(b"".join(sorted(self.passed))).decode()
        return {"since": self.since, "passed": passed, "forgotten": self.forgotten}

    @classmethod
    def from_json(cls, value: Any) -> Place:
        """
        Return the place.

        :raises ValueError: when the value is none that :meth:`as_json` returned
        """
        try:
            digests = base64.b64decode(value["passed"], validate=True)
            passed = frozenset(digests[at : at + 6] for at in range(0, len(digests), 6))
            return cls(int(value["since"]), passed, int(value["forgotten"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not a place in Stripe's events: {type(error).__name__}") from None


def earliest(places: Iterable[Place]) -> Place | None:
    """Return a place up to which all of these have come, so that going on from it misses nothing for any."""
    places = list(places)
    if not places:
        return None
    return Place(
        min(place.since for place in places),
        frozenset.intersection(*(place.passed for place in places)),
        max(place.forgotten for place in places),
    )


class EventReader:
    """
    Reads events, one request a call, and returns each of them once.

    Not for two threads at once.

    :param types: the types of events
    :param place: where to go on; by default ten minutes ago by Stripe's clock
    :param passed: ids of events that were handled besides
    """

    def __init__(self, types: Sequence[str], place: Place | None = None, passed: Collection[str] = ()) -> None:
        self.types = types
        self._since = place.since if place else None
        self._passed = {*(place.passed if place else ()), *map(_digest, passed)}
        self._seen: dict[str, int] = {}
        self._walk: _Walk | None = None
        self._whole = False  # whether the last walk has left nothing out
        self._walk_down_at = 0.0
        # Of sessions that the page which is read now does not say enough of: an error does not lose what was looked up.
        self._looked_up: dict[str, dict[str, Any]] = {}

    @property
    def under_way(self) -> bool:
        """Whether a walk has got somewhere and not yet to the end."""
        return self._walk is not None and (self._walk.pages > 0 or bool(self._looked_up))

    def read_page(self, hook: StripeIdentityHook) -> Page:
        """
        Send the next request, and the few that look up sessions of which the events do not say whose they are.

        :raises StripeError: the next call tries the same again
        """
        if self._since is None:
            self._since = self._ten_minutes_ago(hook)
        walk = self._walk = self._walk or _Walk()
        sent = time.monotonic()
        try:
            page = hook.client.get(
                EVENTS,
                [
                    *events_query(types=self.types),
                    ("created[gte]", str(self._since)),
                    *page_query(limit=MAX_PAGE_SIZE, starting_after=walk.position.cursor),
                ],
                malformed=partial(walk.position.malformed, EVENTS),
            )
            data: list[dict[str, Any]] = page["data"]
            known_end = bool(data) and self._knows(data[-1]["id"])
            events = [self._event(event, hook) for event in data if not self._knows(event["id"])]
        except StripeError as error:
            if error.permanent:
                # Perhaps the event at which it was to go on is not kept any more.
                self._walk, self._whole = None, False
            raise
        if walk.pages == 0:
            walk.began_at = max(self._stripe_time(hook, sent), *(event["created"] for event in data[:1]), 0)
        walk.pages += 1
        self._looked_up.clear()
        self._seen.update((event["id"], event["created"]) for event in data)
        if not page["has_more"]:
            self._reached_the_end(walk)
        elif self._whole and known_end and time.monotonic() < self._walk_down_at:
            self._walk = None
        else:
            walk.position.advance(data)
        return Page(events, last=self._walk is None)

    def place(self, pending: Collection[Event] = ()) -> Place:
        """
        Return where another reader would go on.

        :param pending: events that were returned, and not handled yet
        """
        since = min([self._since or 0, *(event.created for event in pending)])
        waiting = {event.id for event in pending}
        passed = sorted(
            (created, event_id)
            for event_id, created in self._seen.items()
            if created >= since and event_id not in waiting
        )
        kept = frozenset(_digest(event_id) for _, event_id in passed[-KEPT_IDS:])
        return Place(since, kept, max(len(passed) - KEPT_IDS, 0))

    def _reached_the_end(self, walk: _Walk) -> None:
        self._walk, self._whole = None, True
        self._since = max(self._since or 0, walk.began_at - LISTED_LATE)
        self._seen = {event_id: created for event_id, created in self._seen.items() if created >= self._since}
        # A walk of many pages is repeated less often: at most one request a second goes into that.
        self._walk_down_at = time.monotonic() + max(WALK_DOWN_EVERY, walk.pages)

    def _knows(self, event_id: str) -> bool:
        return event_id in self._seen or (bool(self._passed) and _digest(event_id) in self._passed)

    def _event(self, event: Mapping[str, Any], hook: StripeIdentityHook) -> Event:
        session = event["data"]["object"]
        if "client_reference_id" not in session:
            # A snapshot is in the API version of its time, and old ones do not have the field.
            if session["id"] not in self._looked_up:
                self._looked_up[session["id"]] = _look_up(session["id"], hook)
            session = session | self._looked_up[session["id"]]
        return Event(event["id"], event["created"], summary(session), session.get("related_customer"))

    def _ten_minutes_ago(self, hook: StripeIdentityHook) -> int:
        sent = time.monotonic()
        newest: list[dict[str, int]] = list_page(hook.client, EVENTS, events_query(types=self.types), limit=1)["data"]
        return max(self._stripe_time(hook, sent), *(event["created"] for event in newest), LISTED_LATE) - LISTED_LATE

    @staticmethod
    def _stripe_time(hook: StripeIdentityHook, moment: float) -> int:
        """Return a time that it was at Stripe by then; 0 while no response has said one."""
        return hook.client.clock.at(moment) if hook.client.clock.known else 0


class _Walk:
    """From the newest event down: how far it has come, and when, by Stripe's clock, it began."""

    def __init__(self) -> None:
        self.position = Position(None)
        self.pages = 0
        self.began_at = 0


def _look_up(session_id: str, hook: StripeIdentityHook) -> dict[str, Any]:
    try:
        current = hook.get_verification_session(session_id)
    except StripeError as error:
        if not error.permanent:
            raise
        return {}
    return {name: current.get(name) for name in ("client_reference_id", "related_customer")}


def _digest(event_id: str) -> bytes:
    return hashlib.blake2b(event_id.encode(), digest_size=6).digest()
