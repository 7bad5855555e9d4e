"""
Run once for every session that becomes verified, as soon as Stripe says so: no schedule, no waiting task.

The asset's watcher reads Stripe's events once a minute. The key needs the permission *Events: Read*.
"""

from __future__ import annotations

from airflow.sdk import Asset, AssetWatcher, dag, task

from airflow_provider_stripe_identity.triggers import StripeIdentityEventTrigger

VERIFIED = Asset(
    "stripe_identity_verified",
    watchers=[AssetWatcher(name="verified", trigger=StripeIdentityEventTrigger(poke_interval=60))],
)


@dag(schedule=[VERIFIED], catchup=False, tags=["stripe"], doc_md=__doc__)
def stripe_identity_on_verified():
    @task
    def welcome(triggering_asset_events: dict | None = None) -> list[str]:
        """A run may stand for several events that came together."""
        events = (triggering_asset_events or {}).get(VERIFIED, [])
        return [event.extra["payload"]["client_reference_id"] for event in events]

    welcome()


stripe_identity_on_verified()
