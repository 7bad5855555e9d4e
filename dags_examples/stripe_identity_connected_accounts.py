"""
Every day: the sessions of all connected accounts that changed, in one object, merged into one DuckDB table.

One task reads all accounts of the platform; the column `_stripe_account` says whose a row is. Accounts that have
withdrawn their access are named in the log and skipped. For a task and an object per account see
`stripe_identity_accounts`.

The key is the platform's, and needs the permission *Events: Read* and read access to connected accounts.
`STRIPE_IDENTITY_LAKE` says where the objects go. Connection `duckdb_default` is of type `duckdb`, its host the path of
the DuckDB file.
"""

from __future__ import annotations

import os
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

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")


@dag(
    # Airflow 3's "@daily" gives each run an empty data interval; this gives it the day whose changes it reads.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_connected_accounts():
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes",
        destination=f"{LAKE}/changes_of_connected_accounts/dt={{created_gte:%Y-%m-%d}}/sessions.jsonl.gz",
        stripe_accounts="connected",
        skip_unreadable_accounts=True,
    )

    StripeIdentityToWarehouseOperator(
        task_id="load",
        written=changes.output,
        warehouse_conn_id="duckdb_default",
        table="verification_sessions_of_accounts",
    )


stripe_identity_connected_accounts()
