"""Every event of a window, each with its session as it left it: the rows of the history."""

from __future__ import annotations

import json
import logging
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from support.airflow_versions import said_by_us

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export.fields import DEFAULT_FIELDS, EVENT_FIELDS
from airflow_provider_stripe_identity.exceptions import StripeAPIError
from airflow_provider_stripe_identity.operators import StripeIdentityEventsToObjectStorageOperator
from airflow_provider_stripe_identity.testing import Fault, StripeIdentityServer

NOW = int(time.time())
START, END = NOW - 7200, NOW - 3600
WINDOW = {"created_gte": START, "created_lt": END}
TYPE = "identity.verification_session."


@pytest.fixture
def clock():
    return SimpleNamespace(now=START)


@pytest.fixture
def server(clock, monkeypatch):
    with StripeIdentityServer(clock=lambda: clock.now) as server:
        monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", server.airflow_connection())
        yield server


@pytest.fixture
def events(clock, tmp_path):
    """Write the events, later than they happened; return the rows and the result."""

    def run(**arguments):
        file = tmp_path / "events.jsonl"
        task = StripeIdentityEventsToObjectStorageOperator(
            task_id="events", destination=file.as_uri(), **WINDOW | {"lookback": timedelta(0)} | arguments
        )
        clock.now = NOW
        result = task.execute({})
        return [json.loads(line) for line in file.read_text().split("\n")[:-1]], result

    return run


def test_every_event_is_a_row_with_the_session_as_it_left_it(server, clock, events):
    clock.now = START - 1
    before = server.create_session(client_reference_id="before")
    clock.now = START
    session = server.create_session(client_reference_id="changed", metadata={"order": "1"})
    server.process(session["id"])
    clock.now = START + 60
    server.require_input(session["id"], code="document_expired")
    server.process(session["id"])
    server.verify(session["id"])
    clock.now = END - 1
    server.cancel(before["id"])
    clock.now = END
    server.create_session(client_reference_id="after")
    rows, result = events()
    assert [(row["id"], row["status"], row["_event_type"], row["_event_created"]) for row in rows] == [
        (before["id"], "canceled", f"{TYPE}canceled", END - 1),
        (session["id"], "verified", f"{TYPE}verified", START + 60),
        (session["id"], "processing", f"{TYPE}processing", START + 60),
        (session["id"], "requires_input", f"{TYPE}requires_input", START + 60),
        (session["id"], "processing", f"{TYPE}processing", START),
        (session["id"], "requires_input", f"{TYPE}created", START),
    ]
    assert [row["last_error"] and row["last_error"]["code"] for row in rows] == [
        *[None] * 3,
        "document_expired",
        *[None] * 2,
    ]
    assert {row["metadata"].get("order") for row in rows[1:]} == {"1"}
    assert len({row["_event_id"] for row in rows}) == 6
    for row in rows:
        assert list(row)[:3] == list(EVENT_FIELDS)
        assert set(row) - set(EVENT_FIELDS) <= set(DEFAULT_FIELDS)
    assert "sessions" not in result
    assert {name: result[name] for name in ("events", "created_gte", "created_lt", "statuses", "as_of")} == {
        "events": 6,
        **WINDOW,
        "statuses": {"canceled": 1, "verified": 1, "processing": 2, "requires_input": 2},
        "as_of": None,
    }


def test_it_asks_for_the_list_and_for_nothing_else(server, clock, events):
    for clock.now in range(START, START + 250):
        server.create_session()
    rows, _ = events()
    assert len(rows) == 250
    paths = [request.path for request in server.requests]
    assert set(paths) == {"/v1/events"}
    # Three pages would do; reading them side by side costs a few more.
    assert len(paths) <= 8


def test_the_window_looks_back_for_events_that_are_listed_late(server, clock, events):
    clock.now = START - 900
    server.create_session()
    assert [len(events(lookback=lookback)[0]) for lookback in (timedelta(0), timedelta(minutes=15))] == [0, 1]
    with pytest.raises(ValueError, match="lookback"):
        events(lookback=timedelta(-1))


@pytest.mark.parametrize("fields", [DEFAULT_FIELDS, "all"], ids=["default", "all"])
def test_no_secret_is_written_or_logged(server, events, tmp_path, caplog, fields):
    session = server.create_session(provided_details={"email": "jenny@example.com", "phone": None})
    with caplog.at_level(logging.DEBUG):
        rows, result = events(fields=fields, extra_columns={"_run": "x"})
    text = (tmp_path / "events.jsonl").read_text() + caplog.text + json.dumps(result)
    assert session["client_secret"] not in text
    assert session["url"] not in text
    assert ("jenny" in text) is (fields == "all")
    assert rows[0]["_run"] == "x"


def test_a_window_of_which_stripe_has_dropped_events_fails_at_once(server, events):
    start = NOW - 30 * 86400 - 5
    with pytest.raises(AirflowFailException, match="more than 30 days ago"):
        events(created_gte=start, created_lt=start + 3600)
    assert len(server.requests) == 0


def test_a_key_without_events_read_gets_one_error_that_names_the_permission(server, events, monkeypatch, caplog):
    server.api_keys["rk_test_sessions"] = {"verification_sessions"}
    connection = json.loads(server.airflow_connection()) | {"password": "rk_test_sessions"}
    monkeypatch.setenv("AIRFLOW_CONN_STRIPE_IDENTITY_DEFAULT", json.dumps(connection))
    with caplog.at_level(logging.WARNING), pytest.raises(AirflowFailException, match="rak_event_read") as error:
        events()
    assert len(server.requests) == 1, "no second try"
    assert said_by_us(caplog.records) == []
    assert "rk_test_sessions" not in str(error.value)


def test_a_failure_leaves_what_was_there(server, clock, events, tmp_path):
    for clock.now in range(START, START + 120):
        server.create_session()
    (tmp_path / "events.jsonl").write_text("old\n")
    server.fault_every(2, Fault.status(500, headers={"Stripe-Should-Retry": "false"}))
    with pytest.raises(StripeAPIError):
        events()
    assert (tmp_path / "events.jsonl").read_text() == "old\n"


def test_what_events_do_not_hold_is_refused_when_the_dag_is_parsed(events):
    with pytest.raises(ValueError, match="fields: events hold no verified_outputs"):
        events(fields=["id", "verified_outputs"])
