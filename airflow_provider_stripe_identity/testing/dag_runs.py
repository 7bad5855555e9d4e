"""
Pytest fixtures for tests of whole DAGs, on an Airflow of their own: `pytest_plugins = [… "….testing.dag_runs"]`.

`dag.test()` wants a migrated metadata database, and the DAG's file in the DAGs folder that Airflow is configured with.
Airflow reads its configuration when it is imported, so the environment is set when this module is: name it in the
`pytest_plugins` of the top `conftest.py`, and import Airflow there in no other way. Each process of the tests has
a home of its own; that of your machine, and its database, are not touched.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_HOME = Path(tempfile.mkdtemp(prefix="airflow_home_"))
_DAGS = _HOME / "dags"
_TOO_LATE = "airflow" in sys.modules
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
if not _TOO_LATE:
    os.environ |= {
        "AIRFLOW_HOME": str(_HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(_DAGS),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
    }
    for _name in (
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_SECRET",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST",
    ):
        os.environ.pop(_name, None)


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """Airflow's metadata database, migrated once in each process of the tests."""
    if _TOO_LATE:
        pytest.fail(f"{__name__} has to be loaded before Airflow is: do not import Airflow in conftest.py")
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def run_dag_file(airflow_database: None) -> Iterator[Callable[..., Any]]:
    """
    Return a function that runs the DAG of a file with `dag.test()`, and returns the DagRun.

    Its arguments: the file, or its text; `dag_id`, if the file has several DAGs; all others are those of `dag.test()`.
    """
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # before Airflow 3.2
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

    def run(file: Path | str, dag_id: str | None = None, **arguments: Any) -> Any:
        text = file.read_text() if isinstance(file, Path) else file
        (_DAGS / "dag_under_test.py").write_text(text)
        bag = DagBag(dag_folder=_DAGS)
        if bag.import_errors:
            pytest.fail("\n".join(bag.import_errors.values()))
        if not dag_id and len(bag.dags) != 1:
            pytest.fail(f"dag_id has to name one of the DAGs: {', '.join(sorted(bag.dags))}")
        dag = bag.dags[dag_id or next(iter(bag.dags))]
        return dag.test(**arguments)

    shutil.rmtree(_DAGS, ignore_errors=True)
    _DAGS.mkdir()
    yield run
    shutil.rmtree(_DAGS)
