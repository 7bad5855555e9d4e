"""The events of a window, and for how long Stripe has them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export.fields import ACCOUNT_FIELD
from airflow_provider_stripe_identity._export.progress import with_progress
from airflow_provider_stripe_identity._export.windows import Window
from airflow_provider_stripe_identity._stripe_api.errors import scrub
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS_ARE_KEPT
from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

log = logging.getLogger(__name__)

Event = dict[str, Any]


def every_event(
    hook: StripeIdentityHook, window: Window, accounts: Accounts | None = None, *, expected: int = 0
) -> Iterator[dict[str, Any]]:
    """
    Yield a row for every event of the window, newest first: its ``_event_…`` columns, then the session as it left it.

    :param accounts: read these, one after another; their rows have ``_stripe_account``
    :param expected: about how many events there will be; 0 if unknown
    :raises AirflowFailException: when Stripe no longer has all events of the window
    """
    for event in events_of_window(hook, window, accounts, expected=expected, check_version=True):
        yield event_fields(event) | event["data"]["object"]


def events_of_window(
    hook: StripeIdentityHook, window: Window, accounts: Accounts | None, *, expected: int, check_version: bool
) -> Iterator[Event]:
    """
    Yield every event of the six types in the window, newest first.

    :param accounts: read these, one after another
    :param expected: about how many events there will be; 0 if unknown
    :param check_version: warn of snapshots in another API version than the connection's
    :raises AirflowFailException: when Stripe no longer has all events of the window
    """
    version = hook.client.headers["Stripe-Version"]
    other_versions: set[str] = set()
    events = hook.list_events(
        types=EVENT_TYPES,
        created_gte=window.created_gte,
        created_lt=window.created_lt,
        expected=expected,
        accounts=accounts,
    )
    for event in with_progress(events, window, what="events", accounts=accounts):
        written_in = str(event.get("api_version"))
        if check_version and written_in not in (version, *other_versions):
            other_versions.add(written_in)
            log.warning(
                "Stripe wrote these events in API version %s, the connection reads version %s: fields may differ. "
                "The changes with refetch=True read every session in the connection's version",
                scrub(written_in),
                version,
            )
        yield event
    # The oldest events come last, and may have been dropped while the newer ones were read.
    check_events_are_kept(window, hook.client.clock.latest_at(time.monotonic()))


def event_fields(event: Event) -> dict[str, Any]:
    """Return what a row says of its event, and of the account that it was read from."""
    fields = {"_event_id": event["id"], "_event_type": event["type"], "_event_created": event["created"]}
    return fields | {ACCOUNT_FIELD: event[ACCOUNT_FIELD]} if ACCOUNT_FIELD in event else fields


def with_late_events(window: Window, lookback: timedelta) -> Window:
    """
    Return what is read for a run's window: ``lookback`` before it as well, as far as Stripe still has that.

    :raises AirflowFailException: when Stripe no longer has all events of the window itself
    """
    now = time.time()
    check_events_are_kept(window, now)
    kept = math.ceil(now) - EVENTS_ARE_KEPT + 3600
    earlier = window.starting_earlier(lookback)
    return earlier._replace(created_gte=min(window.created_gte, max(earlier.created_gte, kept)))


def check_events_are_kept(window: Window, now: float) -> None:
    """
    Refuse a window of which Stripe has dropped events: what it then finds would not be all changes.

    :param now: in epoch seconds
    :raises AirflowFailException: it will not find them in another try
    """
    if window.created_gte < now - EVENTS_ARE_KEPT:
        raise AirflowFailException(
            f"the window {window} begins more than 30 days ago, and Stripe keeps events no longer: its changes cannot "
            "be known any more. Export the sessions themselves again with StripeIdentityToObjectStorageOperator "
            "(created_gte and created_lt around all that may have changed since, or lookback), and merge them by id"
        )
