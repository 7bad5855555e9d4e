"""Adjacent runs leave no time out, in every time zone and when its clocks change, or their DAG is refused."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk import DAG
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.trigger import CronTriggerTimetable as Scheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from pendulum import instance
from support.airflow_versions import CronTriggerTimetable, DeltaTriggerTimetable, MultipleCronTriggerTimetable

from airflow_provider_stripe_identity._export.schedules import check_runs_leave_nothing_out
from airflow_provider_stripe_identity._export.windows import resolve_window
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "Africa/Cairo",
    "Asia/Kolkata",
    "Asia/Tokyo",
    "Australia/Lord_Howe",
]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SCHEDULES = [
    ("0 0 * * *", DAY),
    ("30 2 * * *", DAY),
    ("15 23 * * *", DAY),
    ("0 * * * *", HOUR),
    ("30 * * * *", HOUR),
    ("0 */6 * * *", 6 * HOUR),
    ("0 */2 * * *", 2 * HOUR),
    ("*/15 * * * *", HOUR / 4),
    ("0 9-17 * * *", HOUR),
    ("* 9-17 * * *", HOUR / 60),
    ("0 0 * * 1-5", DAY),
    ("0 0 * * 1", 7 * DAY),
    ("0 0 1 * *", 30 * DAY),
    ("0 0 1 * *", 31 * DAY),
]


@given(st.sampled_from(SCHEDULES), st.sampled_from(ZONES), st.integers(0, 360))
@settings(deadline=None, max_examples=150)
def test_what_is_not_refused_leaves_no_second_out(schedule, zone, day):
    expression, window = schedule
    try:
        check_runs_leave_nothing_out(CronTriggerTimetable(expression, timezone=zone), window)
    except ValueError:
        return
    cron, run = Scheduler(expression, timezone=zone), instance(datetime(2026, 1, 1, tzinfo=UTC) + day * DAY)
    windows = []
    for _ in range(60):
        restriction = TimeRestriction(earliest=None, latest=None, catchup=True)
        run = cron.next_dagrun_info(
            last_automated_data_interval=DataInterval.exact(run), restriction=restriction
        ).run_after
        windows.append(resolve_window({"data_interval_start": run, "data_interval_end": run}, window=window))
    assert all(later.created_gte <= earlier.created_lt for earlier, later in itertools.pairwise(windows))


@pytest.mark.parametrize(
    ("expression", "zone", "window", "refused"),
    [
        ("@daily", "Europe/Berlin", DAY, True),
        ("@daily", "UTC", DAY, False),
        ("@daily", "Asia/Tokyo", DAY, False),
        ("@daily", "Europe/Berlin", DAY + HOUR, False),
        ("@hourly", "Europe/Berlin", HOUR, False),
        ("@monthly", "UTC", 30 * DAY, True),
        ("0 0 * * 1-5", "UTC", DAY, True),
        ("*/5 9-17 * * *", "UTC", HOUR / 12, True),
    ],
)
def test_a_schedule_that_leaves_time_out_is_refused_when_the_dag_is_parsed(expression, zone, window, refused):
    def parse(timetable, window):
        with DAG("daily", schedule=timetable, start_date=instance(datetime(2026, 1, 1, tzinfo=UTC))):
            StripeIdentityToObjectStorageOperator(
                task_id="export", destination="file:///lake/{created_gte}.jsonl", window=window
            )

    for timetable, width in (
        (CronTriggerTimetable(expression, timezone=zone), window),
        (CronTriggerTimetable(expression, timezone=zone, interval=window), None),
    ):
        if refused:
            with pytest.raises(ValueError, match=r"window: .*too short.*\n.*CronDataIntervalTimetable"):
                parse(timetable, width)
        else:
            parse(timetable, width)


@pytest.mark.parametrize(
    ("schedule", "window", "refused"),
    [
        (2 * HOUR, HOUR, "run every 2:00:00"),
        (HOUR, HOUR, None),
        (HOUR, DAY, None),
        (DeltaTriggerTimetable(DAY, interval=DAY - HOUR), None, "run every 1 day"),
        (MultipleCronTriggerTimetable("0 6 * * *", "0 18 * * *", timezone="UTC"), 6 * HOUR, "at least 12:00:00"),
        (MultipleCronTriggerTimetable("0 6 * * *", "0 18 * * *", timezone="UTC"), 12 * HOUR, None),
        (MultipleCronTriggerTimetable("0 6 * * *", "0 18 * * *", timezone="Europe/Berlin"), 12 * HOUR, "13:00:00"),
    ],
    ids=[
        "two hours apart",
        "an hour apart",
        "an hour apart, a day wide",
        "a day apart, an hour less wide",
        "two times of day, too narrow",
        "two times of day",
        "two times of day, an hour more in autumn",
    ],
)
def test_so_is_one_of_time_spans_or_of_several_cron_times(schedule, window, refused):
    def parse():
        with DAG("often", schedule=schedule, start_date=instance(datetime(2026, 1, 1, tzinfo=UTC))):
            StripeIdentityToObjectStorageOperator(
                task_id="export", destination="file:///lake/{created_gte}.jsonl", window=window
            )

    if refused:
        with pytest.raises(ValueError, match=f"(?s)window: .*too short.*{refused}"):
            parse()
    else:
        parse()
