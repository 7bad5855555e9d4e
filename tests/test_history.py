"""The table of events and the views over it, in DuckDB and in PostgreSQL, against plain Python."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import duckdb
import psycopg
import pytest
import sqlglot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from support import history
from support.history import DAY, FIELDS, START, erased, row
from support.pages import blocks

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity.schema import DIALECTS, events, funnel, timeline

JSON_COLUMNS = [column.name for column in events.columns(FIELDS) if column.type == "json"]


class DuckDB:
    def __init__(self, file) -> None:
        self.connection = duckdb.connect()
        self.file = file
        self.begin()

    def begin(self) -> None:
        for view in ("funnel", "timeline"):
            self.connection.execute(f"DROP VIEW IF EXISTS {view}")
        self.connection.execute("DROP TABLE IF EXISTS history")
        self.connection.execute(events.ddl("duckdb", "history", fields=FIELDS))
        self.connection.execute(f"CREATE VIEW timeline AS {timeline('duckdb', 'history')}")
        self.connection.execute(f"CREATE VIEW funnel AS {funnel('duckdb', 'timeline')}")

    def load(self, rows: list[dict]) -> None:
        self.file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.connection.execute("CREATE OR REPLACE TEMP TABLE staged AS FROM history LIMIT 0")
        self.connection.execute(f"COPY staged FROM '{self.file}' (FORMAT json)")
        self.connection.execute(events.merge("duckdb", "history", "staged", fields=FIELDS))

    def rows(self, name: str) -> list[dict]:
        found = self.connection.sql(f"FROM {name}")
        rows = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        for one in rows:
            one.update({column: json.loads(one[column]) for column in JSON_COLUMNS if one.get(column) is not None})
            one.update({key: value.replace(tzinfo=UTC) for key, value in one.items() if isinstance(value, datetime)})
        return rows


class Postgres:
    def __init__(self, uri: str) -> None:
        # A server whose days are not those of UTC.
        self.connection = psycopg.connect(uri, autocommit=True, row_factory=dict_row, options="-c timezone=Asia/Tokyo")
        self.begin()

    def begin(self) -> None:
        self.connection.execute("DROP SCHEMA IF EXISTS raw CASCADE; CREATE SCHEMA raw")
        self.connection.execute(events.ddl("postgres", "raw.history", fields=FIELDS))
        self.connection.execute(f"CREATE VIEW raw.timeline AS {timeline('postgres', 'raw.history')}")
        self.connection.execute(f"CREATE VIEW raw.funnel AS {funnel('postgres', 'raw.timeline')}")

    def load(self, rows: list[dict]) -> None:
        self.connection.execute("CREATE TEMP TABLE IF NOT EXISTS staged (line JSONB)")
        self.connection.execute("TRUNCATE staged")
        self.connection.cursor().executemany("INSERT INTO staged VALUES (%s)", [[json.dumps(row)] for row in rows])
        found = "(SELECT found.* FROM staged, jsonb_populate_record(NULL::raw.history, line) AS found)"
        self.connection.execute(events.merge("postgres", "raw.history", found, fields=FIELDS))

    def rows(self, name: str) -> list[dict]:
        return self.connection.execute(f"SELECT * FROM raw.{name}").fetchall()


@pytest.fixture(scope="module")
def warehouses(postgres, tmp_path_factory):
    found = DuckDB(tmp_path_factory.mktemp("history") / "staged.jsonl"), Postgres(postgres)
    yield found
    for warehouse in found:
        warehouse.connection.close()


def by_id(rows: list[dict]) -> dict[str, dict]:
    found = {row["_event_id"]: row for row in rows}
    assert len(found) == len(rows)
    return found


def check_views(warehouse, kept: list[dict]) -> None:
    assert {found["id"]: found for found in warehouse.rows("timeline")} == history.timeline(kept)
    found = sorted(warehouse.rows("funnel"), key=lambda day: (day["day"], day["type"]))
    wanted = history.funnel(kept)
    for days in (found, wanted):
        for day in days:
            attempts = day.pop("attempts_per_verified_session")
            day["attempts"] = attempts and pytest.approx(float(attempts))
    assert found == wanted


@st.composite
def logs(draw):
    """The events of a few sessions, with some missing; and the objects that they come in, which may overlap."""
    log: list[dict] = []
    for session in range(draw(st.integers(1, 4))):
        created = START + draw(st.sampled_from([-1, 0, DAY - 1]))
        kind = draw(st.sampled_from(["document", "id_number"]))
        kinds = ["created", "processing", "processing", "requires_input", "verified", "canceled", "redacted"]
        for what in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=8)):
            second = created - START + draw(st.sampled_from([0, 1, 600, 601, 3600, DAY, DAY + 1]))
            report = draw(st.sampled_from([None, "vr_1"]))
            number = draw(st.integers(0, 9)) * 100 + len(log)  # ids are in no order
            fields = {"created": created, "type": kind, "last_verification_report": report}
            log.append(row(number, session, what, second, **fields))
    objects = draw(st.lists(st.lists(st.sampled_from(log)), max_size=6))
    return [*objects, log] if draw(st.booleans()) else objects


@given(logs())
@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_table_and_views_after_any_loads(warehouses, objects):
    for warehouse in warehouses:
        warehouse.begin()
        for number, rows in enumerate(objects, 1):
            warehouse.load(rows)
            assert by_id(warehouse.rows("history")) == history.table(objects[:number])
        check_views(warehouse, list(history.table(objects).values()))


def test_the_example_for_other_warehouses(warehouses):
    """They are asked the same in tests/warehouses, on emulators."""
    for warehouse in warehouses:
        warehouse.begin()
        for rows in history.example():
            warehouse.load(rows)
        check_views(warehouse, list(history.table(history.example()).values()))


def attempts_of(warehouses, *rows: dict) -> tuple:
    found = []
    for warehouse in warehouses:
        warehouse.begin()
        warehouse.load(list(rows))
        (session,) = warehouse.rows("timeline")
        found.append((session["attempts"], session["seconds_to_verdict"], session["last_status"]))
    assert found[0] == found[1]
    return found[0]


def test_an_attempt_is_a_submission_with_its_verdict_or_a_verdict_of_its_own(warehouses):
    created, submitted, failed = row(1, 1, "created", 0), row(2, 1, "processing", 60), row(3, 1, "requires_input", 90)
    assert attempts_of(warehouses, created) == (0, None, "requires_input")
    assert attempts_of(warehouses, created, submitted) == (1, None, "processing")
    assert attempts_of(warehouses, created, submitted, failed) == (1, 30, "requires_input")
    assert attempts_of(warehouses, submitted, failed) == (1, 30, "requires_input")
    assert attempts_of(warehouses, created, failed) == (1, None, "requires_input"), "consent declined, say"
    again = row(4, 1, "processing", 95)
    assert attempts_of(warehouses, created, submitted, failed, again) == (2, None, "processing")
    verified = row(5, 1, "verified", 99)
    assert attempts_of(warehouses, created, submitted, failed, again, verified) == (2, 4, "verified")
    assert attempts_of(warehouses, submitted, again, verified) == (2, 4, "verified"), "a verdict is missing"
    assert attempts_of(warehouses, created, row(4, 1, "canceled", 9)) == (0, None, "canceled")


def test_the_lifecycle_orders_the_events_of_one_second(warehouses):
    """Whatever their ids, and in whatever order they are loaded."""
    kinds = ("verified", "processing", "requires_input", "processing", "created")
    rows = [row(number, 1, what, 0) for number, what in enumerate(kinds)]
    assert attempts_of(warehouses, *rows) == (2, 0, "verified")
    redacted = row(0, 1, "redacted", 0), row(1, 1, "canceled", 0, status="canceled"), row(2, 1, "created", 0)
    assert attempts_of(warehouses, *redacted) == (0, None, "canceled")


def test_median_and_90th_percentile_are_times_within_which_so_many_were_verified(warehouses):
    seconds = [600, 601, 3600, 3601, 5000, 86400, 86401, 90_000, 91_000, 92_000]
    log = [row(number, number, "created", 0) for number in range(12)]
    log += [row(100 + number, number, "verified", second) for number, second in enumerate(seconds)]
    for warehouse in warehouses:
        warehouse.begin()
        warehouse.load(log)
        (day,) = warehouse.rows("funnel")
        assert (day["created"], day["verified"], day["still_open"]) == (12, 10, 2)
        within = [day[f"verified_within_{time}"] for time in ("10_minutes", "1_hour", "1_day")]
        assert within == [1, 3, 6]
        assert (day["median_seconds_to_verified"], day["p90_seconds_to_verified"]) == (5000, 91_000)


def test_a_snapshot_that_says_so_is_as_good_as_the_event_of_a_redaction(warehouses):
    """Stripe redacts its events too, so a window that is read again may know of what its first reading did not."""
    before, again = row(1, 1, "created", 0), row(2, 1, "verified", 9, metadata={}, redaction={"status": "redacted"})
    other = row(3, 2, "created", 0, redaction={"status": "processing"})
    for warehouse in warehouses:
        for objects in ([[before, other], [again]], [[again, other], [before]]):
            warehouse.begin()
            for rows in objects:
                warehouse.load(rows)
            assert by_id(warehouse.rows("history")) == by_id([erased(before), erased(again), other])


def test_merging_again_writes_nothing(warehouses):
    """Not even the same values: PostgreSQL would keep a dead row of each."""
    _, warehouse = warehouses
    warehouse.begin()
    rows = [row(1, 1, "created", 0), row(2, 1, "redacted", 5), row(3, 2, "created", 0)]
    versions = "SELECT _event_id, xmin::text FROM raw.history ORDER BY 1"
    warehouse.load(rows)
    before = warehouse.connection.execute(versions).fetchall()
    warehouse.load(rows)
    assert warehouse.connection.execute(versions).fetchall() == before


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_sql_of_every_dialect_parses(dialect):
    kinds = {
        "duckdb": ["Insert"],
        "postgres": ["Insert"],
        "redshift": ["Transaction", "Command", "Insert", "Update", "Commit"],
    }
    for fields in (["id"], ["id", "metadata"], DEFAULT_FIELDS, "all"):
        sql = events.merge(dialect, "raw.history", "raw.staged", fields=fields)
        assert parsed(dialect, sql) == kinds.get(dialect, ["Merge"])
        assert parsed(dialect, events.ddl(dialect, "raw.history", fields=fields)) == ["Create"]
    for query in (timeline(dialect, "raw.history"), funnel(dialect, "raw.timeline")):
        assert parsed(dialect, query) == ["Select"]
        assert parsed(dialect, f"CREATE OR REPLACE VIEW raw.x AS {query}") == ["Create"]


def parsed(dialect: str, sql: str) -> list[str]:
    return [type(statement).__name__ for statement in sqlglot.parse(sql, dialect=dialect) if statement]


@pytest.mark.parametrize("function", [events.ddl, timeline, funnel])
def test_an_unknown_dialect_is_refused(function):
    with pytest.raises(ValueError, match="dialect must be one of bigquery"):
        function("oracle", "t")


def test_fields_without_anything_that_redaction_reaches(tmp_path):
    with duckdb.connect() as warehouse:
        warehouse.execute(events.ddl("duckdb", "history", fields=["id", "status"]))
        values = "('evt_1', 'identity.verification_session.redacted', 5, 'vs_1', 'canceled', NULL)"
        names = "_event_id, _event_type, _event_created, id, status, _stripe_account"
        for _ in range(2):
            warehouse.execute(
                events.merge(
                    "duckdb",
                    "history",
                    f"(SELECT * FROM (VALUES {values}) AS t({names}))",
                    fields=["id", "status"],
                )
            )
        assert len(warehouse.sql("FROM history").fetchall()) == 1


def test_the_questions_of_the_page_are_answered(tmp_path):
    """As DuckDB reads them, from views of the names that the command line gives them."""
    questions = [part for block in blocks("sql", "docs/history.md") for part in block.text.split(";") if part.strip()]
    assert len(questions) == 3
    warehouse = DuckDB(tmp_path / "staged.jsonl")
    seconds = {"created": 0, "processing": 30, "requires_input": 60, "verified": 90}
    warehouse.load([row(number, 1, what, second) for number, (what, second) in enumerate(seconds.items())])
    for name in ("timeline", "funnel"):
        warehouse.connection.execute(f"CREATE VIEW verification_session_{name} AS FROM {name}")
    first, failures, days = (warehouse.connection.sql(question).fetchall() for question in questions)
    assert first == [(2, 1, 1.5)]
    assert failures == [("code_2", "verified", 1)]
    assert days == [(datetime(2026, 1, 1, tzinfo=UTC).date(), 1, 1, 1, 1, 90, 2.0)]
    warehouse.connection.close()
