"""The sessions that changed in a window, each as its last event left it or as it is now."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import groupby
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._export.events import event_fields, events_of_window
from airflow_provider_stripe_identity._export.fields import ACCOUNT_FIELD, EVENT_FIELDS
from airflow_provider_stripe_identity._export.lifecycle import lifecycle_step
from airflow_provider_stripe_identity._export.windows import Window
from airflow_provider_stripe_identity._stripe_api.concurrent_listing import MAX_LEAVING
from airflow_provider_stripe_identity._stripe_api.errors import StripeInvalidRequestError, scrub

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

log = logging.getLogger(__name__)

Session = dict[str, Any]


def changed_sessions(
    hook: StripeIdentityHook,
    window: Window,
    accounts: Accounts | None = None,
    *,
    expected: int = 0,
    check_version: bool,
) -> Iterator[Session]:
    """
    Yield every session with an event in the window once: the newest event's snapshot and ``_event_…`` columns.

    Of a session's events in one second the newest is the one that is furthest in its lifecycle, in whatever order
    Stripe lists them. Of each session only the id is kept in memory, and the events of one second.

    :param accounts: read these, one after another; their sessions have ``_stripe_account``
    :param expected: about how many events there will be, at least; 0 if unknown
    :param check_version: warn of snapshots in another API version than the connection's
    :raises AirflowFailException: when Stripe does not have all events of the window any more
    """
    seen: set[str] = set()
    events = events_of_window(hook, window, accounts, expected=expected, check_version=check_version)
    for _, of_one_second in groupby(events, key=lambda event: (event.get(ACCOUNT_FIELD), event["created"])):
        newest: dict[str, dict[str, Any]] = {}
        for event in of_one_second:
            session_id = event["data"]["object"]["id"]
            if session_id in seen:
                continue
            listed = newest.setdefault(session_id, event)
            if lifecycle_step(event["type"]) > lifecycle_step(listed["type"]):
                newest[session_id] = event
        seen.update(newest)
        for event in newest.values():
            yield event["data"]["object"] | event_fields(event)


def refetched(hook: StripeIdentityHook, changed: Iterable[Session], expand: Sequence[str]) -> Iterator[Session]:
    """
    Yield the sessions as they are now, in the same order, with the ``_event_…`` columns that they come with.

    They are read side by side, as many at once as the connection allows, and a few more are held in memory. One that
    Stripe no longer has is yielded as its event left it.

    :param expand: paths from the session on
    """
    at_once = hook.client.max_concurrency
    stop = threading.Event()

    def fetch(session: Session) -> Session:
        added = {name: session[name] for name in (*EVENT_FIELDS, ACCOUNT_FIELD) if name in session}
        account = session.get(ACCOUNT_FIELD)
        try:
            found = hook.get_verification_session(session["id"], expand=expand, stripe_account=account, stop=stop)
            return found | added
        except StripeInvalidRequestError as error:
            if error.status != 404 or error.code != "resource_missing":  # a gateway's 404 says nothing of the session
                raise
            log.warning("Stripe no longer has session %s: its row is written from its event", scrub(session["id"]))
            return session

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
        pool.shutdown(wait=False, cancel_futures=True)
        wait(under_way, MAX_LEAVING)
