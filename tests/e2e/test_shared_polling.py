"""Stripe's events on a real triggerer: one poll for many sensors, and an asset event for every verified session."""

from __future__ import annotations

from pathlib import Path

import pytest
from airflow_stack import AirflowStack

from airflow_provider_stripe_identity.testing import StripeIdentityServer

DAGS = Path(__file__).parent / "dags_events"
SESSIONS, EVENTS = "/v1/identity/verification_sessions", "/v1/events"


@pytest.fixture(scope="module")
def server():
    with StripeIdentityServer() as server:
        yield server


@pytest.fixture(scope="module")
def airflow(airflow_stack, server) -> AirflowStack:
    return airflow_stack(DAGS, {"AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection()})


def asked(server: StripeIdentityServer, path: str, types: int) -> int:
    """Count the requests for a path; the sensors' poll asks for four types of events, the watcher's for one."""
    return sum(
        request.path == path and sum(name == "types[]" for name, _ in request.query) == types
        for request in list(server.requests)
    )


def seen(airflow: AirflowStack) -> list[str]:
    """The session ids with which the watcher's DAG has run so far; one run may stand for several."""
    runs = airflow.get("dags/on_verified/dagRuns")["dag_runs"]
    done = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [payload["id"] for run_id in done for payload in airflow.xcom("on_verified", run_id, "seen")]


def test_twenty_sensors_share_one_poll(airflow: AirflowStack, server: StripeIdentityServer) -> None:
    sessions = {number: server.create_session(client_reference_id=f"user_{number}")["id"] for number in range(20)}
    run_id = airflow.trigger("twenty")
    # One check before each deferral and one when each joins; from then on there is the poll alone.
    airflow.until(lambda: asked(server, SESSIONS, 0) == 40, 120, "every sensor to join")
    before = asked(server, EVENTS, 4)
    airflow.until(lambda: asked(server, EVENTS, 4) >= before + 3, 60, "three more polls")
    assert {instance["state"] for instance in airflow.task_instances("twenty", run_id)} == {"deferred"}
    assert asked(server, SESSIONS, 0) == 40
    for session_id in sessions.values():
        server.verify(session_id)
    assert airflow.wait("twenty", run_id) == "success"
    assert asked(server, SESSIONS, 0) == 40
    for number, session_id in sessions.items():
        assert airflow.xcom("twenty", run_id, "wait", map_index=number)["id"] == session_id


def test_the_watchers_dag_runs_once_for_every_verified_session(
    airflow: AirflowStack, server: StripeIdentityServer
) -> None:
    """Before, during and after a time without a triggerer."""
    airflow.until(lambda: asked(server, EVENTS, 1) > 0, 60, "the watcher to begin")
    earlier = [session["id"] for session in server.sessions(status="verified")]
    airflow.until(lambda: {*earlier} <= {*seen(airflow)}, 60, "those that the other test verified")

    def verify() -> str:
        return server.verify(server.create_session(client_reference_id="watched")["id"])["id"]

    expected = [verify(), verify()]
    airflow.until(lambda: set(expected) <= set(seen(airflow)), 60, "the first two")
    polled = asked(server, EVENTS, 1)
    airflow.until(lambda: asked(server, EVENTS, 1) > polled, 60, "the place to be kept")
    airflow.stop("triggerer")
    expected += [verify(), verify()]
    airflow.start("triggerer")
    expected.append(verify())
    airflow.until(lambda: set(expected) <= set(seen(airflow)), 90, "all of them")
    polled = asked(server, EVENTS, 1)
    airflow.until(lambda: asked(server, EVENTS, 1) > polled + 3, 60, "what would come twice")
    assert sorted(seen(airflow)) == sorted(earlier + expected)
