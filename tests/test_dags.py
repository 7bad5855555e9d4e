"""The example DAGs on a real Airflow database, through ``dag.test()``."""

from __future__ import annotations

import gzip
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from airflow_provider_stripe_identity.jsonl import DEFAULT_FIELDS

EXAMPLES = Path(__file__).resolve().parents[1] / "dags_examples"
JAN_15, JAN_16 = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC)
#: What JSON, line-based readers and SQL could trip over.
METADATA = {
    "unicode": "Zoë 漢字 🙂",
    "line separators": "a\u2028b\u2029c\u0085d\n\r\te",
    "quotes": "\"it's\" \\ `x` '",
    "empty": "",
}


@pytest.fixture
def examples(dags_folder):
    """The example DAGs by id."""
    shutil.copytree(EXAMPLES, dags_folder.path, dirs_exist_ok=True)
    return dags_folder.load


def test_every_example_is_parsed_and_documented(examples):
    dags = examples()
    files = {path.name for path in EXAMPLES.glob("*.py")} - set((EXAMPLES / ".airflowignore").read_text().split())
    assert {Path(dag.fileloc).name for dag in dags.values()} == files
    assert all(dag.doc_md for dag in dags.values())


def test_the_daily_example_loads_the_day_and_loads_it_again(server, tmp_path, monkeypatch, examples):
    monkeypatch.setenv("STRIPE_IDENTITY_LAKE", (tmp_path / "lake").as_uri())
    monkeypatch.setenv("STRIPE_IDENTITY_WAREHOUSE", str(tmp_path / "warehouse.duckdb"))
    server.populate(250, JAN_15, JAN_16)
    server.create_session(created=int(JAN_16.timestamp()))
    odd = server.create_session(created=int(JAN_15.timestamp()), metadata=METADATA, status="canceled")
    dag = examples()["stripe_identity_daily"]
    for _ in range(2):
        assert dag.test(logical_date=JAN_16).state == "success"
        # The second time, one session of the window has another status, and the table has to follow.
        changed = next(server.sessions(status="requires_input", created={"lt": int(JAN_16.timestamp())}))
        server.verify(changed["id"])
    path = tmp_path / "lake" / "verification_sessions" / "dt=2026-01-15" / "sessions.jsonl.gz"
    assert [file.name for file in (tmp_path / "lake").rglob("*") if file.is_file()] == [path.name]
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as warehouse:
        table = warehouse.sql("SELECT id, status, created, metadata FROM verification_sessions").fetchall()
    exported = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]]
    assert len(table) == len(exported) == 251
    assert {row[0]: (row[1], row[2], json.loads(row[3])) for row in table} == {
        row["id"]: (row["status"], row["created"], row["metadata"]) for row in exported
    }
    assert {row["id"]: row["metadata"] for row in exported}[odd["id"]] == METADATA


@pytest.mark.parametrize("fields", [DEFAULT_FIELDS, "all"], ids=["default", "all"])
def test_duckdb_reads_every_value_back_as_the_server_has_it(server, tmp_path, fields, run_dag_file):
    extraordinary = {
        "metadata": METADATA,
        "options": {"document": {"deep": [[{"er": None}], 1.5, -0.0, True]}, "large": 2**63},
        "last_error": None,
        "brand_new": {"larger": 12345678901234567890123456789, "nothing": None, "text": "\u2028"},
    }
    server.create_session(created=int(JAN_15.timestamp()), **extraordinary)
    server.populate(20, JAN_15, JAN_16)
    path = tmp_path / "sessions.jsonl"
    run = run_dag_file(f"""
from airflow.sdk import DAG
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("values", schedule=None):
    StripeIdentityToObjectStorageOperator(
        task_id="export", destination="{path.as_uri()}", fields={fields!r},
        created_gte="2026-01-15T00:00:00Z", created_lt="{{{{ '2026-01-16T00:00:00Z' }}}}",
    )
""")
    assert run.state == "success"
    lines = duckdb.sql(f"SELECT json FROM read_json_objects('{path}', format = 'newline_delimited')").fetchall()
    secrets = {"client_secret", "url"}
    wanted = [
        {name: value for name, value in session.items() if name not in secrets and (fields == "all" or name in fields)}
        for session in server.sessions()
    ]
    assert [json.loads(line) for (line,) in lines] == wanted
    assert ("brand_new" in wanted[-1]) is (fields == "all")


def test_the_waiting_examples_go_on_with_the_verified_persons(server, examples):
    for reference in ("user_1", "user_2"):
        server.verify(server.create_session(client_reference_id=reference)["id"])
    dags = examples()
    run = dags["stripe_identity_wait"].test(run_conf={"client_reference_id": "user_1"})
    assert run.state == "success"
    assert run.get_task_instance("open_account").xcom_pull(task_ids="open_account").startswith("user_1 was verified")
    run = dags["stripe_identity_wait_for_many"].test(run_conf={"references": ["user_1", "user_2"]})
    assert run.state == "success"
    assert run.get_task_instance("report").xcom_pull(task_ids="report") == ["user_1", "user_2"]


def test_the_accounts_example_exports_each_account_into_its_own_object(server, tmp_path, monkeypatch, examples):
    monkeypatch.setenv("STRIPE_IDENTITY_LAKE", tmp_path.as_uri())
    monkeypatch.setenv("AIRFLOW_VAR_STRIPE_ACCOUNTS", '["acct_1", "acct_2"]')
    for account, count in (("acct_1", 3), ("acct_2", 5), (None, 7)):
        server.populate(count, JAN_15, JAN_16, account=account)
    assert examples()["stripe_identity_accounts"].test(logical_date=JAN_16).state == "success"
    found = {
        path.parts[-3]: len(gzip.decompress(path.read_bytes()).splitlines()) for path in tmp_path.rglob("*.jsonl.gz")
    }
    assert found == {"account=acct_1": 3, "account=acct_2": 5}
    assert {path.parts[-2] for path in tmp_path.rglob("*.jsonl.gz")} == {"dt=2026-01-15"}
