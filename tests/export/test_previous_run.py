"""An export knows from its previous run about how many rows there will be, and starts in several ranges at once."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from airflow_provider_stripe_identity._airflow.version_compat import AIRFLOW_V_3_1_PLUS
from airflow_provider_stripe_identity._export.previous_run import expected_rows, previous_result, replaced_window
from airflow_provider_stripe_identity._export.windows import Window
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)

END = int(datetime.now(UTC).timestamp()) // 3_600 * 3_600 - 3_600
START = END - 86_400
DAY = Window(START, END)
YESTERDAY = {"created_gte": START - 86_400, "created_lt": START}


def run(result: object) -> dict:
    """The context of a task whose previous run had this result."""

    def xcom_pull(**asked):
        assert asked == {"task_ids": "export", "map_indexes": 3, "include_prior_dates": True}
        if isinstance(result, Exception):
            raise result
        return result

    return {"ti": SimpleNamespace(task_id="export", map_index=3, xcom_pull=xcom_pull)}


@pytest.mark.parametrize(
    ("result", "rows"),
    [
        ({**YESTERDAY, "sessions": 900}, 900),
        ({"created_gte": START - 3_600, "created_lt": START, "sessions": 10}, 240),
        ({"created_gte": 0, "created_lt": START, "sessions": 10}, 0),
        ({**YESTERDAY, "sessions": 0}, 0),
    ],
)
def test_the_number_is_scaled_by_the_length_of_the_windows(result, rows):
    assert expected_rows(previous_result(run(result)), DAY, "sessions") == rows


@pytest.mark.parametrize(
    "result",
    [
        None,
        RuntimeError("the store of XComs is away"),
        "text",
        ["list"],
        {},
        {**YESTERDAY, "events": 900},
        {**YESTERDAY, "sessions": "many"},
        {**YESTERDAY, "sessions": float("nan")},
        {**YESTERDAY, "sessions": -5},
        {"created_gte": START, "created_lt": START, "sessions": 5},
    ],
)
def test_what_is_no_such_result_is_no_number(result):
    previous = previous_result(run(result))
    assert expected_rows(previous, DAY, "sessions") == 0
    assert replaced_window(previous, DAY, "s3://lake/x") is None


def test_without_a_running_task_there_is_no_number():
    assert expected_rows(previous_result({}), DAY, "sessions") == 0


@pytest.mark.parametrize(
    ("operator", "rows"),
    [
        (StripeIdentityToObjectStorageOperator, "sessions"),
        (StripeIdentityChangesToObjectStorageOperator, "sessions"),
        (StripeIdentityEventsToObjectStorageOperator, "events"),
    ],
)
def test_every_export_starts_in_several_ranges(server, tmp_path, operator, rows):
    server.populate(2_000, START, END)
    all_at_once = AllAtOnce(server)
    task = operator(task_id="export", destination=f"file://{tmp_path}/rows.jsonl", created_gte=START, created_lt=END)
    task.execute(run({**YESTERDAY, rows: 2_000}))
    assert all_at_once.were()


HOUR = {"created_gte": END - 3_600, "created_lt": END}


@pytest.mark.parametrize(
    ("before", "name", "warned"),
    [
        ({"created_gte": END - 7_200, "created_lt": END - 3_600}, "dt=today.jsonl", True),
        ({"created_gte": END - 86_400, "created_lt": END}, "dt=today.jsonl", True),
        ({"created_gte": END - 1_800, "created_lt": END}, "dt=today.jsonl", False),
        (HOUR, "dt=today.jsonl", False),
        ({"created_gte": END - 7_200, "created_lt": END - 3_600}, "dt=another.jsonl", False),
    ],
    ids=["an hour of one day", "a day", "a part of it", "the same", "another object"],
)
def test_a_run_that_replaces_other_rows_of_the_run_before_says_so(server, tmp_path, caplog, before, name, warned):
    """As ``{{ ds }}`` does in an hourly DAG, or a name by the day after the schedule has changed."""
    destination = f"file://{tmp_path}/dt=today.jsonl"
    task = StripeIdentityToObjectStorageOperator(task_id="export", destination=destination, **HOUR)
    task.execute(run({**before, "sessions": 5, "uri": f"file://{tmp_path}/{name}"}))
    assert ("replaces the object of the previous one, which holds [20" in caplog.text) is warned


@pytest.mark.skipif(not AIRFLOW_V_3_1_PLUS, reason="Airflow 3.0 has no results of prior dates")
def test_the_second_run_of_a_dag(server, run_dag_file, tmp_path):
    server.populate(3_000, START - 86_400, END)
    dag = f"""
from datetime import timedelta
from airflow.sdk import DAG
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("daily", schedule=None):
    StripeIdentityToObjectStorageOperator(
        task_id="export", destination="file://{tmp_path}/{{created_gte}}.jsonl", window=timedelta(days=1)
    )
"""
    assert run_dag_file(dag, logical_date=datetime.fromtimestamp(START, UTC)).state == "success"
    all_at_once = AllAtOnce(server)
    assert run_dag_file(dag, logical_date=datetime.fromtimestamp(END, UTC)).state == "success"
    assert all_at_once.were()


class AllAtOnce:
    """Lets the first four requests wait at the server for one another: with fewer at once they would wait in vain."""

    def __init__(self, server) -> None:
        self._barrier = threading.Barrier(4, timeout=20)
        self._asked = 0
        self._met = 0
        self._counting = threading.Lock()
        server.before_answer = self._wait

    def _wait(self, _request) -> None:
        with self._counting:
            self._asked += 1
            if self._asked > 4:
                return
        try:
            self._barrier.wait()
        except threading.BrokenBarrierError:
            return
        with self._counting:
            self._met += 1

    def were(self) -> bool:
        return self._met == 4
