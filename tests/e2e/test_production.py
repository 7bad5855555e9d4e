"""
Airflow as it runs in production: PostgreSQL, two schedulers, two triggerers. One of them dies, the database restarts.

What was counted is printed at the end of the run.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg
import pytest
from support.airflow_stack import COMPONENTS, DATABASE, AirflowStack
from support.months import assert_months_are_whole
from support.postgres_server import PostgresServer
from support.watcher import compare_watcher

from airflow_provider_stripe_identity.testing import StripeIdentityServer

pytestmark = pytest.mark.alone

DAGS = Path(__file__).parent / "dags_production"
SESSIONS, EVENTS = "/v1/identity/verification_sessions", "/v1/events"
PEOPLE = 60
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
#: Seconds that the database is away.
DATABASE_IS_AWAY = 20


@pytest.fixture(scope="module")
def server():
    """The people who are waited for."""
    with StripeIdentityServer() as server:
        yield server


@pytest.fixture(scope="module")
def history():
    """Two years of sessions, at the pace and with the limit of Stripe."""
    with StripeIdentityServer(latency=0.2, rate_limit=25) as history:
        history.populate(48_000, FIRST, LAST)
        yield history


@pytest.fixture(scope="module")
def database():
    with PostgresServer() as database:
        yield database


@pytest.fixture(scope="module")
def airflow(airflow_stack, server, history, database, lake) -> AirflowStack:
    return airflow_stack(
        DAGS,
        {
            DATABASE: database.uri.replace("postgres://", "postgresql+psycopg2://"),
            "AIRFLOW__CORE__PARALLELISM": "16",
            # After how long a task without a sign of life is tried again.
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
            "AIRFLOW_CONN_HISTORY": history.airflow_connection(),
            "LAKE": str(lake),
            "PEOPLE": str(PEOPLE),
        },
        components=(*COMPONENTS, "scheduler-2", "triggerer-2"),
    )


def polls(server: StripeIdentityServer, types: int) -> int:
    """Count the requests for events; the sensors' poll asks for several types, the watcher's for one."""
    return sum(
        request.path == EVENTS and sum(name == "types[]" for name, _ in request.query) == types
        for request in list(server.requests)
    )


def checks(server: StripeIdentityServer) -> int:
    return sum(request.path == SESSIONS for request in list(server.requests))


def test_sixty_people_are_waited_for_by_two_triggerers_and_one_of_them_is_killed(
    airflow, server, database, tell
) -> None:
    sessions = [server.create_session(client_reference_id=f"person_{number}")["id"] for number in range(PEOPLE)]
    airflow.until(lambda: polls(server, 1) > 0, 120, "the watcher to begin")
    run_id = airflow.trigger("people")

    def waiting() -> bool:
        return {instance["state"] for instance in airflow.task_instances("people", run_id)} == {"deferred"}

    airflow.until(waiting, 240, "all to wait")
    # One check before each deferral, one when each joins a poll; from then on there are the polls alone.
    airflow.until(lambda: checks(server) >= 2 * PEOPLE, 120, "all to join")
    before, began = polls(server, 4), time.monotonic()
    airflow.until(lambda: polls(server, 4) >= before + 12, 120, "twelve more polls")
    a_poll = (time.monotonic() - began) / (polls(server, 4) - before)
    tell(f"{PEOPLE} sensors, poke_interval 2 s, two triggerers: one poll every {a_poll:.1f} s, {checks(server)} checks")
    assert checks(server) == 2 * PEOPLE

    with psycopg.connect(database.uri) as connection:
        waits = connection.execute("SELECT count(*) FROM trigger WHERE triggerer_id IS NOT NULL GROUP BY triggerer_id")
        tell(f"waits and the watcher on each triggerer: {' and '.join(str(count) for (count,) in waits)}")
    airflow.stop("triggerer", kill=True)
    killed = time.monotonic()
    for session_id in sessions[: PEOPLE // 2]:
        server.verify(session_id)
    # The threshold after which the other one takes over is ten seconds here.
    airflow.until(lambda: len(airflow.jobs("triggerer")) == 1, 60, "one to be missed")
    missed = time.monotonic() - killed
    for session_id in sessions[PEOPLE // 2 :]:
        server.verify(session_id)
    airflow.succeed("people", run_id, timeout=240)
    tell(f"killed, missed after {missed:.0f} s, all {PEOPLE} gone on after {time.monotonic() - killed:.0f} s")
    airflow.start("triggerer")

    polled = polls(server, 1)
    airflow.until(lambda: polls(server, 1) > polled + 5, 60, "what would come twice")
    verified = {f"person_{number}" for number in range(PEOPLE)}
    tell(compare_watcher(airflow, server, database.uri, "on_verified", verified))


def test_eight_exports_at_once_share_the_limit_of_one_connection(airflow, history, lake, tell) -> None:
    history.requests.clear()
    run_id = airflow.trigger("eight")
    airflow.succeed("eight", run_id, timeout=300)
    assert len({(lake / "eight" / f"{number}.jsonl").read_bytes() for number in range(8)}) == 1
    requests = list(history.requests)
    refused = sum(request.status == 429 for request in requests)
    tell(f"eight exports at once, 25 requests/s: {len(requests)} requests, {refused} refused, none failed")
    assert {instance["try_number"] for instance in airflow.task_instances("eight", run_id)} == {1}


def test_a_backfill_goes_on_when_a_worker_is_killed_and_the_database_restarts(
    airflow, history, database, lake, tell, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", history.airflow_connection())
    history.requests.clear()
    run_id = airflow.trigger("backfill")

    def done() -> int:
        return len([*(lake / "backfill").glob("*.jsonl")])

    airflow.until(lambda: done() >= 3, 240, "three months")
    kill_a_worker(airflow)
    airflow.until(lambda: done() >= 6, 240, "three months more")
    database.stop()
    time.sleep(DATABASE_IS_AWAY)
    database.start()

    def state() -> str | None:
        # A scheduler ends when its database is away, and whoever runs it starts it again.
        ended.update(filter(airflow.restart_if_ended, (*COMPONENTS, "scheduler-2", "triggerer-2")))
        found: str = airflow.get(f"dags/backfill/dagRuns/{quote(run_id)}")["state"]
        return found if found in ("success", "failed") else None

    ended: set[str] = set()
    assert airflow.until(state, 600, "the backfill to end") == "success"

    tries = Counter(instance["try_number"] for instance in airflow.task_instances("backfill", run_id))
    tell(
        f"backfill of 24 months, a worker killed, the database away for {DATABASE_IS_AWAY} s, "
        f"which ended {', '.join(sorted(ended)) or 'no component'}: months by tries {dict(tries)}"
    )
    assert {*tries} > {1}
    assert_months_are_whole(lake / "backfill", tmp_path)


def kill_a_worker(airflow: AirflowStack) -> None:
    """Kill the process of a running task, as the kernel does when memory is short."""

    def is_task(process: psutil.Process) -> bool:
        try:
            return "airflow worker" in " ".join(process.cmdline()) and not process.children()
        except psutil.NoSuchProcess:
            return False

    def kill() -> bool:
        for process in sorted(airflow.processes("scheduler", "scheduler-2"), key=lambda one: -one.pid):
            if is_task(process):
                process.kill()
                return True
        return False

    airflow.until(kill, 60, "a worker that can be killed")
