"""Whole lists, page after page. The same for sessions and events: Stripe pages every list alike."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.stripe_api.pages import Position, list_page
from airflow_provider_stripe_identity.stripe_api.parameters import (
    MAX_PAGE_SIZE,
    Query,
    Time,
    checked_page_size,
    epoch_seconds,
    page_query,
)
from airflow_provider_stripe_identity.stripe_api.ranges import ConcurrentListing

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.stripe_api.client import StripeIdentityClient


def list_objects(
    client: StripeIdentityClient,
    path: str,
    query: Query,
    *,
    created_gte: Time | None = None,
    created_lt: Time | None = None,
    page_size: int = MAX_PAGE_SIZE,
    starting_after: str | None = None,
    ending_before: str | None = None,
    max_items: int | None = None,
) -> Iterator[dict[str, Any]]:
    """
    Check the arguments, then yield every object of a list, newest first, a bounded number of pages in memory.

    A window with both ends is read in ranges side by side; without, or with a cursor or ``max_items``, page after page.

    :param query: the filters, without ``created``
    :param created_gte: only objects created then or later
    :param created_lt: only objects created before then
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
    bounds = {}
    if created_gte is not None:
        bounds["created[gte]"] = epoch_seconds("created_gte", created_gte)
    if created_lt is not None:
        bounds["created[lt]"] = epoch_seconds("created_lt", created_lt)
    if len(bounds) == 2 and bounds["created[gte]"] > bounds["created[lt]"]:
        raise ValueError(f"created_gte ({created_gte}) is after created_lt ({created_lt})")
    if len(bounds) == 2 and (starting_after, ending_before, max_items) == (None, None, None):
        start, end = bounds.values()
        return iter(ConcurrentListing(client, path, query, start=start, end=end, page_size=page_size))
    query = [*query, *((name, str(bound)) for name, bound in bounds.items())]
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
    position = Position(cursor)
    while True:
        cursors = page_query(limit=page_size, starting_after=position.cursor)
        page = client.get(path, [*query, *cursors], malformed=partial(position.malformed, path))
        yield from page["data"]
        if not page["has_more"]:
            return
        position.advance(page["data"])


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
