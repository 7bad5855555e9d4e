"""Exports, sensors and a watcher, on connections that work and on those that fail, all at DEBUG."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.triggers import StripeIdentityEventTrigger

LAKE = os.environ["LEAKS_LAKE"]
DAY = datetime.fromisoformat(os.environ["LEAKS_DAY"])
RETRIES = {"retries": 1, "retry_delay": timedelta(seconds=1)}
WINDOW = {"created_gte": DAY, "created_lt": DAY + timedelta(days=1)}

EXPORTS: dict[str, dict[str, Any]] = {
    "export": {},
    "export_named": {"fields": ["id", "provided_details"], "expand": ["data.verified_outputs"]},
    "export_all": {"fields": "all"},
    **{f"export_{name}": {"stripe_conn_id": name} for name in os.environ["LEAKS_FAILING"].split()},
}
for dag_id, arguments in EXPORTS.items():
    with DAG(dag_id, schedule=None, default_args=RETRIES):
        StripeIdentityToObjectStorageOperator(
            task_id="it",
            destination=f"{LAKE}/{dag_id}.jsonl",
            outlets=[Asset("exported")],
            **{"stripe_conn_id": "stored", **WINDOW, **arguments},
        )

SENSORS: dict[str, dict[str, Any]] = {
    "sensor_poked": {"mode": "poke"},
    "sensor_deferred": {"deferrable": True},
    "sensor_wrong_key": {"deferrable": True, "stripe_conn_id": "wrong_key"},
    "sensor_flaky": {"deferrable": True, "stripe_conn_id": "flaky"},
}
for dag_id, arguments in SENSORS.items():
    with DAG(dag_id, schedule=None, default_args=RETRIES):
        StripeIdentityVerifiedSensor(
            task_id="it",
            client_reference_id="marked_reference",
            poke_interval=1,
            timeout=3600,
            **{"stripe_conn_id": "stored", **arguments},
        )

verified = Asset(
    "verified",
    watchers=[
        AssetWatcher(name="verified", trigger=StripeIdentityEventTrigger(stripe_conn_id="stored", poke_interval=1))
    ],
)
with DAG("watched", schedule=[verified]):

    @task(task_id="it")
    def count(triggering_asset_events=None) -> int:
        return len(triggering_asset_events[verified])

    count()
