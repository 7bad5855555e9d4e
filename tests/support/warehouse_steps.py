"""The steps of the example DAGs without Airflow around them, so that a month of daily runs takes a second."""

from __future__ import annotations

import copy
import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from support.paths import EXAMPLES

DAY = 86400
TODAY = int(time.time()) // DAY * DAY


def example(name: str) -> ModuleType:
    """Import an example anew, so that it reads its environment."""
    specification = importlib.util.spec_from_file_location(Path(name).name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


def rendered(task: Any, context: Mapping[str, Any], **replaced: Any) -> Any:
    """Return the task as it is about to run, with its templates rendered and some attributes replaced before that."""
    task = copy.copy(task.prepare_for_execution())
    for name, value in replaced.items():
        setattr(task, name, value)
    task.render_template_fields(dict(context))
    return task


def execute(task: Any, context: Mapping[str, Any], **replaced: Any) -> Any:
    """Run a task."""
    return rendered(task, context, **replaced).execute(dict(context))


def function_of(task: Any) -> Callable[..., Any]:
    """Return the function of a ``@task``."""
    return task.python_callable


def context(start: int, as_of: int | None = None, uri: str = "") -> dict:
    """What templates see in the run of the day that begins then, once its changes are written."""
    return {
        "data_interval_start": datetime.fromtimestamp(start, UTC),
        "data_interval_end": datetime.fromtimestamp(start + DAY, UTC),
        "ti": SimpleNamespace(xcom_pull=lambda task_id: {"changes": {"as_of": as_of, "uri": uri}}[task_id]),
    }
