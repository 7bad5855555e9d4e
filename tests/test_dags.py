"""The example DAGs on a real Airflow database, through ``dag.test()``."""

from __future__ import annotations

import gzip
import json
import shutil
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
import pytest
from support.clocked_emulator import ClockedEmulator
from support.paths import EXAMPLES

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity.testing import Fault

DAY = 86400
TODAY = int(time.time()) // DAY * DAY
JAN_15, JAN_16 = datetime(2026, 1, 15, tzinfo=UTC), datetime(2026, 1, 16, tzinfo=UTC)
#: What JSON, line-based readers and SQL could trip over.
METADATA = {
    "unicode": "Zoë 漢字 🙂",
    "line separators": "a\u2028b\u2029c\u0085d\n\r\te",
    "quotes": "\"it's\" \\ `x` '",
    "empty": "",
}


def duckdb_connection(monkeypatch, file: Path) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DUCKDB_DEFAULT", json.dumps({"conn_type": "duckdb", "host": str(file)}))


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
    duckdb_connection(monkeypatch, tmp_path / "warehouse.duckdb")
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


def test_every_example_writes_objects_of_its_own(examples):
    names = [
        task.destination if hasattr(task, "destination") else task.partial_kwargs["destination"]
        for dag in examples().values()
        for task in dag.tasks
        if task.task_type.endswith("ToObjectStorageOperator")
    ]
    assert len(names) == len(set(names)) == 13
    assert all("{created_gte:" in name for name in names)


def test_examples_share_the_tables_that_they_keep_together_and_no_other(examples):
    """Each says so in its docstring: an export and its changes, and what was there before the first run."""
    tables = defaultdict(set)
    for dag in examples().values():
        for task in dag.tasks:
            if task.task_type == "StripeIdentityToWarehouseOperator":
                tables[task.warehouse_conn_id, task.table].add(dag.dag_id.removeprefix("stripe_identity_"))
    assert {table: dags for table, dags in tables.items() if len(dags) > 1} == {
        ("duckdb_default", "verification_sessions"): {"daily", "to_duckdb"},
        ("duckdb_default", "verification_session_events"): {"history_to_duckdb", "history_backfill"},
        ("postgres_default", "verification_sessions"): {"to_postgres", "backfill", "warehouse"},
        ("postgres_default", "verification_session_events"): {"history_to_postgres", "warehouse"},
    }


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


def test_the_connected_accounts_example_keeps_one_table_of_all(server, tmp_path, monkeypatch, examples):
    monkeypatch.setenv("STRIPE_IDENTITY_LAKE", (tmp_path / "lake").as_uri())
    duckdb_connection(monkeypatch, tmp_path / "warehouse.duckdb")
    yesterday = TODAY - DAY
    for account, count in (("acct_1", 2), ("acct_2", 3), ("acct_3", 0), ("acct_gone", 1)):
        server.connect_account(account)
        for number in range(count):
            server.create_session(account=account, created=yesterday + number)
    server.create_session(created=yesterday)  # the platform's own
    server.revoke_account("acct_gone")
    dag = examples()["stripe_identity_connected_accounts"]
    for _ in range(2):
        assert dag.test(logical_date=datetime.fromtimestamp(TODAY, UTC)).state == "success"
    statement = "SELECT _stripe_account, count(*) FROM verification_sessions_of_accounts GROUP BY ALL ORDER BY ALL"
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as warehouse:
        assert warehouse.sql(statement).fetchall() == [("acct_1", 2), ("acct_2", 3)]
    assert len(list((tmp_path / "lake").rglob("*.jsonl.gz"))) == 1


@pytest.fixture
def stripe(monkeypatch, tmp_path):
    """An emulator whose clock the test sets, from three days ago on, and where the recipes write."""
    with ClockedEmulator(TODAY - 3 * DAY) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        monkeypatch.setenv("STRIPE_IDENTITY_LAKE", (tmp_path / "lake").as_uri())
        duckdb_connection(monkeypatch, tmp_path / "warehouse.duckdb")
        yield server


def test_the_recipes_make_and_keep_their_tables_equal_to_stripe(stripe, examples, postgres, monkeypatch, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres)
    stripe.populate(300, TODAY - 400 * DAY, TODAY - 60 * DAY)
    statement = "SELECT id, status, created, redaction IS NOT NULL FROM verification_sessions ORDER BY id"

    def in_stripe(**filters):
        found = stripe.sessions(**filters)
        return sorted((one["id"], one["status"], one["created"], one["redaction"] is not None) for one in found)

    def in_postgres():
        with psycopg.connect(postgres) as warehouse:
            return warehouse.execute(statement).fetchall()

    def in_duckdb():
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as warehouse:
            return warehouse.sql(statement).fetchall()

    def run(name, **arguments):
        return dags[name].test(**arguments)

    def run_daily(end):
        """A manual run has the day before its logical date as its data interval, as a scheduled one has."""
        for name in ("stripe_identity_to_duckdb", "stripe_identity_to_postgres"):
            assert run(name, logical_date=datetime.fromtimestamp(end, UTC)).state == "success"

    dags = examples()
    recent = [stripe.create_session()["id"] for _ in range(4)]
    old = [
        one["id"]
        for one in stripe.sessions(created={"lt": TODAY - 300 * DAY}, status="verified")
        if not one["redaction"]
    ]
    stripe.now = TODAY - 2 * DAY + 60
    run_daily(TODAY - 2 * DAY)
    new = in_stripe(created={"gte": TODAY - 3 * DAY})
    assert in_duckdb() == in_postgres() == new
    stripe.verify(recent[0])
    stripe.redact(recent[1])
    stripe.redact(old[0])

    # One month fails; the others come in all the same, and another run completes them, the running month included.
    moment = TODAY - 2 * DAY + 40_000
    first, now = datetime.fromtimestamp(TODAY - 400 * DAY, UTC), datetime.fromtimestamp(moment, UTC)
    months = (now.year - first.year) * 12 + now.month - first.month + 1
    for number in range(months):  # whichever fails, sessions are missing
        year, month = divmod(first.year * 12 + first.month - 1 + number, 12)
        stripe.create_session(created=int(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()), status="canceled")
    stripe.now = moment + 40
    conf = {"first_month": f"{first:%Y-%m}"}
    stripe.inject(Fault.status(403))
    failed = run("stripe_identity_backfill", run_after=now, run_conf=conf)
    assert failed.state == "failed"
    states = Counter(str(task.state) for task in failed.get_task_instances())
    assert states == {"success": 1 + 2 * (months - 1), "failed": 1, "upstream_failed": 1}
    assert len(new) < len(in_postgres()) < len(in_stripe())
    stripe.now = moment + 100
    later = now + timedelta(minutes=1)
    assert run("stripe_identity_backfill", run_after=later, run_conf=conf).state == "success"
    assert [row[0] for row in in_postgres()] == [row[0] for row in in_stripe()]

    # The clock goes on: what comes and changes while and after the backfill ran, the daily changes bring.
    stripe.verify(stripe.create_session()["id"])
    stripe.now = moment + 20_000
    stripe.cancel(stripe.create_session()["id"])

    stripe.now = TODAY - DAY + 60
    run_daily(TODAY - DAY)
    assert in_postgres() == in_stripe()
    assert in_duckdb() == sorted(row for row in in_stripe() if row[2] >= TODAY - 3 * DAY or row[0] == old[0])
    with psycopg.connect(postgres) as warehouse:
        warehouse.execute("DROP TABLE verification_sessions")


def test_the_hourly_examples_keep_sessions_events_and_views(stripe, examples, postgres, monkeypatch, tmp_path):
    # Two examples write the same table of PostgreSQL: the history alone gets a database of its own.
    history_alone = postgres.replace("/postgres", "/history_alone")
    with psycopg.connect(postgres, autocommit=True) as warehouse:
        warehouse.execute("CREATE DATABASE history_alone")
    dags = examples()
    start = TODAY - 2 * DAY

    def in_postgres(query, uri=postgres):
        with psycopg.connect(uri) as warehouse:
            return warehouse.execute(query).fetchall()

    def in_duckdb(query):
        with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as warehouse:
            return warehouse.sql(query).fetchall()

    def run_hour(end):
        """A manual run has the hour before its logical date as its data interval, as a scheduled one has."""
        for name, uri in (
            ("stripe_identity_warehouse", postgres),
            ("stripe_identity_history_to_duckdb", postgres),
            ("stripe_identity_history_to_postgres", history_alone),
        ):
            monkeypatch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", uri)
            assert dags[name].test(logical_date=datetime.fromtimestamp(end, UTC)).state == "success"

    try:
        stripe.now = start + 60
        ids = [stripe.create_session()["id"] for _ in range(3)]
        stripe.now = start + 3660
        run_hour(start + 3600)
        stripe.now = start + 3700
        stripe.verify(ids[0])
        stripe.cancel(ids[1])
        stripe.now = start + 7260
        run_hour(start + 7200)
        sessions = in_postgres("SELECT id, status FROM verification_sessions ORDER BY id")
        assert sessions == sorted((one["id"], one["status"]) for one in stripe.sessions())
        query = "SELECT _event_id FROM verification_session_events ORDER BY 1"
        events = in_postgres(query)
        assert in_duckdb(query) == events
        assert in_postgres(query, history_alone) == events
        assert len(events) >= 5
        timeline = dict(in_postgres("SELECT id, verified_at FROM verification_session_timeline"))
        assert timeline.keys() == set(ids)
        assert [session_id for session_id in ids if timeline[session_id]] == ids[:1]
        (counts,) = in_postgres("SELECT created, verified, canceled FROM verification_session_funnel")
        assert counts == (3, 1, 1)
        # The other way into the same table: what Stripe still has of the time before.
        monkeypatch.setenv(
            "AIRFLOW_CONN_DUCKDB_DEFAULT", json.dumps({"conn_type": "duckdb", "host": str(tmp_path / "b.duckdb")})
        )
        run = dags["stripe_identity_history_backfill"].test(
            logical_date=datetime.fromtimestamp(start + 7200, UTC), run_conf={"days": 20}
        )
        assert run.state == "success"
        with duckdb.connect(str(tmp_path / "b.duckdb")) as database:
            assert database.sql(query).fetchall() == events
    finally:
        with psycopg.connect(postgres, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS verification_sessions, verification_session_events CASCADE")
            connection.execute("DROP DATABASE history_alone WITH (FORCE)")
