"""
Snowflake's loads and views on fakesnow.

What fakesnow cannot do, the test does for it: it uploads no stream (``PUT``), copies no whole line into a VARIANT
(``COPY``), and has no temporary tables with a database's name. fakesnow cannot be installed beside Airflow, so this
runs without it and without the other tests' fixtures.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace

import fakesnow
import pytest
import snowflake.connector
from support import history

from airflow_provider_stripe_identity._warehouse.errors import LoadError
from airflow_provider_stripe_identity._warehouse.rows import EventRows, SessionRows
from airflow_provider_stripe_identity._warehouse.snowflake import load_into
from airflow_provider_stripe_identity._warehouse.tables import parse_table_name
from airflow_provider_stripe_identity.schema import columns, funnel, timeline

ROW = {"object": "identity.verification_session", "livemode": False, "type": "document", "created": 3}
JSON_COLUMNS = [column.name for column in columns("all") if column.type == "json"]


class Cursor:
    """A cursor of fakesnow, with what it lacks."""

    def __init__(self, cursor) -> None:
        self._cursor = cursor
        self.fetchone, self.fetchall = cursor.fetchone, cursor.fetchall

    def execute(self, statement, values=None, *, file_stream=None):
        if statement.startswith("PUT"):
            self._lines = file_stream.read().decode().splitlines()
        elif statement.startswith("COPY"):
            table, as_of = re.fullmatch(
                r"COPY INTO (\S+) \(line, as_of\) FROM \(SELECT \$1, (\w+) FROM @\S+\) FILE_FORMAT = \(TYPE = JSON\)",
                statement,
            ).groups()
            for line in self._lines:
                text = line.replace("\\", "\\\\").replace("'", "''")
                self._cursor.execute(f"INSERT INTO {table} SELECT PARSE_JSON('{text}'), {as_of}")
        else:
            statement = statement.replace("CREATE TEMPORARY TABLE", "CREATE TABLE")
            self._cursor.execute(statement, *([values] if values else []))


class Lines(list):
    """Rows as the lines of an object."""

    def __init__(self, rows, as_of=None) -> None:
        super().__init__(json.dumps(row).encode() + b"\n" for row in rows)
        self.written = SimpleNamespace(as_of=as_of)


@pytest.fixture
def snowflake_cursor():
    with fakesnow.patch():
        yield snowflake.connector.connect(database="stripe", schema="public").cursor()


@pytest.fixture
def load(snowflake_cursor):
    """Load rows into a table; return those inserted and those replaced."""

    def load(table, rows, objects, as_of=None):
        name = parse_table_name("snowflake", table)
        place, *counts = load_into(Cursor(snowflake_cursor), name, rows, [Lines(loaded, as_of) for loaded in objects])  # type: ignore[misc]
        assert place.parts == ("STRIPE", *name.parts)
        return tuple(map(int, counts))

    return load


@pytest.fixture
def rows(snowflake_cursor):
    """Return the rows of a table or view."""

    def rows(name: str) -> list[dict]:
        snowflake_cursor.execute(f"SELECT * FROM {name}")
        names = [column[0].lower() for column in snowflake_cursor.description]
        found = [dict(zip(names, values, strict=True)) for values in snowflake_cursor.fetchall()]
        for row in found:
            row.update({key: json.loads(row[key]) for key in JSON_COLUMNS if row.get(key) is not None})
            row.update({key: at.replace(tzinfo=UTC) for key, at in row.items() if isinstance(at, datetime)})
        return found

    return rows


def session(session_id: str, status: str, event_created: int | None = None, **metadata: str) -> dict:
    event = {} if event_created is None else {"_event_created": event_created}
    return {"id": session_id, "status": status, "metadata": metadata, **ROW, **event}


def test_the_row_with_the_greatest_as_of_stays(load, rows):
    def merged(sessions: list[dict], as_of: int | None) -> dict:
        load("raw.sessions", SessionRows(), [sessions], as_of)
        return {row["id"]: (row["status"], row["metadata"], row["_as_of"]) for row in rows("raw.sessions")}

    name = "Jenny 漢字 \"'\\ \u2028"
    assert merged([session("vs_1", "requires_input", name=name)], 100) == {
        "vs_1": ("requires_input", {"name": name}, 100)
    }
    # An event of the second in which the export was read: it may have come after that.
    events = [session("vs_1", "verified", 100), session("vs_2", "requires_input", 90)]
    table: dict[str, tuple] = {"vs_1": ("verified", {}, 101), "vs_2": ("requires_input", {}, 91)}
    assert merged(events, None) == table
    assert merged([session("vs_1", "processing", 99), session("vs_2", "processing", 89)], None) == table
    assert merged([session("vs_1", "requires_input")], 100) == table
    assert merged([session("vs_2", "canceled")], 91) == table | {"vs_2": ("canceled", {}, 91)}
    assert merged([], 500) == table | {"vs_2": ("canceled", {}, 91)}


def test_tables_grow_and_the_result_counts(load, rows):
    first = session("vs_1", "processing")
    assert load("raw.sessions", SessionRows(), [[first, session("vs_2", "processing")]], 100) == (2, 0)
    wider = SessionRows("all", {"Exported at": "text", "number": "integer"})
    second = [first | {"Exported at": "today", "number": 7, "provided_details": {"email": "jenny@example.com"}}]
    assert load("raw.sessions", wider, [second, [session("vs_3", "processing")]], 101) == (1, 1)
    found = {row["id"]: row for row in rows("raw.sessions")}
    assert {name: (row["exported at"], row["number"], row["provided_details"]) for name, row in found.items()} == {
        "vs_1": ("today", 7, {"email": "jenny@example.com"}),
        "vs_2": (None, None, None),
        "vs_3": (None, None, None),
    }


def test_a_table_that_does_not_fit_is_refused(load, snowflake_cursor):
    snowflake_cursor.execute("CREATE TABLE public.mine (id VARCHAR, status BIGINT, metadata VARCHAR)")
    with pytest.raises(
        LoadError, match=r"column status is NUMBER and not TEXT; column metadata is TEXT and not VARIANT"
    ):
        load("public.mine", SessionRows(), [[session("vs_1", "processing")]], 100)


def test_the_history_is_the_log_and_the_views_are_what_it_says(load, rows, snowflake_cursor):
    objects = history.example()
    for number, loaded in enumerate(objects, 1):
        before = len(rows("raw.history")) if number > 1 else 0
        inserted, _ = load("raw.history", EventRows(history.FIELDS), [loaded])
        found = rows("raw.history")
        kept = {row["_event_id"]: row for row in found}
        assert (len(kept), kept) == (len(found), history.table(objects[:number]))
        assert inserted == len(found) - before
    snowflake_cursor.execute(f"CREATE VIEW raw.timeline AS {timeline('snowflake', 'raw.history')}")
    snowflake_cursor.execute(f"CREATE VIEW raw.funnel AS {funnel('snowflake', 'raw.timeline')}")
    assert {row["id"]: row for row in rows("raw.timeline")} == history.timeline(kept.values())
    days = sorted(rows("raw.funnel"), key=lambda day: (day["day"], day["type"]))
    for day in days:
        attempts = day["attempts_per_verified_session"]
        day["attempts_per_verified_session"] = attempts and float(attempts)
    assert days == history.funnel(kept.values())
