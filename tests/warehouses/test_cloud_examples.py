"""The examples for BigQuery, Snowflake and Redshift: parsed by Airflow, their templates rendered, their SQL parsed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlglot
from airflow.dag_processing.dagbag import DagBag
from conftest import DAY, TODAY, context
from warehouse_steps import EXAMPLES, example, rendered

FOLDER = EXAMPLES / "cloud_warehouses"
FIRST = TODAY - DAY
KEY = f"verification_session_changes/dt={context(FIRST)['data_interval_start']:%Y-%m-%d}/sessions.jsonl.gz"


def dag_of(warehouse: str):
    name = f"stripe_identity_to_{warehouse}"
    return getattr(example(f"cloud_warehouses/{name}"), name)()


def parsed(dialect: str, sql: str) -> list[str]:
    assert "{{" not in sql
    return [type(statement).__name__ for statement in sqlglot.parse(sql, dialect=dialect) if statement]


def test_airflow_parses_them_and_they_are_documented():
    bag = DagBag(dag_folder=FOLDER)
    assert (bag.import_errors, bag.captured_warnings) == ({}, {})
    assert {Path(dag.fileloc).name for dag in bag.dags.values()} == {path.name for path in FOLDER.glob("*.py")}
    assert all(dag.doc_md for dag in bag.dags.values())
    for dag in bag.dags.values():
        order = [task.task_id for task in dag.topological_sort()]
        assert order[-2:] == ["load", "merge_rows"]


@pytest.mark.parametrize("as_of", [None, 1_790_000_000])
def test_snowflake(monkeypatch, as_of):
    dag, seen = dag_of("snowflake"), []
    assert rendered(dag.get_task("changes"), context(FIRST)).destination == f"s3://aws_default@lake/{KEY}"
    create, stage = rendered(dag.get_task("stage"), context(FIRST)).sql
    assert parsed("snowflake", create) == parsed("snowflake", stage) == ["Create"]
    monkeypatch.setattr(
        "airflow.providers.snowflake.transfers.copy_into_snowflake.SnowflakeHook",
        lambda **_: SimpleNamespace(run=lambda sql, **_: seen.append(sql)),
    )
    rendered(dag.get_task("load"), context(FIRST)).execute({})
    assert parsed("snowflake", seen[0]) == ["Copy"]
    assert f"FILES=('{KEY}')" in seen[0]
    assert "@stripe_lake" in seen[0]
    (merge,) = rendered(dag.get_task("merge_rows"), context(FIRST, as_of)).sql
    assert parsed("snowflake", merge) == ["Merge"]
    assert f"COALESCE({as_of or 'NULL'}, _event_created + 1)" in merge


@pytest.mark.parametrize("as_of", [None, 1_790_000_000])
def test_redshift(monkeypatch, as_of):
    dag, seen = dag_of("redshift"), []
    assert rendered(dag.get_task("changes"), context(FIRST)).destination == f"s3://aws_default@lake/{KEY}"
    stage = rendered(dag.get_task("stage"), context(FIRST))
    assert parsed("redshift", stage.sql) == ["Create", "Drop", "Create"]
    module = "airflow.providers.amazon.aws.transfers.s3_to_redshift"
    hook = SimpleNamespace(run=lambda sql, **_: seen.append(sql), conn=SimpleNamespace(extra_dejson={}))
    monkeypatch.setattr(f"{module}.RedshiftSQLHook", lambda **_: hook)
    monkeypatch.setenv("AIRFLOW_CONN_REDSHIFT_DEFAULT", '{"conn_type": "redshift"}')
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", "aws://key:secret@")
    rendered(dag.get_task("load"), context(FIRST)).execute({})
    copy = seen[0] if isinstance(seen[0], str) else "".join(seen[0])
    for part in ("COPY public.verification_sessions_staged", f"'s3://lake/{KEY}'", "FORMAT JSON 'auto'", "GZIP"):
        assert part in copy
    merge = rendered(dag.get_task("merge_rows"), context(FIRST, as_of)).sql
    assert parsed("redshift", merge) == ["Transaction", "Update", "Delete", "Insert", "Commit"]
    assert f"COALESCE({as_of or 'NULL'}, _event_created + 1)" in merge


@pytest.mark.parametrize("as_of", [None, 1_790_000_000])
def test_bigquery(as_of):
    dag = dag_of("bigquery")
    assert rendered(dag.get_task("changes"), context(FIRST)).destination == f"gs://google_cloud_default@lake/{KEY}"
    load = rendered(dag.get_task("load"), context(FIRST)).configuration["load"]
    assert load["sourceUris"] == [f"gs://lake/{KEY}"]
    merge = rendered(dag.get_task("merge_rows"), context(FIRST, as_of)).configuration["query"]["query"]
    assert parsed("bigquery", merge) == ["Merge"]
    assert f"COALESCE({as_of or 'NULL'}, _event_created + 1)" in merge
