"""Whether the windows of a DAG's runs leave no time out: in most time zones a day may have 23 or 25 hours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

#: Runs that are followed one after another: of monthly ones five years, of daily ones two months.
_RUNS = 60
_WEEK, _DAY, _HOUR = timedelta(days=7), timedelta(days=1), timedelta(hours=1)


def check_runs_leave_nothing_out(timetable: Any, window: timedelta | None) -> None:
    """
    Refuse a schedule, of cron times or of equal time spans, whose windows would leave a gap between two runs.

    :param timetable: of the DAG; any but those that give runs no data interval of their own is right
    :param window: the window of a run that has none
    :raises ValueError: with the schedule to use
    """
    kind = type(timetable).__name__
    if kind == "DeltaTriggerTimetable":
        _check_time_spans(_of(timetable, "delta"), _of(timetable, "interval") or window)
    elif kind == "MultipleCronTriggerTimetable":
        _check_cron_times(_of(timetable, "timetables"), window)
    elif kind.startswith("Cron") and "DataInterval" not in kind:
        _check_cron_times([timetable], window)


def _check_time_spans(delta: Any, width: Any) -> None:
    if isinstance(delta, timedelta) and isinstance(width, timedelta) and width < delta:
        raise ValueError(
            f"window: {width} is too short for a run every {delta}.\n"
            "What is created in the time between would be in no object. Make the window as long as that."
        )


def _check_cron_times(crons: Any, window: timedelta | None) -> None:
    if not crons:
        return
    width = _of(crons[0], "interval") or window
    expressions, timezone = tuple(_of(cron, "expression") for cron in crons), _of(crons[0], "timezone")
    if (
        timezone is None
        or not isinstance(width, timedelta)
        or not all(isinstance(expression, str) for expression in expressions)
    ):
        return
    name = getattr(timezone, "name", None) or str(timezone)
    if gap := _gap(expressions, name, width):
        start, end = gap
        if len(expressions) == 1:
            advice = f"Use schedule=CronDataIntervalTimetable({expressions[0]!r}, timezone={name!r}), and no window."
        else:
            advice = f"Make the window at least {timedelta(seconds=(end - start).total_seconds())} long."
        raise ValueError(
            f"window: {width} is too short for the schedule {', '.join(map(repr, expressions))} in {name}: "
            f"no run begins between {start:%Y-%m-%d %H:%M} and {end:%Y-%m-%d %H:%M} UTC.\n"
            f"What is created then would be in no object. {advice}"
        )


def _of(timetable: Any, name: str) -> Any:
    # The task SDK's timetables name them so, Airflow's own, before 3.2, with an underscore.
    return getattr(timetable, name, None) or getattr(timetable, f"_{name}", None)


@lru_cache(maxsize=64)
def _gap(expressions: tuple[str, ...], timezone: str, width: timedelta) -> tuple[datetime, datetime] | None:
    """Return two moments without a run between them that lie further apart than a window is wide."""
    from airflow.timetables.base import DataInterval, TimeRestriction
    from airflow.timetables.trigger import CronTriggerTimetable
    from pendulum import instance

    crons = [CronTriggerTimetable(expression, timezone=timezone) for expression in expressions]
    any_time = TimeRestriction(earliest=None, latest=None, catchup=True)

    def next_run(after: datetime) -> datetime:
        interval = DataInterval.exact(instance(after))
        infos = [cron.next_dagrun_info(last_automated_data_interval=interval, restriction=any_time) for cron in crons]
        return min(info.run_after for info in infos if info)

    def follow(start: datetime, runs: int) -> Iterator[tuple[datetime, datetime]]:
        run = next_run(start)
        for _ in range(runs):
            following = next_run(run)
            yield run, following
            run = following

    def every_hour(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
        while start < end:
            yield start, next_run(start)
            start += _HOUR

    def looked_at() -> Iterator[tuple[datetime, datetime]]:
        first = last = datetime(datetime.now(UTC).year, 1, 1, tzinfo=UTC)
        for pair in follow(first, _RUNS):
            yield pair
            last = pair[1]
        if last - first < _WEEK:
            yield from every_hour(first, first + _WEEK)
        for day in _days_on_which_clocks_change(timezone, first):
            yield from follow(day - 2 * _DAY, 40)
            yield from every_hour(day - _DAY, day + _DAY)

    return next(((start, end) for start, end in looked_at() if end - start > width), None)


def _days_on_which_clocks_change(timezone: str, first: datetime) -> list[datetime]:
    from zoneinfo import ZoneInfo

    try:
        zone = ZoneInfo(timezone)
    except (ValueError, LookupError):  # a fixed offset
        return []
    days = [first + number * _DAY for number in range(400)]
    return [day for day in days if day.astimezone(zone).utcoffset() != (day - _DAY).astimezone(zone).utcoffset()]
