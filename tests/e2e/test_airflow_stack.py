"""The harness itself: a plain task, a deferred one whose triggerer goes away, logs, ``airflow dags test``."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from support.airflow_stack import AirflowStack, is_alive

DAGS = """
import os
import pendulum
from airflow.providers.standard.sensors.filesystem import FileSensor
from airflow.sdk import dag, task

@dag(schedule=None)
def plain():
    @task
    def answer(dag_run=None):
        print("hello from a task", os.environ["GREETING"])
        return {"text": dag_run.conf.get("text"), "numbers": [1, 2.5, None]}

    @task
    def word():
        return "word"

    @task
    def double(number):
        return 2 * number

    answer()
    word()
    double.expand(number=[1, 2])

@dag(schedule=None)
def waiting():
    FileSensor(task_id="wait", filepath="{{ dag_run.conf.path }}", poke_interval=1, deferrable=True)

@dag(schedule=None)
def failing():
    @task.bash
    def fail():
        return "echo about to fail; exit 3"

    fail()

plain()
waiting()
failing()
"""
ENV = {"AIRFLOW_CONN_FS_DEFAULT": json.dumps({"conn_type": "fs"}), "GREETING": "and its environment"}


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "smoke.py").write_text(DAGS)
    return folder


@pytest.fixture(scope="module")
def airflow(airflow_stack: Callable[..., AirflowStack], dags: Path) -> AirflowStack:
    return airflow_stack(dags, ENV)


def test_plain_task(airflow: AirflowStack) -> None:
    run_id = airflow.trigger("plain", conf={"text": 'ä "quoted"'})

    airflow.succeed("plain", run_id)
    assert airflow.xcom("plain", run_id, "answer") == {"text": 'ä "quoted"', "numbers": [1, 2.5, None]}
    assert airflow.xcom("plain", run_id, "word") == "word"
    assert [airflow.xcom("plain", run_id, "double", map_index=index) for index in (0, 1)] == [2, 4]
    assert len(airflow.task_instances("plain", run_id)) == 4
    assert airflow.wait_task("plain", run_id, "double", "success", map_index=1)["try_number"] == 1
    assert "hello from a task and its environment" in airflow.task_log("plain", run_id, "answer")
    holders = [path for path, text in airflow.logs().items() if "hello from a task" in text]
    assert any(f"run_id={run_id}" in str(path) for path in holders)


def test_logical_date_and_run_id(airflow: AirflowStack) -> None:
    assert airflow.trigger("plain", logical_date="2026-01-02T00:00:00+00:00", run_id="my+run:1") == "my+run:1"
    airflow.succeed("plain", "my+run:1")


def test_failed_run(airflow: AirflowStack) -> None:
    run_id = airflow.trigger("failing")

    assert airflow.wait("failing", run_id) == "failed"
    assert "about to fail" in airflow.task_log("failing", run_id, "fail")
    with pytest.raises(AssertionError, match=r"(?s)fail\[-1\] try 1: failed.*about to fail"):
        airflow.succeed("failing", run_id)


@pytest.mark.parametrize("kill", [False, True], ids=["interrupted", "killed"])
def test_triggerer_restarts_while_a_task_is_deferred(airflow: AirflowStack, tmp_path: Path, kill: bool) -> None:
    path = tmp_path / "awaited"
    run_id = airflow.trigger("waiting", conf={"path": str(path)})
    airflow.wait_task("waiting", run_id, "wait", ["deferred"])

    processes = airflow.processes("triggerer")
    assert len(processes) > 1
    airflow.stop("triggerer", kill=kill)
    assert not [process for process in processes if is_alive(process)]
    path.touch()
    airflow.wait_task("waiting", run_id, "wait", ["deferred"])
    airflow.start("triggerer")

    airflow.succeed("waiting", run_id)


def test_import_error_is_shown_and_a_changed_file_is_read(airflow: AirflowStack, dags: Path) -> None:
    (dags / "later.py").write_text("raise RuntimeError('broken on purpose')  # no dag from airflow\n")
    airflow.until(airflow.import_errors, 60, "the import error is known")
    with pytest.raises(TimeoutError, match="broken on purpose"):
        airflow.trigger("later", timeout=0)

    (dags / "later.py").write_text(DAGS.replace("def plain", "def later").replace("plain()", "later()"))
    airflow.succeed("later", airflow.trigger("later"))


def test_rest_errors_carry_the_answer(airflow: AirflowStack) -> None:
    with pytest.raises(requests.HTTPError, match="404.*was not found"):
        airflow.get("dags/unknown")
    # Off unless `env` turns it on.
    with pytest.raises(requests.HTTPError, match="403"):
        airflow.post("connections/test", {"connection_id": "x", "conn_type": "http"})


def test_loopback_only(airflow: AirflowStack) -> None:
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = {str(process.pid) for process in airflow.processes()}
    addresses = [line.split()[3] for line in listening if ours & set(line.replace("=", ",").split(","))]
    assert addresses
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_dags_test(run_dags_test: Callable[..., subprocess.CompletedProcess[str]], dags: Path) -> None:
    done = run_dags_test("plain", dags=dags, env=ENV, logical_date="2026-01-02")
    assert done.returncode == 0, done.stderr
    assert "hello from a task" in done.stdout + done.stderr

    assert run_dags_test("failing", dags=dags, env=ENV).returncode != 0
