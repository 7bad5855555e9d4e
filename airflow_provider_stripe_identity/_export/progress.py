"""Logs export progress every 30 seconds."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_stripe_identity._export.windows import Window

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.accounts import Accounts

log = logging.getLogger(__name__)

#: Seconds from one line to the next; a shorter export writes none.
EVERY = 30.0


def with_progress(
    objects: Iterable[dict[str, Any]],
    window: Window,
    *,
    what: str = "sessions",
    accounts: Accounts | None = None,
) -> Iterator[dict[str, Any]]:
    """
    Yield the objects of a window, newest first, and log now and then how far they have come.

    :param accounts: whose window it is, one after another; they are counted as if all were equally long
    """
    began = logged = time.monotonic()
    for count, found in enumerate(objects, start=1):
        yield found
        now = time.monotonic()
        if now - logged >= EVERY:
            logged = now
            done = (window.created_lt - found["created"]) / (window.created_lt - window.created_gte)
            of_what = "the window"
            if accounts:
                index = accounts.ids.index(found["_stripe_account"])
                done = (index + done) / len(accounts.ids)
                of_what = f"the windows (account {index + 1} of {len(accounts.ids)})"
            log.info(
                "%d %s, %.0f %% of %s, %.0f %s/s, about %.0f s left",
                count,
                what,
                100 * done,
                of_what,
                count / (now - began),
                what,
                (now - began) * (1 - done) / done,
            )
