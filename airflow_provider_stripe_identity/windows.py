"""From an Airflow run to the half-open ``created`` window that the run owns, and when it can be read."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pendulum

from airflow_provider_stripe_identity.stripe_api.parameters import Time, epoch_seconds

log = logging.getLogger(__name__)


class Window(NamedTuple):
    """``[created_gte, created_lt)`` in epoch seconds; adjacent windows share no second and leave none out."""

    created_gte: int
    created_lt: int

    def starting_earlier(self, by: timedelta) -> Window:
        """Return the window that begins that much earlier, in whole seconds."""
        return Window(max(self.created_gte - math.ceil(by.total_seconds()), 0), self.created_lt)

    def __str__(self) -> str:
        """Show the window as a person reads it, in UTC."""
        return f"[{pendulum.from_timestamp(self.created_gte)}, {pendulum.from_timestamp(self.created_lt)})"


def check_window_arguments(created_gte: Time | None, created_lt: Time | None, window: timedelta | None) -> None:
    """
    Refuse what no run could resolve; the bounds themselves may still be templates.

    :raises ValueError: naming the argument
    """
    if (created_gte is None) != (created_lt is None):
        missing = "created_gte" if created_gte is None else "created_lt"
        raise ValueError(f"{missing} is missing: created_gte and created_lt go together")
    if window is not None and (not isinstance(window, timedelta) or window < timedelta(seconds=1)):
        raise ValueError(f"window must be a timedelta of at least one second, not {window!r}")


def check_lookback(lookback: timedelta) -> None:
    """
    Refuse what would start a window later.

    :raises ValueError: naming the argument
    """
    if not isinstance(lookback, timedelta) or lookback < timedelta(0):
        raise ValueError(f"lookback must be a timedelta of 0 or more, not {lookback!r}")


def resolve_window(
    context: Mapping[str, Any],
    *,
    created_gte: Time | None = None,
    created_lt: Time | None = None,
    window: timedelta | None = None,
) -> Window:
    """
    Return the window of a run: explicit bounds, else its data interval, else ``window``.

    ``window`` starts at the partition date of a partitioned run. In any other run without a data interval of its
    own it ends where the (zero-width) data interval ends, or else at ``run_after``, the time from which the run
    may start.

    :param context: the task's context
    :param created_gte: explicit start
    :param created_lt: explicit end
    :param window: length for runs that have no data interval, as those of ``schedule="@daily"`` have none in Airflow 3
    :raises ValueError: naming what to set
    """
    check_window_arguments(created_gte, created_lt, window)
    if created_gte is not None and created_lt is not None:
        return _checked("created_gte", created_gte, "created_lt", created_lt)
    start = context.get("data_interval_start")
    end = context.get("data_interval_end")
    if start is None or end is None or start >= end:
        if window is None:
            raise ValueError(
                f"this run ({context.get('run_id')}) has no data interval of its own, so there is no telling which "
                "sessions it should export. Set window=timedelta(days=1) (its end is the end of the data interval, "
                "or the time the run was due), or created_gte and created_lt, or schedule the DAG with "
                "CronDataIntervalTimetable"
            )
        start, end = _window_around(context, end, window)
    return _checked("data_interval_start", start, "data_interval_end", end)


def _checked(start_name: str, start: Time, end_name: str, end: Time) -> Window:
    window = Window(epoch_seconds(start_name, start), epoch_seconds(end_name, end))
    if window.created_gte >= window.created_lt:
        raise ValueError(f"{start_name} ({start}) must be at least a second before {end_name} ({end})")
    return window


def _window_around(context: Mapping[str, Any], end: datetime | None, window: timedelta) -> tuple[datetime, datetime]:
    if partition_date := context.get("partition_date"):
        return partition_date, partition_date + window
    end = end or context["dag_run"].run_after
    return end - window, end


def wait_until_settled(window: Window, settle: timedelta) -> None:
    """
    Return once the window ended ``settle`` ago; a window that has yet to end for longer than that is refused.

    :raises ValueError: for a window in the future
    """
    pause = window.created_lt + settle.total_seconds() - time.time()
    if pause > 2 * settle.total_seconds():
        raise ValueError(f"the window {window} ends in the future: its sessions are not all created yet")
    if pause > 0:
        log.info("The window %s has only just ended, reading it in %.0f s", window, pause)
        time.sleep(pause)
