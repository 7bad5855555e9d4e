"""The connection form in Airflow's user interface: what a user sees, and that what they save works."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.airflow_stack import AirflowStack, run_dags_test
from support.browser import ConnectionsPage, chromium

from airflow_provider_stripe_identity._connection.form import CONN_FIELDS, UI_FIELD_BEHAVIOUR
from airflow_provider_stripe_identity.testing import StripeIdentityServer

DAG = """
from airflow.sdk import dag, task

@dag(schedule=None)
def read():
    @task
    def count(conn_id):
        from airflow_provider_stripe_identity.hooks import StripeIdentityHook

        assert len(list(StripeIdentityHook(conn_id).list_verification_sessions())) == 1

    count("filled") >> count("bare")

read()
"""


@pytest.fixture(scope="module")
def stripe():
    with StripeIdentityServer() as server:
        server.api_keys["rk_test_events_only"] = {"events"}
        yield server


@pytest.fixture(scope="module")
def dags(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dags")
    (folder / "read.py").write_text(DAG)
    return folder


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, dags):
    env = {"AIRFLOW__CORE__TEST_CONNECTION": "Enabled"}
    with AirflowStack(tmp_path_factory.mktemp("airflow"), dags, env, components=["api-server"]) as stack:
        yield stack


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def page(driver, airflow):
    """The page with an empty form of our type."""
    page = ConnectionsPage(driver, airflow.url)
    page.open_form("Stripe Identity")
    return page


def test_it_asks_for_what_a_connection_needs_and_for_nothing_else(page):
    for name, label in {**UI_FIELD_BEHAVIOUR["relabeling"], "port": "Port", "description": "Description"}.items():
        assert label in page.text()
        shown = page.find(f"[role=dialog] [name={name}]")
        assert shown.get_attribute("placeholder") == UI_FIELD_BEHAVIOUR["placeholders"].get(name, "")
    assert not {"Login", "Schema"} & {*page.text().splitlines()}
    assert page.find("[name=password]").get_attribute("type") == "password"

    page.open_section("Extra Fields")
    for name, field in CONN_FIELDS.items():
        page.until(page.extra(name).is_displayed)
        assert field["label"] in page.text()
        assert field["description"] in page.text()
        is_number = page.extra(name).get_attribute("role") == "spinbutton"
        assert is_number == (field["schema"]["type"][0] != "string")
    assert page.errors() == []


def test_a_picture_for_the_readme(page, tmp_path):
    """``CONNECTION_FORM_PNG=docs/connection_form.png pytest tests/e2e/test_connection_form.py`` renews it."""
    page.fill("connection_id", "stripe_identity_default")
    page.fill("port", 443)
    page.fill("password", "rk_test_not_a_key")
    picture = Path(os.environ.get("CONNECTION_FORM_PNG", tmp_path / "form.png"))
    picture.write_bytes(page.find("[role=dialog]").screenshot_as_png)
    assert "rk_test" not in page.text()
    assert picture.stat().st_size < 200_000


@pytest.mark.parametrize(
    ("connection_id", "fields", "told"),
    [
        ("works", {}, ["Successful", "(test mode, the key's own account)", "can be listed", "events can be read"]),
        ("wrong_key", {"password": "sk_test_wrong"}, ["Failed", "401", "Check the API key"]),
        ("no_permission", {"password": "rk_test_events_only"}, ["Failed", "403", "Identity -> Verification Sessions"]),
        ("unreachable", {"host": "http://127.0.0.1", "port": 1}, ["Failed", "Check the network"]),
        ("other_port", {"port": 7}, ["Failed", "port: it is 7"]),
    ],
)
def test_the_test_button_says_what_works_and_what_does_not(page, stripe, connection_id, fields, told):
    port = stripe.url.rsplit(":", 1)[1]
    values = {"connection_id": connection_id, "host": stripe.url, "port": port, "password": stripe.api_key, **fields}
    for name, value in values.items():
        page.fill(name, value)
    page.open_section("Extra Fields")
    page.fill_extra("max_retries", 0)
    page.save()
    shown = page.test(connection_id)
    assert [text for text in told if text not in shown] == []
    assert values["password"] not in shown
    assert page.errors() == []


def test_without_a_port_airflow_itself_refuses_the_test(page, stripe):
    """Why the form shows the port, and the README says to fill it in. Hide it when this does not hold any more."""
    for name, value in {"connection_id": "no_port", "host": stripe.url, "password": stripe.api_key}.items():
        page.fill(name, value)
    page.save()
    assert "Bad Request" in page.test("no_port")


def test_a_saved_connection_works_as_one_from_a_uri_does(page, stripe, airflow, dags):
    stripe.create_session()
    stripe.create_session(account="acct_1")
    extra = {
        "api_version": "2026-07-29.dahlia",
        "stripe_account": "acct_1",
        "stripe_context": "acct_1",
        "timeout": 7.5,
        "max_retries": 2,
        "max_outage": 120,
        "max_requests_per_second": 12.5,
        "max_concurrency": 3,
    }
    assert extra.keys() == CONN_FIELDS.keys()
    for connection_id, filled in (("filled", extra), ("bare", {})):
        page.open_form("Stripe Identity")
        for name, value in {"connection_id": connection_id, "host": stripe.url, "password": stripe.api_key}.items():
            page.fill(name, value)
        page.open_section("Extra Fields")
        for name, value in filled.items():
            page.fill_extra(name, value)
        page.save()
        # A number is saved as one, and what was left empty as null.
        assert json.loads(airflow.get(f"connections/{connection_id}")["extra"]) == dict.fromkeys(CONN_FIELDS) | filled
    assert page.errors() == []

    done = run_dags_test("read", home=airflow.home, dags=dags)
    assert done.returncode == 0, done.stderr
    requests = list(stripe.requests)[-2:]
    filled, bare = ({name.lower(): value for name, value in request.headers.items()} for request in requests)
    assert filled["authorization"] == bare["authorization"] == f"Bearer {stripe.api_key}"
    assert (filled["stripe-account"], filled["stripe-context"]) == ("acct_1", "acct_1")
    assert filled["stripe-version"] == "2026-07-29.dahlia"
    assert not {"stripe-account", "stripe-context"} & bare.keys()
