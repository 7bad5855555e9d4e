"""Many sensors on one poll, and a DAG that every verified session starts."""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor
from airflow_provider_stripe_identity.triggers import StripeIdentityEventTrigger

VERIFIED = Asset(
    "stripe_identity_verified",
    watchers=[AssetWatcher(name="verified", trigger=StripeIdentityEventTrigger(poke_interval=1))],
)
# An equal watcher: Airflow makes one trigger of the two, with two assets.
ALSO_VERIFIED = Asset(
    "stripe_identity_also_verified",
    watchers=[AssetWatcher(name="verified", trigger=StripeIdentityEventTrigger(poke_interval=1))],
)
OF_ACCOUNTS = Asset(
    "stripe_identity_verified_of_accounts",
    watchers=[
        AssetWatcher(
            name="verified",
            trigger=StripeIdentityEventTrigger(
                stripe_conn_id="stripe_platform",
                stripe_accounts=["acct_one", "acct_two", "acct_three"],
                poke_interval=1,
            ),
        )
    ],
)

with DAG("twenty", schedule=None, tags=["stripe"]):
    StripeIdentityVerifiedSensor.partial(task_id="wait", deferrable=True, poke_interval=2, timeout=3600).expand(
        client_reference_id=[f"user_{number}" for number in range(20)]
    )

with DAG("on_verified", schedule=[VERIFIED], catchup=False):

    @task
    def seen(triggering_asset_events=None) -> list[dict]:
        return [event.extra["payload"] for event in triggering_asset_events[VERIFIED]]

    seen()

with DAG("on_also_verified", schedule=[ALSO_VERIFIED], catchup=False):

    @task
    def also_seen(triggering_asset_events=None) -> list[dict]:
        return [event.extra["payload"] for event in triggering_asset_events[ALSO_VERIFIED]]

    also_seen()

with DAG("on_verified_of_accounts", schedule=[OF_ACCOUNTS], catchup=False):

    @task
    def seen_of_accounts(triggering_asset_events=None) -> list[dict]:
        return [event.extra["payload"] for event in triggering_asset_events[OF_ACCOUNTS]]

    seen_of_accounts()
