"""
Every day: yesterday's VerificationSessions to object storage, then into a DuckDB table.

The table holds the sessions as they were when they were exported. `stripe_identity_to_duckdb` brings the later changes
into the same table.

`STRIPE_IDENTITY_LAKE` says where the objects go (`s3://aws_default@lake`, `gs://…`, `file:///…`). Connection
`duckdb_default` is of type `duckdb`, its host the path of the DuckDB file.
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
    StripeIdentityToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")


@dag(
    # Airflow 3's "@daily" gives each run an empty data interval; this gives it the day that it exports.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_daily():
    export = StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=f"{LAKE}/verification_sessions/dt={{created_gte:%Y-%m-%d}}/sessions.jsonl.gz",
    )

    StripeIdentityToWarehouseOperator(
        task_id="load",
        written=export.output,
        warehouse_conn_id="duckdb_default",
        table="verification_sessions",
    )


stripe_identity_daily()
