"""Eight exports at once on one connection, and a backfill by months."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from airflow.sdk import DAG

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

LAKE = os.environ["LAKE"]
FIRST = datetime(2024, 1, 1, tzinfo=UTC)
MONTHS = [
    (
        datetime(2024 + month // 12, month % 12 + 1, 1, tzinfo=UTC),
        datetime(2024 + (month + 1) // 12, (month + 1) % 12 + 1, 1, tzinfo=UTC),
    )
    for month in range(24)
]

with DAG("eight", schedule=None, default_args={"stripe_conn_id": "history"}):
    for number in range(8):
        StripeIdentityToObjectStorageOperator(
            task_id=f"export_{number}",
            created_gte=FIRST,
            created_lt=FIRST + timedelta(days=31),
            destination=f"file://{LAKE}/eight/{number}.jsonl",
        )

with DAG(
    "backfill",
    schedule=None,
    default_args={"stripe_conn_id": "history", "retries": 3, "retry_delay": timedelta(seconds=2)},
):
    StripeIdentityToObjectStorageOperator.partial(task_id="export", max_active_tis_per_dagrun=4).expand_kwargs(
        [
            {
                "created_gte": start.isoformat(),
                "created_lt": end.isoformat(),
                "destination": f"file://{LAKE}/backfill/{start:%Y-%m}.jsonl",
            }
            for start, end in MONTHS
        ]
    )
