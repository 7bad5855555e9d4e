"""Yesterday's sessions, with all of their fields."""

import os

from airflow.sdk import DAG, CronDataIntervalTimetable

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("every_field", schedule=CronDataIntervalTimetable("@daily", timezone="UTC")):
    StripeIdentityToObjectStorageOperator(
        task_id="export", destination=f"{os.environ['EXPORT_LAKE']}/every_field.jsonl.gz", fields="all"
    )
