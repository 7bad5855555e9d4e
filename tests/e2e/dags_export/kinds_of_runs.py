"""A DAG for each kind of run; where the run gives no window of its own, one with ``window`` and one without."""

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, CronPartitionTimetable, task

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

LAKE = os.environ["EXPORT_LAKE"]
TODAY = datetime.fromisoformat(os.environ["EXPORT_TODAY"])
DAY = timedelta(days=1)
DAILY = CronDataIntervalTimetable("@daily", timezone="UTC")
UPLOADED = Asset("uploaded")


def export_dag(dag_id: str, arguments: dict[str, Any], **dag_arguments: Any) -> None:
    retries = {"retries": 2, "retry_delay": timedelta(seconds=1)}
    with DAG(dag_id, default_args=retries, **dag_arguments):
        StripeIdentityToObjectStorageOperator(
            task_id="export", destination=f"{LAKE}/{dag_id}/{{{{ run_id }}}}.jsonl", **arguments
        )


# Two scheduled runs: of the day before yesterday, and of yesterday.
export_dag("data_interval", {}, schedule=DAILY, start_date=TODAY - 2 * DAY, end_date=TODAY - DAY, catchup=True)

# Without catchup the scheduler leaves days that are over alone.
past = {"schedule": DAILY, "start_date": TODAY - 5 * DAY, "end_date": TODAY - 3 * DAY, "catchup": False}
export_dag("backfilled", {}, **past)
export_dag(
    "explicit_bounds",
    {"created_gte": "{{ dag_run.conf['since'] }}", "created_lt": "{{ params.until }}"},
    params={"until": TODAY.isoformat()},
    **past,
)

with DAG("uploader"):

    @task(outlets=[UPLOADED])
    def upload() -> None:
        """Nothing but the asset's event."""

    upload()

# One scheduled run, at yesterday's midnight in Tokyo, for the day that ends then.
partitions = {
    "schedule": CronPartitionTimetable("@daily", timezone="Asia/Tokyo", run_offset=-1),
    "start_date": TODAY - DAY,
    "end_date": TODAY,
    "catchup": True,
}
for dag_id, length, settle, dag_arguments in (
    ("daily", DAY, 30, {"schedule": "@daily", "start_date": TODAY, "end_date": TODAY, "catchup": True}),
    ("on_demand", timedelta(minutes=2), 10, {}),
    ("on_upload", timedelta(minutes=2), 1, {"schedule": [UPLOADED]}),
    ("partitioned", DAY, 30, partitions),
):
    export_dag(dag_id, {"window": length, "settle": timedelta(seconds=settle)}, **dag_arguments)
    # The account tells whose request it is.
    export_dag(f"{dag_id}_without_window", {"stripe_account": "acct_without_window"}, **dag_arguments)
