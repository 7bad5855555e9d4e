"""How far a long export has come, told to the task log by time and not by count."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any

from airflow_provider_stripe_identity.windows import Window

log = logging.getLogger(__name__)

#: Seconds from one line to the next; a shorter export writes none.
EVERY = 30.0


def with_progress(
    objects: Iterable[dict[str, Any]], window: Window, *, what: str = "sessions"
) -> Iterator[dict[str, Any]]:
    """Yield the objects of a window, newest first, and log now and then how far they have come."""
    began = told = time.monotonic()
    for count, found in enumerate(objects, start=1):
        yield found
        now = time.monotonic()
        if now - told >= EVERY:
            told = now
            done = (window.created_lt - found["created"]) / (window.created_lt - window.created_gte)
            log.info(
                "%d %s, %.0f %% of the window, %.0f %s/s, about %.0f s left",
                count,
                what,
                100 * done,
                count / (now - began),
                what,
                (now - began) * (1 - done) / done,
            )
