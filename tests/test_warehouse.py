"""A warehouse table ends up equal to Stripe, whatever happens to the runs that keep it."""

from __future__ import annotations

import gzip
import itertools
import json
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import psycopg
import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from support.airflow_versions import postgres_hook_with_psycopg_3
from support.clocked_emulator import ClockedEmulator
from support.warehouse_steps import example, execute

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.schema import columns
from airflow_provider_stripe_identity.testing import EmulatorError, StripeIdentityServer

pytestmark = postgres_hook_with_psycopg_3

DAY = 86400
DAYS = 28
#: Stripe keeps events for 30 days, so the month is the last one.
MONTH = int(datetime.now(UTC).timestamp()) // DAY * DAY - DAYS * DAY
JSON_COLUMNS = [column.name for column in columns() if column.type == "json"]


@pytest.fixture(scope="module")
def recipes(postgres):
    """What the example DAGs for DuckDB and PostgreSQL do, on tables of their own."""
    memory = Path("/dev/shm")  # hundreds of commits that need not wait for a disk
    with (
        tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        lake, file = Path(folder) / "lake", Path(folder) / "warehouse.duckdb"
        patch.setenv("STRIPE_IDENTITY_LAKE", lake.as_uri())
        patch.setenv("AIRFLOW_CONN_DUCKDB_DEFAULT", json.dumps({"conn_type": "duckdb", "host": str(file)}))
        patch.setenv("AIRFLOW_CONN_POSTGRES_DEFAULT", postgres)
        yield Recipes(lake, file, postgres)


class Recipes:
    def __init__(self, lake: Path, file: Path, postgres: str) -> None:
        self.lake, self.file, self.postgres = lake, file, postgres
        self._to_duckdb = example("stripe_identity_to_duckdb").stripe_identity_to_duckdb()
        self._to_postgres = example("stripe_identity_to_postgres").stripe_identity_to_postgres()
        self._exports = itertools.count()

    def begin(self) -> None:
        """Start without objects and without rows."""
        shutil.rmtree(self.lake, ignore_errors=True)
        self.file.unlink(missing_ok=True)
        with psycopg.connect(self.postgres) as warehouse:
            warehouse.execute("DROP TABLE IF EXISTS verification_sessions")

    def changes(self, start: int, **replaced) -> dict:
        """Write the changes of the day that begins then, as the daily DAGs do."""
        context = {
            "data_interval_start": datetime.fromtimestamp(start, UTC),
            "data_interval_end": datetime.fromtimestamp(start + DAY, UTC),
        }
        return execute(self._to_duckdb.get_task("changes"), context, **replaced)

    def export(self, start: int, end: int, **arguments) -> dict:
        """Export what was created in a window."""
        destination = (self.lake / f"export-{next(self._exports)}.jsonl.gz").as_uri()
        return StripeIdentityToObjectStorageOperator(
            task_id="export", created_gte=start, created_lt=end, destination=destination, **arguments
        ).execute({})

    def merge(self, written: dict) -> None:
        """Merge an object into both tables, as the daily DAGs do."""
        for dag in (self._to_duckdb, self._to_postgres):
            execute(dag.get_task("load"), {}, written=written)

    def tables(self) -> list[dict[str, dict]]:
        """The rows by id, in DuckDB and in PostgreSQL."""
        with duckdb.connect(str(self.file)) as warehouse:
            found = warehouse.sql("FROM verification_sessions")
            in_duckdb = [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
        for row in in_duckdb:
            row.update({name: json.loads(row[name]) for name in JSON_COLUMNS if row[name] is not None})
        with psycopg.connect(self.postgres, row_factory=dict_row) as warehouse:
            in_postgres = warehouse.execute("SELECT * FROM verification_sessions").fetchall()
        return [{row["id"]: row for row in rows} for rows in (in_duckdb, in_postgres)]


class Stripe(ClockedEmulator):
    """Something may happen right after a request was answered."""

    def __init__(self) -> None:
        super().__init__(MONTH)
        self.meanwhile: list = []
        self.after_answer = self.go_on
        self.failed: set[tuple[str, int]] = set()

    def go_on(self, request, response) -> None:
        while self.meanwhile:
            self.happens(*self.meanwhile.pop())

    def happens(self, what: str, which: int) -> None:
        """Do something to one of the sessions, if it can be done in its state."""
        ids = sorted((session["id"] for session in self.sessions()), key=str)
        if what == "create" or not ids:
            self.create_session(
                client_reference_id=f"user_{which}",
                metadata={"order": f"{which} 漢字 \"'\\ \u2028"},
                provided_details={"email": "jenny@example.com", "phone": None},
            )
            return
        with suppress(EmulatorError):
            if what == "update":  # of which Stripe makes no event
                self.update_session(ids[which % len(ids)], metadata={"updated": f"{self.now} {len(self.requests)}"})
                return
            session_id = ids[which % len(ids)]
            # Nobody tries again in the second of a failure: the events could not tell that from the failure of a try.
            if what != "process" or (session_id, self.now) not in self.failed:
                getattr(self, what)(session_id)
                if what == "require_input":
                    self.failed.add((session_id, self.now))


def expected(server: StripeIdentityServer) -> dict[str, dict]:
    return {session["id"]: {name: session.get(name) for name in DEFAULT_FIELDS} for session in server.sessions()}


def stripes_part(table: dict[str, dict]) -> dict[str, dict]:
    return {row_id: {name: row[name] for name in DEFAULT_FIELDS} for row_id, row in table.items()}


# Few seconds of each day, so that much falls into the same one, and onto both sides of midnight.
seconds = st.builds(
    lambda day, second: MONTH + day * DAY + second,
    st.integers(0, DAYS - 1),
    st.sampled_from([0, 1, 2, 30, 31, DAY // 2, DAY // 2 + 1, DAY - 1]),
)
deeds = st.tuples(
    st.sampled_from(["create", "create", "process", "verify", "verify", "require_input", "cancel", "redact", "update"]),
    st.integers(0, 7),
)
settles = st.sampled_from([timedelta(0), timedelta(seconds=30)])
how = st.fixed_dictionaries({"meanwhile": st.lists(deeds, max_size=2), "merged_late": st.booleans(), "settle": settles})


@st.composite
def months(draw):
    """
    What happens in a month and which runs there are, in their order; the days that are run again after it; whether all
    runs refetch; whether some days are lost.
    """
    story = [(at, "happens", deed) for at, deed in draw(st.lists(st.tuples(seconds, deeds), min_size=4, max_size=30))]
    days = {(at - MONTH) // DAY for at, *_ in story}
    refetch = draw(st.booleans())
    for day in sorted(days):
        end = MONTH + (day + 1) * DAY
        for delay in draw(st.lists(st.sampled_from([2, 3, DAY // 2, DAY, 9 * DAY]), max_size=2)):
            run = draw(how) | {"start": end - DAY, "refetch": refetch}
            story.append((end + int(run["settle"].total_seconds()) + delay, "changes", run))
    for at in draw(st.lists(seconds, max_size=4)):
        run = draw(how) | {"start": MONTH}
        story.append((at, "export", run | {"end": at - 2 - int(run["settle"].total_seconds())}))
    story = [step for step in draw(st.permutations(story)) if MONTH + 32 < step[0] < MONTH + DAYS * DAY]
    # What happens while a run reads belongs to the day of the run, which may have none of its own.
    days |= {(at - MONTH) // DAY for at, *_ in story}
    return sorted(story, key=lambda step: step[0]), draw(st.permutations(sorted(days))), refetch, draw(st.booleans())


@given(months())
@settings(max_examples=15, deadline=None, phases=set(Phase) - {Phase.explain})
@pytest.mark.timeout(600)  # for the search of the smallest month, when one fails
def test_after_any_month_the_tables_equal_stripe(recipes, month):
    story, days, refetch, lost = month
    recipes.begin()
    late = []
    with Stripe() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        for at, step, arguments in story:
            server.now = at
            if step == "happens":
                server.happens(*arguments)
                continue
            arguments = dict(arguments)
            server.meanwhile, merged_late = list(arguments.pop("meanwhile")), arguments.pop("merged_late")
            written = getattr(recipes, step)(**arguments)
            server.meanwhile = []
            if merged_late:
                late.append(written)
            else:
                recipes.merge(written)
        server.now = MONTH + DAYS * DAY + 60
        if lost:
            # Some days are never read any more. Exports of all sessions make up for them.
            event("lost")
            for weeks in range(4):
                start = MONTH + weeks * 7 * DAY
                recipes.merge(recipes.export(start, start + 7 * DAY))
            days = days[: len(days) // 2]
        for day in days:
            recipes.merge(recipes.changes(MONTH + day * DAY, refetch=refetch))
        for written in late:
            recipes.merge(written)
        for table in recipes.tables():
            rows, truth = stripes_part(table), expected(server)
            if not lost:
                # Only the exports at the end have seen the last updates: Stripe emits no event of them.
                for row in (*rows.values(), *truth.values()):
                    del row["metadata"]
            assert rows == truth


@pytest.fixture
def stripe(monkeypatch):
    with Stripe() as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


def test_an_event_of_the_second_in_which_an_export_was_read_wins(recipes, stripe, tmp_path):
    """The export may have been read before it."""
    stripe.create_session()
    (row,) = expected(stripe).values()
    event_columns = {"_event_id": "evt_1", "_event_type": "x", "_event_created": MONTH}
    objects = []
    for number, line in enumerate([row, row | {"status": "verified"} | event_columns]):
        file = tmp_path / f"{number}.jsonl.gz"
        file.write_bytes(gzip.compress(json.dumps(line).encode() + b"\n"))
        objects.append({"uri": file.as_uri(), "as_of": [MONTH, None][number]})
    for order in (objects, objects[::-1], objects * 2):
        recipes.begin()
        for written in order:
            recipes.merge(written)
        assert [table[row["id"]]["status"] for table in recipes.tables()] == ["verified", "verified"]


def test_a_late_export_of_old_sessions_is_newer_than_their_events(recipes, stripe):
    """As of when it was read: the window has nothing to do with it."""
    recipes.begin()
    session = stripe.create_session(metadata={"name": "Jenny"})["id"]
    stripe.now = MONTH + 2 * DAY
    stripe.process(session)
    stripe.now += 3 * DAY
    recipes.merge(recipes.changes(MONTH + 2 * DAY))
    stripe.update_session(session, metadata={"name": "Zoë"})  # of which Stripe makes no event
    recipes.merge(recipes.export(MONTH, MONTH + DAY))
    recipes.merge(recipes.changes(MONTH + 2 * DAY))
    for table in recipes.tables():
        assert stripes_part(table) == expected(stripe)


def test_redaction_reaches_the_tables(recipes, stripe):
    recipes.begin()
    session = stripe.create_session(metadata={"name": "Jenny Rosen"})["id"]
    stripe.verify(session)
    stripe.now += DAY + 60
    before = recipes.changes(MONTH)
    recipes.merge(before)
    assert "Jenny" in str(recipes.tables())
    stripe.redact(session)
    stripe.now += DAY
    recipes.merge(recipes.changes(MONTH + DAY))
    recipes.merge(before)
    assert "Jenny" not in str(recipes.tables())
    assert [table[session]["redaction"] for table in recipes.tables()] == [{"status": "redacted"}] * 2
    # What is left of it in the lake goes when the day is written again: Stripe has redacted its events too.
    object_of_the_day = Path(before["uri"].removeprefix("file://"))
    recipes.changes(MONTH)
    assert b"Jenny" not in gzip.decompress(object_of_the_day.read_bytes())


def test_a_day_that_is_read_again_after_a_redaction_replaces_its_own_rows(recipes, stripe):
    """The events are the same ones, but Stripe has redacted them."""
    recipes.begin()
    session = stripe.create_session(metadata={"name": "Jenny Rosen"})["id"]
    stripe.verify(session)
    stripe.now += DAY + 60
    recipes.merge(recipes.changes(MONTH))
    stripe.redact(session)
    recipes.merge(recipes.changes(MONTH))
    assert "Jenny" not in str(recipes.tables())


def test_looking_back_does_without_events(recipes, stripe):
    recipes.begin()
    stripe.api_keys[stripe.api_key] = {"verification_sessions"}
    for day in range(5):
        stripe.now = MONTH + day * DAY + 5
        stripe.happens("create", day)
        stripe.happens("verify", day // 2)
        stripe.now = MONTH + (day + 1) * DAY + 32
        end = MONTH + (day + 1) * DAY
        recipes.merge(recipes.export(end - DAY, end, lookback=timedelta(days=30)))
        for table in recipes.tables():
            assert stripes_part(table) == expected(stripe)
