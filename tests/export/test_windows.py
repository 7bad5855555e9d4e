"""Every kind of run has exactly one window, or fails with the advice what to set."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_stripe_identity._export import windows
from airflow_provider_stripe_identity._export.windows import Window, resolve_window, wait_until_settled

DAY = timedelta(days=1)
MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
RUN_AFTER = datetime(2026, 5, 2, 9, 30, tzinfo=UTC)


def context(start=None, end=None, **more):
    """The task context: Airflow leaves the data interval out where a run has none."""
    made = {"run_id": "run", "dag_run": SimpleNamespace(run_after=RUN_AFTER), **more}
    if end is not None:
        made |= {"data_interval_start": start, "data_interval_end": end}
    return made


def window(start: datetime, end: datetime) -> Window:
    return Window(int(start.timestamp()), int(end.timestamp()))


def test_a_data_interval_is_the_window():
    assert resolve_window(context(MAY_1, MAY_2)) == window(MAY_1, MAY_2)


def test_a_data_interval_wins_over_window():
    assert resolve_window(context(MAY_1, MAY_2), window=timedelta(hours=1)) == window(MAY_1, MAY_2)


def test_explicit_bounds_win_over_everything():
    resolved = resolve_window(context(MAY_1, MAY_2), created_gte="2020-01-01T00:00:00Z", created_lt=MAY_1, window=DAY)
    assert resolved == window(datetime(2020, 1, 1, tzinfo=UTC), MAY_1)


def test_a_zero_width_interval_is_where_window_ends():
    """``schedule="@daily"`` in Airflow 3: the interval starts and ends at midnight."""
    assert resolve_window(context(MAY_2, MAY_2), window=DAY) == window(MAY_1, MAY_2)


def test_without_an_interval_window_ends_when_the_run_was_due():
    assert resolve_window(context(), window=DAY) == window(RUN_AFTER - DAY, RUN_AFTER)


def test_in_a_partitioned_run_window_starts_at_the_partition():
    assert resolve_window(context(partition_date=MAY_1), window=DAY) == window(MAY_1, MAY_2)


@pytest.mark.parametrize("run", [context(), context(MAY_2, MAY_2), context(partition_date=MAY_1)])
def test_a_run_without_a_window_is_told_what_to_set(run):
    with pytest.raises(ValueError, match=r"window=timedelta\(days=1\).*CronDataIntervalTimetable"):
        resolve_window(run)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"created_gte": MAY_1}, "created_lt is missing"),
        ({"created_lt": MAY_1}, "created_gte is missing"),
        ({"created_gte": MAY_2, "created_lt": MAY_1}, "created_gte.*before created_lt"),
        ({"created_gte": MAY_1, "created_lt": MAY_1}, "created_gte.*before created_lt"),
        ({"created_gte": "", "created_lt": MAY_1}, "created_gte"),
        ({"window": 86400}, "window must be a timedelta"),
        ({"window": timedelta(0)}, "window"),
        ({"window": -DAY}, "window"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        resolve_window(context(MAY_1, MAY_2), **arguments)


def test_an_interval_without_a_whole_second_is_refused():
    with pytest.raises(ValueError, match="data_interval_start"):
        resolve_window(context(MAY_1 + timedelta(microseconds=1), MAY_1 + timedelta(microseconds=2)))


@given(
    st.lists(
        st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2030, 1, 1), timezones=st.just(UTC)),
        min_size=2,
        max_size=20,
        unique_by=lambda moment: moment.replace(microsecond=0),
    ).map(sorted)
)
def test_adjacent_intervals_tile_whatever_their_microseconds(cuts):
    resolved = [resolve_window(context(*pair)) for pair in itertools.pairwise(cuts)]
    for earlier, later in itertools.pairwise(resolved):
        assert earlier.created_lt == later.created_gte


def test_adjacent_daily_runs_with_window_tile():
    days = [MAY_1 + n * DAY for n in range(5)]
    resolved = [resolve_window(context(day, day), window=DAY) for day in days]
    assert all(a.created_lt == b.created_gte for a, b in itertools.pairwise(resolved))


@pytest.fixture
def clock(monkeypatch):
    """A clock at 1,000,000 s that only sleeping moves, and which is Stripe's as well."""
    clock = SimpleNamespace(now=1_000_000.0)
    clock.sleep = lambda seconds: setattr(clock, "now", clock.now + seconds)
    clock.time = clock.monotonic = lambda: clock.now
    clock.stripes = SimpleNamespace(at=math.floor, latest_at=math.floor)
    monkeypatch.setattr(windows, "time", clock)
    return clock


@pytest.mark.parametrize("ended_ago", [-30, -1, 0, 12, 30])
def test_a_window_that_has_just_ended_is_waited_for(clock, ended_ago):
    end = int(clock.now - ended_ago)
    wait_until_settled(Window(0, end), timedelta(seconds=30), clock.stripes)
    assert clock.now == end + 31


def test_a_settled_window_is_read_at_once(clock):
    wait_until_settled(Window(0, 1_000_000 - 31), timedelta(seconds=30), clock.stripes)
    assert clock.now == 1_000_000


def test_a_window_in_the_future_is_refused(clock):
    with pytest.raises(ValueError, match="ends in the future"):
        wait_until_settled(Window(0, 1_000_000 + 31), timedelta(seconds=30), clock.stripes)
    assert clock.now == 1_000_000
