"""Sixty people waited for, and every verified person seen, on several triggerers."""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.triggers import StripeIdentityEventTrigger

VERIFIED = Asset(
    "stripe_identity_verified",
    watchers=[AssetWatcher(name="verified", trigger=StripeIdentityEventTrigger(poke_interval=1))],
)

with DAG("sixty", schedule=None, max_active_tasks=64):
    StripeIdentityVerifiedSensor.partial(task_id="wait", deferrable=True, poke_interval=2, timeout=3600).expand(
        client_reference_id=[f"person_{number}" for number in range(60)]
    )

with DAG("on_verified", schedule=[VERIFIED], catchup=False):

    @task
    def seen(triggering_asset_events: Any = None) -> list[dict[str, Any]]:
        return [event.extra["payload"] for event in triggering_asset_events[VERIFIED]]

    seen()
