"""Live and test mode side by side, with an alias as outlet."""

from datetime import timedelta

from airflow.sdk import DAG, AssetAlias, task

from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor

OBJECTS = AssetAlias("verification_session_objects")

for mode in ("test", "live"):
    with DAG(f"{mode}_mode", params={"lake": ""}):
        arguments = {"stripe_conn_id": f"stripe_{mode}", "client_reference_id": "user_1"}
        StripeIdentityVerifiedSensor(task_id="wait", **arguments)
        StripeIdentityVerifiedSensor(
            task_id="wait_deferred", deferrable=True, poke_interval=timedelta(seconds=5), **arguments
        )
        StripeIdentityToObjectStorageOperator(
            task_id="export",
            destination="{{ params.lake }}/sessions.jsonl",
            created_gte="2026-05-01T00:00:00Z",
            created_lt="2026-05-02T00:00:00Z",
            outlets=[OBJECTS],
            **arguments,
        )

with DAG("on_object", schedule=[OBJECTS]):

    @task
    def read(triggering_asset_events: dict | None = None) -> list[str]:
        return [event.asset.uri for events in (triggering_asset_events or {}).values() for event in events]

    read()
