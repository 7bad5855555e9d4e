"""Sensors that wait in the triggerer, each in a DAG of its own."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor

WAITS = {
    "verified": {"timeout": 3600},
    "canceled": {"timeout": 3600},
    "stopped": {"timeout": 3600},
    "killed": {"timeout": 3600},
    "faults": {"timeout": 3600},
    "revoked": {"timeout": 3600, "stripe_conn_id": "revoked"},
    "alone": {"timeout": 3600, "stripe_conn_id": "no_events"},
    "backoff": {"timeout": 3600, "exponential_backoff": True},
    "timed_out": {"timeout": 5},
    "soft_fail": {"timeout": 5, "soft_fail": True},
    "never_fail": {"timeout": 5, "never_fail": True},
    "execution_timeout": {"timeout": 3600, "execution_timeout": timedelta(seconds=5)},
}

for name, options in WAITS.items():
    retries = 1 if name == "execution_timeout" else 2
    with DAG(name, schedule=None, default_args={"retries": retries, "retry_delay": timedelta(seconds=1)}):
        sensor = StripeIdentityVerifiedSensor(
            task_id="wait",
            client_reference_id="{{ dag_run.dag_id }}",
            deferrable=True,
            poke_interval=1,
            **options,
        )

        @task
        def go_on(session: dict) -> str:
            return session["id"]

        go_on(sensor.output)
