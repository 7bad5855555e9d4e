"""
Every day, the VerificationSessions of several connected accounts: one mapped task and one object each.

The accounts come from the Airflow Variable `stripe_accounts`, a JSON list such as `["acct_1", "acct_2"]`.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.sdk import Variable, dag, task

try:
    from airflow.sdk import CronDataIntervalTimetable
except ImportError:  # before Airflow 3.2
    from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

LAKE = os.environ.get("STRIPE_IDENTITY_LAKE", "file:///tmp/stripe_identity")


@dag(
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_accounts():
    @task
    def accounts() -> list[str]:
        return Variable.get("stripe_accounts", deserialize_json=True)

    StripeIdentityToObjectStorageOperator.partial(
        task_id="export",
        destination=(
            f"{LAKE}/verification_sessions_of_accounts/account={{{{ task.stripe_account }}}}/"
            "dt={created_gte:%Y-%m-%d}/sessions.jsonl.gz"
        ),
        # Stripe's limits are the platform's, for all its accounts together: one after another.
        max_active_tis_per_dag=1,
        map_index_template="{{ task.stripe_account }}",
    ).expand(stripe_account=accounts())


stripe_identity_accounts()
