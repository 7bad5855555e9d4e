"""
Every day: the sessions that changed, merged into a PostgreSQL table. And, once, the history of three years before that.

Switch `stripe_identity_to_postgres` on first, then trigger `stripe_identity_backfill`: so no change between the two is
missed. The table holds the latest state of every session, whichever of them comes last.

The backfill exports and merges month by month, as many months at once as the pool allows
(`airflow pools set stripe_identity 2 "exports at once"`). When a month fails, clear the failed tasks: the others stay
done.

Needs `apache-airflow-providers-postgres` with psycopg 3, and the connection `postgres_default`.
`STRIPE_IDENTITY_LAKE` says where the objects go.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import Param, dag, task, task_group

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.schema import ddl, merge

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
WAREHOUSE = "postgres_default"
TABLE = "verification_sessions"
#: The loaded lines as rows of the table.
ROWS = f"(SELECT found.* FROM staged, jsonb_populate_record(NULL::{TABLE}, line) AS found)"


def create_table() -> SQLExecuteQueryOperator:
    return SQLExecuteQueryOperator(task_id="create_table", conn_id=WAREHOUSE, sql=ddl("postgres", TABLE))


@task
def merge_rows(written: dict) -> None:
    """Load the object and merge it, in one transaction."""
    import gzip

    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk import ObjectStoragePath

    path = ObjectStoragePath(written["uri"])  # for a store that needs a connection: conn_id="…"
    with PostgresHook(WAREHOUSE).get_conn() as warehouse, warehouse.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE staged (line JSONB)")
        with path.open("rb") as packed, gzip.open(packed) as lines, cursor.copy("COPY staged FROM STDIN") as copy:
            for line in lines:
                copy.write_row([line.decode()])
        cursor.execute(merge("postgres", TABLE, ROWS, as_of=written["as_of"]))


@dag(
    # Airflow 3's "@daily" gives each run an empty data interval; this gives it the day whose changes it reads.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_to_postgres():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes",
        destination=f"{LAKE}/verification_session_changes/dt={{{{ data_interval_start | ds }}}}/sessions.jsonl.gz",
    )
    create_table() >> merge_rows(changes.output)


@dag(
    schedule=None,
    params={
        "first_month": Param("2023-01", type="string", pattern=r"^\d{4}-\d{2}$"),
        "months": Param(36, type="integer", minimum=1),
    },
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_backfill():
    @task
    def months(params: dict) -> list[dict]:
        """The windows, and the object of each."""
        import pendulum

        first = pendulum.from_format(params["first_month"], "YYYY-MM")
        starts = [first.add(months=number) for number in range(params["months"])]
        return [
            {
                "created_gte": start.isoformat(),
                "created_lt": start.add(months=1).isoformat(),
                "destination": f"{LAKE}/verification_sessions/month={start:YYYY-MM}/sessions.jsonl.gz",
            }
            for start in starts
        ]

    @task_group
    def month(created_gte: str, created_lt: str, destination: str):
        exported = StripeIdentityToObjectStorageOperator(
            task_id="export",
            created_gte=created_gte,
            created_lt=created_lt,
            destination=destination,
            pool="stripe_identity",
        )
        merge_rows(exported.output)

    create_table() >> month.expand_kwargs(months())


stripe_identity_to_postgres()
stripe_identity_backfill()
