"""The export on a real Airflow: every kind of run writes the sessions of its window, or fails at once."""

import gzip
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import duckdb
import pytest
import requests
from support.airflow_stack import AirflowStack
from support.paths import EXAMPLES

from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, SECRET_FIELDS
from airflow_provider_stripe_identity.schema import columns
from airflow_provider_stripe_identity.testing import StripeIdentityServer

HERE = Path(__file__).parent
API_KEY = "sk_test_marked_e2e_key"
EMAIL = "marked.person@example.com"
NOW = datetime.now(UTC)
TODAY = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
YESTERDAY = TODAY - DAY

DAG_IDS = {
    "backfilled",
    "daily",
    "daily_without_window",
    "data_interval",
    "every_field",
    "explicit_bounds",
    "on_demand",
    "on_demand_without_window",
    "on_partition",
    "on_upload",
    "on_upload_without_window",
    "partitioned",
    "partitioned_without_window",
    "uploader",
}

# What is easily lost between Stripe and a warehouse.
AWKWARD: list[dict[str, Any]] = [
    {
        "client_reference_id": 'Zoë "O\'Neill"\\\u2028\U0001d4b5',
        "metadata": {
            "accents": "e\u0301 é ﷺ 日本語 👩‍👩‍👧",
            "control": "\x00\x01\x1f\x7f",
            "empty": "",
            "json": '{"a": [1, "\\n"]}',
            "lines": "a\nb\r\nc\td\u2028e\u2029f\u0085g\x0bh\x0ci\x1ej",
            "quotes": '\'"`\\\\"',
            "spaces": " \u00a0\ufeff ",
            "": "no name",
            'na"me\n': "odd name",
        },
    },
    {
        "metadata": {"nested": {"deep": [{"list": [1, None, True, False, [], {}, "x"]}]}},
        "options": {"document": {"allowed_types": ["passport", "id_card"], "later": {"level": {"max": 2**63}}}},
        "provided_details": {"email": EMAIL, "phone": None},
        "related_customer": "cus_ü",
    },
    {
        "metadata": {"large": 2**53 + 1, "larger": 2**64 - 1, "small": -(2**63), "float": 0.1, "exponent": 1.5e300},
        "future_number": 9_007_199_254_740_993,
        "future_object": {"b": None, "a": {"text": "\u2028", "items": [{}, [], "", None]}},
        "future_null": None,
        "future_text": "line\nline",
    },
    {"metadata": {}, "options": None, "last_error": {"code": "a_new_code", "reason": 'It said "no".\n'}},
    {"metadata": {}, "status": "verified"},
]


@pytest.fixture(scope="module")
def server() -> Iterator[StripeIdentityServer]:
    """Stripe with sessions before, in and after each window of this module."""
    with StripeIdentityServer(api_key=API_KEY) as server:
        server.populate(1500, TODAY - 8 * DAY, TODAY + 2 * DAY)
        server.populate(3600, time.time() - 1800, time.time() + 1800)  # one a second
        server.populate(300, TODAY - 8 * DAY, TODAY + 2 * DAY, account="acct_without_window")
        for days in range(7):
            midnight = int((TODAY - days * DAY).timestamp())
            for created in (midnight - 1, midnight, midnight):
                server.create_session(created=created)
        for _ in range(150):  # more than a page in one second, where two backfilled days meet
            server.create_session(created=TODAY - 4 * DAY)
        for number, fields in enumerate(AWKWARD):
            server.create_session(created=YESTERDAY + timedelta(hours=number), **fields)
        yield server


@pytest.fixture(scope="module")
def airflow(airflow_stack: Callable[..., AirflowStack], server: StripeIdentityServer, lake: Path) -> AirflowStack:
    airflow = airflow_stack(
        HERE / "dags_export",
        {
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
            "EXPORT_LAKE": lake.as_uri(),
            "EXPORT_TODAY": TODAY.isoformat(),
        },
    )

    def parsed() -> bool:
        return {dag["dag_id"] for dag in airflow.get("dags")["dags"]} == DAG_IDS

    airflow.until(parsed, 60, "all DAGs are parsed", airflow.import_errors)
    return airflow


@pytest.fixture(scope="module")
def uploaded(airflow: AirflowStack) -> None:
    """The event that DAGs scheduled on the asset wait for."""
    airflow.succeed("uploader", airflow.trigger("uploader"))


Check = Callable[..., None]


@pytest.fixture
def check_export(airflow: AirflowStack, server: StripeIdentityServer, lake: Path) -> Check:
    """Return a function that waits for a run and compares what it wrote with the server's sessions of a window."""

    def check(dag_id: str, run_id: str, start: datetime | int, end: datetime | int) -> None:
        airflow.succeed(dag_id, run_id)
        truth = sessions(server, start, end)
        assert len(truth) > 100, "more than one page"
        written = lake / dag_id / f"{run_id}.jsonl"
        assert rows(written) == [select(session, DEFAULT_FIELDS) for session in truth]
        result = airflow.xcom(dag_id, run_id, "export")
        assert time.time() - 600 < result.pop("as_of") < time.time()
        assert result.pop("requests") >= 2
        assert result == {
            "uri": f"file://{written}",
            "conn_id": None,
            "sessions": len(truth),
            "bytes": written.stat().st_size,
            "created_gte": epoch(start),
            "created_lt": epoch(end),
            "oldest": truth[-1]["created"],
            "newest": truth[0]["created"],
            "statuses": dict(Counter(session["status"] for session in truth)),
        }

    return check


def epoch(moment: datetime | str | int) -> int:
    if isinstance(moment, int):
        return moment
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    return int(moment.replace(microsecond=0).timestamp()) + bool(moment.microsecond)


def sessions(server: StripeIdentityServer, start: datetime | int, end: datetime | int) -> list[dict[str, Any]]:
    return list(server.sessions(created={"gte": epoch(start), "lt": epoch(end)}))


def select(session: dict[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in session.items() if name in fields}


def rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_bytes().decode()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def runs(airflow: AirflowStack, dag_id: str, run_type: str, count: int = 1) -> list[dict[str, Any]]:
    """Return the DAG's runs of one type, the oldest first, once there are `count`."""

    def found() -> list[dict[str, Any]] | None:
        runs = airflow.get(f"dags/{dag_id}/dagRuns", run_type=run_type, order_by="id")["dag_runs"]
        return runs if len(runs) >= count else None

    runs = airflow.until(found, 60, f"{dag_id} has {count} {run_type} runs")
    assert len(runs) == count
    return runs


def interval(run: dict[str, Any]) -> list[datetime | None]:
    bounds = (run["data_interval_start"], run["data_interval_end"])
    return [bound and datetime.fromisoformat(bound) for bound in bounds]


def test_scheduled_runs_with_a_data_interval(airflow: AirflowStack, check_export: Check) -> None:
    first, second = runs(airflow, "data_interval", "scheduled", 2)
    assert interval(first) == [TODAY - 2 * DAY, YESTERDAY]
    assert interval(second) == [YESTERDAY, TODAY]
    check_export("data_interval", first["dag_run_id"], TODAY - 2 * DAY, YESTERDAY)
    check_export("data_interval", second["dag_run_id"], YESTERDAY, TODAY)


def test_manual_run_with_a_data_interval(airflow: AirflowStack, check_export: Check) -> None:
    run_id = airflow.trigger("data_interval", logical_date=(TODAY - timedelta(hours=30)).isoformat())
    check_export("data_interval", run_id, TODAY - 3 * DAY, TODAY - 2 * DAY)


def test_backfilled_days_hold_every_session_once(
    airflow: AirflowStack, server: StripeIdentityServer, lake: Path, check_export: Check
) -> None:
    days = [TODAY - 5 * DAY, TODAY - 4 * DAY, TODAY - 3 * DAY]
    backfill = {"dag_id": "backfilled", "from_date": days[0].isoformat(), "to_date": days[-1].isoformat()}

    def created() -> bool:
        try:
            airflow.post("backfills", backfill)
        except requests.HTTPError as error:
            if error.response.status_code != 503:  # another process has SQLite locked: Airflow says to try later
                raise
            return False
        return True

    airflow.until(created, 60, "the backfill is created")
    backfilled = runs(airflow, "backfilled", "backfill", 3)
    written: list[dict[str, Any]] = []
    for day, run in zip(days, backfilled, strict=True):
        assert interval(run) == [day, day + DAY]
        check_export("backfilled", run["dag_run_id"], day, day + DAY)
        written = rows(lake / "backfilled" / f"{run['dag_run_id']}.jsonl") + written
    assert len(list((lake / "backfilled").iterdir())) == 3
    assert written == [select(session, DEFAULT_FIELDS) for session in sessions(server, days[0], days[-1] + DAY)]


def test_scheduled_run_with_an_empty_data_interval(airflow: AirflowStack, check_export: Check) -> None:
    (run,) = runs(airflow, "daily", "scheduled")
    assert interval(run) == [TODAY, TODAY]
    check_export("daily", run["dag_run_id"], YESTERDAY, TODAY)


def test_manual_run_with_an_empty_data_interval(airflow: AirflowStack, check_export: Check) -> None:
    moment = NOW - timedelta(minutes=1)
    run_id = airflow.trigger("daily", logical_date=moment.isoformat())
    check_export("daily", run_id, moment - DAY, moment)


def test_explicit_bounds_win(airflow: AirflowStack, check_export: Check) -> None:
    since = (TODAY - timedelta(days=6, hours=-3)).replace(tzinfo=None).isoformat() + "+02:00"
    until = epoch(TODAY - timedelta(hours=50))
    run_id = airflow.trigger(
        "explicit_bounds",
        conf={"since": since, "until": str(until)},
        logical_date=(TODAY - 3 * DAY).isoformat(),
    )
    check_export("explicit_bounds", run_id, TODAY - timedelta(days=6, hours=-1), until)

    run_id = airflow.trigger("explicit_bounds", conf={"since": since})
    check_export("explicit_bounds", run_id, TODAY - timedelta(days=6, hours=-1), TODAY)


def test_a_task_marked_as_failed_leaves_the_old_object(
    airflow: AirflowStack, server: StripeIdentityServer, lake: Path, check_export: Check
) -> None:
    """Airflow terminates its process, which is reading the list."""
    since = TODAY - 6 * DAY
    run_id = airflow.trigger("explicit_bounds", conf={"since": since.isoformat()}, run_id="marked")
    check_export("explicit_bounds", run_id, since, TODAY)
    object_ = lake / "explicit_bounds" / "marked.jsonl"
    old = object_.read_bytes()
    server.create_session(created=since)

    clear = {"dag_run_id": run_id, "only_failed": False, "dry_run": False}
    before = len(server.requests)
    server.latency = 30
    try:
        airflow.post("dags/explicit_bounds/clearTaskInstances", clear)
        airflow.until(lambda: len(server.requests) > before, 60, "the export reads")
        airflow.patch(f"dags/explicit_bounds/dagRuns/{run_id}/taskInstances/export", {"new_state": "failed"})

        def terminated() -> bool:
            return "Terminating process" in airflow.task_log("explicit_bounds", run_id, "export", try_number=2)

        airflow.until(terminated, 60, "the process is told to end")
    finally:
        server.latency = 0
    assert airflow.wait("explicit_bounds", run_id) == "failed"
    assert object_.read_bytes() == old
    assert not list(object_.parent.glob(".*"))

    airflow.post("dags/explicit_bounds/clearTaskInstances", clear)
    check_export("explicit_bounds", run_id, since, TODAY)
    assert object_.read_bytes() != old


def test_manual_run_without_a_date_ends_when_it_was_due(
    airflow: AirflowStack, server: StripeIdentityServer, check_export: Check
) -> None:
    run_id = airflow.trigger("on_demand")
    run = airflow.get(f"dags/on_demand/dagRuns/{run_id}")
    assert (run["logical_date"], interval(run)) == (None, [None, None])
    start, end = epoch(run["run_after"]) - 120, epoch(run["run_after"])
    late = server.create_session(created=end - 1)
    check_export("on_demand", run_id, start, end)
    assert late["id"] in {session["id"] for session in sessions(server, start, end)}

    log = airflow.task_log("on_demand", run_id, "export")
    assert "has only just ended" in log
    monotonic = time.time() - time.monotonic()
    asked = [request for request in server.requests if ("created[gte]", str(start)) in request.query]
    assert asked[0].time + monotonic >= end + 10 - 0.1


def test_asset_triggered_run_ends_when_it_was_due_and_does_so_again(
    airflow: AirflowStack, server: StripeIdentityServer, uploaded: None, check_export: Check
) -> None:
    (run,) = runs(airflow, "on_upload", "asset_triggered")
    assert (run["logical_date"], interval(run)) == (None, [None, None])
    run_id, end = run["dag_run_id"], epoch(run["run_after"])
    check_export("on_upload", run_id, end - 120, end)

    server.create_session(created=end - 120)
    clear = {"dag_run_id": run_id, "only_failed": False, "dry_run": False}
    assert airflow.post("dags/on_upload/clearTaskInstances", clear)["total_entries"] == 1
    check_export("on_upload", run_id, end - 120, end)


def test_partitioned_runs_start_at_their_date(airflow: AirflowStack, check_export: Check) -> None:
    dates = [YESTERDAY - timedelta(hours=9), YESTERDAY - 4 * DAY - timedelta(hours=9)]  # midnights in Tokyo
    keys = [f"{date + timedelta(hours=9):%Y-%m-%dT%H:%M:%S}" for date in dates]
    (scheduled,) = runs(airflow, "partitioned", "scheduled")
    assert scheduled["partition_key"] == keys[0]
    check_export("partitioned", scheduled["dag_run_id"], dates[0], dates[0] + DAY)
    runs(airflow, "on_partition", "asset_triggered")

    body = {"logical_date": None, "partition_key": keys[1]}
    run_id = airflow.post("dags/partitioned/dagRuns", body)["dag_run_id"]
    check_export("partitioned", run_id, dates[1], dates[1] + DAY)

    # Each let a run of the same partition follow.
    for date, key, run in zip(dates, keys, runs(airflow, "on_partition", "asset_triggered", 2), strict=True):
        assert run["partition_key"] == key
        check_export("on_partition", run["dag_run_id"], date, date + DAY)


@pytest.mark.parametrize(
    ("dag_id", "run_type"),
    [
        ("daily_without_window", "scheduled"),
        ("on_demand_without_window", "manual"),
        ("on_upload_without_window", "asset_triggered"),
        ("partitioned_without_window", "scheduled"),
    ],
)
def test_a_run_without_a_window_fails_at_once(
    airflow: AirflowStack, server: StripeIdentityServer, lake: Path, uploaded: None, dag_id: str, run_type: str
) -> None:
    if run_type == "manual":
        airflow.trigger(dag_id)
    (run,) = runs(airflow, dag_id, run_type)
    run_id = run["dag_run_id"]
    assert airflow.wait(dag_id, run_id) == "failed"
    (task,) = airflow.task_instances(dag_id, run_id)
    assert (task["state"], task["try_number"], task["max_tries"]) == ("failed", 1, 2)
    log = airflow.task_log(dag_id, run_id, "export")
    assert "window=timedelta(days=1)" in log
    assert "CronDataIntervalTimetable" in log
    assert not (lake / dag_id).exists()
    assert "acct_without_window" not in {request.headers["Stripe-Account"] for request in server.requests}


def test_every_field_survives(airflow: AirflowStack, server: StripeIdentityServer, lake: Path) -> None:
    (run,) = runs(airflow, "every_field", "scheduled")
    airflow.succeed("every_field", run["dag_run_id"])
    written = lake / "every_field" / f"{YESTERDAY:%Y-%m-%d}.jsonl.gz"
    with duckdb.connect() as connection:
        lines = connection.execute(f"SELECT json::VARCHAR FROM read_ndjson_objects('{written}')").fetchall()
        column = connection.execute(
            f"SELECT future_object FROM read_json('{written}', columns={{'id': 'VARCHAR', 'future_object': 'JSON'}}) "
            "WHERE future_object IS NOT NULL"
        ).fetchall()
    expected = [
        {name: value for name, value in session.items() if name not in SECRET_FIELDS}
        for session in sessions(server, YESTERDAY, TODAY)
    ]
    loaded = [json.loads(line) for (line,) in lines]
    # As text, the order of the keys and the types of the numbers count too.
    assert [json.dumps(row) for row in loaded] == [json.dumps(session) for session in expected]
    for fields in AWKWARD:
        assert any(fields.items() <= row.items() for row in loaded), fields
    assert [json.loads(value) for (value,) in column] == [AWKWARD[2]["future_object"]]
    assert len(gzip.decompress(written.read_bytes()).splitlines()) == len(expected)

    log = airflow.task_log("every_field", run["dag_run_id"], "export")
    for name in ("future_number", "future_object", "future_null", "future_text"):
        assert log.count(f"does not know, written: {name}") == 1


def test_dags_test_of_the_example(
    run_dags_test: Callable[..., CompletedProcess[str]], server: StripeIdentityServer, tmp_path: Path
) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    done = run_dags_test(
        "stripe_identity_daily",
        dags=EXAMPLES,
        env={
            "AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT": server.airflow_connection(),
            "STRIPE_IDENTITY_LAKE": (tmp_path / "lake").as_uri(),
            "AIRFLOW_CONN_DUCKDB_DEFAULT": json.dumps({"conn_type": "duckdb", "host": str(warehouse)}),
        },
        logical_date=f"{TODAY:%Y-%m-%d}",
    )
    assert done.returncode == 0, done.stdout + done.stderr

    truth = sessions(server, YESTERDAY, TODAY)
    written = tmp_path / "lake" / "verification_sessions" / f"dt={YESTERDAY:%Y-%m-%d}" / "sessions.jsonl.gz"
    with duckdb.connect(str(warehouse), read_only=True) as connection:
        lines = connection.execute(f"SELECT json::VARCHAR FROM read_ndjson_objects('{written}')").fetchall()
        found = connection.execute("FROM verification_sessions")
        names = [column[0] for column in found.description]
        loaded = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    nested = [column.name for column in columns() if column.type == "json"]
    assert [json.loads(line) for (line,) in lines] == [select(session, DEFAULT_FIELDS) for session in truth]
    for row in loaded:
        row.update({name: row[name] and json.loads(row[name]) for name in nested})
    table = {row["id"]: {name: row[name] for name in DEFAULT_FIELDS} for row in loaded}
    assert table == {session["id"]: {name: session.get(name) for name in DEFAULT_FIELDS} for session in truth}
    assert len(loaded) == len(truth)

    home = tmp_path / "airflow"
    texts = [done.stdout, done.stderr, *(path.read_text("latin-1") for path in home.rglob("*") if path.is_file())]
    assert any("stripe_identity_daily" in text for text in texts)
    assert not leaks(server, texts)


def leaks(server: StripeIdentityServer, texts: Iterable[str]) -> set[str]:
    """Return what `texts` tell of the API key, the persons' credentials and the marked person."""
    pattern = re.compile(r"vs_\w+_secret_\w+|https?://[\w.:]+/start/\w+|sk_test_marked\w+|marked\.person")
    credentials = {session[name] for session in server.sessions() for name in SECRET_FIELDS if session[name]}
    assert len(credentials) > 100
    assert all(pattern.fullmatch(secret) for secret in {API_KEY, *credentials})
    return {found for text in texts for found in pattern.findall(text)}
