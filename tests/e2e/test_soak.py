"""
All example DAGs at intervals of seconds, over failures of Stripe and deaths of triggerers.

First a storm in which triggerers are stopped and killed at random, then a calm in which memory, threads and sockets are
measured. Stripe fails now and then in both. At the end tables, history and objects must equal the emulator's.
``make soak`` takes longer than ``make test-e2e``: ``SOAK_MINUTES`` is how long people come and go.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import shutil
import statistics
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import psutil
import psycopg
import pytest
from psycopg.rows import dict_row
from support.airflow_stack import COMPONENTS, DATABASE, AirflowStack
from support.paths import EXAMPLES
from support.postgres_server import PostgresServer
from support.watcher import compare_watcher

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._stripe_api.parameters import EVENT_TYPES
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.schema import sessions
from airflow_provider_stripe_identity.testing import EmulatorError, Fault, StripeIdentityServer

pytestmark = pytest.mark.alone

DAGS = Path(__file__).parent / "dags_soak"
MINUTES = float(os.environ.get("SOAK_MINUTES", "1"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
INTERVAL = 30
#: The share of the time in which triggerers die.
STORM = 0.6
TRIGGERERS = ("triggerer", "triggerer-2")
ACCOUNTS = ("acct_1", "acct_2")
MONTH = "%Y-%m"
SECOND = timedelta(seconds=1)
MEBIBYTE = 2**20
#: Beyond what one process grows by between two garbage collections.
GROWTH = 16 * MEBIBYTE
#: Threads of the event loop's pool begin when they are first needed, and each keeps a connection.
POOL = (os.cpu_count() or 1) + 4

FAULTS = (
    Fault.rate_limited(),
    Fault.rate_limited(Retry_After="1"),
    Fault.status(503),
    Fault.status(500),
    Fault.reset(),
    Fault.cut_short(),
    Fault.delay(1),
    Fault.delay(6),  # longer than the connection waits
)

#: What makes of an example for every day, or every hour, one for every interval.
SHORTER = {
    r"^from datetime import datetime$": "from datetime import datetime, timedelta",
    r'\bCronDataIntervalTimetable\("@\w+", timezone="UTC"\)': (
        f"DeltaDataIntervalTimetable(timedelta(seconds={INTERVAL}))"
    ),
    r"\bCronDataIntervalTimetable\b": "DeltaDataIntervalTimetable",
    r"%H%M(?=\})": "%H%M%S",
    r"%Y-%m-%d(?=\})": "%Y-%m-%dT%H%M%S",
    r"poke_interval=60": "poke_interval=2",
    r"poke_interval=timedelta\(minutes=5\)": "poke_interval=timedelta(seconds=2)",
}

#: The folders of the objects, by what they hold of their window.
SESSIONS = ("verification_sessions", "verification_sessions_to_asset", "warehouse/sessions")
CHANGES = ("changes_to_duckdb", "changes_to_postgres", "warehouse/changes")
HISTORIES = ("history_to_duckdb", "history_to_postgres", "warehouse/events")
SCHEDULED = (
    "stripe_identity_accounts",
    "stripe_identity_connected_accounts",
    "stripe_identity_daily",
    "stripe_identity_export_to_asset",
    "stripe_identity_history_to_duckdb",
    "stripe_identity_history_to_postgres",
    "stripe_identity_to_duckdb",
    "stripe_identity_to_postgres",
    "stripe_identity_warehouse",
)


class Times(NamedTuple):
    """When the first window begins, and the last one ends."""

    start: datetime
    end: datetime

    def windows(self) -> list[datetime]:
        return [self.start + number * INTERVAL * SECOND for number in range(self.rounds)]

    @property
    def rounds(self) -> int:
        return round((self.end - self.start) / (INTERVAL * SECOND))

    def until_now(self) -> Times:
        """Return those of which the last window is the one that now goes by."""
        return Times(
            self.start, self.start + (1 + (datetime.now(UTC) - self.start) // (INTERVAL * SECOND)) * INTERVAL * SECOND
        )


class Used(NamedTuple):
    """What a component has at a time."""

    rss: int
    threads: int
    sockets: int

    @classmethod
    def by(cls, processes: set[psutil.Process]) -> Used:
        rss = threads = sockets = 0
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                rss += process.memory_info().rss
                threads += process.num_threads()
                sockets += len(process.net_connections("inet"))
        return cls(rss, threads, sockets)


@pytest.fixture(scope="module")
def server() -> Iterator[StripeIdentityServer]:
    with StripeIdentityServer() as server:
        for account in ACCOUNTS:
            server.connect_account(account)
        yield server


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    """The metadata in one database, the warehouse in another."""
    with PostgresServer() as database:
        with psycopg.connect(database.uri, autocommit=True) as connection:
            connection.execute("CREATE DATABASE metadata")
        yield database


@pytest.fixture(scope="module")
def metadata(database: PostgresServer) -> str:
    return database.uri.replace("/postgres", "/metadata")


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Airflow's processes put temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("warehouse") / "warehouse.duckdb"


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Empty until Airflow runs: the first window begins after that."""
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="module")
def airflow(
    airflow_stack: Callable[..., AirflowStack],
    server: StripeIdentityServer,
    database: PostgresServer,
    metadata: str,
    temporary: Path,
    warehouse: Path,
    lake: Path,
    dags: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AirflowStack:
    impatient = json.loads(server.airflow_connection()) | {"extra": {"timeout": 3}}
    slow = impatient | {"extra": {"timeout": 3, "max_requests_per_second": 4, "max_concurrency": 2}}
    return airflow_stack(
        dags,
        {
            DATABASE: metadata.replace("postgres://", "postgresql+psycopg2://"),
            "AIRFLOW__API__MAXIMUM_PAGE_LIMIT": "100000",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "2",
            "AIRFLOW__CORE__PARALLELISM": "24",
            "AIRFLOW_CONN_DUCKDB_DEFAULT": json.dumps({"conn_type": "duckdb", "host": str(warehouse)}),
            "AIRFLOW_CONN_POSTGRES_DEFAULT": database.uri,
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": json.dumps(impatient),
            "AIRFLOW_CONN_SLOW": json.dumps(slow),
            "AIRFLOW_VAR_STRIPE_ACCOUNTS": json.dumps(ACCOUNTS),
            "STRIPE_IDENTITY_LAKE": lake.as_uri(),
            "SOAK_PROCESS": str(tmp_path_factory.mktemp("process") / "pid"),
            "TMPDIR": str(temporary),
        },
        components=(*COMPONENTS, "triggerer-2"),
    )


def write_dags(folder: Path, times: Times) -> None:
    """Put the examples into the DAGs folder, scheduled without leaving a window out."""
    replaced = SHORTER | {
        r"start_date=datetime\(2026, 1, 1\),\n(\s*)catchup=False": (
            f'start_date=datetime.fromisoformat("{times.start.isoformat()}"),\n'
            # The last window begins before the end.
            rf'\1end_date=datetime.fromisoformat("{(times.end - SECOND).isoformat()}"),'
            "\n\\1catchup=True"
        )
    }
    found: Counter[str] = Counter()
    for path in [*EXAMPLES.glob("stripe_identity_*.py")]:
        text = path.read_text()
        for pattern, replacement in replaced.items():
            text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE)
            found[pattern] += count
        (folder / path.name).write_text(text)
    assert replaced.keys() == {pattern for pattern, count in found.items() if count}
    shutil.copytree(DAGS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))


class People:
    """Who comes, is verified, fails, tries again and gives up, a few in every second, until they are asked to stop."""

    def __init__(self, server: StripeIdentityServer) -> None:
        self.server, self.dice = server, random.Random(SEED)
        #: Ids of sessions without a verdict, and whether somebody waits until they are verified.
        self.open: dict[str, bool] = {}
        self.done: list[str] = []
        self._failed: dict[str, int] = {}
        self._lock, self._stop, self._count = threading.Lock(), threading.Event(), 0
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> People:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop, after a last verdict on all who are waited for."""
        self._stop.set()
        self._thread.join()
        for session_id in [session_id for session_id, waited_for in self.open.items() if waited_for]:
            self._verdict(session_id, "verify")

    def come(self, *, waited_for: bool = False) -> str:
        """Create a session and return its reference."""
        with self._lock:
            self._count += 1
            reference = f"visitor_{self._count}"
            account = None if waited_for else self.dice.choice((None, None, *ACCOUNTS))
            session = self.server.create_session(client_reference_id=reference, account=account)
            self.open[session["id"]] = waited_for
        return reference

    def _live(self) -> None:
        while not self._stop.wait(self.dice.uniform(0.1, 0.6)):
            self.come()
            with self._lock:
                for session_id in self.dice.sample([*self.open], min(2, len(self.open))):
                    steps = ["process", "verify", "require_input"]
                    self._verdict(session_id, self.dice.choice(steps if self.open[session_id] else [*steps, "cancel"]))
                if self.done and self.dice.random() < 0.1:
                    with suppress(EmulatorError):  # it is redacted already
                        self.server.redact(self.dice.choice(self.done))

    def _verdict(self, session_id: str, step: str) -> None:
        # Nobody tries again in the second of a failure: the events could not tell that from the failure of a try.
        if step == "process" and self._failed.get(session_id) == int(time.time()):
            return
        with suppress(EmulatorError):  # Stripe would not take this step either
            if getattr(self.server, step)(session_id)["status"] in ("verified", "canceled"):
                del self.open[session_id]
                self.done.append(session_id)
            elif step == "require_input":
                self._failed[session_id] = int(time.time())


@pytest.mark.timeout(3600 + 60 * MINUTES)
def test_all_examples_stay_equal_to_stripe(
    airflow: AirflowStack,
    server: StripeIdentityServer,
    database: PostgresServer,
    metadata: str,
    temporary: Path,
    warehouse: Path,
    lake: Path,
    dags: Path,
    tell: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary_before = {*temporary.rglob("*")}
    now = datetime.now(UTC).replace(microsecond=0)
    start = now + 20 * SECOND
    times = Times(start, start + timedelta(days=1))
    first_month = f"{start - timedelta(hours=36):{MONTH}}"
    server.populate(300, start - timedelta(hours=36), start - timedelta(hours=30))
    year = datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
    # The long export reads about so many a second, which is what the faults leave of its rate.
    server.populate(round(MINUTES * 60 * 150), *year, seed=1)
    write_dags(dags, times)
    airflow.until(lambda: any(("types[]" in dict(request.query)) for request in list(server.requests)), 120, "a poll")
    airflow.until(lambda: datetime.now(UTC) >= start, 60, "the first window to begin")

    server.fault_every(12, *FAULTS, seed=SEED)
    triggered = [
        ("long_export", airflow.trigger("long_export", conf={"created_gte": str(year[0]), "created_lt": str(year[1])})),
        ("stripe_identity_backfill", airflow.trigger("stripe_identity_backfill", conf={"first_month": first_month})),
        ("stripe_identity_history_backfill", airflow.trigger("stripe_identity_history_backfill", conf={"days": 2})),
    ]
    watch = Watch(airflow)
    storm_ends, calm_ends = (start + share * MINUTES * timedelta(minutes=1) for share in (STORM, 1))
    with People(server) as people:
        ended = storm(airflow, people, storm_ends, triggered, watch)
        first, last, waited_for = calm(airflow, people, calm_ends, triggered, watch)
    times = times.until_now()
    write_dags(dags, times)
    wait_for_runs(airflow, triggered, times)
    failed = len([request for request in list(server.requests) if request.status != 200])
    server.clear_faults()

    tell(
        f"soak of {MINUTES:g} minutes, every {INTERVAL} s: {runs_of(airflow)} runs of {len(SCHEDULED) + 6} DAGs, "
        f"{len(server.requests)} requests, {failed} failed, {ended} deaths of triggerers"
    )
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
    tell(compare_tables(server, database, warehouse, times, first_month))
    tell(compare_objects(server, lake, times, year))
    verified = {
        event["data"]["object"]["client_reference_id"]
        for event in events_since(times.start.timestamp())
        if event["type"].endswith(".verified")
    }
    tell(compare_watcher(airflow, server, metadata, "stripe_identity_on_verified", verified))
    tell(repeated_tasks(metadata))
    long_export = watch.long_export
    assert long_export, "the long export was not seen"
    half = len(long_export) // 2
    grown = max(long_export[half:]) - max(long_export[:half])
    tell(
        f"memory of the long export: {max(long_export[:half]) / MEBIBYTE:.0f} MiB in its first half, "
        f"{grown / MEBIBYTE:+.1f} MiB in its second"
    )
    assert grown < GROWTH
    for name in TRIGGERERS:
        tell(
            f"{name}, {waited_for} waits in the calm: {first[name].rss / MEBIBYTE:.0f} MiB, "
            f"{(last[name].rss - first[name].rss) / MEBIBYTE:+.1f}; threads {first[name].threads}, "
            f"{last[name].threads - first[name].threads:+}; sockets {first[name].sockets}, "
            f"{last[name].sockets - first[name].sockets:+}"
        )
        assert last[name].rss < first[name].rss + GROWTH
        assert last[name].threads <= first[name].threads + POOL
        assert last[name].sockets <= first[name].sockets + POOL
    left = {path for path in temporary.rglob("*") if path.is_file()} - temporary_before
    rates = {path for path in left if path.parent.name.startswith("stripe-identity-")}
    unnamed = [name for process in airflow.processes() for name in deleted_files(process, temporary)]
    tell(
        f"temporary files left behind: {len(left - rates)}, open ones without a name: {len(unnamed)}, "
        f"shared rates, one for each account: {len(rates)}"
    )
    assert not left - rates
    assert len(rates) <= 1 + len(ACCOUNTS)
    assert not unnamed


class Watch:
    """The memory of the process of the long export, as often as somebody looks."""

    def __init__(self, airflow: AirflowStack) -> None:
        self.path = Path(airflow.env["SOAK_PROCESS"])
        self.long_export: list[int] = []

    def look(self) -> None:
        with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
            process = psutil.Process(int(self.path.read_text()))
            self.long_export.append(process.memory_info().rss)


def wait_for_people(airflow: AirflowStack, people: People, triggered: list[tuple[str, str]], count: int) -> None:
    one = {"client_reference_id": people.come(waited_for=True)}
    triggered.append(("stripe_identity_wait", airflow.trigger("stripe_identity_wait", conf=one)))
    many = {"references": [people.come(waited_for=True) for _ in range(count)]}
    triggered.append(("stripe_identity_wait_for_many", airflow.trigger("stripe_identity_wait_for_many", conf=many)))


def storm(
    airflow: AirflowStack, people: People, until: datetime, triggered: list[tuple[str, str]], watch: Watch
) -> int:
    """Stop and kill triggerers until a time; return how often."""
    dice = random.Random(SEED)
    ended = 0
    while datetime.now(UTC) < until:
        wait_for_people(airflow, people, triggered, 5)
        pause(dice.uniform(2, 15), watch)
        name = dice.choice(TRIGGERERS)
        airflow.stop(name, kill=dice.random() < 0.5)
        ended += 1
        # The threshold after which the other one takes over is ten seconds here.
        pause(dice.choice((0, 0, 15)), watch)
        airflow.start(name)
    return ended


def calm(
    airflow: AirflowStack, people: People, until: datetime, triggered: list[tuple[str, str]], watch: Watch
) -> tuple[dict[str, Used], dict[str, Used], int]:
    """Let people be waited for until a time. Return what the triggerers use before that and after it."""
    wait_for_people(airflow, people, triggered, 10)
    pause(10, watch)
    first = {name: Used.by(airflow.processes(name)) for name in TRIGGERERS}
    waited_for = 0
    used: dict[str, list[Used]] = defaultdict(list)
    while True:
        wait_for_people(airflow, people, triggered, 10)
        waited_for += 11
        pause(min(10, (until - datetime.now(UTC)).total_seconds()), watch)
        for name in TRIGGERERS:
            used[name].append(Used.by(airflow.processes(name)))
        if datetime.now(UTC) >= until:
            break
    last = {
        name: Used(*(round(statistics.median(values)) for values in zip(*found[-3:], strict=True)))
        for name, found in used.items()
    }
    return first, last, waited_for


def pause(seconds: float, watch: Watch) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        watch.look()
        time.sleep(min(1, left))


def runs_of(airflow: AirflowStack) -> int:
    return len(airflow.get("dags/~/dagRuns", limit=100_000)["dag_runs"])


def wait_for_runs(airflow: AirflowStack, triggered: list[tuple[str, str]], times: Times) -> None:
    """Wait until all runs have ended, those of the last window too; all must have succeeded."""

    def states() -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for run in airflow.get("dags/~/dagRuns", limit=100_000)["dag_runs"]:
            found[run["dag_id"]][run["state"]] += 1
        return found

    def all_ended() -> bool:
        dags = {dag["dag_id"]: dag for dag in airflow.get("dags", limit=1000)["dags"]}
        if any(dags[dag_id]["next_dagrun_run_after"] for dag_id in SCHEDULED):
            return False
        found = states()
        return all(sum(found[dag_id].values()) >= times.rounds for dag_id in SCHEDULED) and not any(
            state in counted for counted in found.values() for state in ("queued", "running")
        )

    airflow.until(all_ended, 1200, "all runs to end", states)
    # The event of an export that ended while the one before was queued waits for the next one: Airflow's #54659. So one
    # export is cleared, which says once more what it wrote.
    loads = states()["stripe_identity_load_from_asset"].total()
    run_id = airflow.get("dags/stripe_identity_export_to_asset/dagRuns", limit=1)["dag_runs"][0]["dag_run_id"]
    airflow.post(
        "dags/stripe_identity_export_to_asset/clearTaskInstances",
        {"dag_run_id": run_id, "only_failed": False, "dry_run": False},
    )
    airflow.until(lambda: states()["stripe_identity_load_from_asset"].total() > loads, 120, "a last load", states)
    airflow.until(all_ended, 120, "the last load to end", states)
    runs = airflow.get("dags/~/dagRuns", limit=100_000)["dag_runs"]
    for run in runs:
        if run["state"] != "success":
            dag_id, run_id = run["dag_id"], run["dag_run_id"]
            for task in airflow.task_instances(dag_id, run_id):
                if task["state"] == "failed":
                    log = airflow.task_log(dag_id, run_id, task["task_id"], task["try_number"], task["map_index"])
                    pytest.fail(f"{dag_id} {run_id} {task['task_id']}\n{log[-6000:]}")
            pytest.fail(f"{dag_id} {run_id} is {run['state']}")
    ids = {(run["dag_id"], run["dag_run_id"]) for run in runs}
    assert {*triggered} <= ids


def events_since(second: float, account: str | None = None) -> list[dict[str, Any]]:
    return [*StripeIdentityHook(stripe_account=account).list_events(types=EVENT_TYPES, created_gte=int(second))]


def compare_tables(
    server: StripeIdentityServer, database: PostgresServer, file: Path, times: Times, first_month: str
) -> str:
    """Compare the tables of both warehouses with the emulator; return what was compared."""
    start = int(times.start.timestamp())
    month = int(datetime.strptime(first_month, MONTH).replace(tzinfo=UTC).timestamp())
    json_columns = [column.name for column in sessions.columns(DEFAULT_FIELDS) if column.type == "json"]

    def wanted(created_gte: int, account: str | None = None) -> dict[str, dict[str, Any]]:
        found = server.sessions(created={"gte": created_gte}, account=account)
        return {session["id"]: {name: session.get(name) for name in DEFAULT_FIELDS} for session in found}

    def kept(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for row in rows:
            row.update({name: json.loads(row[name]) for name in json_columns if isinstance(row[name], str)})
        found = {row["id"]: {name: row[name] for name in DEFAULT_FIELDS} for row in rows}
        assert len(found) == len(rows)
        return found

    def history(rows: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
        names = ("_event_type", "_event_created", "id", "status")
        return {row["_event_id"]: tuple(row[name] for name in names) for row in rows}

    def log(second: int) -> dict[str, tuple[Any, ...]]:
        return {
            event["id"]: (
                event["type"],
                event["created"],
                event["data"]["object"]["id"],
                event["data"]["object"]["status"],
            )
            for event in events_since(second)
        }

    with duckdb.connect(str(file), read_only=True) as connection:

        def in_duckdb(table: str) -> list[dict[str, Any]]:
            found = connection.sql(f"FROM {table}")
            return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]

        assert kept(in_duckdb("verification_sessions")) == wanted(start)
        of_accounts = {account: wanted(start, account) for account in ACCOUNTS}
        rows = in_duckdb("verification_sessions_of_accounts")
        for account in ACCOUNTS:
            assert kept([row for row in rows if row["_stripe_account"] == account]) == of_accounts[account]
        # As they were when they were exported.
        assert {row["id"] for row in in_duckdb("exported_sessions")} == wanted(start).keys()
        duckdb_events = history(in_duckdb("verification_session_events"))
        assert duckdb_events == log(start - 2 * 86400)
    with psycopg.connect(database.uri, row_factory=dict_row) as postgres:
        in_postgres = kept(postgres.execute("SELECT * FROM verification_sessions").fetchall())
        assert in_postgres == wanted(month)
        postgres_events = history(postgres.execute("SELECT * FROM verification_session_events").fetchall())
        assert postgres_events == log(start)
        timeline = postgres.execute("SELECT id, last_status FROM verification_session_timeline").fetchall()
        assert {row["id"]: row["last_status"] for row in timeline} == {
            session_id: session["status"] for session_id, session in wanted(start).items()
        }
    return (
        f"equal to Stripe: {len(in_postgres)} sessions in PostgreSQL, {len(wanted(start))} in DuckDB, "
        f"{sum(map(len, of_accounts.values()))} of {len(ACCOUNTS)} connected accounts, "
        f"{len(postgres_events)} and {len(duckdb_events)} events"
    )


def compare_objects(server: StripeIdentityServer, lake: Path, times: Times, year: tuple[datetime, datetime]) -> str:
    """Compare the objects of all windows with the emulator; return what was compared."""
    stamp = re.compile(r"dt=(\d{4}-\d\d-\d\d)[T/](\d{6})")
    found: dict[str, dict[datetime, list[dict[str, Any]]]] = defaultdict(dict)
    others = []
    for path in (path for path in lake.rglob("*") if path.is_file()):
        name = str(path.relative_to(lake))
        if not (match := stamp.search(name)):
            others.append(name)
            continue
        window = datetime.strptime(f"{match[1]}{match[2]}+0000", "%Y-%m-%d%H%M%S%z")
        folder = name[: match.start() - 1]
        if folder == "history_backfill":
            continue
        assert window not in found[folder], name
        found[folder][window] = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert {name.split("/")[0] for name in others} == {"backfill_to_postgres", "long_export"}
    by_account = {account: f"verification_sessions_of_accounts/account={account}" for account in ACCOUNTS}
    assert found.keys() == {*SESSIONS, *CHANGES, *HISTORIES, *by_account.values(), "changes_of_connected_accounts"}
    rows = 0
    log = events_since(times.start.timestamp())
    logs = {account: events_since(times.start.timestamp(), account) for account in ACCOUNTS}
    for folder, windows in found.items():
        # A busy machine is late to read that there are no more.
        assert sorted(windows)[: times.rounds] == times.windows(), folder
        for window, lines in windows.items():
            rows += len(lines)
            seconds = range(int(window.timestamp()), int(window.timestamp()) + INTERVAL)
            if folder in SESSIONS or folder in by_account.values():
                account = folder.partition("=")[2] or None
                created = server.sessions(created={"gte": seconds[0], "lte": seconds[-1]}, account=account)
                assert [line["id"] for line in lines] == [session["id"] for session in created], folder
                continue
            events = log if folder != "changes_of_connected_accounts" else [one for of in logs.values() for one in of]
            events = [event for event in events if event["created"] in seconds]
            # The others, and of the histories too, hold some minutes before: Stripe may list events late.
            if folder in HISTORIES:
                of_window = [line["_event_id"] for line in lines if line["_event_created"] in seconds]
                assert of_window == [event["id"] for event in events], folder
            else:
                assert {line["id"] for line in lines} >= {event["data"]["object"]["id"] for event in events}, folder
    long = (lake / "long_export" / "sessions.jsonl").read_bytes().splitlines()
    between = {"gte": int(year[0].timestamp()), "lt": int(year[1].timestamp())}
    assert [json.loads(line)["id"] for line in long] == [one["id"] for one in server.sessions(created=between)]
    objects = sum(map(len, found.values()))
    return f"equal to Stripe: {objects} objects with {rows} rows, and one with {len(long)}; no other file"


def repeated_tasks(metadata: str) -> str:
    """Return which tasks Airflow had to try again."""
    with psycopg.connect(metadata) as connection:
        total, again = connection.execute(
            "SELECT count(*), count(*) FILTER (WHERE try_number > 1) FROM task_instance"
        ).fetchone() or (0, 0)
        found = connection.execute(
            "SELECT dag_id, task_id, count(*) FROM task_instance WHERE try_number > 1 GROUP BY 1, 2"
        )
        named = ", ".join(f"{dag_id}.{task_id} {count}" for dag_id, task_id, count in found)
    return f"tasks: {total}, all succeeded, {again} of them at a later try{f' ({named})' if named else ''}"


def deleted_files(process: psutil.Process, folder: Path) -> list[str]:
    """Return the open files of a folder that have no name any more."""
    names = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                name = str(descriptor.readlink())
                if name.startswith(str(folder)):
                    names.append(name)
    return names
