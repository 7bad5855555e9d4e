"""
Every hour: all events of VerificationSessions into a table that keeps them forever, in DuckDB and in PostgreSQL.

Stripe drops its events after 30 days and a session has no "verified at", so the sooner this runs, the longer is the
history that the views `verification_session_timeline` and `verification_session_funnel` can be asked about. Runs may be
missed, repeated and late, in any order; one that is more than 29 days late fails.

Trigger `stripe_identity_history_backfill` once: it brings what Stripe still has of the time before, 29 days, into
DuckDB.

The key needs the permission *Events: Read*. `STRIPE_IDENTITY_LAKE` says where the objects go. Connection
`duckdb_default` is of type `duckdb`, its host the path of the DuckDB file; `postgres_default` needs
`apache-airflow-providers-postgres`.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Param, dag

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import (
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")


def history(warehouse: str, folder: str, **window: str) -> None:
    events = StripeIdentityEventsToObjectStorageOperator(
        task_id="events",
        destination=f"{LAKE}/{folder}/{{created_gte:dt=%Y-%m-%d/%H%M}}-{{created_lt:%Y-%m-%dT%H%M}}.jsonl.gz",
        **window,
    )
    StripeIdentityToWarehouseOperator(
        task_id="load",
        written=events.output,
        warehouse_conn_id=f"{warehouse}_default",
        table="verification_session_events",
    )


def hourly(dag_id: str):
    return dag(
        dag_id=dag_id,
        # Airflow 3's "@hourly" gives each run an empty data interval; this gives it the hour whose events it reads.
        schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
        start_date=datetime(2026, 1, 1),
        catchup=False,
        tags=["stripe"],
        doc_md=__doc__,
    )


@hourly("stripe_identity_history_to_duckdb")
def to_duckdb():
    history("duckdb", "history_to_duckdb")


@hourly("stripe_identity_history_to_postgres")
def to_postgres():
    history("postgres", "history_to_postgres")


@dag(
    dag_id="stripe_identity_history_backfill",
    schedule=None,
    params={"days": Param(29, type="integer", minimum=1, maximum=29)},
    tags=["stripe"],
    doc_md=__doc__,
)
def backfill():
    # A run that is triggered without a logical date has no data interval.
    end = "(data_interval_end | default(dag_run.run_after, true))"
    history(
        "duckdb",
        "history_backfill",
        created_gte=f"{{{{ {end} - macros.timedelta(days=params.days) }}}}",
        created_lt=f"{{{{ {end} }}}}",
    )


to_duckdb()
to_postgres()
backfill()
