"""
Two DAGs: one exports each day's VerificationSessions and says so with an asset, the other loads whatever was exported.

The event's extra is the export's result, so the load knows which object to read. `STRIPE_IDENTITY_LAKE` says where the
objects go (`s3://aws_default@lake`, `gs://…`, `file:///…`). Connection `duckdb_default` is of type `duckdb`, its host
the path of the DuckDB file.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Asset, dag, task

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import (
    StripeIdentityToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
EXPORTED = Asset("verification_sessions_exported")


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    # Airflow 3.3 and older keep the event of an export that ends at the same time as another one for the next load.
    max_active_runs=1,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_export_to_asset():
    StripeIdentityToObjectStorageOperator(
        task_id="export",
        destination=f"{LAKE}/verification_sessions_to_asset/dt={{created_gte:%Y-%m-%d}}/sessions.jsonl.gz",
        outlets=[EXPORTED],
    )


@dag(schedule=[EXPORTED], tags=["stripe"], doc_md=__doc__)
def stripe_identity_load_from_asset():
    @task
    def exported(triggering_asset_events=None) -> list[dict]:
        """Return the result of every export since the last run."""
        return [event.extra for event in triggering_asset_events[EXPORTED]]

    StripeIdentityToWarehouseOperator(
        task_id="load",
        written=exported(),
        warehouse_conn_id="duckdb_default",
        table="exported_sessions",
    )


stripe_identity_export_to_asset()
stripe_identity_load_from_asset()
