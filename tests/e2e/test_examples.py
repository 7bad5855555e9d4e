"""The example DAGs with mapped tasks, as they are, on a real scheduler: ``dag.test()`` runs one task after another."""

import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.airflow_stack import AirflowStack
from support.paths import EXAMPLES

from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

JAN_1, JAN_15, JAN_16, JAN_17, APR_1 = (
    datetime(2026, month, day, tzinfo=UTC) for month, day in ((1, 1), (1, 15), (1, 16), (1, 17), (4, 1))
)
ACCOUNTS = {"acct_1": 3, "acct_2": 5}


def months() -> list[datetime]:
    """The first moments of the months since January, the running one included."""
    now = datetime.now(UTC)
    numbers = range(JAN_1.year * 12, now.year * 12 + now.month)
    return [datetime(number // 12, number % 12 + 1, 1, tzinfo=UTC) for number in numbers]


@pytest.fixture(scope="module")
def server() -> Iterator[StripeIdentityServer]:
    with StripeIdentityServer() as server:
        server.populate(300, JAN_1, APR_1)
        for month in months():  # whichever fails, sessions are missing
            server.create_session(created=int(month.timestamp()), status="canceled")
        for account, count in ACCOUNTS.items():
            server.populate(count, JAN_15, JAN_16, account=account)
            server.populate(7, JAN_16, JAN_17, account=account)
        yield server


@pytest.fixture(scope="module")
def airflow(
    airflow_stack: Callable[..., AirflowStack],
    server: StripeIdentityServer,
    lake: Path,
    postgres: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AirflowStack:
    dags = tmp_path_factory.mktemp("dags")
    shutil.copytree(EXAMPLES, dags, dirs_exist_ok=True)
    return airflow_stack(
        dags,
        {
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
            "AIRFLOW_CONN_POSTGRES_DEFAULT": postgres,
            "AIRFLOW_VAR_STRIPE_ACCOUNTS": json.dumps([*ACCOUNTS]),
            "STRIPE_IDENTITY_LAKE": lake.as_uri(),
        },
    )


def states(airflow: AirflowStack, dag_id: str, run_id: str) -> dict[str, Counter[str]]:
    counted: dict[str, Counter[str]] = {}
    for instance in airflow.task_instances(dag_id, run_id):
        counted.setdefault(instance["task_id"], Counter())[instance["state"]] += 1
    return counted


def test_only_the_month_that_failed_is_exported_again(
    airflow: AirflowStack, server: StripeIdentityServer, lake: Path, postgres: str
) -> None:
    dag_id = "stripe_identity_backfill"

    def in_table() -> set[tuple[str, str]]:
        with psycopg.connect(postgres) as warehouse:
            return {*warehouse.execute("SELECT id, status FROM verification_sessions").fetchall()}

    def objects() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in lake.glob("backfill_to_postgres/month=*/*")}

    server.inject(Fault.status(403))
    run_id = airflow.trigger(dag_id, conf={"first_month": "2026-01"})
    assert airflow.wait(dag_id, run_id) == "failed"
    found = states(airflow, dag_id, run_id)
    assert found["month.export"] == {"success": len(months()) - 1, "failed": 1}
    assert found["month.load"] == {"success": len(months()) - 1, "upstream_failed": 1}
    in_stripe = {(session["id"], session["status"]) for session in server.sessions()}
    assert in_table() < in_stripe
    done = objects()
    assert len(done) == len(months()) - 1

    airflow.post(f"dags/{dag_id}/clearTaskInstances", {"dag_run_id": run_id, "only_failed": True, "dry_run": False})
    airflow.succeed(dag_id, run_id)
    assert in_table() == in_stripe
    assert len(objects()) == len(months())
    assert done.items() <= objects().items()


def test_each_account_has_a_task_of_its_name_and_an_object(airflow: AirflowStack, lake: Path) -> None:
    dag_id = "stripe_identity_accounts"
    run_id = airflow.trigger(dag_id, logical_date=JAN_16.isoformat())
    airflow.succeed(dag_id, run_id)
    names = [one["rendered_map_index"] for one in airflow.task_instances(dag_id, run_id) if one["task_id"] == "export"]
    assert sorted(names) == sorted(ACCOUNTS)
    for account, count in ACCOUNTS.items():
        (path,) = lake.glob(f"verification_sessions_of_accounts/account={account}/dt=2026-01-15/*")
        assert len(gzip.decompress(path.read_bytes()).splitlines()) == count


def test_one_waits_for_many_and_leaves_out_whom_nothing_can_verify_any_more(
    airflow: AirflowStack, server: StripeIdentityServer
) -> None:
    dag_id = "stripe_identity_wait_for_many"
    sessions: dict[str, Any] = {name: server.create_session(client_reference_id=name) for name in ("a", "b", "c", "d")}
    server.verify(sessions["a"]["id"])
    server.cancel(sessions["b"]["id"])
    airflow.stop("triggerer")  # so that both wait when they are verified
    run_id = airflow.trigger(dag_id, conf={"references": [*sessions]})
    for map_index in (2, 3):
        airflow.wait_task(dag_id, run_id, "wait_until_verified", "deferred", map_index=map_index)
    server.verify(sessions["c"]["id"])
    server.verify(sessions["d"]["id"])
    airflow.start("triggerer")
    airflow.succeed(dag_id, run_id)
    assert states(airflow, dag_id, run_id)["wait_until_verified"] == {"success": 3, "skipped": 1}
    assert airflow.xcom(dag_id, run_id, "report") == ["a", "c", "d"]
