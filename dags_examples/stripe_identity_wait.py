"""
Wait for a person, then go on with the verified session.

Trigger it with the reference that your application gave to Stripe: `{"client_reference_id": "user_123"}`. The sensor
waits in the triggerer and holds no worker slot.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor


@dag(
    schedule=None,
    params={"client_reference_id": Param(type="string", minLength=1)},
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_wait():
    verified = StripeIdentityVerifiedSensor(
        task_id="wait_until_verified",
        client_reference_id="{{ params.client_reference_id }}",
        deferrable=True,
        poke_interval=timedelta(minutes=5),
        timeout=timedelta(days=7),
    )

    @task
    def open_account(session: dict) -> str:
        return f"{session['client_reference_id']} was verified by {session['id']}"

    open_account(verified.output)


stripe_identity_wait()
