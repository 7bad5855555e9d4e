"""What comes back is what was asked for: a gateway that drops a part of the query is an error that names it."""

from __future__ import annotations

import logging

import pytest

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._stripe_api import pages
from airflow_provider_stripe_identity.exceptions import StripeAPIConnectionError, StripeAPIError
from airflow_provider_stripe_identity.operators import (
    StripeIdentityEventsToObjectStorageOperator,
    StripeIdentityToObjectStorageOperator,
)
from airflow_provider_stripe_identity.sensors import StripeIdentityVerifiedSensor

pytestmark = pytest.mark.usefixtures("instant_backoff")

START, END = 1_700_000_000, 1_700_086_400
WINDOW = {"created_gte": START, "created_lt": END}


@pytest.fixture
def gateway(server):
    """Return a function after which the parameters of these names are lost on the way to Stripe."""
    for number in range(40):
        server.create_session(
            created=START + number,
            status="verified" if number % 4 else "canceled",
            client_reference_id="somebody_else",
            related_customer="cus_1",
            related_customer_account="acct_cus_1",
        )
    server.create_session(created=START - 1, client_reference_id="too_early")
    server.create_session(created=END, client_reference_id="too_late")

    def drops(*names: str) -> None:
        def drop(recorded) -> None:
            recorded.query[:] = [pair for pair in recorded.query if pair[0] not in names]

        server.before_answer = drop

    return drops


SESSIONS = {
    "client_reference_id": ({"client_reference_id": "user_who_never_came"}, "client_reference_id"),
    "related_customer": ({"related_customer": "cus_2"}, "related_customer"),
    "related_customer_account": ({"related_customer_account": "acct_2"}, "related_customer_account"),
    "status": ({"status": "canceled"}, "statuses"),
    "created[gte]": (WINDOW, "outside the window"),
    "created[lt]": (WINDOW, "outside the window"),
}


@pytest.mark.parametrize(("dropped", "filters", "named"), [(key, *value) for key, value in SESSIONS.items()])
def test_the_hook(gateway, hook, dropped, filters, named):
    list(hook.list_verification_sessions(**filters))
    gateway(dropped)
    with pytest.raises(StripeAPIError, match=rf"{named}.*\n.*gateway or proxy.*check the connection's host"):
        list(hook.list_verification_sessions(**filters))


@pytest.mark.parametrize(
    ("comparison", "moment"), [("gt", START + 50), ("gte", START + 50), ("lt", START), ("lte", START - 2)]
)
def test_one_page(gateway, hook, comparison, moment):
    gateway(f"created[{comparison}]")
    with pytest.raises(StripeAPIError, match="outside the window"):
        hook.list_verification_sessions_page(created={comparison: moment}, limit=100)


def test_one_page_of_an_exact_second(gateway, hook):
    gateway("created")
    with pytest.raises(StripeAPIError, match="outside the window"):
        hook.list_verification_sessions_page(created=START)


def test_one_page_of_a_limit(gateway, hook):
    gateway("limit")
    with pytest.raises(StripeAPIError, match="more objects than asked for"):
        hook.list_verification_sessions_page(limit=3)


@pytest.mark.parametrize(
    ("dropped", "change", "bounds", "named"),
    [
        ("types[]", "canceled", {}, "other types"),
        ("created[lt]", "created", {"created_lt": START}, "outside the window"),
        ("created[gte]", "created", {"created_gte": 2 * END}, "outside the window"),
    ],
)
def test_events(server, gateway, hook, dropped, change, bounds, named):
    server.create_session()
    types = [f"identity.verification_session.{change}"]
    assert list(hook.list_events(types=types, **bounds)) == []
    gateway(dropped)
    with pytest.raises(StripeAPIError, match=named):
        list(hook.list_events(types=types, **bounds))


@pytest.mark.parametrize("dropped", ["status", "client_reference_id", "related_customer", "related_customer_account"])
def test_an_export_writes_nothing(gateway, tmp_path, dropped):
    filters = {dropped: "canceled" if dropped == "status" else "other"}
    gateway(dropped)
    destination = f"file://{tmp_path}/sessions.jsonl"
    export = StripeIdentityToObjectStorageOperator(task_id="export", destination=destination, **WINDOW, **filters)
    with pytest.raises(StripeAPIError, match="than asked for"):
        export.execute({"run_id": "manual"})
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_events_writes_nothing(server, gateway, tmp_path):
    session = server.create_session()
    server.verify(session["id"])
    gateway("created[gte]", "created[lt]")
    destination = f"file://{tmp_path}/events.jsonl"
    export = StripeIdentityEventsToObjectStorageOperator(task_id="export", destination=destination, **WINDOW)
    with pytest.raises((StripeAPIError, AirflowFailException), match="outside the window|30 days"):
        export.execute({"run_id": "manual"})
    assert list(tmp_path.iterdir()) == []


def test_a_sensor_does_not_take_somebody_elses_session(gateway):
    sensor = StripeIdentityVerifiedSensor(task_id="wait", client_reference_id="user_who_never_came")
    gateway("client_reference_id")
    assert not sensor.poke({}).is_done


def test_a_session_that_has_just_changed_is_left_out_and_said(server, gateway, hook, caplog):
    """Stripe finds it by a status that it has no more when it is read."""
    canceled = [session["id"] for session in server.sessions(status="canceled")]

    def changes(recorded, response):
        for item in response.body["data"]:
            if item["id"] == canceled[3]:
                item["status"] = "processing"
        return response

    server.after_answer = changes
    with caplog.at_level(logging.INFO):
        found = list(hook.list_verification_sessions(status="canceled"))
    assert [session["id"] for session in found] == canceled[:3] + canceled[4:]
    assert "Left out 1 sessions that Stripe found as canceled" in caplog.text


@pytest.mark.parametrize("window", [{}, WINDOW], ids=["page after page", "in ranges"])
def test_pages_that_are_too_large_are_asked_for_in_smaller_ones(server, hook, caplog, window):
    """A megabyte of metadata in each session, as no account at Stripe has it, but a gateway may."""
    for number in range(40):
        server.create_session(created=START + number, metadata={"text": "x" * 2**20})
    found = [session["id"] for session in hook.list_verification_sessions(**window)]
    assert found == [session["id"] for session in server.sessions()]
    limits = [int(dict(request.query)["limit"]) for request in server.requests]
    assert limits == [100, 50, 25, 25]
    assert [record.args for record in caplog.records if record.name == pages.__name__] == [(100, 50), (50, 25)]


def test_a_session_that_is_too_large_is_an_error(server, hook, monkeypatch):
    monkeypatch.setattr("airflow_provider_stripe_identity._stripe_api.client.MAX_BODY_BYTES", 100)
    server.create_session()
    with pytest.raises(StripeAPIConnectionError, match="larger than"):
        list(hook.list_verification_sessions())
    assert [int(dict(request.query)["limit"]) for request in server.requests] == [100, 50, 25, 12, 6, 3, 1]
