"""BigQuery's load jobs, merges and views on an emulator."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from support import history
from support.paths import ROOT
from support.warehouse_steps import DAY, TODAY, context, example, execute

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._warehouse import tables
from airflow_provider_stripe_identity._warehouse.bigquery import load_with
from airflow_provider_stripe_identity._warehouse.objects import Lines, written_objects
from airflow_provider_stripe_identity._warehouse.rows import EventRows, SessionRows
from airflow_provider_stripe_identity._warehouse.tables import parse_table_name
from airflow_provider_stripe_identity.schema import funnel, timeline

#: Where `make` installs the emulator, whose packages do not fit beside the provider's.
EMULATOR = ROOT / ".venv-bqemulator" / "bin"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of an emulator on this machine."""
    home = tmp_path_factory.mktemp("home")
    environment = os.environ | {"HOME": str(home)}
    # The emulator wants DuckDB's spatial extension, which a package brings.
    install = "from duckdb_extensions import import_extension; import_extension('spatial')"
    subprocess.run([EMULATOR / "python", "-c", install], env=environment, check=True)
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    listen = ["--rest-port", str(ports[0]), "--grpc-port", str(ports[1])]
    command = [EMULATOR / "bqemulator", "start", *listen, "--log-level", "error"]
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


@pytest.fixture(autouse=True)
def what_the_emulator_lacks(monkeypatch):
    # It does not count the rows of a merge.
    counts = SimpleNamespace(inserted_row_count=0, updated_row_count=0)
    monkeypatch.setattr(bigquery.QueryJob, "dml_stats", counts)
    # It says of JSON columns that they are STRING.
    monkeypatch.setitem(tables._FITTING["bigquery"], "json", ("STRING",))


def test_the_table_follows_stripe_whatever_the_order_of_the_runs(server, client, tmp_path):
    dag = example("cloud_warehouses/stripe_identity_to_bigquery").stripe_identity_to_bigquery()
    rows = SessionRows(extra_columns={"_exported_at": "text"})
    place = parse_table_name("bigquery", dag.get_task("load").table)

    def run(start: int, **replaced) -> None:
        file = tmp_path / "sessions.jsonl"
        written = execute(dag.get_task("changes"), context(start), destination=file.as_uri(), **replaced)
        objects = written_objects(written)
        lines = [Lines(one, rows.columns, needs_as_of=True) for one in objects]
        load_with(client, place, rows, lines)

    def table() -> dict:
        rows = [dict(row) for row in client.query("SELECT * FROM stripe.verification_sessions").result()]
        return {row["id"]: {name: row[name] for name in DEFAULT_FIELDS} for row in rows}

    def stripe() -> dict:
        return {found["id"]: {name: found.get(name) for name in DEFAULT_FIELDS} for found in server.sessions()}

    first, second = TODAY - 3 * DAY, TODAY - 2 * DAY
    server.now = first
    ids = [server.create_session(metadata={"name": "Jenny", "odd": "漢字 \"'\\ \u2028"})["id"] for _ in range(5)]
    server.require_input(ids[0], code="document_expired")
    server.now = second + 60
    run(first)
    assert table() == stripe()
    for session_id in ids[:3]:
        server.verify(session_id)
    server.now = second + DAY - 1
    server.redact(ids[1])
    server.cancel(ids[3])
    server.now = TODAY - DAY + 60
    run(second)
    assert table() == stripe()
    run(first)  # again, and late
    assert table() == stripe()
    assert table()[ids[1]]["metadata"] == {}
    run(first, refetch=True)
    assert table() == stripe()


def test_the_history_is_the_log_and_the_views_are_what_it_says(client, tmp_path):
    table = EventRows(history.FIELDS)
    place = parse_table_name("bigquery", "stripe.history")

    def rows(name: str) -> list[dict]:
        return [dict(row) for row in client.query(f"SELECT * FROM stripe.{name}").result()]

    objects = history.example()
    for number, loaded in enumerate(objects, 1):
        file = tmp_path / f"{number}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in loaded))
        (written,) = written_objects({"uri": file.as_uri(), "conn_id": None, "as_of": None, "events": len(loaded)})
        load_with(client, place, table, [Lines(written, table.columns, needs_as_of=False)])
        found = rows("history")
        kept = {row["_event_id"]: row for row in found}
        assert (len(kept), kept) == (len(found), history.table(objects[:number]))
    client.query(f"CREATE VIEW stripe.timeline AS {timeline('bigquery', 'stripe.history')}").result()
    client.query(f"CREATE VIEW stripe.funnel AS {funnel('bigquery', 'stripe.timeline')}").result()
    assert {row["id"]: row for row in rows("timeline")} == history.timeline(kept.values())
    assert sorted(rows("funnel"), key=lambda day: (day["day"], day["type"])) == history.funnel(kept.values())
