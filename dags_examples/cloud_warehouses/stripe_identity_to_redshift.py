"""
Every day: the sessions that changed, merged into a Redshift table.

Needs `apache-airflow-providers-amazon` with `s3fs`, and the connections `aws_default` and `redshift_default`. How it
keeps the table true, and what to do for sessions from before the first run: as in `stripe_identity_to_duckdb`.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.amazon.aws.transfers.s3_to_redshift import S3ToRedshiftOperator
from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityChangesToObjectStorageOperator
from airflow_provider_stripe_identity.schema import ddl, merge

BUCKET, SCHEMA, TABLE, STAGED = "lake", "public", "verification_sessions", "verification_sessions_staged"
KEY = "verification_session_changes/dt={{ data_interval_start | ds }}/sessions.jsonl.gz"


def query(task_id: str, sql: str) -> SQLExecuteQueryOperator:
    return SQLExecuteQueryOperator(
        task_id=task_id, conn_id="redshift_default", sql=sql, split_statements=True, autocommit=True
    )


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # there is one staging table
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_redshift():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes", destination=f"s3://aws_default@{BUCKET}/{KEY}"
    )
    stage = query(
        "stage",
        f"{ddl('redshift', TABLE)}; DROP TABLE IF EXISTS {STAGED}; CREATE TABLE {STAGED} (LIKE {TABLE});",
    )
    load = S3ToRedshiftOperator(
        task_id="load",
        aws_conn_id="aws_default",
        redshift_conn_id="redshift_default",
        s3_bucket=BUCKET,
        s3_key=KEY,
        schema=SCHEMA,
        table=STAGED,
        copy_options=["FORMAT JSON 'auto'", "GZIP"],
    )
    merge_rows = query(
        "merge_rows",
        merge("redshift", TABLE, STAGED, as_of="{{ ti.xcom_pull('changes')['as_of'] or 'NULL' }}"),
    )
    [changes, stage] >> load >> merge_rows


stripe_identity_to_redshift()
