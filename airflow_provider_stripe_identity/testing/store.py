"""The state of one Stripe account: its sessions, their reports and the events about them."""

from __future__ import annotations

import sys
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from heapq import merge
from itertools import islice
from typing import Any, Protocol

from . import generated
from .generated import Population
from .objects import (
    STRIPES_PAGES,
    WITHOUT_REPORT,
    Json,
    credentials,
    erased,
    erased_report,
    event,
    is_redacted,
    last_error,
    verification_report,
    verified_outputs,
)

# A place in a list, oldest first: `created` and what breaks the tie. Shorter keys serve as bounds.
Key = tuple[float, ...]

OLDEST: Key = ()
NEWEST: Key = (float("inf"),)

EVENTS_ARE_KEPT = 30 * 86400

_BEFORE = {
    "processing": ("requires_input",),
    "verified": ("requires_input", "processing"),
    "requires_input": ("requires_input", "processing"),
    "canceled": ("requires_input",),
}
_IMMUTABLE = ("id", "object", "created")
# What a session does not have at its creation
_LATER = ("last_error", "last_verification_report", "redaction", "verified_outputs")


class EmulatorError(Exception):
    """
    What the emulator refuses, in Stripe's words: the response to a request, raised by the methods of the server.

    :param status: the HTTP status
    :param message: what went wrong
    :param code: Stripe's error code, if there is one
    :param param: the parameter at fault
    :param error_type: Stripe's type of the error
    :param headers: further headers of the response
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        error_type: str = "invalid_request_error",
        headers: dict[str, str | None] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        error = {"code": code, "message": message, "param": param, "type": error_type}
        self.body: Json = {"error": {name: value for name, value in error.items() if value is not None}}


class _Stream(Protocol):
    """A sequence of objects, oldest first, that can be found by place and by id."""

    def __len__(self) -> int: ...
    def item(self, i: int) -> Json: ...
    def key(self, i: int) -> Key: ...
    def find(self, object_id: str) -> int | None: ...
    def candidates(self, wanted: dict[str, Any], low: int, high: int) -> Sequence[int]: ...
    def match(self, i: int, wanted: dict[str, Any]) -> Json | None: ...


class Recorded:
    """A stream of objects that are kept one by one; those of one second in the order of their arrival."""

    def __init__(self) -> None:
        self._keys: list[tuple[int, int, int]] = []
        self._objects: dict[int, Json] = {}
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def item(self, i: int) -> Json:
        """Return an object."""
        return self._objects[self._keys[i][-1]]

    def add(self, item: Json) -> None:
        """Keep one more object."""
        number = len(self._keys)
        insort(self._keys, (item["created"], sys.maxsize, number))
        self._objects[number] = item
        self._numbers[item["id"]] = number

    def replace(self, item: Json) -> None:
        """Keep an object instead of the one with its id."""
        self._objects[self._numbers[item["id"]]] = item

    def key(self, i: int) -> Key:
        """Return the place of an object in the order of all."""
        return self._keys[i]

    def find(self, object_id: str) -> int | None:
        """Return the index of an object."""
        number = self._numbers.get(object_id)
        if number is None:
            return None
        return bisect_left(self._keys, (self._objects[number]["created"], sys.maxsize, number))

    def candidates(self, wanted: dict[str, Any], low: int, high: int) -> Sequence[int]:
        """Return the indices of all objects in a range."""
        return range(low, high)

    def match(self, i: int, wanted: dict[str, Any]) -> Json | None:
        """Return an object if it is one of those that are wanted."""
        item = self.item(i)
        return item if all(item.get(name) in values for name, values in wanted.items()) else None


class Store:
    """
    One account's objects. Stored objects are replaced, never modified: a snapshot stays what it was.

    :param account: the account's id
    :param livemode: whether its objects are live ones
    :param clock: returns the time in epoch seconds
    :param pages: returns the address of a session's verification page
    """

    def __init__(
        self,
        account: str,
        *,
        livemode: bool,
        clock: Callable[[], float] = time.time,
        pages: Callable[[], str] = lambda: STRIPES_PAGES,
    ) -> None:
        self.account, self.livemode = account, livemode
        self._clock, self._pages = clock, pages
        #: When it was opened or connected
        self.created = int(clock())
        #: Accounts that are connected to this one, in the order of their connection
        self.connected: dict[str, Store] = {}
        self._lock = threading.RLock()
        self._ids = 0
        self._populations: list[Population] = []
        self._sessions, self._reports, self._events = Recorded(), Recorded(), Recorded()
        self._streams: dict[str, list[_Stream]] = {
            "session": [self._sessions],
            "report": [self._reports],
            "event": [self._events],
        }
        self._outputs: dict[str, Json] = {}

    # What there is

    def populate(self, count: int, start: int, end: int, *, seed: int) -> None:
        """Add generated sessions."""
        with self._lock:
            rank = len(self._populations)
            population = Population(
                count,
                start,
                end,
                seed=seed,
                rank=rank,
                account=self.account,
                livemode=self.livemode,
                pages=self._pages,
            )
            self._populations.append(population)
            self._streams["session"].append(population)
            self._streams["report"].append(generated.PopulationReports(population))
            self._streams["event"] += generated.events(population)

    def page(
        self,
        kind: str,
        wanted: dict[str, Any],
        low: Key = OLDEST,
        high: Key = NEWEST,
        *,
        limit: int,
        newest_first: bool = True,
    ) -> list[Json]:
        """
        Return the first objects between two places.

        :param kind: "session", "report" or "event"
        :param wanted: values to accept, by field
        :param low: the oldest place, inclusive
        :param high: the newest place, exclusive
        :param limit: how many at most
        :param newest_first: from which end, and in which order
        """
        with self._lock:
            found = islice(self._scan(kind, wanted, low, high, newest_first), limit)
            return [self._current(kind, item) for _, item in found]

    def sessions(self, wanted: dict[str, Any], low: Key = OLDEST, high: Key = NEWEST) -> Iterator[Json]:
        """Yield all sessions between two places, newest first; others may change the store meanwhile."""
        while True:
            with self._lock:
                found = list(islice(self._scan("session", wanted, low, high, True), 1000))
            yield from (session for _, session in found)
            if not found:
                return
            high = found[-1][0]

    def _scan(
        self, kind: str, wanted: dict[str, Any], low: Key, high: Key, newest_first: bool
    ) -> Iterator[tuple[Key, Json]]:
        if kind == "event":
            low = max(low, (self._clock() - EVENTS_ARE_KEPT,))

        def places(stream: _Stream) -> Iterator[tuple[Key, _Stream, int]]:
            everything = range(len(stream))
            first = bisect_left(everything, low, key=stream.key)
            last = bisect_left(everything, high, key=stream.key)
            numbers = stream.candidates(wanted, first, last)
            for i in reversed(numbers) if newest_first else numbers:
                yield stream.key(i), stream, i

        streams = map(places, self._streams[kind])
        for key, stream, i in merge(*streams, key=lambda place: place[0], reverse=newest_first):
            item = stream.match(i, wanted)
            if item is not None:
                yield key, item

    def find(self, kind: str, object_id: str) -> tuple[Key, Json] | None:
        """
        Return an object and its place.

        :param kind: "session", "report" or "event"
        :param object_id: its id
        """
        with self._lock:
            for stream in self._streams[kind]:
                i = stream.find(object_id)
                if i is not None:
                    key, item = stream.key(i), self._current(kind, stream.item(i))
                    gone = kind == "event" and key[0] < self._clock() - EVENTS_ARE_KEPT
                    return None if gone else (key, item)
        return None

    def _current(self, kind: str, item: Json) -> Json:
        """Return an object as it is to be seen now: redacting a session redacts its reports and events."""
        if kind == "event":
            snapshot = item["data"]["object"]
            if is_redacted(self.session(snapshot["id"])):
                return {**item, "data": {"object": erased(snapshot)}}
        if kind == "report" and is_redacted(self.session(item["verification_session"])):
            return erased_report(item)
        return item

    def session(self, session_id: str) -> Json:
        """
        Return a session.

        :param session_id: its id
        """
        found = self.find("session", session_id)
        if found is None:
            raise missing("verification_session", session_id)
        return found[1]

    def report(self, report_id: str) -> Json:
        """
        Return a verification report.

        :param report_id: its id
        """
        found = self.find("report", report_id)
        if found is None:
            raise missing("verification_report", report_id)
        return found[1]

    def verified_outputs(self, session: Json) -> Json | None:
        """
        Return the verified outputs of a session.

        :param session: the session
        """
        return verified_outputs(session, self._outputs.get(session["id"]))

    # What happens to it

    def create(self, *, status: str = "requires_input", created: int | None = None, **fields: Any) -> Json:
        """
        Add a session, and the events of its creation and of its status.

        :param status: its status
        :param created: when, by default now; both events happen then
        :param fields: its other fields
        """
        _refuse_immutable(fields)
        with self._lock:
            session_id = self._new_id("vs")
            now = int(self._clock()) if created is None else created
            session: Json = {
                "id": session_id,
                "object": "identity.verification_session",
                "client_reference_id": None,
                "client_secret": None,
                "created": now,
                "last_error": None,
                "last_verification_report": None,
                "livemode": self.livemode,
                "metadata": {},
                "options": {},
                "provided_details": None,
                "redaction": None,
                "related_customer": None,
                "related_customer_account": None,
                "status": "requires_input",
                "type": "document",
                "url": None,
                **{name: value for name, value in fields.items() if name not in _LATER},
            }
            session |= credentials(session_id, self.livemode, self._pages())
            self._sessions.add(session)
            self._record("created", session, now)
            happened = status if status != "requires_input" or fields.get("last_error") else None
            return self._change(session, happened, fields, now)

    def update(self, session_id: str, **fields: Any) -> Json:
        """
        Set fields of a session. A new status brings its consequences and its event.

        :param session_id: its id
        :param fields: any fields but those that never change; they win over consequences
        """
        _refuse_immutable(fields)
        with self._lock:
            session = self.session(session_id)
            status = fields.get("status", session["status"])
            return self._change(session, status if status != session["status"] else None, fields)

    def transition(
        self, session_id: str, status: str, *, code: str | None = None, event_created: int | None = None, **fields: Any
    ) -> Json:
        """
        Take a session to its next status, if it can get there.

        :param session_id: its id
        :param status: the status
        :param code: with `requires_input`: why the check failed
        :param event_created: when the event says that it happened, by default now
        :param fields: other fields to set
        """
        _refuse_immutable(fields)
        with self._lock:
            session = self.session(session_id)
            if session["status"] not in _BEFORE[status]:
                raise _impossible(session, status)
            if code:
                fields = {"last_error": last_error(code), **fields}
                if code not in WITHOUT_REPORT:
                    fields = {"last_verification_report": self._new_id("vr"), **fields}
            return self._change(session, status, fields, event_created)

    def redact(self, session_id: str, *, status: str = "redacted") -> Json:
        """
        Redact a session; one that waits for input is canceled first.

        :param session_id: its id
        :param status: "processing" starts the redaction only, personal data stays until it is "redacted"
        """
        with self._lock:
            session = self.session(session_id)
            started = session["redaction"] and not is_redacted(session)
            if not started and (session["status"] not in ("requires_input", "verified") or session["redaction"]):
                raise _impossible(session, "redacted")
            if session["status"] == "requires_input":
                session = self._change(session, "canceled", {})
            if status == "redacted":
                return self._change(session, "redacted", {})
            return self._change(session, None, {"redaction": {"status": status}})

    def _change(self, session: Json, happened: str | None, fields: Json, now: int | None = None) -> Json:
        now = int(self._clock()) if now is None else now
        session = session | self._consequences(session, happened) | fields
        if "verified_outputs" in session:  # not part of a session until it is expanded
            self._outputs[session["id"]] = session.pop("verified_outputs")
        for population in self._populations:
            i = population.find(session["id"])
            if i is not None:
                population.changed[i] = session
                break
        else:
            self._sessions.replace(session)
        report_id = session["last_verification_report"]
        if report_id and not self.find("report", report_id):
            self._reports.add(verification_report(session, now))
        if happened:
            self._record(happened, session, now)
        return session

    def _consequences(self, session: Json, happened: str | None) -> Json:
        unusable: Json = {"client_secret": None, "url": None}
        match happened:
            case None:
                return {}
            case "redacted":
                return erased(session)
            case "verified":
                report_id = self._new_id("vr")
                outcome = {"status": happened, "last_error": None, "last_verification_report": report_id}
                return outcome | unusable
            case "canceled":
                return {"status": happened, **unusable}
            case "processing":
                return {"status": happened, "last_error": None}
        return {"status": happened, **credentials(session["id"], session["livemode"], self._pages())}

    def _record(self, happened: str, session: Json, now: int) -> None:
        self._events.add(event(self._new_id("evt"), happened, now, session))

    def _new_id(self, prefix: str) -> str:
        self._ids += 1
        digits = blake2b(f"{self.account} {self._ids}".encode(), digest_size=12).hexdigest()
        return f"{prefix}_1{digits}"


def missing(kind: str, object_id: str, *, status: int = 404, param: str = "id") -> EmulatorError:
    """
    Return Stripe's response to an id that it does not know.

    :param kind: what the id should be of, in Stripe's words
    :param object_id: the id
    :param status: the HTTP status
    :param param: the parameter that held the id
    """
    return EmulatorError(status, f"No such {kind}: '{object_id}'", code="resource_missing", param=param)


def _refuse_immutable(fields: Json) -> None:
    if fixed := fields.keys() & _IMMUTABLE:
        raise ValueError(f"Stripe alone sets these fields of a session: {', '.join(sorted(fixed))}")


def _impossible(session: Json, status: str) -> EmulatorError:
    now = "redacted" if session["redaction"] else session["status"]
    return EmulatorError(400, f"The VerificationSession {session['id']} is {now}: it cannot become {status}.")
