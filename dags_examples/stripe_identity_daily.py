"""
Every day: yesterday's VerificationSessions to object storage, then into a DuckDB table.

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

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
WAREHOUSE = os.environ.get("STRIPE_IDENTITY_WAREHOUSE", "/tmp/stripe_identity.duckdb")

# Declared, because DuckDB would otherwise guess the type of metadata from each day's keys.
COLUMNS = {
    "id": "VARCHAR",
    "created": "BIGINT",
    "livemode": "BOOLEAN",
    "status": "VARCHAR",
    "type": "VARCHAR",
    "client_reference_id": "VARCHAR",
    "last_error": "STRUCT(code VARCHAR, reason VARCHAR)",
    "last_verification_report": "VARCHAR",
    "metadata": "JSON",
}


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
        destination=f"{LAKE}/verification_sessions/dt={{{{ data_interval_start | ds }}}}/sessions.jsonl.gz",
    )

    @task
    def load(exported: dict) -> int:
        """Replace the window's rows by the exported ones, in one transaction."""
        import duckdb

        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        window = [exported["created_gte"], exported["created_lt"]]
        with duckdb.connect(WAREHOUSE) as warehouse:
            warehouse.begin()
            warehouse.execute(f"CREATE TABLE IF NOT EXISTS verification_sessions ({columns})")
            warehouse.execute("DELETE FROM verification_sessions WHERE created >= ? AND created < ?", window)
            warehouse.read_json(
                exported["uri"].removeprefix("file://"),
                format="newline_delimited",
                columns=COLUMNS,
                hive_partitioning=False,  # dt= in the path is a name, not a column
            ).insert_into("verification_sessions")
            warehouse.commit()
        return exported["sessions"]

    load(export.output)


stripe_identity_daily()
