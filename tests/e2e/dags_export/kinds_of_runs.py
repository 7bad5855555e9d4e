"""A DAG for each kind of run, with a window and without one."""

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable, CronPartitionTimetable, task

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

LAKE = os.environ["EXPORT_LAKE"]
TODAY = datetime.fromisoformat(os.environ["EXPORT_TODAY"])
DAY = timedelta(days=1)
UPLOADED = Asset("uploaded")


def export_dag(
    dag_id: str,
    schedule: Any = None,
    first: datetime | None = None,
    last: datetime | None = None,
    *,
    catchup: bool = True,
    params: dict[str, Any] | None = None,
    **arguments: Any,
) -> None:
    with DAG(
        dag_id,
        schedule=schedule,
        start_date=first,
        end_date=last,
        catchup=catchup,
        params=params,
        default_args={"retries": 2, "retry_delay": timedelta(seconds=1)},
    ):
        StripeIdentityToObjectStorageOperator(
            task_id="export", destination=f"{LAKE}/{dag_id}/{{{{ run_id }}}}.jsonl", **arguments
        )


# Two scheduled runs, of the day before yesterday and of yesterday.
daily_interval = CronDataIntervalTimetable("@daily", timezone="UTC")
export_dag("data_interval", daily_interval, TODAY - 2 * DAY, TODAY - DAY)
# Without catchup the scheduler leaves days that are over alone.
export_dag("backfilled", daily_interval, TODAY - 5 * DAY, TODAY - 3 * DAY, catchup=False)
export_dag(
    "explicit_bounds",
    daily_interval,
    TODAY - 5 * DAY,
    TODAY - 3 * DAY,
    catchup=False,
    params={"until": TODAY.isoformat()},
    created_gte="{{ dag_run.conf['since'] }}",
    created_lt="{{ params.until }}",
)

with DAG("uploader"):

    @task(outlets=[UPLOADED])
    def upload() -> None:
        """Nothing but the asset event."""

    upload()

# Midnight in Tokyo is not midnight in UTC; one scheduled run, at the midnight within yesterday.
daily_partition = CronPartitionTimetable("@daily", timezone="Asia/Tokyo", run_offset=-1)

for suffix, window in {
    "": {"window": DAY},
    # An account of its own, so that its requests are known.
    "_without_window": {"stripe_account": "acct_without_window"},
}.items():
    short_window = window | {"window": timedelta(minutes=2)} if "window" in window else window
    export_dag(f"daily{suffix}", "@daily", TODAY, TODAY, **window)
    export_dag(f"on_demand{suffix}", settle=timedelta(seconds=10), **short_window)
    export_dag(f"on_upload{suffix}", [UPLOADED], settle=timedelta(seconds=1), **short_window)
    export_dag(f"partitioned{suffix}", daily_partition, TODAY - DAY, TODAY, **window)
