"""A task ends with its ``execution_timeout`` while Stripe hangs, long before its requests would time out."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime

import pytest

from airflow_provider_stripe_identity.testing import StripeIdentityServer

END = int(time.time()) - 3600
DAG = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_provider_stripe_identity.operators import {operator}

with DAG("hangs", schedule=None):
    {operator}(
        task_id="export",
        destination="{destination}",
        created_gte={start},
        created_lt={end},
        execution_timeout=timedelta(seconds=5),
        {arguments}
    )
"""
TASKS = {
    "export": ("StripeIdentityToObjectStorageOperator", "", "/v1/identity/verification_sessions", 2),
    "changes": ("StripeIdentityChangesToObjectStorageOperator", "", "/v1/events", 2),
    "refetch": (
        "StripeIdentityChangesToObjectStorageOperator",
        "refetch=True",
        "/v1/identity/verification_sessions/vs_",
        20,
    ),
    "events": ("StripeIdentityEventsToObjectStorageOperator", "", "/v1/events", 2),
}


@pytest.mark.parametrize(("operator", "arguments", "path", "answered"), TASKS.values(), ids=TASKS)
def test_a_hanging_stripe(run_dag_file, monkeypatch, tmp_path, caplog, operator, arguments, path, answered):
    let_go, hanging = threading.Event(), threading.Event()
    asked = 0

    def hang(recorded) -> None:
        nonlocal asked
        if recorded.path.startswith(path):
            asked += 1
            if asked > answered:
                hanging.set()
                let_go.wait()

    with StripeIdentityServer() as server:
        server.populate(1_000, END - 3600, END)
        server.before_answer = hang
        # The requests themselves would go on for an hour, and be tried again.
        connection = json.loads(server.airflow_connection()) | {"extra": {"timeout": 3600}}
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
        text = DAG.format(
            operator=operator,
            destination=(tmp_path / "lake" / "sessions.jsonl").as_uri(),
            start=END - 3600,
            end=END,
            arguments=arguments,
        )
        # Airflow's timeout takes the alarm of pytest's away: without this, the test would hang where it should fail.
        rescue = threading.Timer(120, let_go.set)
        rescue.start()
        try:
            run = run_dag_file(text, logical_date=datetime.now(UTC))
            rescued = let_go.is_set()
        finally:
            rescue.cancel()
            let_go.set()
    assert not rescued
    assert run.state == "failed"
    assert hanging.is_set()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("stripe-identity", "stripe_identity"))
    ]
    assert not list((tmp_path / "lake").glob("*"))
