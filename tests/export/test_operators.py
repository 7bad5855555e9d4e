"""The export: exactly the sessions of the run's window, in one object that appears whole or not at all."""

from __future__ import annotations

import gzip
import itertools
import json
import linecache
import logging
import time
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk import DAG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.accounts import accounts
from support.airflow_versions import said_by_us

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export import progress
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS
from airflow_provider_stripe_identity._export.windows import Window
from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity.exceptions import StripeAPIError
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator
from airflow_provider_stripe_identity.testing import Fault

MAY_1, MAY_2 = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
DAY = {"data_interval_start": MAY_1, "data_interval_end": MAY_2, "run_id": "scheduled", "dag_run": SimpleNamespace()}


def operator(destination: Path | str, **arguments) -> StripeIdentityToObjectStorageOperator:
    url = destination.as_uri() if isinstance(destination, Path) else destination
    return StripeIdentityToObjectStorageOperator(task_id="export", destination=url, **arguments)


def lines_warned_of(caught: list[warnings.WarningMessage], message: str) -> list[str]:
    """The lines of the DAG's file that warnings name."""
    named = [warning for warning in caught if message in str(warning.message)]
    return [linecache.getline(warning.filename, warning.lineno).strip() for warning in named]


def rows(path: Path) -> list[dict]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix.lower() == ".gz" else raw).decode()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def expected(sessions, fields=DEFAULT_FIELDS) -> list[dict]:
    return [{name: value for name, value in session.items() if name in fields} for session in sessions]


@pytest.mark.parametrize("name", ["sessions.jsonl", "sessions.jsonl.gz", "sessions.JSONL.GZ"])
def test_the_windows_sessions_are_in_the_object(server, tmp_path, name):
    start, end = int(MAY_1.timestamp()), int(MAY_2.timestamp())
    server.populate(350, start - 86400, end + 86400)
    for created in (start - 1, start, end - 1, end):
        server.create_session(created=created)
    began = time.time()
    result = operator(tmp_path / name).execute(DAY)
    assert 0 <= began - 30 - result.pop("as_of") <= 3, "settle before the first request"
    truth = list(server.sessions(created={"gte": start, "lt": end}))
    assert rows(tmp_path / name) == expected(truth)
    assert [truth[0]["created"], truth[-1]["created"]] == [end - 1, start]
    statuses = {status: sum(session["status"] == status for session in truth) for status in {*result["statuses"]}}
    assert result == {
        "uri": f"file://{tmp_path}/{name}",
        "conn_id": None,
        "sessions": len(truth),
        "bytes": (tmp_path / name).stat().st_size,
        "created_gte": start,
        "created_lt": end,
        "oldest": start,
        "newest": end - 1,
        "statuses": statuses,
        "requests": len(server.requests),
    }
    assert sum(statuses.values()) == len(truth)
    assert len(json.dumps(result)) < 1024


def test_the_result_names_the_stores_connection_so_that_a_load_can_read_the_object(server, tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", json.dumps({"conn_type": "fs"}))
    result = operator(tmp_path / "sessions.jsonl", destination_conn_id="lake").execute(DAY)
    assert result["conn_id"] == "lake"


@pytest.mark.parametrize(
    "run",
    [
        DAY,
        {"run_id": "manual", "dag_run": SimpleNamespace(run_after=MAY_2)},
        {"run_id": "partitioned", "partition_date": MAY_1, "dag_run": SimpleNamespace(run_after=MAY_2)},
        {"run_id": "cron", "data_interval_start": MAY_2, "data_interval_end": MAY_2},
    ],
    ids=["interval", "manual without a date", "partitioned", "empty interval"],
)
def test_an_object_is_named_after_the_window_in_every_kind_of_run(server, tmp_path, run):
    destination = f"file://{tmp_path}/dt={{created_gte:%Y-%m-%d}}/until={{created_lt:%d}}.jsonl"
    operator(destination, window=timedelta(days=1)).execute(run)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl")] == [
        "dt=2026-05-01/until=02.jsonl"
    ]


def test_lookback_does_not_change_the_name(server, tmp_path):
    operator(f"file://{tmp_path}/{{created_gte:%Y-%m-%d}}", lookback=timedelta(days=30)).execute(DAY)
    assert files(tmp_path) == ["2026-05-01"]


@pytest.mark.parametrize(
    ("name", "run_type", "arguments", "warned"),
    [
        ("sessions.jsonl", "scheduled", {}, True),
        ("{created_gte:%Y-%m}.jsonl", "scheduled", {}, True),
        ("sessions.jsonl", "asset_triggered", {}, True),
        ("{created_gte:%Y-%m-%d}.jsonl", "scheduled", {}, False),
        ("sessions.jsonl", "manual", {}, False),
        ("sessions.jsonl", "scheduled", {"created_gte": MAY_1, "created_lt": MAY_2}, False),
        ("{{ ds }}.jsonl", "scheduled", {}, False),
    ],
)
def test_an_object_that_the_next_run_replaces_is_warned_of(server, tmp_path, caplog, name, run_type, arguments, warned):
    task = operator(f"file://{tmp_path}/{name}", **arguments)
    task.destination = task.destination.replace("{{ ds }}", "2026-05-01")  # as Jinja renders it
    with caplog.at_level(logging.WARNING):
        task.execute(DAY | {"dag_run": SimpleNamespace(run_type=run_type)})
    assert ("The next run writes the same object" in caplog.text) is warned


@pytest.mark.parametrize(
    ("schedule", "name", "arguments", "warned"),
    [
        ("@hourly", "sessions.jsonl", {}, True),
        (timedelta(hours=1), "sessions.jsonl", {}, True),
        ("@hourly", "{created_gte:%m-%dT%H}.jsonl", {}, True),
        ("@hourly", "{created_gte}.jsonl", {}, False),
        ("@hourly", "{{ ds }}.jsonl", {}, False),
        (None, "sessions.jsonl", {}, False),
        ("@once", "sessions.jsonl", {}, False),
        ("@hourly", "sessions.jsonl", {"created_gte": MAY_1, "created_lt": MAY_2}, False),
    ],
)
def test_one_name_for_all_runs_of_a_schedule_is_warned_of_when_the_dag_is_parsed(schedule, name, arguments, warned):
    with warnings.catch_warnings(record=True) as caught, DAG("hourly", schedule=schedule, start_date=MAY_1):
        warnings.simplefilter("always")
        operator(f"s3://lake/{name}", window=timedelta(hours=1), **arguments)
    (line,) = lines_warned_of(caught, "hourly.export: destination") or [""]
    assert line.startswith("return StripeIdentityToObjectStorageOperator(") is warned


@pytest.mark.parametrize(
    ("names", "first", "second", "warned"),
    [
        (("all.jsonl", "all.jsonl"), {}, {"status": "verified"}, True),
        (("{created_gte}.jsonl", "{created_gte}.jsonl"), {}, {}, True),
        (("all.jsonl", "all.jsonl"), {}, {"created_gte": MAY_1, "created_lt": MAY_2}, True),
        (("{created_gte}.jsonl", "{created_gte}.jsonl"), {}, {"created_gte": MAY_1, "created_lt": MAY_2}, False),
        (("{created_gte}.jsonl", "{created_gte}.jsonl"), {}, {"window": timedelta(days=1)}, False),
        (("all.jsonl", "other.jsonl"), {}, {}, False),
        (("all.jsonl", "all.jsonl"), {}, {"destination_conn_id": "other"}, False),
        (("{{ task.task_id }}.jsonl", "{{ task.task_id }}.jsonl"), {}, {}, False),
    ],
)
def test_two_tasks_with_one_name_are_warned_of_when_the_dag_is_parsed(names, first, second, warned):
    with warnings.catch_warnings(record=True) as caught, DAG("twice", schedule=None):
        warnings.simplefilter("always")
        StripeIdentityToObjectStorageOperator(task_id="one", destination=f"s3://lake/{names[0]}", **first)
        StripeIdentityToObjectStorageOperator(task_id="two", destination=f"s3://lake/{names[1]}", **second)
    (line,) = lines_warned_of(caught, "twice.two: destination is that of one too") or [""]
    assert line.startswith('StripeIdentityToObjectStorageOperator(task_id="two"') is warned


def test_mapped_tasks_may_have_a_name_each():
    with warnings.catch_warnings(), DAG("hourly", schedule="@hourly", start_date=MAY_1):
        warnings.simplefilter("error", UserWarning)
        mapped = StripeIdentityToObjectStorageOperator.partial(task_id="export").expand(destination=["s3://a/b"])
        mapped.unmap({"destination": "s3://a/b"})


MAPPED = """
from datetime import timedelta
from airflow.sdk import DAG
from airflow_provider_stripe_identity.operators import StripeIdentityToObjectStorageOperator

with DAG("mapped", schedule=None):
    StripeIdentityToObjectStorageOperator.partial(
        task_id="export", destination="{destination}", window=timedelta(days=1)
    ).expand{mapped}
"""
BY_ACCOUNT = '(stripe_account=["acct_1", "acct_2"])'


@pytest.mark.parametrize(
    ("name", "mapped", "objects"),
    [
        ("{created_gte:%Y-%m-%d}", BY_ACCOUNT, 0),
        ("sessions", BY_ACCOUNT, 0),
        ("{{ task.stripe_account }}-{created_gte:%Y-%m-%d}", BY_ACCOUNT, 2),
        ("{created_gte:%H%M}", "_kwargs([{'created_gte': n, 'created_lt': n + 60} for n in (60, 120)])", 2),
        ("sessions", "_kwargs([{'created_gte': n, 'created_lt': n + 60} for n in (60, 120)])", 0),
    ],
)
def test_mapped_tasks_with_one_name_are_refused(server, run_dag_file, tmp_path, capfd, name, mapped, objects):
    """All of them would be green, and only the rows of the last one in the object."""
    for account in ("acct_1", "acct_2"):
        server.create_session(account=account)
    text = MAPPED.replace("{destination}", f"file://{tmp_path}/{name}.jsonl").replace("{mapped}", mapped)
    run = run_dag_file(text, logical_date=MAY_2)
    assert run.state == ("success" if objects else "failed")
    assert len(files(tmp_path)) == objects
    assert ("destination is the same for all mapped tasks" in capfd.readouterr().out) is (objects == 0)


def test_the_second_execution_of_an_operator_counts_its_own_requests(server, tmp_path):
    task = operator(tmp_path / "sessions.jsonl")
    assert [task.execute(DAY)["requests"] for _ in range(2)] == [1, 1]
    assert len(server.requests) == 2


def test_a_folder_that_cannot_be_written_to_is_found_before_stripe_is_asked(server, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, _mode: str(path) != str(tmp_path))  # root may write anywhere
    with pytest.raises(PermissionError, match=f"destination: the folder '{tmp_path}' cannot be written to"):
        operator(tmp_path / "new" / "sessions.jsonl").execute(DAY)
    assert files(tmp_path) == []
    assert len(server.requests) == 0


def test_the_last_line_sums_up_what_was_done(server, tmp_path, caplog):
    server.populate(150, MAY_1, MAY_2)
    server.inject(Fault.rate_limited(), Fault.status(503))
    with caplog.at_level(logging.INFO):
        result = operator(tmp_path / "sessions.jsonl").execute(DAY)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(result["statuses"].items()))
    assert caplog.messages[-1].startswith(
        f"Wrote 150 sessions ({statuses}), {result['bytes']} bytes, to {result['uri']}: "
        f"{len(server.requests)} requests, 2 of them retries, 1 answered with 429, "
    )
    assert result["requests"] == len(server.requests) == 4


def test_a_field_that_no_session_has_is_named(server, tmp_path, caplog):
    server.create_session(created=int(MAY_1.timestamp()), brand_new=1)
    with caplog.at_level(logging.WARNING):
        operator(tmp_path / "x.jsonl", fields=["id", "brand_new", "wholly_other"]).execute(DAY)
    assert rows(tmp_path / "x.jsonl")[0]["brand_new"] == 1
    assert [message for message in caplog.messages if "no session had" in message] == [
        "fields: no session had wholly_other"
    ]


@pytest.mark.parametrize("name", ["client_reference_id", "related_customer", "related_customer_account"])
def test_a_template_without_a_value_is_named(server, tmp_path, caplog, name):
    """The object would be empty, and the task green, with nothing that says why."""
    server.create_session(created=int(MAY_1.timestamp()))
    with caplog.at_level(logging.WARNING):
        operator(tmp_path / "x.jsonl", **{name: "None"}).execute(DAY)
    assert [message.split(",")[0] for message in said_by_us(caplog.records)] == [f"{name} is the text None"]


def test_an_error_is_said_once(server, tmp_path):
    """Airflow's log shows every exception of a chain with its text."""
    with pytest.raises(AirflowFailException) as caught:
        operator(tmp_path / "x", status="verifed").execute(DAY)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None
    server.inject(Fault.status(403))
    with pytest.raises(AirflowFailException) as caught:
        operator(tmp_path / "x").execute(DAY)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


def test_the_same_run_writes_the_same_bytes_again(server, tmp_path):
    server.populate(150, MAY_1, MAY_2)
    destination = tmp_path / "sessions.jsonl.gz"
    operator(destination).execute(DAY)
    first = destination.read_bytes()
    operator(destination).execute(DAY)
    assert destination.read_bytes() == first
    assert files(tmp_path) == ["sessions.jsonl.gz"]


def test_an_empty_window_replaces_what_was_there(server, tmp_path):
    destination = tmp_path / "sessions.jsonl.gz"
    session = server.create_session(created=int(MAY_1.timestamp()))
    operator(destination).execute(DAY)
    assert [row["id"] for row in rows(destination)] == [session["id"]]
    result = operator(destination, status="verified").execute(DAY)
    assert rows(destination) == []
    assert (result["sessions"], result["oldest"], result["newest"], result["statuses"]) == (0, None, None, {})


@pytest.mark.parametrize(
    "filters",
    [
        {"status": "verified"},
        {"client_reference_id": "user_a"},
        {"related_customer": "cus_a"},
        {"related_customer_account": "acct_a"},
        {"stripe_account": "acct_other"},
    ],
    ids=str,
)
def test_every_filter_is_stripes(server, tmp_path, filters):
    created = int(MAY_1.timestamp()) + 5
    account = filters.get("stripe_account")
    chosen = {key: value for key, value in filters.items() if key != "stripe_account"}
    wanted = server.create_session(created=created, account=account, **chosen)
    server.create_session(created=created)
    destination = tmp_path / "sessions.jsonl"
    operator(destination, **filters).execute(DAY)
    assert [row["id"] for row in rows(destination)] == [wanted["id"]]


def test_personal_fields_are_written_only_when_asked_for(server, tmp_path):
    created = int(MAY_1.timestamp())
    session = server.create_session(created=created, provided_details={"email": "jenny@example.com", "phone": None})
    server.verify(session["id"])
    destination = tmp_path / "sessions.jsonl"

    def written(**arguments):
        operator(destination, **arguments).execute(DAY)
        return rows(destination)[0]

    assert written().keys() == session.keys() & set(DEFAULT_FIELDS)
    assert written(fields=("id", "verified_outputs"))["verified_outputs"]["first_name"]
    assert written(expand=["data.verified_outputs"])["verified_outputs"]["first_name"]
    assert written(fields=["provided_details"]) == {"provided_details": {"email": "jenny@example.com", "phone": None}}
    report = written(expand=["data.last_verification_report"])["last_verification_report"]
    assert report["object"] == "identity.verification_report"
    everything = written(fields="all")
    assert "provided_details" in everything
    assert not {"client_secret", "url", "verified_outputs"} & everything.keys()


def test_extra_columns_come_with_every_row(server, tmp_path):
    server.create_session(created=int(MAY_1.timestamp()))
    operator(tmp_path / "s.jsonl", extra_columns={"_exported_at": "2026-05-02"}).execute(DAY)
    assert rows(tmp_path / "s.jsonl")[0]["_exported_at"] == "2026-05-02"


@given(
    seconds=st.lists(st.integers(0, 8), max_size=12).flatmap(
        # Some seconds with a whole page, or one session more or less than that.
        lambda few: st.tuples(
            st.just(few), st.lists(st.tuples(st.integers(0, 8), st.sampled_from([99, 100, 101])), max_size=2)
        )
    ),
    cuts=st.sets(st.integers(1, 8_000_000), max_size=4),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_adjacent_exports_hold_every_session_once(shared_server, tmp_path_factory, seconds, cuts):
    account, folder = next(accounts), tmp_path_factory.mktemp("lake")
    few, crowded = seconds
    base = int(MAY_1.timestamp())
    for second in [*few, *itertools.chain.from_iterable([second] * count for second, count in crowded)]:
        shared_server.create_session(account=account, created=base + second)
    shared_server.create_session(account=account, created=base + 9)
    bounds = sorted({0, 10_000_000, *cuts})
    bounds = [0, *(b for a, b in itertools.pairwise(bounds) if b - a >= 1_000_000)]
    exported: list[str] = []
    for number, (start, end) in enumerate(itertools.pairwise([*bounds[:-1], 10_000_000])):
        destination = folder / f"{number}.jsonl"
        interval = {
            "data_interval_start": MAY_1 + timedelta(microseconds=start),
            "data_interval_end": MAY_1 + timedelta(microseconds=end),
        }
        operator(destination, stripe_account=account).execute(DAY | interval)
        exported = [row["id"] for row in rows(destination)] + exported
    assert exported == [session["id"] for session in shared_server.sessions(account=account)]


@pytest.mark.parametrize(
    "fault", [Fault.status(500, headers={"Stripe-Should-Retry": "false"}), Fault.status(403)], ids=["500", "403"]
)
@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_export_leaves_what_was_there(server, tmp_path, fault, existing):
    destination = tmp_path / "lake" / "sessions.jsonl"
    server.populate(250, MAY_1, MAY_2)
    if existing:
        operator(destination, fields=["id"]).execute(DAY)
    before = rows(destination) if existing else None
    asked = len(server.requests)
    failing = operator(destination)
    server.fault_every(2, fault)
    with pytest.raises(AirflowFailException if fault.response.status == 403 else StripeAPIError):
        failing.execute(DAY)
    assert len(server.requests) == asked + 2, "the second page fails, the first has been written to the spool"
    assert files(tmp_path) == (["sessions.jsonl"] if existing else [])
    if existing:
        assert rows(destination) == before


def test_the_spool_is_private_and_does_not_stay(server, tmp_path, monkeypatch):
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    server.populate(250, MAY_1, MAY_2)
    server.fault_every(2, Fault.status(403))
    with pytest.raises(AirflowFailException):
        operator(tmp_path / "sessions.jsonl").execute(DAY)
    assert files(spool) == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"created_gte": MAY_1}, "created_lt"),
        ({"window": 86400}, "window"),
        ({"expand": ["verified_outputs"]}, "expand"),
        ({"fields": "id"}, "fields"),
        ({"fields": ["client_secret"]}, "fields"),
        ({"fields": ["id", "creatd"]}, "fields: .*'creatd'.*Did you mean 'created'"),
        ({"fields": ["ID", "created"]}, "fields: .*'ID'.*Did you mean 'id'"),
        ({"fields": ["id", "{{ params.field }}"]}, "fields: .*no templates"),
        ({"destination": "file:///x.parquet"}, "destination"),
        ({"destination": "file:///x/{created}"}, "destination"),
        ({"settle": 30}, "settle"),
        ({"settle": timedelta(-1)}, "settle"),
    ],
    ids=str,
)
def test_what_no_template_can_change_is_refused_when_the_dag_is_parsed(arguments, named):
    with pytest.raises(ValueError, match=named):
        operator(**{"destination": "file:///x", **arguments})


@pytest.mark.parametrize(
    ("arguments", "context", "named"),
    [
        ({"status": "verifed"}, DAY, "status"),
        ({"client_reference_id": ""}, DAY, "client_reference_id"),
        ({"created_gte": "2026-01-01", "created_lt": "2026-01-02"}, DAY, "created_gte.*offset"),
        ({"created_gte": MAY_2, "created_lt": MAY_1}, DAY, "created_gte.*created_lt"),
        ({"extra_columns": {"id": "x"}}, DAY, "extra_columns"),
        ({"stripe_account": ""}, DAY, "stripe_account is empty"),
        ({"max_concurrency": 0}, DAY, "max_concurrency must be.*from 1 to 100"),
        ({"destination": "lake/x"}, DAY, "destination"),
        ({"destination": f"file:///tmp/{'x' * 5_000}"}, DAY, "destination.*too long"),
        ({"destination": "file:///tmp/a\nb"}, DAY, "destination.*control characters"),
        ({"destination": "file:///tmp/a\0b"}, DAY, "destination.*control"),
        ({"destination": "s3://bucket/"}, DAY, "destination"),
        ({}, {"run_id": "manual"}, r"window=timedelta\(days=1\)"),
        ({"created_gte": 1, "created_lt": 9_999_999_999}, DAY, "in the future"),
    ],
    ids=str,
)
def test_a_wrong_argument_fails_the_task_at_once_without_a_request(server, tmp_path, arguments, context, named):
    with pytest.raises(AirflowFailException, match=named):
        operator(**{"destination": tmp_path / "x", **arguments}).execute(context)
    assert len(server.requests) == 0
    assert files(tmp_path) == []


ODD_TEXTS = {
    "quotes": 'O\'Neill "the" `cat` \\',
    "line breaks": "a\nb\r\nc\u2028d\x85e",
    "unicode": "Zoë 山田 e\u0301 \U0001d4b5 \u202e",
    "dots": "../../../etc/passwd",
    "percent": "100% %2F %00 %n %s {} {{ ds }}",
    "query": "a&status=verified#x?y=1;z+w",
    "long": "x" * 5_000,
    "NUL": "a\0b",
}


@pytest.mark.parametrize("text", ODD_TEXTS.values(), ids=ODD_TEXTS)
def test_odd_text_selects_what_has_it_and_arrives_as_it_is(server, tmp_path, text):
    created = int(MAY_1.timestamp())
    fields = {"client_reference_id": text, "related_customer": text, "related_customer_account": text}
    wanted = server.create_session(created=created, **fields)
    server.create_session(created=created, status="verified")
    destination = tmp_path / "sessions.jsonl"
    columns = {"_text": text}
    assert operator(destination, extra_columns=columns, **fields).execute(DAY)["sessions"] == 1
    (row,) = rows(destination)
    assert row["id"] == wanted["id"]
    assert row.items() >= (fields | columns).items()


@pytest.mark.parametrize("name", ["client_reference_id", "related_customer", "related_customer_account"])
@pytest.mark.parametrize("text", ["", "x" * 5_001, "\ud800"], ids=["empty", "too long", "half a character"])
def test_text_that_stripe_cannot_take_is_refused_by_name(server, tmp_path, name, text):
    with pytest.raises(AirflowFailException, match=f"{name} must be a text"):
        operator(tmp_path / "x", **{name: text}).execute(DAY)
    assert len(server.requests) == 0


@pytest.mark.parametrize("name", ["'\"`$(x)", "Zoë 山田 \U0001d4b5", "...", "a..b", "100% %41 %2F", "#a=b&c"])
def test_odd_names_are_names_of_local_files(server, tmp_path, name):
    server.create_session(created=int(MAY_1.timestamp()))
    operator(f"file://{tmp_path}/{name}.jsonl").execute(DAY)
    assert files(tmp_path) == [f"{name}.jsonl"]


@pytest.mark.parametrize(
    ("connection", "named"),
    [
        ({"password": "pk_test_x"}, "password"),
        ({"host": "http://stripe.example.com", "password": "sk_test_x"}, "host"),
        ({"extra": {"timeout": "soon"}, "password": "sk_test_x"}, "timeout"),
        ({"login": "sk_test_x"}, "password"),
        (
            {"password": "secret_of_another_service", "conn_type": "openai"},
            "of type openai, and not of type stripe_ident",
        ),
        ({"password": "sk_test_x", "extra": {"stripe_account": "acct_1\r\nX: x"}}, "stripe_account"),
        ({}, "password"),
    ],
    ids=str,
)
def test_a_wrong_connection_fails_the_task_at_once(monkeypatch, tmp_path, connection, named):
    monkeypatch.setenv("AIRFLOW_CONN_BAD", json.dumps({"conn_type": "stripe_identity", **connection}))
    with pytest.raises(AirflowFailException, match=named):
        operator(tmp_path / "x", stripe_conn_id="bad").execute(DAY)


def test_a_wrong_key_fails_the_task_at_once_and_is_in_no_log_line(server, tmp_path, monkeypatch, caplog):
    connection = json.loads(server.airflow_connection()) | {"password": "sk_test_marked_1234"}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    with caplog.at_level(logging.DEBUG), pytest.raises(AirflowFailException, match="Invalid API Key") as raised:
        operator(tmp_path / "x").execute(DAY)
    assert "1234" not in str(raised.value) + "".join(caplog.messages)
    assert len(server.requests) == 1


def test_a_long_export_says_how_far_it_has_come(monkeypatch, caplog):
    """By time: here every session takes ten seconds."""
    clock = itertools.count(0, 10)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    sessions = [{"created": 99 - number} for number in range(10)]
    with caplog.at_level(logging.INFO):
        assert list(progress.with_progress(sessions, Window(0, 100))) == sessions
    assert caplog.messages == [
        "3 sessions, 3 % of the window, 0 sessions/s, about 970 s left",
        "6 sessions, 6 % of the window, 0 sessions/s, about 940 s left",
        "9 sessions, 9 % of the window, 0 sessions/s, about 910 s left",
    ]


def test_max_concurrency_is_used_instead_of_the_connections(server, tmp_path, monkeypatch):
    seen = []
    made = StripeIdentityClient.__init__
    monkeypatch.setattr(StripeIdentityClient, "__init__", lambda self, *a, **k: seen.append(k) or made(self, *a, **k))
    operator(tmp_path / "a.jsonl", max_concurrency=7).execute(DAY)
    operator(tmp_path / "b.jsonl").execute(DAY)
    assert [options["max_concurrency"] for options in seen] == [7, 4]
