"""Loads at the same time, in processes as Airflow runs them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

#: Forked by a server that has imported this before: a process of its own costs milliseconds.
_IMPORTED = ["airflow_provider_stripe_identity.operators", "duckdb", "psycopg"]
_start: Any = None


def _begin(start: Any, environment: dict[str, str]) -> None:
    global _start
    _start = start
    os.environ.update(environment)


def _load(arguments: dict[str, Any]) -> dict[str, Any]:
    from airflow_provider_stripe_identity.operators import StripeIdentityToWarehouseOperator

    _start.wait()
    return StripeIdentityToWarehouseOperator(task_id="load", **arguments).execute({"outlet_events": {}})


def load_in_processes(loads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run the load operator once for each mapping of its arguments, all at the same time; return the results."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    environment = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW")}
    start = context.Barrier(len(loads))
    with ProcessPoolExecutor(
        len(loads), mp_context=context, initializer=_begin, initargs=(start, environment)
    ) as processes:
        return list(processes.map(_load, loads))
