"""
Every day: the sessions that changed, merged into a Snowflake table.

Needs `apache-airflow-providers-snowflake`, the connection `snowflake_default` and an external stage `stripe_lake` on
`s3://lake`, where the objects go. How it keeps the table true, and what to do for sessions from before the first run:
as in `stripe_identity_to_duckdb`.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.providers.snowflake.transfers.copy_into_snowflake import CopyFromExternalStageToSnowflakeOperator
from airflow.sdk import dag

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityChangesToObjectStorageOperator
from airflow_provider_stripe_identity.schema import ddl, merge

TABLE, STAGED = "verification_sessions", "verification_sessions_staged"
KEY = "verification_session_changes/dt={{ data_interval_start | ds }}/sessions.jsonl.gz"


def query(task_id: str, *sql: str) -> SQLExecuteQueryOperator:
    return SQLExecuteQueryOperator(task_id=task_id, conn_id="snowflake_default", sql=list(sql))


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # there is one staging table
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_snowflake():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes", destination=f"s3://aws_default@lake/{KEY}"
    )
    stage = query("stage", ddl("snowflake", TABLE), f"CREATE OR REPLACE TABLE {STAGED} LIKE {TABLE}")
    load = CopyFromExternalStageToSnowflakeOperator(
        task_id="load",
        snowflake_conn_id="snowflake_default",
        table=STAGED,
        stage="stripe_lake",
        files=[KEY],
        file_format="(TYPE = JSON)",
        copy_options="MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE",
    )
    merge_rows = query(
        "merge_rows",
        merge("snowflake", TABLE, STAGED, as_of="{{ ti.xcom_pull('changes')['as_of'] or 'NULL' }}"),
    )
    [changes, stage] >> load >> merge_rows


stripe_identity_to_snowflake()
