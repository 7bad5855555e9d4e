"""
Wait for many people at once: one mapped sensor for each reference, and a task once all are verified.

Trigger it with `{"references": ["user_1", "user_2"]}`. Who is not verified in time is left out.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Param, dag, task

from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor


@dag(
    schedule=None,
    params={"references": Param(type="array", items={"type": "string"})},
    tags=["stripe"],
    doc_md=__doc__,
)
def stripe_identity_wait_for_many():
    @task
    def references(params: dict) -> list[str]:
        return params["references"]

    verified = StripeIdentityVerifiedSensor.partial(
        task_id="wait_until_verified",
        deferrable=True,
        poke_interval=timedelta(minutes=5),
        timeout=timedelta(days=7),
        soft_fail=True,
    ).expand(client_reference_id=references())

    @task(trigger_rule="none_failed")
    def report(sessions: list[dict]) -> list[str]:
        return sorted(session["client_reference_id"] for session in sessions)

    report(verified.output)


stripe_identity_wait_for_many()
