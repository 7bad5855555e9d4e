"""The history after a simulated month of runs: the table is Stripe's log of events, the views are what it says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import duckdb
import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from support import history

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.operators import (
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToWarehouseOperator,
)
from airflow_provider_stripe_identity.schema import events, funnel, timeline
from airflow_provider_stripe_identity.testing import EmulatorError, StripeIdentityServer

DAY = 86400
DAYS = 28
#: Stripe keeps events for 30 days, so the month is the last one.
MONTH = int(datetime.now(UTC).timestamp()) // DAY * DAY - DAYS * DAY
FIELDS = [*DEFAULT_FIELDS, "provided_details"]
COLUMNS = [column.name for column in events.columns(FIELDS)]
JSON_COLUMNS = [column.name for column in events.columns(FIELDS) if column.type == "json"]
MARK = "jenny"

seconds = st.builds(
    lambda day, second: MONTH + day * DAY + second,
    st.sampled_from([0, 1, 2, 14, DAYS - 3, DAYS - 2]),
    st.sampled_from([0, 1, 60, 601, DAY // 2, DAY - 1]),
)
deeds = st.tuples(
    st.sampled_from(["create", "create", "process", "process", "verify", "require_input", "cancel", "redact"]),
    st.integers(0, 5),
)


@st.composite
def months(draw):
    """What happens in a month and which days are read when, in their order; and whether the other days are lost."""
    story = [(at, "happens", deed) for at, deed in draw(st.lists(st.tuples(seconds, deeds), min_size=5, max_size=30))]
    days = sorted({(at - MONTH) // DAY for at, *_ in story})
    for day in days:
        for delay in draw(st.lists(st.sampled_from([0, DAY // 2, DAY, 9 * DAY]), max_size=2)):
            story.append((MONTH + (day + 1) * DAY + 60 + delay, "read", (day, draw(st.booleans()))))
    story = [step for step in draw(st.permutations(story)) if step[0] < MONTH + DAYS * DAY]
    return sorted(story, key=lambda step: step[0]), draw(st.permutations(days)), draw(st.booleans())


class Runs:
    """A server whose clock the test sets, and the two tasks of the history into two warehouses."""

    def __init__(self, folder: Path, postgres: str, server: StripeIdentityServer, clock: SimpleNamespace) -> None:
        self.lake, self.file, self.postgres = folder / "lake", folder / "warehouse.duckdb", postgres
        self.server, self.clock = server, clock
        self.windows: list[range] = []
        self.file.unlink(missing_ok=True)
        with psycopg.connect(postgres) as warehouse:
            warehouse.execute("DROP TABLE IF EXISTS history CASCADE")

    def happens(self, what: str, which: int) -> None:
        ids = sorted(session["id"] for session in self.server.sessions())
        if what == "create" or not ids:
            self.server.create_session(
                client_reference_id=f"user_{which}",
                type="id_number" if which == 0 else "document",
                metadata={"name": f"{MARK} 漢字 \"'\\ \u2028"},
                provided_details={"email": f"{MARK}@example.com", "phone": None},
            )
            return
        with suppress(EmulatorError):
            getattr(self.server, what)(ids[which % len(ids)])

    def read(self, day: int) -> dict:
        start = MONTH + day * DAY
        return StripeIdentityEventsToObjectStorageOperator(
            task_id="events",
            destination=(self.lake / f"{day}.jsonl.gz").as_uri(),
            created_gte=start,
            created_lt=start + DAY,
            fields=FIELDS,
        ).execute({})

    def load(self, written: dict) -> None:
        self.windows.append(range(written["created_gte"], written["created_lt"]))
        for conn_id in ("duckdb_default", "postgres_default"):
            loaded = StripeIdentityToWarehouseOperator(
                task_id="load", written=written, warehouse_conn_id=conn_id, table="history", fields=FIELDS
            ).execute({})
            assert loaded["staged"] == written["events"]

    def log(self) -> dict[str, dict]:
        """What Stripe has of the windows that were loaded, as rows; redacted sessions without what redaction erases."""
        found = {}
        for event in StripeIdentityHook().list_events(types=EVENT_TYPES):
            if any(event["created"] in window for window in self.windows):
                row = {"_event_id": event["id"], "_event_type": event["type"], "_event_created": event["created"]}
                row |= {name: event["data"]["object"].get(name) for name in FIELDS}
                row["_stripe_account"] = None
                found[event["id"]] = row
        redacted = {row["id"] for row in found.values() if history.what(row) == "redacted"}
        for row in found.values():
            if row["id"] in redacted:
                row.update(metadata={}, provided_details=None, redaction={"status": "redacted"})
        return found

    def tables(self) -> Iterator[dict[str, list[dict]]]:
        """The table and its views, in each warehouse."""
        views = {dialect: _views(dialect) for dialect in ("duckdb", "postgres")}
        with duckdb.connect(str(self.file)) as warehouse:
            for statement in views["duckdb"]:
                warehouse.execute(statement)
            in_duckdb = {}
            for name in ("history", "timeline", "funnel"):
                found = warehouse.sql(f"FROM {name}")
                in_duckdb[name] = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        for rows in in_duckdb.values():
            for row in rows:
                row.update({name: json.loads(row[name]) for name in JSON_COLUMNS if row.get(name) is not None})
                row.update({key: at.replace(tzinfo=UTC) for key, at in row.items() if isinstance(at, datetime)})
        yield in_duckdb
        with psycopg.connect(self.postgres, row_factory=dict_row) as warehouse:
            for statement in views["postgres"]:
                warehouse.execute(statement)
            yield {
                name: warehouse.execute(f"SELECT * FROM {name}").fetchall()
                for name in ("history", "timeline", "funnel")
            }


def _views(dialect: str) -> tuple[str, str]:
    return (
        f"CREATE OR REPLACE VIEW timeline AS {timeline(dialect, 'history')}",
        f"CREATE OR REPLACE VIEW funnel AS {funnel(dialect, 'timeline')}",
    )


def approximately(days: list[dict]) -> list[dict]:
    """The one column that is no whole number, as something that two ways to compute it agree on."""
    for day in days:
        attempts = day["attempts_per_verified_session"]
        day["attempts_per_verified_session"] = None if attempts is None else round(float(attempts), 6)
    return sorted(days, key=lambda day: (day["day"], day["type"]))


@given(months())
@settings(max_examples=12, deadline=None, phases=set(Phase) - {Phase.explain})
@pytest.mark.timeout(600)  # for the search of the smallest month, when one fails
def test_after_any_month_the_history_is_stripes_log_and_the_views_are_what_it_says(postgres, month):
    story, days, lost = month
    clock = SimpleNamespace(now=MONTH)
    memory = Path("/dev/shm")
    with (
        StripeIdentityServer(clock=lambda: clock.now) as server,
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        runs = Runs(Path(folder), postgres, server, clock)
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        patch.setenv("AIRFLOW_CONN_DUCKDB_DEFAULT", json.dumps({"conn_type": "duckdb", "host": str(runs.file)}))
        patch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres)
        late = []
        for clock.now, step, (what, how) in story:
            if step == "happens":
                runs.happens(what, how)
            elif how:
                late.append((what, runs.read(what)))
            else:
                runs.load(runs.read(what))
        clock.now = MONTH + DAYS * DAY + 60
        # What was read before a redaction may be loaded after it, unless the day's object has been replaced since.
        for _, written in late:
            if written["uri"] not in {runs_again["uri"] for _, runs_again in late if runs_again is not written}:
                runs.load(dict(written, events=_lines(written["uri"])))
        for day in days[: len(days) // 2] if lost else days:
            runs.load(runs.read(day))
        if not runs.windows:
            runs.load(runs.read(days[0]))
        log = runs.log()
        for found in runs.tables():
            rows = {row["_event_id"]: {name: row[name] for name in COLUMNS} for row in found["history"]}
            assert len(rows) == len(found["history"])
            known = {row["id"] for row in log.values() if history.what(row) == "redacted"}
            gone = {session["id"] for session in server.sessions() if session["redaction"]} - known
            for row in [*rows.values(), *log.values()]:
                if row["id"] in gone:  # its redaction is in a day that was lost
                    row.update(metadata=None, provided_details=None, redaction=None)
            assert rows == log
            assert all(MARK not in str(row) for row in rows.values() if row["id"] in known)
            assert {row["id"]: row for row in found["timeline"]} == history.timeline(log.values())
            assert approximately(found["funnel"]) == approximately(history.funnel(log.values()))


def _lines(uri: str) -> int:
    import gzip

    return len(gzip.decompress(Path(uri.removeprefix("file://")).read_bytes()).splitlines())
