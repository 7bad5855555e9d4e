"""Fixtures of the tests that need a real Airflow."""

import contextlib
import functools
import signal
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from support.airflow_stack import AirflowStack
from support.airflow_stack import run_dags_test as run_dags_test_in


def pytest_configure() -> None:
    """Let fixtures be torn down on SIGTERM too: it would leave Airflow's processes behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="module")
def airflow_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., AirflowStack]]:
    """Return a function that starts an Airflow with the module's DAGs folder and environment."""
    with contextlib.ExitStack() as stack:

        def start(dags: Path, env: Mapping[str, str] | None = None, **arguments: Any) -> AirflowStack:
            return stack.enter_context(AirflowStack(tmp_path_factory.mktemp("airflow"), dags, env, **arguments))

        yield start


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that a module's exports go to."""
    return tmp_path_factory.mktemp("lake")


@pytest.fixture
def run_dags_test(tmp_path: Path) -> Callable[..., CompletedProcess[str]]:
    """Return `run_dags_test` with the home ``tmp_path / "airflow"``."""
    return functools.partial(run_dags_test_in, home=tmp_path / "airflow")
