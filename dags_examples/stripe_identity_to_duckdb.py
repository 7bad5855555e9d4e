"""
Every day: the sessions that changed, merged into a DuckDB table, which so becomes and stays equal to Stripe.

The key needs the permission *Events: Read*. Without it use `StripeIdentityToObjectStorageOperator` with
`lookback=timedelta(days=30)` instead: it reads a month of sessions again every day. Sessions from before the first run
come in with one export of them, merged in the same way.

Runs may be repeated and late, in any order. Airflow makes no runs for the days on which the DAG was paused: make them
with `airflow backfill create`. One that is more than 29 days late fails: Stripe keeps events for 30 days. Then export
the sessions again and merge them.

`STRIPE_IDENTITY_LAKE` says where the objects go. Connection `duckdb_default` is of type `duckdb`, its host the path of
the DuckDB file.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import dag

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")


@dag(
    # Airflow 3's "@daily" gives each run an empty data interval; this gives it the day whose changes it reads.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_duckdb():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes",
        destination=f"{LAKE}/changes_to_duckdb/dt={{created_gte:%Y-%m-%d}}/sessions.jsonl.gz",
    )

    StripeIdentityToWarehouseOperator(
        task_id="load",
        written=changes.output,
        warehouse_conn_id="duckdb_default",
        table="verification_sessions",
    )


stripe_identity_to_duckdb()
