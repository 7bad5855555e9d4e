"""
Python warnings about a DAG's file, which name the line that made the operator.

Not in the operators' modules: there Airflow puts an object of its own in the place of ``warnings``, one that adds two
frames to every ``stacklevel`` (``fixup_decorator_warning_stack``).
"""

from __future__ import annotations

import sys
import warnings


def warn_of_the_dag_file(message: str) -> None:
    """Warn of what an operator was made with."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "airflow",
        __name__.partition(".")[0],
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
