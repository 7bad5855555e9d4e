"""A DAG for each kind of run; where the run gives no window of its own, one with ``window`` and one without."""

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import (
    DAG,
    Asset,
    CronDataIntervalTimetable,
    CronPartitionTimetable,
    PartitionedAssetTimetable,
    task,
)

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

LAKE = os.environ["EXPORT_LAKE"]
TODAY = datetime.fromisoformat(os.environ["EXPORT_TODAY"])
DAY = timedelta(days=1)
MINUTES = timedelta(minutes=2)
DAILY = CronDataIntervalTimetable("@daily", timezone="UTC")
UPLOADED, EXPORTED = Asset("uploaded"), Asset("exported")


def export_dag(dag_id: str, arguments: dict[str, Any], **dag_arguments: Any) -> None:
    retries = {"retries": 2, "retry_delay": timedelta(seconds=1)}
    with DAG(dag_id, default_args=retries, **dag_arguments):
        StripeIdentityToObjectStorageOperator(
            task_id="export", destination=f"{LAKE}/{dag_id}/{{{{ run_id }}}}.jsonl", **arguments
        )


def with_and_without_window(dag_id: str, arguments: dict[str, Any], **dag_arguments: Any) -> None:
    export_dag(dag_id, arguments, **dag_arguments)
    # The account tells whose request it is.
    export_dag(f"{dag_id}_without_window", {"stripe_account": "acct_without_window"}, **dag_arguments)


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

# One scheduled run, today at midnight, and time around it for manual ones.
with_and_without_window(
    "daily",
    {"window": DAY},
    schedule="@daily",
    start_date=TODAY - timedelta(hours=1),
    end_date=TODAY + DAY - timedelta(seconds=1),
    catchup=True,
)

with_and_without_window("on_demand", {"window": MINUTES, "settle": timedelta(seconds=10)})

with DAG("uploader"):

    @task(outlets=[UPLOADED])
    def upload() -> None:
        """Nothing but the asset's event."""

    upload()

with_and_without_window("on_upload", {"window": MINUTES, "settle": timedelta(seconds=1)}, schedule=[UPLOADED])

# One scheduled run, at yesterday's midnight in Tokyo, for the day that ends then.
with_and_without_window(
    "partitioned",
    {"window": DAY, "outlets": [EXPORTED]},
    schedule=CronPartitionTimetable("@daily", timezone="Asia/Tokyo", run_offset=-1),
    start_date=TODAY - DAY,
    end_date=TODAY,
    catchup=True,
)
export_dag("on_partition", {"window": DAY}, schedule=PartitionedAssetTimetable(assets=EXPORTED))
