"""
Every day: the sessions that changed, merged into a PostgreSQL table. And, once, all sessions from before that.

Switch `stripe_identity_to_postgres` on first, then trigger `stripe_identity_backfill`: so no change between the two is
missed. The table holds the latest state of every session, whichever of them comes last. While the first is paused
Airflow makes no runs of it; make those of the days in between with `airflow backfill create`.

The backfill exports and loads month by month, two at once, from `first_month` until the moment it was triggered. By
default it begins in June 2021, when Stripe Identity did; a month without sessions is one request. When a month fails,
clear the failed tasks: the others stay done.

Needs `apache-airflow-providers-postgres` and the connection `postgres_default`.
`STRIPE_IDENTITY_LAKE` says where the objects go.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Param, XComArg, dag, task, task_group

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")


def load(written: XComArg) -> StripeIdentityToWarehouseOperator:
    return StripeIdentityToWarehouseOperator(
        task_id="load", written=written, warehouse_conn_id="postgres_default", table="verification_sessions"
    )


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
        destination=f"{LAKE}/changes_to_postgres/dt={{created_gte:%Y-%m-%d}}/sessions.jsonl.gz",
    )
    load(changes.output)


@dag(
    schedule=None,
    params={"first_month": Param("2021-06", type="string", pattern=r"^\d{4}-(0[1-9]|1[0-2])$")},
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_backfill():
    @task
    def months(params: dict, dag_run=None) -> list[dict]:
        """The windows: whole months, and the running one until this run was triggered."""
        import pendulum

        start, now = pendulum.from_format(params["first_month"], "YYYY-MM"), dag_run.run_after
        if start >= now:
            raise ValueError(f"first_month is in the future: {params['first_month']}")
        windows = []
        while start < now:
            end = start.add(months=1)
            windows.append({"created_gte": start.isoformat(), "created_lt": min(end, now).isoformat()})
            start = end
        return windows

    @task_group
    def month(created_gte: str, created_lt: str):
        exported = StripeIdentityToObjectStorageOperator(
            task_id="export",
            created_gte=created_gte,
            created_lt=created_lt,
            destination=f"{LAKE}/backfill_to_postgres/month={{created_gte:%Y-%m}}/sessions.jsonl.gz",
            max_active_tis_per_dagrun=2,  # Stripe's rate limit is shared with payments
        )
        load(exported.output)

    month.expand_kwargs(months())


stripe_identity_to_postgres()
stripe_identity_backfill()
