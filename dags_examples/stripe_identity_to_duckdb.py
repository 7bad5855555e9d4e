"""
Every day: the sessions that changed, merged into a DuckDB table, which so becomes and stays equal to Stripe.

The key needs the permission *Events: Read*. Without it use `StripeIdentityToObjectStorageOperator` with
`lookback=timedelta(days=30)` instead: it reads a month of sessions again every day. Sessions from before the first run
come in with one export of them, merged in the same way.

Runs may be missed, repeated and late, in any order. One that is more than 29 days late fails: Stripe keeps events for
30 days. Then export the sessions again and merge them.

`STRIPE_IDENTITY_LAKE` says where the objects go, `STRIPE_IDENTITY_WAREHOUSE` which DuckDB file holds the table.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import dag, task

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityChangesToObjectStorageOperator
from airflow_provider_stripe_identity.schema import ddl, merge

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
WAREHOUSE = os.environ.get("STRIPE_IDENTITY_WAREHOUSE", "/tmp/stripe_identity.duckdb")
TABLE = "verification_sessions"


@dag(
    # Airflow 3's "@daily" gives each run an empty data interval; this gives it the day whose changes it reads.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # one process at a time can write a DuckDB file
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_duckdb():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes",
        destination=f"{LAKE}/verification_session_changes/dt={{{{ data_interval_start | ds }}}}/sessions.jsonl.gz",
    )

    @task
    def merge_rows(written: dict) -> None:
        """Load the object and merge it, in one transaction."""
        import duckdb

        with duckdb.connect(WAREHOUSE) as warehouse:
            warehouse.begin()
            warehouse.execute(ddl("duckdb", TABLE))
            warehouse.execute(f"CREATE TEMP TABLE staged AS FROM {TABLE} LIMIT 0")
            warehouse.execute(f"COPY staged FROM '{written['uri'].removeprefix('file://')}' (FORMAT json)")
            warehouse.execute(merge("duckdb", TABLE, "staged", as_of=written["as_of"]))
            warehouse.commit()

    merge_rows(changes.output)


stripe_identity_to_duckdb()
