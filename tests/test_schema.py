"""One description of the row: it is what Stripe specifies and what the operators write, in every dialect."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import duckdb
import psycopg
import pytest
import sqlglot
from jsonschema import Draft202012Validator
from support.paths import STRIPE_SPECIFICATION

from airflow_provider_stripe_identity._export.fields import (
    ACCOUNT_FIELD,
    DEFAULT_FIELDS,
    EVENT_FIELDS,
    FIELDS,
    PERSONAL_FIELDS,
    SECRET_FIELDS,
)
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.schema import COLUMNS, DIALECTS, columns, ddl, json_schema, merge


def test_every_field_that_may_be_written_has_a_column_and_a_secret_one_has_none():
    names = [column.name for column in COLUMNS]
    assert not set(names) & {"client_secret", "url"}
    assert {"provided_details", "verified_outputs"} == set(names) - {column.name for column in columns()}
    assert len(set(names)) == len(names) == len(FIELDS) - len(SECRET_FIELDS)


@pytest.mark.skipif(not STRIPE_SPECIFICATION.is_file(), reason="needs Stripe's specification")
def test_the_columns_are_what_stripe_specifies():
    session = json.loads(STRIPE_SPECIFICATION.read_text())["components"]["schemas"]["identity.verification_session"]
    ours = {column.name: column for column in COLUMNS if column.name not in (*EVENT_FIELDS, ACCOUNT_FIELD)}
    assert ours.keys() == session["properties"].keys() - set(SECRET_FIELDS)
    assert {name for name, column in ours.items() if not column.nullable} == set(session["required"])
    names = {"string": "text", "object": "json"}
    for name, column in ours.items():
        described = session["properties"][name]
        # An expandable field is an id as long as it is not expanded; everything else without a type is an object.
        kind = described.get("type") or described.get("anyOf", [{}])[0].get("type", "object")
        assert column.type == names.get(kind, kind), name


@pytest.fixture
def written(server, tmp_path):
    """An export and a day's changes with every field, as files."""
    now = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    server.populate(150, now - timedelta(days=1), now)
    server.create_session(
        created=now - timedelta(hours=2),
        status="verified",
        metadata={"odd": "漢字 \"'\\ \u2028 \t"},
        related_person={"account": "acct_1", "person": "person_1"},
        provided_details={"email": "jenny@example.com", "phone": None},
    )
    files = tmp_path / "export.jsonl", tmp_path / "changes.jsonl"
    arguments = {"task_id": "x", "created_gte": now - timedelta(days=1), "created_lt": now}
    every = {"fields": [*DEFAULT_FIELDS, *PERSONAL_FIELDS], "destination": files[0].as_uri()}
    StripeIdentityToObjectStorageOperator(**arguments, **every).execute({})
    every = {"fields": [*DEFAULT_FIELDS, "provided_details"], "destination": files[1].as_uri()}
    StripeIdentityChangesToObjectStorageOperator(**arguments, **every).execute({})
    return [(file, [json.loads(line) for line in file.read_text("utf-8").split("\n")[:-1]]) for file in files]


def test_every_row_that_is_written_is_valid_against_the_json_schema(written):
    schema = json_schema(fields="all")
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema | {"additionalProperties": False})
    for _, rows in written:
        assert rows
        for row in rows:
            validator.validate(row)


def test_duckdb_loads_what_is_written(written):
    for file, rows in written:
        with duckdb.connect() as warehouse:
            warehouse.execute(ddl("duckdb", "loaded", fields="all"))
            warehouse.execute(f"COPY loaded FROM '{file}' (FORMAT json)")
            table = warehouse.sql("FROM loaded")
            found = [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]
        check(found, rows, decode=json.loads)


def test_postgres_loads_what_is_written(written, postgres):
    for _, rows in written:
        with psycopg.connect(postgres, row_factory=psycopg.rows.dict_row) as warehouse:
            warehouse.execute("CREATE SCHEMA other")
            warehouse.execute(ddl("postgres", "other.loaded", fields="all"))
            for row in rows:
                warehouse.execute(
                    "INSERT INTO other.loaded SELECT * FROM jsonb_populate_record(NULL::other.loaded, %s::jsonb)",
                    [json.dumps(row)],
                )
            check(warehouse.execute("SELECT * FROM other.loaded").fetchall(), rows)
            warehouse.rollback()


def check(found, rows, decode=lambda value: value):
    parsed = {column.name for column in COLUMNS if column.type == "json"}
    wanted = {row["id"]: {column.name: row.get(column.name) for column in COLUMNS} for row in rows}
    for row in found:
        assert row.pop("_as_of") is None
        row.update({name: decode(row[name]) for name in parsed if row[name] is not None})
    assert {row["id"]: row for row in found} == wanted


@pytest.mark.parametrize("dialect", DIALECTS)
def test_fields_choose_the_columns(dialect):
    few = (
        ddl(dialect, "t", fields=["created", "id"]),
        merge(dialect, "t", "staged", as_of=None, fields=["created", "id"]),
    )
    for text in few:
        assert "created" in text
        assert "_event_id" in text
        assert "status" not in text
    assert "verified_outputs" not in ddl(dialect, "t")
    assert "verified_outputs" in ddl(dialect, "t", fields="all")


def test_wrong_arguments_are_refused_by_name():
    with pytest.raises(ValueError, match="dialect must be one of bigquery, duckdb"):
        ddl("oracle", "t")
    with pytest.raises(ValueError, match="fields: .* client_secret"):
        ddl("duckdb", "t", fields=["id", "client_secret"])
    with pytest.raises(ValueError, match="fields: id is missing"):
        ddl("duckdb", "t", fields=["status"])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_merge_of_every_dialect_writes_the_account_of_a_row(dialect):
    """Of one that is new and of one that replaces another, as the dialect itself reads the SQL."""
    assert ACCOUNT_FIELD in {column.name for column in columns(DEFAULT_FIELDS)}
    sql = merge(dialect, "raw.sessions", "raw.staged", as_of=1, fields=DEFAULT_FIELDS)
    statements = [statement for statement in sqlglot.parse(sql, dialect=dialect) if statement]

    def named(*kinds: type[sqlglot.exp.Expression]) -> set[str]:
        found = (part for statement in statements for part in statement.find_all(*kinds))
        return {name.name.lower() for part in found for name in part.find_all(sqlglot.exp.Identifier)}

    assert ACCOUNT_FIELD in named(sqlglot.exp.Insert), "a new row"
    # Redshift deletes the row that is replaced, and inserts the other.
    replaces = named(sqlglot.exp.Update, sqlglot.exp.OnConflict)
    assert ACCOUNT_FIELD in replaces or (dialect == "redshift" and named(sqlglot.exp.Delete)), "a row that is replaced"
    (created,) = sqlglot.parse(ddl(dialect, "raw.sessions", fields=DEFAULT_FIELDS), dialect=dialect)
    assert created is not None
    assert ACCOUNT_FIELD in {column.name.lower() for column in created.find_all(sqlglot.exp.ColumnDef)}
