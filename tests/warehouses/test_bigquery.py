"""The BigQuery example's own queries and load job, on an emulator."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import DAY, TODAY, context
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from warehouse_steps import example, execute, rendered

from airflow_provider_stripe_identity.jsonl import DEFAULT_FIELDS


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an emulator on this machine."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"HOME": str(home)}
    # The emulator wants DuckDB's spatial extension, which a package brings.
    install = "from duckdb_extensions import import_extension; import_extension('spatial')"
    subprocess.run([sys.executable, "-c", install], env=environment, check=True)
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    program = Path(sys.executable).with_name("bqemulator")
    command = [program, "start", "--rest-port", str(ports[0]), "--grpc-port", str(ports[1]), "--log-level", "error"]
    with (home / "log").open("w") as log, subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process:
        try:
            wait_for(process, ports[0], home / "log")
            client = bigquery.Client(
                project="my-project",
                credentials=AnonymousCredentials(),
                client_options={"api_endpoint": f"http://127.0.0.1:{ports[0]}"},
            )
            client.create_dataset("stripe")
            yield client
        finally:
            process.terminate()


def wait_for(process, port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


def test_the_table_follows_stripe_whatever_the_order_of_the_runs(server, client, tmp_path):
    dag = example("cloud_warehouses/stripe_identity_to_bigquery").stripe_identity_to_bigquery()

    def run(start: int, **replaced) -> None:
        file = tmp_path / "sessions.jsonl"
        written = execute(dag.get_task("changes"), context(start), destination=file.as_uri(), **replaced)
        for task in map(dag.get_task, ("create_table", "stage")):
            client.query(rendered(task, context(start)).configuration["query"]["query"]).result()
        load = rendered(dag.get_task("load"), context(start)).configuration["load"]
        destination = bigquery.TableReference.from_api_repr(load.pop("destinationTable"))
        assert load.pop("sourceUris")[0].startswith("gs://lake/verification_session_changes/dt=20")
        with file.open("rb") as rows:
            config = bigquery.LoadJobConfig.from_api_repr({"load": load})
            client.load_table_from_file(rows, destination, job_config=config).result()
        merge = rendered(dag.get_task("merge_rows"), context(start, written["as_of"]))
        client.query(merge.configuration["query"]["query"]).result()

    def table() -> dict:
        rows = [dict(row) for row in client.query("SELECT * FROM stripe.verification_sessions").result()]
        return {row["id"]: {name: row[name] for name in DEFAULT_FIELDS} for row in rows}

    def stripe() -> dict:
        return {found["id"]: {name: found.get(name) for name in DEFAULT_FIELDS} for found in server.sessions()}

    first, second = TODAY - 3 * DAY, TODAY - 2 * DAY
    server.at(first)
    ids = [server.create_session(metadata={"name": "Jenny", "odd": "漢字 \"'\\ \u2028"})["id"] for _ in range(5)]
    server.require_input(ids[0], code="document_expired")
    server.at(second)
    run(first)
    assert table() == stripe()
    for session_id in ids[:3]:
        server.verify(session_id)
    server.at(second + DAY - 1)
    server.redact(ids[1])
    server.cancel(ids[3])
    server.at(TODAY - DAY)
    run(second)
    assert table() == stripe()
    run(first)  # again, and late
    assert table() == stripe()
    assert table()[ids[1]]["metadata"] == {}
    run(first, refetch=True)
    assert table() == stripe()
