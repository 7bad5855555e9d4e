"""Links, assets, lineage and the command line on a real Airflow."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pytest
from support.airflow_stack import AirflowStack
from support.paths import EXAMPLES

from airflow_provider_stripe_identity.testing import StripeIdentityServer

HERE = Path(__file__).parent
MODES = {"test": "/test", "live": ""}
MAY_1 = datetime(2026, 5, 1, 12, tzinfo=UTC)
JAN_15, JAN_16 = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, StripeIdentityServer]]:
    with ExitStack() as stack:
        servers = {
            mode: stack.enter_context(StripeIdentityServer(api_key=f"rk_{mode}_1", livemode=mode == "live"))
            for mode in MODES
        }
        for server in servers.values():
            server.create_session(client_reference_id="user_1", created=MAY_1)
        servers["test"].populate(120, JAN_15, JAN_16)
        yield servers


@pytest.fixture(scope="module")
def airflow(
    airflow_stack: Callable[..., AirflowStack],
    servers: dict[str, StripeIdentityServer],
    lake: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AirflowStack:
    dags = tmp_path_factory.mktemp("dags")
    shutil.copy(EXAMPLES / "stripe_identity_export_to_asset.py", dags)
    shutil.copytree(HERE / "dags_integrations", dags, dirs_exist_ok=True)
    transport = {"type": "file", "log_file_path": str(lake / "openlineage.jsonl"), "append": True}
    airflow = airflow_stack(
        dags,
        {
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "STRIPE_IDENTITY_LAKE": lake.as_uri(),
            "AIRFLOW_CONN_DUCKDB_DEFAULT": json.dumps({"conn_type": "duckdb", "host": str(lake / "warehouse.duckdb")}),
        },
    )
    # In the metadata database, as users have them.
    for mode, server in servers.items():
        for conn_id in (f"stripe_{mode}", *(["stripe_identity_default"] if mode == "test" else [])):
            airflow.post("connections", json.loads(server.airflow_connection()) | {"connection_id": conn_id})
    return airflow


@pytest.fixture(scope="module", params=MODES)
def run(
    request: pytest.FixtureRequest, airflow: AirflowStack, servers: dict[str, StripeIdentityServer], lake: Path
) -> tuple[str, str, str]:
    """A run that has to wait until the person is verified: its DAG, its id, and the session."""
    mode = request.param
    dag_id, server = f"{mode}_mode", servers[mode]
    run_id = airflow.trigger(dag_id, conf={"lake": (lake / mode).as_uri()})
    airflow.wait_task(dag_id, run_id, "wait_deferred", ["deferred"])
    (session,) = server.sessions(client_reference_id="user_1")
    assert links(airflow, dag_id, run_id, "wait_deferred") in ("", None)
    server.verify(session["id"])
    airflow.succeed(dag_id, run_id)
    return mode, run_id, session["id"]


def links(airflow: AirflowStack, dag_id: str, run_id: str, task_id: str) -> str | None:
    answer = airflow.get(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links")
    return answer["extra_links"]["Stripe Dashboard"]


@pytest.mark.parametrize("task_id", ["wait", "wait_deferred"])
def test_the_ui_links_the_sensor_to_the_session(airflow: AirflowStack, run: tuple[str, str, str], task_id: str) -> None:
    mode, run_id, session_id = run
    wanted = f"https://dashboard.stripe.com{MODES[mode]}/identity/verification-sessions/{session_id}"
    assert links(airflow, f"{mode}_mode", run_id, task_id) == wanted


def test_the_ui_links_the_export_to_the_list(airflow: AirflowStack, run: tuple[str, str, str]) -> None:
    mode, run_id, _ = run
    url = urlsplit(links(airflow, f"{mode}_mode", run_id, "export"))
    assert url.path == f"{MODES[mode]}/identity/verification-sessions"
    assert dict(parse_qsl(url.query)) == {
        "client_reference_id": "user_1",
        "created[gte]": "1777593600",
        "created[lt]": "1777680000",
    }


def test_openlineage_hears_of_the_rows_and_the_object(
    airflow: AirflowStack, run: tuple[str, str, str], lake: Path
) -> None:
    mode = run[0]
    path = lake / mode / "sessions.jsonl"
    events = lake / "openlineage.jsonl"

    def completed() -> dict[str, Any] | None:
        lines = events.read_text().splitlines() if events.exists() else []
        for event in map(json.loads, lines):
            if event["eventType"] == "COMPLETE" and event["job"]["name"] == f"{mode}_mode.export":
                return event
        return None

    event = airflow.until(completed, 60, "OpenLineage's event of the export")
    assert {"namespace": "stripe", "name": "identity.verification_sessions"}.items() <= event["inputs"][0].items()
    (written,) = (dataset for dataset in event["outputs"] if dataset.get("outputFacets"))
    assert (written["namespace"], written["name"]) == ("file", str(path))
    statistics = written["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"]) == (1, path.stat().st_size)
    assert "status" in [field["name"] for field in written["facets"]["schema"]["fields"]]


def test_an_alias_gets_an_asset_for_the_object(airflow: AirflowStack, run: tuple[str, str, str], lake: Path) -> None:
    mode, run_id, _ = run
    events = airflow.get("assets/events", source_dag_id=f"{mode}_mode", source_run_id=run_id)["asset_events"]
    (event,) = events
    assert event["uri"] == event["extra"]["uri"] == (lake / mode / "sessions.jsonl").as_uri()
    assert event["extra"]["sessions"] == 1

    def read() -> bool:
        runs = airflow.get("dags/on_object/dagRuns")["dag_runs"]
        return any(
            event["uri"] in airflow.xcom("on_object", found["dag_run_id"], "read")
            for found in runs
            if found["state"] == "success"
        )

    airflow.until(read, 90, "the DAG that waits for the alias has run")


def test_the_load_runs_when_the_export_says_so(airflow: AirflowStack, lake: Path) -> None:
    export, load = "stripe_identity_export_to_asset", "stripe_identity_load_from_asset"
    airflow.patch(f"dags/{load}", {"is_paused": False})
    run_id = airflow.trigger(export, logical_date=JAN_16.isoformat())
    airflow.succeed(export, run_id)

    assert airflow.xcom(export, run_id, "export")["sessions"] == 120

    def loaded() -> bool:
        # The scheduled run of yesterday makes an event too, of no session.
        runs = [run for run in airflow.get(f"dags/{load}/dagRuns")["dag_runs"] if run["state"] == "success"]
        return sum(airflow.xcom(load, run["dag_run_id"], "load")["inserted"] for run in runs) == 120

    airflow.until(loaded, 90, "the load has run")
    with duckdb.connect(str(lake / "warehouse.duckdb")) as warehouse:
        assert warehouse.sql("SELECT count(*) FROM exported_sessions").fetchall() == [(120,)]


# The command line, with the connections of the metadata database


def cli(airflow: AirflowStack, *command: str) -> subprocess.CompletedProcess[str]:
    return airflow.cli("stripe-identity", *command)


def test_the_command_line_lists_and_gets(airflow: AirflowStack, servers: dict[str, StripeIdentityServer]) -> None:
    done = cli(airflow, "list", "--conn-id", "stripe_live", "--output", "json")
    (session,) = servers["live"].sessions()
    (row,) = json.loads(done.stdout)
    assert (row["id"], row["livemode"]) == (session["id"], True)
    assert not {"client_secret", "url", "provided_details"} & row.keys()
    done = cli(airflow, "get", session["id"], "--conn-id", "stripe_live")
    assert session["id"] in done.stdout
    assert done.stderr == ""


def test_the_command_line_checks_a_connection(airflow: AirflowStack, servers: dict[str, StripeIdentityServer]) -> None:
    """Airflow's own test of connections is off by default; this one is not."""
    assert "live mode" in cli(airflow, "check", "--conn-id", "stripe_live").stdout
    done = cli(airflow, "check", "--conn-id", "nowhere")
    assert (done.returncode, "nowhere" in done.stderr) == (1, True)
    wrong = {"conn_type": "stripe_identity", "host": servers["test"].url, "password": "rk_test_wrong"}
    airflow.post("connections", wrong | {"connection_id": "stripe_wrong"})
    done = cli(airflow, "check", "--conn-id", "stripe_wrong")
    assert done.returncode == 1
    assert "401" in done.stderr


def test_a_dag_snippet_runs_as_it_is(airflow: AirflowStack, lake: Path) -> None:
    created = ["--created-gte", "2026-05-01T00:00:00Z", "--created-lt", "2026-05-02T00:00:00Z"]
    snippet = cli(airflow, "list", "--conn-id", "stripe_test", *created, "--snippet", "dag").stdout
    (airflow.dags / "pasted.py").write_text(snippet.replace("/tmp/verification_sessions", str(lake / "pasted")))
    run_id = airflow.trigger("verification_sessions", timeout=120)
    airflow.succeed("verification_sessions", run_id)
    assert airflow.xcom("verification_sessions", run_id, "export")["sessions"] == 1
