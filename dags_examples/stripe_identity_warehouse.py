"""
Every hour, all that a team asks of its verifications, in PostgreSQL: one table of sessions, one of events, two views.

* `export` reads the sessions that were created in the hour, `changes` those that were verified, canceled or redacted in
  it: together they keep `verification_sessions` equal to Stripe. The export is what remains when a change is missed.
* `events` keeps every event in `verification_session_events`, and `views` answers from it how long verification takes,
  at which attempt it succeeds, and where people give up.

Sessions from before the first run come in with `stripe_identity_backfill`, into the same table.

The key needs the permission *Events: Read*. Needs `apache-airflow-providers-postgres` and the connection
`postgres_default`. `STRIPE_IDENTITY_LAKE` says where the objects go.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator
from airflow.sdk import dag

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)
from airflow_provider_stripe_identity.schema import funnel, timeline

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")
HOUR = "{created_gte:dt=%Y-%m-%d/%H%M}.jsonl.gz"
WAREHOUSE = "postgres_default"


@dag(
    # Airflow 3's "@hourly" gives each run an empty data interval; this gives it the hour that it reads.
    schedule=CronDataIntervalTimetable("@hourly", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_warehouse():
    export = StripeIdentityToObjectStorageOperator(task_id="export", destination=f"{LAKE}/warehouse/sessions/{HOUR}")
    changes = StripeIdentityChangesToObjectStorageOperator(
        task_id="changes", destination=f"{LAKE}/warehouse/changes/{HOUR}"
    )
    StripeIdentityToWarehouseOperator(
        task_id="load_sessions",
        written=[export.output, changes.output],
        warehouse_conn_id=WAREHOUSE,
        table="verification_sessions",
    )

    events = StripeIdentityEventsToObjectStorageOperator(
        task_id="events", destination=f"{LAKE}/warehouse/events/{HOUR}"
    )
    load_events = StripeIdentityToWarehouseOperator(
        task_id="load_events",
        written=events.output,
        warehouse_conn_id=WAREHOUSE,
        table="verification_session_events",
    )
    views = SQLExecuteQueryOperator(
        task_id="views",
        conn_id=WAREHOUSE,
        sql=[
            f"CREATE OR REPLACE VIEW {name} AS {query}"
            for name, query in (
                ("verification_session_timeline", timeline("postgres", "verification_session_events")),
                ("verification_session_funnel", funnel("postgres", "verification_session_timeline")),
            )
        ],
    )
    load_events >> views


stripe_identity_warehouse()
