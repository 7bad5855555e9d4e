"""What only the tests use of Airflow that has another name, or is not there, on some of the supported versions."""

from __future__ import annotations

import logging
from importlib.metadata import version

import pytest
from packaging.version import Version

AIRFLOW = Version(version("apache-airflow"))

try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:  # before Airflow 3.2
    from airflow.models.dagbag import DagBag  # type: ignore[no-redef]

try:
    from airflow.sdk import CronTriggerTimetable, DeltaTriggerTimetable, MultipleCronTriggerTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.trigger import (  # type: ignore[assignment]
        CronTriggerTimetable,
        DeltaTriggerTimetable,
        MultipleCronTriggerTimetable,
    )

try:
    from airflow.sdk.exceptions import TaskDeferred
    from airflow.sdk.lineage import HookLineageCollector
except ImportError:  # before Airflow 3.2
    from airflow.exceptions import TaskDeferred  # type: ignore[no-redef]
    from airflow.lineage.hook import HookLineageCollector  # type: ignore[no-redef]

shared_polling = pytest.mark.skipif(Version("3.3") > AIRFLOW, reason="triggers share a poll since Airflow 3.3")
cli_of_providers = pytest.mark.skipif(Version("3.2") > AIRFLOW, reason="providers have commands since Airflow 3.2")
postgres_hook_with_psycopg_3 = pytest.mark.skipif(
    Version("2") > Version(version("sqlalchemy")),
    reason="Airflow's PostgresHook takes psycopg 3 with SQLAlchemy 2 only, which Airflow 3.0 does not have",
)
reschedule_in_dag_test = pytest.mark.skipif(
    Version("3.1") > AIRFLOW, reason="dag.test() of Airflow 3.0 fails any sensor that is rescheduled twice"
)

__all__ = [
    "AIRFLOW",
    "CronTriggerTimetable",
    "DagBag",
    "DeltaTriggerTimetable",
    "HookLineageCollector",
    "MultipleCronTriggerTimetable",
    "TaskDeferred",
    "cli_of_providers",
    "postgres_hook_with_psycopg_3",
    "reschedule_in_dag_test",
    "shared_polling",
]


def said_by_us(records: list[logging.LogRecord]) -> list[str]:
    """Return the messages that are not Airflow's own: 3.0 warns of an operator that a test executes by itself."""
    ours = (record for record in records if "airflow_provider_stripe_identity" in record.name)
    messages = [record.getMessage() for record in ours]
    return [message for message in messages if "outside of the Task Runner" not in message]
