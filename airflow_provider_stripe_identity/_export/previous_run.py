"""What the task's previous run says of this one: about how many rows there will be, and what its object held."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from airflow_provider_stripe_identity._export.windows import Window

log = logging.getLogger(__name__)


def previous_result(context: Mapping[str, Any]) -> Any:
    """
    Return the result of the same task in the run before; None if it is unknown.

    Nothing that stands in the way of it fails the task.

    :param context: the task's context
    """
    task_instance = context.get("ti")
    if task_instance is None:
        return None
    try:
        return task_instance.xcom_pull(
            task_ids=task_instance.task_id,
            # Without it, the results of all runs there ever were would be fetched.
            map_indexes=task_instance.map_index,
            include_prior_dates=True,
        )
    except Exception as error:
        log.debug("The result of the previous run is unknown: %s", type(error).__name__)
        return None


def expected_rows(previous: Any, window: Window, rows: str) -> int:
    """
    Return about how many rows the window has, going by the result of the run before; 0 if unknown.

    It only decides in how many ranges the window is read at first. A wrong number costs some requests, an unknown one
    some time.

    :param previous: the result of the run before
    :param window: what is about to be read
    :param rows: the name of the number of rows in the result
    """
    if previous is None:
        return 0
    try:
        share = (window.created_lt - window.created_gte) / (previous["created_lt"] - previous["created_gte"])
        expected = int(previous[rows] * share)
    except Exception as error:
        log.debug("The number of rows of the previous run is unknown: %s", type(error).__name__)
        return 0
    return max(expected, 0)


def replaced_window(previous: Any, window: Window, uri: str) -> Window | None:
    """
    Return the window of the previous run's object, if this run replaces it with a window that has not all of it.

    :param previous: the result of the run before
    :param window: what is about to be read
    :param uri: of the object that is about to be written
    """
    try:
        before = Window(previous["created_gte"], previous["created_lt"])
        kept = window.created_gte <= before.created_gte and before.created_lt <= window.created_lt
        return before if previous["uri"] == uri and not kept else None
    except (KeyError, TypeError):
        return None
