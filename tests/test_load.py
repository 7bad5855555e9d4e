"""The load operator on PostgreSQL and DuckDB: what becomes of tables, rows, names and errors."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import duckdb
import psycopg
import psycopg2
import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook
from support.side_by_side import load_in_processes

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._warehouse import duckdb as duckdb_warehouse
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)
from airflow_provider_stripe_identity.schema import columns, ddl, merge

JSON_COLUMNS = [column.name for column in columns("all") if column.type == "json"]
SECRET = "Jenny-Rosen-4242"


class Warehouse:
    """A warehouse, and SQL that both understand."""

    def __init__(self, conn_id, connect):
        self.conn_id = conn_id
        self._connect = connect

    def execute(self, statement):
        with self._connect() as connection:
            cursor = connection.execute(statement)
            with suppress(psycopg.ProgrammingError):
                return cursor.fetchall()

    def load(self, written, table="raw.sessions", **arguments):
        return StripeIdentityToWarehouseOperator(
            task_id="load", written=written, warehouse_conn_id=self.conn_id, table=table, **arguments
        ).execute({"outlet_events": {}})

    def rows(self, table="raw.sessions"):
        with self._connect() as connection:
            cursor = connection.execute(f"SELECT * FROM {table}")
            names = [column[0] for column in cursor.description]
            found = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        for row in found:
            row.update({name: json.loads(row[name]) for name in JSON_COLUMNS if isinstance(row.get(name), str)})
        return {row["id"]: row for row in found}


@pytest.fixture(params=["postgres", "psycopg2", "duckdb"])
def warehouse(request, monkeypatch, tmp_path):
    """``psycopg2``: PostgreSQL too, through the driver that the provider takes beside SQLAlchemy 1, on Airflow 3.0."""
    if request.param != "duckdb":
        uri = request.getfixturevalue("postgres")
        with psycopg.connect(uri) as connection:
            connection.execute("DROP SCHEMA IF EXISTS raw CASCADE")
            connection.execute('DROP SCHEMA IF EXISTS "Odd.Schema" CASCADE')
        monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", uri)
        if request.param == "psycopg2":
            monkeypatch.setattr(PostgresHook, "get_conn", lambda _: psycopg2.connect(uri))
        return Warehouse("warehouse", lambda: psycopg.connect(uri))
    file = str(tmp_path / "warehouse.duckdb")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "duckdb", "host": file}))
    return Warehouse("warehouse", lambda: duckdb.connect(file))


@pytest.fixture
def write(tmp_path):
    """Write rows as an export does."""
    numbers = iter(range(1000))

    def write(rows, as_of=100, **result):
        file = tmp_path / f"{next(numbers)}.jsonl.gz"
        lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
        file.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
        return {"uri": file.as_uri(), "conn_id": None, "as_of": as_of, "sessions": len(rows)} | result

    return write


def row(session_id="vs_1", **fields):
    return {
        "id": session_id,
        "object": "identity.verification_session",
        "created": 1,
        "livemode": False,
        "status": "processing",
        "type": "document",
        "metadata": {},
        "redaction": None,
    } | fields


def event(session_id, change, created, **fields):
    kind = f"identity.verification_session.{change}"
    named = {"_event_id": f"evt_{change}_{created}", "_event_type": kind, "_event_created": created}
    return row(session_id, status=change) | named | fields


def test_a_load_says_what_became_of_the_rows(warehouse, write):
    first = warehouse.load(write([row("vs_1"), row("vs_2")], as_of=100))
    assert {name: first[name] for name in ("staged", "inserted", "replaced", "left_alone")} == {
        "staged": 2,
        "inserted": 2,
        "replaced": 0,
        "left_alone": 0,
    }
    assert first["uri"].endswith(("/postgres/raw/sessions", "/warehouse.raw.sessions"))
    results = [write([row("vs_1")], as_of=99), write([row("vs_2", status="verified"), row("vs_3")], as_of=101)]
    second = warehouse.load(iter(results))
    assert (second["staged"], second["inserted"], second["replaced"], second["left_alone"]) == (3, 1, 1, 1)
    found = warehouse.rows()
    assert {name: (one["status"], one["_as_of"]) for name, one in found.items()} == {
        "vs_1": ("processing", 100),
        "vs_2": ("verified", 101),
        "vs_3": ("processing", 101),
    }
    assert warehouse.load([])["staged"] == 0
    assert warehouse.load(write([]))["staged"] == 0


@pytest.mark.parametrize("as_one_object", [True, False])
def test_of_rows_as_of_one_second_the_one_that_holds_more_stays(warehouse, write, as_one_object):
    """Whatever order they come in; what Stripe lists first of one second says nothing."""
    in_order = [event("vs_1", change, 99) for change in ("created", "processing", "verified")]
    export = row("vs_1", status="verified", metadata={"updated": "after the event, in its second"})
    for rows in (in_order, in_order[::-1], in_order * 2):
        warehouse.execute("DROP TABLE IF EXISTS raw.sessions")
        for objects in [rows] if as_one_object else [[one] for one in rows]:
            warehouse.load(write(objects, as_of=None))
        assert warehouse.rows()["vs_1"]["status"] == "verified"
        warehouse.load(write([export], as_of=100))
        warehouse.load(write(rows[:1], as_of=None))
        assert warehouse.rows()["vs_1"]["metadata"] == export["metadata"]
        warehouse.load(write([event("vs_1", "verified", 99, redaction={"status": "redacted"})], as_of=None))
        warehouse.load(write([export], as_of=100))
        assert warehouse.rows()["vs_1"]["metadata"] == {}


def test_tables_grow_and_nothing_is_lost(warehouse, write):
    warehouse.load(write([row(client_reference_id="user_1")]), fields=["id", "client_reference_id"])
    assert set(warehouse.rows()["vs_1"]) == {
        "id",
        "client_reference_id",
        "_event_id",
        "_event_type",
        "_event_created",
        "_stripe_account",
        "_as_of",
    }
    extra = {"Loaded By": "text", "order": "integer", "flags": "json", "is_test": "boolean"}
    values = {"Loaded By": "me", "order": 2**40, "flags": {"a": [1]}, "is_test": True}
    report = {"id": "vr_1", "object": "identity.verification_report"}
    written = row("vs_2", **values, last_verification_report=report, verified_outputs={"first_name": "Jenny"})
    warehouse.load(write([written], as_of=101), fields="all", extra_columns=extra)
    found = warehouse.rows()
    assert found["vs_1"]["client_reference_id"] == "user_1"
    lower = {name.lower(): value for name, value in found["vs_2"].items()}
    lower["flags"] = json.loads(lower["flags"]) if isinstance(lower["flags"], str) else lower["flags"]
    assert [lower[name.lower()] for name in values] == list(values.values())
    assert json.loads(lower["last_verification_report"]) == report
    assert lower["verified_outputs"] == {"first_name": "Jenny"}
    # Fewer columns than the table has: the others stay as they are.
    warehouse.load(write([row("vs_1", status="verified")], as_of=102), fields=["id", "status"])
    assert warehouse.rows()["vs_1"]["client_reference_id"] == "user_1"


def test_the_account_of_a_row_is_loaded(warehouse, write):
    warehouse.load(write([row("vs_1", _stripe_account="acct_1"), row("vs_2")]))
    assert {key: found["_stripe_account"] for key, found in warehouse.rows().items()} == {
        "vs_1": "acct_1",
        "vs_2": None,
    }


DDL_0_1_0 = """
CREATE TABLE raw.sessions (
    id {text} PRIMARY KEY, object {text} NOT NULL, created BIGINT NOT NULL, livemode BOOLEAN NOT NULL,
    status {text} NOT NULL, type {text} NOT NULL, client_reference_id {text}, last_error {json},
    last_verification_report {text}, metadata {json} NOT NULL, options {json}, redaction {json},
    related_customer {text}, related_customer_account {text}, related_person {json}, verification_flow {text},
    _event_id {text}, _event_type {text}, _event_created BIGINT, _as_of BIGINT
)"""


def test_a_table_of_version_0_1_0_is_taken_over(warehouse, write):
    kinds = {"text": "TEXT", "json": "JSONB" if "psycopg" in str(warehouse._connect().__class__) else "JSON"}
    warehouse.execute("CREATE SCHEMA raw")
    warehouse.execute(DDL_0_1_0.format(**kinds))
    for session_id, as_of in (("vs_old", "50"), ("vs_1", "50"), ("vs_without", "NULL")):
        warehouse.execute(
            "INSERT INTO raw.sessions (id, object, created, livemode, status, type, metadata, _as_of)"
            f" VALUES ('{session_id}', 'o', 1, false, 'requires_input', 'document', '{{\"a\": 1}}', {as_of})"
        )
    before = warehouse.rows()
    warehouse.load(write([row("vs_1"), row("vs_2"), row("vs_without")]), fields="all", extra_columns={"x": "text"})
    after = warehouse.rows()
    assert {name: after["vs_old"][name] for name in before["vs_old"]} == before["vs_old"]
    assert {name: after[name]["status"] for name in ("vs_1", "vs_2", "vs_without")} == dict.fromkeys(
        ("vs_1", "vs_2", "vs_without"), "processing"
    )


@pytest.mark.parametrize(
    ("table", "difference"),
    [
        ("CREATE TABLE raw.sessions (name TEXT)", "none of the columns id, object"),
        ("CREATE TABLE raw.sessions (id BIGINT PRIMARY KEY, status BOOLEAN)", "column id is .*column status is"),
        ("CREATE TABLE raw.sessions (id TEXT, status TEXT)", "neither its primary key nor unique"),
        (
            "CREATE TABLE raw.sessions (id TEXT PRIMARY KEY, owner TEXT NOT NULL)",
            "column owner may not be null, and nothing is loaded",
        ),
        ("CREATE VIEW raw.sessions AS SELECT 'x' AS id", "view"),
    ],
)
def test_a_table_of_somebody_else_is_refused_with_the_difference(warehouse, write, table, difference):
    warehouse.execute("CREATE SCHEMA raw")
    warehouse.execute(table)
    before = warehouse.execute("SELECT * FROM raw.sessions")
    with pytest.raises(AirflowFailException, match=difference):
        warehouse.load(write([row()]))
    assert warehouse.execute("SELECT * FROM raw.sessions") == before


@pytest.mark.parametrize("table", ["raw.order", '"Odd.Schema"."The ""table"""', 'RAW."select"'])
def test_tables_have_any_name(warehouse, write, table):
    warehouse.load(write([row()]), table=table)
    assert warehouse.load(write([row("vs_2")]), table=table)["inserted"] == 1
    quoted = {"raw.order": 'raw."order"', 'RAW."select"': 'raw."select"'}.get(table, table)
    assert set(warehouse.rows(quoted)) == {"vs_1", "vs_2"}


@pytest.mark.parametrize("table", ["", "a.b.c.d", "a..b", "a.", '"open', "a b"])
def test_what_is_no_name_is_refused(warehouse, write, table):
    with pytest.raises(AirflowFailException, match="table must be a name"):
        warehouse.load(write([row()]), table=table)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not a row of this table"),
        ("", "not a row"),
        (row(None, metadata={"name": SECRET}), "id"),
        ({"id": "vs_9", "metadata": {"name": SECRET}}, "required field `object`"),
        (row("vs_9", created=SECRET), r"created"),
        (row("vs_9", created=2**63), "created"),
        (row("vs_9", metadata=SECRET), "metadata"),
        ([SECRET], "object"),
    ],
)
def test_a_wrong_line_is_named_and_changes_nothing(warehouse, write, line, problem, caplog):
    warehouse.load(write([row("vs_0")]))
    before = warehouse.rows()
    good, bad = write([row("vs_1")], as_of=200), write([row("vs_2"), row("vs_3"), line], as_of=200)
    with pytest.raises(AirflowFailException, match=f"{bad['uri']}, line 3: .*{problem}") as raised:
        warehouse.load([good, bad])
    assert warehouse.rows() == before
    assert SECRET not in str(raised.value) + caplog.text


def test_a_row_that_is_as_of_no_time_is_refused(warehouse, write):
    with pytest.raises(AirflowFailException, match="line 1: neither the export's as_of nor"):
        warehouse.load(write([row()], as_of=None))


def test_a_damaged_object_or_none_is_named(warehouse, write, tmp_path):
    written = write([row(str(number)) for number in range(5000)])
    file = tmp_path / written["uri"].rsplit("/", 1)[1]
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(AirflowFailException, match=r"jsonl.gz, after line \d+: the object is damaged"):
        warehouse.load(written)
    file.unlink()
    with pytest.raises(AirflowFailException, match=r"does not exist: .*on another worker's disk\?"):
        warehouse.load(written)


def test_errors_of_the_warehouse_quote_no_row(warehouse, write, caplog):
    warehouse.load(write([row()]))
    if warehouse._connect().__class__.__module__.startswith("psycopg"):
        warehouse.execute("ALTER TABLE raw.sessions ADD CHECK (client_reference_id <> 'Jenny-Rosen-4242')")
    else:
        warehouse.execute("DROP TABLE raw.sessions")
        warehouse.execute(
            "CREATE TABLE raw.sessions (id TEXT PRIMARY KEY,"
            " client_reference_id TEXT CHECK (client_reference_id <> 'Jenny-Rosen-4242'))"
        )
    with pytest.raises(AirflowFailException, match=r"Merging into .*(CheckViolation 23514|ConstraintEx)") as raised:
        warehouse.load(write([row("vs_2", client_reference_id=SECRET)]))
    said = str(raised.value) + caplog.text
    assert SECRET not in said
    assert raised.value.__suppress_context__


def test_what_postgres_cannot_store_is_replaced(warehouse, write):
    warehouse.load(write([row(metadata={"nul\0": ["a\0b", "\\u0000"]})]))
    (metadata,) = [one["metadata"] for one in warehouse.rows().values()]
    assert metadata in ({"nul\0": ["a\0b", "\\u0000"]}, {"nul\ufffd": ["a\ufffdb", "\\u0000"]})


def test_columns_that_are_not_loaded_are_named_without_their_values(warehouse, write, caplog):
    warehouse.load(write([row(_exported_at=SECRET), row("vs_2")]))
    assert "Not loaded, because the table has no columns for them" in caplog.text
    assert "_exported_at" in caplog.text
    assert SECRET not in caplog.text


def test_columns_that_the_rows_do_not_have_are_named(warehouse, write, caplog):
    """A row that comes later without them would empty them without a word."""
    loaded = {"fields": [*DEFAULT_FIELDS, "verified_outputs"], "extra_columns": {"_exported_at": "text"}}
    warehouse.load(write([row(verified_outputs=None, _exported_at="x")]), **loaded)
    assert "Not in the rows" not in caplog.text
    without = write([row()], as_of=101)
    warehouse.load(without, **loaded)
    assert f"Not in the rows of {without['uri']}" in caplog.text
    assert "of the export): _exported_at, verified_outputs" in caplog.text


def test_wrong_arguments_are_refused(warehouse, write, monkeypatch):
    with pytest.raises(ValueError, match="extra_columns: the type of when must be one of boolean"):
        warehouse.load(write([]), extra_columns={"when": "timestamp"})
    with pytest.raises(ValueError, match="extra_columns: _AS_OF is a column of every table"):
        warehouse.load(write([]), extra_columns={"_AS_OF": "text"})
    for written in ("x", 1, None, [None], [{"sessions": 1}], [{"uri": "file:///x", "as_of": "1"}]):
        with pytest.raises(AirflowFailException, match="written"):
            warehouse.load(written)
    loaded = warehouse.load(write([row()]))
    with pytest.raises(AirflowFailException, match=f"that of a load into {loaded['uri']}: pass export.output"):
        warehouse.load(loaded)
    with pytest.raises(AirflowFailException, match="events and of sessions"):
        warehouse.load([write([]), write([], events=0)])
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "mysql://x")
    with pytest.raises(AirflowFailException, match="is of type mysql; the types of warehouses are duckdb"):
        Warehouse("other", None).load(write([]))
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", "duckdb:///x")
    with pytest.raises(AirflowFailException, match="host must be the path of a DuckDB file"):
        Warehouse("other", None).load(write([]))


def test_events_become_a_table_of_events(warehouse, server, tmp_path):
    ids = [server.create_session(metadata={"name": SECRET})["id"] for _ in range(3)]
    for session_id in ids[:2]:
        server.verify(session_id)
    now = datetime.now(UTC).replace(microsecond=0)

    def written(name):
        return StripeIdentityEventsToObjectStorageOperator(
            task_id="events",
            destination=(tmp_path / name).as_uri(),
            created_gte=now - timedelta(hours=1),
            created_lt=now + timedelta(seconds=1),
            settle=timedelta(seconds=1),
        ).execute({})

    before = written("before.jsonl")
    events = {json.loads(line)["_event_id"] for line in (tmp_path / "before.jsonl").read_text().splitlines()}
    assert warehouse.load(before)["inserted"] == len(events) == before["events"] >= 5
    assert warehouse.load(before)["inserted"] == 0
    assert {one for (one,) in warehouse.execute("SELECT _event_id FROM raw.sessions")} == events
    redacted = tmp_path / "redacted.jsonl"
    one = event(ids[0], "redacted", int(now.timestamp()) + 5, redaction={"status": "redacted"})
    redacted.write_text(json.dumps(one) + "\n")
    warehouse.load({"uri": redacted.as_uri(), "events": 1, "as_of": None})
    warehouse.load(before)
    found = warehouse.execute("SELECT id, CAST(metadata AS TEXT) FROM raw.sessions")
    assert {session_id for session_id, metadata in found if SECRET in metadata} == set(ids[1:])


def load_in_threads(loads):
    start = threading.Barrier(len(loads))

    def load(arguments):
        start.wait()
        return StripeIdentityToWarehouseOperator(task_id="load", **arguments).execute({"outlet_events": {}})

    with ThreadPoolExecutor(len(loads)) as pool:
        return list(pool.map(load, loads))


@pytest.mark.parametrize("load", [load_in_threads, load_in_processes])
def test_loads_side_by_side(warehouse, write, load):
    """Exports and changes of the same sessions, in different orders, into one table that is not there yet."""
    names = [f"vs_{number}" for number in range(300)]
    objects = [
        write([row(name, status=f"{number}") for name in (names if number % 2 else names[::-1])], as_of=number)
        for number in range(16)
    ]
    place = {"warehouse_conn_id": warehouse.conn_id, "table": "raw.sessions"}
    results = load(
        [{"written": written, "extra_columns": {f"x{written['as_of'] % 3}": "text"}} | place for written in objects]
    )
    assert {result["staged"] for result in results} == {300}
    assert sum(result["inserted"] for result in results) == 300
    assert {(one["status"], one["_as_of"]) for one in warehouse.rows().values()} == {("15", 15)}


def parts_of_one_line(monkeypatch):
    monkeypatch.setattr(duckdb_warehouse, "_PART_BYTES", 1)


def no_memory(monkeypatch):
    monkeypatch.setattr(duckdb_warehouse, "_INSERT_BYTES", 1)


@pytest.mark.parametrize("limit", [parts_of_one_line, no_memory])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_empty_table_becomes_what_it_would_by_merges(warehouse, write, monkeypatch, limit, at_once):
    """DuckDB inserts into one, and merges after all where a key comes twice or the memory is too small."""
    limit(monkeypatch)
    written = [write([event("vs_1", "created", 1, metadata={"name": SECRET}), event("vs_2", "created", 2)], as_of=None)]
    written.append(write([event("vs_1", "redacted", 9, metadata={}, redaction={"status": "redacted"})], as_of=None))
    written.append(write([event("vs_3", "created", 3)], as_of=None))
    for table, key in (("raw.sessions", {}), ("raw.history", {"events": 1})):
        objects = [one | key for one in written]
        loaded = [warehouse.load(part, table=table) for part in ([objects] if at_once else objects)]
        assert sum(one["staged"] for one in loaded) == 4
        assert SECRET not in str(warehouse.execute(f"SELECT * FROM {table}"))
        assert warehouse.execute(f"SELECT count(*), count(redaction) FROM {table}") == [(4, 2) if key else (3, 1)]
        assert sum(one["inserted"] for one in loaded) == (4 if key else 3)


def test_a_load_of_many_parts_is_as_one(warehouse, write, monkeypatch):
    """DuckDB reads and merges part by part, here line by line."""
    monkeypatch.setattr(duckdb_warehouse, "_PART_BYTES", 1)
    rows = [event("vs_1", change, 99) for change in ("verified", "processing", "created")]
    # Of an event's second too: the table then goes by the lifecycle, in whatever part a row comes.
    written = [write([row("vs_2")], as_of=90), write(rows), write([row("vs_2", status="canceled"), row("vs_3")])]
    first = warehouse.load([*written, write([])])
    assert (first["staged"], first["inserted"]) == (6, 3)
    assert {name: one["status"] for name, one in warehouse.rows().items()} == {
        "vs_1": "verified",
        "vs_2": "canceled",
        "vs_3": "processing",
    }


def test_merges_in_any_order_side_by_side_do_not_deadlock(postgres):
    """The public merge, without the lock of the operator: rows are locked in the order of their ids."""
    rows = 100

    kinds = {"boolean": "FALSE", "integer": "1", "json": "CAST('{}' AS JSONB)", "text": "'x'"}
    values = {column.name: kinds[column.type] for column in columns()} | {"id": "'vs_' || number"}
    selected = ", ".join(f"{value} AS {name}" for name, value in values.items())

    def merges(number):
        with psycopg.connect(postgres, autocommit=True) as connection:
            for order in ("number", "-number", "random()", "md5(number::text)"):
                staged = f"(SELECT {selected} FROM generate_series(1, {rows}) AS number ORDER BY {order})"
                connection.execute(merge("postgres", "public.side_by_side", staged, as_of=number))

    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(ddl("postgres", "public.side_by_side"))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(merges, range(50)))  # an error of any is raised here
        (count,) = connection.execute("SELECT count(*) FROM public.side_by_side WHERE _as_of = 49").fetchall()[0]
        connection.execute("DROP TABLE public.side_by_side")
    assert count == rows


@pytest.mark.parametrize(
    ("conn_type", "module", "extra"),
    [("snowflake", "airflow.providers.snowflake.hooks.snowflake", "snowflake"), ("duckdb", "duckdb", "duckdb")],
)
def test_a_package_that_is_missing_is_named_with_how_to_install_it(monkeypatch, write, conn_type, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps({"conn_type": conn_type, "host": "x"}))
    wanted = rf"{module} cannot be imported .*pip install 'airflow-provider-stripe-identity\[{extra}\]'"
    with pytest.raises(AirflowFailException, match=wanted):
        Warehouse("other", None).load(write([row()]))


def test_every_field_arrives_as_stripe_has_it(warehouse, server, tmp_path):
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    server.populate(500, now - timedelta(days=1), now)
    server.create_session(created=now - timedelta(hours=2), metadata={"odd": "漢字 \"'\\ \u2028 \t\x01\x02"})
    window = {"task_id": "x", "created_gte": now - timedelta(days=1), "created_lt": now}
    written = StripeIdentityToObjectStorageOperator(
        **window, destination=(tmp_path / "all.jsonl").as_uri(), fields="all"
    ).execute({})
    assert warehouse.load(written, fields="all")["inserted"] == 501
    secrets = {"client_secret", "url"}
    wanted = {
        one["id"]: {name: value for name, value in one.items() if name not in secrets} for one in server.sessions()
    }
    found = {name: {field: one[field] for field in wanted[name]} for name, one in warehouse.rows().items()}
    assert found == wanted
    changes = StripeIdentityChangesToObjectStorageOperator(
        **window, destination=(tmp_path / "changes.jsonl").as_uri()
    ).execute({})
    assert warehouse.load(changes)["staged"] == changes["sessions"]
    assert {name: one["status"] for name, one in warehouse.rows().items()} == {
        name: one["status"] for name, one in wanted.items()
    }


def test_assets_and_lineage_know_the_table(warehouse, write):
    written = write([row()])
    operator = StripeIdentityToWarehouseOperator(
        task_id="load", written=written, warehouse_conn_id=warehouse.conn_id, table="raw.sessions", fields=["id"]
    )
    assert operator.get_openlineage_facets_on_complete(None) is None
    operator.execute({})
    lineage = operator.get_openlineage_facets_on_complete(None)
    (source,), (table,) = lineage.inputs, lineage.outputs
    assert (source.namespace, source.name) == ("file", written["uri"].removeprefix("file://"))
    assert table.name.endswith(".raw.sessions")
    assert table.outputFacets["outputStatistics"].rowCount == 1
    origin = table.facets["columnLineage"].fields["id"].inputFields[0]
    assert (origin.name, origin.field) == (source.name, "id")
    assert len(DEFAULT_FIELDS) > len(table.facets["schema"].fields)
