"""
Snowflake's table and merge on fakesnow. Its COPY does not know MATCH_BY_COLUMN_NAME, so rows are inserted instead.

fakesnow cannot be installed beside Airflow, so this runs without it and without the other tests' fixtures.
"""

from __future__ import annotations

import json

import fakesnow
import pytest
import snowflake.connector

from airflow_provider_stripe_identity.schema import columns, ddl, merge

ROW = {"object": "identity.verification_session", "livemode": False, "type": "document", "created": 3}


@pytest.fixture
def cursor():
    with fakesnow.patch():
        yield snowflake.connector.connect(database="stripe", schema="public").cursor()


@pytest.fixture
def load(cursor):
    """Load rows and merge them."""

    def load(rows: list[dict], as_of: int | None) -> dict:
        cursor.execute("CREATE OR REPLACE TABLE staged LIKE verification_sessions")
        for row in rows:
            values = {column.name: row[column.name] for column in columns() if column.name in row}
            selected = ", ".join(
                f"PARSE_JSON('{json.dumps(value)}')" if isinstance(value, dict) else repr(value)
                for value in values.values()
            )
            cursor.execute(f"INSERT INTO staged ({', '.join(values)}) SELECT {selected}")
        cursor.execute(merge("snowflake", "verification_sessions", "staged", as_of=as_of))
        found = cursor.execute("SELECT id, status, metadata, _as_of FROM verification_sessions").fetchall()
        return {key: (status, json.loads(metadata), as_of) for key, status, metadata, as_of in found}

    cursor.execute(ddl("snowflake", "verification_sessions", fields="all"))
    cursor.execute("DROP TABLE verification_sessions")
    cursor.execute(ddl("snowflake", "verification_sessions"))
    return load


def session(session_id: str, status: str, event_created: int | None = None, **metadata: str) -> dict:
    event = {} if event_created is None else {"_event_created": event_created}
    return {"id": session_id, "status": status, "metadata": metadata, **ROW, **event}


def test_the_row_with_the_greatest_as_of_stays(load):
    assert load([session("vs_1", "requires_input", name="Jenny")], 100) == {
        "vs_1": ("requires_input", {"name": "Jenny"}, 100)
    }
    # An event of the second in which the export was read: it may have come after that.
    events = [session("vs_1", "verified", 100), session("vs_2", "requires_input", 90)]
    table = {"vs_1": ("verified", {}, 101), "vs_2": ("requires_input", {}, 91)}
    assert load(events, None) == table
    assert load([session("vs_1", "processing", 99), session("vs_2", "processing", 89)], None) == table
    assert load([session("vs_1", "requires_input")], 100) == table
    assert load([session("vs_2", "canceled")], 91) == table | {"vs_2": ("canceled", {}, 91)}
    assert load([], 500) == table | {"vs_2": ("canceled", {}, 91)}
