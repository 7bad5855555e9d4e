"""Loads into PostgreSQL and DuckDB: from every store, of many rows, and while processes and the database die."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import psycopg
import pytest
from support.object_stores import MAY_1
from support.postgres_server import PostgresServer

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity.operators import StripeIdentityToWarehouseOperator
from airflow_provider_stripe_identity.schema import columns

JSON_COLUMNS = [column.name for column in columns() if column.type == "json"]
KILLS = 8  # of each warehouse
SEED = random.randrange(2**32)
LOAD = """
import json, sys
from airflow_provider_stripe_identity.operators import StripeIdentityToWarehouseOperator
print("ready", flush=True)
StripeIdentityToWarehouseOperator(**json.loads(sys.argv[1])).execute({})
"""


@pytest.fixture(params=["postgres", "duckdb"])
def warehouse(request, tmp_path, monkeypatch):
    """An empty warehouse behind the connection ``warehouse``."""
    if request.param == "postgres":
        uri = request.getfixturevalue("postgres")
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri)
        with psycopg.connect(uri) as connection:
            connection.execute("DROP SCHEMA IF EXISTS raw CASCADE")
        return SimpleNamespace(name=request.param, connect=lambda: psycopg.connect(uri))
    file = str(tmp_path / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": file}))
    return SimpleNamespace(name=request.param, connect=lambda: duckdb.connect(file))


def arguments(written):
    return {"task_id": "load", "written": written, "warehouse_conn_id": "warehouse", "table": "raw.sessions"}


def load(written):
    return StripeIdentityToWarehouseOperator(**arguments(written)).execute({})


def table(warehouse):
    """Return the rows by id, or None while there is no table."""
    with warehouse.connect() as connection:
        (there,) = connection.execute(
            "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'raw' AND table_name = 'sessions'"
        ).fetchone()
        if not there:
            return None
        found = connection.execute(f"SELECT {', '.join(DEFAULT_FIELDS)} FROM raw.sessions").fetchall()
    rows = [dict(zip(DEFAULT_FIELDS, one, strict=True)) for one in found]
    for row in rows:
        row.update({name: json.loads(row[name]) for name in JSON_COLUMNS if isinstance(row[name], str)})
    return {row["id"]: row for row in rows}


def stripe(server):
    return {one["id"]: {name: one.get(name) for name in DEFAULT_FIELDS} for one in server.sessions()}


def test_from_every_store(server, store, export, warehouse):
    """The result says through which connection its object is read."""
    server.populate(300, MAY_1, MAY_1.replace(day=2))
    written = export(store.url("load/sessions.jsonl.gz"))
    assert load(written)["inserted"] == 300
    assert table(warehouse) == stripe(server)
    for session in server.sessions(status="requires_input"):
        server.verify(session["id"])
    assert load(export(store.url("load/again.jsonl")))["replaced"] == 300
    assert table(warehouse) == stripe(server)


@pytest.mark.timeout(600)
def test_100_000_rows(server, export, warehouse, tmp_path):
    server.populate(100_000, MAY_1, MAY_1.replace(day=2))
    written = export((tmp_path / "sessions.jsonl.gz").as_uri())
    assert load(written)["inserted"] == 100_000
    assert table(warehouse) == stripe(server)


def start(written):
    """Begin a load in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD, json.dumps(arguments(written))],
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout
    assert any(line == "ready\n" for line in process.stdout)
    return process


@pytest.mark.timeout(900)
def test_a_kill_at_any_moment(server, export, warehouse, tell, tmp_path):
    """The table is as it was or as it is to be, and the next try brings it there."""
    server.populate(10_000, MAY_1, MAY_1.replace(day=2))
    states = [None, stripe(server)]
    objects = [export((tmp_path / "0.jsonl").as_uri())]
    for session in server.sessions(status="requires_input"):
        server.verify(session["id"])
    states.append(stripe(server))
    objects.append(export((tmp_path / "1.jsonl").as_uri()))
    moments = random.Random(SEED)
    killed = 0
    with start(objects[0]) as process:
        began = time.monotonic()
        assert process.wait() == 0
        seconds = time.monotonic() - began
    for number in range(KILLS):
        with warehouse.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS raw.sessions")
        for before, after, written in zip(states, states[1:], objects, strict=False):
            with start(written) as process:
                try:
                    process.wait(moments.uniform(0, seconds))
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
            assert table(warehouse) in (before, after), (SEED, number)
            load(written)
            assert table(warehouse) == after, (SEED, number)
    assert killed > KILLS // 2
    tell(
        f"{warehouse.name}: {killed} kills of loads of 10,000 rows: the table whole each time, equal after the next try"
    )


@pytest.mark.timeout(300)
def test_the_database_restarts_in_the_middle(server, export, tmp_path, monkeypatch):
    """A try that loses its connection may be tried again, and changes nothing."""
    from airflow_provider_stripe_identity._warehouse import postgres
    from airflow_provider_stripe_identity._warehouse.errors import WarehouseError

    server.populate(2_000, MAY_1, MAY_1.replace(day=2))
    written = export(Path(tmp_path / "sessions.jsonl").as_uri())
    with PostgresServer() as database:
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.uri)
        warehouse = SimpleNamespace(connect=lambda: psycopg.connect(database.uri))

        def restart_before(function):
            def restarting(*arguments):
                monkeypatch.undo()
                monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", database.uri)
                database.stop(mode="immediate")
                database.start()
                return function(*arguments)

            return restarting

        for name in ("_copy", "_prepare", "_staged"):  # while staging, before and after the table is made
            monkeypatch.setattr(postgres, name, restart_before(getattr(postgres, name)))
            with pytest.raises(WarehouseError, match=r"Staging|Preparing|Merging"):
                load(written)
            assert table(warehouse) is None
        load(written)
        assert table(warehouse) == stripe(server)
