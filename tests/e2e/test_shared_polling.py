"""Stripe's events on a real triggerer: one poll for many sensors, and an asset event for every verified session."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path

import pytest
from support.airflow_stack import AirflowStack

from airflow_provider_stripe_identity.testing import StripeIdentityServer

DAGS = Path(__file__).parent / "dags_events"
ACCOUNTS = ("acct_one", "acct_two", "acct_three")
SESSIONS, EVENTS = "/v1/identity/verification_sessions", "/v1/events"


@pytest.fixture(scope="module")
def server():
    with StripeIdentityServer() as server:
        yield server


@pytest.fixture(scope="module")
def platform():
    with StripeIdentityServer() as platform:
        for account in ACCOUNTS:
            platform.connect_account(account)
        yield platform


@pytest.fixture(scope="module")
def airflow(airflow_stack, server, platform) -> AirflowStack:
    connections = {
        "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
        "AIRFLOW_CONN_STRIPE_PLATFORM": platform.airflow_connection(),
    }
    return airflow_stack(DAGS, connections)


def asked(server: StripeIdentityServer, path: str, types: int) -> int:
    """Count the requests for a path; the sensors' poll asks for four types of events, the watcher's for one."""
    return sum(
        request.path == path and sum(name == "types[]" for name, _ in request.query) == types
        for request in list(server.requests)
    )


def payloads(airflow: AirflowStack, dag_id: str, task_id: str) -> list[dict[str, str]]:
    """The payloads with which a watcher's DAG has run so far; one run may stand for several."""
    runs = airflow.get(f"dags/{dag_id}/dagRuns", limit=100)["dag_runs"]
    done = [run["dag_run_id"] for run in runs if run["state"] == "success"]
    return [payload for run_id in done for payload in airflow.xcom(dag_id, run_id, task_id)]


def seen(airflow: AirflowStack, dag_id: str = "on_verified", task_id: str = "seen") -> list[str]:
    return [payload["id"] for payload in payloads(airflow, dag_id, task_id)]


def test_twenty_sensors_share_one_poll(airflow: AirflowStack, server: StripeIdentityServer) -> None:
    sessions = {number: server.create_session(client_reference_id=f"user_{number}")["id"] for number in range(20)}
    run_id = airflow.trigger("twenty")

    def checks() -> Counter[str]:
        return Counter(
            dict(request.query)["client_reference_id"] for request in list(server.requests) if request.path == SESSIONS
        )

    # One check before each deferral and one when each joins; from then on there is the poll alone. On a busy machine
    # Airflow itself may do something twice: a deferral that its API answers too late is requested again.
    airflow.until(lambda: len(checks()) == 20 and min(checks().values()) >= 2, 120, "every sensor to join")
    before, joined = asked(server, EVENTS, 4), checks()
    airflow.until(lambda: asked(server, EVENTS, 4) >= before + 3, 60, "three more polls")
    assert {instance["state"] for instance in airflow.task_instances("twenty", run_id)} == {"deferred"}
    assert checks() == joined
    for session_id in sessions.values():
        server.verify(session_id)
    airflow.succeed("twenty", run_id)
    assert checks() == joined
    for number, session_id in sessions.items():
        assert airflow.xcom("twenty", run_id, "wait", map_index=number)["id"] == session_id


def test_the_watchers_dag_runs_once_for_every_verified_session(
    airflow: AirflowStack, server: StripeIdentityServer
) -> None:
    """For each of two assets with equal watchers: before, during and after a time without a triggerer."""
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
    also_seen = seen(airflow, "on_also_verified", "also_seen")
    assert sorted(also_seen) == sorted(earlier + expected)


def test_a_watcher_of_several_accounts_goes_on_after_a_restart(
    airflow: AirflowStack, platform: StripeIdentityServer
) -> None:
    """Every account from its own place: before, during and after a time without a triggerer."""

    def polls() -> Counter[str | None]:
        return Counter(request.headers["Stripe-Account"] for request in list(platform.requests))

    def polled_again(times: int) -> None:
        before = polls()
        airflow.until(
            lambda: all(polls()[account] >= before[account] + times for account in ACCOUNTS),
            90,
            "every account's polls",
        )

    def verify() -> set[tuple[str, str]]:
        return {
            (account, platform.verify(platform.create_session(account=account)["id"])["id"]) for account in ACCOUNTS
        }

    def fired() -> list[tuple[str, str]]:
        found = payloads(airflow, "on_verified_of_accounts", "seen_of_accounts")
        return [(payload["stripe_account"], payload["id"]) for payload in found]

    polled_again(1)
    expected = verify()
    airflow.until(lambda: expected <= {*fired()}, 90, "the first of every account")
    polled_again(1)
    airflow.stop("triggerer")
    expected |= verify()
    airflow.start("triggerer")
    expected |= verify()
    airflow.until(lambda: expected <= {*fired()}, 120, "all of them")
    polled_again(4)
    assert sorted(fired()) == sorted(expected)


def test_a_state_store_that_takes_no_writes_repeats_nothing(
    airflow: AirflowStack, server: StripeIdentityServer
) -> None:
    before = seen(airflow)
    with sqlite3.connect(airflow.home / "airflow.db", timeout=30) as database:
        for change in ("INSERT", "UPDATE"):
            database.execute(
                f"CREATE TRIGGER no_{change} BEFORE {change} ON asset_state_store "
                "BEGIN SELECT RAISE(ABORT, 'full'); END"
            )
    try:
        expected = [server.verify(server.create_session(client_reference_id="full")["id"])["id"]]
        airflow.until(lambda: {*expected} <= {*seen(airflow)}, 60, "the session")
        polled = asked(server, EVENTS, 1)
        airflow.until(lambda: asked(server, EVENTS, 1) > polled + 8, 90, "what would come again")
        expected.append(server.verify(server.create_session(client_reference_id="full")["id"])["id"])
        airflow.until(lambda: {*expected} <= {*seen(airflow)}, 60, "the next session")
        assert sorted(seen(airflow)) == sorted(before + expected)
    finally:
        with sqlite3.connect(airflow.home / "airflow.db", timeout=30) as database:
            for change in ("INSERT", "UPDATE"):
                database.execute(f"DROP TRIGGER no_{change}")
