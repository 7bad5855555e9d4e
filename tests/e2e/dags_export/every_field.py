"""Yesterday's sessions, with all of their fields."""

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

YESTERDAY = datetime.fromisoformat(os.environ["EXPORT_TODAY"]) - timedelta(days=1)

with DAG(
    "every_field",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=YESTERDAY,
    end_date=YESTERDAY,
    catchup=True,
):
    StripeIdentityToObjectStorageOperator(
        task_id="export", destination=f"{os.environ['EXPORT_LAKE']}/every_field/{{{{ ds }}}}.jsonl.gz", fields="all"
    )
