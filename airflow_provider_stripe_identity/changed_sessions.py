"""The sessions that changed in a window, each as its last event left it or as it is now."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity.airflow_names import AirflowFailException
from airflow_provider_stripe_identity.progress import with_progress
from airflow_provider_stripe_identity.stripe_api.errors import scrub
from airflow_provider_stripe_identity.stripe_api.parameters import EVENT_TYPES
from airflow_provider_stripe_identity.windows import Window

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

log = logging.getLogger(__name__)

#: How long Stripe keeps events, in seconds.
EVENTS_ARE_KEPT = 30 * 86400

Session = dict[str, Any]


def changed_sessions(hook: StripeIdentityHook, window: Window, *, check_version: bool) -> Iterator[Session]:
    """
    Yield every session with an event in the window once: the newest event's snapshot and ``_event_…`` columns.

    Of each session only the id is kept in memory.

    :param check_version: warn of snapshots in another API version than the connection's
    :raises AirflowFailException: when Stripe does not have all events of the window any more
    """
    version = hook.client.headers["Stripe-Version"]
    other_versions: set[str] = set()
    seen: set[str] = set()
    events = hook.list_events(types=EVENT_TYPES, created_gte=window.created_gte, created_lt=window.created_lt)
    for event in with_progress(events, window, what="events"):
        session = event["data"]["object"]
        if session["id"] in seen:
            continue
        seen.add(session["id"])
        written_in = str(event.get("api_version"))
        if check_version and written_in not in (version, *other_versions):
            other_versions.add(written_in)
            log.warning(
                "Stripe wrote these events in API version %s, the connection reads version %s: fields may differ. "
                "With refetch=True every session is read in the connection's version",
                scrub(written_in),
                version,
            )
        yield session | {
            "_event_id": event["id"],
            "_event_type": event["type"],
            "_event_created": event["created"],
        }
    # The oldest events come last, and may have been dropped while the newer ones were read.
    check_events_are_kept(window, hook.client.clock.at(time.monotonic()))


def fetched_anew(hook: StripeIdentityHook, changed: Iterable[Session], expand: Sequence[str]) -> Iterator[Session]:
    """
    Yield the sessions as they are now, in the same order, with the ``_event_…`` columns that they come with.

    They are read side by side, as many at once as the connection allows, and a few more are held in memory.

    :param expand: paths from the session on
    """
    at_once = hook.client.max_concurrency
    stop = threading.Event()

    def fetch(session: Session) -> Session:
        event = {name: value for name, value in session.items() if name.startswith("_event_")}
        return hook.get_verification_session(session["id"], expand=expand, stop=stop) | event

    pool = ThreadPoolExecutor(at_once, thread_name_prefix="stripe_identity")
    under_way: deque[Future[Session]] = deque()
    try:
        for session in changed:
            under_way.append(pool.submit(fetch, session))
            if len(under_way) > 2 * at_once:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


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
