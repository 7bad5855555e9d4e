"""What changed at Stripe lately: the one poll that all sensors on a connection share."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import NamedTuple

from airflow_provider_stripe_identity._airflow.failures import EXPECTED_ERRORS, Failures
from airflow_provider_stripe_identity._stripe_api.errors import StripePermissionError, in_one_line
from airflow_provider_stripe_identity._waiting.connections import SharedConnection
from airflow_provider_stripe_identity._waiting.events import Event, EventReader

log = logging.getLogger(__name__)

#: How often to see whether the key may read events by now, in seconds.
LOOK_FOR_PERMISSION_EVERY = 300.0
#: How often to hand on what a walk of many pages has found so far, in seconds.
HAND_ON_EVERY = 2.0
#: After such an event somebody may stop waiting, or may have to go on although it looked as if not.
WAITED_FOR = tuple(
    f"identity.verification_session.{change}" for change in ("verified", "canceled", "requires_input", "processing")
)


class Changes(NamedTuple):
    """
    What one request found that those before did not.

    :param by_reference: the events of each ``client_reference_id``, newest first
    :param unavailable: the key may not read events
    :param failed: why polling is of no use any more
    """

    by_reference: Mapping[str, Sequence[Event]] = {}
    unavailable: bool = False
    failed: str | None = None


async def poll_changes(connection: SharedConnection, poke_interval: float) -> AsyncIterator[Changes]:
    """Poll forever, and yield only what concerns a sensor: everything yielded wakes all of them."""
    reader, failures = EventReader(WAITED_FOR), Failures(log, poke_interval)
    unavailable = False
    look_at = tell_at = 0.0
    found: list[Event] = []
    while True:
        pause = poke_interval
        if unavailable and time.monotonic() < look_at:
            yield Changes(unavailable=True)
            await asyncio.sleep(pause)
            continue
        try:
            page = await connection.poll(reader.read_page)
        except StripePermissionError as error:
            if not unavailable:
                log.warning(
                    "Connection %s: every waiting sensor polls Stripe on its own. With the permission Events: Read, "
                    "all of them would share one poll. %s",
                    connection.stripe_conn_id,
                    in_one_line(error),
                )
            unavailable, look_at = True, time.monotonic() + LOOK_FOR_PERMISSION_EVERY
            yield Changes(unavailable=True)
        except EXPECTED_ERRORS as error:
            if reason := failures.happened(error):
                yield Changes(failed=reason)
            pause = failures.pause(under_way=reader.under_way)
        else:
            failures.over()
            found += page.events
            # What a long walk finds is handed on in the meantime, but not for every page: that wakes thousands.
            if unavailable or (found and (page.last or time.monotonic() >= tell_at)):
                unavailable, tell_at = False, time.monotonic() + HAND_ON_EVERY
                yield Changes(_by_reference(found))
                found = []
            if not page.last:
                continue
        await asyncio.sleep(pause)


def _by_reference(events: Sequence[Event]) -> Mapping[str, Sequence[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        if reference := event.session["client_reference_id"]:
            found.setdefault(reference, []).append(event)
    return found
