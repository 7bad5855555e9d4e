"""One page of a list: the request for it, and what makes it one that a listing can go on with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.stripe_api.parameters import Query, page_query

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
    return client.get(path, [*query, *page], malformed=malformed)


class Position:
    """How far a listing has come, to notice a server that ignores the cursor: it would never end."""

    def __init__(self, cursor: str | None) -> None:
        self.cursor = cursor
        self._second: int | None = None
        self._ids = {cursor}  # of that second: the list is ordered by seconds, and ids do not show their order

    def malformed(self, answer: dict[str, Any]) -> str | None:
        """Say why an answer is no page to go on with from here, None when it is one."""
        problem = malformed(answer)
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


def malformed(answer: dict[str, Any]) -> str | None:
    """Say why an answer is no page of a list, None when it is one."""
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
