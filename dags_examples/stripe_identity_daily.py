"""
Every day: yesterday's VerificationSessions to object storage, then into a DuckDB table.

The table holds the sessions as they were when they were exported. `stripe_identity_to_duckdb` brings the later changes
into the same table.

`STRIPE_IDENTITY_LAKE` says where the objects go (`s3://aws_default@lake`, `gs://…`, `file:///…`),
`STRIPE_IDENTITY_WAREHOUSE` which DuckDB file holds the table.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import dag, task

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.schema import ddl, merge

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
WAREHOUSE = os.environ.get("STRIPE_IDENTITY_WAREHOUSE", "/tmp/stripe_identity.duckdb")

TABLE = "verification_sessions"


@dag(
    # Airflow 3's "@daily" gives each run an empty data interval; this gives it the day that it exports.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # one process at a time can write a DuckDB file
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_daily():
    export = StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=f"{LAKE}/verification_sessions/dt={{{{ data_interval_start | ds }}}}/sessions.jsonl.gz",
    )

    @task
    def load(exported: dict) -> int:
        """Merge the exported rows by id, in one transaction: a run that is repeated does no harm."""
        import duckdb

        with duckdb.connect(WAREHOUSE) as warehouse:
            warehouse.begin()
            warehouse.execute(ddl("duckdb", TABLE))
            warehouse.execute(f"CREATE TEMP TABLE staged AS FROM {TABLE} LIMIT 0")
            warehouse.execute(f"COPY staged FROM '{exported['uri'].removeprefix('file://')}' (FORMAT json)")
            warehouse.execute(merge("duckdb", TABLE, "staged", as_of=exported["as_of"]))
            warehouse.commit()
        return exported["sessions"]

    load(export.output)


stripe_identity_daily()
