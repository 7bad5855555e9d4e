"""The examples for BigQuery, Snowflake and Redshift are parsed; Snowflake's and Redshift's calls are recorded."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlglot
from airflow.dag_processing.dagbag import DagBag
from support.paths import EXAMPLES

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._warehouse import redshift
from airflow_provider_stripe_identity._warehouse.errors import LoadError
from airflow_provider_stripe_identity._warehouse.objects import WrittenObject
from airflow_provider_stripe_identity._warehouse.rows import EventRows, SessionRows
from airflow_provider_stripe_identity._warehouse.snowflake import load_into
from airflow_provider_stripe_identity._warehouse.tables import parse_table_name
from airflow_provider_stripe_identity.operators import StripeIdentityToWarehouseOperator

FOLDER = EXAMPLES / "cloud_warehouses"


class Cursor:
    """Answers what a load asks of a catalog, and keeps the statements."""

    def __init__(self, existing, then=None):
        self.statements, self._existing, self.rowcount = [], existing, 0
        self._after = existing if then is None else then

    def execute(self, statement, values=None, **_):
        self.statements.append(statement)
        self.rowcount = 3 if "INSERT" in statement.partition(" ")[0] else 1
        return self

    def fetchone(self):
        return ("DB", "PUBLIC")

    def fetchall(self):
        found, self._existing = self._existing, self._after
        return found

    def close(self):
        pass


class Lines(list):
    def __init__(self, *lines):
        super().__init__(lines)
        self.written, self.rows = WrittenObject("s3://lake/day's.jsonl.gz", "aws", 7, is_history=False), len(lines)


def test_airflow_parses_them_and_they_are_documented():
    bag = DagBag(dag_folder=FOLDER)
    assert (bag.import_errors, bag.captured_warnings) == ({}, {})
    assert {Path(dag.fileloc).name for dag in bag.dags.values()} == {path.name for path in FOLDER.glob("*.py")}
    assert all(dag.doc_md for dag in bag.dags.values())
    for dag in bag.dags.values():
        assert [task.task_id for task in dag.topological_sort()] == ["changes", "load"]


@pytest.mark.parametrize("rows", [SessionRows("all", {"Order": "integer"}), EventRows()], ids=["sessions", "events"])
@pytest.mark.parametrize("grows", [True, False])
def test_snowflakes_statements(rows, grows):
    existing = [(rows.key[0].upper(), "TEXT", False), ("_EVENT_ID", "TEXT", False)] if grows else []
    cursor = Cursor(existing)
    load_into(cursor, parse_table_name("snowflake", "raw.sessions"), rows, [Lines(b"{}\n")])
    kinds = [statement.split()[0] for statement in cursor.statements]
    changes = ["ALTER"] * (len(rows.table_columns) - 2) if grows else ["CREATE"]
    assert kinds == ["SELECT", "CREATE", "CREATE", "CREATE", "PUT", "COPY", "SELECT", *changes, "MERGE"]
    for statement in cursor.statements:
        if not statement.startswith("PUT"):
            assert sqlglot.parse_one(statement.replace("%s", "''"), dialect="snowflake")
    assert '"DB"."RAW"."SESSIONS"' in cursor.statements[-1]


@pytest.mark.parametrize(
    ("url", "uri", "copied_from"),
    [
        ("s3://lake/", "s3a://lake/x/day's.jsonl.gz", ("x/", "day''s.jsonl.gz")),
        ("s3://lake/stripe", "s3://lake/stripe/day.jsonl", ("", "day.jsonl")),
        ("gcs://lake/", "gs://lake/dt=2026-01-01/a.jsonl", ("dt=2026-01-01/", "a.jsonl")),
        ("s3://lake/stripe", "s3://lake/stripes/day.jsonl", None),
        ("s3://lake/", "gs://lake/day.jsonl", None),
    ],
)
def test_snowflake_copies_from_an_external_stage_what_lies_in_it(url, uri, copied_from):
    cursor = Cursor([("STAGE_LOCATION", "URL", "String", f'["{url}"]', "")], then=[])
    lines = Lines(b"{}\n")
    lines.written = lines.written._replace(uri=uri)
    load_into(cursor, parse_table_name("snowflake", "raw.sessions"), SessionRows(), [lines], "raw.lake")
    (copy,) = (statement for statement in cursor.statements if statement.startswith("COPY"))
    assert any(statement.startswith("PUT") for statement in cursor.statements) is (copied_from is None)
    if copied_from:
        assert f"FROM '@\"RAW\".\"LAKE\"/{copied_from[0]}') FILES = ('{copied_from[1]}')" in copy
    else:
        assert "STRIPE_IDENTITY_" in copy
        assert "/0.jsonl)" in copy
    assert sqlglot.parse_one(copy, dialect="snowflake")


def test_a_stage_that_is_not_external_is_refused():
    cursor = Cursor([("STAGE_LOCATION", "URL", "String", "", "")])
    with pytest.raises(LoadError, match='"LAKE" is no external stage'):
        load_into(cursor, parse_table_name("snowflake", "raw.sessions"), SessionRows(), [], "lake")


@pytest.mark.parametrize("rows", [SessionRows("all", {"Order": "integer"}), EventRows()], ids=["sessions", "events"])
def test_redshifts_statements(monkeypatch, rows):
    pytest.importorskip("redshift_connector")
    cursor = Cursor([])
    connection = SimpleNamespace(cursor=lambda: cursor, commit=lambda: cursor.execute("COMMIT"), close=lambda: None)
    monkeypatch.setattr(
        "airflow.providers.amazon.aws.hooks.redshift_sql.RedshiftSQLHook",
        lambda *_: SimpleNamespace(get_conn=lambda: connection),
    )
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "redshift", "host": "h", "schema": "db"}')
    monkeypatch.setenv("AIRFLOW_CONN_AWS", json.dumps({"conn_type": "aws", "extra": {"role_arn": "arn:aws:iam::1:r"}}))
    loaded = redshift.Redshift("warehouse").load(parse_table_name("redshift", "raw.sessions"), rows, [Lines(b"{}\n")])
    assert loaded.location.uri == "redshift://h:5439/db/raw/sessions"
    assert (loaded.inserted, loaded.replaced) == ((2, 1) if isinstance(rows, SessionRows) else (3, 1))
    copy = next(statement for statement in cursor.statements if statement.startswith("COPY"))
    assert "'s3://lake/day''s.jsonl.gz' IAM_ROLE 'arn:aws:iam::1:r' FORMAT JSON 'noshred' GZIP" in copy
    for statement in cursor.statements:
        if not statement.startswith(("COPY", "LOCK")):
            assert sqlglot.parse_one(statement, dialect="redshift")
    assert cursor.statements[-1] == "COMMIT"


def test_redshift_reads_s3_only(monkeypatch):
    pytest.importorskip("redshift_connector")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "redshift", "host": "h", "schema": "db"}')
    operator = StripeIdentityToWarehouseOperator(
        task_id="load",
        written={"uri": "gs://lake/x.jsonl", "as_of": 1},
        warehouse_conn_id="warehouse",
        table="raw.sessions",
    )
    with pytest.raises(AirflowFailException, match="Redshift reads objects from S3 and from no other store"):
        operator.execute({})
