"""One page of a list: the request for it, and what makes it one that a listing can go on with."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec

from airflow_provider_stripe_identity._stripe_api.errors import AnswerTooLargeError
from airflow_provider_stripe_identity._stripe_api.parameters import (
    EVENT_TYPES,
    LAST_EPOCH,
    MAX_TEXT,
    Query,
    page_query,
)

if TYPE_CHECKING:
    import threading

    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

log = logging.getLogger(__name__)

VERIFICATION_SESSIONS = "/v1/identity/verification_sessions"
EVENTS = "/v1/events"
#: For as many seconds Stripe lists an event (https://docs.stripe.com/api/events).
EVENTS_ARE_KEPT = 30 * 86400


def list_page(
    client: StripeIdentityClient,
    path: str,
    query: Query,
    *,
    limit: int | None = None,
    starting_after: str | None = None,
    ending_before: str | None = None,
) -> dict[str, Any]:
    """
    Read one page, in one request.

    :raises ValueError: for a ``limit`` outside 1-100 or both cursors
    :raises StripeError: also when the response is no list of Stripe's, an empty page that promises more, or not what
        the query asks for
    """
    query = [*query, *page_query(limit=limit, starting_after=starting_after, ending_before=ending_before)]
    return client.get(path, query, malformed=lambda page: malformed(path, page) or not_asked_for(query, page["data"]))


class PageReader:
    """
    Reads the pages of one listing, for any number of threads.

    A page that is larger than a client reads is asked for again with half as many objects, and so are those after it.

    :param client: makes the requests
    :param path: the list endpoint
    :param query: the filters
    :param page_size: objects a request
    """

    def __init__(self, client: StripeIdentityClient, path: str, query: Query, page_size: int) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._page_size = page_size

    def read(
        self,
        malformed: Callable[[str, dict[str, Any]], str | None],
        *,
        bounds: Query = (),
        cursor: str | None = None,
        patient: bool = True,
        stop: threading.Event | None = None,
    ) -> dict[str, Any]:
        """
        Read one page.

        :param malformed: says why the response of a path is no page to go on with
        :param bounds: further filters, of this page
        :param cursor: only objects after the one with this id
        :param patient: wait out an outage
        :param stop: ends the request once it is set
        """
        filters = [*self._query, *bounds]

        def problem(page: dict[str, Any]) -> str | None:
            return malformed(self._path, page) or not_asked_for(filters, page["data"])

        while True:
            limit = self._page_size
            query = [*filters, *page_query(limit=limit, starting_after=cursor)]
            try:
                return self._client.get(self._path, query, malformed=problem, patient=patient, stop=stop)
            except AnswerTooLargeError:
                if limit == 1:
                    raise
                self._page_size = min(self._page_size, limit // 2)
                log.warning("A page of %d objects is too large, asking for %d at once", limit, self._page_size)


def verification_session_path(session_id: str) -> str:
    """
    Return the path of one session.

    :raises ValueError: for an id that could lead to another part of the API
    """
    if not isinstance(session_id, str) or not session_id.isascii() or not session_id.replace("_", "").isalnum():
        raise ValueError("session_id must be the id of a VerificationSession (vs_…)")
    return f"{VERIFICATION_SESSIONS}/{session_id}"


_Item = TypeVar("_Item")
_Type = TypeVar("_Type")
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
_LongText = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Second = Annotated[int, msgspec.Meta(ge=0, le=LAST_EPOCH)]


class Position:
    """How far a listing has come, to notice a server that ignores the cursor: it would never end."""

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self._second: int | None = None
        self._ids = {cursor}  # of that second: the list is ordered by seconds, and ids do not show their order

    def malformed(self, path: str, answer: dict[str, Any]) -> str | None:
        """Say why a response is no page to go on with from here, None when it is one."""
        problem = malformed(path, answer)
        if problem or not answer["data"]:
            return problem
        last = answer["data"][-1]
        if last["id"] in self._ids or (self._second is not None and last["created"] > self._second):
            return "is a page on which the cursor does not move"
        return None

    def advance(self, data: list[dict[str, Any]]) -> None:
        """Go to the end of a page."""
        last = data[-1]
        if last["created"] != self._second:
            self._second, self._ids = last["created"], set()
        self._ids.update(item["id"] for item in data if item["created"] == self._second)
        self.cursor = last["id"]


def converter(to: type[_Type]) -> Callable[[Any], _Type]:
    """
    Return ``msgspec.convert`` to a type; call this while a module is imported.

    msgspec builds what it knows of a type when the type is first used, and until that is done another thread that uses
    the type reads from address 0 (msgspec 0.22): a triggerer ends, and a task, in which Airflow handles SIGSEGV, never
    does. Here it is built under the lock of the import.
    """
    msgspec.json.Decoder(to)
    return partial(msgspec.convert, type=to)


class _Report(msgspec.Struct):
    id: _Text


class _Session(msgspec.Struct, tag_field="object", tag="identity.verification_session"):
    id: _Text
    created: _Second
    livemode: bool
    status: _Text
    client_reference_id: _LongText | None = None
    type: _Text | None = None
    last_verification_report: _Text | _Report | None = None


class _Event(msgspec.Struct, tag_field="object", tag="event"):
    id: _Text
    created: _Second
    livemode: bool
    type: _Text
    data: dict[str, Any]


class _List(msgspec.Struct, Generic[_Item], tag_field="object", tag="list"):
    data: list[_Item]
    has_more: bool


_to_session = converter(_Session)
_to_events = converter(_List[_Event])
_to_sessions = converter(_List[_Session])


def malformed(path: str, answer: dict[str, Any]) -> str | None:
    """Say why a response is no page of a list, None when it is one; only what this package relies on counts."""
    page: _List[_Event] | _List[_Session]
    try:
        if path == EVENTS:
            page = _to_events(answer)
            for event in page.data:
                if event.type in EVENT_TYPES:
                    _to_session(event.data.get("object"))
        else:
            page = _to_sessions(answer)
    except msgspec.ValidationError as error:
        return f"is not a list of Stripe's ({error})"
    if page.has_more and not page.data:
        return "is an empty page that promises more"
    if len({item.id for item in page.data}) < len(page.data):
        return "is a page that holds an object twice"
    return None


#: Filters that name a field of the object; it holds an id, or the object itself where that is expanded.
_FIELDS = ("client_reference_id", "related_customer", "related_customer_account")
_BOUNDS: dict[str, Callable[[int, int], bool]] = {
    "created": operator.eq,
    "created[gt]": operator.gt,
    "created[gte]": operator.ge,
    "created[lt]": operator.lt,
    "created[lte]": operator.le,
}


def not_asked_for(query: Query, data: list[dict[str, Any]]) -> str | None:
    """
    Say which part of the query a page does not answer, None when it answers all: a gateway may drop the query.

    A status is different: Stripe may look for it in an index that is a moment older than the sessions. So one session
    that has just left it, or a tenth of a page, is no fault, and a listing leaves it out.
    """
    types = [value for name, value in query if name in ("type", "types[]")]
    if types and not all(_is_one_of(types, event["type"]) for event in data):
        return "is a page with events of other types than asked for"
    for name, value in query:
        if name == "limit" and len(data) > int(value):
            return "is a page with more objects than asked for"
        if (fits := _BOUNDS.get(name)) and not all(fits(item["created"], int(value)) for item in data):
            return "is a page with objects from outside the window"
        if name in _FIELDS and any(_id(item.get(name)) != value for item in data):
            return f"is a page with sessions of another {name} than asked for"
        if name == "status" and sum(item["status"] != value for item in data) > max(1, len(data) // 10):
            return "is a page with sessions of other statuses than asked for"
    return None


def _id(value: Any) -> Any:
    return value.get("id") if isinstance(value, dict) else value


def _is_one_of(types: list[str], event_type: str) -> bool:
    """Whether an event is of one of these types, of which ``*`` may stand for the last part."""
    return any(event_type == wanted or (wanted[-1:] == "*" and event_type.startswith(wanted[:-1])) for wanted in types)
