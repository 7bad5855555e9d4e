"""One page of a list: the request for it, and what makes it one that a listing can go on with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import msgspec

from airflow_provider_stripe_identity.stripe_api.parameters import (
    EVENT_TYPES,
    LAST_EPOCH,
    MAX_TEXT,
    Query,
    page_query,
)

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient


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
    :raises StripeError: also when the answer is no list of Stripe's, or an empty page that promises more
    """
    page = page_query(limit=limit, starting_after=starting_after, ending_before=ending_before)
    return client.get(path, [*query, *page], malformed=partial(malformed, path))


VERIFICATION_SESSIONS = "/v1/identity/verification_sessions"
EVENTS = "/v1/events"

_Item = TypeVar("_Item")
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
        """Say why an answer is no page to go on with from here, None when it is one."""
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


def malformed(path: str, answer: dict[str, Any]) -> str | None:
    """Say why an answer is no page of a list, None when it is one; only what this package relies on counts."""
    page: _List[_Event] | _List[_Session]
    try:
        if path == EVENTS:
            page = msgspec.convert(answer, _List[_Event])
            for event in page.data:
                if event.type in EVENT_TYPES:
                    msgspec.convert(event.data.get("object"), _Session)
        else:
            page = msgspec.convert(answer, _List[_Session])
    except msgspec.ValidationError as error:
        return f"is not a list of Stripe's ({error})"
    if page.has_more and not page.data:
        return "is an empty page that promises more"
    if len({item.id for item in page.data}) < len(page.data):
        return "is a page that holds an object twice"
    return None
