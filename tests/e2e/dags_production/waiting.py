"""People who are waited for, and every verified person seen, on several triggerers."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.triggers import StripeIdentityEventTrigger

VERIFIED = Asset(
    "stripe_identity_verified",
    watchers=[AssetWatcher(name="verified", trigger=StripeIdentityEventTrigger(poke_interval=1))],
)

with DAG("people", schedule=None, max_active_tasks=64):
    StripeIdentityVerifiedSensor.partial(task_id="wait", deferrable=True, poke_interval=2, timeout=3600).expand(
        client_reference_id=[f"person_{number}" for number in range(int(os.environ["PEOPLE"]))]
    )

with DAG("on_verified", schedule=[VERIFIED], catchup=False):

    @task
    def seen(triggering_asset_events: Any = None) -> list[str]:
        return [event.extra["payload"]["client_reference_id"] for event in triggering_asset_events[VERIFIED]]

    seen()
