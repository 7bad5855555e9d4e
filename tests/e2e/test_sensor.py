"""The sensor on a real scheduler and triggerer: how a wait begins, goes on and ends."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest
from support.airflow_stack import AirflowStack

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

DAGS = Path(__file__).parent / "dags_sensor"
API_KEY = "sk_test_marked_e2e_sensor_key"
PERSON = "marked-person@example.com"
CREDENTIALS: set[str] = set()
SESSIONS, EVENTS = "/v1/identity/verification_sessions", "/v1/events"


@pytest.fixture(scope="module")
def server():
    with StripeIdentityServer(api_key=API_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def revoked():
    """A server of its own for the connection whose key is taken back."""
    with StripeIdentityServer(api_key=API_KEY) as server:
        yield server


@pytest.fixture(scope="module")
def airflow(airflow_stack, server, revoked) -> AirflowStack:
    server.api_keys["rk_test_no_events"] = {"verification_sessions"}
    no_events = json.loads(server.airflow_connection()) | {"password": "rk_test_no_events"}
    return airflow_stack(
        DAGS,
        {
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
            "AIRFLOW_CONN_REVOKED": revoked.airflow_connection(),
            "AIRFLOW_CONN_NO_EVENTS": json.dumps(no_events),
            # A busy machine blocks for a fifth of a second by itself, the default; our slowest answer takes longer.
            "AIRFLOW__TRIGGERER__BLOCKED_MAIN_THREAD_WARNING_THRESHOLD": "4",
        },
    )


def session_of(server: StripeIdentityServer, reference: str) -> dict:
    """Create a session that holds personal data, and note its credentials, which its end would erase."""
    details = {"email": PERSON, "phone": None}
    session = server.create_session(client_reference_id=reference, provided_details=details)
    CREDENTIALS.update({session["client_secret"], session["url"]})
    return session


def asked(server: StripeIdentityServer, path: str, reference: str | None = None) -> int:
    return sum(
        request.path == path and (reference is None or ("client_reference_id", reference) in request.query)
        for request in list(server.requests)
    )


def deferred(airflow: AirflowStack, dag_id: str) -> str:
    """Start a run, and return its id when its sensor waits in the triggerer."""
    run_id = airflow.trigger(dag_id)
    airflow.wait_task(dag_id, run_id, "wait", "deferred")
    return run_id


def ended(airflow: AirflowStack, dag_id: str, run_id: str, state: str) -> dict:
    return airflow.wait_task(dag_id, run_id, "wait", state)


def test_it_holds_no_slot_and_goes_on_with_the_session(airflow, server) -> None:
    session = session_of(server, "verified")
    run_id = deferred(airflow, "verified")
    slots = airflow.get("pools/default_pool")
    assert (slots["running_slots"], slots["deferred_slots"]) == (0, 1)
    verified = server.verify(session["id"], verified_outputs={"first_name": PERSON})
    airflow.succeed("verified", run_id)
    assert airflow.xcom("verified", run_id, "wait") == {
        "id": session["id"],
        "status": "verified",
        "client_reference_id": "verified",
        "created": session["created"],
        "livemode": False,
        "type": "document",
        "last_verification_report": verified["last_verification_report"],
    }
    assert airflow.xcom("verified", run_id, "go_on") == session["id"]


def test_all_canceled_fails_without_a_retry(airflow, server) -> None:
    session = session_of(server, "canceled")
    run_id = deferred(airflow, "canceled")
    server.cancel(session["id"])
    assert airflow.wait("canceled", run_id) == "failed"
    assert ended(airflow, "canceled", run_id, "failed")["try_number"] == 1
    assert "its sessions are: 1 canceled" in airflow.task_log("canceled", run_id, "wait")


@pytest.mark.parametrize(
    ("dag_id", "state"), [("timed_out", "failed"), ("soft_fail", "skipped"), ("never_fail", "skipped")]
)
def test_a_timeout_is_not_retried(airflow, server, dag_id, state) -> None:
    run_id = airflow.trigger(dag_id)
    assert ended(airflow, dag_id, run_id, state)["try_number"] == 1
    assert airflow.wait(dag_id, run_id) == ("failed" if state == "failed" else "success")


def test_an_execution_timeout_is_retried(airflow, server) -> None:
    run_id = airflow.trigger("execution_timeout")
    assert airflow.wait("execution_timeout", run_id) == "failed"
    assert ended(airflow, "execution_timeout", run_id, "failed")["try_number"] == 2


# Each with a reference of its own: events tell a new triggerer what the other's session became.
@pytest.mark.parametrize("dag_id", ["stopped", "killed"])
def test_it_survives_a_restart_of_the_triggerer(airflow, server, dag_id) -> None:
    session = session_of(server, dag_id)
    run_id = deferred(airflow, dag_id)
    waiting = asked(server, SESSIONS, dag_id)
    airflow.until(lambda: asked(server, SESSIONS, dag_id) > waiting, 60, "the trigger's own check")
    (timeout,) = trigger_timeouts(airflow)
    airflow.stop("triggerer", kill=dag_id == "killed")
    server.verify(session["id"])  # nobody sees it
    assert trigger_timeouts(airflow) == [timeout]
    airflow.start("triggerer")
    airflow.succeed(dag_id, run_id)
    assert airflow.xcom(dag_id, run_id, "go_on") == session["id"]


def trigger_timeouts(airflow: AirflowStack) -> list[str]:
    """The moments at which Airflow itself ends the waits, as it stores them."""
    with sqlite3.connect(f"file:{airflow.home}/airflow.db?mode=ro", uri=True) as database:
        return [
            row[0] for row in database.execute("SELECT trigger_timeout FROM task_instance WHERE state = 'deferred'")
        ]


@pytest.mark.parametrize("dag_id", ["alone", "backoff"])
def test_without_a_shared_poll_it_checks_its_own_reference(airflow, server, dag_id) -> None:
    session = session_of(server, dag_id)
    run_id = deferred(airflow, dag_id)
    server.latency = 5.0
    airflow.until(lambda: asked(server, SESSIONS, dag_id) >= 3, 60, "two checks of the trigger's")
    server.latency = 0.0
    server.verify(session["id"])
    airflow.succeed(dag_id, run_id)


def test_transient_errors_do_not_end_the_wait(airflow, server) -> None:
    session = session_of(server, "faults")
    run_id = deferred(airflow, "faults")
    server.fault_every(1, Fault.status(503), Fault.reset(), Fault.rate_limited())
    failed = len(server.requests)
    airflow.until(lambda: len(server.requests) >= failed + 6, 60, "six requests that failed")
    ended(airflow, "faults", run_id, "deferred")
    server.verify(session["id"])
    server.clear_faults()
    airflow.succeed("faults", run_id)


def test_a_revoked_key_ends_the_wait_when_it_stays_revoked(airflow, revoked) -> None:
    run_id = deferred(airflow, "revoked")
    airflow.until(lambda: asked(revoked, EVENTS) > 1, 60, "the shared poll to run")
    revoked.api_keys.clear()
    assert airflow.wait("revoked", run_id, timeout=300) == "failed"  # after two minutes and three intervals
    assert ended(airflow, "revoked", run_id, "failed")["try_number"] == 1
    assert "Check the API key in the connection's password" in airflow.task_log("revoked", run_id, "wait")


def test_the_event_loop_was_never_blocked_and_nothing_leaked(airflow) -> None:
    """Over all that the other tests did, in everything that Airflow wrote."""
    logs = airflow.logs()
    assert any("is verified" in text for text in logs.values())
    assert not [path for path, text in logs.items() if "async thread was blocked" in text]
    database = b"".join(path.read_bytes() for path in airflow.home.glob("airflow.db*")).decode("latin-1")
    assert "client_reference_id" in database
    written = database + "".join(logs.values())
    assert CREDENTIALS
    assert not [secret for secret in {API_KEY, PERSON, *CREDENTIALS} if secret in written]
