"""From an Airflow run to the half-open ``created`` window that the run owns, and when it can be read."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import pendulum

from airflow_provider_stripe_identity._airflow.version_compat import AirflowException
from airflow_provider_stripe_identity._stripe_api.clock import StripeClock
from airflow_provider_stripe_identity._stripe_api.parameters import Time, epoch_seconds

log = logging.getLogger(__name__)

#: A request for Stripe's time is worth it when the window ends within as many seconds of this machine's time.
NEAR = 3600
#: A difference between the clocks of Stripe (or its gateway) and of this machine is waited out up to so many seconds. A
#: clock that is further off, somebody has to set.
MAX_DIFFERENCE = 900


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
                f"this run ({context.get('run_id')}) has no data interval of its own, so it is unclear which "
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


def ends_about_now(window: Window) -> bool:
    """Whether, by this machine's clock, the window's end is near enough for a wrong clock to matter."""
    return abs(time.time() - window.created_lt) < NEAR


def wait_until_settled(window: Window, settle: timedelta, clock: StripeClock) -> None:
    """
    Return once a read that begins now can be as of a second after the window's end.

    So no row that was read is as of the same second as an event of the window, which is as of the one after it.

    :param clock: Stripe's; before its first response it is this machine's
    :raises ValueError: for a window that ends in the future both at Stripe and by this machine's clock
    :raises AirflowException: for clocks that differ too much to wait for the later one
    """
    seconds = settle.total_seconds()
    while (as_of := clock.at(time.monotonic() - seconds)) <= window.created_lt:
        ahead = clock.latest_at(time.monotonic() - seconds) - as_of
        pause = window.created_lt + 1 - as_of
        # A worker whose clock is ahead runs too early; one whose clock is behind only believes so.
        if pause - ahead > 2 * seconds + 1:
            raise ValueError(f"the window {window} ends in the future: its sessions are not all created yet")
        if ahead > MAX_DIFFERENCE:
            raise AirflowException(
                f"By the clock of Stripe, or of the gateway between, the window {window} ends in the future; this "
                f"worker's clock differs from it by {ahead:.0f} s.\n"
                f"Set the one that is wrong. A difference of up to {MAX_DIFFERENCE // 60} minutes would be waited for."
            )
        if ahead > 5:
            log.warning("The clocks of this worker and of Stripe (or its gateway) differ by %d s", ahead)
        log.info("By Stripe's clock the window %s has only just ended, or not yet: reading it in %d s", window, pause)
        time.sleep(pause)


def check_was_over(window: Window, as_of: int) -> None:
    """
    Refuse rows that were read before the window was over at Stripe.

    :param as_of: the second at Stripe before which every change is in the rows
    :raises AirflowException: another try may find it over
    """
    if as_of <= window.created_lt:
        raise AirflowException(
            f"the window {window} was not over by Stripe's clock when it was read, so its last rows may be missing. "
            "Nothing was written. Set the clock of this worker (of the gateway, if there is one between)"
        )
