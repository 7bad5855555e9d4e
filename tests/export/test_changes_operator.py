"""The changes of a window: every session with an event in it once, as its last event left it or as it is now."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export import changed_sessions
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, EVENT_FIELDS
from airflow_provider_stripe_identity._export.lifecycle import LIFECYCLE
from airflow_provider_stripe_identity._export.windows import Window
from airflow_provider_stripe_identity.exceptions import StripeAPIError
from airflow_provider_stripe_identity.hooks import StripeIdentityHook
from airflow_provider_stripe_identity.operators import (
    StripeIdentityChangesToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

LISTED = tuple(f"identity.verification_session.{change}" for change in LIFECYCLE)
NOW = int(time.time())
START, END = NOW - 7200, NOW - 3600
WINDOW = {"created_gte": START, "created_lt": END}


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def server(clock, monkeypatch):
    with StripeIdentityServer(clock=clock) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


@pytest.fixture
def changes(clock, tmp_path):
    """Write the changes, later than they happened; return the rows and the result."""

    def run(context=None, **arguments):
        file = tmp_path / "changes.jsonl"
        task = StripeIdentityChangesToObjectStorageOperator(
            task_id="changes",
            destination=file.as_uri(),
            **{"lookback": timedelta(0)} | ({} if context else WINDOW) | arguments,
        )
        clock.now = max(clock.now, NOW)
        result = task.execute(context or {})
        return [json.loads(line) for line in file.read_text().split("\n")[:-1]], result

    return run


def test_every_changed_session_is_written_once_as_its_last_event_left_it(server, clock, changes):
    clock.now = START - 1
    before = server.create_session(client_reference_id="before")
    clock.now = START
    changed = server.create_session(client_reference_id="changed", metadata={"order": "1"})
    server.process(changed["id"])
    server.verify(changed["id"])  # all in one second
    clock.now = END - 1
    server.cancel(before["id"])
    clock.now = END
    server.redact(changed["id"], status="processing")
    server.verify(server.create_session(client_reference_id="after")["id"])
    rows, result = changes()
    assert [(row["id"], row["status"], row["_event_type"], row["_event_created"]) for row in rows] == [
        (before["id"], "canceled", "identity.verification_session.canceled", END - 1),
        (changed["id"], "verified", "identity.verification_session.verified", START),
    ]
    assert all(row["_event_id"].startswith("evt_") for row in rows)
    assert rows[1]["redaction"] is None
    assert rows[1]["metadata"] == {"order": "1"}
    assert result == {
        "uri": result["uri"],
        "conn_id": None,
        "sessions": 2,
        "bytes": result["bytes"],
        **WINDOW,
        "oldest": START - 1,
        "newest": START,
        "statuses": {"canceled": 1, "verified": 1},
        "as_of": None,
        "requests": 1,
    }


def test_rows_have_the_form_of_the_exports(server, clock, changes, tmp_path):
    server.create_session(provided_details={"email": "jenny@example.com"}, metadata={"a": "b"})
    clock.now = NOW
    file = tmp_path / "export.jsonl"
    StripeIdentityToObjectStorageOperator(task_id="export", destination=file.as_uri(), **WINDOW).execute({})
    (exported,) = (json.loads(line) for line in file.read_text().splitlines())
    for refetch in (False, True):
        (row,), _ = changes(refetch=refetch)
        assert list(row) == [*exported, *EVENT_FIELDS]
        assert {name: row[name] for name in exported} == exported


def test_refetched_rows_are_the_sessions_as_they_are_now_in_the_events_order(server, clock, changes):
    ids = []
    for clock.now in range(START, START + 120):
        ids.append(server.create_session()["id"])
    clock.now = END + 40
    for session_id in ids[::3]:
        server.verify(session_id)
    server.latency = 0.002
    clock.now = NOW
    rows, result = changes(refetch=True, max_concurrency=8)
    assert [row["id"] for row in rows] == ids[::-1]
    assert {row["id"] for row in rows if row["status"] == "verified"} == set(ids[::3])
    assert {row["_event_type"] for row in rows} == {"identity.verification_session.created"}
    assert result["statuses"] == {"verified": 40, "requires_input": 80}
    assert NOW - 35 <= result["as_of"] <= NOW - 30, "settle before the first request, by Stripe's clock"
    assert max(row["_event_created"] for row in rows) < result["as_of"]


def test_refetching_keeps_to_the_connections_limits(server, clock, changes):
    for clock.now in range(START, START + 30):
        server.create_session()
    server.concurrency_limit, server.latency = 3, 0.01
    asked = len(server.requests)
    changes(refetch=True, max_concurrency=3)
    answered = [request.status for request in list(server.requests)[asked:]]
    assert answered == [200] * 31


def test_refetching_holds_a_bounded_number_of_sessions(server, clock, hook):
    """No more of the changes are read than are under way."""
    for clock.now in range(START, START + 90):
        server.create_session()
    read = []
    sessions = (read.append(session["id"]) or {"id": session["id"]} for session in server.sessions())
    rows = changed_sessions.refetched(hook, sessions, [])
    for number in range(1, 4):
        next(rows)
        assert len(read) == 2 * hook.client.max_concurrency + number
    rows.close()  # type: ignore[attr-defined]


def test_a_failed_refetch_fails_the_task_and_leaves_what_was_there(server, clock, changes, tmp_path):
    for clock.now in range(START, START + 20):
        server.create_session()
    (tmp_path / "changes.jsonl").write_text("old\n")
    server.fault_every(7, Fault.status(500, headers={"Stripe-Should-Retry": "false"}))
    with pytest.raises(StripeAPIError):
        changes(refetch=True)
    assert (tmp_path / "changes.jsonl").read_text() == "old\n"


def test_what_was_expanded_is_written_and_needs_a_refetch(server, changes):
    server.verify(server.create_session()["id"])
    (row,) = changes(refetch=True, expand=["data.last_verification_report"])[0]
    assert row["last_verification_report"]["object"] == "identity.verification_report"
    (row,) = changes(refetch=True, fields=["id", "verified_outputs"])[0]
    assert row["verified_outputs"]["first_name"]
    for arguments in ({"expand": ["data.verified_outputs"]}, {"fields": ["id", "verified_outputs"]}):
        with pytest.raises(ValueError, match=r"expand: .*verified_outputs.*refetch=True"):
            changes(**arguments)


@pytest.mark.parametrize("refetch", [False, True])
@pytest.mark.parametrize("fields", [DEFAULT_FIELDS, "all"], ids=["default", "all"])
def test_no_secret_is_written_or_logged(server, changes, tmp_path, caplog, fields, refetch):
    session = server.create_session(provided_details={"email": "jenny@example.com", "phone": None})
    with caplog.at_level(logging.DEBUG):
        rows, result = changes(fields=fields, refetch=refetch)
    text = (tmp_path / "changes.jsonl").read_text() + caplog.text + json.dumps(result)
    assert session["client_secret"] not in text
    assert session["url"] not in text
    assert ("jenny" in text) is (fields == "all")
    assert not {"client_secret", "url"} & rows[0].keys()


def test_snapshots_in_another_api_version_are_named_once(server, changes, monkeypatch, caplog):
    for _ in range(3):
        server.create_session()
    connection = json.loads(server.airflow_connection()) | {"extra": {"api_version": "2026-10-28.endive"}}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    with caplog.at_level(logging.WARNING):
        changes()
    (said,) = (message for message in caplog.messages if "API version" in message)
    assert "2026-07-29.dahlia" in said
    assert "2026-10-28.endive" in said
    assert "refetch=True" in said
    caplog.clear()
    changes(refetch=True)
    assert "API version" not in caplog.text, "it makes no difference then"


def test_a_window_of_which_stripe_has_dropped_events_fails_at_once_with_the_advice(server, changes):
    days = timedelta(days=30, seconds=5)
    start = datetime.now(UTC) - days
    with pytest.raises(AirflowFailException, match=r"more than 30 days ago.*created_gte and created_lt.*lookback"):
        changes(created_gte=start, created_lt=start + timedelta(days=1))
    assert len(server.requests) == 0
    start += timedelta(hours=1)
    changes(created_gte=start, created_lt=start + timedelta(days=1))


def test_a_window_whose_events_stripe_may_have_dropped_meanwhile_fails(server, clock, changes, tmp_path):
    """By Stripe's clock the window has become too old when its last event is read."""
    clock.now = START + 30 * 86400 + 5
    with pytest.raises(AirflowFailException, match="more than 30 days ago"):
        changes()
    assert list(tmp_path.iterdir()) == []


def test_the_window_is_the_runs(server, changes):
    start = datetime.fromtimestamp(START, UTC)
    _, result = changes({"data_interval_start": start, "data_interval_end": start + timedelta(minutes=10)})
    assert (result["created_gte"], result["created_lt"]) == (START, START + 600)


@pytest.mark.parametrize("order", [1, -1], ids=["as they happened", "the other way round"])
def test_of_a_sessions_events_in_one_second_the_last_of_its_life_is_the_row(server, hook, monkeypatch, order):
    """Verified, redacted, failed or canceled in the second of its creation: a hundred sessions, and either order."""
    for number in range(100):
        session_id = server.create_session()["id"]
        if number % 4 == 3:
            server.cancel(session_id)
            continue
        server.process(session_id)
        server.require_input(session_id) if number % 4 == 2 else server.verify(session_id)
        if number % 4 == 1:
            server.redact(session_id)
    truth = {session["id"]: (session["status"], session["redaction"]) for session in server.sessions()}
    events = sorted(hook.list_events(types=LISTED), key=lambda event: order * LISTED.index(event["type"]))
    monkeypatch.setattr(type(hook), "list_events", lambda *_args, **_kwargs: iter(events))
    rows = list(changed_sessions.changed_sessions(hook, Window(START, END), check_version=True))
    assert {row["id"]: (row["status"], row["redaction"]) for row in rows} == truth
    assert len(rows) == 100


def test_an_event_that_is_listed_minutes_late_comes_with_the_next_run(server, clock, changes):
    """The window has been read when Stripe lists it."""
    clock.now = END - 20
    session_id = server.create_session()["id"]
    rows, _ = changes()
    assert [row["status"] for row in rows] == ["requires_input"]
    clock.now = END - 20
    server.verify(session_id)  # at a moment of the window that has been read
    following = {"created_gte": END, "created_lt": END + 60}
    assert changes(**following)[0] == []
    task = StripeIdentityChangesToObjectStorageOperator(task_id="changes", destination="file:///x", **following)
    rows, result = changes(**following, lookback=task.lookback)
    assert [row["status"] for row in rows] == ["verified"]
    assert (result["created_gte"], result["created_lt"]) == (END - 900, END + 60)


def test_looking_back_never_makes_a_window_too_old(server, changes):
    start = datetime.now(UTC) - timedelta(days=30) + timedelta(hours=2)
    _, result = changes(created_gte=start, created_lt=start + timedelta(days=1), lookback=timedelta(days=1))
    assert start.timestamp() - 3600 - 60 < result["created_gte"] < start.timestamp() - 3500
    start -= timedelta(hours=1, minutes=30)
    _, result = changes(created_gte=start, created_lt=start + timedelta(days=1), lookback=timedelta(days=1))
    assert result["created_gte"] == int(start.timestamp()) + 1


def test_a_session_that_is_gone_is_written_from_its_event_and_named(server, clock, changes, monkeypatch, caplog):
    ids = [server.create_session(client_reference_id="user")["id"] for clock.now in range(START, START + 5)]
    get = StripeIdentityHook.get_verification_session
    found = lambda hook, asked, **more: get(hook, "vs_gone" if asked == ids[2] else asked, **more)  # noqa: E731
    monkeypatch.setattr(StripeIdentityHook, "get_verification_session", found)
    with caplog.at_level(logging.WARNING):
        rows, _ = changes(refetch=True)
    assert [row["id"] for row in rows] == ids[::-1]
    assert rows[2]["client_reference_id"] == "user"
    (said,) = (message for message in caplog.messages if "no longer has" in message)
    assert ids[2] in said


def test_a_404_that_is_not_of_the_session_fails_the_refetch(server, changes):
    server.create_session()
    server.inject(Fault.delay(0), Fault.status(404))
    with pytest.raises(AirflowFailException, match="404"):
        changes(refetch=True)


def test_without_the_permission_the_task_fails_at_once(server, changes, monkeypatch):
    server.api_keys["rk_test_sessions"] = {"verification_sessions"}
    connection = json.loads(server.airflow_connection()) | {"password": "rk_test_sessions"}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    with pytest.raises(AirflowFailException, match="rak_event_read"):
        changes()


def test_the_export_looks_back(server, clock, tmp_path):
    for clock.now in (START - 601, START - 600, END - 1, END):
        server.create_session()
    clock.now = NOW
    file = tmp_path / "export.jsonl"
    task = StripeIdentityToObjectStorageOperator(
        task_id="export", destination=file.as_uri(), lookback=timedelta(minutes=9, milliseconds=59_001), **WINDOW
    )
    result = task.execute({})
    assert [json.loads(line)["created"] for line in file.read_text().splitlines()] == [END - 1, START - 600]
    assert (result["created_gte"], result["created_lt"]) == (START - 600, END)
    for wrong in (timedelta(-1), 3600):
        with pytest.raises(ValueError, match="lookback"):
            StripeIdentityToObjectStorageOperator(task_id="export", destination="file:///x", lookback=wrong)
