"""
Every day: the sessions that changed, merged into a Snowflake table.

Needs the extras `snowflake` and `amazon`, and the connections `snowflake_default` and `aws_default`. Nothing has to be
set up in Snowflake: the rows go through a temporary stage.
How the table stays equal to Stripe, and what to do for sessions from before the first run: as in
`stripe_identity_to_duckdb`.
"""

from __future__ import annotations

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

LAKE = "s3://aws_default@lake/verification_session_changes"


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_snowflake():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes", destination=f"{LAKE}/dt={{created_gte:%Y-%m-%d}}/sessions.jsonl.gz"
    )
    StripeIdentityToWarehouseOperator(
        task_id="load",
        written=changes.output,
        warehouse_conn_id="snowflake_default",
        table="stripe.verification_sessions",
    )


stripe_identity_to_snowflake()
