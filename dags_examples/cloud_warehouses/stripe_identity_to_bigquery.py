"""
Every day: the sessions that changed, merged into a BigQuery table.

Needs `apache-airflow-providers-google`, `gcsfs` and the connection `google_cloud_default`. How it keeps the table
true, and what to do for sessions from before the first run: as in `stripe_identity_to_duckdb`.
"""

from __future__ import annotations

from datetime import datetime

from airflow.providers.google.cloud.operators.bigquery import BigQueryInsertJobOperator
from airflow.sdk import dag

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityChangesToObjectStorageOperator
from airflow_provider_stripe_identity.schema import ddl, merge

PROJECT, DATASET, TABLE, STAGED = "my-project", "stripe", "verification_sessions", "verification_sessions_staged"
OBJECT = "lake/verification_session_changes/dt={{ data_interval_start | ds }}/sessions.jsonl.gz"


def query(task_id: str, sql: str) -> BigQueryInsertJobOperator:
    return BigQueryInsertJobOperator(task_id=task_id, configuration={"query": {"query": sql, "useLegacySql": False}})


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,  # there is one staging table
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_bigquery():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes", destination=f"gs://google_cloud_default@{OBJECT}"
    )
    create_table = query("create_table", ddl("bigquery", f"{DATASET}.{TABLE}"))
    stage = query("stage", f"CREATE OR REPLACE TABLE {DATASET}.{STAGED} LIKE {DATASET}.{TABLE}")
    load = BigQueryInsertJobOperator(
        task_id="load",
        configuration={
            "load": {
                "sourceUris": [f"gs://{OBJECT}"],
                "sourceFormat": "NEWLINE_DELIMITED_JSON",
                "destinationTable": {"projectId": PROJECT, "datasetId": DATASET, "tableId": STAGED},
                "writeDisposition": "WRITE_APPEND",
                "ignoreUnknownValues": True,
            }
        },
    )
    merge_rows = query(
        "merge_rows",
        merge(
            "bigquery",
            f"{DATASET}.{TABLE}",
            f"{DATASET}.{STAGED}",
            as_of="{{ ti.xcom_pull('changes')['as_of'] or 'NULL' }}",
        ),
    )
    [changes, create_table >> stage] >> load >> merge_rows


stripe_identity_to_bigquery()
