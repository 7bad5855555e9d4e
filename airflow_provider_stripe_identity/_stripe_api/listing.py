"""Whole lists, page after page. The same for sessions and events: Stripe pages every list alike."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._stripe_api.concurrent_listing import ConcurrentListing
from airflow_provider_stripe_identity._stripe_api.pages import PageReader, Position, list_page
from airflow_provider_stripe_identity._stripe_api.parameters import (
    MAX_PAGE_SIZE,
    Query,
    Time,
    checked_page_size,
    epoch_seconds,
    page_query,
)

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

log = logging.getLogger(__name__)


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
    expected: int = 0,
    accounts: Accounts | None = None,
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
    :param expected: about how many objects a window with both ends holds, if that is known: it is then read in several
        ranges from the first request on
    :param accounts: read the window of each of these, in their order, instead of the client's account; every object
        gets the key ``_stripe_account``. Needs both ends
    :raises ValueError: at once, naming the argument
    """
    checked_page_size("page_size", page_size)
    if max_items is not None and (not isinstance(max_items, int) or max_items < 1):
        raise ValueError(f"max_items must be a whole number from 1 on, not {max_items!r}")
    if not isinstance(expected, int) or expected < 0:
        raise ValueError(f"expected must be a whole number from 0 on, not {expected!r}")
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
        concurrent = ConcurrentListing(
            client, path, query, start=start, end=end, page_size=page_size, expected=expected, accounts=accounts
        )
        return _of_the_status(query, iter(concurrent))
    if accounts:
        raise ValueError("accounts are read in a window: give created_gte and created_lt, and nothing to limit it")
    query = [*query, *((name, str(bound)) for name, bound in bounds.items())]
    if max_items is not None:
        page_size = min(page_size, max_items)
    objects = (
        _older(client, path, query, page_size, starting_after)
        if ending_before is None
        else _newer(client, path, query, page_size, ending_before)
    )
    return islice(_of_the_status(query, objects), max_items)


def _of_the_status(query: Query, objects: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Leave out the sessions whose status changed between Stripe's search and its response."""
    status = dict(query).get("status")
    return objects if status is None else _with_status(status, objects)


def _with_status(status: str, objects: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    left_out = 0
    for item in objects:
        if item["status"] == status:
            yield item
        else:
            left_out += 1
    if left_out:
        log.info("Left out %d sessions that Stripe found as %s and whose status had changed", left_out, status)


def _older(
    client: StripeIdentityClient, path: str, query: Query, page_size: int, cursor: str | None
) -> Iterator[dict[str, Any]]:
    position = Position(cursor)
    pages = PageReader(client, path, query, page_size)
    patient = False  # as long as nothing was read that a failure would lose: a sensor's check is to be quick
    while True:
        page = pages.read(position.malformed, cursor=position.cursor, patient=patient)
        yield from page["data"]
        if not page["has_more"]:
            return
        position.advance(page["data"])
        patient = True


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
