"""Whole lists, page after page. The same for sessions and events: Stripe pages every list alike."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.stripe_api.parameters import (
    MAX_PAGE_SIZE,
    Query,
    checked_page_size,
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
    return client.get(path, [*query, *page], malformed=_malformed)


def list_objects(
    client: StripeIdentityClient,
    path: str,
    query: Query,
    *,
    page_size: int = MAX_PAGE_SIZE,
    starting_after: str | None = None,
    ending_before: str | None = None,
    max_items: int | None = None,
) -> Iterator[dict[str, Any]]:
    """
    Check the arguments, then yield every object of a list, newest first, one page in memory at a time.

    :param page_size: objects a request, 1 to 100
    :param starting_after: only objects older than the one with this id
    :param ending_before: only objects newer than the one with this id
    :param max_items: end after this many objects
    :raises ValueError: at once, naming the argument
    """
    checked_page_size("page_size", page_size)
    if max_items is not None and (not isinstance(max_items, int) or max_items < 1):
        raise ValueError(f"max_items must be a whole number from 1 on, not {max_items!r}")
    page_query(starting_after=starting_after, ending_before=ending_before)
    if max_items is not None:
        page_size = min(page_size, max_items)
    objects = (
        _older(client, path, query, page_size, starting_after)
        if ending_before is None
        else _newer(client, path, query, page_size, ending_before)
    )
    return islice(objects, max_items)


def _older(
    client: StripeIdentityClient, path: str, query: Query, page_size: int, cursor: str | None
) -> Iterator[dict[str, Any]]:
    position = _Position(cursor)
    while True:
        cursors = page_query(limit=page_size, starting_after=position.cursor)
        page = client.get(path, [*query, *cursors], malformed=position.malformed)
        yield from page["data"]
        if not page["has_more"]:
            return
        position.advance(page["data"])


class _Position:
    """How far a listing has come, to notice a server that ignores the cursor: it would never end."""

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self._second: int | None = None
        self._ids = {cursor}  # of that second: the list is ordered by seconds, and ids do not show their order

    def malformed(self, answer: dict[str, Any]) -> str | None:
        problem = _malformed(answer)
        if problem or not answer["data"]:
            return problem
        last = answer["data"][-1]
        if last["id"] in self._ids or (self._second is not None and last["created"] > self._second):
            return "is a page on which the cursor does not move"
        return None

    def advance(self, data: list[dict[str, Any]]) -> None:
        last = data[-1]
        if last["created"] != self._second:
            self._second, self._ids = last["created"], set()
        self._ids.update(item["id"] for item in data if item["created"] == self._second)
        self.cursor = last["id"]


def _newer(
    client: StripeIdentityClient, path: str, query: Query, page_size: int, cursor: str
) -> Iterator[dict[str, Any]]:
    """
    Yield what is newer than the cursor, newest first.

    Stripe's own backward pages begin with the ones next to the cursor, so the newest would come last and
    all would have to be kept. Instead, ask for the one object next to the cursor, and read forwards until it.
    """
    page = list_page(client, path, query, limit=1, ending_before=cursor)
    if not page["data"]:
        return
    oldest = page["data"][0]
    for item in _older(client, path, query, page_size, None):
        # Older than that one: it has left the list meanwhile, because its status changed.
        if item["created"] < oldest["created"]:
            return
        yield item
        if item["id"] == oldest["id"]:
            return


def _malformed(answer: dict[str, Any]) -> str | None:
    """Say why an answer is no page that a listing can go on with, None when it is one."""
    data, has_more = answer.get("data"), answer.get("has_more")
    if answer.get("object") != "list" or not isinstance(data, list) or not isinstance(has_more, bool):
        return "is not a list of Stripe's"
    for item in data:
        if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"]:
            return "is a list with an object without an id"
        if type(item.get("created")) is not int:
            return "is a list with an object without a time of creation"
    if has_more and not data:
        return "is an empty page that promises more"
    return None
