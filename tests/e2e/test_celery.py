"""The CeleryExecutor, with Redis and PostgreSQL: waits and a backfill over the death of all workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from support.airflow_stack import COMPONENTS, DATABASE, AirflowStack
from support.months import assert_months_are_whole
from support.postgres_server import postgres_server
from support.redis_server import redis_server

from airflow_provider_stripe_identity.testing import StripeIdentityServer

pytestmark = pytest.mark.alone

DAGS = Path(__file__).parent / "dags_production"
WORKERS = ("celery-worker", "celery-worker-2")
PEOPLE = 12


@pytest.fixture(scope="module")
def server() -> Iterator[StripeIdentityServer]:
    with StripeIdentityServer() as server:
        yield server


@pytest.fixture(scope="module")
def history() -> Iterator[StripeIdentityServer]:
    """Two years of sessions, at the pace and with the limit of Stripe."""
    with StripeIdentityServer(latency=0.2, rate_limit=25) as history:
        history.populate(48_000, datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
        yield history


@pytest.fixture(scope="module")
def airflow(
    airflow_stack: Callable[..., AirflowStack],
    server: StripeIdentityServer,
    history: StripeIdentityServer,
    lake: Path,
) -> Iterator[AirflowStack]:
    with postgres_server() as database, redis_server() as broker:
        uri = database.removeprefix("postgres://")
        stack = airflow_stack(
            DAGS,
            {
                DATABASE: f"postgresql+psycopg2://{uri}",
                "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
                "AIRFLOW__CELERY__BROKER_URL": broker,
                "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{uri}",
                # After how long a task without a sign of life is tried again.
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
                "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
                # Celery's message of a task that a killed worker had fetched and not begun is lost for as long.
                "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT": "120",
                "AIRFLOW__SCHEDULER__TASK_QUEUED_TIMEOUT_CHECK_INTERVAL": "5",
                "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
                "AIRFLOW_CONN_HISTORY": history.airflow_connection(),
                "LAKE": str(lake),
                "PEOPLE": str(PEOPLE),
            },
            components=(*COMPONENTS, *WORKERS),
        )
        yield stack
        stack.close()  # before its database and its broker


def test_waits_and_a_backfill_over_the_death_of_all_workers(
    airflow: AirflowStack,
    server: StripeIdentityServer,
    history: StripeIdentityServer,
    lake: Path,
    tell: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = [server.create_session(client_reference_id=f"person_{number}")["id"] for number in range(PEOPLE)]
    waiting = airflow.trigger("people")

    def states(dag_id: str, run_id: str) -> Counter[str]:
        return Counter(instance["state"] for instance in airflow.task_instances(dag_id, run_id))

    airflow.until(lambda: states("people", waiting) == {"deferred": PEOPLE}, 300, "all to wait")
    run_id = airflow.trigger("backfill")

    def is_in_the_middle() -> bool:
        return len([*(lake / "backfill").glob("*.jsonl")]) >= 3 and states("backfill", run_id)["running"] > 0

    airflow.until(is_in_the_middle, 300, "three months")
    for worker in WORKERS:
        airflow.stop(worker, kill=True)
    for session in sessions:
        server.verify(session)
    for worker in WORKERS:
        airflow.start(worker)
    airflow.succeed("backfill", run_id, timeout=600)
    airflow.succeed("people", waiting, timeout=600)

    tries = Counter(instance["try_number"] for instance in airflow.task_instances("backfill", run_id))
    tell(
        f"CeleryExecutor, {len(WORKERS)} workers killed in a backfill of 24 months: months by tries {dict(tries)}; "
        f"{PEOPLE} people who were verified meanwhile went on"
    )
    monkeypatch.setenv("AIRFLOW_CONN_HISTORY", history.airflow_connection())
    assert_months_are_whole(lake / "backfill", tmp_path)
