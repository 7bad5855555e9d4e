"""
Two DAGs: one exports each day's VerificationSessions and says so with an asset, the other loads whatever was exported.

The event's extra is the export's result, so the load knows which object to read. `STRIPE_IDENTITY_LAKE` says where the
objects go (`s3://aws_default@lake`, `gs://…`, `file:///…`), `STRIPE_IDENTITY_WAREHOUSE` which DuckDB file holds the
table.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Asset, dag, task

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
WAREHOUSE = os.environ.get("STRIPE_IDENTITY_WAREHOUSE", "/tmp/stripe_identity.duckdb")
EXPORTED = Asset("verification_sessions_exported")


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_export_to_asset():
    StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=f"{LAKE}/verification_sessions/dt={{{{ data_interval_start | ds }}}}/sessions.jsonl.gz",
        outlets=[EXPORTED],
    )


@dag(schedule=[EXPORTED], tags=["stripe"], doc_md=__doc__)
def stripe_identity_load_from_asset():
    @task
    def load(triggering_asset_events=None) -> int:
        """Read every object that was exported since the last run."""
        import duckdb

        exported = [event.extra for event in triggering_asset_events[EXPORTED]]
        with duckdb.connect(WAREHOUSE) as warehouse:
            warehouse.execute("CREATE TABLE IF NOT EXISTS exported (id VARCHAR PRIMARY KEY, status VARCHAR)")
            for result in exported:
                warehouse.execute(
                    "INSERT OR REPLACE INTO exported SELECT json ->> 'id', json ->> 'status'"
                    " FROM read_json_objects(?, format = 'newline_delimited')",
                    [result["uri"].removeprefix("file://")],
                )
        return sum(result["sessions"] for result in exported)

    load()


stripe_identity_export_to_asset()
stripe_identity_load_from_asset()
